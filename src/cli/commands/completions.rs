use super::super::{Context, command};
use crate::model::Result;
use clap_complete::Shell;

/// Prints the completion script for a shell.
///
/// Example: stead completions bash > /etc/bash_completion.d/stead
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let mut out = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "stead", &mut out);
    context.ui.result(String::from_utf8_lossy(&out).into_owned());
    Ok(0)
}

use super::super::Context;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::Result;
use std::time::Instant;

/// Starts containers that were stopped, as the project file now says; or some that were never up, with what they depend on.
///
/// Example: stead start web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers; all if none is given.
    names: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let options = UpOptions { command: "start".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let start = |reporter: &dyn engine::Reporter| engine::start(&loaded, &arguments.names, options, reporter);
    super::converge::converge(&loaded.instance, context, Instant::now(), start)
}

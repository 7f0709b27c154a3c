use super::super::Context;
use crate::model::Result;
use crate::spec;

/// Prints the language of project files, for programs or people.
///
/// Example: stead schema --reference
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The reference manual in Markdown instead of the schema in JSON.
    #[arg(long)]
    reference: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    context.ui.result(if arguments.reference { spec::reference() } else { spec::schema() });
    Ok(0)
}

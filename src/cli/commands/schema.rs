use super::super::Context;
use crate::model::Result;
use crate::spec;

/// Prints the language of project files: as a schema for programs, or as a manual for people.
///
/// Example: stead schema --reference
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Print the reference manual in Markdown instead of the schema in JSON.
    #[arg(long)]
    reference: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    context.ui.result(if arguments.reference { spec::reference() } else { spec::schema() });
    Ok(0)
}

use super::super::Context;
use crate::lsp;
use crate::model::Result;

/// Serves an editor: a language server on standard input and output.
///
/// It checks project files as they are written, completes them, explains them, and shows what is locked and what is up. It
/// writes nothing and uses no network.
///
/// Example: stead lsp
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Accepted because many editors pass it; there is no other way.
    #[arg(long)]
    stdio: bool,
}

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    lsp::serve(&context.options)?;
    Ok(0)
}

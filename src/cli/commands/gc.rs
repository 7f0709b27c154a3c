use super::super::Context;
use crate::model::{Outcome, Size};
use crate::store::Store;

/// Frees what no project uses: layers, packages, results of steps.
///
/// A project keeps what it uses as long as its folder is there.
///
/// Example: stead gc --dry-run
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only tell what would be freed.
    #[arg(long)]
    dry_run: bool,
    /// Print the numbers for programs.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    let store = Store::at(&context.options.home.store);
    store.prepare()?;
    let done = store.collect(arguments.dry_run)?;
    if arguments.json {
        context.ui.json(&done);
        return Ok(0);
    }
    let mut text = String::new();
    for (who, bytes) in &done.kept {
        text.push_str(&format!("kept {} for {who}\n", Size(*bytes)));
    }
    let verb = if arguments.dry_run { "would free" } else { "freed" };
    text.push_str(&format!("{verb} {} in {} objects\n", Size(done.bytes), done.removed));
    context.ui.result(&text);
    Ok(0)
}

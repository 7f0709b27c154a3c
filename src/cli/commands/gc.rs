use super::super::Context;
use crate::engine;
use crate::model::{Error, Result, Size};

/// Frees what no project uses: layers, packages, results of steps.
///
/// A project keeps what it uses as long as its directory is there.
///
/// Example: stead gc --dry-run
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only tell what would be freed.
    #[arg(long)]
    dry_run: bool,
    /// What caches of `run` steps may hold together; the longest unused go first.
    #[arg(long, value_name = "SIZE", default_value = "10GiB")]
    caches: String,
    /// Print the numbers for programs.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let caches = Size::parse(&arguments.caches).map_err(|why| Error::new(format!("--caches: {why}")).usage())?;
    let done = engine::collect(&context.options.home, caches, arguments.dry_run)?;
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
    context.ui.result(text);
    Ok(0)
}

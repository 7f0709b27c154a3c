use super::super::Context;
use crate::engine;
use crate::model::{Error, Result, Size};
use std::num::NonZeroUsize;

/// Frees what no project uses: layers, packages and results of build steps.
///
/// What a project uses is kept as long as the project's directory exists.
///
/// Example: stead gc --dry-run
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only show what would be freed.
    #[arg(long)]
    dry_run: bool,
    /// The total size that caches of `run` steps may have; the least recently used are removed first.
    #[arg(long, value_name = "SIZE", default_value = "10GiB")]
    caches: String,
    /// Forget all but this many of the newest generations of each project, at least one, which is what is up; the images of
    /// the last ten are kept otherwise.
    #[arg(long, value_name = "NUMBER", conflicts_with = "dry_run")]
    keep: Option<usize>,
    /// Print the numbers as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let caches = Size::parse(&arguments.caches).map_err(|why| Error::new(format!("--caches: {why}")).usage())?;
    let mut forgotten = 0;
    if let Some(count) = arguments.keep {
        let count = NonZeroUsize::new(count).ok_or_else(|| {
            let error = Error::new("--keep 0: the newest generation is what is up, so it stays").usage();
            error.hint("`--keep 1` forgets all others; `stead down` ends what is up")
        })?;
        for (instance, _) in engine::all_instances(&context.options.home)? {
            forgotten += engine::keep_generations(&instance, count)?;
        }
    }
    let done = engine::collect(&context.options.home, caches, arguments.dry_run)?;
    if arguments.json {
        context.ui.json(&done);
        return Ok(0);
    }
    match forgotten {
        0 => {}
        1 => context.ui.say("forgot a generation"),
        count => context.ui.say(format!("forgot {count} generations")),
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

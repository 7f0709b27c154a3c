use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::{Result, Size};
use std::path::PathBuf;

/// Writes the project, its lock and everything that they need into one file, for machines without a network.
///
/// Secrets are left out: on the other machine, they are read from the directory of the bundle.
/// Type there: stead -f shop.stead up --offline --frozen
///
/// Example: stead bundle shop.stead
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The file to write.
    file: PathBuf,
    /// Fail if something is not in stead.lock, instead of resolving it.
    #[arg(long)]
    frozen: bool,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let allow = arguments.allow.kinds()?;
    let options = UpOptions { command: "bundle".into(), frozen: arguments.frozen, allow, ..UpOptions::default() };
    let loaded = context.settled(&options)?;
    let shown = Shown::new(&context.ui, false);
    let done = engine::bundle(&loaded, &context.options, &arguments.file, &options, &shown);
    shown.clear();
    let done = done?;
    let size = std::fs::metadata(&arguments.file).map_or(0, |metadata| metadata.len());
    context.ui.say(format!("{}: {} images, {} files, {}", arguments.file.display(), done.images, done.files, Size(size)));
    for secret in done.secrets {
        context.ui.say(format!("left out: the secret {secret}; put it beside the bundle where the bundle is used"));
    }
    Ok(0)
}

use super::super::Context;
use crate::engine;
use crate::model::{Error, Result};
use crate::spec::has_errors;

/// Writes a first project file, after a look at what is in the directory.
///
/// It knows Dockerfile, package.json, requirements.txt, pyproject.toml, Cargo.toml, go.mod, composer.json, Gemfile and pom.xml.
/// A project file that is there already is left alone.
///
/// Example: stead init
#[derive(clap::Args, Debug)]
pub struct Arguments {}

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    let (ui, options) = (&context.ui, &context.options);
    let begun = engine::init(&options.folder, &options.file)?;
    match begun.found {
        Some((file, what)) => ui.say(format!("found {what} ({file})")),
        None => ui.say("found no program that `stead init` knows: this directory's files are served instead"),
    }
    if !begun.others.is_empty() {
        ui.say(format!("also found, and not used: {}", begun.others.join(", ")));
    }
    ui.say(format!("wrote {}", options.file));
    // What it was made from may have errors, as a Dockerfile that is included does.
    let found = engine::findings(options)?;
    ui.diagnostics(&found.diagnostics, &found.files);
    if has_errors(&found.diagnostics) {
        return Err(Error::new(format!("{} is written, and what it uses has errors", options.file))
            .hint("correct them; `stead check` shows them again"));
    }
    let sudo = if nix::unistd::geteuid().is_root() { "" } else { "sudo " };
    ui.say(match begun.port {
        Some(port) => format!("next: `{sudo}stead up`, then open http://127.0.0.1:{port}/"),
        None => format!("next: `{sudo}stead up`"),
    });
    Ok(0)
}

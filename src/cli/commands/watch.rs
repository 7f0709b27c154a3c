use super::super::Context;
use super::super::ui::{Style, Text};
use super::allow::Allow;
use crate::engine::{self, LoadedProject, UpOptions};
use crate::model::Result;
use crate::watch::{Watcher, sources};
use std::time::Instant;

/// Brings the environment up, and applies every change of the project file, the lock, and the files
/// that images copy.
///
/// Example: stead watch
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let options = UpOptions { command: "watch".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let loaded = context.settled(&options)?;
    // If this fails, the next change of a file may fix it.
    if let Err(error) =
        super::converge::converge(&loaded.instance, context, Instant::now(), |reporter| engine::up(&loaded, &options, reporter))
    {
        context.tell(&error);
    }
    follow(loaded, &options, context)
}

/// Waits for changes and applies them, until interrupted.
pub fn follow(loaded: LoadedProject, options: &UpOptions, context: &Context) -> Result<u8> {
    let mut watcher = Watcher::new(&loaded.instance.folder)?;
    let mut wanted = sources(&loaded, &context.options);
    drop(loaded);
    loop {
        watcher.watch(&wanted);
        context.ui.say(Style::Dim.paint("watching; interrupt to end (containers stay up)", context.ui.color_err));
        let changed = watcher.wait()?;
        let started = Instant::now();
        let shown: Vec<String> = changed.iter().take(3).map(|path| path.display().to_string()).collect();
        let more = if changed.len() > 3 { format!(" and {} more", changed.len() - 3) } else { String::new() };
        context.ui.say(Text::line(&format!("{}{more} changed", shown.join(", "))));
        let applied = context.settled(options).and_then(|loaded| {
            wanted = sources(&loaded, &context.options);
            super::converge::converge(&loaded.instance, context, started, |reporter| engine::up(&loaded, options, reporter))
        });
        if let Err(error) = applied {
            context.tell(&error);
        }
    }
}

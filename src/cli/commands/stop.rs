use super::super::Context;
use super::super::waiting::while_ending;
use crate::engine::{self, Stop};
use crate::model::{Duration, Error, Result};
use std::cell::RefCell;

/// Stops containers; `up` or `start` starts them again.
///
/// Example: stead stop web -t 2s
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
    /// How long the containers may take to end before they are killed; by default as the project file says.
    #[arg(short, long, value_name = "TIME")]
    time: Option<String>,
    /// Do not record that they were stopped: they come up again at the next boot.
    #[arg(long, hide = true)]
    keep: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let grace = arguments.time.as_ref().map(|text| {
        // Docker takes plain seconds.
        let text = if text.bytes().all(|c| c.is_ascii_digit()) { format!("{text}s") } else { text.clone() };
        Duration::parse(&text).map_err(|why| Error::new(format!("--time {text}: {why}")).usage())
    });
    let how = Stop { grace: grace.transpose()?, forgotten: arguments.keep };
    let instance = context.instance()?;
    // Containers can be stopped even if the project file is broken or missing.
    let loaded = engine::load(&context.options, false).ok();
    let names = engine::replicas(&instance, &arguments.names)?;
    let stopped = RefCell::new(Vec::new());
    let note = |name: &str| stopped.borrow_mut().push(name.to_owned());
    let ended =
        while_ending(context, &instance, &names, || engine::stop(&instance, loaded.as_ref(), &arguments.names, how, &note));
    for name in stopped.into_inner() {
        context.ui.say(format!("stopped {name}"));
    }
    ended.map(|()| 0)
}

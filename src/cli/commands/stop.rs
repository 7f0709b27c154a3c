use super::super::Context;
use crate::engine::{self, Stop};
use crate::model::{Duration, Error, Result};

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
    engine::stop(&instance, loaded.as_ref(), &arguments.names, how, &|name| context.ui.say(format!("stopped {name}")))?;
    Ok(0)
}

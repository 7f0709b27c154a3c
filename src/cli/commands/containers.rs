//! `start`, `stop`, `restart`, `kill`: what is done to some containers, not to the project.

use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, Instance, LoadedProject, UpOptions};
use crate::model::{Duration, Error, Name, Result};
use crate::monitor::{self, Request};
use std::collections::BTreeSet;
use std::time::Instant;

/// Starts containers that were stopped, as the project file now says.
///
/// Example: stead start web
#[derive(clap::Args, Debug)]
pub struct Start {
    /// Containers; all if none is given.
    names: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

/// Stops containers; `up` or `start` starts them again.
///
/// Example: stead stop web -t 2s
#[derive(clap::Args, Debug)]
pub struct Stop {
    /// Containers or replicas; all if none is given.
    names: Vec<String>,
    /// How long they may take before they are killed; else what the project file says.
    #[arg(short, long, value_name = "TIME")]
    time: Option<String>,
    /// Do not remember it as a wish: they come up again at the next boot.
    #[arg(long, hide = true)]
    keep: bool,
}

/// Stops containers and starts them again, as the project file now says.
///
/// Example: stead restart web
#[derive(clap::Args, Debug)]
pub struct Restart {
    /// Containers; all if none is given.
    names: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

/// Sends a signal to containers' first process.
///
/// Example: stead kill -s HUP web
#[derive(clap::Args, Debug)]
pub struct Kill {
    /// The signal, by name or number.
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// The replicas that some names mean.
pub fn replicas(instance: &Instance, names: &[String]) -> Result<Vec<String>> {
    if names.is_empty() {
        return Ok(instance.record()?.containers.keys().cloned().collect());
    }
    let mut found = Vec::new();
    for name in names {
        let all = Name::parse(name).map_or_else(|_| Ok(Vec::new()), |name| instance.replicas(&name))?;
        if all.is_empty() {
            found.push(instance.find(name)?);
        }
        found.extend(all);
    }
    Ok(found)
}

pub fn start(arguments: &Start, context: &Context) -> Result<u8> {
    begin(&arguments.names, "start", &arguments.allow, context)
}

/// The containers of the project that some names mean.
fn meant(loaded: &LoadedProject, names: &[String]) -> Result<BTreeSet<Name>> {
    let record = loaded.instance.record()?;
    let names = replicas(&loaded.instance, names)?;
    Ok(names.iter().filter_map(|name| record.containers.get(name)).map(|record| record.container.clone()).collect())
}

fn begin(names: &[String], command: &str, allow: &Allow, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let only = meant(&loaded, names)?;
    if only.is_empty() {
        return Err(Error::new("there is nothing to start").hint("`stead up` makes the containers of the project"));
    }
    let options = UpOptions { only, command: command.into(), allow: allow.kinds()?, ..UpOptions::default() };
    super::converge::converge(&loaded, &options, context, Instant::now())
}

pub fn stop(arguments: &Stop, context: &Context) -> Result<u8> {
    let grace = arguments.time.as_ref().map(|text| {
        // Docker takes plain seconds.
        let text = if text.bytes().all(|c| c.is_ascii_digit()) { format!("{text}s") } else { text.clone() };
        Duration::parse(&text).map_err(|why| Error::new(format!("--time {text}: {why}")).usage())
    });
    let instance = context.instance()?;
    let names = replicas(&instance, &arguments.names)?;
    stop_all(&instance, &names, grace.transpose()?, context)?;
    if !arguments.keep && !names.is_empty() {
        let _queue = instance.lock()?;
        let mut record = instance.record()?;
        record.stopped.extend(names);
        instance.save(&record)?;
    }
    Ok(0)
}

fn stop_all(instance: &Instance, names: &[String], grace: Option<Duration>, context: &Context) -> Result<()> {
    let running: Vec<String> = names.iter().filter(|name| instance.container(name).alive()).cloned().collect();
    if grace.is_none() {
        // What depends on others ends first; a file that is broken, or gone, keeps nothing alive.
        let loaded = crate::engine::load(&context.options, false).ok();
        crate::engine::stop(instance, loaded.as_ref().map(|loaded| &loaded.project), &running)?;
        running.iter().for_each(|name| context.ui.say(format!("stopped {name}")));
        return Ok(());
    }
    let failures: Vec<Error> = std::thread::scope(|scope| {
        let stops: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let folder = instance.container(name);
                    if !folder.alive() {
                        return Ok(false);
                    }
                    monitor::call(&folder, &Request::Stop { signal: None, grace }, None).map(|_| true)
                })
            })
            .collect();
        let ended = stops.into_iter().zip(names).filter_map(|(stop, name)| match stop.join() {
            Ok(Ok(true)) => {
                context.ui.say(format!("stopped {name}"));
                None
            }
            Ok(Ok(false)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(Error::new(format!("stopping {name} failed"))),
        });
        ended.collect()
    });
    failures.into_iter().next().map_or(Ok(()), Err)
}

pub fn restart(arguments: &Restart, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let loaded = context.project()?;
    let only = meant(&loaded, &arguments.names)?;
    let options = UpOptions { command: "restart".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    if !only.is_empty() {
        // What may not be started again is not stopped.
        engine::agree(&loaded, &only, &options, &Shown::new(&context.ui, false))?;
    }
    stop_all(&instance, &replicas(&instance, &arguments.names)?, None, context)?;
    begin(&arguments.names, "restart", &arguments.allow, context)
}

pub fn kill(arguments: &Kill, context: &Context) -> Result<u8> {
    let signal = crate::sys::signal_number(&arguments.signal).ok_or_else(|| {
        Error::new(format!("\"{}\" is not a signal", arguments.signal)).hint("for example: KILL, TERM, HUP").usage()
    })?;
    let instance = context.instance()?;
    for name in replicas(&instance, &arguments.names)? {
        monitor::call(&instance.container(&name), &Request::Signal { signal }, None)?;
    }
    Ok(0)
}

//! `pause`, `unpause`, `wait`, `rm`, `scale`: what becomes of some containers, the file notwithstanding.

use super::super::Context;
use super::allow::Allow;
use super::containers::replicas;
use crate::engine::{self, UpOptions};
use crate::model::{Error, Name, Result, nearest};
use crate::monitor::{self, Event, Request, State};
use std::collections::BTreeSet;
use std::time::Instant;

/// Stops every process of containers where it is, until `unpause`.
///
/// Example: stead pause web
#[derive(clap::Args, Debug)]
pub struct Pause {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Lets paused containers go on.
///
/// Example: stead unpause web
#[derive(clap::Args, Debug)]
pub struct Unpause {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Waits until containers' commands end, and prints their exit statuses.
///
/// Example: stead wait migrate
#[derive(clap::Args, Debug)]
pub struct Wait {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Removes containers and what they wrote; `up` makes those of the project file again.
///
/// Example: stead rm --force web-2
#[derive(clap::Args, Debug)]
pub struct Remove {
    /// Also those that run: they are stopped first.
    #[arg(short, long)]
    force: bool,
    /// Stop those that run; the same as --force.
    #[arg(short, long)]
    stop: bool,
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Runs another number of replicas than the project file says, until the next `up`.
///
/// Example: stead scale web=3
#[derive(clap::Args, Debug)]
pub struct Scale {
    /// Containers with their numbers.
    #[arg(required = true, value_name = "NAME=NUMBER")]
    wishes: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

pub fn pause(arguments: &Pause, context: &Context) -> Result<u8> {
    freeze(&arguments.names, true, context)
}

pub fn unpause(arguments: &Unpause, context: &Context) -> Result<u8> {
    freeze(&arguments.names, false, context)
}

fn freeze(names: &[String], frozen: bool, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    for name in replicas(&instance, names)? {
        monitor::call(&instance.container(&name), &Request::Freeze { frozen }, None)
            .map_err(|error| Error::caused(format!("cannot {} {name}", if frozen { "pause" } else { "resume" }), error))?;
        context.ui.say(format!("{} {name}", if frozen { "paused" } else { "resumed" }));
    }
    Ok(0)
}

pub fn wait(arguments: &Wait, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let names = replicas(&instance, &arguments.names)?;
    let mut last = 0;
    for name in names {
        let folder = instance.container(&name);
        let told =
            if folder.alive() { monitor::call(&folder, &Request::Wait, None).ok().and_then(|reply| reply.exit) } else { None };
        // It may have ended before it was asked.
        let status = told.or_else(|| folder.status().and_then(|status| status.exit_code));
        let status = status.ok_or_else(|| Error::new(format!("container {name} never ran to an end")))?;
        context.ui.result(status.to_string());
        last = status;
    }
    Ok(if arguments.names.len() == 1 { u8::try_from(last).unwrap_or(1) } else { 0 })
}

pub fn remove(arguments: &Remove, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let names = replicas(&instance, &arguments.names)?;
    let running = |name: &String| {
        instance
            .container(name)
            .status()
            .is_some_and(|status| matches!(status.state, State::Running | State::Paused | State::Restarting))
    };
    if let Some(name) = names.iter().find(|name| !arguments.force && !arguments.stop && running(name)) {
        return Err(Error::new(format!("container {name} is running")).hint("stop it first, or type `stead rm --force`"));
    }
    let _queue = instance.lock()?;
    let mut record = instance.record()?;
    for name in names {
        engine::end(&instance, &name)?;
        engine::forget(&instance, &name);
        record.containers.remove(&name);
        record.serial += 1;
        instance.save(&record)?;
        monitor::add_event(&instance.events(), &Event::now("container", "destroy", &name, &[]));
        context.ui.say(format!("removed {name}"));
    }
    Ok(0)
}

pub fn scale(arguments: &Scale, context: &Context) -> Result<u8> {
    let start = Instant::now();
    let mut loaded = context.project()?;
    let mut only = BTreeSet::new();
    for wish in &arguments.wishes {
        let wrong = || Error::new(format!("{wish}: NAME=NUMBER was expected")).hint("for example: stead scale web=3").usage();
        let (name, number) = wish.split_once('=').ok_or_else(wrong)?;
        let number: u32 = number.parse().ok().filter(|number| *number <= 1000).ok_or_else(wrong)?;
        let known: Vec<String> = loaded.project.containers.keys().map(Name::to_string).collect();
        let Some((key, container)) = loaded.project.containers.iter_mut().find(|(key, _)| key.as_str() == name) else {
            let error = Error::new(format!("the project has no container \"{name}\""));
            return Err(match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("perhaps \"{near}\"")),
                None => error,
            });
        };
        if number > 1 && container.networks.iter().any(|attachment| attachment.address.is_some()) {
            return Err(Error::new(format!("container {name} has a fixed address, so there can be one of it only")));
        }
        container.replicas = number;
        only.insert(key.clone());
    }
    if let Some((name, other, number)) = loaded.project.replica_clash() {
        return Err(Error::new(format!("\"{name}\" is the name of replica {number} of the container \"{other}\"")));
    }
    let options = UpOptions { only, command: "scale".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    super::converge::converge(&loaded, &options, context, start)
}

//! Operations on some containers instead of the whole project: start, stop, restart, signal, pause, wait, remove, scale.

use crate::instance::{Instance, LoadedProject, Reporter, UpOptions, agree};
use crate::model::{Duration, Error, Name, Result, nearest, signal_number};
use crate::monitor::{self, Event, Request, State, Status};
use crate::project::{Protocol, ReplicaId};
use crate::reconcile::{self, Converged, end, forget};
use std::collections::{BTreeMap, BTreeSet};

/// The replicas that names refer to; all replicas if there are no names.
///
/// # Errors
/// Fails when a name is unknown or the record cannot be read.
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

/// The containers of the project that names refer to.
fn meant(loaded: &LoadedProject, names: &[String]) -> Result<BTreeSet<Name>> {
    let record = loaded.instance.record()?;
    let names = replicas(&loaded.instance, names)?;
    Ok(names.iter().filter_map(|name| record.containers.get(name)).map(|record| record.container.clone()).collect())
}

/// Starts containers that were stopped, as the project file now says; those that are named and were never up, with all that
/// they depend on.
///
/// # Errors
/// Fails when a name is unknown, and as [`up`](reconcile::up) does.
pub fn start(loaded: &LoadedProject, names: &[String], options: UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    let record = loaded.instance.record()?;
    let is_new = |name: &Name| !record.containers.values().any(|known| known.container == *name);
    let running = super::listing(&loaded.instance, super::Which::Running)?;
    let runs = |name: &Name| running.iter().any(|row| row.container == name.as_str());
    let named = |name: &String| loaded.project.containers.get_key_value(name.as_str()).filter(|(name, _)| is_new(name));
    let (new, known): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| named(name).is_some());
    let known: Vec<String> = known.into_iter().cloned().collect();
    let mut only = if names.is_empty() || !known.is_empty() { meant(loaded, &known)? } else { BTreeSet::new() };
    let mut queue: Vec<&Name> = new.into_iter().filter_map(named).map(|(name, _)| name).collect();
    while let Some(name) = queue.pop() {
        if only.insert(name.clone()) {
            let needs = loaded.project.containers.get(name).into_iter().flat_map(|container| container.depends_on.keys());
            queue.extend(needs.filter(|needed| !runs(needed)));
        }
    }
    if only.is_empty() {
        return Err(Error::new("there is nothing to start").hint("`stead up` creates the containers of the project"));
    }
    reconcile::up(loaded, &UpOptions { only, ..options }, reporter)
}

/// Runs a job again, whatever its last result was, after what it depends on. What waits for it goes on.
///
/// # Errors
/// Fails when there is no such job or when what it asks for is not allowed, and as [`start`] does.
pub fn run_again(loaded: &LoadedProject, name: &str, options: UpOptions, reporter: &dyn Reporter) -> Result<Converged> {
    let jobs = || loaded.project.containers.iter().filter(|(_, container)| container.job.is_some()).map(|(job, _)| job);
    let Some(job) = jobs().find(|job| job.as_str() == name) else {
        let other = match (loaded.project.containers.get(name), loaded.project.tasks.get(name)) {
            (Some(_), _) => Some(("a container", "`stead restart` ends it and starts it again")),
            (None, Some(_)) => Some(("a task", "a task has no result, so leave `--again` out")),
            (None, None) => loaded.project.images.get(name).map(|_| ("an image", "leave `--again` out to run a command in it")),
        };
        let all: Vec<&str> = jobs().map(Name::as_str).collect();
        let there = if all.is_empty() { String::new() } else { format!("; its jobs: {}", all.join(", ")) };
        if let Some((what, instead)) = other {
            return Err(Error::new(format!("\"{name}\" is {what}, not a job")).hint(format!("{instead}{there}")));
        }
        let error = Error::new(format!("the project has no job \"{name}\""));
        return Err(match nearest(name, all.iter().copied()) {
            Some(near) => error.hint(format!("perhaps \"{near}\"{there}")),
            None if all.is_empty() => error.hint("a job is written as: job \"migrate\" { image \"app\"; cmd \"migrate\"; }"),
            None => error.hint(format!("the project has the jobs {}", all.join(", "))),
        });
    };
    if let Some(volume) = loaded.project.seeded_by(job) {
        let error = Error::new(format!("the job {job} fills the volume {volume}, and runs only for that"));
        return Err(error.hint(format!("`stead volume reset {volume}` throws away what is in it; `stead up` then fills it")));
    }
    agree(loaded, &BTreeSet::from([job.clone()]), &options, reporter)?;
    // Without its record, nothing says that it is done.
    let before = loaded.instance.replicas(job)?;
    if !before.is_empty() {
        remove(&loaded.instance, &before, true, &|_| {})?;
    }
    start(loaded, &[name.to_owned()], options, reporter)
}

/// How containers are stopped.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stop {
    /// How long they may take to end before they are killed; by default as the project file says.
    pub grace: Option<Duration>,
    /// Whether the stop is not recorded, so that they come up again at the next boot.
    pub forgotten: bool,
}

/// Stops containers. The `project`, if it can be read, tells which of them depend on others and are stopped first.
///
/// # Errors
/// Returns the error of the first container that could not be stopped; the others are stopped.
pub fn stop(
    instance: &Instance,
    project: Option<&LoadedProject>,
    names: &[String],
    how: Stop,
    stopped: &dyn Fn(&str),
) -> Result<()> {
    let names = replicas(instance, names)?;
    end_all(instance, project, &names, how.grace, stopped)?;
    if !how.forgotten && !names.is_empty() {
        let _queue = instance.lock()?;
        let mut record = instance.record()?;
        record.stopped.extend(names);
        instance.save(&record)?;
    }
    Ok(())
}

fn end_all(
    instance: &Instance,
    project: Option<&LoadedProject>,
    names: &[String],
    grace: Option<Duration>,
    stopped: &dyn Fn(&str),
) -> Result<()> {
    let running: Vec<String> = names.iter().filter(|name| instance.container(name).alive()).cloned().collect();
    if grace.is_none() {
        // Containers can be stopped even if the project file is broken or missing.
        reconcile::stop(instance, project.map(|loaded| &loaded.project), &running)?;
        running.iter().for_each(|name| stopped(name));
        return Ok(());
    }
    let failures: Vec<Error> = std::thread::scope(|scope| {
        let stops: Vec<_> = running
            .iter()
            .map(|name| {
                let stop = move || monitor::call(&instance.container(name), &Request::Stop { signal: None, grace }, None);
                scope.spawn(stop)
            })
            .collect();
        let ended = stops.into_iter().zip(&running).filter_map(|(stop, name)| match stop.join() {
            Ok(Ok(_)) => {
                stopped(name);
                None
            }
            Ok(Err(error)) => Some(error),
            Err(_) => Some(Error::new(format!("stopping {name} failed"))),
        });
        ended.collect()
    });
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Stops containers and starts them again, as the project file now says. Without consent to start them, none is stopped.
///
/// # Errors
/// Fails as [`stop`] and [`start`] do.
pub fn restart(
    loaded: &LoadedProject,
    names: &[String],
    options: UpOptions,
    reporter: &dyn Reporter,
    stopped: &dyn Fn(&str),
) -> Result<Converged> {
    let only = meant(loaded, names)?;
    if !only.is_empty() {
        agree(loaded, &only, &options, reporter)?;
    }
    end_all(&loaded.instance, Some(loaded), &replicas(&loaded.instance, names)?, None, stopped)?;
    start(loaded, names, options, reporter)
}

/// Sends a signal, by name or number, to the first process of containers.
///
/// # Errors
/// Fails when the signal is unknown or a container is not running.
pub fn kill(instance: &Instance, names: &[String], signal: &str) -> Result<()> {
    let wrong = || Error::new(format!("\"{signal}\" is not a signal")).hint("for example: KILL, TERM, HUP, RTMIN+3").usage();
    let signal = signal_number(signal).ok_or_else(wrong)?;
    for name in replicas(instance, names)? {
        monitor::call(&instance.container(&name), &Request::Signal { signal }, None)?;
    }
    Ok(())
}

/// Suspends all processes of containers, or resumes them.
///
/// # Errors
/// Fails at the first container that cannot be paused or resumed.
pub fn freeze(instance: &Instance, names: &[String], frozen: bool, done: &dyn Fn(&str)) -> Result<()> {
    for name in replicas(instance, names)? {
        monitor::call(&instance.container(&name), &Request::Freeze { frozen }, None)
            .map_err(|error| Error::caused(format!("cannot {} {name}", if frozen { "pause" } else { "resume" }), error))?;
        done(&name);
    }
    Ok(())
}

/// Waits until the commands of containers end, one container after the other. Reports each exit status, and returns the
/// last one.
///
/// # Errors
/// Fails when a container never ran to its end.
pub fn wait(instance: &Instance, names: &[String], ended: &dyn Fn(i32)) -> Result<i32> {
    let mut last = 0;
    for name in replicas(instance, names)? {
        let folder = instance.container(&name);
        let told =
            if folder.alive() { monitor::call(&folder, &Request::Wait, None).ok().and_then(|reply| reply.exit) } else { None };
        // It may have ended before we asked.
        last = match (told, folder.status()) {
            (Some(exit), _) | (None, Some(Status { exit_code: Some(exit), .. })) => exit,
            (None, status) => {
                let what = format!("container {name} never ran to its end");
                let why = status.and_then(|status| status.error);
                return Err(why.map_or_else(|| Error::new(&what), |why| Error::caused(&what, why)));
            }
        };
        ended(last);
    }
    Ok(last)
}

/// Removes containers and what they wrote; with `force`, running containers are stopped first.
///
/// # Errors
/// Fails when a container is running and `force` is not set, and when a container cannot be removed.
pub fn remove(instance: &Instance, names: &[String], force: bool, removed: &dyn Fn(&str)) -> Result<()> {
    let names = replicas(instance, names)?;
    let running = |name: &String| {
        let status = instance.container(name).status();
        status.is_some_and(|status| matches!(status.state, State::Running | State::Paused | State::Restarting))
    };
    if let Some(name) = names.iter().find(|name| !force && running(name)) {
        return Err(Error::new(format!("container {name} is running")).hint("stop it first, or type `stead rm --force`"));
    }
    let _queue = instance.lock()?;
    let mut record = instance.record()?;
    for name in names {
        end(instance, &name)?;
        forget(instance, &name);
        record.containers.remove(&name);
        record.stopped.insert(name.clone());
        record.serial += 1;
        instance.save(&record)?;
        monitor::add_event(&instance.events(), &Event::now("container", "destroy", &name, &[]));
        removed(&name);
    }
    Ok(())
}

/// Runs different numbers of replicas than the project file says, until the next `up`.
///
/// # Errors
/// Fails when a container does not exist or can have only one replica, and as [`up`](reconcile::up) does.
pub fn scale(
    loaded: &mut LoadedProject,
    wishes: &BTreeMap<String, u32>,
    options: UpOptions,
    reporter: &dyn Reporter,
) -> Result<Converged> {
    let mut only = BTreeSet::new();
    let known: Vec<String> = loaded.project.containers.keys().map(Name::to_string).collect();
    for (name, number) in wishes {
        let Some((key, container)) = loaded.project.containers.iter_mut().find(|(key, _)| key.as_str() == name) else {
            let error = Error::new(format!("the project has no container \"{name}\""));
            return Err(match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("perhaps \"{near}\"")),
                None => error,
            });
        };
        if container.job.is_some() {
            return Err(Error::new(format!("{name} is a job, so there is only one of it"))
                .hint(format!("`stead run --again {name}` runs it again")));
        }
        if *number > 1 && container.networks.iter().any(|attachment| attachment.address.is_some()) {
            return Err(Error::new(format!("container {name} has a fixed address, so there can be only one of it")));
        }
        container.replicas = *number;
        only.insert(key.clone());
    }
    if let Some((name, other, number)) = loaded.project.replica_clash() {
        return Err(Error::new(format!("\"{name}\" is the name of replica {number} of the container \"{other}\"")));
    }
    reconcile::up(loaded, &UpOptions { only, ..options }, reporter)
}

/// A published port: the port in the container (`80/tcp`), and the address on the host (`127.0.0.1:8080`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Published {
    pub inner: String,
    pub outer: String,
}

/// The published ports of a container or replica, or only those that lead to one of its ports.
///
/// # Errors
/// Fails when the name is unknown or nothing is published.
pub fn published(instance: &Instance, name: &str, port: Option<&str>) -> Result<BTreeSet<Published>> {
    let record = instance.record()?;
    let wanted = port.map(|port| if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") });
    let mut found = BTreeSet::new();
    for replica in replicas(instance, &[name.to_owned()])? {
        for port in record.containers.get(&replica).map(|container| container.ports.as_slice()).unwrap_or_default() {
            let protocol = if port.protocol == Protocol::Udp { "udp" } else { "tcp" };
            let one = Published { inner: format!("{}/{protocol}", port.to), outer: format!("{}:{}", port.address, port.port) };
            if wanted.as_ref().is_none_or(|wanted| *wanted == one.inner) {
                found.insert(one);
            }
        }
    }
    if found.is_empty() {
        let what = port.map_or_else(|| "no port".to_owned(), |port| format!("no port {port}"));
        return Err(Error::new(format!("container {name} publishes {what}")).hint("write: publish 8080 to=80"));
    }
    Ok(found)
}

/// The replicas that names refer to and that have logs, running or not.
///
/// # Errors
/// Fails when a name is unknown, and when the record or the logs cannot be read.
pub fn logged(instance: &Instance, typed: &[String]) -> Result<Vec<String>> {
    use crate::model::Context;
    let record = instance.record()?;
    let logged = crate::sys::names(&instance.all_logs()).context(|| "cannot list the logs".into())?;
    let mut all: Vec<String> = record.containers.keys().cloned().collect();
    if all.is_empty() {
        all.extend(logged.iter().cloned());
    }
    all.sort();
    if typed.is_empty() {
        return Ok(all);
    }
    let mut found = Vec::new();
    for name in typed {
        let replicas: Vec<String> = logged.iter().chain(&all).filter(|full| ReplicaId::is_of(full, name)).cloned().collect();
        if replicas.is_empty() {
            found.push(instance.find(name)?);
        }
        found.extend(replicas);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

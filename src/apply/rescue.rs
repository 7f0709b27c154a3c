//! The state before a step that failed, as a container to look around in.

use super::observe::observe;
use super::project::{LoadedProject, read_lock};
use super::resolve::trusted;
use crate::build::{Builder, Rescue};
use crate::debian::Settings;
use crate::fetch::Progress;
use crate::model::{Name, Outcome};
use crate::store::{Lease, Store};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A shell in the state before the next command that some images, or what they are made from, would run;
/// nothing where it is no command that comes next.
///
/// # Errors
/// Those of preparing it.
pub fn rescue(loaded: &LoadedProject, names: &BTreeSet<Name>, epoch: Option<i64>) -> Outcome<Option<(Name, Rescue)>> {
    let store = Store::at(&loaded.instance.home.store);
    let mut lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    lock.epoch = epoch.unwrap_or(lock.epoch);
    let observation = observe(loaded)?;
    let lease = Mutex::new(Lease::open(&store)?);
    let settings = Settings::for_folder(&loaded.instance.folder);
    let report = |_| {};
    let builder = Builder {
        project: &loaded.project,
        places: &loaded.places,
        lock: &lock,
        store: &store,
        lease: &lease,
        scanner: &observation.scanner,
        settings: &settings,
        offline: true,
        progress: Arc::new(Progress::default()),
        report: &report,
        ssh: true,
    };
    builder.rescue(names)
}

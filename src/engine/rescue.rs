//! The state before a step that failed, as a container to look around in.

use crate::build::{Builder, Rescue};
use crate::debian::Settings;
use crate::fetch::Progress;
use crate::instance::{LoadedProject, observe, read_lock};
use crate::model::{Name, Result};
use crate::reconcile::trusted;
use crate::store::{Lease, Store};
use std::sync::{Arc, Mutex};

/// Prepares a shell in the state before the next command that an image would run; `None` if its next step is not a command.
///
/// # Errors
/// Fails when the container cannot be prepared.
pub fn rescue(loaded: &LoadedProject, name: &Name, epoch: Option<i64>) -> Result<Option<Rescue>> {
    let store = Store::at(&loaded.instance.home.store);
    let mut lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    lock.epoch = epoch.unwrap_or(lock.epoch);
    let observation = observe(loaded)?;
    let lease = Mutex::new(Lease::open(&store)?);
    let settings = Settings::for_folder(&loaded.instance.folder);
    let report = |_| {};
    let builder = Builder {
        home: &loaded.instance.home,
        network: &Mutex::default(),
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
    builder.rescue(name)
}

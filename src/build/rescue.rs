//! Opens a shell in the state before a failed command, to look around.

use super::records::describe;
use super::{Builder, Network, run};
use crate::model::{Context as _, Name, Result};
use crate::plan::{Walk, walk};
use crate::project::Step;
use crate::runtime::{Blueprint, compile};
use crate::store::{Cache, Staging};
use std::sync::Arc;

/// A shell in the state before a command.
pub struct Rescue {
    pub blueprint: Blueprint,
    pub contents: Vec<Vec<u8>>,
    /// The step in one line.
    pub step: String,
    _staging: Staging,
    _caches: Vec<Cache>,
    _network: Option<Arc<Network>>,
}

impl Builder<'_> {
    /// Prepares a shell in the state before the next command that an image would run; `None` if its next step is not a command.
    ///
    /// # Errors
    /// Fails when the container cannot be prepared.
    pub fn rescue(&self, name: &Name) -> Result<Option<Rescue>> {
        let Walk::Step(pending) = walk(self.project, self.lock, name, &self.facts()) else { return Ok(None) };
        let step = &self.project.images[name].steps[pending.index];
        let Step::Run(run) = step else { return Ok(None) };
        self.pin(pending.layers.iter().map(|layer| &layer.diff_id))?;
        let (staging, tree) = self.staging()?;
        run::folders(&staging)?;
        let mut around = self.around(name, run, &pending, &staging)?;
        let caches = std::mem::take(&mut around.caches);
        let contents = around.contents();
        let (interface, network) = self.interface(run.network)?.unzip();
        let mut spec = run::spec(run, &pending, around, interface, &self.paths(&pending.layers), &staging, &tree)?;
        spec.process.args = vec![pending.config.shell().swap_remove(0)];
        spec.process.tty = true;
        let blueprint = compile(spec).context(|| "cannot describe the shell".into())?;
        Ok(Some(Rescue { blueprint, contents, step: describe(step), _staging: staging, _caches: caches, _network: network }))
    }
}

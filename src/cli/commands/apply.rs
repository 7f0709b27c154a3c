use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{UpOptions, apply_saved};
use crate::model::{Context as _, Result};
use crate::plan::Plan;
use std::path::PathBuf;
use std::time::Instant;

/// Carries out a saved plan exactly, or refuses if the project or this machine has changed since.
///
/// Example: stead apply plan.json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A file with the output of `stead plan --json`.
    plan: PathBuf,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    let bytes = std::fs::read(&arguments.plan).context(|| format!("cannot read {}", arguments.plan.display()))?;
    let plan: Plan = serde_json::from_slice(&bytes).context(|| format!("{} is not a plan", arguments.plan.display()))?;
    let loaded = context.project()?;
    let shown = Shown::new(&context.ui, false);
    let options = UpOptions { command: "apply".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let outcome = apply_saved(&loaded, plan, options, &shown);
    shown.clear();
    super::converge::conclude(&outcome?, &loaded.instance, context, started)
}

use super::super::Context;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::Result;
use crate::plan::MarkKind;
use std::collections::BTreeSet;
use std::time::Instant;

/// Stops containers and starts them again, as the project file now says.
///
/// Example: stead restart web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers; all if none is given.
    names: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    these(&arguments.names, arguments.allow.kinds()?, context)
}

/// Restarts these containers, and shows its progress and its outcome.
pub fn these(names: &[String], allow: BTreeSet<MarkKind>, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let options = UpOptions { command: "restart".into(), allow, ..UpOptions::default() };
    let stopped = |name: &str| context.ui.say(format!("stopped {name}"));
    let restart = |reporter: &dyn engine::Reporter| engine::restart(&loaded, names, options, reporter, &stopped);
    super::converge::converge(&loaded.instance, context, Instant::now(), restart)
}

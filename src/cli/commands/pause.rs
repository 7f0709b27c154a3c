//! `pause`, and `unpause`, which undoes it.

use super::super::Context;
use crate::engine;
use crate::model::Result;

/// Suspends all processes of containers, until `unpause`.
///
/// Example: stead pause web
#[derive(clap::Args, Debug)]
pub struct Pause {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Resumes paused containers.
///
/// Example: stead unpause web
#[derive(clap::Args, Debug)]
pub struct Unpause {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn pause(arguments: &Pause, context: &Context) -> Result<u8> {
    engine::freeze(&context.instance()?, &arguments.names, true, &|name| context.ui.say(format!("paused {name}")))?;
    Ok(0)
}

pub fn unpause(arguments: &Unpause, context: &Context) -> Result<u8> {
    engine::freeze(&context.instance()?, &arguments.names, false, &|name| context.ui.say(format!("resumed {name}")))?;
    Ok(0)
}

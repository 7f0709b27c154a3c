use super::super::Context;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::{Error, Result};
use std::collections::BTreeMap;
use std::time::Instant;

/// Runs a different number of replicas than the project file says, until the next `up`.
///
/// Example: stead scale web=3
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers, each with its number of replicas.
    #[arg(required = true, value_name = "NAME=NUMBER")]
    wishes: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let start = Instant::now();
    let mut loaded = context.project()?;
    let mut wishes = BTreeMap::new();
    for wish in &arguments.wishes {
        let wrong = || Error::new(format!("{wish}: NAME=NUMBER was expected")).hint("for example: stead scale web=3").usage();
        let (name, number) = wish.split_once('=').ok_or_else(wrong)?;
        let number = number.parse().ok().filter(|number| *number <= 1000).ok_or_else(wrong)?;
        wishes.insert(name.to_owned(), number);
    }
    let options = UpOptions { command: "scale".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let instance = loaded.instance.clone();
    let scale = |reporter: &dyn engine::Reporter| engine::scale(&mut loaded, &wishes, options, reporter);
    super::converge::converge(&instance, context, start, scale)
}

use super::super::Context;
use super::super::ui::Shown;
use crate::apply::{self, UpOptions};
use crate::model::{Fault, Name, Outcome, nearest};
use std::collections::BTreeSet;
use std::time::Instant;

/// Builds images of the project.
///
/// Example: stead build app
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Images; all if none is given.
    names: Vec<String>,
    /// Refuse to resolve what stead.lock does not answer.
    #[arg(long)]
    frozen: bool,
    /// Refuse the network.
    #[arg(long)]
    offline: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    let started = Instant::now();
    let loaded = context.project()?;
    let known = &loaded.project.images;
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for name in &arguments.names {
        let Some((found, _)) = known.get_key_value(name.as_str()) else {
            let fault = Fault::new(format!("the project has no image \"{name}\""));
            return Err(match nearest(name, known.keys().map(Name::as_str)) {
                Some(near) => fault.hint(format!("perhaps \"{near}\"")),
                None => fault.hint(format!("it has: {}", known.keys().map(Name::as_str).collect::<Vec<_>>().join(", "))),
            });
        };
        names.insert(found.clone());
    }
    if names.is_empty() {
        names.extend(known.keys().cloned());
    }
    let shown = Shown::new(&context.ui, false);
    let options =
        UpOptions { frozen: arguments.frozen, offline: arguments.offline, command: "build".into(), ..UpOptions::default() };
    let built = apply::build_only(&loaded, &names, &options, &shown);
    shown.clear();
    for (name, image) in built? {
        context.ui.result(&format!("{name} {}", image.digest));
    }
    context.ui.say(&format!("built ({})", apply::since(started)));
    Ok(0)
}

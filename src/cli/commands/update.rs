use super::super::Context;
use super::super::ui::{Shown, Style};
use crate::apply;
use crate::debian::Update;
use crate::lock::Lock;
use crate::model::{Fault, Outcome};
use std::collections::BTreeMap;

/// Moves the lock to what the package archives offer now.
///
/// Example: stead update nginx
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Packages to move; all if none is given.
    names: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    let loaded = context.project()?;
    let update = if arguments.names.is_empty() { Update::All } else { Update::Names(arguments.names.iter().cloned().collect()) };
    let before = apply::read_lock(&loaded.instance)?;
    let locked = versions(&before);
    if let Some(name) = arguments.names.iter().find(|name| !locked.keys().any(|(_, locked)| locked == *name)) {
        return Err(
            Fault::new(format!("stead.lock has no package \"{name}\"")).hint("`stead update` without a name moves everything")
        );
    }
    let shown = Shown::new(&context.ui, false);
    let updated = apply::update_lock(&loaded, &update, &shown);
    shown.clear();
    let (old, new) = updated?;
    let (old, new) = (versions(&old), versions(&new));
    let color = context.ui.color_out;
    let mut text = String::new();
    for (key @ (_, name), version) in &new {
        match old.get(key) {
            Some(before) if before == version => {}
            Some(before) => text.push_str(&format!("{} {name} {before} → {version}\n", Style::Change.paint("~", color))),
            None => text.push_str(&format!("{} {name} {version}\n", Style::Good.paint("+", color))),
        }
    }
    for ((_, name), version) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        text.push_str(&format!("{} {name} {version}\n", Style::Bad.paint("-", color)));
    }
    context.ui.result(if text.is_empty() { "nothing moved\n" } else { &text });
    Ok(0)
}

fn versions(lock: &Lock) -> BTreeMap<(String, String), String> {
    let packages = lock.suites.iter().flat_map(|(suite, lock)| lock.packages.values().map(move |package| (suite, package)));
    packages.map(|(suite, package)| ((suite.clone(), package.name.clone()), package.version.clone())).collect()
}

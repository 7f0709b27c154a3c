use super::super::Context;
use super::super::ui::{Shown, Style, Text};
use super::allow::Allow;
use crate::debian::{Downgrade, Update};
use crate::engine::{self, UpOptions};
use crate::lock::Lock;
use crate::model::{Error, Result};
use std::collections::BTreeMap;

/// Updates the lock to what archives, registries and the web offer now.
///
/// Example: stead update nginx
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Packages, images or URLs to update; all if none is given.
    names: Vec<String>,
    /// Set the latest timestamp in everything that is built: seconds since 1970, or a date.
    #[arg(long, value_name = "TIME")]
    epoch: Option<String>,
    /// Accept older releases, older versions, and archives that no longer exist.
    #[arg(long)]
    allow_downgrade: bool,
    /// Write nothing: verify the lock against its signed indexes, and fail if it would change.
    #[arg(long, conflicts_with_all = ["names", "epoch"])]
    check: bool,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project()?;
    let downgrade = if arguments.allow_downgrade { Downgrade::Allowed } else { Downgrade::Refused };
    let options = UpOptions { command: "update".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    if arguments.check {
        return check(&loaded, downgrade, &options, context);
    }
    if let Some(text) = &arguments.epoch {
        engine::set_epoch(&loaded, super::build::epoch(text)?)?;
        if arguments.names.is_empty() {
            context.ui.say("the time is set; packages stay as they are locked");
            return Ok(0);
        }
    }
    let update = if arguments.names.is_empty() { Update::All } else { Update::Names(arguments.names.iter().cloned().collect()) };
    let before = engine::read_lock(&loaded.instance)?;
    let locked = versions(&before);
    let known = |name: &String| locked.keys().any(|(_, locked)| locked == name);
    if let Some(name) = arguments.names.iter().find(|name| !known(name)) {
        return Err(
            Error::new(format!("stead.lock has nothing named \"{name}\"")).hint("`stead update` without a name moves everything")
        );
    }
    let shown = Shown::new(&context.ui, false);
    let updated = engine::update_lock(&loaded, &update, downgrade, &options, &shown);
    shown.clear();
    let (old, new) = updated?;
    let text = moves(&old, &new, context.ui.color_out);
    context.ui.result(if text.is_empty() { "nothing moved\n".into() } else { text });
    Ok(0)
}

/// Reports whether the lock matches its signed indexes, and what `update` would change in it.
fn check(loaded: &engine::LoadedProject, downgrade: Downgrade, options: &UpOptions, context: &Context) -> Result<u8> {
    let shown = Shown::new(&context.ui, false);
    let checked = engine::check_lock(loaded, downgrade, options, &shown);
    shown.clear();
    let engine::CheckedLock { packages, old, new } = checked?;
    packages.unverified.iter().for_each(|text| context.ui.warn(text));
    packages.wrong.iter().for_each(|text| context.ui.error(&Error::new(text)));
    // Archives sign their indexes again all the time; that alone is not a change.
    let pinned = |lock: &Lock| {
        let mut lock = lock.clone();
        lock.suites.values_mut().for_each(|suite| suite.indexes.clear());
        lock
    };
    let changes = pinned(&old) != pinned(&new);
    let mut text = moves(&old, &new, context.ui.color_out);
    text += match packages.verified {
        1 => Text::from("1 package matches its signed index\n"),
        count => Text::line(&format!("{count} packages match their signed indexes")) + "\n",
    };
    text += Text::from(if changes { "stead.lock would change: type `stead update`\n" } else { "stead.lock would not change\n" });
    context.ui.result(text);
    Ok(u8::from(changes || !packages.wrong.is_empty()))
}

/// The differences between two locks, one per line.
fn moves(old: &Lock, new: &Lock, color: bool) -> Text {
    let (old, new) = (versions(old), versions(new));
    let mut text = Text::default();
    for (key @ (_, name), version) in &new {
        match old.get(key) {
            Some(before) if before == version => {}
            Some(before) => text += Style::Change.paint("~", color) + Text::line(&format!(" {name} {before} → {version}")) + "\n",
            None => text += Style::Good.paint("+", color) + Text::line(&format!(" {name} {version}")) + "\n",
        }
    }
    for ((_, name), version) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        text += Style::Bad.paint("-", color) + Text::line(&format!(" {name} {version}")) + "\n";
    }
    text
}

fn versions(lock: &Lock) -> BTreeMap<(String, String), String> {
    let packages = lock.suites.iter().flat_map(|(suite, lock)| lock.packages.values().map(move |package| (suite, package)));
    let packages = packages.map(|(suite, package)| ((suite.clone(), package.name.clone()), package.version.clone()));
    let images = lock.images.keys().map(|name| {
        let digest = lock.image(name).map_or_else(|| "-".to_owned(), |digest| digest.short(12));
        ((String::new(), name.clone()), digest)
    });
    let remotes = lock.remotes.iter().map(|(name, known)| ((String::new(), name.clone()), known.chars().take(12).collect()));
    packages.chain(images).chain(remotes).collect()
}

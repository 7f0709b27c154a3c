//! How a change of a value is told in a few words.

use super::observed::Port;
use std::collections::{BTreeMap, BTreeSet};

/// What a change of an aspect is, if it can be said in a few words: a value, a list of words, a table's entry, ports.
pub fn change_of(key: &str, old: &str, new: &str) -> Option<String> {
    let is_value = key.starts_with("env.")
        || key.starts_with("limits.")
        || matches!(key, "workdir" | "user" | "hostname" | "stop-grace" | "init" | "tty" | "stop-signal");
    if is_value && !new.starts_with(['[', '{']) {
        return Some(format!("{key} {}", difference(old, new)));
    }
    let words = |text: &str| serde_json::from_str::<Vec<String>>(text).ok().map(|words| words.join(" "));
    let ports = |text: &str| {
        let one = |port: Port| format!("{}:{} → {}/{:?}", port.address, port.port, port.to, port.protocol).to_lowercase();
        let ports: Vec<String> = serde_json::from_str::<Vec<Port>>(text).ok()?.into_iter().map(one).collect();
        Some(ports.join(", "))
    };
    let table = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).ok();
    match key {
        "inputs" => Some(inputs_changed(&table(old)?, &table(new)?)),
        "cmd" | "entrypoint" | "group-add" => Some(format!("{key} {}", difference(&words(old)?, &words(new)?))),
        "publish" => Some(format!("{key} {}", difference(&ports(old)?, &ports(new)?))),
        "label" | "sysctl" => {
            let (old, new) = (table(old)?, table(new)?);
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
            let one = |name: &String| match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => format!("{key} {name} {}", difference(old, new)),
                (None, _) => format!("{key} {name} is new"),
                (_, None) => format!("{key} {name} is gone"),
            };
            Some(names.into_iter().map(one).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    }
}

/// How many files a cause names.
const FILES: usize = 3;

/// Which inputs of a job are others than when it ran.
fn inputs_changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> String {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
    let one = |path: &&String| match (old.get(*path), new.get(*path)) {
        (Some(_), Some(_)) => format!("{path} changed"),
        (None, _) => format!("{path} is new"),
        (_, None) => format!("{path} is gone"),
    };
    let named: Vec<String> = paths.iter().take(FILES).map(one).collect();
    let more = paths.len().saturating_sub(FILES);
    format!("inputs: {}{}", named.join(", "), if more > 0 { format!(", and {more} more") } else { String::new() })
}

/// How many characters of a value are shown, and how many of them are before the first that differs.
const SHOWN: usize = 40;
const BEFORE: usize = 12;

/// Two values for a cause; long ones are cut around their first difference.
pub fn difference(old: &str, new: &str) -> String {
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let cut = |value: &str| {
        let length = value.chars().count();
        let from = if length <= SHOWN || same < SHOWN - BEFORE { 0 } else { same.saturating_sub(BEFORE) };
        let part: String = value.chars().skip(from).take(SHOWN).collect();
        let (before, after) = (if from > 0 { "…" } else { "" }, if length > from + SHOWN { "…" } else { "" });
        format!("{:?}", format!("{before}{part}{after}"))
    };
    format!("{} → {}", cut(old), cut(new))
}

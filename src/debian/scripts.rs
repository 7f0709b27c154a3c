//! Finds packages whose scripts would do something that nothing here replaces.

use super::deb::Control;
use std::collections::{BTreeMap, BTreeSet};

/// Packages whose scripts only do what `synthesise` does in their place.
const DONE: &[&str] = &[
    "base-files",
    "base-passwd",
    "libc-bin",
    "ca-certificates",
    "debianutils",
    "dash",
    "bash",
    "dpkg",
    "libc6",
    "login",
    "passwd",
    "libpam-runtime",
    // It gives `ip` privileges only if debconf is told to.
    "iproute2",
];

/// Lists packages with script lines that are neither boilerplate nor replaced by `synthesise`.
pub fn skipped(controls: &BTreeMap<String, Control>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (name, control) in controls {
        let scripts = ["preinst", "postinst"].iter().filter_map(|script| control.files.get(*script));
        if scripts.map(|script| String::from_utf8_lossy(script).into_owned()).any(|script| does_something(&script))
            && !DONE.contains(&name.as_str())
        {
            found.insert(name.clone());
        }
    }
    found.into_iter().collect()
}

/// Whether a script does more than the lines that debhelper adds.
fn does_something(script: &str) -> bool {
    let mut generated = false;
    for line in script.replace("\\\n", " ").lines().map(str::trim) {
        if line.starts_with("# Automatically added by") {
            generated = true;
        } else if line.starts_with("# End automatically added") {
            generated = false;
        } else if !generated && acts(line) {
            return true;
        }
    }
    false
}

/// Whether a line makes a user or a locale, or gives a program privileges: what fails without these fails late. What else
/// scripts do (owners of logs, links, caches, moves of old files) is done in their place, or not missed in a new tree.
fn acts(line: &str) -> bool {
    const VERBS: &[&str] = &["adduser", "addgroup", "useradd", "groupadd", "setcap", "locale-gen"];
    let first =
        line.split([' ', '\t']).find(|word| !word.is_empty() && !matches!(*word, "if" | "!" | "then" | "&&")).unwrap_or_default();
    VERBS.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_matter_are_told_from_boilerplate() {
        assert!(!does_something(
            "#!/bin/sh\nset -e\n# Automatically added by dh_x\nchown a b\n# End automatically added section\nexit 0"
        ));
        assert!(does_something("#!/bin/sh\nadduser --system redis || true"));
    }
}

//! The modules are as `src/lib.rs` describes them: no room imports from a higher floor.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and floors, read from the table in the crate's documentation.
fn floors() -> BTreeMap<String, u32> {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    rows.filter_map(|row| {
        let mut cells = row.split(" | ");
        let floor = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches(['[', '`', ']']).to_owned(), floor))
    })
    .collect()
}

fn visit(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What a newcomer looks for is where the crate's documentation says, in at most three files each.
#[test]
fn what_strangers_look_for_is_there() {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let list = text.split("//! # Where to open it").nth(1).unwrap().split("//! # ").next().unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.contains(".rs`")).filter(|line| line.starts_with("//! | ")).collect();
    assert_eq!(rows.len(), 12, "{rows:?}");
    for row in rows {
        let files: Vec<&str> = row.split('`').filter(|word| word.ends_with(".rs")).collect();
        assert!(files.len() <= 3, "{row}");
        for file in files {
            assert!(Path::new("src").join(file).is_file(), "{file} is not there: {row}");
        }
    }
}

#[test]
fn no_room_imports_from_a_higher_floor() {
    let floors = floors();
    assert_eq!(floors.len(), 26, "{floors:?}");
    let mut wrong = Vec::new();
    for (room, floor) in &floors {
        let mut files = Vec::new();
        visit(&Path::new("src").join(room), &mut files);
        for (path, text) in files {
            for used in named(&text, "crate::") {
                match floors.get(&used) {
                    Some(other) if other > floor => {
                        wrong.push(format!("{path}: {room} (floor {floor}) uses {used} (floor {other})"))
                    }
                    _ => {}
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a text names after a path, with or without braces: `a` and `b` of `crate::a::X` and `crate::{a::X, b}`.
fn named(text: &str, path: &str) -> BTreeSet<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(path) {
        // `super::super::x` is not `super::x`.
        if text[..at].ends_with("::") || text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(list) = text[at + path.len()..].strip_prefix('{') else {
            found.insert(word(&text[at + path.len()..]));
            continue;
        };
        let (mut depth, mut from) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.insert(word(&list[from..at]));
                    from = at + 1;
                }
                _ => {}
            }
            if c == '}' && depth == 0 && list[..=at].matches('{').count() < list[..=at].matches('}').count() {
                break;
            }
        }
    }
    found
}

/// The names that use themselves, directly or through others.
fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reached = |from: &String| {
        let (mut found, mut left) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = left.pop() {
            for used in uses.get(&next).into_iter().flatten().filter(|used| uses.contains_key(*used) && **used != next) {
                if found.insert(used.clone()) {
                    left.push(used.clone());
                }
            }
        }
        found
    };
    uses.keys().filter(|name| reached(name).contains(*name)).cloned().collect()
}

/// A file's text without its tests, which may use whatever they like.
fn own(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
}

#[test]
fn there_are_no_circles() {
    let floors = floors();
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> = floors.keys().map(|room| Path::new("src").join(room)).collect();
    while let Some(folder) = folders.pop() {
        let room = folder.components().nth(1).unwrap().as_os_str().to_str().unwrap().to_owned();
        let inside = folder.strip_prefix("src").unwrap().display().to_string().replace('/', "::");
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let name = name.trim_end_matches(".rs").to_owned();
            if path.is_dir() && !path.join("mod.rs").exists() || ["mod", "tests"].contains(&name.as_str()) {
                continue;
            }
            let mut files = Vec::new();
            if path.is_dir() {
                folders.push(path.clone());
                visit(&path, &mut files);
            } else {
                files.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
            for (file, text) in files.iter().filter(|(file, _)| file.ends_with(".rs") && !file.ends_with("tests.rs")) {
                // The steps from this file to the directory: one for each directory in between, and one more unless it
                // is a `mod.rs`.
                let depth = Path::new(file).components().count() - folder.components().count() - 1;
                let steps = depth + usize::from(!file.ends_with("mod.rs"));
                let all = uses.entry(name.clone()).or_default();
                all.extend(named(own(text), &"super::".repeat(steps.max(1))));
                all.extend(named(own(text), &format!("crate::{inside}::")));
                rooms.entry(room.clone()).or_default().extend(named(own(text), "crate::"));
            }
        }
        let found = circles(&uses);
        if !found.is_empty() {
            wrong.push(format!("{}: {}", folder.display(), found.join(", ")));
        }
    }
    wrong.extend(Some(circles(&rooms)).filter(|found| !found.is_empty()).map(|found| format!("rooms: {}", found.join(", "))));
    assert!(wrong.is_empty(), "these use each other:\n{}", wrong.join("\n"));
}

/// Files that handle roots, layers, volumes, build contexts and targets of copies, which a container or a cloned
/// directory can change while we use them. They reach all of it by descriptor (`sys::Tree`); clippy bans the functions
/// that take paths.
const BY_DESCRIPTOR: [&str; 14] = [
    "src/engine/duplicate.rs",
    "src/engine/files.rs",
    "src/build/clean.rs",
    "src/build/copy.rs",
    "src/build/ground.rs",
    "src/build/reader.rs",
    "src/build/squash.rs",
    "src/build/target.rs",
    "src/image/layer.rs",
    "src/image/twin.rs",
    "src/runtime/rootfs/kernel.rs",
    "src/runtime/rootfs/mod.rs",
    "src/runtime/rootfs/mounts.rs",
    "src/runtime/rootfs/project.rs",
];

#[test]
fn what_others_can_change_is_reached_by_descriptor() {
    let ban = "#![cfg_attr(not(test), deny(clippy::disallowed_methods))]";
    for path in BY_DESCRIPTOR {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(ban), "{path} must have {ban}");
        assert!(!text.contains("allow(clippy::disallowed_methods"), "{path} takes the ban off");
    }
    // The ban covers this room as a whole.
    let rooms = fs::read_to_string("src/lib.rs").unwrap();
    assert!(rooms.contains(")]\nmod sys;\nmod volume;\n"), "the room `volume` is allowed what it must not do");
    let banned = fs::read_to_string("clippy.toml").unwrap();
    for function in
        ["fs::copy", "fs::set_permissions", "os::unix::fs::symlink", "fs::read_dir", "fs::File::open", "path::Path::exists"]
    {
        assert!(banned.contains(&format!("\"std::{function}\"")), "{function} is not banned");
    }
}

#[test]
fn every_room_is_in_the_table_and_every_file_says_what_it_owns() {
    let floors = floors();
    for entry in fs::read_dir("src").unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(floors.contains_key(&name), "{name} is not in the table of src/lib.rs");
    }
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    // The file of a command begins with its arguments: their documentation is its help text.
    let silent = files.iter().filter(|(path, text)| !path.contains("cli/commands/") && !text.starts_with("//!"));
    assert_eq!(silent.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The `kdl` crate recurses on untrusted input, so what it gets is bounded first, and nothing else may call it.
#[test]
fn there_is_one_door_to_the_kdl_crate() {
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    let elsewhere = files.iter().filter(|(path, text)| {
        !path.starts_with("src/model/kdl_text/") && (text.contains("KdlDocument::parse") || text.contains("parse::<KdlDocument>"))
    });
    assert_eq!(elsewhere.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn generated_files_are_up_to_date() {
    let list = stead::tested::cli::schemas();
    for (name, path, text) in &list {
        let there = fs::read_to_string(path).unwrap_or_default();
        assert!(there == *text, "{path} is out of date: cargo run -- schema {name} > {path}");
    }
    // Nothing else is there that looks as if it were one.
    for entry in fs::read_dir("schemas").unwrap().map(Result::unwrap) {
        let path = format!("schemas/{}", entry.file_name().to_string_lossy());
        assert!(path.ends_with(".svg") || list.iter().any(|(_, known, _)| *known == path), "{path} is printed by no name");
    }
}

#[test]
fn only_the_ui_writes_to_the_standard_streams() {
    // These write terminal data and archives, which are not our text. A warning that bypasses the ui escapes control characters.
    let others = [
        "src/cli/relay.rs",
        "src/cli/streams.rs",
        "src/cli/commands/exec.rs",
        "src/cli/commands/run.rs",
        "src/cli/commands/build.rs",
        "src/cli/commands/oci/run.rs",
        "src/cli/commands/image.rs",
        "src/cli/commands/files.rs",
        "src/oci/mod.rs",
    ];
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    let writes = |text: &str| text.contains("io::stdout()") || text.contains("io::stderr()") || text.contains("\\u{1b}[");
    let found: Vec<&String> = files
        .iter()
        .filter(|(path, text)| writes(text.split("mod tests").next().unwrap_or_default()) && !path.starts_with("src/cli/ui/"))
        .map(|(path, _)| path)
        .filter(|path| !others.contains(&path.as_str()))
        .collect();
    assert!(found.is_empty(), "what others wrote must go through `Ui`: {found:?}");
}

#[test]
fn there_is_one_reader_of_tars() {
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    // Two readers of one archive may understand it differently. Tests may use another one to check what was written.
    let own = |text: &str| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let others = files.iter().filter(|(path, text)| !path.ends_with("tests.rs") && own(text).contains("tar::Archive"));
    assert_eq!(others.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<&String>::new(), "use image::Entries");
}

/// A directory that cannot be read does not count as empty, and an entry that cannot be read does not count as absent.
#[test]
fn folders_are_listed_whole() {
    let mut files = Vec::new();
    visit(Path::new("src"), &mut files);
    let own = |text: &str| text.split("#[cfg(test)]").next().unwrap_or_default().split_whitespace().collect::<String>();
    let partly = |text: &str| text.split("read_dir(").skip(1).any(|rest| rest[..rest.len().min(120)].contains(".flatten()"));
    let others = files.iter().filter(|(path, text)| !path.ends_with("tests.rs") && partly(&own(text)));
    assert_eq!(others.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<&String>::new(), "use sys::names or sys::entries");
}

/// The threat model names a test for each of its rows.
#[test]
fn every_test_of_the_threat_model_is_there() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| actor") && !line.starts_with("| ---"));
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap().split("<br>").map(|test| test.trim_matches('`'));
        for test in tests {
            named += 1;
            match test.split_once("::") {
                Some((file, test)) => {
                    let source = |suite| fs::read_to_string(format!("tests/{suite}/{file}.rs")).unwrap_or_default();
                    let there = |suite| source(suite).contains(&format!("#[test]\nfn {test}()"));
                    assert!(["attacks", "real"].into_iter().any(there), "{file}::{test} is no test");
                }
                None => {
                    let place = Path::new("tests").join(test);
                    assert!(place.join("main.rs").exists() || place.is_file(), "{test} is no test");
                }
            }
        }
    }
    assert!(named > 60, "{named}");
}

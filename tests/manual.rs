//! The manual in `docs/`: what its pages say can be typed, and its book has them all. No root is needed.
//! (That every command of a page exists is tested in `src/cli/topics.rs`, which knows the command line.)
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Pages that are made from the grammar and the command line.
const MADE: [&str; 2] = ["language", "commands"];

/// The hand-written pages, by their names.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let names = entries.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut pages: Vec<_> = names
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "SUMMARY" && !MADE.contains(&name.as_str()))
        .map(|name| (fs::read_to_string(format!("docs/{name}.md")).unwrap(), name))
        .map(|(text, name)| (name, text))
        .collect();
    pages.sort();
    pages
}

fn stead(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    command.args(words).current_dir(folder).env("NO_COLOR", "1").env("STEAD_ROOT", "/nonexistent/stead").output().unwrap()
}

/// A directory with the files that the pages speak of.
fn ground(project: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("stead.kdl", project),
        ("Dockerfile", "FROM scratch AS prod\nARG VERSION\nCOPY Dockerfile /\nCMD [\"/x\"]\n"),
        ("secrets/token", "x"),
        ("nginx.conf", ""),
        ("database/database.kdl", ""),
        ("requirements.txt", ""),
        ("app/settings.py", ""),
        ("site/index.html", ""),
        ("migrations/1.sql", ""),
    ];
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn every_project_file_of_the_manual_is_valid_and_has_its_format() {
    let mut whole = 0;
    for (name, page) in pages() {
        for block in page.split("```kdl\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block) {
            let is_whole = block.contains("project \"");
            whole += usize::from(is_whole);
            let text = if is_whole { block.to_owned() } else { format!("project \"manual\"\n\n{block}") };
            let folder = ground(&text);
            let formatted = stead(folder.path(), &["fmt", "--check"]);
            assert!(formatted.status.success(), "{name}: `stead fmt` would change\n{block}{formatted:?}");
            let checked = stead(folder.path(), &["check", "--json"]);
            let found: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
            // A part of a file may name what the rest declares.
            let is_wrong = |one: &&serde_json::Value| {
                is_whole || !matches!(one["code"].as_str(), Some("unknown-name" | "unknown-image" | "task"))
            };
            let found: Vec<_> = found["diagnostics"].as_array().unwrap().iter().filter(is_wrong).collect();
            assert!(found.is_empty(), "{name}: {found:#?}\n{text}");
        }
    }
    assert!(whole >= 8, "{whole}");
}

#[test]
fn the_book_has_every_page_and_every_link_leads_somewhere() {
    let summary = fs::read_to_string("docs/SUMMARY.md").unwrap();
    let links = |text: &str| -> BTreeSet<String> {
        let found = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link.to_owned());
        found.filter(|link| !link.contains("://") && !link.is_empty()).collect()
    };
    let listed = links(&summary);
    let mut there: BTreeSet<String> = pages().into_iter().map(|(name, _)| format!("{name}.md")).collect();
    there.extend(MADE.map(|name| format!("{name}.md")));
    assert_eq!(listed, there, "docs/SUMMARY.md lists the pages");
    for (name, text) in pages() {
        for link in links(&text) {
            let path = link.split('#').next().unwrap();
            // The picture is recorded from a release by `docs/record`.
            assert!(path == "view.svg" || Path::new("docs").join(path).exists(), "{name}: {link}");
        }
    }
}

#[test]
fn the_manual_is_built_as_a_site_or_said_to_be_skipped() {
    let ran = Command::new("docs/build").output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    if said.contains("skipped") {
        println!("{said}");
        return;
    }
    for page in ["five-minutes", "language", "commands", "exit-codes"] {
        assert!(Path::new("target/manual/book").join(format!("{page}.html")).is_file(), "{page}");
    }
}

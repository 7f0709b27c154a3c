//! What the program says about itself: its help, the topics of `stead help`, and its manual pages. No root is needed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

use std::process::Command;

/// Standard output, standard error and exit code.
fn stead(words: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_stead")).args(words).env("NO_COLOR", "1").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn commands_are_listed_in_groups_with_a_line_each() {
    let (out, err, code) = stead(&["--help"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    for line in [
        "The environment:",
        "  up               Makes this machine match the project file",
        "Topics of `stead help TOPIC`:",
        "Options:",
    ] {
        assert!(out.lines().any(|found| found.starts_with(line)), "{line}:\n{out}");
    }
    assert!(!out.contains('\u{1b}') && !out.contains("\n  man "), "{out}");
    // What follows, the options, has another form in the longer help.
    let list = |text: &str| text.split("Options:").next().map(str::to_owned);
    assert_eq!(list(&stead(&["help"]).0), list(&out));
    let (up, _, code) = stead(&["help", "up"]);
    assert!(code == Some(0) && up.contains("Usage: stead up"), "{up}");
    assert!(stead(&["help", "volume", "snapshot"]).0.contains("Usage: stead volume snapshot"));
}

#[test]
fn topics_are_printed_as_plain_text() {
    let (out, err, code) = stead(&["help", "direnv"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.starts_with("direnv: a container's variables in your own shell\n\n    Your editor"), "{out}");
    assert!(out.contains("\n        variables=$(sudo -n stead shell --print-env web)\n") && !out.contains("```"), "{out}");
    assert!(out.contains("(https://direnv.net) gives them") && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(stead(&["help", "exit-codes"]).0.contains("  127   "));
    assert!(stead(&["help", "language"]).0.contains("\nimage › debian › package\n"));
    assert!(stead(&["help", "commands"]).0.contains("\nstead volume snapshot\n"));
    // A topic with the name of a command would never be shown.
    assert!(stead(&["help", "five-minutes"]).0.starts_with("five-minutes: from a directory"));
    let (out, err, code) = stead(&["help", "direnw"]);
    assert!(out.is_empty() && code == Some(2) && err.contains("perhaps `stead help direnv`"), "{err}");
}

#[test]
fn manual_pages_are_written_for_packages() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("man1");
    let (out, err, code) = stead(&["man", place.to_str().unwrap()]);
    assert_eq!((out.as_str(), code), ("", Some(0)), "{err}");
    let page = std::fs::read_to_string(place.join("stead-shell.1")).unwrap();
    assert!(page.contains("print\\-env") && page.contains(".SH SYNOPSIS"), "{page}");
    assert!(place.join("stead.1").is_file() && !place.join("stead-man.1").exists());
    let (_, err, code) = stead(&["man", "/proc/no-such-directory"]);
    assert!(code == Some(1) && err.contains("cannot make /proc/no-such-directory"), "{err}");
}

//! A corpus of broken project files; beside each is what `stead check` prints for it.
//!
//! `UPDATE=1 cargo test --test broken` writes the current output; review the difference before you keep it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn printed(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(["-C", "tests/broken", "-f"])
        .arg(file.file_name().unwrap())
        .arg("check")
        .env("NO_COLOR", "1")
        .env("STEAD_ROOT", "/nonexistent/stead")
        .output()
        .unwrap();
    let status = output.status.code().unwrap();
    assert!(output.stdout.is_empty(), "findings go to standard error");
    let text = String::from_utf8(output.stderr).unwrap();
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("exit {status}\n{text}")
}

#[test]
fn every_broken_file_is_explained() {
    let mut files: Vec<PathBuf> = fs::read_dir("tests/broken").unwrap().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "kdl"));
    files.sort();
    assert!(files.len() >= 60, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let text = printed(file);
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_get_the_findings_as_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(["-C", "tests/broken", "-f", "port-clash.kdl", "check", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &value["diagnostics"][0];
    assert_eq!((found["code"].as_str(), found["place"]["line"].as_u64()), (Some("port-clash"), Some(4)));
    assert!(found["other"][0]["line"].is_u64() && found["help"].is_string(), "{found}");
}

#[test]
fn the_readme_has_project_files_that_are_valid() {
    let readme = include_str!("../README.md");
    let blocks = readme.split("```kdl\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let whole: Vec<&str> = blocks.map(|(block, _)| block).filter(|block| block.starts_with("project ")).collect();
    assert!(!whole.is_empty());
    for text in whole {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stead.kdl"), text).unwrap();
        let ran = Command::new(env!("CARGO_BIN_EXE_stead")).arg("-C").arg(folder.path()).arg("check").output().unwrap();
        assert!(ran.status.success(), "{}\n{text}", String::from_utf8_lossy(&ran.stderr));
    }
}

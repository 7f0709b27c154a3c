//! What is in `editors/`, as far as it can be tested without an editor; `editors/build` runs the rest. No root is needed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All files below a directory that belong to the repository.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let made = ["node_modules", "out", "syntaxes", "package-lock.json"].iter().any(|made| name == *made);
        if made && folder.ends_with("vscode") {
            continue;
        }
        if entry.path().is_dir() { files(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

#[test]
fn settings_of_editors_can_be_read() {
    let mut all = Vec::new();
    files(Path::new("editors"), &mut all);
    for path in &all {
        let text = fs::read_to_string(path).unwrap();
        match path.extension().and_then(|end| end.to_str()) {
            Some("toml") => {
                drop(toml::from_str::<toml::Table>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            }
            Some("json") => {
                serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
            Some("scm") => {
                let plain: String = text.lines().filter(|line| !line.starts_with(';')).collect();
                let count = |c: char| plain.replace("\"{\"", "").replace("\"}\"", "").matches(c).count();
                assert!(count('(') == count(')') && count('[') == count(']'), "{}", path.display());
            }
            _ => {}
        }
    }
    for folder in ["vscode", "textmate", "tree-sitter", "neovim", "vim", "helix", "zed", "emacs"] {
        let text = fs::read_to_string(format!("editors/{folder}/README.md")).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty()).count();
        assert!((3..=7).contains(&lines), "editors/{folder}/README.md has {lines} lines");
    }
}

/// Every editor starts the same command, and knows the same files.
#[test]
fn every_editor_starts_the_language_server() {
    for path in ["helix/languages.toml", "neovim/lua/stead/init.lua", "emacs/stead.el", "vscode/src/commands.ts", "vim/README.md"]
    {
        let text = fs::read_to_string(format!("editors/{path}")).unwrap();
        assert!(text.contains("\"lsp\"") || text.contains("'lsp'"), "{path}");
    }
    for path in
        ["helix/languages.toml", "neovim/ftdetect/stead.lua", "emacs/stead.el", "vscode/package.json", "vim/ftdetect/stead.vim"]
    {
        let text = fs::read_to_string(format!("editors/{path}")).unwrap();
        assert!(text.replace('\\', "").contains("stead.kdl"), "{path}");
    }
    let package: serde_json::Value = serde_json::from_str(&fs::read_to_string("editors/vscode/package.json").unwrap()).unwrap();
    let commands: Vec<&str> =
        package["contributes"]["commands"].as_array().unwrap().iter().map(|one| one["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["stead.up", "stead.down", "stead.logs", "stead.why", "stead.refresh"]);
}

#[test]
fn vim_and_emacs_know_project_files() {
    for script in ["editors/vim/test/run", "editors/emacs/test/run"] {
        let ran = Command::new(script).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{script}: {said}");
        println!("{said}");
    }
}

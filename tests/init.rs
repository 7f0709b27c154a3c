//! `stead init`: what it writes for each kind of directory is valid, has its format, and is never written twice. No root is
//! needed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Standard error and exit code.
fn stead(folder: &Path, words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(words)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("STEAD_ROOT", "/nonexistent/stead")
        .output()
        .unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// Files by their paths, with their texts.
type Files = &'static [(&'static str, &'static str)];

fn directory(files: Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn what_is_written_passes_check_and_fmt_for_each_kind() {
    let kinds: &[(Files, &str)] = &[
        (&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nEXPOSE 80\nCMD [\"/x\"]\n")], "a Dockerfile (Dockerfile)"),
        (&[("package.json", r#"{"scripts":{"start":"node x"}}"#), ("src/x.js", "")], "a Node.js program (package.json)"),
        (&[("requirements.txt", "flask\n"), ("app.py", ""), ("static/x", "")], "a Python program (requirements.txt)"),
        (&[("pyproject.toml", "[project]\n"), ("src/x.py", "")], "a Python program (pyproject.toml)"),
        (&[("Cargo.toml", "[package]\nname = \"x\"\n"), ("src/main.rs", ""), ("Cargo.lock", "")], "a Rust program (Cargo.toml)"),
        (&[("Cargo.toml", "[workspace]\n")], "a Rust program (Cargo.toml)"),
        (&[("go.mod", "module x\n"), ("cmd/x/main.go", "")], "a Go program (go.mod)"),
        (&[("composer.json", "{}"), ("public/index.php", "")], "a PHP program (composer.json)"),
        (&[("Gemfile", ""), ("config.ru", "")], "a Ruby program (Gemfile)"),
        (&[("pom.xml", "<project/>"), ("src/A.java", "")], "a Java program (pom.xml)"),
        (&[("notes.txt", "")], "no program"),
    ];
    for (files, says) in kinds {
        let folder = directory(files);
        let (told, code) = stead(folder.path(), &["init"]);
        assert_eq!(code, Some(0), "{says}: {told}");
        assert!(told.contains(says) && told.contains("wrote stead.kdl") && told.contains("stead up`"), "{told}");
        let text = fs::read_to_string(folder.path().join("stead.kdl")).unwrap();
        let (told, code) = stead(folder.path(), &["check"]);
        assert!(code == Some(0) && !told.contains("warning"), "{says}: {told}\n{text}");
        let (told, code) = stead(folder.path(), &["fmt", "--check"]);
        assert_eq!(code, Some(0), "{says}: {told}\n{text}");
        let (told, code) = stead(folder.path(), &["init"]);
        assert!(code == Some(1) && told.contains("exists already, and was left alone"), "{told}");
        assert_eq!(fs::read_to_string(folder.path().join("stead.kdl")).unwrap(), text);
    }
}

#[test]
fn a_project_begins_in_the_current_directory_also_below_another_one() {
    let folder = directory(&[("stead.kdl", "project \"outer\"\n"), ("inner/go.mod", "module x\n"), ("inner/Gemfile", "")]);
    let (told, code) = stead(&folder.path().join("inner"), &["init"]);
    assert!(code == Some(0) && told.contains("also found, and not used: Gemfile"), "{told}");
    assert!(fs::read_to_string(folder.path().join("inner/stead.kdl")).unwrap().contains("project \"inner\""));
    let other = directory(&[("go.mod", "module x\n")]);
    let (told, code) = stead(folder.path(), &["-C", other.path().to_str().unwrap(), "init"]);
    assert!(code == Some(0) && other.path().join("stead.kdl").is_file(), "{told}");
}

#[test]
fn errors_of_a_dockerfile_are_told_after_it() {
    let folder = directory(&[("Dockerfile", "FROM scratch\nEXPOSE nine\n")]);
    let (told, code) = stead(folder.path(), &["init"]);
    assert!(code == Some(1) && told.contains("Dockerfile:2") && told.contains("what it uses has errors"), "{told}");
}

//! What packages of this program hold: completions that know a project's names, and the scripts of `packaging/`. No root is
//! needed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests create files, print why they skip, and fail by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PROJECT: &str = r#"project "shop"
image "app" { cmd "x"; }
volume "data"
container "web" { image "app"; mount volume="data" to="/data"; }
container "worker" { image "app"; }
task "migrate" { container "web"; cmd "x"; }
"#;

fn run(program: &str, words: &[&str], folder: &Path) -> Output {
    let path =
        format!("{}:{}", Path::new(env!("CARGO_BIN_EXE_stead")).parent().unwrap().display(), std::env::var("PATH").unwrap());
    Command::new(program).args(words).current_dir(folder).env("PATH", path).env("NO_COLOR", "1").output().unwrap()
}

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stead.kdl"), PROJECT).unwrap();
    folder
}

fn installed(program: &str) -> bool {
    let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

#[test]
fn names_of_the_project_are_completed() {
    let folder = project();
    let names = |words: &[&str]| {
        let output = run(env!("CARGO_BIN_EXE_stead"), &[&["complete", "--"], words].concat(), folder.path());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["logs"]), ["web", "worker"]);
    assert_eq!(names(&["run"]), ["migrate", "web", "worker"]);
    assert_eq!(names(&["volume", "snapshot"]), ["data"]);
    assert_eq!(names(&["why"]), ["app", "data", "web", "worker"]);
    assert!(names(&["exec", "web"]).is_empty() && names(&[]).is_empty());
    // A project with errors still has names, and a directory without one has none.
    fs::write(folder.path().join("stead.kdl"), format!("{PROJECT}nonsense 1\n")).unwrap();
    assert_eq!(names(&["logs"]), ["web", "worker"]);
    fs::remove_file(folder.path().join("stead.kdl")).unwrap();
    assert!(names(&["logs"]).is_empty());
}

fn sorted(line: &str) -> Vec<&str> {
    let mut words: Vec<_> = line.split_whitespace().collect();
    words.sort_unstable();
    words
}

#[test]
fn bash_completes_commands_and_names() {
    if !installed("bash") {
        return;
    }
    let folder = project();
    let script = r#"source <(stead completions bash)
        complete -p stead
        for line in "stead lo" "stead logs w" "stead down --vol"; do
            COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            _stead_with_names stead "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "$line: ${COMPREPLY[*]}"
        done"#;
    let output = run("bash", &["--norc", "-c", script], folder.path());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("_stead_with_names stead\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in ["stead lo: load login logout logs\n", "stead logs w: web worker\n", "stead down --vol: --volumes\n"] {
        assert!(text.lines().any(|found| sorted(found) == sorted(line)), "{line}{text}");
    }
}

#[test]
fn a_debian_package_holds_the_program_its_pages_and_completions() {
    if !installed("dpkg-deb") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("stead.deb");
    let ran = Command::new("packaging/deb")
        .args([env!("CARGO_BIN_EXE_stead"), target.to_str().unwrap()])
        .envs([("SOURCE_DATE_EPOCH", "1735689600"), ("DEB_COMPRESSION", "none")])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let info = String::from_utf8(run("dpkg-deb", &["--info", target.to_str().unwrap()], folder.path()).stdout).unwrap();
    for line in [" Package: stead", &format!(" Version: {}", env!("CARGO_PKG_VERSION")), " Architecture: ", " Depends: libc6"] {
        assert!(info.lines().any(|found| found.starts_with(line)), "{line}\n{info}");
    }
    let list = String::from_utf8(run("dpkg-deb", &["--contents", target.to_str().unwrap()], folder.path()).stdout).unwrap();
    for path in [
        "./usr/bin/stead",
        "./usr/share/man/man1/stead-up.1.gz",
        "./usr/share/bash-completion/completions/stead",
        "./usr/share/zsh/vendor-completions/_stead",
        "./usr/share/fish/vendor_completions.d/stead.fish",
        "./usr/share/doc/stead/copyright",
    ] {
        assert!(list.lines().any(|line| line.ends_with(&format!(" {path}"))), "{path}\n{list}");
    }
    assert!(list.lines().all(|line| line.contains(" root/root ")), "{list}");
    // The same input gives the same package.
    let again = folder.path().join("again.deb");
    let ran = Command::new("packaging/deb")
        .args([env!("CARGO_BIN_EXE_stead"), again.to_str().unwrap()])
        .envs([("SOURCE_DATE_EPOCH", "1735689600"), ("DEB_COMPRESSION", "none")])
        .output()
        .unwrap();
    assert!(ran.status.success() && fs::read(&target).unwrap() == fs::read(&again).unwrap());
}

#[test]
fn the_static_binary_and_the_formula_are_made_or_said_to_be_skipped() {
    // Without its target, the script says so; a build of a release is not a matter of this test.
    let ran = Command::new("packaging/static").arg("--dry-run").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && (said.contains("skipped") || said.contains("cargo build")), "{said}{ran:?}");
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("stead.tar.gz");
    fs::write(&archive, "bytes").unwrap();
    let ran = Command::new("packaging/formula")
        .args(["https://releases.example/stead.tar.gz", archive.to_str().unwrap()])
        .output()
        .unwrap();
    let formula = String::from_utf8(ran.stdout).unwrap();
    assert!(
        ran.status.success() && formula.starts_with("class Stead < Formula\n"),
        "{formula}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let digest = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
    for part in ["https://releases.example/stead.tar.gz", digest, env!("CARGO_PKG_VERSION"), "completions"] {
        assert!(formula.contains(part), "{part}\n{formula}");
    }
    assert!(!formula.contains('@'), "nothing is left to fill in\n{formula}");
}

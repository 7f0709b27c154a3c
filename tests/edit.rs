//! `fmt`, `add` and `set`, as a user runs them: what they write, what they refuse, and what is left of the file.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stead::tested::spec::format;

const PROJECT: &str = "project \"p\"\ninclude \"more/db.kdl\"\n\nimage \"i\" { debian \"bookworm\" { package \"aa\" } }\n\n\
                       container \"web\" { // the front\n    image \"i\"\n    replicas 2 // two\n    cmd \"x\"\n}\n";
const MORE: &str = "container \"db\" {\n    image \"i\"\n    cmd \"y\"\n}\n";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `stead` in a directory, with this text as its input.
fn stead(folder: &Path, words: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(words)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("STEAD_ROOT", "/nonexistent/stead")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("more")).unwrap();
    fs::write(folder.path().join("stead.kdl"), PROJECT).unwrap();
    fs::write(folder.path().join("more/db.kdl"), MORE).unwrap();
    folder
}

fn read(folder: &Path, path: &str) -> String {
    fs::read_to_string(folder.join(path)).unwrap()
}

#[test]
fn a_project_is_formatted_with_what_it_includes() {
    let folder = project();
    let folder = folder.path();
    let loose = |text: &str| text.replace("    ", "\t").replace(" {", "{").replace("\n\n", "\n\n\n\n");
    fs::write(folder.join("stead.kdl"), loose(PROJECT)).unwrap();
    fs::write(folder.join("more/db.kdl"), loose(MORE)).unwrap();
    let ran = stead(folder, &["fmt", "--check"], "");
    assert_eq!((ran.code, ran.out.as_str()), (1, "more/db.kdl\nstead.kdl\n"), "{}", ran.err);
    assert_eq!(read(folder, "stead.kdl"), loose(PROJECT), "`--check` writes nothing");
    let ran = stead(folder, &["fmt"], "");
    assert_eq!((ran.code, ran.err.as_str()), (0, "formatted more/db.kdl\nformatted stead.kdl\n"));
    assert_eq!((read(folder, "stead.kdl").as_str(), read(folder, "more/db.kdl").as_str()), (PROJECT, MORE));
    let ran = stead(folder, &["fmt", "--check"], "");
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    // A file by its name, and standard input.
    fs::write(folder.join("other.kdl"), "a  1").unwrap();
    assert_eq!(stead(folder, &["fmt", "other.kdl"], "").code, 0);
    assert_eq!(read(folder, "other.kdl"), "a 1\n");
    let ran = stead(folder, &["fmt", "-"], "a{b}\r\n");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "a { b }\r\n", ""));
    let ran = stead(folder, &["fmt", "--check", "-"], "a{b}");
    assert_eq!((ran.code, ran.out.as_str()), (1, "standard input\n"));
}

#[test]
fn a_file_with_errors_is_told_and_stays_as_it_is() {
    let folder = project();
    let folder = folder.path();
    fs::write(folder.join("more/db.kdl"), "container  \"db\" {\n").unwrap();
    for words in [&["fmt"][..], &["fmt", "more/db.kdl"], &["set", "web.replicas", "3"]] {
        let ran = stead(folder, words, "");
        assert_eq!(ran.code, 1, "{words:?}");
        assert!(ran.err.contains("no closing '}'") && ran.err.contains("db.kdl:1"), "{words:?}: {}", ran.err);
        assert_eq!(read(folder, "more/db.kdl"), "container  \"db\" {\n");
    }
    let ran = stead(folder, &["fmt", "-"], "a true");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    // An include that leads out of the project is not followed, and not written.
    fs::write(folder.join("more/db.kdl"), MORE).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.kdl"), "a  1").unwrap();
    fs::remove_file(folder.join("more/db.kdl")).unwrap();
    symlink(outside.path().join("x.kdl"), folder.join("more/db.kdl")).unwrap();
    let ran = stead(folder, &["fmt"], "");
    assert!(ran.code == 1 && ran.err.contains("leads out"), "{}", ran.err);
    assert_eq!(read(outside.path(), "x.kdl"), "a  1");
}

#[test]
fn a_file_keeps_its_mode_and_a_link_stays_one() {
    let folder = project();
    let folder = folder.path();
    fs::rename(folder.join("stead.kdl"), folder.join("more/real.kdl")).unwrap();
    symlink("more/real.kdl", folder.join("stead.kdl")).unwrap();
    fs::set_permissions(folder.join("more/real.kdl"), fs::Permissions::from_mode(0o664)).unwrap();
    let ran = stead(folder, &["set", "web.replicas", "3"], "");
    assert_eq!((ran.code, ran.err.as_str()), (0, "stead.kdl:8\n  -     replicas 2 // two\n  +     replicas 3 // two\n"));
    let found = fs::metadata(folder.join("more/real.kdl")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o664);
    assert!(fs::symlink_metadata(folder.join("stead.kdl")).unwrap().is_symlink());
    assert_eq!(read(folder, "more/real.kdl"), PROJECT.replace("replicas 2", "replicas 3"));
    let left: Vec<_> = fs::read_dir(folder.join("more")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_is_added_is_checked_first() {
    let folder = project();
    let folder = folder.path();
    let ran = stead(folder, &["add", "package", "bb", "aa", "--image", "i"], "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(read(folder, "stead.kdl").contains("package \"aa\" \"bb\" }"));
    let words = ["add", "container", "cache", "--image", "i", "--publish", "6379", "--env", "A=1", "--", "redis", "--port", "1"];
    let ran = stead(folder, &words, "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let added =
        "\ncontainer \"cache\" {\n    image \"i\"\n    publish 6379\n    env A=\"1\"\n    cmd \"redis\" \"--port\" \"1\"\n}\n";
    let text = read(folder, "stead.kdl");
    assert!(text.ends_with(added) && ran.err.starts_with("stead.kdl:11\n  + \n  + container \"cache\" {"), "{text}{}", ran.err);
    for (words, says) in [
        (&["add", "container", "cache", "--image", "i"][..], "there is a container \"cache\" already"),
        (&["add", "container", "third", "--image", "i", "--publish", "6379"], "nothing was written"),
        (&["add", "container", "third", "--image", "i", "--depends-on", "nobody"], "nothing was written"),
        (&["add", "package", "b", "--image", "j"], "there is no `image \"j\"`"),
        (&["set", "web.depends-on", "nobody"], "nothing was written"),
        (&["set", "web.replicas", "-1"], "a whole number from 0 to 1000 was expected"),
        (&["set", "web.replica", "3"], "write replicas"),
    ] {
        let ran = stead(folder, words, "");
        assert!(ran.code != 0 && ran.err.contains(says), "{words:?}: {}", ran.err);
        assert_eq!(read(folder, "stead.kdl"), text, "{words:?}");
    }
    // What is in an included file is changed there.
    assert_eq!(stead(folder, &["set", "db.env.A", "x"], "").code, 0);
    assert_eq!(read(folder, "more/db.kdl"), MORE.replace("cmd \"y\"\n", "cmd \"y\"\n    env A=\"x\"\n"));
    assert_eq!(read(folder, "stead.kdl"), text);
    let ran = stead(folder, &["set", "db.env.A", "x"], "");
    assert_eq!((ran.code, ran.err.as_str()), (0, "more/db.kdl says so already\n"));
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

/// Every project file of the tests, the examples, the benchmarks and the README has a format that stays as it is; those
/// that people copy from have it already.
#[test]
fn every_project_file_has_a_format() {
    let mut all = Vec::new();
    for folder in ["tests", "examples", "benches", "src"] {
        files(Path::new(folder), "kdl", &mut all);
    }
    let mut formatted = 0;
    for path in &all {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let Some(new) = format(&text) else { continue };
        formatted += 1;
        assert_eq!(format(&new).as_ref(), Some(&new), "{}", path.display());
        if path.starts_with("examples") {
            assert_eq!(new, text, "{}: run `stead fmt` on it", path.display());
        }
    }
    assert!(formatted > 60, "{formatted} of {}", all.len());
    let readme = fs::read_to_string("README.md").unwrap();
    for block in readme.split("```kdl\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block) {
        let new = format(block).unwrap_or_else(|| panic!("{block}"));
        assert_eq!(format(&new).as_ref(), Some(&new), "{block}");
        assert!(new == block || !block.starts_with("project "), "the README shows the format: {new}");
    }
}

//! `stead.lock`: KDL with one line for each entry, in a stable order, so that diffs are small.

use super::{IndexLock, Lock, LockedPackage, StepLock, SuiteLock, sound};
use crate::model::kdl_text::{self, Kind, Limits, quoted};
use crate::model::{Digest, Name, PLATFORM, bounds};
use kdl::{KdlDocument, KdlNode};
use std::fmt::Write as _;

/// The limits for reading a lock.
const LIMITS: Limits = Limits { nesting: bounds::LOCK_NESTING, parts: bounds::LOCK_PARTS };

/// A lock that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct LockError {
    pub line: usize,
    pub message: String,
}

/// The text of a lock.
pub fn write(lock: &Lock) -> String {
    let mut out =
        format!("// Written by stead; commit it. `stead update` moves what it pins.\nlock version=1 epoch={}\n", lock.epoch);
    if !lock.images.is_empty() || !lock.remotes.is_empty() {
        out.push('\n');
    }
    for (reference, image) in &lock.images {
        for (platform, digest) in &image.platforms {
            let _ = write!(out, "reference {} platform={} digest=\"{digest}\"", quoted(reference), quoted(platform));
            if let Some(key) = &image.signed_by {
                let _ = write!(out, " signed-by=\"{key}\"");
            }
            out.push('\n');
        }
    }
    for (what, known) in &lock.remotes {
        let _ = writeln!(out, "remote {} is={}", quoted(what), quoted(known));
    }
    for (name, suite) in &lock.suites {
        let _ = writeln!(out, "\nsuite {} {{", quoted(name));
        for (archive, index) in &suite.indexes {
            let IndexLock { release, packages, date } = index;
            let _ = write!(out, "    index {} release=\"{}\" packages=\"{}\"", quoted(archive), release.hex(), packages.hex());
            if let Some(date) = date {
                let _ = write!(out, " date={date}");
            }
            out.push('\n');
        }
        for package in suite.packages.values() {
            let LockedPackage { name, version, architecture, sha256, size, path, repository } = package;
            let sha256 = sha256.hex();
            let _ = write!(
                out,
                "    package {} version={} architecture={} sha256=\"{sha256}\" size={size} path={}",
                quoted(name),
                quoted(version),
                quoted(architecture),
                quoted(path)
            );
            if let Some(repository) = repository {
                let _ = write!(out, " repository={}", quoted(repository));
            }
            out.push('\n');
        }
        out.push_str("}\n");
    }
    for ((image, index), step) in &lock.steps {
        let _ = writeln!(
            out,
            "\nimage \"{image}\" debian={index} suite={} request={} {{",
            quoted(&step.suite),
            quoted(&step.request)
        );
        for package in &step.packages {
            let _ = writeln!(out, "    use {}", quoted(package));
        }
        out.push_str("}\n");
    }
    out
}

/// Reads a lock.
///
/// # Errors
/// Fails with the wrong line and the reason: a conflict marker of a merge, a newer version, a damaged entry.
pub fn parse(text: &str) -> Result<Lock, LockError> {
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    if let Some(at) = text.lines().position(|line| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>")) {
        let message = "a merge left its conflict markers here; take either side, then run `stead update`".into();
        return Err(LockError { line: at + 1, message });
    }
    let document = kdl_text::read(text, LIMITS).map_err(|wrong| {
        let first = wrong.first();
        let message = match first.filter(|first| matches!(first.kind, Kind::TooDeep | Kind::TooMany)) {
            Some(first) => format!("{}, and no lock is like that; restore the file from git", first.message),
            None => "this is not KDL; restore the file, or delete it and run `stead update`".into(),
        };
        LockError { line: line_of(first.map_or(0, |first| first.offset)), message }
    })?;
    let mut lock = Lock::default();
    // An empty file, or one that has lost its beginning, must not count as a lock that pins nothing.
    if document.nodes().first().is_none_or(|node| node.name().value() != "lock") {
        let message = "the file does not begin with `lock version=1`: it is empty or cut off; restore it from git, \
                       or delete it and run `stead update`";
        return Err(LockError { line: 1, message: message.into() });
    }
    for node in document.nodes() {
        let damaged = || LockError {
            line: line_of(node.span().offset()),
            message: "this entry is damaged; restore the file from git".into(),
        };
        match node.name().value() {
            "lock" => {
                let version = node.get("version").and_then(kdl::KdlValue::as_integer);
                if version != Some(1) {
                    let message = "this lock was written by a newer stead; update stead".into();
                    return Err(LockError { line: line_of(node.span().offset()), message });
                }
                // In locks from before there was an epoch, the default one applies.
                if let Some(epoch) = node.get("epoch").and_then(kdl::KdlValue::as_integer) {
                    lock.epoch = i64::try_from(epoch).map_err(|_| damaged())?;
                }
            }
            "reference" => {
                let digest = |key: &str| {
                    word(node, key).map(|text| Digest::parse(text.trim_start_matches("sha256:")).ok_or_else(damaged)).transpose()
                };
                let image = lock.images.entry(word(node, 0).ok_or_else(damaged)?).or_default();
                // In locks from before there were several platforms, entries are for this one.
                let platform = word(node, "platform").unwrap_or_else(|| PLATFORM.to_owned());
                image.platforms.insert(platform, digest("digest")?.ok_or_else(damaged)?);
                image.signed_by = digest("signed-by")?;
            }
            "remote" => {
                lock.remotes.insert(word(node, 0).ok_or_else(damaged)?, word(node, "is").ok_or_else(damaged)?);
            }
            "suite" => {
                let (name, suite) = suite(node, &line_of).ok_or_else(damaged)??;
                lock.suites.insert(name, suite);
            }
            "image" => {
                let (key, step) = step(node).ok_or_else(damaged)?;
                lock.steps.insert(key, step);
            }
            _ => return Err(damaged()),
        }
    }
    Ok(lock)
}

fn word(node: &KdlNode, key: impl Into<kdl::NodeKey>) -> Option<String> {
    node.get(key).and_then(|value| value.as_string()).map(str::to_owned)
}

/// Reads a suite: `None` if it is damaged, and an error if no archive could list one of its packages.
fn suite(node: &KdlNode, line_of: &impl Fn(usize) -> usize) -> Option<Result<(String, SuiteLock), LockError>> {
    let mut suite = SuiteLock::default();
    for child in node.children().map_or(&[][..], KdlDocument::nodes) {
        match child.name().value() {
            "index" => {
                let index = IndexLock {
                    release: Digest::parse(&word(child, "release")?)?,
                    packages: Digest::parse(&word(child, "packages")?)?,
                    date: match child.get("date") {
                        Some(date) => Some(date.as_integer().and_then(|date| i64::try_from(date).ok())?),
                        None => None,
                    },
                };
                suite.indexes.insert(word(child, 0)?, index);
            }
            "package" => {
                let package = LockedPackage {
                    name: word(child, 0)?,
                    version: word(child, "version")?,
                    architecture: word(child, "architecture")?,
                    sha256: Digest::parse(&word(child, "sha256")?)?,
                    size: child.get("size")?.as_integer().and_then(|size| u64::try_from(size).ok())?,
                    path: word(child, "path")?,
                    repository: word(child, "repository"),
                };
                if let Err(why) = sound(&package) {
                    let message =
                        format!("{why}; no archive lists such a package, so somebody wrote it here: restore the file from git");
                    return Some(Err(LockError { line: line_of(child.span().offset()), message }));
                }
                suite.packages.insert(package.key(), package);
            }
            _ => return None,
        }
    }
    Some(Ok((word(node, 0)?, suite)))
}

/// The line of a package of a suite in the text of a lock.
pub fn line_of(text: &str, suite: &str, key: &str) -> Option<usize> {
    let document = kdl_text::read(text, LIMITS).ok()?;
    let suites = document.nodes().iter().filter(|node| node.name().value() == "suite" && word(node, 0).as_deref() == Some(suite));
    let packages = suites.filter_map(KdlNode::children).flat_map(KdlDocument::nodes);
    let found = packages
        .filter(|node| node.name().value() == "package")
        .find(|node| key == format!("{}={}", word(node, 0).unwrap_or_default(), word(node, "version").unwrap_or_default()));
    found.map(|node| text[..node.span().offset().min(text.len())].matches('\n').count() + 1)
}

fn step(node: &KdlNode) -> Option<((Name, usize), StepLock)> {
    let mut step =
        StepLock { suite: word(node, "suite")?, request: word(node, "request")?, packages: std::collections::BTreeSet::new() };
    for child in node.children().map_or(&[][..], KdlDocument::nodes) {
        step.packages.insert(word(child, 0)?);
    }
    let index = node.get("debian")?.as_integer().and_then(|index| usize::try_from(index).ok())?;
    Some(((Name::parse(&word(node, 0)?).ok()?, index), step))
}

#[cfg(test)]
mod tests {
    use super::super::LockedImage;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let package = LockedPackage {
            name: "nginx".into(),
            version: "1.22.1-9".into(),
            architecture: "amd64".into(),
            sha256: Digest::of("x"),
            size: 7,
            path: "pool/main/n/nginx.deb".into(),
            repository: Some("https://example.org/debian".into()),
        };
        let index = IndexLock { release: Digest::of("r"), packages: Digest::of("p"), date: Some(1_783_764_997) };
        let suite =
            SuiteLock { indexes: [("bookworm/main".into(), index)].into(), packages: [(package.key(), package.clone())].into() };
        let step = StepLock { suite: "bookworm".into(), request: "0123".into(), packages: [package.key()].into() };
        let lock = Lock {
            epoch: 7,
            images: [(
                "redis:7".into(),
                LockedImage {
                    platforms: [("linux/amd64".into(), Digest::of("m")), ("linux/arm64/v8".into(), Digest::of("n"))].into(),
                    signed_by: Some(Digest::of("k")),
                },
            )]
            .into(),
            remotes: [("https://x/y#main".into(), "c".repeat(40))].into(),
            suites: [("bookworm".into(), suite)].into(),
            steps: [((Name::parse("app").unwrap(), 0), step)].into(),
        };
        assert_eq!(parse(&write(&lock)), Ok(lock));
    }

    #[test]
    fn locks_from_before_dates_were_kept_are_read_and_written_as_they_are() {
        let digest = Digest::of("x").hex();
        let text = format!(
            "// Written by stead; commit it. `stead update` moves what it pins.\nlock version=1 epoch=7\n\nsuite \"test\" {{\n    \
             index \"test/main\" release=\"{digest}\" packages=\"{digest}\"\n}}\n"
        );
        let lock = parse(&text).unwrap();
        assert_eq!(lock.suites["test"].indexes["test/main"].date, None);
        assert_eq!(write(&lock), text);
        assert!(parse(&text.replace("\"\n}", "\" date=\"soon\"\n}")).unwrap_err().message.contains("damaged"));
    }

    #[test]
    fn locks_of_the_examples_are_read() {
        for text in [include_str!("../../examples/hello/stead.lock"), include_str!("../../examples/shop/stead.lock")] {
            assert!(!parse(text).unwrap().suites["bookworm"].packages.is_empty());
        }
    }

    #[test]
    fn packages_that_no_archive_lists_are_refused_with_their_line() {
        let lock = |name: &str, version: &str, architecture: &str, path: &str| {
            let digest = Digest::of("x").hex();
            let package = format!(
                "package {name:?} version={version:?} architecture={architecture:?} sha256=\"{digest}\" size=7 path={path:?}"
            );
            format!("lock version=1\nsuite \"test\" {{\n    {package}\n}}\n")
        };
        let good = lock("libc++1-x", "1:2.0~rc1+b1-2", "amd64", "pool/main/x.deb");
        assert!(parse(&good).is_ok());
        assert_eq!(line_of(&good, "test", "libc++1-x=1:2.0~rc1+b1-2"), Some(3));
        assert_eq!(line_of(&good, "test", "other=1"), None);
        for (name, version, architecture, path, told) in [
            ("x", "1", "all", "/etc/shadow", "leads out"),
            ("x", "1", "all", "pool/../../x.deb", "leads out"),
            ("x", "1", "all", "pool//x.deb", "leads out"),
            ("x", "1", "all", "pool/x.deb/", "leads out"),
            ("x", "1", "all", "", "leads out"),
            ("x", "1", "all", "a\\b.deb?x", "leads out"),
            ("../x", "1", "all", "x.deb", "name"),
            ("x;y", "1", "all", "x.deb", "name"),
            ("-x", "1", "all", "x.deb", "name"),
            ("x", "$(y)", "all", "x.deb", "version"),
            ("x", "1", "a/b", "x.deb", "architecture"),
        ] {
            let error = parse(&lock(name, version, architecture, path)).unwrap_err();
            assert!(error.line == 3 && error.message.contains(told), "{name} {version} {architecture} {path}: {error:?}");
        }
    }

    #[test]
    fn damage_is_told_with_its_line() {
        assert_eq!(parse("lock version=1\n<<<<<<< HEAD\n").unwrap_err().line, 2);
        let deep = format!("lock version=1\n{}", "a {".repeat(5000));
        assert!(parse(&deep).is_err_and(|error| error.line == 2 && error.message.contains("deeper")));
        let taken_out = format!("lock version=1\n{}{}", "a /- {".repeat(22), "}".repeat(22));
        assert!(parse(&taken_out).is_err_and(|error| error.line == 2 && error.message.contains("deeper")));
        assert!(parse("lock version=2").unwrap_err().message.contains("newer"));
        assert!(parse("lock version=1\nimage \"a\"").unwrap_err().message.contains("damaged"));
    }
}

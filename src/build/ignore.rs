//! Ignore files, which list what is not copied.

use crate::model::{Pattern, bounds, text_of};
use crate::project::BuildContext;
use crate::sys::{ProjectFiles, Unread};
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Patterns of `.steadignore` and `.dockerignore`, in order; the last pattern that matches decides.
#[derive(Debug, Default)]
pub struct Ignore {
    /// Whether each hides what it matches, and the pattern.
    patterns: Vec<(bool, Pattern)>,
    /// The patterns that match only one path, by that path.
    literals: HashMap<String, Vec<usize>>,
    /// The others by the last byte of what they match, and those that have none in common under `None`: most paths are told
    /// apart by it.
    others: HashMap<Option<u8>, Vec<usize>>,
    pub has_exceptions: bool,
    /// What is known of directories.
    folders: Mutex<HashMap<String, Arc<Matched>>>,
}

/// Equal ones leave out the same files.
impl PartialEq for Ignore {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Ignore {}

/// The result for one path.
#[derive(Debug, Default)]
struct Matched {
    hidden: bool,
    /// The patterns that matched, in order. They match all that is below, too.
    by: Vec<usize>,
}

impl Ignore {
    /// Reads a directory's own ignore files.
    ///
    /// # Errors
    /// Fails when an ignore file exists but cannot be read: what it would have left out must not be copied.
    pub fn read(files: &ProjectFiles) -> Result<Self, String> {
        let mut ignore = Self::default();
        for name in [".dockerignore", ".steadignore"] {
            ignore.file(files, name)?;
        }
        Ok(ignore)
    }

    /// Reads the ignore file of a Dockerfile's context: the file beside the Dockerfile, or else the context's own.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn of(folder: &Path, context: Option<&BuildContext>) -> Result<Self, String> {
        let files = ProjectFiles::at(folder).map_err(|error| format!("cannot open the project's directory: {error}"))?;
        let Some(context) = context else { return Self::read(&files) };
        let mut ignore = Self::default();
        if !ignore.file(&files, &context.ignore)? {
            ignore.file(&files, format!("{}/.dockerignore", context.folder).trim_start_matches('/'))?;
        }
        Ok(ignore)
    }

    /// Takes patterns as in a `.gitignore`: one without a `/` in it matches at any depth, others from the top.
    ///
    /// # Errors
    /// Fails at a text that is no pattern.
    pub fn like_git(patterns: &[String]) -> Result<Self, String> {
        let mut ignore = Self::default();
        for pattern in patterns {
            let (sign, text) = pattern.strip_prefix('!').map_or(("", pattern.as_str()), |text| ("!", text));
            let is_anchored = text.trim_end_matches('/').contains('/');
            let text = text.trim_start_matches('/');
            let whole = if is_anchored { format!("{sign}{text}") } else { format!("{sign}**/{text}") };
            ignore.add("the pattern", &whole)?;
        }
        Ok(ignore)
    }

    /// Adds the patterns of a file; returns whether the file exists.
    fn file(&mut self, files: &ProjectFiles, name: &str) -> Result<bool, String> {
        let failed = |why: &dyn Display, help: &str| Err(format!("cannot read {name}, and so nothing is copied: {why}\n{help}"));
        let bytes = match files.own(name, bounds::IGNORE_FILE) {
            Ok(bytes) => bytes,
            Err(Unread::Absent) => match files.is_link(name) {
                Ok(false) => return Ok(false),
                Ok(true) => return failed(&"it is a link to a file that is not there", "make that file, or remove the link"),
                Err(why) => return failed(&why, way_out(&why)),
            },
            Err(why) => return failed(&why, way_out(&why)),
        };
        let not_text = "the rest of the file counts only if all of it is text; for a name that is not UTF-8 write `*`";
        self.add(name, &text_of(name, bytes).map_err(|why| format!("{why}\n{not_text}"))?)?;
        Ok(true)
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let before = self.patterns.len();
        for (number, line) in text.lines().enumerate() {
            // Only a `#` at the very beginning makes a comment.
            let comment = line.starts_with('#');
            let line = line.trim();
            if line.is_empty() || comment {
                continue;
            }
            let wrong = |why: String| Err(format!("{name}:{}: {why}", number + 1));
            if line.len() > bounds::PATTERN {
                return wrong(format!("a pattern has at most {} bytes", bounds::PATTERN));
            }
            if self.patterns.len() - before >= bounds::IGNORE_PATTERNS {
                return wrong(format!("an ignore file has at most {} patterns", bounds::IGNORE_PATTERNS));
            }
            let (hides, text) = line.strip_prefix('!').map_or((true, line), |text| (false, text.trim()));
            if text.is_empty() {
                return wrong("`!` needs a pattern behind it".into());
            }
            let Some(pattern) = Pattern::parse(&clean(text)) else {
                return wrong(format!("{text:?} is not a pattern: it has a class without end or content, or a \\ at its end"));
            };
            self.has_exceptions |= !hides;
            let at = self.patterns.len();
            match pattern.literal() {
                Some(path) => self.literals.entry(path.to_owned()).or_default().push(at),
                None => self.others.entry(pattern.last_byte()).or_default().push(at),
            }
            self.patterns.push((hides, pattern));
        }
        Ok(())
    }

    /// Whether a path is ignored, itself or by one of its parent directories.
    pub fn hides(&self, path: &str) -> bool {
        !self.patterns.is_empty() && self.matched(path, &self.above(path)).hidden
    }

    /// The result for the directory that a path is in.
    fn above(&self, path: &str) -> Arc<Matched> {
        let Some((folder, _)) = path.rsplit_once('/') else { return Arc::default() };
        let known = |folders: MutexGuard<'_, HashMap<String, Arc<Matched>>>| folders.get(folder).cloned();
        if let Some(found) = known(self.folders()) {
            return found;
        }
        let found = Arc::new(self.matched(folder, &self.above(folder)));
        self.folders().insert(folder.to_owned(), found.clone());
        found
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<String, Arc<Matched>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result for a path, as BuildKit finds it (moby/patternmatcher, `MatchesUsingParentResults`): a pattern that cannot
    /// change the result is not looked at, and so does not count for what is below either.
    fn matched(&self, path: &str, above: &Matched) -> Matched {
        let own = self.literals.get(path).into_iter().flatten().copied();
        let ends = [None, path.bytes().last()];
        let others = ends.iter().filter_map(|end| self.others.get(end)).flatten().copied();
        let others = others.filter(|at| self.patterns[*at].1.matches(path));
        let mut candidates: Vec<usize> = own.chain(others).chain(above.by.iter().copied()).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut result = Matched::default();
        for at in candidates {
            let hides = self.patterns[at].0;
            if hides != result.hidden || above.by.binary_search(&at).is_ok() {
                result.by.push(at);
                result.hidden = hides;
            }
        }
        result
    }
}

/// What to do about an ignore file that cannot be read. What it leaves out could be secret, so it is never passed over.
fn way_out(why: &Unread) -> &'static str {
    match why {
        Unread::Denied => "let whoever runs stead read it: chmod a+r",
        Unread::LeadsOut => "put a copy of the file in its place",
        Unread::Folder => "rename the directory, and put a file with patterns in its place if something is to be left out",
        Unread::TooLong(_) => "leave out whole directories: a pattern such as `build` is for all that is below",
        Unread::Absent | Unread::Special(_) | Unread::Other(_) => "put a file with patterns in its place, or remove it",
    }
}

/// The path of a pattern as Go's `filepath.Clean` gives it, without a slash in front.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            // Nothing is above the top of an absolute path; a relative one keeps what leads out of it.
            ("..", None) if text.starts_with('/') => {}
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(lines: &str, path: &str) -> bool {
        let mut ignore = Ignore::default();
        ignore.add(".dockerignore", lines).unwrap();
        ignore.hides(path)
    }

    #[test]
    fn the_last_pattern_that_matches_decides_as_for_docker() {
        for (lines, path, wanted) in [
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
            ("**\n!dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", false),
            ("dir", "dir/below/file", true),
            ("dir\n!dir/below", "dir/below/file", false),
            ("!dir/below\ndir", "dir/below/file", true),
            // The second `foo` cannot change the result for the directory, so it does not count for the file.
            ("foo\n!foo/bar\nfoo", "foo/bar", false),
            ("foo\n!foo/bar\nfoo/*", "foo/bar", true),
            ("./a/../b//c/", "b/c", true),
            ("/b", "b", true),
            ("/../b", "b", true),
            ("../b", "b", false),
            ("b/", "b", true),
            (" b \r\n", "b", true),
            ("#b", "#b", false),
            (" #b", "#b", true),
            ("*\n! b", "b", false),
            (".", "b", false),
            ("a\\*", "a*", true),
            ("**/*.py\n!keep.py", "x/keep.py", true),
        ] {
            assert_eq!(hides(lines, path), wanted, "{lines:?} {path}");
        }
    }

    #[test]
    fn patterns_like_gits_match_at_any_depth_or_from_the_top() {
        for (patterns, path, wanted) in [
            (&["*.log"][..], "a/b/c.log", true),
            (&["node_modules/"], "x/node_modules/y", true),
            (&["/dist"], "dist/a", true),
            (&["/dist"], "x/dist", false),
            (&["a/b"], "x/a/b", false),
            (&["*.log", "!keep.log"], "a/keep.log", false),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(Ignore::like_git(&patterns).unwrap().hides(path), wanted, "{patterns:?} {path}");
        }
        assert!(Ignore::like_git(&["[".to_owned()]).is_err());
    }

    #[test]
    fn an_ignore_file_that_cannot_be_read_is_told_with_cause_and_way_out() {
        use std::fs;
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ctx")).unwrap();
        let context = BuildContext { folder: "ctx".into(), ignore: "Dockerfile.dockerignore".into() };
        for (context, name) in [
            (None, ".dockerignore"),
            (None, ".steadignore"),
            (Some(&context), "ctx/.dockerignore"),
            (Some(&context), "Dockerfile.dockerignore"),
        ] {
            let path = folder.path().join(name);
            let told = |why: &str, help: &str| {
                let error = Ignore::of(folder.path(), context).unwrap_err();
                let (message, advice) = error.split_once('\n').unwrap();
                assert!(message.contains(name) && message.contains(why) && advice.contains(help), "{error}");
            };
            assert!(Ignore::of(folder.path(), context).is_ok());
            fs::create_dir(&path).unwrap();
            told("it is a directory", "rename the directory");
            fs::remove_dir(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            told("it is a FIFO", "with patterns");
            fs::remove_file(&path).unwrap();
            for (target, why, help) in [
                ("nowhere", "not there", "remove the link"),
                ("/etc/hostname", "leads out", "a copy"),
                (name, "", "or remove it"),
            ] {
                let target = if target == name { path.file_name().unwrap().to_str().unwrap() } else { target };
                symlink(target, &path).unwrap();
                told(why, help);
                fs::remove_file(&path).unwrap();
            }
            fs::write(&path, b"a\n\xe9\n").unwrap();
            told(":2: this is not UTF-8", "write `*`");
            if !nix::unistd::geteuid().is_root() {
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
                told("permission denied", "chmod a+r");
            }
            fs::write(&path, "a\n").or_else(|_| fs::remove_file(&path)).unwrap();
            assert!(Ignore::of(folder.path(), context).is_ok());
        }
    }

    #[test]
    fn what_is_no_pattern_has_a_line() {
        for (lines, told) in [
            ("a\n!\n", ".dockerignore:2: `!` needs a pattern behind it"),
            ("# b\n[a", ".dockerignore:2: \"[a\" is not a pattern"),
            ("a[]b", ".dockerignore:1: \"a[]b\" is not a pattern"),
        ] {
            let error = Ignore::default().add(".dockerignore", lines).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}

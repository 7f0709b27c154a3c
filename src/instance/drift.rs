//! Drift: what live syncs have made different in a container from its image.
//!
//! The record lies beside the container's root and ends with it. A line is added before the files are written, so that it never
//! misses one: whoever reads it may replace a container that is equal to its image, but never keeps one that is not.

use super::identity::Instance;
use crate::model::{Context, Digest, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// The first line of a record: the version of the format.
const FORM: &str = "{\"drift\":1}\n";

/// The paths of a container that differ from its image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drift {
    files: BTreeMap<String, Now>,
}

/// What a path of a container is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now {
    File(Digest),
    Gone,
    /// The same as in the image again.
    AsImage,
}

/// A line of the record.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The path as it is spelled.
    path: String,
    now: Now,
}

fn place(instance: &Instance, replica: &str, generation: u64) -> PathBuf {
    instance.root(replica, generation).join("drift.jsonl")
}

impl Drift {
    /// Reads the record of a replica; without one it is equal to its image.
    ///
    /// # Errors
    /// Fails when the record is damaged or cannot be read.
    pub fn read(instance: &Instance, replica: &str, generation: u64) -> Result<Self> {
        let path = place(instance, replica, generation);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).context(|| format!("cannot read {}", path.display())),
        };
        let mut drift = Self::default();
        // A last line without an end was being written: what it names was not yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let Some(lines) = whole.strip_prefix(FORM) else {
            return if whole.is_empty() { Ok(drift) } else { Err(damaged(&path, "its first line is of another format")) };
        };
        for line in lines.lines() {
            let line: Line = serde_json::from_str(line).map_err(|error| damaged(&path, &error.to_string()))?;
            drift.take(line.path, line.now);
        }
        Ok(drift)
    }

    fn take(&mut self, path: String, now: Now) {
        match now {
            Now::AsImage => drop(self.files.remove(&path)),
            _ => drop(self.files.insert(path, now)),
        }
    }

    /// Adds what is about to be written into a replica, or what is as in its image again, to the record.
    ///
    /// # Errors
    /// Fails when it cannot be written: then nothing may be synced.
    pub fn add(&mut self, instance: &Instance, replica: &str, generation: u64, news: Vec<(String, Now)>) -> Result<()> {
        if news.is_empty() {
            return Ok(());
        }
        let path = place(instance, replica, generation);
        let mut text = String::new();
        for (path, now) in news {
            let line = Line { path, now };
            text += &serde_json::to_string(&line).context(|| "cannot record what is synced".into())?;
            text.push('\n');
            self.take(line.path, now);
        }
        let failed = |error| crate::store::disk_error(&format!("cannot write {}", path.display()), error);
        if self.files.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let write = || {
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            let head = if mend(&mut file)? { FORM } else { "" };
            file.write_all(format!("{head}{text}").as_bytes())
        };
        write().map_err(failed)
    }

    /// The paths that differ, each with what it is now.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Now)> {
        self.files.iter().map(|(path, now)| (path.as_str(), now))
    }

    /// Removes the record of a replica: it is equal to the image that it has on record now.
    ///
    /// # Errors
    /// Fails when it cannot be removed.
    pub fn forget(instance: &Instance, replica: &str, generation: u64) -> Result<()> {
        let path = place(instance, replica, generation);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a path differs.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// How many paths differ.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// A digest of what differs.
    pub fn digest(&self) -> Digest {
        let lines = self.files.iter().map(|(path, now)| match now {
            Now::File(digest) => format!("{digest} {path}\n"),
            Now::Gone | Now::AsImage => format!("- {path}\n"),
        });
        Digest::of(lines.collect::<String>())
    }
}

/// Removes a line that was cut off. Returns whether nothing is left.
fn mend(file: &mut File) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] {
        return Ok(length == 0);
    }
    let mut all = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut all)?;
    let whole = all.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(u64::try_from(whole).unwrap_or(length))?;
    Ok(whole == 0)
}

fn damaged(path: &std::path::Path, why: &str) -> Error {
    Error::new(format!("the record of what was synced is damaged: {} ({why})", path.display()))
        .hint("`stead rm --force NAME` removes the container with it; `stead up` makes it anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Home;

    #[test]
    fn the_last_line_of_a_path_counts_and_one_that_was_cut_off_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::new(&Home::find(Some(&folder.path().join("root"))), folder.path(), "stead.kdl");
        let path = place(&instance, "c-1", 1);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let read = || Drift::read(&instance, "c-1", 1);
        let mut drift = read().unwrap();
        assert_eq!(drift.count(), 0);
        let file = |text: &str| Now::File(Digest::of(text));
        drift.add(&instance, "c-1", 1, vec![("/a".into(), file("1")), ("/b".into(), Now::Gone)]).unwrap();
        drift.add(&instance, "c-1", 1, vec![("/a".into(), file("2"))]).unwrap();
        assert_eq!(read().unwrap(), drift);
        let digest = drift.digest();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"path\":\"/c").unwrap();
        assert_eq!(read().unwrap().digest(), digest);
        drift.add(&instance, "c-1", 1, vec![("/b".into(), Now::Gone)]).unwrap();
        assert_eq!(read().unwrap().digest(), digest, "a line that was cut off is removed before the next");
        drift.add(&instance, "c-1", 1, vec![("/a".into(), Now::AsImage), ("/b".into(), Now::AsImage)]).unwrap();
        assert!(!path.exists() && read().unwrap().count() == 0);
        for text in ["", "{\"dri"] {
            std::fs::write(&path, text).unwrap();
            read().unwrap().add(&instance, "c-1", 1, vec![("/b".into(), Now::Gone)]).unwrap();
            assert_eq!(read().unwrap().count(), 1, "a first line that was cut off is written again");
        }
        for text in ["nonsense\n", "{\"drift\":2}\n", &format!("{FORM}nonsense\n")] {
            std::fs::write(&path, text).unwrap();
            assert!(read().is_err(), "{text}");
        }
    }
}

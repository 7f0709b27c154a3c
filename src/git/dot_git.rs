//! Makes a `.git` directory beside a commit's files, with the same bytes each time for the same commit.
//!
//! It is a shallow repository of one commit (gitrepository-layout). Its objects are loose and not compressed,
//! because the output of a compression library may differ from version to version. The index has only the names,
//! modes and ids of the files; git reads the rest from the files when it needs it (gitformat-index).

use super::object::{Id, Kind, Objects, hex};
use super::pack::Pack;
use super::{FOLDER, MODULE, admit, entries};
use crate::model::{Context, Result};
use sha1_checked::{Digest, Sha1};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Writes the `.git` directory of a commit whose files are already there.
///
/// # Errors
/// Fails when an object is missing, a file cannot be read, or something cannot be written.
pub fn write(objects: &mut Pack, commit: &Id, tree: Id, url: &str, into: &Path) -> Result<()> {
    let own = into.join(".git");
    let failed = || format!("cannot write {}", own.display());
    for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(own.join(folder)).context(failed)?;
    }
    let text = objects.get(commit, Kind::Commit).context(failed)?;
    loose(&own, commit, "commit", text.len() as u64, &*text).context(failed)?;
    let has_parents =
        text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()).any(|line| line.starts_with(b"parent "));
    let mut files = vec![
        ("HEAD", format!("{}\n", hex(commit))),
        (
            "config",
            format!(
                "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
                quoted(url)
            ),
        ),
    ];
    if has_parents {
        files.push(("shallow", format!("{}\n", hex(commit))));
    }
    for (name, content) in files {
        fs::write(own.join(name), content).context(failed)?;
    }
    let mut listed = Vec::new();
    let mut folders = vec![(tree, PathBuf::new())];
    let budget = objects.budget();
    while let Some((tree, folder)) = folders.pop() {
        let content = objects.get(&tree, Kind::Tree).context(failed)?;
        loose(&own, &tree, "tree", content.len() as u64, &*content).context(failed)?;
        for entry in entries(&content).context(failed)? {
            let path = folder.join(OsStr::from_bytes(entry.name));
            admit(&path, entry.name, &budget)?;
            if entry.mode & 0o170_000 == FOLDER {
                folders.push((entry.id, path));
                continue;
            }
            if entry.mode & 0o170_000 == MODULE {
                listed.push((path, MODULE, entry.id));
                continue;
            }
            let place = into.join(&path);
            if entry.mode & 0o170_000 == 0o120_000 {
                let target = fs::read_link(&place).context(failed)?.into_os_string().into_vec();
                loose(&own, &entry.id, "blob", target.len() as u64, &*target).context(failed)?;
                listed.push((path, 0o120_000, entry.id));
            } else {
                let file = File::open(&place).context(failed)?;
                loose(&own, &entry.id, "blob", file.metadata().context(failed)?.len(), file).context(failed)?;
                listed.push((path, if entry.mode & 0o100 == 0 { 0o100_644 } else { 0o100_755 }, entry.id));
            }
        }
    }
    fs::write(own.join("index"), index(listed)).context(failed)
}

/// Quotes any value for git's configuration (git-config, "Syntax").
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Writes an object, unless it exists already, as a zlib stream of stored blocks (RFC 1950, RFC 1951 3.2.4).
fn loose(own: &Path, id: &Id, kind: &str, size: u64, content: impl Read) -> io::Result<()> {
    const LONGEST: usize = 65535;
    let name = hex(id);
    let place = own.join("objects").join(&name[..2]).join(&name[2..]);
    if place.exists() {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let head = format!("{kind} {size}\0");
    let mut left = size.saturating_add(head.len() as u64);
    let mut content = head.as_bytes().chain(content);
    let mut out = BufWriter::new(File::create_new(&place)?);
    out.write_all(&[0x78, 0x01])?;
    let (mut low, mut high) = (1u32, 0u32);
    let mut block = vec![0; LONGEST];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(LONGEST).min(LONGEST);
        content.read_exact(&mut block[..length])?;
        left -= length as u64;
        let stored = u16::try_from(length).unwrap_or(u16::MAX);
        out.write_all(&[u8::from(left == 0)])?;
        out.write_all(&stored.to_le_bytes())?;
        out.write_all(&(!stored).to_le_bytes())?;
        out.write_all(&block[..length])?;
        for byte in &block[..length] {
            low = (low + u32::from(*byte)) % 65521;
            high = (high + low) % 65521;
        }
    }
    out.write_all(&(high << 16 | low).to_be_bytes())?;
    out.flush()
}

/// Makes the index of the files, as `git read-tree` writes it.
fn index(mut files: Vec<(PathBuf, u32, Id)>) -> Vec<u8> {
    files.sort_by(|(one, ..), (other, ..)| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    let mut out = b"DIRC\0\0\0\x02".to_vec();
    out.extend(u32::try_from(files.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (path, mode, id) in files {
        let (name, start) = (path.as_os_str().as_bytes(), out.len());
        // Times, device, inode, owner and size stay zero.
        out.extend([0; 24]);
        out.extend(mode.to_be_bytes());
        out.extend([0; 12]);
        out.extend(id);
        out.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).min(0xfff).to_be_bytes());
        out.extend(name);
        // One to eight NULs follow.
        let length = (out.len() - start + 8) / 8 * 8;
        out.resize(start + length, 0);
    }
    let sum = Sha1::digest(&out);
    out.extend(sum);
    out
}

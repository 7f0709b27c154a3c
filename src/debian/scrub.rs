//! Removes what packages' scripts leave that differs from run to run: logs, caches, machine ids, dates.
//!
//! The list is of what makes installations differ (Debian wiki, "ReproducibleInstalls").

use super::inside::{Folder, Inside, Kind};
use crate::model::bounds::debian as limits;
use crate::model::{Context, Result};
use std::ffi::OsStr;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Files that are removed.
const GONE: [&str; 15] = [
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
    "var/cache/debconf/passwords.dat",
];

/// Directories whose files are removed.
const EMPTIED: [&str; 4] = ["var/log/apt", "var/cache/fontconfig", "var/cache/man", "var/lib/dpkg/updates"];

/// Scrubs a tree; links in it are never followed.
///
/// # Errors
/// Fails when something cannot be read or written.
pub fn scrub(tree: &Path, epoch: i64) -> Result<()> {
    scrub_inside(tree, epoch).context(|| "cannot scrub what scripts left".to_owned())
}

fn scrub_inside(tree: &Path, epoch: i64) -> io::Result<()> {
    let tree = Inside::open(tree)?;
    for path in GONE {
        let (folder, name) = split(path);
        let Some(folder) = tree.plain_folder(folder)? else { continue };
        if folder.kind(name)?.is_some_and(|kind| kind != Kind::Whiteout) {
            folder.remove(name)?;
        }
    }
    for path in EMPTIED {
        if let Some(folder) = tree.plain_folder(path)? {
            clear(&folder)?;
        }
    }
    for path in ["var/lib/dpkg", "var/cache/debconf"] {
        let Some(folder) = tree.plain_folder(path)? else { continue };
        for name in folder.names()?.iter().filter(|name| name.to_string_lossy().ends_with("-old")) {
            folder.remove(name)?;
        }
    }
    if let Some(logs) = tree.plain_folder("var/log")? {
        truncate(&logs)?;
        for name in ["dpkg.log", "alternatives.log", "bootstrap.log", "fontconfig.log"].map(OsStr::new) {
            if logs.kind(name)?.is_some_and(|kind| kind != Kind::Folder) {
                logs.remove(name)?;
            }
        }
    }
    let Some(folder) = tree.plain_folder("etc")? else { return Ok(()) };
    let (machine, shadow) = (OsStr::new("machine-id"), OsStr::new("shadow"));
    if folder.kind(machine)? == Some(Kind::File) {
        folder.file(machine)?.set_len(0)?;
    }
    if folder.kind(shadow)? == Some(Kind::File) {
        let mut file = folder.file(shadow)?;
        let mut text = String::new();
        (&mut file).take(limits::TEXT + 1).read_to_string(&mut text)?;
        if text.len() as u64 > limits::TEXT {
            return Err(io::Error::other(format!("/etc/shadow has more than {} bytes", limits::TEXT)));
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(days(&text, epoch / 86_400).as_bytes())?;
    }
    Ok(())
}

fn split(path: &str) -> (&str, &OsStr) {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    (folder, OsStr::new(name))
}

/// Removes the files below a directory.
fn clear(folder: &Folder) -> io::Result<()> {
    for name in folder.names()? {
        match folder.kind(&name)? {
            Some(Kind::Folder) => clear(&folder.folder(&name)?)?,
            Some(_) => folder.remove(&name)?,
            None => {}
        }
    }
    Ok(())
}

/// Truncates the files below a directory, so that logs keep their owners.
fn truncate(folder: &Folder) -> io::Result<()> {
    for name in folder.names()? {
        match folder.kind(&name)? {
            Some(Kind::Folder) => truncate(&folder.folder(&name)?)?,
            Some(Kind::File) => folder.file(&name)?.set_len(0)?,
            _ => {}
        }
    }
    Ok(())
}

/// Sets the days of passwords' last changes (shadow(5), third field) to that of the epoch.
fn days(shadow: &str, day: i64) -> String {
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields.get(2).is_some_and(|field| !field.is_empty()) {
            fields[2] = day.to_string();
        }
        fields.join(":") + "\n"
    };
    shadow.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_of_one_run_goes_and_the_rest_stays() {
        let tree = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let place = tree.path().join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        };
        for path in [
            "etc/passwd",
            "etc/passwd-",
            "var/log/nginx/access.log",
            "var/log/dpkg.log",
            "var/log/apt/term.log",
            "var/lib/dpkg/status",
            "var/lib/dpkg/status-old",
        ] {
            write(path, "text");
        }
        write("etc/machine-id", "0123\n");
        write("etc/shadow", "root:*:20000:0:99999:7:::\nx:!::::::\n");
        fs::write(outside.path().join("aux-cache"), "host").unwrap();
        fs::create_dir_all(tree.path().join("var/cache")).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.path().join("var/cache/ldconfig")).unwrap();
        nix::unistd::mkfifo(&tree.path().join("var/log/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(outside.path().join("aux-cache"), tree.path().join("var/log/link")).unwrap();
        scrub(tree.path(), 86_400 * 5).unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("aux-cache")).unwrap(), "host", "a link was followed");
        let read = |path: &str| fs::read_to_string(tree.path().join(path)).ok();
        assert_eq!(read("etc/shadow").unwrap(), "root:*:5:0:99999:7:::\nx:!::::::\n");
        assert_eq!(read("etc/machine-id").as_deref(), Some(""));
        assert_eq!(read("var/log/nginx/access.log").as_deref(), Some(""));
        for path in ["etc/passwd-", "var/log/dpkg.log", "var/log/apt/term.log", "var/lib/dpkg/status-old"] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(read("etc/passwd").is_some() && read("var/lib/dpkg/status").is_some());
        assert!(outside.path().join("aux-cache").exists(), "a link was followed");
    }
}

//! What packages' scripts leave that is of this run only: logs, caches, numbers of this machine, days.
//!
//! The list follows what makes installations differ (Debian wiki, "ReproducibleInstalls").

use crate::image::is_whiteout;
use crate::model::{Context, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

/// Files that go.
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

/// Folders whose files go.
const EMPTIED: [&str; 4] = ["var/log/apt", "var/cache/fontconfig", "var/cache/man", "var/lib/dpkg/updates"];

/// Scrubs a tree; links in it are never followed.
///
/// # Errors
/// Those of reading and writing.
pub fn scrub(tree: &Path, epoch: i64) -> Outcome<()> {
    let failed = || "cannot scrub what scripts left".to_owned();
    let inside = |path: &str| -> Option<PathBuf> {
        // A link on the way would lead to the host.
        let parent = Path::new(path).parent()?;
        let mut place = tree.to_owned();
        for part in parent {
            place.push(part);
            fs::symlink_metadata(&place).ok().filter(fs::Metadata::is_dir)?;
        }
        Some(place.join(Path::new(path).file_name()?))
    };
    for path in GONE {
        if let Some(place) =
            inside(path).filter(|place| fs::symlink_metadata(place).is_ok_and(|metadata| !is_whiteout(&metadata)))
        {
            fs::remove_file(&place).doing(failed)?;
        }
    }
    for path in EMPTIED {
        let Some(folder) = inside(path).filter(|place| fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir()))
        else {
            continue;
        };
        clear(&folder).doing(failed)?;
    }
    for folder in ["var/lib/dpkg", "var/cache/debconf"] {
        let Some(folder) = inside(&format!("{folder}/x")).and_then(|place| place.parent().map(Path::to_owned)) else { continue };
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-old") {
                fs::remove_file(entry.path()).doing(failed)?;
            }
        }
    }
    if let Some(logs) = inside("var/log/x").and_then(|place| place.parent().map(Path::to_owned)) {
        truncate(&logs).doing(failed)?;
        for name in ["dpkg.log", "alternatives.log", "bootstrap.log", "fontconfig.log"] {
            let _ = fs::remove_file(logs.join(name));
        }
    }
    if let Some(place) =
        inside("etc/machine-id").filter(|place| fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_file()))
    {
        fs::write(place, "").doing(failed)?;
    }
    if let Some(place) = inside("etc/shadow").filter(|place| fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_file()))
    {
        let text = fs::read_to_string(&place).doing(failed)?;
        fs::write(place, days(&text, epoch / 86_400)).doing(failed)?;
    }
    Ok(())
}

/// Removes the files below a folder.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { clear(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// Empties the files below a folder: who owns a log stays.
fn truncate(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            truncate(&entry.path())?;
        } else if kind.is_file() {
            fs::File::create(entry.path())?;
        }
    }
    Ok(())
}

/// The days of passwords' last changes (shadow(5), third field) are those of the epoch.
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
        scrub(tree.path(), 86_400 * 5).unwrap();
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

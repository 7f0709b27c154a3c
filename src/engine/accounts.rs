//! The names of the user that a shell runs as: programs look them up in the container's own /etc/passwd and /etc/group.
//!
//! An image seldom knows the number of whoever works on a project, so a shell gets copies of these files with one line more.
//! The copies lie beside the container and end with it; the image and the container's root stay as they are.

use super::caller::Caller;
use crate::build::View;
use crate::instance::private_folder;
use crate::model::{Context, Result};
use crate::plan::Desired;
use crate::project::{Mount, MountSource, Propagation};
use crate::sys;
use std::fs;
use std::path::Path;

/// Whom a shell is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub uid: u32,
    pub gid: u32,
    /// The names that the host has for these numbers.
    pub user: Option<String>,
    pub group: Option<String>,
}

impl Person {
    /// The person who typed the command.
    pub fn of(caller: &Caller) -> Self {
        let Caller { uid, gid, user, group, .. } = caller.clone();
        Self { uid, gid, user, group }
    }
}

/// What a user database is to say, and which name it then has for a number.
#[derive(PartialEq, Eq, Debug)]
struct Known {
    name: Option<String>,
    /// The whole file, if it lacked the number.
    text: Option<Vec<u8>>,
}

/// Gives a container the names of a person: mounts with one line more over the files that lack one, and the variables that say
/// the same. `folder` is the container's own directory on the host.
///
/// # Errors
/// Fails when a file of the image cannot be read, and when a copy cannot be written.
pub fn introduce(one: &mut Desired, person: &Person, view: &View, folder: &Path) -> Result<()> {
    let variable = |name: &str, or: &str| one.env.get(name).filter(|value| is_field(value)).map_or(or, String::as_str).to_owned();
    let (home, shell) = (variable("HOME", "/"), variable("SHELL", "/bin/sh"));
    let read = |name: &str| view.user_database(&format!("/etc/{name}")).context(|| format!("image {}", one.image_name));
    let (passwd, group) = (read("passwd")?, read("group")?);
    let (uid, gid) = (person.uid, person.gid);
    let user = known(&passwd, uid, person.user.as_deref(), "user", |name| format!("{name}:x:{uid}:{gid}::{home}:{shell}\n"));
    let wanted = person.group.as_deref().or(user.name.as_deref());
    let group = known(&group, gid, wanted, "group", |name| format!("{name}:x:{gid}:\n"));
    for (name, known) in [("passwd", user), ("group", group)] {
        // What the container itself has there says what it says.
        if is_covered(one, &Path::new("/etc").join(name)) {
            continue;
        }
        if let Some(user) = known.name.filter(|_| name == "passwd") {
            for variable in ["USER", "LOGNAME"] {
                // What the project says about them is meant for the programs of the container.
                one.env.entry(variable.into()).or_insert_with(|| user.clone());
            }
        }
        if let Some(text) = known.text {
            one.spec.mounts.push(copy(folder, name, &text)?);
        }
    }
    Ok(())
}

/// Writes a file into the container's own directory on the host; returns its mount.
fn copy(folder: &Path, name: &str, text: &[u8]) -> Result<Mount> {
    private_folder(folder)?;
    let path = folder.join(name);
    sys::write_atomic(&path, text, 0o644).context(|| format!("cannot write {}", path.display()))?;
    let path = fs::canonicalize(&path).context(|| format!("cannot find {}", path.display()))?;
    Ok(Mount {
        source: MountSource::Bind(path.display().to_string()),
        to: format!("/etc/{name}"),
        read_only: true,
        subpath: None,
        create: false,
        propagation: Propagation::Private,
    })
}

/// The name that a database has for a number, or the database with a line more. The name in it is the one that is wanted if
/// nobody else has it there.
fn known(database: &[u8], number: u32, wanted: Option<&str>, plain: &str, line: impl Fn(&str) -> String) -> Known {
    let rows = || database.split(|byte| *byte == b'\n').map(|row| row.split(|byte| *byte == b':').collect::<Vec<_>>());
    let has = |row: &Vec<&[u8]>| {
        let digits = row.get(2).filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
        digits.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok()) == Some(number)
    };
    if let Some(row) = rows().find(has) {
        let name = str::from_utf8(row[0]).ok().filter(|name| !name.is_empty() && is_field(name));
        return Known { name: name.map(str::to_owned), text: None };
    }
    let is_taken = |name: &str| rows().any(|row| row[0] == name.as_bytes());
    let numbered = format!("{plain}-{number}");
    let all = [wanted.filter(|name| is_name(name)), Some(plain)];
    let name = all.into_iter().flatten().find(|name| !is_taken(name)).unwrap_or(&numbered);
    let mut text = database.to_vec();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(line(name).as_bytes());
    Known { name: Some(name.to_owned()), text: Some(text) }
}

/// Whether a text can be the name of a user everywhere (POSIX, 3.426).
fn is_name(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    (1..=32).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// Whether a text can be a field of a line.
fn is_field(text: &str) -> bool {
    !text.contains(':') && !text.chars().any(char::is_control)
}

/// Whether the container has something of its own at a path, or above it.
fn is_covered(one: &Desired, path: &Path) -> bool {
    let spec = &one.spec;
    let mounted = spec.mounts.iter().map(|mount| mount.to.as_str()).chain(spec.tmpfs.iter().map(|tmpfs| tmpfs.path.as_str()));
    let given = spec.secrets.iter().chain(&spec.configs).map(|used| used.to.as_str());
    mounted.chain(given).any(|to| path.starts_with(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(database: &str, number: u32, wanted: Option<&str>) -> (Option<String>, Option<String>) {
        let known = known(database.as_bytes(), number, wanted, "user", |name| format!("{name}:x:{number}:9::/h:/bin/sh\n"));
        (known.name, known.text.map(|text| String::from_utf8(text).unwrap()))
    }

    #[test]
    fn a_number_that_the_image_knows_keeps_its_name_and_its_file() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/bash\n:x:7:7:::\n";
        assert_eq!(user(passwd, 1000, Some("ada")), (Some("node".into()), None));
        assert_eq!(user(passwd, 0, None), (Some("root".into()), None));
        assert_eq!(user(passwd, 7, Some("ada")), (None, None), "nobody can say its name");
    }

    #[test]
    fn a_number_that_the_image_lacks_gets_one_line_more() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:5:5:::\nada:x:+12:1:::\nshort:x";
        let line = |name: &str| Some(format!("{passwd}\n{name}:x:12:9::/h:/bin/sh\n"));
        assert_eq!(user(passwd, 12, Some("grace")), (Some("grace".into()), line("grace")));
        // A name that is taken would be somebody else's; what is no name would be more than a line.
        for wanted in [Some("ada"), Some("root"), Some("a:b"), Some("a\nroot2:x:0:0"), Some("-x"), Some(""), None] {
            assert_eq!(user(passwd, 12, wanted), (Some("user-12".into()), line("user-12")), "{wanted:?}");
        }
        assert_eq!(
            user("", 12, None),
            (Some("user".into()), Some("user:x:12:9::/h:/bin/sh\n".into())),
            "an image without the file"
        );
        assert_eq!(user("a:x:1:1:::\n", 12, None).1.unwrap().matches('\n').count(), 2);
    }

    #[test]
    fn names_and_fields_are_those_that_fit_into_a_line() {
        assert!(is_name("ada.l-2_x") && !is_name("0") && !is_name(&"a".repeat(33)) && !is_name("é"));
        assert!(is_field("/home/ada") && is_field("") && !is_field("/a:b") && !is_field("/a\nb"));
    }
}

//! The identity of a process: users and groups are looked up in the image, never on the host.

use crate::sys;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// A resolved user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// The longest user database that is read, in bytes: a hostile image may contain a huge one.
pub const LONGEST: u64 = 4 << 20;

/// Resolves `user[:group]` and supplementary groups in a root.
///
/// A number is never looked up as a name (CVE-2026-30892), and numbers are parsed strictly (CVE-2024-40635).
///
/// # Errors
/// Fails when the image does not have a name, and when `etc/passwd` or `etc/group` exists and cannot be read.
pub fn identity(root: impl AsFd, user: &str, groups: &[String]) -> io::Result<Identity> {
    identity_in(&read(&root, "etc/passwd")?, &read(&root, "etc/group")?, user, groups)
}

/// Like [`identity`], but from the bytes of the two files.
///
/// # Errors
/// Fails when the files do not have a name, and when its line lacks a number that is needed.
pub fn identity_in(passwd: &[u8], group: &[u8], user: &str, groups: &[String]) -> io::Result<Identity> {
    let (user, wanted_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let wanted_group = wanted_group.filter(|group| !group.is_empty());
    let mut rows = passwd.split(|byte| *byte == b'\n').map(Row::of);
    let row = match number(user.as_bytes()) {
        Some(asked) => rows.find(|row| number(row.0[2]) == Some(asked)),
        None => rows.find(|row| row.0[0] == user.as_bytes()),
    };
    let uid = match (number(user.as_bytes()), &row) {
        (Some(number), _) => number,
        (None, Some(row)) => number(row.0[2]).ok_or_else(|| without("etc/passwd", user))?,
        (None, None) => return Err(unknown("user", user)),
    };
    let gid = match (wanted_group, &row) {
        (Some(name), _) => group_number(group, name)?,
        // A user that is not in the file gets group 0, as in other runtimes.
        (None, None) => 0,
        (None, Some(row)) => number(row.0[3]).ok_or_else(|| without("etc/passwd", user))?,
    };
    let mut all: Vec<u32> = Vec::new();
    if wanted_group.is_none()
        && let Some(row) = row.as_ref().filter(|row| !row.0[0].is_empty())
    {
        all.extend(memberships(group, row.0[0]));
    }
    for name in groups {
        all.push(group_number(group, name)?);
    }
    all.sort_unstable();
    all.dedup();
    // A newline in the home directory would become a separate line elsewhere (CVE-2022-4318).
    let home = row.and_then(|row| str::from_utf8(row.0[5]).ok());
    let home = home.filter(|home| home.starts_with('/') && !home.chars().any(char::is_control)).map(str::to_owned);
    Ok(Identity { uid, gid, groups: all, home: home.unwrap_or_else(|| if uid == 0 { "/root".into() } else { "/".into() }) })
}

/// The fields of a line. Fields that a short line does not have are empty.
struct Row<'a>([&'a [u8]; 7]);

impl<'a> Row<'a> {
    fn of(line: &'a [u8]) -> Self {
        let mut fields = line.split(|byte| *byte == b':');
        Self(std::array::from_fn(|_| fields.next().unwrap_or_default()))
    }
}

fn number(text: &[u8]) -> Option<u32> {
    // 4294967295 means "unchanged" to the kernel.
    let digits = Some(text).filter(|text| text.iter().all(u8::is_ascii_digit));
    digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).filter(|number| *number != u32::MAX)
}

fn unknown(kind: &str, name: &str) -> io::Error {
    io::Error::other(format!("the image has no {kind} \"{name}\"; give a number, or install what creates it"))
}

fn without(file: &str, name: &str) -> io::Error {
    io::Error::other(format!(
        "the line of \"{name}\" in the image's {file} is damaged: a number is missing; give USER:GROUP in numbers"
    ))
}

fn group_number(groups: &[u8], name: &str) -> io::Result<u32> {
    if let Some(number) = number(name.as_bytes()) {
        return Ok(number);
    }
    let mut rows = groups.split(|byte| *byte == b'\n').map(Row::of);
    let row = rows.find(|row| row.0[0] == name.as_bytes()).ok_or_else(|| unknown("group", name))?;
    number(row.0[2]).ok_or_else(|| without("etc/group", name))
}

fn memberships(groups: &[u8], user: &[u8]) -> Vec<u32> {
    let rows = groups.split(|byte| *byte == b'\n').map(Row::of);
    rows.filter(|row| row.0[3].split(|byte| *byte == b',').any(|member| member == user))
        .filter_map(|row| number(row.0[2]))
        .collect()
}

/// The bytes of a file of the root. There are none if the file does not exist.
fn read(root: &impl AsFd, path: &str) -> io::Result<Vec<u8>> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot read the image's {path}: {error}"));
    let fd = match sys::open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    bounded(File::from(fd)).map_err(failed)
}

/// Reads a user database that was opened with `O_NONBLOCK`.
///
/// # Errors
/// Fails when it is not a regular file or is too long: a FIFO or device in its place must not block or flood us.
pub fn bounded(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it has more than the {LONGEST} bytes that are allowed")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_and_number() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n1:x:0:0:trap:/:/bin/sh\nbad:x:5:5:b:/a\u{7}b:/bin/sh\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), "root:x:0:\nwww:x:33:\naudio:x:29:www\n").unwrap();
        let fd = File::open(root.path()).unwrap();
        let of = |user: &str| identity(&fd, user, &[]);
        assert_eq!(of("www").unwrap(), Identity { uid: 33, gid: 33, groups: vec![29], home: "/var/www".into() });
        assert_eq!(of("1").unwrap().uid, 1, "a number is not a name");
        assert_eq!(of("").unwrap().uid, 0);
        assert_eq!(of("1000:29").unwrap().gid, 29);
        assert_eq!(of("bad").unwrap().home, "/");
        assert!(of("nobody").is_err() && of("4294967295").is_err() && of("www:nogroup").is_err());
        assert_eq!(identity(&fd, "www", &["7".into()]).unwrap().groups, [7, 29]);
    }

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\napp:x:1500:1500:Jos\xe9:/home/app:/bin/sh\nshort:x:1600:1601\n\
        nothing\nname-only:x\nno-group:x:1700\nno-number:x:y:z:::\n\xff\xfe:x:1800:1801::/home/b:\nlast:x:4294967295:7:::";
    const GROUP: &[u8] = b"root:x:0:\napp:x:1500:\n\xe9:x:1900:app\nmail:x:8:other,app\nbad:x:y:app\nshort\nempty:x:3";

    #[test]
    fn a_byte_that_is_no_text_costs_its_own_name_and_nothing_else() {
        let of = |user: &str| identity_in(PASSWD, GROUP, user, &[]);
        let app = Identity { uid: 1500, gid: 1500, groups: vec![8, 1900], home: "/home/app".into() };
        assert_eq!((of("app").unwrap(), of("1500").unwrap()), (app.clone(), app));
        assert_eq!((of("1800").unwrap().gid, of("1800").unwrap().home.as_str()), (1801, "/home/b"));
        assert!(of("\u{fffd}\u{fffd}").is_err(), "a replacement character is not a name");
    }

    #[test]
    fn short_lines_say_what_they_say() {
        let of = |user: &str| identity_in(PASSWD, GROUP, user, &[]);
        assert_eq!((of("short").unwrap().uid, of("short").unwrap().gid), (1600, 1601));
        assert_eq!((of("1600").unwrap().gid, of("1600").unwrap().home.as_str()), (1601, "/"));
        assert_eq!(of("app:").unwrap(), of("app").unwrap());
        assert_eq!(of(":mail").unwrap().gid, 8);
        assert_eq!(of("5:empty").unwrap().gid, 3);
        assert_eq!(of("4242").unwrap().gid, 0, "a user that is not in the file");
        for damaged in ["no-group", "1700", "no-number", "name-only", "nothing", "last", "5:bad", "5:short"] {
            let failed = of(damaged).unwrap_err().to_string();
            assert!(failed.contains("a number is missing"), "{damaged}: {failed}");
        }
        assert_eq!(of("1700:9").unwrap().gid, 9, "with a given group the line needs none");
    }

    #[test]
    fn what_cannot_be_read_is_not_the_same_as_nothing() {
        let root = tempfile::tempdir().unwrap();
        let fd = File::open(root.path()).unwrap();
        let of = |user: &str| identity(&fd, user, &[]).map(|found| found.gid).map_err(|error| error.to_string());
        assert_eq!(of("1500"), Ok(0), "no etc");
        let passwd = root.path().join("etc/passwd");
        std::fs::write(root.path().join("etc"), "a file").unwrap();
        assert_eq!(of("1500"), Ok(0), "etc is no directory");
        std::fs::remove_file(root.path().join("etc")).unwrap();
        std::fs::create_dir_all(&passwd).unwrap();
        assert!(of("1500").unwrap_err().contains("etc/passwd"), "a directory");
        std::fs::remove_dir(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(of("1500").unwrap_err().contains("not a regular file"), "a fifo");
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("passwd", &passwd).unwrap();
        assert!(of("1500").unwrap_err().contains("etc/passwd"), "a loop of links");
        std::fs::remove_file(&passwd).unwrap();
        std::fs::write(&passwd, [b"a:x:7:7:::\n".repeat(400_000), b"app:x:1500:1500:::".to_vec()].concat()).unwrap();
        assert!(of("1500").unwrap_err().contains("more than the 4194304 bytes"), "too long");
    }
}

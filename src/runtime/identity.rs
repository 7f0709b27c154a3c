//! Who a process runs as: users and groups looked up in the image, never on the host.

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

/// The longest user database that is read: a hostile image may hold a huge one.
const LONGEST: u64 = 4 << 20;

/// Resolves `user[:group]` and supplementary groups in a root.
///
/// A number is never looked up as a name (CVE-2026-30892), and numbers are strict (CVE-2024-40635).
///
/// # Errors
/// Names that the image does not know.
pub fn identity(root: impl AsFd, user: &str, groups: &[String]) -> io::Result<Identity> {
    identity_in(&read(&root, "etc/passwd"), &read(&root, "etc/group"), user, groups)
}

/// As [`identity`], from the text of the two files.
///
/// # Errors
/// Names that the files do not know.
pub fn identity_in(passwd: &str, group: &str, user: &str, groups: &[String]) -> io::Result<Identity> {
    let (user, wanted_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let rows = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|row| row.len() >= 7);
    let row = match number(user) {
        Some(number) => rows().find(|row| row[2].parse() == Ok(number)),
        None => rows().find(|row| row[0] == user),
    };
    let uid = match (number(user), &row) {
        (Some(number), _) => number,
        (None, Some(row)) => row[2].parse().map_err(|_| unknown("user", user))?,
        (None, None) => return Err(unknown("user", user)),
    };
    let primary = row.as_ref().and_then(|row| row[3].parse().ok()).unwrap_or(0);
    let gid = match wanted_group {
        Some(name) => group_number(group, name)?,
        None => primary,
    };
    let mut all: Vec<u32> = Vec::new();
    if wanted_group.is_none()
        && let Some(row) = &row
    {
        all.extend(memberships(group, row[0]));
    }
    for name in groups {
        all.push(group_number(group, name)?);
    }
    all.sort_unstable();
    all.dedup();
    // A newline in the home folder would become a line of its own elsewhere (CVE-2022-4318).
    let home = row.map(|row| row[5].to_owned()).filter(|home| home.starts_with('/') && !home.chars().any(char::is_control));
    Ok(Identity { uid, gid, groups: all, home: home.unwrap_or_else(|| if uid == 0 { "/root".into() } else { "/".into() }) })
}

fn number(text: &str) -> Option<u32> {
    // 4294967295 means "unchanged" to the kernel.
    text.parse::<u32>().ok().filter(|number| *number != u32::MAX && text.bytes().all(|c| c.is_ascii_digit()))
}

fn unknown(kind: &str, name: &str) -> io::Error {
    io::Error::other(format!("the image has no {kind} \"{name}\"; give a number, or install what makes it"))
}

fn group_number(groups: &str, name: &str) -> io::Result<u32> {
    if let Some(number) = number(name) {
        return Ok(number);
    }
    let mut rows = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    rows.find(|row| row.len() >= 3 && row[0] == name).and_then(|row| row[2].parse().ok()).ok_or_else(|| unknown("group", name))
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    let rows = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|row| row.len() >= 4);
    rows.filter(|row| row[3].split(',').any(|member| member == user)).filter_map(|row| row[2].parse().ok()).collect()
}

fn read(root: &impl AsFd, path: &str) -> String {
    let mut text = String::new();
    if let Ok(fd) = sys::open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        let file = File::from(fd);
        // A fifo or device in place of the file must not hang or flood us.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let _ = file.take(LONGEST).read_to_string(&mut text);
        }
    }
    text
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
}

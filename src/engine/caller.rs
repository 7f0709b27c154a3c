//! Who typed the command: whose files a shell works on, and what of theirs it takes along.
//!
//! Whoever uses `sudo` means themselves, not root. Nothing here is needed for a shell: what cannot be read is left out.

use crate::sys::{self, ProjectFiles};
use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest file of the caller that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Whoever typed the command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// The names that this machine has for these numbers.
    pub user: Option<String>,
    pub group: Option<String>,
    /// The file name of their shell.
    pub shell: Option<String>,
    home: Option<PathBuf>,
    /// The directory of their configuration files.
    config: Option<PathBuf>,
}

impl Caller {
    /// The caller, for a project's directory: the user of `sudo`, or else the owner of the directory.
    pub fn of(folder: &Path) -> Self {
        let (uid, gid) = identity(folder);
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // To `sudo`, the variables of the environment are those of root.
        let account = env::var("SUDO_USER").ok().filter(|name| name != "root").and_then(|name| account(&name));
        let (home, config, shell) = match account {
            Some(Account { home, shell }) => (Some(home), None, Some(shell)),
            None => (path("HOME"), path("XDG_CONFIG_HOME"), path("SHELL")),
        };
        let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
        // Those two are shells that let nobody in.
        let shell = shell.and_then(|shell| Some(shell.file_name()?.to_str()?.to_owned()));
        let shell = shell.filter(|name| !matches!(name.as_str(), "nologin" | "false"));
        // A user of a directory service is in no file, but `sudo` knows the name.
        let by_sudo = || env::var("SUDO_USER").ok().filter(|_| by_sudo().is_some_and(|(known, _)| known == uid));
        let user = name_in(&database("/etc/passwd"), uid).or_else(by_sudo);
        Self { uid, gid, user, group: name_in(&database("/etc/group"), gid), shell, home, config }
    }

    /// The variables that a shell takes along: about the terminal and the language, and who makes commits.
    pub fn variables(&self, folder: &Path) -> Vec<(String, String)> {
        let kept = ["TERM", "COLORTERM", "LANG"].into_iter();
        let kept = kept.filter_map(|name| Some((name.to_owned(), env::var(name).ok().filter(|value| !value.is_empty())?)));
        let Author { name, email } = self.author(folder);
        let made = [("NAME", name), ("EMAIL", email)].into_iter().filter_map(|(kind, value)| Some((kind, value?)));
        let made = made.flat_map(|(kind, value)| ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_{kind}"), value.clone())));
        kept.chain(made).collect()
    }

    /// Who makes commits here, as git finds it (git-config(1), FILES): the later file wins. Files that are included by these,
    /// and the system's, are not read.
    fn author(&self, folder: &Path) -> Author {
        let own = [
            self.config.as_ref().map(|config| config.join("git/config")),
            self.home.as_ref().map(|home| home.join(".gitconfig")),
        ];
        let own = own.into_iter().flatten().filter_map(|path| sys::read_regular(&path, LONGEST).ok());
        let project = ProjectFiles::at(folder).ok().and_then(|files| files.own(".git/config", LONGEST).ok());
        author_in(own.chain(project))
    }
}

/// The numbers of user and group whose files a shell writes.
fn identity(folder: &Path) -> (u32, u32) {
    if !nix::unistd::geteuid().is_root() {
        return (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    }
    let owner = || std::fs::metadata(folder).ok().map(|found| (found.uid(), found.gid()));
    by_sudo().filter(|(uid, _)| *uid != 0).or_else(owner).filter(|(uid, _)| *uid != 0).unwrap_or((0, 0))
}

/// The numbers of the user of `sudo` and of their group.
fn by_sudo() -> Option<(u32, u32)> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok()).filter(|number| *number != u32::MAX);
    number("SUDO_UID").zip(number("SUDO_GID"))
}

/// A user's line of /etc/passwd.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Account {
    home: PathBuf,
    shell: PathBuf,
}

fn account(name: &str) -> Option<Account> {
    account_in(&database("/etc/passwd"), name)
}

/// The text of one of this machine's user databases; empty if it cannot be read.
fn database(path: &str) -> String {
    sys::read_regular(Path::new(path), LONGEST).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The name that a database has for a number.
fn name_in(database: &str, number: u32) -> Option<String> {
    let mut rows = database.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.get(2).and_then(|field| field.parse().ok()) == Some(number))?;
    Some(row[0].to_owned())
}

fn account_in(passwd: &str, name: &str) -> Option<Account> {
    let mut rows = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&name))?;
    let path = |field: usize| row.get(field).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(Account { home: path(5)?, shell: path(6).unwrap_or_else(|| "/bin/sh".into()) })
}

/// Who makes commits, as far as it is known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Author {
    pub name: Option<String>,
    pub email: Option<String>,
}

/// Who makes commits by the contents of configuration files of git, of which the later ones win.
pub fn author_in(files: impl Iterator<Item = Vec<u8>>) -> Author {
    let mut author = Author::default();
    files.for_each(|bytes| author.read(&String::from_utf8_lossy(&bytes)));
    author
}

impl Author {
    /// Takes `user.name` and `user.email` from the text of a configuration file of git. What it does not understand, it skips.
    fn read(&mut self, text: &str) {
        let mut in_user = false;
        // A line that ends with a backslash goes on in the next one.
        let joined = text.replace("\\\r\n", "").replace("\\\n", "");
        for mut line in joined.lines().map(str::trim) {
            if let Some((section, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                in_user = section.trim().eq_ignore_ascii_case("user");
                line = rest.trim_start();
            }
            let Some((key, value)) = line.split_once('=').filter(|_| in_user && !line.starts_with(['#', ';'])) else { continue };
            let value = value_of(value.trim()).filter(|value| !value.is_empty() && !value.chars().any(char::is_control));
            match key.trim_end().to_ascii_lowercase().as_str() {
                "name" => self.name = value.or_else(|| self.name.take()),
                "email" => self.email = value.or_else(|| self.email.take()),
                _ => {}
            }
        }
    }
}

/// A value as git reads it: quotes group, a backslash escapes, and a comment ends it. `None` if it is damaged.
fn value_of(written: &str) -> Option<String> {
    let (mut value, mut length, mut quoted) = (String::new(), 0, false);
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                other @ ('"' | '\\') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
        // White space counts at the end only if it is quoted.
        if quoted || !letter.is_whitespace() {
            length = value.len();
        }
    }
    value.truncate(length);
    (!quoted).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(texts: &[&str]) -> (Option<String>, Option<String>) {
        let Author { name, email } = author_in(texts.iter().map(|text| text.as_bytes().to_vec()));
        (name, email)
    }

    #[test]
    fn the_author_of_commits_is_read_as_git_reads_it() {
        let some = |name: &str, email: &str| (Some(name.to_owned()), Some(email.to_owned()));
        let plain = "[user]\n\tname = Ada Lovelace \n\temail = ada@example.org ; work\n";
        assert_eq!(author(&[plain]), some("Ada Lovelace", "ada@example.org"));
        assert_eq!(author(&["[USER] Name=\"A # \\\"B\\\" \"\n\temail=a\\\nb@c\n"]), some("A # \"B\" ", "ab@c"));
        assert_eq!(author(&[plain, "[user]\nname = Other\n"]), some("Other", "ada@example.org"), "the later file wins");
        let others = "[user \"work\"]\nname = W\n[core]\nemail = x\n# [user]\n[user]\n# name = C\nname = \"unclosed\nemail\n";
        assert_eq!(author(&[others]), (None, None));
        assert_eq!(author(&[plain, others, "\u{0}[[[", "[user]\nname = \\q\n"]), some("Ada Lovelace", "ada@example.org"));
        assert_eq!(author(&["[user]\nname = \"a\\nb\"\n"]), (None, None), "a variable of one line");
    }

    #[test]
    fn accounts_are_found_by_their_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/usr/bin/zsh\n\
                      short:x:1\nbare:x:2:2::/b\nodd:x:3:3::b:\n";
        let found =
            |name: &str| account_in(passwd, name).map(|found| format!("{} {}", found.home.display(), found.shell.display()));
        assert_eq!(found("ada").as_deref(), Some("/home/ada /usr/bin/zsh"));
        assert_eq!(found("bare").as_deref(), Some("/b /bin/sh"));
        assert_eq!((found("short"), found("odd"), found("nobody")), (None, None, None));
        assert_eq!((name_in(passwd, 1000), name_in(passwd, 9)), (Some("ada".into()), None));
        assert_eq!(name_in("wheel:x:10:ada\n", 10).as_deref(), Some("wheel"));
    }
}

//! Makes what maintainer scripts would have made: merged /usr, users, links, caches, dpkg's own records.

use super::alternatives;
use super::deb::Control;
use super::inside::{Inside, own};
use super::ldcache;
use super::scripts::skipped;
use crate::lock::LockedPackage;
use crate::model::bounds::debian as limits;
use crate::model::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

fn open(root: &Path) -> Result<Tree> {
    Inside::open(root).map(Tree).context(|| format!("cannot open {}", root.display()))
}

/// Makes the links of a merged `/usr`, before anything is unpacked (the `usrmerge` layout).
///
/// # Errors
/// Fails when a link cannot be made.
pub fn merge_usr(root: &Path) -> Result<()> {
    let tree = open(root)?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        tree.folder(&format!("/usr/{name}"), 0o755)?;
        tree.link(&format!("/{name}"), &format!("usr/{name}"))?;
    }
    tree.folder("/", 0o755)
}

/// The result of unpacking.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unpacked {
    /// Packages whose scripts would have done something that nothing here replaces.
    pub skipped: Vec<String>,
}

/// Makes everything else, after all packages are unpacked.
///
/// # Errors
/// Fails when something cannot be read or written, or when a path does not lead to a regular file.
pub fn finish(root: &Path, packages: &[&LockedPackage], controls: &BTreeMap<String, Control>, epoch: i64) -> Result<Unpacked> {
    let tree = open(root)?;
    tree.base_files()?;
    // The number is the day of every password's last change.
    tree.users(epoch / 86_400)?;
    tree.authentication()?;
    tree.certificates()?;
    tree.alternatives(controls)?;
    tree.dpkg(packages, controls)?;
    ldcache::write(&tree.0).context(|| "cannot write /etc/ld.so.cache".into())?;
    Ok(Unpacked { skipped: skipped(controls) })
}

/// The tree that packages were unpacked into. Packages are not trusted: their links may lead out of the tree, and there may
/// be something else where a file should be.
struct Tree(Inside);

impl Tree {
    fn exists(&self, path: &str) -> Result<bool> {
        self.0.kind(path).map(|kind| kind.is_some()).context(|| format!("cannot look at {path}"))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.0.read(path, limits::TEXT).context(|| format!("cannot read {path}"))
    }

    fn text(&self, path: &str) -> Result<Option<String>> {
        self.0.text(path, limits::TEXT).context(|| format!("cannot read {path}"))
    }

    /// Reads the files in a directory, with their names, following links inside the tree; dangling links are skipped.
    fn texts(&self, folder: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut left = limits::CONTROLS;
        for name in self.0.names(folder).context(|| format!("cannot read {folder}"))? {
            // The files of interest here have UTF-8 names.
            let Ok(name) = name.into_string() else { continue };
            let Some(content) = self.read(&format!("{folder}/{name}"))? else { continue };
            left = left
                .checked_sub(content.len() as u64)
                .ok_or_else(|| io::Error::other(format!("more than {} bytes", limits::CONTROLS)))
                .context(|| format!("cannot read {folder}"))?;
            found.push((name, content));
        }
        Ok(found)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let written = self.0.write(path, content.as_ref(), mode).map(drop);
        written.map_err(|error| crate::store::disk_error(&format!("cannot write {path}"), error))
    }

    fn link(&self, path: &str, target: &str) -> Result<()> {
        self.0.link(path, target).context(|| format!("cannot make the link {path}"))
    }

    fn folder(&self, path: &str, mode: u32) -> Result<()> {
        self.0.folder(path, mode).context(|| format!("cannot make {path}"))
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        match self.read(from)? {
            Some(content) if !self.exists(to)? => self.write(to, content, 0o644),
            _ => Ok(()),
        }
    }

    /// Makes what base-files, libc-bin and debianutils make in their scripts.
    fn base_files(&self) -> Result<()> {
        if !self.exists("/usr/share/base-files")? {
            return Ok(());
        }
        for (from, to) in [
            ("/usr/share/base-files/profile", "/etc/profile"),
            ("/usr/share/base-files/motd", "/etc/motd"),
            ("/usr/share/base-files/dot.bashrc", "/root/.bashrc"),
            ("/usr/share/base-files/dot.profile", "/root/.profile"),
            ("/usr/share/libc-bin/nsswitch.conf", "/etc/nsswitch.conf"),
            ("/usr/share/base-files/nsswitch.conf", "/etc/nsswitch.conf"),
            ("/usr/share/debianutils/shells", "/etc/shells"),
        ] {
            self.copy(from, to)?;
        }
        for (path, mode) in [
            ("/srv", 0o755),
            ("/opt", 0o755),
            ("/mnt", 0o755),
            ("/media", 0o755),
            ("/usr/local/bin", 0o755),
            ("/usr/local/lib", 0o755),
            ("/var/log", 0o755),
            ("/var/tmp", 0o1777),
            ("/tmp", 0o1777),
            ("/var/mail", 0o2775),
            ("/run/lock", 0o1777),
        ] {
            self.folder(path, mode)?;
        }
        self.link("/etc/dpkg/origins/default", "debian")?;
        for name in ["/var/run", "/var/lock"] {
            // Some packages still ship this as an empty directory; base-files makes it a link.
            self.0.remove_empty_folder(name).context(|| format!("cannot remove {name}"))?;
        }
        self.link("/var/run", "/run")?;
        self.link("/var/lock", "/run/lock")
    }

    /// Makes passwd, group and their shadow files from base-passwd, and the users that `sysusers.d` declares.
    fn users(&self, changed: i64) -> Result<()> {
        let Some(passwd) = self.text("/usr/share/base-passwd/passwd.master")? else { return Ok(()) };
        let group = self.text("/usr/share/base-passwd/group.master")?.unwrap_or_default();
        let mut passwd = passwd.replace(":*:", ":x:");
        let mut group = group.replace(":*:", ":x:");
        self.system_users(&mut passwd, &mut group)?;
        let shadow: String = passwd.lines().filter_map(|line| line.split(':').next()).fold(String::new(), |mut out, name| {
            let _ = writeln!(out, "{name}:*:{changed}:0:99999:7:::");
            out
        });
        let gshadow: String = group.lines().filter_map(|line| line.split(':').next()).fold(String::new(), |mut out, name| {
            let _ = writeln!(out, "{name}:*::");
            out
        });
        self.write("/etc/passwd", passwd, 0o644)?;
        self.write("/etc/group", group, 0o644)?;
        for (path, content) in [("/etc/shadow", shadow), ("/etc/gshadow", gshadow)] {
            let file = self.0.write(path, content.as_bytes(), 0o640).context(|| format!("cannot write {path}"))?;
            // Group 42 is `shadow` in every Debian release (base-passwd).
            own(&file, 0, 42, 0o640).context(|| format!("cannot set the owner of {path}"))?;
        }
        Ok(())
    }

    /// Adds the users of `/usr/lib/sysusers.d` (sysusers.d(5)); free numbers are assigned in order, from 999 down.
    fn system_users(&self, passwd: &mut String, group: &mut String) -> Result<()> {
        let files = self.texts("/usr/lib/sysusers.d")?;
        let mut free = 999;
        let lines =
            files.iter().flat_map(|(_, text)| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>());
        for line in lines {
            let words = quoted_words(&line);
            let (Some(kind), Some(name)) = (words.first(), words.get(1)) else { continue };
            let has = |file: &str, name: &str| file.lines().any(|line| line.split(':').next() == Some(name));
            if !matches!(kind.trim_end_matches('!'), "u" | "g") || (has(passwd, name) || kind == "g" && has(group, name)) {
                continue;
            }
            let number = words.get(2).and_then(|id| id.split(':').next()?.parse::<u32>().ok()).unwrap_or_else(|| {
                free -= 1;
                free + 1
            });
            if !has(group, name) {
                let _ = writeln!(group, "{name}:x:{number}:");
            }
            if kind.starts_with('u') {
                let field = |index: usize, default: &str| {
                    words.get(index).filter(|word| *word != "-" && !word.is_empty()).map_or(default.to_owned(), Clone::clone)
                };
                let _ = writeln!(
                    passwd,
                    "{name}:x:{number}:{number}:{}:{}:{}",
                    field(3, ""),
                    field(4, "/"),
                    field(5, "/usr/sbin/nologin")
                );
            }
        }
        Ok(())
    }

    /// Writes what `pam-auth-update` writes if only `unix` is there: without it nobody can change users.
    fn authentication(&self) -> Result<()> {
        if !self.exists("/usr/share/pam-configs/unix")? {
            return Ok(());
        }
        let deny = |kind: &str| format!("{kind} requisite pam_deny.so\n{kind} required pam_permit.so\n");
        let session = format!("session [default=1] pam_permit.so\n{}session required pam_unix.so\n", deny("session"));
        for (name, text) in [
            ("auth", format!("auth [success=1 default=ignore] pam_unix.so nullok\n{}", deny("auth"))),
            ("account", format!("account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n{}", deny("account"))),
            ("password", format!("password [success=1 default=ignore] pam_unix.so obscure yescrypt\n{}", deny("password"))),
            ("session", session.clone()),
            ("session-noninteractive", session),
        ] {
            let path = format!("/etc/pam.d/common-{name}");
            if !self.exists(&path)? {
                self.write(&path, text, 0o644)?;
            }
        }
        Ok(())
    }

    /// Writes the bundle that `update-ca-certificates` would write.
    fn certificates(&self) -> Result<()> {
        let mut files = self.texts("/usr/share/ca-certificates/mozilla")?;
        files.retain(|(name, _)| name.ends_with(".crt"));
        if files.is_empty() {
            return Ok(());
        }
        let mut bundle = Vec::new();
        let mut names = String::new();
        for (name, content) in &files {
            bundle.extend(content);
            let _ = writeln!(names, "mozilla/{name}");
            let link = format!("/etc/ssl/certs/{}.pem", name.trim_end_matches(".crt"));
            self.link(&link, &format!("/usr/share/ca-certificates/mozilla/{name}"))?;
        }
        self.write("/etc/ca-certificates.conf", names, 0o644)?;
        self.write("/etc/ssl/certs/ca-certificates.crt", bundle, 0o644)
    }

    fn alternatives(&self, controls: &BTreeMap<String, Control>) -> Result<()> {
        let all = controls
            .values()
            .filter_map(|control| control.files.get("postinst"))
            .flat_map(|script| alternatives::read(&String::from_utf8_lossy(script)));
        for (name, chosen) in alternatives::choose(all.collect()) {
            if !self.exists(&chosen.path)? {
                continue;
            }
            self.link(&format!("/etc/alternatives/{name}"), &chosen.path)?;
            self.link(&chosen.link, &format!("/etc/alternatives/{name}"))?;
            let mut record = format!("auto\n{}\n", chosen.link);
            let mut slaves = Vec::new();
            for slave in &chosen.slaves {
                if self.exists(&slave.2)? {
                    slaves.push(slave);
                }
            }
            for (link, slave, _) in &slaves {
                let _ = write!(record, "{slave}\n{link}\n");
            }
            let _ = write!(record, "\n{}\n{}\n", chosen.path, chosen.priority);
            for (link, slave, path) in &slaves {
                self.link(&format!("/etc/alternatives/{slave}"), path)?;
                self.link(link, &format!("/etc/alternatives/{slave}"))?;
                let _ = writeln!(record, "{path}");
            }
            self.write(&format!("/var/lib/dpkg/alternatives/{name}"), record + "\n", 0o644)?;
        }
        Ok(())
    }

    /// What dpkg records about a configuration file: its digest, or that it does not exist yet.
    fn conffile(&self, path: &str) -> Result<String> {
        let file = self.0.file(path).context(|| format!("cannot read {path}"))?;
        file.map_or_else(|| Ok("newconffile".into()), |file| md5(file).context(|| format!("cannot read {path}")))
    }

    /// Writes dpkg's own records, so that its tools, scanners and `apt` know what is installed.
    fn dpkg(&self, packages: &[&LockedPackage], controls: &BTreeMap<String, Control>) -> Result<()> {
        let mut status = String::new();
        for package in packages {
            let Some(control) = controls.get(&package.name) else { continue };
            let text = control.files.get("control").map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
            let same = text.lines().any(|line| line == "Multi-Arch: same");
            let name = if same { format!("{}:{}", package.name, package.architecture) } else { package.name.clone() };
            let mut lines = text.trim_end().lines();
            let _ = writeln!(status, "{}\nStatus: install ok installed", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(status, "{line}");
            }
            if let Some(conffiles) = control.files.get("conffiles") {
                let conffiles = String::from_utf8_lossy(conffiles);
                let kept: Vec<&str> = conffiles.lines().filter(|line| line.starts_with('/')).collect();
                if !kept.is_empty() {
                    status.push_str("Conffiles:\n");
                    for path in kept {
                        let digest = self.conffile(path)?;
                        let _ = writeln!(status, " {path} {digest}");
                    }
                }
            }
            status.push('\n');
            let list: String =
                control.paths.iter().map(|path| if path.is_empty() { "/.\n".to_owned() } else { format!("{path}\n") }).collect();
            self.write(&format!("/var/lib/dpkg/info/{name}.list"), list, 0o644)?;
            for (file, content) in control.files.iter().filter(|(file, _)| *file != "control") {
                let script = matches!(file.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config");
                self.write(&format!("/var/lib/dpkg/info/{name}.{file}"), content, if script { 0o755 } else { 0o644 })?;
            }
        }
        if self.exists("/usr/bin/dpkg")? || !status.is_empty() {
            self.write("/var/lib/dpkg/status", status, 0o644)?;
            self.write("/var/lib/dpkg/available", "", 0o644)?;
            // The names of files here contain the architecture if the package's name does (dpkg, "info db format 1").
            self.write("/var/lib/dpkg/info/format", "1\n", 0o644)?;
        }
        Ok(())
    }
}

/// MD5 as lowercase hexadecimal; dpkg's records use no other digest.
fn md5(mut file: impl io::Read) -> io::Result<String> {
    use md5::{Digest as _, Md5};
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Splits a line into words, which may be in `"quotes"`.
fn quoted_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_that_leads_to_nothing_is_an_error_and_nothing_of_the_host_is_written() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/share/base-passwd")).unwrap();
        fs::write(at("usr/share/base-passwd/passwd.master"), "root:*:0:0:root:/root:/bin/bash\n").unwrap();
        // A link to itself takes the place of each directory that is written to.
        for (folder, told) in [("etc", "/etc/passwd"), ("var", "/var/lib/dpkg/info")] {
            symlink(folder, at(folder)).unwrap();
            let controls = BTreeMap::from([("app".to_owned(), Control::default())]);
            let package = LockedPackage {
                name: "app".into(),
                version: "1".into(),
                architecture: "all".into(),
                sha256: crate::model::Digest::of("app"),
                size: 1,
                path: "pool/app.deb".into(),
                repository: None,
            };
            let error = finish(root.path(), &[&package], &controls, 0).unwrap_err();
            assert!(error.chain().contains(&format!("cannot write {told}")), "{}", error.chain());
            fs::remove_file(at(folder)).unwrap();
        }
        assert!(!Path::new("/nonexistent").exists());
    }

    #[test]
    fn what_is_no_file_is_told_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/sysusers.d");
        fs::create_dir_all(&folder).unwrap();
        nix::unistd::mkfifo(&folder.join("a.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let tree = open(root.path()).unwrap();
        let error = tree.system_users(&mut String::new(), &mut String::new()).unwrap_err();
        assert!(error.chain().contains("/usr/lib/sysusers.d/a.conf is not a file"), "{}", error.chain());
    }

    #[test]
    fn declared_users_are_made() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/sysusers.d")).unwrap();
        fs::write(
            root.path().join("usr/lib/sysusers.d/a.conf"),
            "u redis - \"Redis Server\" /var/lib/redis\ng ssl 900\nu! root 0\n",
        )
        .unwrap();
        let (mut passwd, mut group) = ("root:x:0:0:root:/root:/bin/bash\n".to_owned(), "root:x:0:\n".to_owned());
        open(root.path()).unwrap().system_users(&mut passwd, &mut group).unwrap();
        assert!(passwd.contains("redis:x:999:999:Redis Server:/var/lib/redis:/usr/sbin/nologin"));
        assert!(group.contains("ssl:x:900:"));
    }
}

//! What maintainer scripts would have made: merged /usr, users, links, caches, dpkg's own records.

use super::alternatives;
use super::ldcache;
use super::unpack::{Control, Unpacked};
use crate::lock::LockedPackage;
use crate::model::{Context, Outcome};
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The links of a merged `/usr`, made before anything is unpacked (the `usrmerge` layout).
///
/// # Errors
/// Those of making links.
pub fn merge_usr(root: &Path) -> Outcome<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let target = root.join("usr").join(name);
        fs::create_dir_all(&target).doing(|| format!("cannot make {}", target.display()))?;
        symlink(format!("usr/{name}"), root.join(name)).doing(|| format!("cannot make the link /{name}"))?;
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).doing(|| "cannot set permissions".into())
}

/// Everything else, after all packages are unpacked.
///
/// # Errors
/// Those of writing.
pub fn finish(root: &Path, packages: &[&LockedPackage], controls: &BTreeMap<String, Control>, epoch: i64) -> Outcome<Unpacked> {
    let tree = Tree { root };
    tree.base_files()?;
    // The day of every password's last change.
    tree.users(epoch / 86_400)?;
    tree.authentication()?;
    tree.certificates()?;
    tree.alternatives(controls)?;
    tree.dpkg(packages, controls)?;
    ldcache::write(root).doing(|| "cannot write /etc/ld.so.cache".into())?;
    Ok(Unpacked { skipped: skipped(controls) })
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    /// A path of the tree on the host, every link followed inside the tree: packages are not trusted to
    /// keep theirs inside. What cannot be resolved leads nowhere.
    fn at(&self, path: &str) -> PathBuf {
        let resolved = fs::File::open(self.root).and_then(|root| sys::resolve_in_root(&root, Path::new(path)));
        resolved
            .map_or_else(|_| PathBuf::from("/nonexistent/stead"), |path| self.root.join(path.strip_prefix("/").unwrap_or(&path)))
    }

    /// As [`at`](Self::at), without following the last part itself.
    fn place(&self, path: &str) -> PathBuf {
        let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
        self.at(&parent.to_string_lossy()).join(Path::new(path).file_name().unwrap_or_default())
    }

    /// The texts of the files in a folder, by name, links followed inside the tree.
    fn texts(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.into_iter().filter_map(|name| Some((name.clone(), fs::read(self.at(&format!("{folder}/{name}"))).ok()?))).collect()
    }

    fn exists(&self, path: &str) -> bool {
        self.place(path).symlink_metadata().is_ok()
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Outcome<()> {
        // A link that leads to nothing inside the tree is replaced by the file.
        let place = self.place(path);
        if place.is_symlink() && !self.at(path).exists() {
            fs::remove_file(&place).doing(|| format!("cannot replace {path}"))?;
        }
        let target = self.at(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).doing(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&target, content).map_err(|error| crate::store::disk_fault(&format!("cannot write {path}"), error))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).doing(|| format!("cannot set permissions of {path}"))
    }

    fn link(&self, path: &str, target: &str) -> Outcome<()> {
        let place = self.place(path);
        if place.symlink_metadata().is_ok() {
            return Ok(());
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).doing(|| format!("cannot make {}", parent.display()))?;
        }
        symlink(target, &place).doing(|| format!("cannot make the link {path}"))
    }

    fn copy(&self, from: &str, to: &str) -> Outcome<()> {
        match fs::read(self.at(from)) {
            Ok(content) if !self.exists(to) => self.write(to, content, 0o644),
            _ => Ok(()),
        }
    }

    /// What base-files, libc-bin and debianutils make in their scripts.
    fn base_files(&self) -> Outcome<()> {
        if !self.exists("/usr/share/base-files") {
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
            let target = self.at(path);
            fs::create_dir_all(&target).doing(|| format!("cannot make {path}"))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))
                .doing(|| format!("cannot set permissions of {path}"))?;
        }
        self.link("/etc/dpkg/origins/default", "debian")?;
        for name in ["/var/run", "/var/lock"] {
            // Packages that still ship it as a folder ship it empty; base-files turns it into a link.
            let _ = fs::remove_dir(self.place(name));
        }
        self.link("/var/run", "/run")?;
        self.link("/var/lock", "/run/lock")
    }

    /// passwd, group and their shadows from base-passwd, and the users that `sysusers.d` declares.
    fn users(&self, changed: i64) -> Outcome<()> {
        let Ok(passwd) = fs::read_to_string(self.at("/usr/share/base-passwd/passwd.master")) else { return Ok(()) };
        let group = fs::read_to_string(self.at("/usr/share/base-passwd/group.master")).unwrap_or_default();
        let mut passwd = passwd.replace(":*:", ":x:");
        let mut group = group.replace(":*:", ":x:");
        self.system_users(&mut passwd, &mut group);
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
            self.write(path, content, 0o640)?;
            // Group 42 is `shadow` in every Debian (base-passwd).
            sys::set_owner(&self.at(path), 0, 42).doing(|| format!("cannot set the owner of {path}"))?;
        }
        Ok(())
    }

    /// Users of `/usr/lib/sysusers.d` (sysusers.d(5)); free numbers go down from 999, in order.
    fn system_users(&self, passwd: &mut String, group: &mut String) {
        let files = self.texts("/usr/lib/sysusers.d");
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
    }

    /// What `pam-auth-update` writes where only `unix` is there: without it nobody changes user.
    fn authentication(&self) -> Outcome<()> {
        if !self.exists("/usr/share/pam-configs/unix") {
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
            if !self.exists(&path) {
                self.write(&path, text, 0o644)?;
            }
        }
        Ok(())
    }

    /// The bundle that `update-ca-certificates` writes.
    fn certificates(&self) -> Outcome<()> {
        let mut files = self.texts("/usr/share/ca-certificates/mozilla");
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

    fn alternatives(&self, controls: &BTreeMap<String, Control>) -> Outcome<()> {
        let all = controls
            .values()
            .filter_map(|control| control.files.get("postinst"))
            .flat_map(|script| alternatives::read(&String::from_utf8_lossy(script)));
        for (name, chosen) in alternatives::choose(all.collect()) {
            if !self.exists(&chosen.path) {
                continue;
            }
            self.link(&format!("/etc/alternatives/{name}"), &chosen.path)?;
            self.link(&chosen.link, &format!("/etc/alternatives/{name}"))?;
            let mut record = format!("auto\n{}\n", chosen.link);
            let slaves: Vec<_> = chosen.slaves.iter().filter(|(_, _, path)| self.exists(path)).collect();
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

    /// dpkg's own records, so that its tools, scanners and `apt` know what is here.
    fn dpkg(&self, packages: &[&LockedPackage], controls: &BTreeMap<String, Control>) -> Outcome<()> {
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
                        let digest =
                            fs::read(self.at(path)).map(|content| md5(&content)).unwrap_or_else(|_| "newconffile".into());
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
        if self.exists("/usr/bin/dpkg") || !status.is_empty() {
            self.write("/var/lib/dpkg/status", status, 0o644)?;
            self.write("/var/lib/dpkg/available", "", 0o644)?;
            // Names of files here carry the architecture where packages do (dpkg, "info db format 1").
            self.write("/var/lib/dpkg/info/format", "1\n", 0o644)?;
        }
        Ok(())
    }
}

/// MD5 as lowercase hexadecimal: dpkg's records use nothing else.
fn md5(content: &[u8]) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Words with `"quotes"`.
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

/// Packages whose scripts do what is made here in their place.
const DONE: &[&str] = &[
    "base-files",
    "base-passwd",
    "libc-bin",
    "ca-certificates",
    "debianutils",
    "dash",
    "bash",
    "dpkg",
    "libc6",
    "login",
    "passwd",
    "libpam-runtime",
];

/// Packages with script lines that are neither boilerplate nor made here.
fn skipped(controls: &BTreeMap<String, Control>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (name, control) in controls {
        let scripts = ["preinst", "postinst"].iter().filter_map(|script| control.files.get(*script));
        if scripts.map(|script| String::from_utf8_lossy(script).into_owned()).any(|script| does_something(&script))
            && !DONE.contains(&name.as_str())
        {
            found.insert(name.clone());
        }
    }
    found.into_iter().collect()
}

/// Whether a script does more than what debhelper adds for systems that run services.
fn does_something(script: &str) -> bool {
    let mut generated = false;
    for line in script.replace("\\\n", " ").lines().map(str::trim) {
        if line.starts_with("# Automatically added by") {
            generated = true;
        } else if line.starts_with("# End automatically added") {
            generated = false;
        } else if !generated && acts(line) {
            return true;
        }
    }
    false
}

/// Commands that change something which the tree here would lack.
fn acts(line: &str) -> bool {
    const VERBS: &[&str] = &[
        "adduser",
        "addgroup",
        "useradd",
        "groupadd",
        "chown",
        "chmod",
        "mkdir",
        "install",
        "ln",
        "cp",
        "mv",
        "dpkg-divert",
        "update-mime",
        "update-passwd",
        "setcap",
        "locale-gen",
    ];
    let first =
        line.split([' ', '\t']).find(|word| !word.is_empty() && !matches!(*word, "if" | "!" | "then" | "&&")).unwrap_or_default();
    VERBS.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_matter_are_told_from_boilerplate() {
        assert!(!does_something(
            "#!/bin/sh\nset -e\n# Automatically added by dh_x\nchown a b\n# End automatically added section\nexit 0"
        ));
        assert!(does_something("#!/bin/sh\nadduser --system redis || true"));
    }

    #[test]
    fn links_of_packages_stay_inside() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().join("file");
        fs::write(&target, "host").unwrap();
        fs::create_dir_all(root.path().join("var")).unwrap();
        symlink(&target, root.path().join("var/status")).unwrap();
        let tree = Tree { root: root.path() };
        tree.write("/var/status", "package", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "host");
        assert!(fs::read_to_string(tree.at("/var/status")).unwrap() == "package");
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
        Tree { root: root.path() }.system_users(&mut passwd, &mut group);
        assert!(passwd.contains("redis:x:999:999:Redis Server:/var/lib/redis:/usr/sbin/nologin"));
        assert!(group.contains("ssl:x:900:"));
    }
}

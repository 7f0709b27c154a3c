//! Package archives: signed, damaged, missing, vendored. The tests make them, from packages that they make as well.

use crate::world::{World, is_root, skip};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A vendored archive with a key of its own.
struct Archive {
    folder: PathBuf,
    gpg: PathBuf,
}

fn sh(folder: &Path, line: &str) -> bool {
    let output = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

impl Archive {
    fn new(world: &World) -> Option<Self> {
        let archive = Self { folder: world.folder.join("vendor"), gpg: world.folder.join("gpg") };
        fs::create_dir_all(archive.folder.join("pool")).unwrap();
        fs::create_dir_all(&archive.gpg).unwrap();
        let key = "for i in 1 2 3; do gpg --batch --quiet --homedir ../gpg --passphrase '' --quick-generate-key 'Test <t@example.org>' ed25519 sign never && break; sleep 1; done; gpg --homedir ../gpg --export > ../key.gpg";
        if !sh(&archive.folder, &format!("chmod 700 ../gpg; command -v dpkg-scanpackages; {key}")) {
            skip("gnupg or dpkg-dev is not installed");
            return None;
        }
        Some(archive)
    }

    /// Another archive beside it, signed by the same key.
    fn beside(&self, name: &str) -> Self {
        let other = Self { folder: self.folder.with_file_name(name), gpg: self.gpg.clone() };
        fs::create_dir_all(other.folder.join("pool")).unwrap();
        other
    }

    fn package(&self, name: &str, version: &str, more: &str) {
        let script = format!(
            "mkdir -p build/DEBIAN build/usr/share/{name}; echo {version} > build/usr/share/{name}/version; \
             printf 'Package: {name}\\nVersion: {version}\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n{more}' > build/DEBIAN/control; \
             dpkg-deb -Zxz --root-owner-group -b build pool/{name}_{version}_all.deb > /dev/null; rm -r build"
        );
        assert!(sh(&self.folder, &script));
    }

    /// Writes indexes and signs them.
    fn publish(&self) {
        self.publish_as("test", "");
    }

    fn publish_as(&self, suite: &str, more: &str) {
        let script = "mkdir -p dists/SUITE/main/binary-amd64; dpkg-scanpackages -m pool > dists/SUITE/main/binary-amd64/Packages 2>/dev/null; cd dists/SUITE; \
             { printf 'Suite: SUITE\\nCodename: SUITE\\nMORESHA256:\\n'; for f in main/binary-amd64/Packages; do echo \" $(sha256sum $f | cut -d' ' -f1) $(stat -c %s $f) $f\"; done; } > Release; \
             rm -f InRelease; gpg --batch --quiet --homedir ../../../gpg --clearsign -o InRelease Release";
        assert!(sh(&self.folder, &script.replace("SUITE", suite).replace("MORE", more)));
    }
}

const PROJECT: &str = r#"project "vendored"
mirror "vendor"
image "a" {
    debian "test" key="key.gpg" {
        essential #false
        package "app"
    }
}
"#;

fn vendored(name: &str) -> Option<(World, Archive)> {
    if !is_root() {
        return None;
    }
    let world = World::bare(name, PROJECT);
    // The world has a store of its own, so that files that are gone are gone everywhere.
    fs::remove_file(world.root.join("store")).unwrap();
    let archive = Archive::new(&world)?;
    archive.package("app", "1", "Depends: lib (>= 2)\\n");
    archive.package("lib", "1", "");
    archive.package("lib", "2", "");
    archive.publish();
    Some((world, archive))
}

fn locked(world: &World) -> String {
    let text = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("use "));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_vendored_archive_is_resolved_locked_and_moved() {
    let Some((world, archive)) = vendored("vendored") else { return };
    assert!(world.fails(&["build", "--frozen"]).err.contains("--frozen"));
    assert!(world.fails(&["build", "--offline"]).err.contains("--offline"));
    world.ok(&["build"]);
    assert_eq!(locked(&world), "\"app=1\" \"lib=2\"");
    let lock = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    // A new version changes nothing until the user asks for it.
    archive.package("lib", "3", "");
    archive.package("app", "2", "Depends: lib (>= 2)\\n");
    archive.publish();
    world.ok(&["build", "--frozen", "--offline"]);
    assert_eq!(fs::read_to_string(world.folder.join("stead.lock")).unwrap(), lock);
    assert_eq!(world.ok(&["update", "lib"]), "~ lib 2 → 3\n");
    assert_eq!(locked(&world), "\"app=1\" \"lib=3\"");
    assert_eq!(world.ok(&["update"]), "~ app 1 → 2\n");
    assert_eq!(world.ok(&["update"]), "nothing moved\n");
    assert!(world.ok(&["plan"]).is_empty() || world.ok(&["plan"]).contains("nothing to do"));
    assert!(world.fails(&["update", "nginx"]).err.contains("nothing named \"nginx\""));
}

#[test]
fn what_cannot_be_trusted_or_had_is_told() {
    let Some((world, archive)) = vendored("untrusted") else { return };
    let release = archive.folder.join("dists/test/InRelease");
    let good = fs::read_to_string(&release).unwrap();
    let refused = |text: &str| {
        let ran = world.fails(&["build"]);
        assert!(ran.err.contains(text), "expected {text:?} in:\n{}", ran.err);
        assert!(!world.folder.join("stead.lock").exists(), "no lock is written");
    };
    fs::write(&release, good.replace("Codename: test", "Codename: tast")).unwrap();
    refused("the signature of");
    fs::write(&release, &good).unwrap();
    world.edit(" key=\"key.gpg\"", "");
    refused("no accepted key signed it");
    world.edit("debian \"test\"", "debian \"test\" key=\"key.gpg\"");
    let index = archive.folder.join("dists/test/main/binary-amd64/Packages");
    let packages = fs::read_to_string(&index).unwrap();
    fs::write(&index, packages.replace("Version: 2", "Version: 9")).unwrap();
    refused("has a wrong hash");
    fs::write(&index, &packages).unwrap();
    world.edit("package \"app\"", "package \"ap\"");
    let ran = world.fails(&["build"]);
    assert!(
        ran.err.contains("there is no package \"ap\" in \"test\"")
            && ran.err.contains("[stead.kdl:6:")
            && ran.err.contains("perhaps \"app\""),
        "{}",
        ran.err
    );
    world.edit("package \"ap\"", "package \"app\"");
    archive.package("app", "5", "Depends: absent\\n");
    archive.package("other", "1", "Conflicts: lib\\n");
    archive.publish();
    world.edit("package \"app\"", "package \"app\" \"other\"");
    refused("cannot be installed together");
    world.edit(" \"other\"", "");
    world.ok(&["build"]);
    assert_eq!(locked(&world), "\"app=1\" \"lib=2\"", "a version that cannot be had is passed over");
    // The mirror has dropped a locked version.
    fs::remove_dir_all(world.root.join("store")).unwrap();
    fs::remove_file(archive.folder.join("pool/lib_2_all.deb")).unwrap();
    let ran = world.fails(&["build"]);
    assert!(
        ran.err.contains("no mirror has these locked packages any more: lib") && ran.err.contains("stead update lib"),
        "{}",
        ran.err
    );
    archive.package("lib", "2", "Priority: optional\\n");
    let ran = world.fails(&["build"]);
    assert!(ran.err.contains("is not what the lock says"), "{}", ran.err);
    world.edit("mirror \"vendor\"", "mirror \"nowhere\"");
    assert!(world.fails(&["update"]).err.contains("has no suite \"test\""));
}

#[test]
fn a_mirror_that_breaks_off_is_resumed() {
    let Some((world, archive)) = vendored("resumed") else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.edit("mirror \"vendor\"", &format!("mirror \"http://127.0.0.1:{port}\""));
    let folder = archive.folder.clone();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut cut = std::collections::BTreeSet::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let path = text
                .split_whitespace()
                .nth(1)
                .unwrap_or("/")
                .trim_start_matches('/')
                .replace("inrelease", "InRelease")
                .replace("packages", "Packages");
            let start: usize = text
                .lines()
                .find_map(|line| {
                    line.strip_prefix("range: bytes=")?.trim_end_matches('-').trim().trim_end_matches('-').parse().ok()
                })
                .unwrap_or(0);
            let Ok(body) = fs::read(folder.join(&path)) else {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                continue;
            };
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            let rest = &body[start.min(body.len())..];
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
            if path.ends_with(".deb") && cut.insert(path) {
                let _ = stream.write_all(&rest[..rest.len() / 2]);
            } else {
                let _ = stream.write_all(rest);
                if start > 0 {
                    let _ = tell.send(start);
                }
            }
        }
    });
    world.ok(&["build"]);
    assert!(told.try_recv().is_ok_and(|start| start > 0), "the rest was fetched, not the whole");
}

#[test]
fn suites_repositories_and_pins() {
    let Some((world, archive)) = vendored("pins") else { return };
    // A suite with `NotAutomatic` is used only where a version asks for it, and for what that version needs from there.
    let backports = archive.beside("vendor");
    let other = archive.beside("other");
    other.package("lib", "2.5", "");
    other.package("tool", "1", "Depends: lib (>= 2.1)\\n");
    other.publish_as("extra", "");
    archive.package("app", "9~bpo", "Depends: lib (>= 3~bpo)\\n");
    archive.package("lib", "3~bpo", "");
    backports.publish_as("test-backports", "NotAutomatic: yes\\n");
    assert!(sh(&archive.folder, "rm pool/*bpo*.deb"));
    archive.publish();
    let write = |inner: &str| world.write("stead.kdl", &PROJECT.replace("package \"app\"", inner));
    write("package \"app\"; suite \"test-backports\"");
    world.ok(&["build"]);
    assert_eq!(locked(&world), "\"app=1\" \"lib=2\"", "backports stay where they are");
    write("package \"app\" version=\"*~bpo\"; suite \"test-backports\"");
    // Their files are gone from the pool, so they can be locked but not built.
    assert!(world.fails(&["build"]).err.contains("no mirror has these locked packages any more: app, lib"));
    assert_eq!(locked(&world), "\"app=9~bpo\" \"lib=3~bpo\"");
    write("package \"app\" \"tool\"; repository \"other\" suite=\"extra\" key=\"key.gpg\"");
    world.ok(&["build"]);
    assert_eq!(locked(&world), "\"app=1\" \"lib=2.5\" \"tool=1\"", "versions compete");
    let lock = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    assert!(lock.contains("repository=\"other\""), "{lock}");
    write("package \"lib\" version=\"1\"");
    world.ok(&["build"]);
    assert_eq!(locked(&world), "\"lib=1\"");
    write("package \"lib\" version=\"7*\"");
    let failed = world.fails(&["build"]).err;
    assert!(
        failed.contains("no version of lib like 7*") && failed.contains("it has: 1, 2") && failed.contains("stead.kdl:6"),
        "{failed}"
    );
    write("package \"app\"; repository \"other\" suite=\"none\" key=\"key.gpg\"");
    assert!(world.fails(&["build"]).err.contains("other has no suite \"none\""));
    // A signature by another key is refused.
    assert!(sh(
        &archive.folder,
        "mkdir -m 700 ../gpg2 && gpg --batch --quiet --homedir ../gpg2 --passphrase '' --quick-generate-key 'B <b@example.org>' ed25519 sign never && gpg --homedir ../gpg2 --export > ../other.gpg"
    ));
    write("package \"app\"; repository \"other\" suite=\"extra\" key=\"other.gpg\"");
    assert!(world.fails(&["build"]).err.contains("the signature of"));
}

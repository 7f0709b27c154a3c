//! Packages and archives that are bombs, and packages with files that the host must not open.

use crate::archive::{Act, Archive, Entry, Web, YEAR_2024, deb, plain, run_for, stored, world};
use crate::world::World;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tar::EntryType::{Char, Fifo, Regular, Symlink};

const PATIENCE: Duration = Duration::from_secs(60);

/// A world whose archive has one package with these entries.
fn with(name: &str, entries: &[Entry]) -> Option<(World, Archive)> {
    let (world, archive) = world(name, "never")?;
    let index = archive.package("app", "1", &deb("app", "1", entries));
    archive.publish("test", &index, YEAR_2024);
    world.ok(&["update"]);
    Some((world, archive))
}

#[test]
fn a_package_that_unpacks_to_far_more_than_its_size_is_cut_off() {
    let Some((world, _archive)) = with("deb-bomb", &[("./usr/share/bomb", Regular, "", 700 << 20)]) else { return };
    let before = stored(&world);
    let ran = run_for(&world, &["build"], PATIENCE);
    assert!(ran.code != 0 && ran.err.contains("cannot unpack app=1"), "{ran:?}");
    let grown = stored(&world).saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes were left");
}

#[test]
fn packages_bring_no_pipes_and_no_devices() {
    let etc = ("./etc/hosts", Regular, "", 0);
    for (name, entry) in [
        ("deb-fifo", ("./usr/lib/x86_64-linux-gnu/libx.so.1", Fifo, "", 0)),
        ("deb-device", ("./usr/lib/x86_64-linux-gnu/libx.so.1", Char, "1:3", 0)),
        ("deb-fifo-conf", ("./etc/ld.so.conf", Fifo, "", 0)),
        ("deb-fifo-users", ("./usr/lib/sysusers.d/x.conf", Fifo, "", 0)),
    ] {
        let Some((world, _archive)) = with(name, &[etc, entry]) else { return };
        let ran = run_for(&world, &["build"], Duration::from_secs(15));
        let told = ["app=1", entry.0.trim_start_matches("./")];
        assert!(ran.code != 0 && told.iter().all(|told| ran.err.contains(told)), "{name}: {ran:?}");
    }
}

#[test]
fn a_path_that_leads_nowhere_is_nowhere_on_the_host() {
    let place = fs::canonicalize("/").unwrap().join("nonexistent");
    assert!(!place.exists(), "this test is about what makes it");
    let entries =
        [("./etc", Symlink, "etc", 0), ("./usr/bin/dpkg", Regular, "", 0), ("./usr/share/pam-configs/unix", Regular, "", 0)];
    let Some((world, _archive)) = with("deb-nowhere", &entries) else { return };
    let ran = run_for(&world, &["build"], PATIENCE);
    assert!(!place.exists(), "something was written on the host");
    assert!(ran.code != 0 && ran.err.contains("/etc/"), "{ran:?}");
}

#[test]
fn whoever_gives_more_than_was_said_is_cut_off() {
    let Some((world, archive)) = world("floods", "never") else { return };
    let index = archive.package("app", "1", &plain("app", "1"));
    archive.publish("test", &index, YEAR_2024);
    let flood: u64 = 400 << 20;
    let which = std::sync::Arc::new(std::sync::Mutex::new("InRelease"));
    let (asked, folder) = (which.clone(), archive.folder.clone());
    let web =
        Web::new(move |path| if path.ends_with(*asked.lock().unwrap()) { Act::Flood(flood) } else { Act::File(folder.clone()) });
    world.edit("mirror \"vendor\"", &format!("mirror \"{}\"", web.address));
    // Bytes that were sent but not read stay in the buffers of both ends.
    let cut = |ending: &str, bound: u64| {
        // The server notices a little later that nobody reads any more.
        crate::world::eventually("the flood ends", || web.sent(ending) > 0);
        let sent = web.sent(ending);
        assert!(sent < bound + (16 << 20), "{sent} bytes of {ending}");
    };
    let ran = run_for(&world, &["update"], PATIENCE);
    cut("InRelease", 4 << 20);
    assert!(ran.code != 0 && ran.err.contains("dists/test/InRelease has") && ran.err.contains("4194304"), "{ran:?}");
    *which.lock().unwrap() = "Packages";
    let ran = run_for(&world, &["update"], PATIENCE);
    assert!(ran.code != 0 && ran.err.contains("is not what its signed InRelease says"), "{ran:?}");
    cut("Packages", index.len() as u64);
    *which.lock().unwrap() = "none";
    world.ok(&["update"]);
    *which.lock().unwrap() = ".deb";
    let ran = run_for(&world, &["build"], PATIENCE);
    let size = plain("app", "1").len();
    let told = [web.address.as_str(), "is not what the lock says", &format!("instead of {size}")];
    assert!(ran.code != 0 && told.iter().all(|told| ran.err.contains(told)), "{ran:?}");
    cut(".deb", size as u64);
    assert!(stored(&world) < 16 << 20);
}

/// `openssl s_server` on a port of its own; it serves files as they are, so they contain the HTTP headers.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn new(folder: &std::path::Path) -> Self {
        let line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -days 9 -keyout ca.key -out ca.pem \
                    && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr \
                    && printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth\\n' > ext \
                    && openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile ext -out tls.pem";
        let made = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("openssl");
        command.args([
            "s_server",
            "-quiet",
            "-HTTP",
            "-cert",
            "tls.pem",
            "-key",
            "tls.key",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ]);
        let child =
            command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tls = Self { child, port };
        crate::world::eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        tls
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn https_is_not_left_for_what_nothing_vouches_for() {
    if !crate::ground::is_root() || Command::new("openssl").arg("version").output().is_err() {
        crate::world::tell_skipped("openssl is not installed");
        return;
    }
    let world = World::bare("attack-redirect", "project \"redirect\"\nimage \"a\" { dockerfile \"Dockerfile\"; }\n");
    fs::remove_file(world.root.join("store")).unwrap();
    let folder = world.folder.with_file_name("tls");
    fs::create_dir_all(&folder).unwrap();
    let files = world.folder.with_file_name("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("tool"), "of whoever is on the way").unwrap();
    let web = Web::new(move |_| Act::File(files.clone()));
    let tls = Tls::new(&folder);
    fs::write(
        folder.join("tool"),
        format!("HTTP/1.1 302 Found\r\nLocation: {}/tool\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", web.address),
    )
    .unwrap();
    let address = format!("https://127.0.0.1:{}/tool", tls.port);
    let run = |dockerfile: String| {
        world.write("Dockerfile", &dockerfile);
        let mut command = world.command(&["build"]);
        let ran = command.env("SSL_CERT_FILE", folder.join("ca.pem")).output().unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (code, err) = run(format!("FROM scratch\nADD {address} /tool\n"));
    assert!(code != Some(0) && err.contains("redirects from https to http://127.0.0.1"), "{err}");
    assert!(!world.folder.join("stead.lock").exists());
    // With a digest, it does not matter where the file comes from.
    let digest = stead::tested::model::Digest::of("of whoever is on the way");
    let (code, err) = run(format!("FROM scratch\nADD --checksum={digest} {address} /tool\n"));
    assert_eq!(code, Some(0), "{err}");
}

//! Package archives that these tests make byte by byte; `gpg` signs them, with any system time that a test asks for.

use crate::world::{Ran, World};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stead::tested::model::Digest;
use tar::EntryType;

/// A project that takes one package from such an archive.
pub const PROJECT: &str = r#"project "lying"
mirror "vendor"
image "a" {
    debian "test" key="key.gpg" {
        essential #false
        package "app"
    }
}
"#;

/// A time as gpg takes it, with the date of a release made at that time.
pub const YEAR_2020: (&str, &str) = ("20200601T000000", "Mon, 01 Jun 2020 00:00:00 UTC");
pub const YEAR_2024: (&str, &str) = ("20240601T000000", "Sat, 01 Jun 2024 00:00:00 UTC");
pub const YEAR_2025: (&str, &str) = ("20250601T000000", "Sun, 01 Jun 2025 00:00:00 UTC");
pub const YEAR_2090: (&str, &str) = ("20900601T000000", "Thu, 01 Jun 2090 00:00:00 UTC");

/// An archive in a directory, with a key of its own.
pub struct Archive {
    pub folder: PathBuf,
    gpg: PathBuf,
}

impl Archive {
    /// An archive whose key was made in 2020 and expires after `end`, in gpg's notation: `never`, `1y`.
    pub fn new(world: &World, end: &str) -> Option<Self> {
        let archive =
            Self { folder: world.folder.join("vendor"), gpg: world.folder.with_file_name(format!("gpg-{}", std::process::id())) };
        fs::create_dir_all(archive.folder.join("pool")).unwrap();
        fs::create_dir_all(&archive.gpg).unwrap();
        assert!(Command::new("chmod").arg("700").arg(&archive.gpg).status().unwrap().success());
        if Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_err() {
            crate::world::tell_skipped("gpg is not installed");
            return None;
        }
        archive.gpg("20200101T000000", &["--quick-generate-key", "Lying <lying@example.org>", "ed25519", "sign", end]);
        let key = archive.gpg("20200101T000000", &["--export"]);
        fs::write(world.folder.join("key.gpg"), key).unwrap();
        Some(archive)
    }

    /// Another archive, signed by the same key.
    pub fn beside(&self, name: &str) -> Self {
        let other = Self { folder: self.folder.with_file_name(name), gpg: self.gpg.clone() };
        fs::create_dir_all(other.folder.join("pool")).unwrap();
        other
    }

    fn gpg(&self, time: &str, arguments: &[&str]) -> Vec<u8> {
        // gpg's agent may be starting or ending; then the next try succeeds.
        for tries in 0.. {
            let mut command = Command::new("gpg");
            command.args(["--batch", "--yes", "--quiet", "--no-tty", "--passphrase", "", "--pinentry-mode", "loopback"]);
            command.args(["--ignore-time-conflict", "--ignore-valid-from", "--faked-system-time", &format!("{time}!")]);
            let ran = command.arg("--homedir").arg(&self.gpg).args(arguments).stdin(Stdio::null()).output().unwrap();
            if ran.status.success() {
                return ran.stdout;
            }
            assert!(tries < 3, "{}", String::from_utf8_lossy(&ran.stderr));
            std::thread::sleep(Duration::from_secs(1));
        }
        Vec::new()
    }

    /// Puts a package into the pool, and returns its stanza for an index.
    pub fn package(&self, name: &str, version: &str, bytes: &[u8]) -> String {
        let path = format!("pool/{name}_{version}_all.deb");
        fs::write(self.folder.join(&path), bytes).unwrap();
        let (size, sha256) = (bytes.len(), Digest::of(bytes).hex());
        format!("Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n")
    }

    /// Publishes a release of a suite with this index, dated and signed at the given time.
    pub fn publish(&self, suite: &str, index: &str, when: (&str, &str)) {
        self.publish_as(suite, index, when.0, &format!("Suite: {suite}\nDate: {}\n", when.1), &[]);
    }

    /// Publishes a release with these fields; `more` holds further arguments for gpg.
    pub fn publish_as(&self, suite: &str, index: &str, time: &str, fields: &str, more: &[&str]) {
        let dists = self.folder.join("dists").join(suite);
        let path = "main/binary-amd64/Packages";
        fs::create_dir_all(dists.join("main/binary-amd64")).unwrap();
        fs::write(dists.join(path), index).unwrap();
        let (sha256, size) = (Digest::of(index).hex(), index.len());
        fs::write(dists.join("Release"), format!("{fields}SHA256:\n {sha256} {size} {path}\n")).unwrap();
        let _ = fs::remove_file(dists.join("InRelease"));
        let (release, signed) = (dists.join("Release"), dists.join("InRelease"));
        let files = ["--clearsign", "-o", signed.to_str().unwrap(), release.to_str().unwrap()];
        self.gpg(time, &[more, &files].concat());
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Ends the agent that gpg started for this directory.
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.gpg).args(["--kill", "all"]).status();
    }
}

/// A world with a store of its own, and an archive in it.
pub fn world(name: &str, end: &str) -> Option<(World, Archive)> {
    if !crate::ground::is_root() {
        return None;
    }
    let world = World::bare(&format!("attack-{name}"), PROJECT);
    fs::remove_file(world.root.join("store")).unwrap();
    let archive = Archive::new(&world, end)?;
    Some((world, archive))
}

/// An entry of a package: its path, kind, content (for a link: the target), and how many zero bytes follow the content.
pub type Entry<'a> = (&'a str, EntryType, &'a str, u64);

/// A package with these entries.
pub fn deb(name: &str, version: &str, entries: &[Entry]) -> Vec<u8> {
    let control = format!("Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x\nDescription: x\n");
    let mut out = b"!<arch>\n".to_vec();
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.xz", tar(&[("./control", EntryType::Regular, &control, 0)])),
        ("data.tar.xz", tar(entries)),
    ];
    for (name, bytes) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len()).as_bytes());
        out.extend(&bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut data = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 0));
    for (path, kind, content, zeros) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        match kind {
            EntryType::Symlink => data.append_link(&mut header, path, content).unwrap(),
            EntryType::Char => {
                let (major, minor) = content.split_once(':').unwrap();
                header.set_device_major(major.parse().unwrap()).unwrap();
                header.set_device_minor(minor.parse().unwrap()).unwrap();
                data.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            _ => {
                header.set_size(content.len() as u64 + zeros);
                data.append_data(&mut header, path, content.as_bytes().chain(std::io::repeat(0).take(*zeros))).unwrap();
            }
        }
    }
    data.into_inner().unwrap().finish().unwrap()
}

/// A plain package with one file, which holds the package's version.
pub fn plain(name: &str, version: &str) -> Vec<u8> {
    deb(name, version, &[(&format!("./usr/share/{name}/version"), EntryType::Regular, version, 0)])
}

/// Runs `stead` with a time limit; a command that hangs is killed and fails the test.
pub fn run_for(world: &World, arguments: &[&str], patience: Duration) -> Ran {
    let mut child = world.spawn(arguments);
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reading = std::thread::spawn(move || {
        let (mut told, mut failed) = (Vec::new(), Vec::new());
        let _ = out.read_to_end(&mut told);
        let _ = err.read_to_end(&mut failed);
        (told, failed)
    });
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        if start.elapsed() > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("stead {arguments:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (out, err) = reading.join().unwrap();
    Ran { code, out: String::from_utf8_lossy(&out).into_owned(), err: String::from_utf8_lossy(&err).into_owned() }
}

/// How the web server answers a request for a path.
#[derive(Clone)]
pub enum Act {
    /// Serves the file from a directory, or answers 404.
    File(PathBuf),
    Status(u16),
    /// Sends this many bytes, without announcing the length.
    Flood(u64),
}

type Rule = dyn Fn(&str) -> Act + Send + Sync;

/// A web server that records how many bytes it could send for each path.
pub struct Web {
    pub address: String,
    pub sent: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Web {
    pub fn new(rule: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sent, rule): (Arc<Mutex<Vec<_>>>, Arc<Rule>) = (Arc::default(), Arc::new(rule));
        let known = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, rule) = (known.clone(), rule.clone());
                std::thread::spawn(move || answer(stream, &*rule, &known));
            }
        });
        Self { address, sent }
    }

    /// The largest number of bytes that were sent for a path with this ending.
    pub fn sent(&self, ending: &str) -> u64 {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|(path, _)| path.ends_with(ending)).map(|(_, length)| *length).max().unwrap_or(0)
    }
}

fn answer(mut stream: TcpStream, rule: &Rule, known: &Mutex<Vec<(String, u64)>>) {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = text.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let head = |status: &str, length: u64| format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    match rule(&path) {
        Act::File(folder) => match fs::read(folder.join(&path)) {
            Ok(body) => {
                let _ = stream.write_all(head("200 OK", body.len() as u64).as_bytes());
                let _ = stream.write_all(&body);
            }
            Err(_) => drop(stream.write_all(head("404 Not Found", 0).as_bytes())),
        },
        Act::Status(status) => drop(stream.write_all(head(&format!("{status} Because"), 0).as_bytes())),
        Act::Flood(most) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            let piece = vec![b'x'; 64 << 10];
            let mut sent = 0;
            while sent < most && stream.write_all(&piece).is_ok() {
                sent += piece.len() as u64;
            }
            known.lock().unwrap().push((path, sent));
        }
    }
}

/// The size of a world's store, in bytes.
pub fn stored(world: &World) -> u64 {
    fn size(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| if entry.file_type().unwrap().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() })
            .sum()
    }
    size(&world.root.join("store"))
}

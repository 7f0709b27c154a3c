//! Registries to pull from and to push to: Debian's own `docker-registry`, certificates and a token server for it, a
//! proxy that injects errors, and images to put in. The tests that use them are in other files.

mod certificates;
mod http;
mod image;
mod proxy;
mod token;

pub use certificates::Certificates;
pub use image::image;
pub use proxy::{Act, Error, Proxy};
pub use token::TokenServer;

use self::http::Head;
use crate::world::skip;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stead::tested::model::Digest;
use tempfile::TempDir;

/// The user agent of the requests that check whether a registry answers.
const PROBE: &str = "is-it-there";

/// Whether the programs that make registries, certificates and passwords are installed.
pub fn available() -> bool {
    let there = |program: &&str| ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    match ["docker-registry", "openssl", "htpasswd", "skopeo"].iter().find(|program| !there(program)) {
        Some(absent) => !skip(&format!("{absent} is not installed")),
        None => true,
    }
}

/// Runs a program with this input, fails the test unless it succeeds, and returns its output.
pub fn run(program: &str, arguments: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    // A program that does not read its input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A registry with a data directory of its own; it is ended when it is dropped.
pub struct Registry {
    /// The host and the port.
    pub address: String,
    folder: TempDir,
    child: Child,
}

/// The configuration of a registry; by default it is open to all, and speaks plain HTTP.
#[derive(Default)]
pub struct Options<'a> {
    pub tls: Option<Certificates>,
    /// Names and passwords for basic authentication.
    pub users: Option<&'a [(&'a str, &'a str)]>,
    pub token: Option<&'a TokenServer>,
    /// The address, with its scheme, of a registry that this one mirrors. That one must already run.
    pub proxy_of: Option<String>,
    /// The authority that signs the certificates of the clients that may ask; needs TLS.
    pub clients: Option<PathBuf>,
}

impl Registry {
    pub fn plain() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        // Another process may take the port between the search for it and its use.
        (0..5).find_map(|_| Self::start(&options)).expect("five registries in a row ended at once")
    }

    /// Starts a registry, and waits until it answers; returns `None` if it ends instead.
    fn start(options: &Options) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let path = folder.path().join("config.yml");
        // JSON is YAML too.
        fs::write(&path, config(options, &address, folder.path()).to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).current_dir(folder.path()).stdin(Stdio::null());
        // The registry gets no proxy and no settings in REGISTRY_… variables.
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.stdout(fs::File::create(folder.path().join("access.log")).unwrap());
        command.stderr(fs::File::create(folder.path().join("error.log")).unwrap());
        let child = command.spawn().expect("docker-registry cannot be started");
        let mut registry = Self { address, folder, child };
        let start = Instant::now();
        loop {
            if registry.child.try_wait().unwrap().is_some() {
                println!("docker-registry ended: {}", registry.log());
                return None;
            }
            if registry.listens() && registry.answers() {
                return Some(registry);
            }
            assert!(start.elapsed() < Duration::from_secs(10), "docker-registry does not answer: {}", registry.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether this registry has the port, and not another process that took it before.
    fn listens(&self) -> bool {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.child.id()));
        let Ok(entries) = fs::read_dir(folder) else { return false };
        let files: Vec<_> = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let (_, port) = self.address.split_once(':').unwrap();
        let port = format!(":{:04X}", port.parse::<u16>().unwrap());
        // The words of each socket: number, local address, remote address, state, …, inode.
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
            words[1].ends_with(&port) && words[3] == "0A" && files.contains(&PathBuf::from(format!("socket:[{}]", words[9])))
        })
    }

    /// Whether it answers. A registry with TLS answers, too: it complains that it was asked without TLS.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (host, mut text) = (&self.address, Vec::new());
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {PROBE}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok() && stream.read_to_end(&mut text).is_ok() && text.starts_with(b"HTTP/1.")
    }

    /// Sends it a request, without TLS, and returns the answer's head.
    fn ask(&self, request: &str, kind: &str, body: &[u8]) -> Head {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        Head::read(&mut BufReader::new(stream)).unwrap()
    }

    /// Puts bytes into a repository, and returns their descriptor.
    pub fn put(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let begun = self.ask(&format!("POST /v2/{repository}/blobs/uploads/"), "text/plain", b"");
        let place = begun.get("location").unwrap().split_once(&self.address).unwrap().1.to_owned();
        let put = self.ask(&format!("PUT {place}&digest={digest}"), "application/octet-stream", bytes);
        assert_eq!(put.status(), 201, "{}", self.log());
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Puts a manifest into a repository, under a tag or its digest, and returns its descriptor.
    pub fn put_manifest(&self, repository: &str, tag: Option<&str>, manifest: &Value) -> Value {
        let bytes = manifest.to_string();
        let (digest, kind) = (Digest::of(&bytes).to_string(), manifest["mediaType"].as_str().unwrap());
        let put = self.ask(&format!("PUT /v2/{repository}/manifests/{}", tag.unwrap_or(&digest)), kind, bytes.as_bytes());
        assert_eq!(put.status(), 201, "{}", self.log());
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// The errors that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(options: &Options, address: &str, folder: &Path) -> Value {
    let mut config = json!({
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": false}},
        "storage": {
            "filesystem": {"rootdirectory": folder.join("data")},
            "maintenance": {"uploadpurging": {"enabled": false}},
        },
        "http": {"addr": address, "secret": "secret"},
    });
    if let Some(certificates) = &options.tls {
        config["http"]["tls"] = json!({"certificate": certificates.certificate, "key": certificates.key});
        if let Some(authority) = &options.clients {
            config["http"]["tls"]["clientcas"] = json!([authority]);
        }
    }
    assert!(options.users.is_none() || options.token.is_none(), "docker-registry knows one way to authenticate at a time");
    if let Some(users) = options.users {
        let path = folder.join("htpasswd");
        let lines: Vec<_> =
            users.iter().flat_map(|(name, password)| run("htpasswd", &["-Bbn", name, password], folder, b"")).collect();
        fs::write(&path, lines).unwrap();
        config["auth"] = json!({"htpasswd": {"realm": "test", "path": path}});
    }
    if let Some(server) = options.token {
        let bundle = server.certificate();
        config["auth"] =
            json!({"token": {"realm": server.url, "service": token::SERVICE, "issuer": token::ISSUER, "rootcertbundle": bundle}});
    }
    if let Some(upstream) = &options.proxy_of {
        config["proxy"] = json!({"remoteurl": upstream});
    }
    config
}

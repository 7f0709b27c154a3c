//! Registries to pull from and to push to: Debian's own `docker-registry`, certificates and a token server for it,
//! a proxy that makes faults, and images to put in. What is tested with them stands in other files.

use crate::world::skip;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stead::model::Digest;
use tempfile::TempDir;

/// What the questions call themselves that a registry is asked until it answers.
const PROBE: &str = "is-it-there";

/// True when the programs are there that registries, certificates and passwords are made with.
pub fn available() -> bool {
    let there = |program: &&str| ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    match ["docker-registry", "openssl", "htpasswd", "skopeo"].iter().find(|program| !there(program)) {
        Some(absent) => !skip(&format!("{absent} is not installed")),
        None => true,
    }
}

/// Runs a program with this input, and fails the test unless it succeeds; its output comes back.
fn run(program: &str, arguments: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    // One that does not read its input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A registry with a data folder of its own; ended when it is dropped.
pub struct Registry {
    /// The host and the port.
    pub address: String,
    folder: TempDir,
    child: Child,
}

/// How a registry is to be; by default it is open to all, and speaks plain HTTP.
#[derive(Default)]
pub struct Options<'a> {
    pub tls: Option<Certificates>,
    /// Names and passwords, asked for by basic authentication.
    pub users: Option<&'a [(&'a str, &'a str)]>,
    pub token: Option<&'a TokenServer>,
    /// The address, with its scheme, of a registry that this one mirrors. It must be there already.
    pub proxy_of: Option<String>,
    /// Whether manifests and blobs may be deleted.
    pub delete: bool,
}

impl Registry {
    pub fn plain() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        // Between the search for a port and its use, another may have taken it.
        (0..5).find_map(|_| Self::start(&options)).expect("five registries in a row ended at once")
    }

    /// Starts a registry and waits for its answer; none if it ends instead.
    fn start(options: &Options) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let path = folder.path().join("config.yml");
        // JSON is YAML too.
        fs::write(&path, config(options, &address, folder.path()).to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).current_dir(folder.path()).stdin(Stdio::null());
        // Neither a proxy nor settings in REGISTRY_… variables.
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

    /// Whether it is this one that has the port, and not another that took it before.
    fn listens(&self) -> bool {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.child.id()));
        let Ok(entries) = fs::read_dir(folder) else { return false };
        let files: Vec<_> = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let (_, port) = self.address.split_once(':').unwrap();
        let port = format!(":{:04X}", port.parse::<u16>().unwrap());
        // Of each socket: number, local address, other address, state, …, inode.
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
            words[1].ends_with(&port) && words[3] == "0A" && files.contains(&PathBuf::from(format!("socket:[{}]", words[9])))
        })
    }

    /// Whether it answers. One with TLS complains that it is asked without.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (host, mut text) = (&self.address, Vec::new());
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {PROBE}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok() && stream.read_to_end(&mut text).is_ok() && text.starts_with(b"HTTP/1.")
    }

    /// What it complains about.
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
            "delete": {"enabled": options.delete},
            "maintenance": {"uploadpurging": {"enabled": false}},
        },
        "http": {"addr": address, "secret": "secret"},
    });
    if let Some(certificates) = &options.tls {
        config["http"]["tls"] = json!({"certificate": certificates.certificate, "key": certificates.key});
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
        let bundle = server.tokens.folder.path().join("certificate.pem");
        config["auth"] = json!({"token": {"realm": server.url, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}});
    }
    if let Some(upstream) = &options.proxy_of {
        config["proxy"] = json!({"remoteurl": upstream});
    }
    config
}

/// A server's certificate for 127.0.0.1 and localhost, its key, and the certificate of the authority that signed it.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const OPENSSL: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
[any]
commonName = supplied
[issue]
database = issued
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = server
";

impl Certificates {
    /// Makes them in this folder. The server's is valid for so many days from now; `-1` gives one that ended yesterday.
    pub fn make(folder: &Path, days: i32) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("openssl.cnf"), OPENSSL).unwrap();
        fs::write(folder.join("issued"), "").unwrap();
        let run = |line: &str| run("openssl", &line.split(' ').collect::<Vec<_>>(), folder, b"");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
        run(&format!(
            "req -x509 {key} -extensions authority -subj /CN=authority -days 3650 -keyout authority.key -out authority.pem"
        ));
        run(&format!("req -new {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        // In OpenSSL 3.0 only `ca` can sign for times that have passed.
        let (from, to) = (date(days.min(0) - 1), date(days));
        run(&format!(
            "ca -batch -notext -rand_serial -config openssl.cnf -name issue -cert authority.pem -keyfile authority.key \
             -startdate {from} -enddate {to} -in server.csr -out server.pem"
        ));
        let at = |name: &str| folder.join(name);
        Self { authority: at("authority.pem"), certificate: at("server.pem"), key: at("server.key") }
    }
}

/// The time so many days from now, as OpenSSL reads it.
fn date(days: i32) -> String {
    let text = run("date", &["-u", "-d", &format!("{days:+} days"), "+%Y%m%d%H%M%SZ"], Path::new("/"), b"");
    String::from_utf8(text).unwrap().trim().to_owned()
}

/// Listens on a port of its own until it is dropped, with a thread for each connection.
struct Listener {
    address: String,
    ended: Arc<AtomicBool>,
}

impl Listener {
    fn new(answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ended, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let told = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                // One that went away in the middle is of no interest.
                std::thread::spawn(move || answer(stream).ok());
            }
        });
        Self { address, ended }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

/// The first line of a request or of an answer, and the headers.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        // A client that tries TLS first waits for us.
        if reader.fill_buf()?.first() == Some(&0x16) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().ok_or(io::ErrorKind::InvalidData)?;
        let pairs = lines.filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
        Ok(Self { first, headers: pairs.collect() })
    }

    /// A word of the first line.
    fn word(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }

    fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn without(&mut self, names: &[&str]) {
        self.headers.retain(|(other, _)| !names.iter().any(|name| other.eq_ignore_ascii_case(name)));
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        to.write_all(format!("{}\r\n{lines}\r\n", self.first).as_bytes())
    }

    /// How long the body is that follows; this is told when neither header tells it.
    fn length(&self, otherwise: Length) -> Length {
        if self.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Length::Chunked;
        }
        self.get("content-length").and_then(|value| value.parse().ok()).map_or(otherwise, Length::Known)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// A body, out of whatever encoding it comes in.
struct Body<R> {
    reader: R,
    length: Length,
    /// How much is left of it, or of its chunk.
    left: u64,
    ended: bool,
}

impl<R: BufRead> Body<R> {
    fn new(reader: R, length: Length) -> Self {
        let left = match length {
            Length::Known(length) => length,
            Length::Chunked => 0,
            Length::UntilClose => u64::MAX,
        };
        Self { reader, length, left, ended: length == Length::Known(0) }
    }

    /// The next bytes; none at the end.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = String::new();
        if self.length == Length::Chunked && self.left == 0 && !self.ended {
            self.reader.read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            self.ended = self.left == 0;
            while self.ended && !line.trim_end().is_empty() {
                // Trailers, and the empty line after them.
                line.clear();
                self.reader.read_line(&mut line)?;
            }
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            // A read would wait for what comes after the body.
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..want])?;
        if got == 0 && self.length != Length::UntilClose {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        if self.length == Length::Chunked && self.left == 0 && !self.ended {
            self.reader.read_line(&mut line)?;
        }
        Ok(got)
    }

    /// Reads what is left, for nobody.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while self.next(&mut buffer)? > 0 {}
        Ok(())
    }
}

/// Passes a body on, in the encoding in which it comes, with what a fault does to it.
fn pass(from: &mut Body<impl BufRead>, to: &mut impl Write, act: Option<&Act>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut count) = (0, 0);
    let middle = if let Length::Known(length) = from.length { length / 2 } else { 0 };
    loop {
        let pause = match act {
            Some(Act::Drip { pause, pieces, .. }) if count < *pieces => Some(*pause),
            _ => None,
        };
        let most = match act {
            Some(Act::CutAfter(bytes)) => bytes - usize::try_from(at).unwrap(),
            Some(Act::Drip { piece, .. }) if pause.is_some() => *piece,
            _ => buffer.len(),
        };
        let room = most.min(buffer.len());
        if room == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let got = from.next(&mut buffer[..room])?;
        let bytes = &mut buffer[..got];
        if matches!(act, Some(Act::Damage)) && (at..at + got as u64).contains(&middle) {
            bytes[usize::try_from(middle - at).unwrap()] ^= 0xff;
        }
        if from.length == Length::Chunked {
            // The last chunk is the empty one.
            write!(to, "{got:x}\r\n")?;
            to.write_all(bytes)?;
            to.write_all(b"\r\n")?;
        } else {
            to.write_all(bytes)?;
        }
        if got == 0 {
            return Ok(());
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        at += got as u64;
        count += 1;
    }
}

/// Answers a request, and tells that the connection ends.
fn answer(to: &mut TcpStream, method: &str, status: u16, headers: &[(String, String)], body: &str) -> io::Result<()> {
    let mut head = Head { first: format!("HTTP/1.1 {status} Test"), headers: headers.to_vec() };
    if head.get("content-length").is_none() {
        head.headers.push(("Content-Length".into(), body.len().to_string()));
    }
    head.headers.push(("Connection".into(), "close".into()));
    head.write(to)?;
    if method != "HEAD" {
        to.write_all(body.as_bytes())?;
    }
    to.shutdown(Shutdown::Write)
}

const SERVICE: &str = "test registry";
const ISSUER: &str = "test issuer";

/// Gives tokens for a registry, by the token protocol of the distribution project. It ends when it is dropped.
pub struct TokenServer {
    /// Where tokens are asked for.
    pub url: String,
    tokens: Arc<Tokens>,
    _listener: Listener,
}

/// What the token server knows.
struct Tokens {
    folder: TempDir,
    users: Vec<(String, String)>,
    open: bool,
    lifetime: AtomicI64,
    requests: Mutex<Vec<String>>,
}

impl TokenServer {
    /// One that gives these users whatever they ask for, and others nothing.
    pub fn new(users: &[(&str, &str)]) -> Self {
        Self::start(users, false)
    }

    /// One that also lets those pull who do not say who they are.
    pub fn open(users: &[(&str, &str)]) -> Self {
        Self::start(users, true)
    }

    fn start(users: &[(&str, &str)], open: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line = "req -x509 -newkey rsa:2048 -nodes -subj /CN=tokens -days 30 -config openssl.cnf -extensions authority \
             -keyout key.pem -out certificate.pem";
        fs::write(folder.path().join("openssl.cnf"), OPENSSL).unwrap();
        run("openssl", &line.split(' ').collect::<Vec<_>>(), folder.path(), b"");
        let users = users.iter().map(|(name, password)| ((*name).to_owned(), (*password).to_owned())).collect();
        let tokens = Tokens { folder, users, open, lifetime: AtomicI64::new(300), requests: Mutex::default() };
        let tokens = Arc::new(tokens);
        let shared = Arc::clone(&tokens);
        let listener = Listener::new(move |stream| shared.exchange(stream));
        Self { url: format!("http://{}/token", listener.address), tokens, _listener: listener }
    }

    /// For how many seconds tokens last from now on; the registry gives them 60 more. Less than -60: they are out of
    /// date when they come, although they are said to last for a minute.
    pub fn lifetime(&self, seconds: i64) {
        self.tokens.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// The requests, as `METHOD user parameters`, where the user is `-` when nobody or nobody known asked.
    pub fn requests(&self) -> Vec<String> {
        self.tokens.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.requests().len()
    }
}

fn refresh(user: &str) -> String {
    format!("refresh-{}", Digest::of(user).short(16))
}

impl Tokens {
    fn exchange(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let head = Head::read(&mut reader)?;
        let (method, target) = (head.word(0), head.word(1));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut text = query.to_owned();
        if method == "POST" {
            let Length::Known(length) = head.length(Length::Known(0)) else { return answer(&mut stream, method, 411, &[], "") };
            text.clear();
            reader.take(length).read_to_string(&mut text)?;
        }
        let parameters = form(&text);
        let user = self.user(&head, &parameters);
        self.requests
            .lock()
            .unwrap()
            .push(format!("{method} {} {text}", user.as_deref().filter(|user| !user.is_empty()).unwrap_or("-")));
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        match user {
            _ if path != "/token" => answer(&mut stream, method, 404, &[], ""),
            Some(user) => answer(&mut stream, method, 200, &json, &self.tell(&user, &parameters).to_string()),
            None => {
                let errors = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
                answer(&mut stream, method, 401, &json, &errors.to_string())
            }
        }
    }

    /// Who asks: a user, the empty name where nobody may ask too, or none.
    fn user(&self, head: &Head, parameters: &[(String, String)]) -> Option<String> {
        let known = |name: &str, password: &str| self.users.iter().find(|user| user.0 == name && user.1 == password);
        let user = if head.word(0) == "POST" {
            match value(parameters, "grant_type")? {
                "password" => known(value(parameters, "username")?, value(parameters, "password")?),
                "refresh_token" => {
                    let token = value(parameters, "refresh_token")?;
                    self.users.iter().find(|user| refresh(&user.0) == token)
                }
                _ => None,
            }
        } else {
            let Some(text) = head.get("authorization") else { return self.open.then(String::new) };
            let text = String::from_utf8(STANDARD.decode(text.strip_prefix("Basic ")?).ok()?).ok()?;
            let (name, password) = text.split_once(':')?;
            known(name, password)
        };
        user.map(|(name, _)| name.clone())
    }

    /// The answer for a user that is known.
    fn tell(&self, user: &str, parameters: &[(String, String)]) -> Value {
        let scopes = parameters.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
        let access: Vec<_> = scopes.filter_map(|scope| granted(scope, user)).collect();
        let service = value(parameters, "service").unwrap_or_default();
        let lifetime = self.lifetime.load(Ordering::SeqCst);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": service, "jti": "1", "access": access,
            "iat": now, "nbf": now + lifetime.min(0) - 10, "exp": now + lifetime,
        });
        let token = self.sign(&claims);
        let mut told = json!({"token": token, "access_token": token, "expires_in": lifetime.max(60)});
        if value(parameters, "offline_token") == Some("true") || value(parameters, "access_type") == Some("offline") {
            told["refresh_token"] = refresh(user).into();
        }
        told
    }

    fn sign(&self, claims: &Value) -> String {
        let certificate = fs::read_to_string(self.folder.path().join("certificate.pem")).unwrap();
        let certificate: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let signature = run("openssl", &["dgst", "-sha256", "-sign", "key.pem"], self.folder.path(), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What is granted of a scope such as `repository:name:pull,push`. A name may have colons in it.
fn granted(scope: &str, user: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').filter(|action| !user.is_empty() || *action == "pull").collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// The parameters of a query or of a form.
fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&pair), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Stands before a registry, records what it is asked, and makes faults. It ends when it is dropped.
pub struct Proxy {
    /// The host and the port.
    pub address: String,
    state: Arc<State>,
    _listener: Listener,
}

/// A rule. A request takes at most one fault: the first that fits it and is not used up.
pub struct Fault {
    /// The method, or any when this is empty.
    pub method: &'static str,
    /// What the path, with its query, has in it.
    pub path: &'static str,
    /// For how many requests it acts.
    pub times: usize,
    pub act: Act,
}

/// What a fault does. Where a request has a body, what is said of bodies is done to that one on its way to the
/// registry. Otherwise it is done to the answer's, and an answer that is an error or has no body does not count.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers this status with these headers and this body, and does not ask the registry.
    Answer(u16, Vec<(String, String)>, String),
    /// Cuts the connection after so many bytes of the body, although more were promised.
    CutAfter(usize),
    /// Drops the header Range of the request, so that all of it comes.
    NoRange,
    /// Flips the bits of the byte in the middle of the body, or of its first where the length is not told.
    Damage,
    /// Passes this many small pieces of the body on, with a pause after each, and the rest at full speed.
    Drip { piece: usize, pause: Duration, pieces: usize },
    /// Redirects, by status 307, to this base URL with the path behind it.
    Redirect(String),
    /// Closes without an answer.
    Close,
    /// Waits before the registry is asked.
    Delay(Duration),
}

impl Act {
    fn is_of_bodies(&self) -> bool {
        matches!(self, Self::CutAfter(_) | Self::Damage | Self::Drip { .. })
    }
}

/// A request that the proxy was asked; recorded when its answer begins.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    /// What was answered; 0 when nothing was.
    pub status: u16,
}

impl Seen {
    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }
}

/// What the proxy's connections share.
struct State {
    registry: String,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Stands before the registry with this host and port, which speaks plain HTTP.
    pub fn before(registry: &str, faults: Vec<Fault>) -> Self {
        let state = Arc::new(State { registry: registry.to_owned(), faults: Mutex::new(faults), seen: Mutex::new(Vec::new()) });
        let shared = Arc::clone(&state);
        let listener = Listener::new(move |stream| shared.exchange(stream));
        Self { address: listener.address.clone(), state, _listener: listener }
    }

    /// The requests since the start, or since `forget`, in the order in which their answers began.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The same as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }
}

impl State {
    /// Takes the fault for a request if it can act now.
    fn take(&self, method: &str, path: &str, now: impl Fn(&Act) -> bool) -> Option<Act> {
        let mut faults = self.faults.lock().unwrap();
        let fits = |fault: &&mut Fault| {
            fault.times > 0 && (fault.method.is_empty() || fault.method == method) && path.contains(fault.path)
        };
        let fault = faults.iter_mut().find(fits).filter(|fault| now(&fault.act))?;
        fault.times -= 1;
        Some(fault.act.clone())
    }

    fn saw(&self, request: &Head, status: u16) {
        let headers = request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        let (method, path) = (request.word(0).to_owned(), request.word(1).to_owned());
        self.seen.lock().unwrap().push(Seen { method, path, headers, status });
    }

    /// One request and its answer, after which the connection ends.
    fn exchange(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client.try_clone()?);
        let request = Head::read(&mut reader)?;
        let (method, path) = (request.word(0), request.word(1));
        let mut body = Body::new(reader, request.length(Length::Known(0)));
        let act = self.take(method, path, |act| !act.is_of_bodies() || !body.ended);
        let mut refuse = |status, headers: &[(String, String)], text: &str| {
            self.saw(&request, status);
            // One that waits to be told to go on sends nothing.
            if request.get("expect").is_none() {
                body.drain()?;
            }
            answer(&mut client, method, status, headers, text)
        };
        match &act {
            Some(Act::Answer(status, headers, text)) => return refuse(*status, headers, text),
            Some(Act::Redirect(base)) => return refuse(307, &[("Location".into(), format!("{base}{path}"))], ""),
            Some(Act::Close) => {
                self.saw(&request, 0);
                return Ok(());
            }
            Some(Act::Delay(pause)) => std::thread::sleep(*pause),
            _ => {}
        }
        let Ok(registry) = TcpStream::connect(&self.registry) else { return refuse(502, &[], "") };
        registry.set_nodelay(true)?;
        if request.get("expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Err(error) = self.ask(&request, &mut body, &registry, act.as_ref()) {
            self.saw(&request, 0);
            return Err(error);
        }
        self.tell(&request, BufReader::new(registry), &mut client, act.is_some())
    }

    /// Passes a request on to the registry.
    fn ask(&self, request: &Head, body: &mut Body<impl BufRead>, mut registry: &TcpStream, act: Option<&Act>) -> io::Result<()> {
        let mut head = Head { first: request.first.clone(), headers: request.headers.clone() };
        head.without(&["connection", "keep-alive", "expect", "host"]);
        if matches!(act, Some(Act::NoRange)) {
            head.without(&["range", "if-range"]);
        }
        head.headers.push(("Host".into(), self.registry.clone()));
        head.headers.push(("Connection".into(), "close".into()));
        head.write(&mut registry)?;
        match pass(body, &mut registry, act) {
            Err(error) if matches!(act, Some(Act::CutAfter(_))) => Err(error),
            // It may have answered without reading all of it.
            Err(_) => body.drain(),
            Ok(()) => Ok(()),
        }
    }

    /// Passes the registry's answer on.
    fn tell(&self, request: &Head, mut registry: BufReader<TcpStream>, client: &mut TcpStream, taken: bool) -> io::Result<()> {
        let mut head = Head { first: String::new(), headers: Vec::new() };
        while head.status() < 200 {
            head = Head::read(&mut registry).inspect_err(|_| self.saw(request, 0))?;
        }
        let status = head.status();
        let empty = request.word(0) == "HEAD" || [204, 304].contains(&status);
        let length = if empty { Length::Known(0) } else { head.length(Length::UntilClose) };
        let mut body = Body::new(registry, length);
        let act = if taken || !(200..300).contains(&status) || body.ended {
            None
        } else {
            self.take(request.word(0), request.word(1), Act::is_of_bodies)
        };
        let (theirs, ours) = (format!("http://{}", self.registry), format!("http://{}", client.local_addr()?));
        for (name, value) in &mut head.headers {
            if name.eq_ignore_ascii_case("location") || name.eq_ignore_ascii_case("link") {
                *value = value.replace(&theirs, &ours);
            }
        }
        head.without(&["connection", "keep-alive"]);
        head.headers.push(("Connection".into(), "close".into()));
        self.saw(request, status);
        head.write(client)?;
        pass(&mut body, client, act.as_ref())?;
        client.shutdown(Shutdown::Write)
    }
}

/// Makes an image in this folder, as an OCI layout whose only name is `latest`; the folder comes back. Each layer has
/// so many bytes, which do not compress, spread over four files. The first also has the program `/bin/hello`, which is
/// all that the image can run. The same layers always make the same image.
pub fn image(folder: &Path, layers: &[usize]) -> PathBuf {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let store = |kind: &str, content: &[u8]| {
        let digest = Digest::of(content).hex();
        fs::write(folder.join("blobs/sha256").join(&digest), content).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": content.len()})
    };
    let (mut descriptors, mut identities, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (number, length) in layers.iter().enumerate() {
        let layer = layer(number, *length);
        let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&layer).unwrap();
        descriptors.push(store("layer.v1.tar+gzip", &encoder.finish().unwrap()));
        identities.push(format!("sha256:{}", Digest::of(&layer).hex()));
        history.push(json!({"created": "1970-01-01T00:00:00Z", "created_by": format!("layer {number}")}));
    }
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"]},
        "rootfs": {"type": "layers", "diff_ids": identities}, "history": history,
    });
    let config = store("config.v1+json", config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors});
    let mut manifest = store("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
    fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
    folder.to_owned()
}

/// A layer's archive.
fn layer(number: usize, length: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).unwrap();
    };
    if number == 0 {
        add("bin/", 0o755, b"");
        add("bin/hello", 0o755, &hello());
    }
    add("data/", 0o755, b"");
    add(&format!("data/{number}/"), 0o755, b"");
    for part in 0..4 {
        let share = length * (part + 1) / 4 - length * part / 4;
        add(&format!("data/{number}/{part}"), 0o644, &noise(share, (number * 4 + part + 1) as u64));
    }
    archive.into_inner().unwrap()
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    // Small seeds would begin with many zeros.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A static program for Linux on amd64 that prints `hello`.
fn hello() -> Vec<u8> {
    let code = [
        &[0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0][..],          // write to 1
        &[0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba, 6, 0, 0, 0], // the text behind the code, six bytes
        &[0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff],       // exit with 0
        &[0x0f, 0x05],
        b"hello\n",
    ]
    .concat();
    let base: u64 = 0x40_0000;
    let size = (120 + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    // Where it begins, where the program headers are, and that there are no section headers.
    [base + 120, 64, 0].iter().for_each(|value: &u64| file.extend(value.to_le_bytes()));
    // Flags; sizes of headers; one program header.
    [0_u16, 0, 64, 56, 1, 0, 0, 0].iter().for_each(|value| file.extend(value.to_le_bytes()));
    // All of it is loaded, to be read and executed.
    [1_u32, 5].iter().for_each(|value| file.extend(value.to_le_bytes()));
    [0, base, base, size, size, 0x1000].iter().for_each(|value: &u64| file.extend(value.to_le_bytes()));
    file.extend(code);
    file
}

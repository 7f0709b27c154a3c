//! A token server (distribution, "Token Authentication Specification").

use super::certificates::OPENSSL;
use super::http::{Head, Length, Listener, answer, value};
use super::run;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufReader, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use stead::tested::model::Digest;
use tempfile::TempDir;

pub const SERVICE: &str = "test registry";
pub const ISSUER: &str = "test issuer";

/// A server that issues tokens for a registry, by the token protocol of the distribution project. It ends when it is dropped.
pub struct TokenServer {
    /// The URL that issues tokens.
    pub url: String,
    tokens: Arc<Tokens>,
    _listener: Listener,
}

/// The state of the token server.
struct Tokens {
    folder: TempDir,
    users: Vec<(String, String)>,
    open: bool,
    lifetime: AtomicI64,
    requests: Mutex<Vec<String>>,
}

impl TokenServer {
    /// Starts a server that grants these users whatever they ask for, and others nothing.
    pub fn new(users: &[(&str, &str)]) -> Self {
        Self::start(users, false)
    }

    /// Starts a server that also lets anonymous clients pull.
    pub fn open(users: &[(&str, &str)]) -> Self {
        Self::start(users, true)
    }

    /// The certificate that its tokens are signed with.
    pub fn certificate(&self) -> PathBuf {
        self.tokens.folder.path().join("certificate.pem")
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

    /// Sets for how many seconds tokens last from now on; the registry allows 60 more. With less than -60, tokens have
    /// expired when they arrive, although they claim to last for a minute.
    pub fn lifetime(&self, seconds: i64) {
        self.tokens.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// The requests, as `METHOD user parameters`; the user is `-` if the client is anonymous or unknown.
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

    /// Who asks: a user, the empty name for an anonymous client where those may ask, or `None`.
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

    /// The answer for a known user.
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

/// What is granted for a scope such as `repository:name:pull,push`. A name may contain colons.
fn granted(scope: &str, user: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').filter(|action| !user.is_empty() || *action == "pull").collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
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

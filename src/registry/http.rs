//! One registry over HTTP: requests that carry what it wants to see, repeated where that may help.
//!
//! Owns schemes, certificates, authentication and patience. What is asked for is the callers' to say.

use super::challenge::{Challenge, challenges};
use super::credentials::Credentials;
use super::settings::{Endpoint, Identity, Security};
use crate::model::{Context, Fault, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, ClientBuilder, Method, Request, RequestBuilder, Response, StatusCode, Url};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How often a request is made before it counts as failed.
pub const TRIES: u32 = 5;
/// The longest that a registry may make us wait at a time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest that a short answer may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// How far a registry may send us on.
const REDIRECTIONS: usize = 10;

/// Tells somebody that something takes longer, and why.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// A repository in a registry.
pub struct Remote {
    pub endpoint: Endpoint,
    client: Client,
    /// For other hosts that it leads to, where it knows us by a certificate.
    stranger: Option<Client>,
    /// For what answers with no certificate that is known, where the user allows it.
    careless: Option<Client>,
    scheme: Mutex<Scheme>,
    /// Whether it answered before: then a broken connection says nothing of how it is spoken to.
    answered: AtomicBool,
    /// Whether it could not be reached at all, or is no good.
    down: AtomicBool,
    credentials: Option<Credentials>,
    /// What was accepted last, by the scope it is for.
    known: Mutex<HashMap<String, String>>,
    tell: Tell,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    Checked,
    Unchecked,
    Plain,
}

/// What a token is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    Pull,
    Push,
    /// To push, with what another repository of the registry has.
    Mount(String),
    /// Nothing but to be known, or what the registry names itself.
    Login,
}

/// Why a request has no answer.
enum Trouble {
    Http(reqwest::Error),
    Refused(Fault),
}

impl Remote {
    /// A client for a repository.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(endpoint: Endpoint, credentials: Option<Credentials>, tell: Tell) -> Outcome<Self> {
        let client = built(&endpoint, builder(&endpoint, Who::Known)?)?;
        let stranger = endpoint.identity.is_some().then(|| built(&endpoint, builder(&endpoint, Who::Nobody)?)).transpose()?;
        let careless = || built(&endpoint, builder(&endpoint, Who::Known)?.tls_danger_accept_invalid_certs(true));
        let careless = (endpoint.security == Security::Unchecked).then(careless).transpose()?;
        let scheme = Mutex::new(Scheme::Checked);
        let (answered, down) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { endpoint, client, stranger, careless, scheme, answered, down, credentials, known: Mutex::default(), tell })
    }

    /// As people know it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.endpoint.repository)
    }

    /// The URL of a part of the repository, or what an answer's `Location` says.
    pub fn url(&self, path: &str) -> String {
        if path.starts_with("https://") || path.starts_with("http://") {
            return path.to_owned();
        }
        let scheme = if self.scheme() == Scheme::Plain { "http" } else { "https" };
        if path.starts_with('/') {
            return format!("{scheme}://{}{path}", self.endpoint.host);
        }
        format!("{scheme}://{}/v2/{}/{path}", self.endpoint.host, self.endpoint.repository)
    }

    /// Whether it was tried and could not be reached, or lied.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Asks it no more, as long as there is another: it sent damaged bytes.
    pub fn pass_over(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    /// Whether a URL is the registry's own: scheme, host and port.
    fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.url("/")).is_ok_and(|own| own.origin() == url.origin())
    }

    fn scheme(&self) -> Scheme {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client that a URL is asked with: our certificate is for the registry itself.
    fn client_for(&self, url: &str) -> &Client {
        let own = Url::parse(url).is_ok_and(|url| self.is_own(&url));
        match (self.scheme(), &self.careless, &self.stranger) {
            (_, _, Some(stranger)) if !own => stranger,
            (Scheme::Unchecked, Some(careless), _) => careless,
            _ => &self.client,
        }
    }

    /// Sends a request until it is answered with something other than "later" or "who are you".
    ///
    /// `more` adds headers and body; it is called for each try.
    ///
    /// # Errors
    /// A registry that cannot be reached, refuses, or keeps failing.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Outcome<Response> {
        self.patiently(TRIES, method, path, wish, more).await
    }

    /// As [`Self::send`], for what must not simply be said again.
    ///
    /// # Errors
    /// As there; and when the connection breaks.
    pub async fn send_once(
        &self,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Outcome<Response> {
        self.patiently(1, method, path, wish, more).await
    }

    async fn patiently(
        &self,
        tries: u32,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Outcome<Response> {
        let mut attempt = 0;
        let mut refused = false;
        loop {
            let used = self.scheme();
            let answer = self.once(&method, path, &wish, &more).await;
            if answer.is_ok() {
                self.answered.store(true, Ordering::Relaxed);
            }
            let fault = match answer {
                // Only the registry itself is told who asks.
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED && !refused && self.is_own(answer.url()) => {
                    refused = true;
                    self.authenticate(answer.headers(), &wish).await?;
                    continue;
                }
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED || answer.status() == StatusCode::FORBIDDEN => {
                    return Err(self.denied(answer).await);
                }
                Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    let wait = retry_after(answer.headers());
                    let fault = said(&self.endpoint.host, answer).await;
                    if wait.is_some_and(|wait| wait > PATIENCE) {
                        let seconds = wait.map_or(0, |wait| wait.as_secs());
                        return Err(fault.hint(format!("it says to come back in {seconds} s; logged in one may ask more often")));
                    }
                    attempt += 1;
                    let wait = wait.unwrap_or_else(|| pause(attempt));
                    (self.tell)(format!(
                        "{} limits how often one may ask; going on in {:.1} s",
                        self.endpoint.host,
                        wait.as_secs_f64()
                    ));
                    if attempt >= TRIES {
                        return Err(fault);
                    }
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Ok(answer) if answer.status().is_server_error() => said(&self.endpoint.host, answer).await,
                Ok(answer) => return Ok(answer),
                Err(Trouble::Refused(fault)) => return Err(fault),
                Err(Trouble::Http(error)) if self.step_down(&error, used) => continue,
                Err(Trouble::Http(error)) if error.is_builder() || is_certificate(&error) => return Err(self.unreachable(error)),
                Err(Trouble::Http(error)) => self.unreachable(error),
            };
            attempt += 1;
            // Where nobody listens nobody will in a second.
            if attempt >= tries || fault.code() == NOBODY {
                self.down.store(!self.answered.load(Ordering::Relaxed), Ordering::Relaxed);
                return Err(fault.exit(1));
            }
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    /// One request, with the redirections that it leads to: each is signed for whom it goes to.
    async fn once(
        &self,
        method: &Method,
        path: &str,
        wish: &Wish,
        more: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Trouble> {
        let scheme = self.scheme();
        let mut url = self.url(path);
        for _ in 0..REDIRECTIONS {
            let client = self.client_for(&url);
            let mut request = more(client.request(method.clone(), &url)).build().map_err(Trouble::Http)?;
            if request.url().scheme() == "http" && scheme != Scheme::Plain {
                // Behind a proxy that speaks TLS for them registries name themselves so.
                let own = request.url().host_str().map(str::to_owned);
                let same = Url::parse(&self.url("/")).is_ok_and(|own_url| own_url.host_str().map(str::to_owned) == own);
                if !same || request.url_mut().set_scheme("https").is_err() {
                    let text = format!("{} leads from HTTPS to a place without encryption: {url}", self.endpoint.host);
                    return Err(Trouble::Refused(Fault::new(text)));
                }
            }
            self.sign(&mut request, wish);
            let answer = client.execute(request).await.map_err(Trouble::Http)?;
            let reads = matches!(*method, Method::GET | Method::HEAD);
            let further = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match further.map(|further| answer.url().join(further)) {
                Some(Ok(further)) if reads && answer.status().is_redirection() => url = further.to_string(),
                _ => return Ok(answer),
            }
        }
        Err(Trouble::Refused(Fault::new(format!("{} leads from place to place without an end", self.endpoint.host))))
    }

    /// Adds what the registry accepted last; another host, scheme or port never sees it.
    fn sign(&self, request: &mut Request, wish: &Wish) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) =
            known.get(&self.scope(wish)).and_then(|value| value.parse().ok()).filter(|_| self.is_own(request.url()))
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
    }

    /// What is to be allowed, in the words of the token protocol; several stand between spaces.
    fn scope(&self, wish: &Wish) -> String {
        let own = |actions: &str| format!("repository:{}:{actions}", self.endpoint.repository);
        match wish {
            Wish::Pull => own("pull"),
            Wish::Push => own("pull,push"),
            Wish::Mount(other) => format!("{} repository:{other}:pull", own("pull,push")),
            Wish::Login => String::new(),
        }
    }

    /// Answers "who are you": with name and password, or with a token that they give.
    async fn authenticate(&self, headers: &HeaderMap, wish: &Wish) -> Outcome<()> {
        let asked: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = challenges(&asked.join(", "));
        let value = if let Some(challenge) = all.iter().find(|one| one.scheme.eq_ignore_ascii_case("bearer")) {
            format!("Bearer {}", self.token(challenge, wish).await?)
        } else if all.iter().any(|one| one.scheme.eq_ignore_ascii_case("basic")) {
            let Some(Credentials::Basic { user, password }) = &self.credentials else {
                return Err(Fault::new(format!("{} wants to know who asks", self.endpoint.host))
                    .hint(format!("type `stead login {}`", self.endpoint.host)));
            };
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        } else {
            return Err(Fault::new(format!("{} wants a kind of authentication that is not known here", self.endpoint.host)));
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(self.scope(wish), value);
        Ok(())
    }

    /// A token (distribution, "Token Authentication Specification" and "OAuth 2.0").
    async fn token(&self, challenge: &Challenge, wish: &Wish) -> Outcome<String> {
        let realm = challenge.value("realm").unwrap_or_default();
        let url = Url::parse(realm).doing(|| format!("{} names no place for tokens: {realm:?}", self.endpoint.host))?;
        let near = url.host_str().is_some_and(|host| {
            let own = Url::parse(&self.url("/")).is_ok_and(|own| own.host_str() == Some(host));
            own || host == "localhost" || host.starts_with("127.") || host == "[::1]"
        });
        if url.scheme() != "https" && !(near && self.scheme() == Scheme::Plain) {
            return Err(Fault::new(format!("{} wants the password to be sent without encryption to {url}", self.endpoint.host)));
        }
        let service = challenge.value("service").unwrap_or_default().to_owned();
        let scope = Some(self.scope(wish)).filter(|scope| !scope.is_empty());
        let scope = scope.or_else(|| challenge.value("scope").map(str::to_owned));
        let client = self.client_for(url.as_str());
        let request = match &self.credentials {
            Some(Credentials::Token(refresh)) => {
                let mut form = vec![("grant_type", "refresh_token"), ("client_id", "stead"), ("refresh_token", refresh)];
                form.push(("service", &service));
                form.extend(scope.as_deref().map(|scope| ("scope", scope)));
                let body = Url::parse_with_params("http://form/", &form).doing(|| "cannot ask for a token".into())?;
                let body = body.query().unwrap_or_default().to_owned();
                client.post(url.clone()).header("Content-Type", "application/x-www-form-urlencoded").body(body)
            }
            other => {
                let mut full = url.clone();
                full.query_pairs_mut().append_pair("service", &service).append_pair("client_id", "stead");
                for one in scope.iter().flat_map(|scope| scope.split(' ')) {
                    full.query_pairs_mut().append_pair("scope", one);
                }
                let request = client.get(full);
                if let Some(Credentials::Basic { user, password }) = other {
                    request.basic_auth(user, Some(password))
                } else {
                    request
                }
            }
        };
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.denied(answer).await);
        }
        if !answer.status().is_success() {
            return Err(said(url.host_str().unwrap_or_default(), answer).await);
        }
        let text = limited(answer, 1 << 20).await?;
        let value: serde_json::Value = serde_json::from_slice(&text).doing(|| format!("{url} gave no token"))?;
        let token = value["token"].as_str().or(value["access_token"].as_str());
        token.map(str::to_owned).ok_or_else(|| Fault::new(format!("{url} gave no token")))
    }

    /// Goes on to the next less careful way to speak to a registry, if this one failed before any answer and
    /// the user allows it.
    fn step_down(&self, error: &reqwest::Error, used: Scheme) -> bool {
        let mut scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request found out meanwhile.
        if *scheme != used {
            return true;
        }
        if self.answered.load(Ordering::Relaxed) || !(error.is_connect() || error.is_request()) || error.is_timeout() {
            return false;
        }
        let next = match (used, &self.endpoint.security) {
            (Scheme::Checked, Security::Unchecked) => Scheme::Unchecked,
            (Scheme::Unchecked, Security::Unchecked) | (Scheme::Checked, Security::Loopback) if !is_certificate(error) => {
                Scheme::Plain
            }
            _ => return false,
        };
        *scheme = next;
        true
    }

    fn unreachable(&self, error: reqwest::Error) -> Fault {
        let host = &self.endpoint.host;
        let refused = nobody(&error);
        let text = chain(&error);
        let fault = Fault::caused(format!("cannot reach {host}"), error.without_url());
        if text.contains("xpired") {
            return fault.hint(format!("the certificate of {host} is out of date; whoever runs it must renew it"));
        }
        if text.contains("UnknownIssuer") || text.contains("self-signed") || text.contains("SelfSigned") {
            return fault
                .hint(format!("if you trust it, write in config.kdl: registry \"{host}\" ca=\"FILE.pem\" (or insecure=#true)"));
        }
        if ["CertificateRequired", "BadCertificate", "UnknownCA", "CertificateUnknown"].iter().any(|alert| text.contains(alert)) {
            return fault.hint(format!(
                "it asks for a certificate that it knows: in config.kdl, \
                 registry \"{host}\" client-cert=\"FILE.pem\" client-key=\"FILE.pem\""
            ));
        }
        if text.contains("corrupt message") || text.contains("InvalidContentType") {
            return fault
                .hint(format!("it speaks no TLS; if that is right, write in config.kdl: registry \"{host}\" insecure=#true"));
        }
        let fault = fault.hint("check that the registry runs and the network reaches it");
        if refused { fault.exit(NOBODY) } else { fault }
    }

    async fn denied(&self, answer: Response) -> Fault {
        let known = self.credentials.is_some();
        let fault = said(&self.endpoint.host, answer).await;
        let fault = Fault::caused(format!("{} does not allow it", self.name()), fault);
        let login = format!("type `stead login {}`", self.endpoint.host);
        fault.hint(if known { format!("the name or password may be wrong, or lack the right: {login}") } else { login })
    }
}

/// Marks a refused connection, for the loop that would try again.
const NOBODY: u8 = 111;

/// Whom a registry sees, if it asks for a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Known,
    Nobody,
}

fn builder(endpoint: &Endpoint, who: Who) -> Outcome<ClientBuilder> {
    // A second installation of the same provider fails, and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none());
    if endpoint.security == Security::Loopback {
        builder = builder.no_proxy();
    }
    for path in &endpoint.authorities {
        let pem = fs::read(path).doing(|| format!("cannot read {}", path.display()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).doing(|| format!("{} holds no certificate", path.display()))?;
        for certificate in found {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some(identity) = endpoint.identity.as_ref().filter(|_| who == Who::Known) {
        builder = builder.identity(read_identity(identity)?);
    }
    Ok(builder)
}

fn built(endpoint: &Endpoint, builder: ClientBuilder) -> Outcome<Client> {
    builder.build().doing(|| format!("cannot set up HTTPS for {}", endpoint.host))
}

fn read_identity(identity: &Identity) -> Outcome<reqwest::Identity> {
    let mut pem = Vec::new();
    for path in [&identity.certificate, &identity.key] {
        pem.extend(fs::read(path).doing(|| format!("cannot read {}", path.display()))?);
        pem.push(b'\n');
    }
    let both = || format!("{} and {} are no certificate and its key", identity.certificate.display(), identity.key.display());
    reqwest::Identity::from_pem(&pem).doing(both)
}

/// All that an error says.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(" {inner} {inner:?}"));
        source = inner.source();
    }
    text
}

fn is_certificate(error: &reqwest::Error) -> bool {
    let text = chain(error);
    text.contains("InvalidCertificate") || text.contains("AlertReceived")
}

fn nobody(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if inner.downcast_ref().is_some_and(refused) || inner.to_string().starts_with("dns error") {
            return true;
        }
        source = inner.source();
    }
    false
}

/// What a registry says is wrong (distribution-spec, "Error Codes").
pub async fn said(host: &str, answer: Response) -> Fault {
    let status = answer.status();
    let text = limited(answer, 64 << 10).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let first = &value["errors"][0];
    let words: Vec<&str> =
        [first["code"].as_str(), first["message"].as_str(), value["details"].as_str()].into_iter().flatten().collect();
    if words.is_empty() {
        Fault::new(format!("{host} answered {status}"))
    } else {
        Fault::new(format!("{host} answered {status}: {}", words.join(", ")))
    }
}

/// The body of an answer that must not be long.
///
/// # Errors
/// One that is longer, or cut off.
pub async fn limited(mut answer: Response, limit: usize) -> Outcome<Vec<u8>> {
    let too_long = || Fault::new(format!("the answer has more than {limit} bytes"));
    if answer.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    let read = async {
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(reqwest::Error::without_url).doing(|| "the answer was cut off".into())?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(too_long());
            }
        }
        Ok(bytes)
    };
    let late = || Fault::new(format!("the answer took longer than {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(late()))
}

/// How long a registry asks to wait (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(text)?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// A date as `Wed, 21 Oct 2026 07:28:00 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| name == month)? + 1;
    let millis = crate::image::parse_time(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

/// Before a repetition: longer each time, and never for all at the same moment.
pub fn pause(attempt: u32) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    Duration::from_millis(u64::from(200 * attempt * attempt)).mul_f64(0.5 + f64::from(nanos % 1000) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        let at = http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        assert_eq!(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_445_412_480);
    }

    #[test]
    fn each_pause_is_longer() {
        assert!(pause(1) < Duration::from_millis(310) && pause(4) > Duration::from_millis(1500));
    }
}

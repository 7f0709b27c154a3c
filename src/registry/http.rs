//! HTTP to one registry: requests with the credentials that it wants, retried where that may help.
//!
//! Owns schemes, certificates and retries. The callers decide what is requested.

use super::answer::said;
use super::credentials::Credentials;
use super::settings::{Endpoint, Identity, Security};
use crate::fetch::http::{self, LONGEST, Retries, is_certificate, pause, retry_after, tls};
use crate::model::{Context, Error, Result};
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use reqwest::{Client, Method, Request, RequestBuilder, Response, StatusCode, Url};
use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the answer to a `GET` or `HEAD` request may take to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a registry may take to store what was sent: registries move large parts from one store to another.
const KEEPING: Duration = Duration::from_secs(600);
/// The slowest connection that uploads are expected to have, in bytes per second.
const SLOWEST: u64 = 16 << 10;
/// The most redirections that are followed.
const REDIRECTIONS: usize = 10;

/// Reports that something takes longer, and why.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// A repository in a registry.
pub struct Remote {
    pub endpoint: Endpoint,
    client: Client,
    /// The client for other hosts that the registry redirects to, if we have a client certificate: they must not see it.
    stranger: Option<Client>,
    /// The client that accepts any server certificate, if the user allows that.
    careless: Option<Client>,
    scheme: Mutex<Scheme>,
    /// Whether it has answered before: then a broken connection is no reason to try another scheme.
    answered: AtomicBool,
    /// Whether it could never be reached, or sent damaged bytes.
    down: AtomicBool,
    /// Whether it refused to take parts in chunks.
    whole: AtomicBool,
    pub credentials: Option<Credentials>,
    /// The authorization that was obtained last, by scope.
    pub known: Mutex<HashMap<String, String>>,
    tell: Tell,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Checked,
    Unchecked,
    Plain,
}

/// The access that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    Pull,
    Push,
    /// To push, and to mount parts from another repository of the registry.
    Mount(String),
    /// Only authentication, or the scope that the registry names itself.
    Login,
}

/// Why a request got no answer.
pub enum Trouble {
    Http(reqwest::Error),
    /// A temporary failure.
    Passing(Error),
    Refused(Error),
}

impl Remote {
    /// A client for a repository.
    ///
    /// # Errors
    /// Fails when a certificate cannot be read.
    pub fn new(endpoint: Endpoint, credentials: Option<Credentials>, tell: Tell) -> Result<Self> {
        let client = client(&endpoint, Who::Known, false)?;
        let stranger = endpoint.identity.is_some().then(|| self::client(&endpoint, Who::Nobody, false)).transpose()?;
        let careless = || self::client(&endpoint, Who::Known, true);
        let careless = (endpoint.security == Security::Unchecked).then(careless).transpose()?;
        let scheme = Mutex::new(Scheme::Checked);
        let [answered, down, whole] = [(); 3].map(|()| AtomicBool::new(false));
        Ok(Self {
            endpoint,
            client,
            stranger,
            careless,
            scheme,
            answered,
            down,
            whole,
            credentials,
            known: Mutex::default(),
            tell,
        })
    }

    /// The name for messages: host and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.endpoint.repository)
    }

    /// The URL for a path in the repository; a whole URL, as from an answer's `Location`, stays as it is.
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

    /// Whether it could not be reached, or sent damaged bytes.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether parts may be sent to it in chunks, as far as is known.
    pub fn takes_chunks(&self) -> bool {
        !self.whole.load(Ordering::Relaxed)
    }

    pub fn send_whole_from_now_on(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// Notes that it sent damaged bytes: it is not asked again as long as there is another.
    pub fn pass_over(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    /// Whether a URL has the registry's own scheme, host and port.
    pub fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.url("/")).is_ok_and(|own| own.origin() == url.origin())
    }

    /// The scheme that is used now.
    pub fn scheme(&self) -> Scheme {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client for a URL: only the registry itself may see our certificate.
    pub fn client_for(&self, url: &Url) -> &Client {
        let own = self.is_own(url);
        match (self.scheme(), &self.careless, &self.stranger) {
            (_, _, Some(stranger)) if !own => stranger,
            (Scheme::Unchecked, Some(careless), _) => careless,
            _ => &self.client,
        }
    }

    /// Sends a request; retries after temporary failures, and authenticates when the registry asks for it.
    ///
    /// `more` adds headers and body; it is called for each try.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached, refuses, or keeps failing.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        self.with_retries(Retries::new(), method, path, wish, more).await
    }

    /// As [`Self::send`], for requests that must not simply be repeated.
    ///
    /// # Errors
    /// As [`Self::send`], and also when the connection breaks.
    pub async fn send_once(
        &self,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        self.with_retries(Retries::of(1), method, path, wish, more).await
    }

    async fn with_retries(
        &self,
        mut retries: Retries,
        method: Method,
        path: &str,
        wish: Wish,
        more: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        // A request that was refused by a rate limit had no effect, so it may always be repeated.
        let mut limits = Retries::new();
        let mut refused = false;
        loop {
            let used = self.scheme();
            let answer = self.once(&method, path, &wish, &more).await;
            if answer.is_ok() {
                self.answered.store(true, Ordering::Relaxed);
            }
            let error = match answer {
                // Only the registry itself gets the credentials.
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED && !refused && self.is_own(answer.url()) => {
                    match self.authenticate(answer.headers(), &wish).await {
                        Ok(()) => {
                            refused = true;
                            continue;
                        }
                        Err(trouble) => self.weigh(trouble)?,
                    }
                }
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED || answer.status() == StatusCode::FORBIDDEN => {
                    return Err(self.denied(answer).await);
                }
                Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    let wait = retry_after(answer.headers()).unwrap_or_else(|| pause(1));
                    let error = said(&self.endpoint.host, answer).await;
                    if wait <= LONGEST {
                        let seconds = wait.as_secs_f64();
                        (self.tell)(format!("{} limits the rate of requests; retrying in {seconds:.1} s", self.endpoint.host));
                    }
                    let often = |error: Error| {
                        let advice = error.advice().unwrap_or("it limits the rate of requests").to_owned();
                        error.hint(format!("{advice}; the limit is higher after a login"))
                    };
                    limits.again(error, Some(wait)).await.map_err(often)?;
                    continue;
                }
                Ok(answer) if http::is_passing(answer.status()) => said(&self.endpoint.host, answer).await,
                Ok(answer) => return Ok(answer),
                Err(Trouble::Http(error)) if self.step_down(&error, used) => continue,
                Err(trouble) => self.weigh(trouble)?,
            };
            if let Err(error) = retries.again(error, None).await {
                self.down.fetch_or(!self.answered.load(Ordering::Relaxed), Ordering::Relaxed);
                return Err(error);
            }
        }
    }

    /// The error, if the request may be retried.
    ///
    /// # Errors
    /// Fails with the error if a retry cannot help.
    fn weigh(&self, trouble: Trouble) -> Result<Error> {
        match trouble {
            Trouble::Refused(error) => Err(error),
            Trouble::Passing(error) => Ok(error),
            Trouble::Http(error) => {
                let last = error.is_builder() || is_certificate(&error);
                let other = error.url().filter(|url| !self.is_own(url)).and_then(Url::host_str).map(str::to_owned);
                let error = unreachable(other.as_ref().unwrap_or(&self.endpoint.host), error);
                if last { Err(error) } else { Ok(error) }
            }
        }
    }

    /// Sends one request and follows redirections; credentials are added only for the registry itself.
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
            let mut request = more(self.client.request(method.clone(), &url)).build().map_err(Trouble::Http)?;
            if request.url().scheme() == "http" && scheme != Scheme::Plain {
                // A registry behind a proxy that does TLS for it may give its own URLs with `http`.
                let own = request.url().host_str().map(str::to_owned);
                let same = Url::parse(&self.url("/")).is_ok_and(|own_url| own_url.host_str().map(str::to_owned) == own);
                if !same || request.url_mut().set_scheme("https").is_err() {
                    let text = format!("{} redirects from HTTPS to an unencrypted URL: {url}", self.endpoint.host);
                    return Err(Trouble::Refused(Error::new(text)));
                }
            }
            self.sign(&mut request, wish);
            let answer = self.execute(request).await?;
            let reads = matches!(*method, Method::GET | Method::HEAD);
            let further = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match further.map(|further| answer.url().join(further)) {
                Some(Ok(further)) if reads && answer.status().is_redirection() => url = further.to_string(),
                _ => return Ok(answer),
            }
        }
        Err(Trouble::Refused(Error::new(format!("{} redirects too many times", self.endpoint.host))))
    }

    /// Sends one request and waits for its answer to begin, with a timeout.
    ///
    /// # Errors
    /// Fails when the connection breaks, or when the answer does not come in time.
    pub async fn execute(&self, request: Request) -> Result<Response, Trouble> {
        let length: u64 = request.headers().get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(0);
        let asks = matches!(*request.method(), Method::GET | Method::HEAD);
        let timeout = if asks { ANSWER } else { KEEPING + Duration::from_secs(length / SLOWEST) };
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let answer = self.client_for(request.url()).execute(request);
        let late = |_| Trouble::Passing(Error::new(format!("{host} did not answer within {} s", timeout.as_secs())));
        tokio::time::timeout(timeout, answer).await.map_err(late)?.map_err(Trouble::Http)
    }

    /// Falls back to the next less secure scheme, if this one failed before any answer and the user allows it.
    /// Returns whether to try again.
    fn step_down(&self, error: &reqwest::Error, used: Scheme) -> bool {
        let mut scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request has changed the scheme meanwhile.
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
}

/// Whether a client presents our certificate when a server asks for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Known,
    Nobody,
}

fn client(endpoint: &Endpoint, who: Who, careless: bool) -> Result<Client> {
    let mut authorities = Vec::new();
    for path in &endpoint.authorities {
        let pem = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).context(|| format!("{} holds no certificate", path.display()))?;
        authorities.extend(found);
    }
    let identity = endpoint.identity.as_ref().filter(|_| who == Who::Known).map(read_identity).transpose()?;
    let client = http::client(|begun| {
        let begun = begun.redirect(reqwest::redirect::Policy::none()).tls_danger_accept_invalid_certs(careless);
        let begun = if endpoint.security == Security::Loopback { begun.no_proxy() } else { begun };
        let begun = begun.tls_certs_merge(authorities.clone());
        identity.iter().cloned().fold(begun, reqwest::ClientBuilder::identity)
    });
    client.context(|| format!("cannot make a client for {}", endpoint.host))
}

fn read_identity(identity: &Identity) -> Result<reqwest::Identity> {
    let mut pem = Vec::new();
    for path in [&identity.certificate, &identity.key] {
        pem.extend(fs::read(path).context(|| format!("cannot read {}", path.display()))?);
        pem.push(b'\n');
    }
    let both = || format!("{} and {} are not a certificate and its key", identity.certificate.display(), identity.key.display());
    reqwest::Identity::from_pem(&pem).context(both)
}

/// The error for a registry that gives no answer, with a hint.
fn unreachable(host: &str, error: reqwest::Error) -> Error {
    let hint = match tls(&error) {
        // A self-signed certificate has an unknown issuer, or is itself the certificate of an authority.
        Some(Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::Other(_))) if !http::no_authorities() => {
            Some(format!("if you trust it, write in config.kdl: registry \"{host}\" ca=\"FILE.pem\" (or insecure=#true)"))
        }
        Some(Tls::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA | Alert::CertificateUnknown,
        )) => Some(format!(
            "it asks for a certificate that it knows: in config.kdl, \
             registry \"{host}\" client-cert=\"FILE.pem\" client-key=\"FILE.pem\""
        )),
        Some(Tls::InvalidMessage(_)) => {
            Some(format!("it speaks no TLS; if that is right, write in config.kdl: registry \"{host}\" insecure=#true"))
        }
        Some(_) => None,
        None => Some("check that the registry runs and the network reaches it".to_owned()),
    };
    let error = http::unreachable(host, error);
    hint.into_iter().fold(error, Error::hint)
}

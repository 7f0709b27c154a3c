//! HTTP for every room that uses it: how clients are set up, when they retry, and how failures are reported.

use crate::model::{Context, Error, ErrorKind, Result, parse_date};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, StatusCode};
use rustls::{CertificateError as Certificate, Error as Tls};
use std::error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// How many times a request is made before it counts as failed.
const TRIES: u32 = 5;
/// The longest time that a server may ask us to wait before a retry.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Whether this machine knows no certificate authority at all.
static NO_AUTHORITIES: AtomicBool = AtomicBool::new(false);

/// Makes a client with this program's name, the host's certificates and proxies, and what `with` adds.
///
/// If the host has no certificates (a new container has none), everything that needs none still works.
///
/// # Errors
/// Fails when TLS cannot be set up.
pub fn client(with: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client> {
    // Installing the provider a second time fails, which is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let begun = || {
        with(Client::builder().user_agent(concat!("stead/", env!("CARGO_PKG_VERSION"))).connect_timeout(Duration::from_secs(10)))
    };
    match begun().build() {
        Ok(client) => Ok(client),
        Err(error) => {
            let client = begun().tls_certs_only([]).build();
            // If that fails, too, the missing authorities were not the reason.
            let client = client.map_err(|_| error).context(|| "cannot set up HTTPS".into())?;
            NO_AUTHORITIES.store(true, Ordering::Relaxed);
            Ok(client)
        }
    }
}

/// Whether a client was made without any certificate authority.
pub fn no_authorities() -> bool {
    NO_AUTHORITIES.load(Ordering::Relaxed)
}

/// How often a request is retried, and how long to wait in between: one policy for every server.
pub struct Retries {
    tries: u32,
    tried: u32,
    /// Whether the server answered before: then it may come back.
    known: bool,
}

impl Retries {
    /// For requests that may be retried.
    pub fn new() -> Self {
        Self::of(TRIES)
    }

    /// For requests that may be made this many times.
    pub fn of(tries: u32) -> Self {
        Self { tries, tried: 0, known: false }
    }

    /// For further requests to a server that has answered before.
    pub fn going_on() -> Self {
        Self { known: true, ..Self::new() }
    }

    /// To be called after a failed try: waits as long as the server asks for, or else longer each time.
    ///
    /// # Errors
    /// Fails with the given error if it was the last try, if nothing listens at the address (which will not change in a second),
    /// or if the server asks for more than [`LONGEST`].
    pub async fn again(&mut self, error: Error, asked: Option<Duration>) -> Result<()> {
        self.tried += 1;
        if self.tried >= self.tries || !self.known && error.kind() == ErrorKind::Unreachable {
            return Err(error);
        }
        if let Some(asked) = asked.filter(|asked| *asked > LONGEST) {
            return Err(error.hint(format!("it says to come back in {} s", asked.as_secs())));
        }
        tokio::time::sleep(asked.unwrap_or_else(|| pause(self.tried))).await;
        Ok(())
    }
}

/// Whether an error may be temporary (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4).
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// How long a server asks to wait (RFC 9110, 10.2.3): seconds, or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(parse_date(text)?.try_into().ok()?))?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// How long to wait before a retry: longer each time, with jitter so that not all clients retry at the same moment.
pub fn pause(attempt: u32) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    Duration::from_millis(u64::from(attempt).saturating_pow(2).saturating_mul(200))
        .mul_f64(0.5 + f64::from(nanos % 1000) / 1000.0)
}

/// Makes the error for a request without a response, with a hint.
pub fn unreachable(what: &str, error: reqwest::Error) -> Error {
    let hint = match tls(&error) {
        Some(Tls::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. })) => {
            "its certificate is out of date, or this host's clock is wrong"
        }
        Some(Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::Other(_))) if no_authorities() => {
            "this machine knows no certificate authorities: install its package `ca-certificates`"
        }
        Some(Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::Other(_))) => {
            "its certificate is not signed by an authority that this machine trusts"
        }
        Some(Tls::InvalidMessage(_)) => "it speaks no TLS; it may answer with http://",
        Some(_) => "check its certificate, and this host's clock",
        None => "check the address and the network",
    };
    let kind = if nobody(&error) { ErrorKind::Unreachable } else { ErrorKind::Failed };
    Error::caused(format!("cannot reach {what}"), root(&error)).hint(hint).of(kind)
}

/// The innermost cause: what is around it only says that a request needs a connection.
fn root(error: &reqwest::Error) -> String {
    let mut last: &(dyn error::Error + 'static) = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    if last.is::<reqwest::Error>() { "the request was not answered".into() } else { last.to_string() }
}

/// Finds the TLS error in the chain of an error; I/O errors on the way may wrap it.
pub fn tls(error: &reqwest::Error) -> Option<&Tls> {
    let mut next: Option<&(dyn error::Error + 'static)> = Some(error);
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        let carried = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = carried.map(|carried| carried as &(dyn error::Error + 'static)).or_else(|| inner.source());
    }
    None
}

/// Whether a certificate is the reason.
pub fn is_certificate(error: &reqwest::Error) -> bool {
    tls(error).is_some_and(|error| matches!(error, Tls::InvalidCertificate(_) | Tls::AlertReceived(_)))
}

/// Whether nothing listens at the address, or the host does not exist.
fn nobody(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        // The resolver's error type is private.
        if inner.downcast_ref().is_some_and(refused) || inner.to_string().starts_with("dns error") {
            return true;
        }
        source = inner.source();
    }
    false
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
    }

    #[test]
    fn each_pause_is_longer() {
        assert!(pause(1) < Duration::from_millis(310) && pause(4) > Duration::from_millis(1500));
    }

    #[test]
    fn retries_end_with_their_number_or_where_nobody_listens() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut retries = Retries::of(3);
            let now = Some(Duration::ZERO);
            assert!(retries.again(Error::new("first"), now).await.is_ok());
            assert!(retries.again(Error::new("second"), now).await.is_ok());
            assert_eq!(retries.again(Error::new("third"), now).await.unwrap_err().message(), "third");
            let nobody = Error::new("nobody").of(ErrorKind::Unreachable);
            assert!(Retries::new().again(nobody, now).await.is_err());
            let told = Retries::new().again(Error::new("later"), Some(Duration::from_secs(3600))).await.unwrap_err();
            assert_eq!(told.advice(), Some("it says to come back in 3600 s"));
        });
    }
}

//! Authentication at a registry: with a name and a password, or with a token that is requested with them.

use super::answer::{limited, said};
use super::challenge::{Challenge, challenges};
use super::credentials::Credentials;
use super::http::{Remote, Scheme, Trouble, Wish};
use crate::model::{Context, Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Request, Response, StatusCode, Url};
use std::sync::PoisonError;

impl Remote {
    /// Adds the authorization that was obtained last; it is never sent to another host, scheme or port.
    pub fn sign(&self, request: &mut Request, wish: &Wish) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) =
            known.get(&self.scope(wish)).and_then(|value| value.parse().ok()).filter(|_| self.is_own(request.url()))
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
    }

    /// The scope to ask for, as the token protocol writes it; several scopes are separated by spaces.
    fn scope(&self, wish: &Wish) -> String {
        let own = |actions: &str| format!("repository:{}:{actions}", self.endpoint.repository);
        match wish {
            Wish::Pull => own("pull"),
            Wish::Push => own("pull,push"),
            Wish::Mount(other) => format!("{} repository:{other}:pull", own("pull,push")),
            Wish::Login => String::new(),
        }
    }

    /// Answers a registry's authentication challenge: with name and password, or with a token.
    ///
    /// # Errors
    /// Fails when the authentication scheme is not supported, when there are no credentials, or when no token is given.
    pub async fn authenticate(&self, headers: &HeaderMap, wish: &Wish) -> Result<(), Trouble> {
        let asked: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = challenges(&asked.join(", "));
        let value = if let Some(challenge) = all.iter().find(|one| one.scheme.eq_ignore_ascii_case("bearer")) {
            format!("Bearer {}", self.token(challenge, wish).await?)
        } else if all.iter().any(|one| one.scheme.eq_ignore_ascii_case("basic")) {
            let Some(Credentials::Basic { user, password }) = &self.credentials else {
                let error = Error::new(format!("{} requires a login", self.endpoint.host));
                return Err(Trouble::Refused(error.hint(format!("type `stead login {}`", self.endpoint.host))));
            };
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        } else {
            let text = format!("{} asks for a kind of authentication that is not supported", self.endpoint.host);
            return Err(Trouble::Refused(Error::new(text)));
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(self.scope(wish), value);
        Ok(())
    }

    /// Requests a token (distribution, "Token Authentication Specification" and "OAuth 2.0").
    async fn token(&self, challenge: &Challenge, wish: &Wish) -> Result<String, Trouble> {
        let realm = challenge.value("realm").unwrap_or_default();
        let nowhere = || format!("{} gives no valid URL for tokens: {realm:?}", self.endpoint.host);
        let url = Url::parse(realm).context(nowhere).map_err(Trouble::Refused)?;
        let near = url.host_str().is_some_and(|host| {
            let own = Url::parse(&self.url("/")).is_ok_and(|own| own.host_str() == Some(host));
            own || host == "localhost" || host.starts_with("127.") || host == "[::1]"
        });
        if url.scheme() != "https" && !(near && self.scheme() == Scheme::Plain) {
            let text = format!("{} wants the password to be sent without encryption to {url}", self.endpoint.host);
            return Err(Trouble::Refused(Error::new(text)));
        }
        let service = challenge.value("service").unwrap_or_default().to_owned();
        let scope = Some(self.scope(wish)).filter(|scope| !scope.is_empty());
        let scope = scope.or_else(|| challenge.value("scope").map(str::to_owned));
        let client = self.client_for(&url);
        let request = match &self.credentials {
            Some(Credentials::Token(refresh)) => {
                let mut form = vec![("grant_type", "refresh_token"), ("client_id", "stead"), ("refresh_token", refresh)];
                form.push(("service", &service));
                form.extend(scope.as_deref().map(|scope| ("scope", scope)));
                let body = Url::parse_with_params("http://form/", &form)
                    .context(|| "cannot ask for a token".into())
                    .map_err(Trouble::Refused)?;
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
        let answer = self.execute(request.build().map_err(Trouble::Http)?).await?;
        let (status, host) = (answer.status(), url.host_str().unwrap_or_default());
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Trouble::Refused(self.denied(answer).await));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Trouble::Passing(said(host, answer).await));
        }
        if !status.is_success() {
            return Err(Trouble::Refused(said(host, answer).await));
        }
        let text = limited(answer, 1 << 20).await.map_err(Trouble::Passing)?;
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = value["token"].as_str().or(value["access_token"].as_str());
        token.map(str::to_owned).ok_or_else(|| Trouble::Refused(Error::new(format!("{url} gave no token"))))
    }

    /// The error for a refusal, with a hint.
    pub async fn denied(&self, answer: Response) -> Error {
        let known = self.credentials.is_some();
        let error = said(&self.endpoint.host, answer).await;
        let error = Error::caused(format!("{} does not allow it", self.name()), error);
        let login = format!("type `stead login {}`", self.endpoint.host);
        error.hint(if known { format!("the name or password may be wrong, or the user lacks the right: {login}") } else { login })
    }
}

//! Images in registries (OCI distribution-spec 1.1): finding, pulling, pushing them.
//!
//! Owns all communication with registries. What an image consists of is defined in `image`; the store keeps its parts.

mod answer;
mod auth;
mod blocks;
mod challenge;
mod compress;
mod credentials;
mod http;
mod pull;
mod push;
mod settings;
mod trust;
mod upload;
mod wire;

// Public for `tests/fuzz`: parsers of what registries answer.
#[doc(hidden)]
pub use challenge::challenges;
pub use compress::Compression;
pub use credentials::{Credentials, Kept, Stores};
pub use pull::pull;
#[doc(hidden)]
pub use pull::{next_page, starts_at};
pub use push::{Pushed, Pushing};
pub use settings::{Files, Settings};
pub use trust::Signed;

use self::http::{Remote, Tell, Wish};
use self::settings::Endpoint;
use self::wire::Wire;
use crate::fetch::Progress;
use crate::model::{Context as _, Error, Reference, Result};
use reqwest::Method;
use std::sync::Arc;

/// All registries, with the settings and credentials from the user's files.
pub struct Registries {
    settings: Settings,
    stores: Stores,
    wire: Wire,
    progress: Arc<Progress>,
    tell: Tell,
}

impl Registries {
    /// Reads the user's files and starts the network thread.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is damaged, or when the network thread cannot start.
    pub fn open(progress: Arc<Progress>) -> Result<Self> {
        let noted = progress.clone();
        let tell: Tell = Arc::new(move |text| noted.note(text));
        let settings = Settings::read(&Files::of_user()?)?;
        Ok(Self { settings, stores: Stores::of_user(), wire: Wire::start()?, progress, tell })
    }

    /// Parses the name of an image; a short name may be an alias for another.
    ///
    /// # Errors
    /// Fails when the text is not a valid name.
    pub fn reference(&self, text: &str) -> Result<Reference> {
        let end = text.find('@').unwrap_or(text.len());
        let end = text[..end].rfind(':').filter(|at| !text[*at..end].contains('/')).unwrap_or(end);
        let (name, rest) = text.split_at(end);
        let whole = self.settings.alias(name).map(|full| format!("{full}{rest}"));
        let parsed = Reference::parse(whole.as_deref().unwrap_or(text), self.settings.default_host());
        parsed.map_err(|why| Error::new(why).usage())
    }

    fn remote(&self, reference: &Reference, endpoint: Endpoint) -> Result<Arc<Remote>> {
        // Credentials for a mirror are stored under the mirror's host.
        let own = endpoint == self.settings.origin(&reference.host, &reference.repository);
        let host = if own { &reference.host } else { &endpoint.host };
        let credentials = self.stores.find(host, &endpoint.repository)?;
        Ok(Arc::new(Remote::new(endpoint, credentials, self.tell.clone())?))
    }

    fn allowed(&self, reference: &Reference) -> Result<()> {
        match self.settings.blocked(&reference.host, &reference.repository) {
            Some(why) => Err(Error::new(format!("{} is blocked: {why}", reference.name()))),
            None => Ok(()),
        }
    }

    /// Asks a registry whether it accepts these credentials, and stores them if it does.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or refuses, or when the credentials cannot be stored.
    pub fn login(&self, host: &str, credentials: &Credentials) -> Result<Kept> {
        let endpoint = self.settings.origin(host, "");
        let remote = Arc::new(Remote::new(endpoint, Some(credentials.clone()), self.tell.clone())?);
        let answer = self.wire.wait(async move { remote.send(Method::GET, "/v2/", Wish::Login, |request| request).await })?;
        if !answer.status().is_success() {
            return Err(Error::new(format!("{host} answered {}: it is no registry", answer.status())));
        }
        self.stores.keep(host, credentials)
    }

    /// Removes the stored credentials of a host; returns where they were.
    ///
    /// # Errors
    /// Fails when a place that has them cannot be changed.
    pub fn logout(&self, host: &str) -> Result<Vec<String>> {
        self.stores.forget(host)
    }

    /// The registry of names without a host.
    pub fn default_host(&self) -> &str {
        self.settings.default_host()
    }

    /// Repositories whose name or description contains a word, found with the registry's own search.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or offers no search.
    pub fn search(&self, host: &str, word: &str, limit: usize) -> Result<Vec<Hit>> {
        let mut endpoint = self.settings.origin(host, "");
        if host == crate::model::DOCKER_HUB {
            endpoint.host = "index.docker.io".into();
        }
        let credentials = self.stores.find(host, "")?;
        let remote = Arc::new(Remote::new(endpoint, credentials, self.tell.clone())?);
        let (host, word) = (host.to_owned(), word.to_owned());
        self.wire.wait(async move { search(&remote, &host, &word, limit).await })
    }
}

/// A repository that a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    pub name: String,
    pub description: String,
    pub stars: u64,
}

async fn search(remote: &Remote, host: &str, word: &str, limit: usize) -> Result<Vec<Hit>> {
    // Docker Hub's search, which some other registries offer, too; otherwise the catalogue (distribution-spec's extension).
    let path = reqwest::Url::parse_with_params("http://x/v1/search", [("q", word), ("n", &limit.to_string())]);
    let unreadable = || format!("{host} answered a search with something else");
    let path = path.map_or_else(|_| "/v1/search".to_owned(), |url| format!("{}?{}", url.path(), url.query().unwrap_or_default()));
    let answer = remote.send(Method::GET, &path, Wish::Login, |request| request).await?;
    if answer.status().is_success() {
        let value: serde_json::Value = serde_json::from_slice(&answer::limited(answer, 4 << 20).await?).context(unreadable)?;
        let hits = value["results"].as_array().into_iter().flatten();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let found = hits.map(|hit| Hit {
            name: text(&hit["name"]),
            description: text(&hit["description"]),
            stars: hit["star_count"].as_u64().unwrap_or(0),
        });
        return Ok(found.take(limit).collect());
    }
    let answer = remote.send(Method::GET, "/v2/_catalog?n=1000", Wish::Login, |request| request).await?;
    if !answer.status().is_success() {
        return Err(Error::new(format!("{host} offers no search")));
    }
    let value: serde_json::Value = serde_json::from_slice(&answer::limited(answer, 16 << 20).await?).context(unreadable)?;
    let names = value["repositories"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    let fitting = names.filter(|name| name.contains(word));
    Ok(fitting.take(limit).map(|name| Hit { name: format!("{host}/{name}"), description: String::new(), stars: 0 }).collect())
}

//! Pulling: finds the image that a name means at a registry, and streams its parts.
//!
//! A stream that is cut off is resumed where it ended, from the same registry or mirror or from the next one.

use super::Registries;
use super::answer::{limited, said};
use super::http::{Remote, Wish};
use super::upload::remember_origin;
use super::wire::Wire;
use crate::fetch::Progress;
use crate::fetch::http::Retries;
use crate::image::{self, Blobs};
use crate::model::bounds::image::LONGEST;
use crate::model::{Context, Digest, Error, ErrorKind, Reference, Result, nearest};
use crate::plan::Image;
use crate::store::Store;
use bytes::Bytes;
use reqwest::{Method, Response, StatusCode};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many bytes a try must receive for the count of retries to start anew.
const ADVANCE: u64 = 64 << 10;
/// How long a registry may send nothing in the middle of a part.
const SILENCE: Duration = Duration::from_secs(30);
/// How deep lists of manifests may be nested.
const LISTS: usize = 4;
/// The most pages of a list that are read.
const PAGES: usize = 10;
/// The media types of the manifests that are asked for.
const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// An image that a registry has.
#[derive(Clone, Debug)]
pub struct Found {
    /// The digest of this platform's manifest.
    pub digest: Digest,
    pub manifest: Vec<u8>,
    /// The digest of the list that has the manifest, if there is one: the tag names the list, and it is what is signed.
    pub list: Option<Digest>,
    /// The manifests of all platforms that the list tells apart.
    pub platforms: BTreeMap<String, Digest>,
}

/// The registry and mirrors that an image's parts come from.
pub struct Source<'r> {
    reference: Reference,
    remotes: Vec<Arc<Remote>>,
    wire: &'r Wire,
    progress: Arc<Progress>,
    /// The registries that each part came from.
    came_from: Arc<CameFrom>,
}

type CameFrom = Mutex<HashMap<Digest, Vec<Arc<Remote>>>>;

impl Registries {
    /// The registry and mirrors for an image.
    ///
    /// # Errors
    /// Fails when the name is blocked, or when credentials or certificates cannot be read.
    pub fn source(&self, reference: &Reference) -> Result<Source<'_>> {
        self.allowed(reference)?;
        let endpoints = match reference.digest {
            Some(_) => self.settings.endpoints_by_digest(&reference.host, &reference.repository),
            None => self.settings.endpoints(&reference.host, &reference.repository),
        };
        let remotes = endpoints.into_iter().map(|endpoint| self.remote(reference, endpoint)).collect::<Result<_>>()?;
        let (progress, came_from) = (self.progress.clone(), Arc::default());
        Ok(Source { reference: reference.clone(), remotes, wire: &self.wire, progress, came_from })
    }
}

impl Source<'_> {
    /// Finds an image's manifest for this platform.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or does not have the image.
    pub fn find(&self) -> Result<Found> {
        let mut manifest = self.manifest(&self.reference.wanted(), self.reference.digest.as_ref())?;
        let (mut list, mut platforms) = (None, BTreeMap::new());
        // Lists may be nested.
        for _ in 0..LISTS {
            let Some(chosen) = image::for_platform(&manifest).context(|| format!("in {}", self.reference))? else {
                return Ok(Found { digest: Digest::of(&manifest), manifest, list, platforms });
            };
            list = list.or_else(|| Some(Digest::of(&manifest)));
            platforms.extend(image::platforms(&manifest));
            manifest = self.manifest(&chosen.to_string(), Some(&chosen))?;
        }
        Err(Error::new(format!("the lists of manifests in {} are nested too deeply", self.reference)))
    }

    /// Takes an image that was found into the store; parts that are there already are not fetched.
    ///
    /// # Errors
    /// Fails when a part is missing or damaged, or when the disk is full.
    pub fn take_in(&self, store: &Store, found: &Found, pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync)) -> Result<Image> {
        if let Some(image) = image::load(store, &found.digest) {
            pin(&image.parts().copied().collect::<Vec<_>>())?;
            // A garbage collection may have run between loading and pinning.
            if image::load(store, &found.digest).is_some() {
                return Ok(image);
            }
        }
        let taken = image::import(store, &found.manifest, self, pin)?;
        for blob in taken.layers.iter().filter_map(|layer| layer.blob.as_ref()) {
            remember_origin(store, &blob.digest, &self.reference.name());
        }
        Ok(taken)
    }

    /// The registries that are not known to be down, or all of them if all are down.
    fn usable(&self) -> Vec<&Arc<Remote>> {
        let up: Vec<&Arc<Remote>> = self.remotes.iter().filter(|remote| !remote.is_down()).collect();
        if up.is_empty() { self.remotes.iter().collect() } else { up }
    }

    /// A manifest by its tag or digest, from the first registry that has it.
    ///
    /// # Errors
    /// Fails when no registry gives it, with the error of the last one.
    pub fn manifest(&self, wanted: &str, digest: Option<&Digest>) -> Result<Vec<u8>> {
        let mut last = None;
        for remote in self.usable() {
            let (remote, wanted, digest) = (remote.clone(), wanted.to_owned(), digest.copied());
            match self.wire.wait(async move { manifest(&remote, &wanted, digest.as_ref()).await }) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new("there is no registry to ask")))
    }

    /// The lists of an image's referrers, from every registry: by its API, or else under a tag
    /// (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
    ///
    /// # Errors
    /// Fails when no registry can be asked.
    pub fn referrers(&self, image: &Digest) -> Result<Vec<Vec<u8>>> {
        let (mut found, mut answered, mut failed) = (Vec::new(), false, None);
        for remote in self.usable() {
            let (remote, image) = (remote.clone(), *image);
            match self.wire.wait(async move { referrers(&remote, &image).await }) {
                Ok(indexes) => {
                    answered = true;
                    found.extend(indexes);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.filter(|_| !answered).map_or(Ok(found), Err)
    }

    /// As [`Self::manifest`], but `None` if no registry has it.
    ///
    /// # Errors
    /// Fails when a registry cannot be asked.
    pub fn manifest_if_there(&self, wanted: &str) -> Result<Option<Vec<u8>>> {
        match self.manifest(wanted, None) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::Absent => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Blobs for Source<'_> {
    fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (sender, receiver) = mpsc::channel(16);
        let remotes: Vec<Arc<Remote>> = self.usable().into_iter().cloned().collect();
        let (digest, progress, came_from) = (*digest, self.progress.clone(), self.came_from.clone());
        self.progress.total.fetch_add(size, Ordering::Relaxed);
        self.wire.begin(async move { stream(&remotes, &digest, size, (&progress, &came_from), &sender).await });
        Ok(Box::new(Body { receiver, current: Bytes::new(), left: size, failed: None }))
    }

    fn distrust(&self, digest: &Digest) -> bool {
        let liars = self.came_from.lock().unwrap_or_else(PoisonError::into_inner).remove(digest).unwrap_or_default();
        liars.iter().for_each(|remote| remote.pass_over());
        let next = self.remotes.iter().find(|remote| !remote.is_down());
        if let (Some(liar), Some(next)) = (liars.first(), next) {
            let hosts = (&liar.endpoint.host, &next.endpoint.host);
            self.progress.note(format!("what {} has for {digest} is damaged; asking {}", hosts.0, hosts.1));
        }
        next.is_some() && !liars.is_empty()
    }
}

/// Pulls an image whose digest is known.
///
/// # Errors
/// Fails when the name is not valid, when the registry cannot be reached or does not have the image, when a part is
/// damaged, or when the disk is full.
pub fn pull(
    store: &Store,
    text: &str,
    digest: Digest,
    progress: &Arc<Progress>,
    pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync),
) -> Result<Image> {
    let registries = Registries::open(progress.clone())?;
    let reference = Reference { digest: Some(digest), ..registries.reference(text)? };
    let source = registries.source(&reference)?;
    let found = match kept(store, &digest) {
        Some(found) => found,
        None => source.find()?,
    };
    source.take_in(store, &found, pin)
}

/// The manifest that was kept in the store when the image was locked.
fn kept(store: &Store, digest: &Digest) -> Option<Found> {
    let manifest = store.blob(digest).filter(|bytes| Digest::of(bytes) == *digest)?;
    // A list is looked into at the registry.
    let is_whole = image::for_platform(&manifest).is_ok_and(|chosen| chosen.is_none());
    is_whole.then(|| Found { digest: *digest, manifest, list: None, platforms: BTreeMap::new() })
}

async fn manifest(remote: &Remote, wanted: &str, digest: Option<&Digest>) -> Result<Vec<u8>> {
    let path = format!("manifests/{wanted}");
    let answer = remote.send(Method::GET, &path, Wish::Pull, |request| request.header("Accept", KINDS)).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Err(absent(remote, wanted, answer).await);
    }
    if !answer.status().is_success() {
        return Err(said(&remote.endpoint.host, answer).await);
    }
    let told = answer
        .headers()
        .get("Docker-Content-Digest")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| Digest::parse(text.strip_prefix("sha256:")?));
    let limit = usize::try_from(LONGEST).unwrap_or(usize::MAX);
    let bytes = limited(answer, limit).await.context(|| format!("the manifest {} cannot be read", remote.name()))?;
    let found = Digest::of(&bytes);
    if digest.is_none() {
        // Old signed manifests have a digest that is not the digest of their bytes.
        image::refuse_schema_1(&bytes)?;
    }
    match digest.copied().or(told) {
        Some(right) if right != found => {
            Err(Error::new(format!("{} gave a manifest with the digest {found} instead of {right}", remote.endpoint.host))
                .hint("it was damaged on its way, or the registry lies; try again"))
        }
        _ => Ok(bytes),
    }
}

async fn referrers(remote: &Remote, digest: &Digest) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut next = Some(format!("referrers/{digest}"));
    while let Some(path) = next.take().filter(|_| found.len() < PAGES) {
        // Some registries have no such list, or redirect to a place without one: then the tag is tried.
        let answer = remote.send_once(Method::GET, &path, Wish::Pull, |request| request.header("Accept", KINDS)).await;
        let Ok(answer) = answer else { break };
        if !answer.status().is_success() {
            break;
        }
        next = further(&answer);
        match limited(answer, usize::try_from(LONGEST).unwrap_or(usize::MAX)).await {
            Ok(index) if image::is_list(&index) => found.push(index),
            _ => break,
        }
    }
    if found.is_empty() {
        let tag = format!("sha256-{}", digest.hex());
        match manifest(remote, &tag, None).await {
            // Some registries answer with the image itself.
            Ok(index) if image::is_list(&index) && Digest::of(&index) != *digest => found.push(index),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Absent => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The next page of a list (RFC 8288, as the distribution-spec uses it: `<URL>; rel="next"`).
fn further(answer: &Response) -> Option<String> {
    next_page(answer.headers().get("Link")?.to_str().ok()?, answer.url())
}

/// The URL of the next page in a `Link` header.
#[doc(hidden)]
pub fn next_page(link: &str, asked: &reqwest::Url) -> Option<String> {
    let (url, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| asked.join(url).ok().map(|url| url.to_string()))?
}

/// The error for a tag or digest that is not found, with a hint at what may have been meant.
async fn absent(remote: &Remote, wanted: &str, answer: Response) -> Error {
    let error = Error::caused(format!("{} has no \"{wanted}\"", remote.name()), said(&remote.endpoint.host, answer).await)
        .of(ErrorKind::Absent);
    let Ok(answer) = remote.send(Method::GET, "tags/list?n=1000", Wish::Pull, |request| request).await else { return error };
    if !answer.status().is_success() {
        return error.hint(format!("the registry knows no repository {}; look at the spelling", remote.endpoint.repository));
    }
    let text = limited(answer, 1 << 20).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let tags: Vec<&str> = value["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str()).collect();
    match nearest(wanted, tags.iter().copied()) {
        Some(near) => error.hint(format!("perhaps \"{near}\"")),
        None if tags.is_empty() => error,
        None => {
            let shown: Vec<&str> = tags.iter().rev().take(8).copied().collect();
            error.hint(format!("it has: {}{}", shown.join(", "), if tags.len() > 8 { ", …" } else { "" }))
        }
    }
}

/// Streams a part of an image to its reader; continues after broken connections, and with the next registry.
async fn stream(
    remotes: &[Arc<Remote>],
    digest: &Digest,
    size: u64,
    (progress, came_from): (&Progress, &CameFrom),
    out: &mpsc::Sender<Result<Bytes>>,
) {
    let mut got = 0;
    let mut last = Error::new("there is no registry to ask");
    for remote in remotes {
        came_from.lock().unwrap_or_else(PoisonError::into_inner).entry(*digest).or_default().push(remote.clone());
        match from_one(remote, digest, size, &mut got, progress, out).await {
            Ok(()) => return,
            Err(error) => last = error,
        }
    }
    let _ = out.send(Err(last)).await;
}

async fn from_one(
    remote: &Remote,
    digest: &Digest,
    size: u64,
    got: &mut u64,
    progress: &Progress,
    out: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let path = format!("blobs/{digest}");
    let mut retries = Retries::going_on();
    let mut whole = false;
    loop {
        let begin = if whole { 0 } else { *got };
        let ranged = move |request: reqwest::RequestBuilder| {
            if begin > 0 { request.header("Range", format!("bytes={begin}-")) } else { request }
        };
        let mut answer = remote.send(Method::GET, &path, Wish::Pull, ranged).await?;
        // How many bytes of this answer were received before.
        let mut known = match answer.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&answer, begin) => 0,
            StatusCode::OK => *got,
            StatusCode::NOT_FOUND => {
                return Err(Error::caused(
                    format!("{} has no {digest}", remote.name()),
                    said(&remote.endpoint.host, answer).await,
                ));
            }
            // The registry cannot resume, or answers a range in its own way: all of the part is requested again.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT if !whole => {
                whole = true;
                continue;
            }
            _ => return Err(said(&remote.endpoint.host, answer).await),
        };
        let before = *got;
        let failed = loop {
            match tokio::time::timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(Some(mut chunk))) => {
                    let skipped = known.min(chunk.len() as u64);
                    known -= skipped;
                    let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(0));
                    *got += chunk.len() as u64;
                    progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    // The reader has enough, or gave up.
                    if !chunk.is_empty() && out.send(Ok(chunk)).await.is_err() {
                        return Ok(());
                    }
                    // More bytes came than were announced: the reader refuses that, and no more are taken.
                    if *got > size {
                        return Ok(());
                    }
                }
                Ok(Ok(None)) if *got >= size => return Ok(()),
                Ok(Ok(None)) => break Error::new(format!("{} ended after {got} of {size} bytes", remote.name())),
                Ok(Err(error)) => {
                    break Error::caused(
                        format!("{} was cut off after {got} of {size} bytes", remote.name()),
                        error.without_url(),
                    );
                }
                Err(_) => break Error::new(format!("{} stopped sending after {got} of {size} bytes", remote.name())),
            }
        };
        // A registry that gives only a few bytes each time makes no progress.
        if *got > before + ADVANCE {
            retries = Retries::going_on();
        }
        retries.again(failed, None).await?;
    }
}

/// Whether an answer begins at the requested byte.
fn begins_at(answer: &Response, begin: u64) -> bool {
    let range = answer.headers().get("Content-Range").and_then(|value| value.to_str().ok());
    range.and_then(starts_at) == Some(begin)
}

/// The first byte's position in a `Content-Range`.
#[doc(hidden)]
pub fn starts_at(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A stream that the network thread sends.
struct Body {
    receiver: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    /// How many bytes are still to come.
    left: u64,
    /// Why the stream failed, for further reads.
    failed: Option<String>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if let Some(why) = &self.failed {
                return Err(io::Error::other(why.clone()));
            }
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => {
                    self.failed = Some(error.chain());
                    return Err(io::Error::other(error));
                }
                None if self.left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

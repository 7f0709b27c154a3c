//! Pushing: an image's parts, its manifest under one or more names, and what is attached to it.
//!
//! What a layer is sent as is `compress`'s.

use super::Registries;
use super::compress::{self, Compression, Ready};
use super::http::{Remote, TRIES, Wish, limited, pause, said};
use crate::model::{Context, Digest, Fault, Outcome, Reference, StoredBlob};
use crate::plan::Image;
use crate::store::Store;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::Semaphore;

/// What is sent at a time: some registries take no more (GHCR).
const CHUNK: u64 = 4 << 20;
/// The most that a registry may want at a time: it is held in memory.
const LARGEST: u64 = 64 << 20;
/// How many parts are sent at the same time.
const AT_ONCE: usize = 5;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of what has none (image-spec, manifest.md, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A document about an image: its media type, and itself.
pub type Attachment = (&'static str, Vec<u8>);

/// What is to be pushed.
pub struct Pushing<'a> {
    pub image: &'a Image,
    pub compression: Compression,
    pub annotations: BTreeMap<String, String>,
    /// Documents about the image, by their media types; they name it by the digest that it gets.
    pub attachments: &'a (dyn Fn(&Digest) -> Vec<Attachment> + Sync),
}

/// What came of a push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// The digest under which the registry knows the image.
    pub digest: Digest,
    /// How many parts were sent; the others were there.
    pub sent: usize,
    pub parts: usize,
}

/// A part, and where its bytes are.
#[derive(Clone)]
struct Part {
    digest: Digest,
    size: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    File(PathBuf),
    Memory(Arc<Vec<u8>>),
}

impl Part {
    fn of(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), size: bytes.len() as u64, content: Content::Memory(Arc::new(bytes)) }
    }

    fn read(&self, at: u64, length: u64) -> Outcome<Vec<u8>> {
        let (start, length) = (usize::try_from(at).unwrap_or(usize::MAX), usize::try_from(length).unwrap_or(usize::MAX));
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.get(start..start + length).unwrap_or_default().to_vec()),
            Content::File(path) => {
                let mut bytes = vec![0; length];
                let file = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, at));
                file.doing(|| format!("cannot read {}", path.display())).map(|()| bytes)
            }
        }
    }
}

impl Registries {
    /// Pushes an image under some names.
    ///
    /// `pin` keeps what it is told from being collected.
    ///
    /// # Errors
    /// Parts that the store lost, a full disk, a registry that cannot be reached or refuses.
    pub fn push(
        &self,
        store: &Store,
        pushing: &Pushing,
        references: &[Reference],
        pin: &(dyn Fn(&[Digest]) -> Outcome<()> + Sync),
    ) -> Outcome<Pushed> {
        let mut remotes: BTreeMap<String, (&Reference, Arc<Remote>)> = BTreeMap::new();
        for reference in references {
            let remote = self.remote(reference, self.settings.origin(&reference.host, &reference.repository))?;
            remotes.entry(reference.name()).or_insert((reference, remote));
        }
        // While a layer is compressed those before it are sent.
        let uploads: Vec<Uploads> =
            remotes.values().map(|(reference, remote)| Uploads::new(self, store, reference, remote.clone())).collect();
        let mut ready: Vec<Ready> = Vec::new();
        for layer in &pushing.image.layers {
            let one = compress::ready(store, layer, pushing.compression, pin)?;
            if !ready.iter().any(|other| other.blob.digest == one.blob.digest) {
                let part = Part { digest: one.blob.digest, size: one.blob.size, content: Content::File(one.path.clone()) };
                uploads.iter().for_each(|uploads| uploads.begin(part.clone()));
            }
            ready.push(one);
        }
        let blobs: Vec<StoredBlob> = ready.iter().map(|one| one.blob.clone()).collect();
        let (manifest, config) = manifest(store, pushing, &blobs)?;
        let mut pushed = Pushed { digest: Digest::of(&manifest), sent: 0, parts: 0 };
        for uploads in uploads {
            uploads.begin(config.clone());
            let (sent, parts) = uploads.end()?;
            pushed.sent += sent;
            pushed.parts += parts;
        }
        compress::keep(store, ready)?;
        for reference in references {
            let wanted = reference.tag.clone().unwrap_or_else(|| "latest".into());
            self.put(&remotes[&reference.name()].1, wanted, &manifest)?;
        }
        for (reference, remote) in remotes.values() {
            self.attach(store, reference, remote, pushing, &manifest)?;
        }
        Ok(pushed)
    }

    /// Puts a manifest under a tag or its digest; whether the registry noted what it is about.
    fn put(&self, remote: &Arc<Remote>, wanted: String, manifest: &[u8]) -> Outcome<bool> {
        let (remote, manifest) = (remote.clone(), manifest.to_vec());
        self.wire.wait(async move { put_manifest(&remote, &wanted, &manifest).await })
    }

    /// Attaches documents to an image (distribution-spec, "Pushing Manifests with Subject").
    fn attach(
        &self,
        store: &Store,
        reference: &Reference,
        remote: &Arc<Remote>,
        pushing: &Pushing,
        manifest: &[u8],
    ) -> Outcome<()> {
        let value: Value = serde_json::from_slice(manifest).doing(|| "the manifest is no JSON".into())?;
        let kind = value["mediaType"].as_str().unwrap_or(OCI_MANIFEST);
        let subject = json!({ "mediaType": kind, "digest": Digest::of(manifest).to_string(), "size": manifest.len() });
        let mut listed = Vec::new();
        for (kind, bytes) in &(pushing.attachments)(&Digest::of(manifest)) {
            let (config, document) = (Part::of(b"{}".to_vec()), Part::of(bytes.clone()));
            let uploads = Uploads::new(self, store, reference, remote.clone());
            [&config, &document].into_iter().for_each(|part| uploads.begin(part.clone()));
            uploads.end()?;
            let attached = json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": kind,
                "config": { "mediaType": EMPTY, "digest": config.digest.to_string(), "size": config.size },
                "layers": [{ "mediaType": kind, "digest": document.digest.to_string(), "size": document.size }],
                "subject": subject,
            });
            let attached = attached.to_string().into_bytes();
            let digest = Digest::of(&attached);
            if !self.put(remote, digest.to_string(), &attached)? {
                listed.push(json!({ "mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": attached.len(), "artifactType": kind }));
            }
        }
        if listed.is_empty() { Ok(()) } else { self.list_by_tag(remote, &Digest::of(manifest), listed) }
    }

    /// Where a registry keeps no list of what is about an image, a tag does (distribution-spec, "Referrers Tag Schema").
    fn list_by_tag(&self, remote: &Arc<Remote>, image: &Digest, listed: Vec<Value>) -> Outcome<()> {
        let tag = format!("sha256-{}", image.hex());
        let (asked, wanted) = (remote.clone(), tag.clone());
        let there = self.wire.wait(async move {
            let path = format!("manifests/{wanted}");
            let answer = asked.send(Method::GET, &path, Wish::Push, |request| request.header("Accept", OCI_INDEX)).await?;
            if answer.status().is_success() { limited(answer, 4 << 20).await.map(Some) } else { Ok(None) }
        })?;
        let known: Value = there.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut all: Vec<Value> = known["manifests"].as_array().cloned().unwrap_or_default();
        for one in listed {
            if !all.iter().any(|other| other["digest"] == one["digest"]) {
                all.push(one);
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": all });
        self.put(remote, tag, index.to_string().as_bytes()).map(drop)
    }
}

/// Parts on their way to a repository.
struct Uploads<'u> {
    registries: &'u Registries,
    store: &'u Store,
    reference: &'u Reference,
    remote: Arc<Remote>,
    gate: Arc<Semaphore>,
    sender: Sender<(Digest, Outcome<bool>)>,
    receiver: Receiver<(Digest, Outcome<bool>)>,
}

impl<'u> Uploads<'u> {
    fn new(registries: &'u Registries, store: &'u Store, reference: &'u Reference, remote: Arc<Remote>) -> Self {
        let (sender, receiver) = channel();
        Self { registries, store, reference, remote, gate: Arc::new(Semaphore::new(AT_ONCE)), sender, receiver }
    }

    /// Begins to send a part, if it is not there.
    fn begin(&self, part: Part) {
        let (gate, remote, sender, progress) =
            (self.gate.clone(), self.remote.clone(), self.sender.clone(), self.registries.progress.clone());
        let origin = origins(self.store, &part.digest).into_iter().find_map(|name| {
            let (host, repository) = name.split_once('/')?;
            (host == self.reference.host && repository != remote.endpoint.repository).then(|| repository.to_owned())
        });
        progress.total.fetch_add(part.size, Ordering::Relaxed);
        self.registries.wire.begin(async move {
            let turn = gate.acquire().await;
            let done = upload(&remote, &part, origin).await.map_err(|fault| {
                let code = fault.code();
                Fault::caused(format!("cannot send {} to {}", part.digest, remote.name()), fault).exit(code)
            });
            progress.done.fetch_add(part.size, Ordering::Relaxed);
            let _ = sender.send((part.digest, done));
            drop(turn);
        });
    }

    /// Waits for all; how many were sent, of how many.
    fn end(self) -> Outcome<(usize, usize)> {
        let Self { store, reference, sender, receiver, .. } = self;
        drop(sender);
        let (mut sent, mut parts, mut failed) = (0, 0, None);
        for (digest, done) in receiver {
            parts += 1;
            match done {
                Ok(was_sent) => {
                    sent += usize::from(was_sent);
                    remember_origin(store, &digest, &reference.name());
                }
                Err(fault) => drop(failed.get_or_insert(fault)),
            }
        }
        failed.map_or(Ok((sent, parts)), Err)
    }
}

/// The key under which it is remembered where a part can be mounted from.
fn origin_key(digest: &Digest) -> Digest {
    Digest::of_json(&("origin", digest))
}

fn origins(store: &Store, digest: &Digest) -> Vec<String> {
    store.result(&origin_key(digest)).unwrap_or_default()
}

/// Remembers that a repository has a part; forgetting it costs a transfer.
pub fn remember_origin(store: &Store, digest: &Digest, name: &str) {
    let mut known = origins(store, digest);
    if !known.iter().any(|other| other == name) {
        known.insert(0, name.to_owned());
        known.truncate(8);
        let _ = store.put_result(&origin_key(digest), &known);
    }
}

/// The manifest that goes to the registry, and the image's configuration. One that says already what is sent
/// stays as it is, to the byte.
fn manifest(store: &Store, pushing: &Pushing, blobs: &[StoredBlob]) -> Outcome<(Vec<u8>, Part)> {
    let lost = || Fault::new("the image is not whole in the store").hint("pull or build it again");
    let bytes = store.blob(&pushing.image.digest).ok_or_else(lost)?;
    let mut value: Value = serde_json::from_slice(&bytes).doing(|| "the image's manifest is no JSON".into())?;
    let config = value["config"]["digest"].as_str().and_then(|text| Digest::parse(text.strip_prefix("sha256:")?));
    let config = Part::of(config.and_then(|config| store.blob(&config)).ok_or_else(lost)?);
    let layers = value["layers"].as_array_mut().filter(|layers| layers.len() == blobs.len()).ok_or_else(lost)?;
    let mut changed = !pushing.annotations.is_empty();
    for (layer, blob) in layers.iter_mut().zip(blobs) {
        if layer["digest"] != blob.digest.to_string() {
            *layer = json!({ "mediaType": blob.media_type, "digest": blob.digest.to_string(), "size": blob.size });
            changed = true;
        }
    }
    for (name, text) in &pushing.annotations {
        value["annotations"][name] = text.clone().into();
    }
    let manifest = if changed { value.to_string().into_bytes() } else { bytes };
    Ok((manifest, config))
}

/// Sends a part, unless the registry has it; whether it was sent.
async fn upload(remote: &Remote, part: &Part, origin: Option<String>) -> Outcome<bool> {
    let there = remote.send(Method::HEAD, &format!("blobs/{}", part.digest), Wish::Push, |request| request).await?;
    if there.status().is_success() {
        return Ok(false);
    }
    if let Some(origin) = origin {
        let mount = format!("blobs/uploads/?mount={}&from={origin}", part.digest);
        let wish = Wish::Mount(origin);
        let answer = remote.send_once(Method::POST, &mount, wish, |request| request.header("Content-Length", "0")).await;
        // Whatever else it says: then the part is sent.
        if answer.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
            return Ok(false);
        }
    }
    let mut attempt = 0;
    loop {
        let answer =
            remote.send(Method::POST, "blobs/uploads/", Wish::Push, |request| request.header("Content-Length", "0")).await?;
        match answer.status() {
            StatusCode::CREATED => return Ok(false),
            StatusCode::ACCEPTED => {}
            _ => return Err(said(&remote.endpoint.host, answer).await),
        }
        let chunk = minimum(&answer).max(CHUNK);
        if chunk > LARGEST {
            return Err(Fault::new(format!("{} wants {chunk} bytes at a time, which is too much", remote.endpoint.host)));
        }
        match send_chunks(remote, part, location(&answer)?, chunk).await {
            Ok(()) => return Ok(true),
            Err(fault) => {
                attempt += 1;
                if attempt >= 3 || fault.code() != LOST {
                    return Err(fault.exit(1));
                }
            }
        }
    }
}

/// Marks an upload that the registry forgot.
const LOST: u8 = 112;

async fn send_chunks(remote: &Remote, part: &Part, mut location: String, chunk: u64) -> Outcome<()> {
    let (mut at, mut attempt) = (0, 0);
    while at < part.size {
        let end = part.size.min(at + chunk);
        let bytes = bytes::Bytes::from(part.read(at, end - at)?);
        let range = format!("{at}-{}", end - 1);
        let answer = remote
            .send_once(Method::PATCH, &location, Wish::Push, |request| {
                let request = request.header(CONTENT_TYPE, "application/octet-stream").header("Content-Range", &range);
                request.header("Content-Length", bytes.len().to_string()).body(bytes.clone())
            })
            .await;
        let fault = match answer {
            Ok(answer) if answer.status().is_success() => {
                location = self::location(&answer)?;
                (at, attempt) = (end, 0);
                continue;
            }
            Ok(answer) => said(&remote.endpoint.host, answer).await,
            Err(fault) => fault,
        };
        attempt += 1;
        if attempt >= TRIES {
            return Err(fault);
        }
        tokio::time::sleep(pause(attempt)).await;
        // What arrived of it, the registry knows.
        let answer = remote.send(Method::GET, &location, Wish::Push, |request| request).await?;
        if !answer.status().is_success() {
            return Err(fault.exit(LOST));
        }
        location = self::location(&answer).unwrap_or(location);
        let range = answer.headers().get("Range").and_then(|value| value.to_str().ok());
        let last: Option<u64> = range.and_then(|text| text.rsplit('-').next()?.parse().ok());
        // `0-0` is what a registry says that has nothing.
        at = last.filter(|last| *last > 0).map_or(0, |last| last + 1).min(part.size);
    }
    let end = format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, part.digest);
    let answer = remote.send_once(Method::PUT, &end, Wish::Push, |request| request.header("Content-Length", "0")).await;
    let fault = match answer {
        Ok(answer) if answer.status().is_success() => return Ok(()),
        Ok(answer) => said(&remote.endpoint.host, answer).await,
        Err(fault) => fault,
    };
    // Its answer may have been lost, not the part.
    let there = remote.send(Method::HEAD, &format!("blobs/{}", part.digest), Wish::Push, |request| request).await?;
    if there.status().is_success() { Ok(()) } else { Err(fault.exit(LOST)) }
}

async fn put_manifest(remote: &Remote, wanted: &str, manifest: &[u8]) -> Outcome<bool> {
    let value: Value = serde_json::from_slice(manifest).doing(|| "the manifest is no JSON".into())?;
    let kind = value["mediaType"].as_str().unwrap_or(OCI_MANIFEST).to_owned();
    let body = bytes::Bytes::copy_from_slice(manifest);
    let path = format!("manifests/{wanted}");
    let answer =
        remote.send(Method::PUT, &path, Wish::Push, |request| request.header(CONTENT_TYPE, &kind).body(body.clone())).await?;
    if !answer.status().is_success() {
        return Err(Fault::caused(
            format!("cannot put the manifest {}:{wanted}", remote.name()),
            said(&remote.endpoint.host, answer).await,
        ));
    }
    Ok(answer.headers().contains_key("OCI-Subject"))
}

fn location(answer: &Response) -> Outcome<String> {
    let text = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    text.map(str::to_owned).ok_or_else(|| Fault::new("the registry does not say where to send it"))
}

/// The least that a registry wants at a time (distribution-spec, `OCI-Chunk-Min-Length`).
fn minimum(answer: &Response) -> u64 {
    let text = answer.headers().get("OCI-Chunk-Min-Length").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

//! Pushing: an image's parts, its manifest under one or more names, and the documents attached to it.
//!
//! `compress` makes the form in which a layer is sent; `upload` sends the parts.

use super::Registries;
use super::answer::{limited, said};
use super::compress::{self, Compression, Ready};
use super::http::{Remote, Wish};
use super::upload::{Content, Part, Uploads};
use crate::model::{Context, Digest, Error, Reference, Result, StoredBlob};
use crate::plan::Image;
use crate::store::Store;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an empty configuration (image-spec, manifest.md, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A document about an image: its media type and its bytes.
pub type Attachment = (&'static str, Vec<u8>);

/// What is to be pushed.
pub struct Pushing<'a> {
    pub image: &'a Image,
    pub compression: Compression,
    pub annotations: BTreeMap<String, String>,
    /// Makes the documents about the image for the digest under which it is pushed.
    pub attachments: &'a (dyn Fn(&Digest) -> Vec<Attachment> + Sync),
}

/// The result of a push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// The digest under which the registry knows the image.
    pub digest: Digest,
    /// How many parts were sent; the registry had the others already.
    pub sent: usize,
    pub parts: usize,
}

impl Registries {
    /// Pushes an image under one or more names.
    ///
    /// `pin` keeps the given digests from being collected.
    ///
    /// # Errors
    /// Fails when the store has lost a part, when the disk is full, or when a registry cannot be reached or refuses.
    pub fn push(
        &self,
        store: &Store,
        pushing: &Pushing,
        references: &[Reference],
        pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync),
    ) -> Result<Pushed> {
        let mut remotes: BTreeMap<String, (&Reference, Arc<Remote>)> = BTreeMap::new();
        for reference in references {
            let remote = self.remote(reference, self.settings.origin(&reference.host, &reference.repository))?;
            remotes.entry(reference.name()).or_insert((reference, remote));
        }
        // While a layer is being compressed, the ones before it are being sent.
        let mut uploads: Vec<Uploads> =
            remotes.values().map(|(reference, remote)| Uploads::new(self, store, reference, remote.clone())).collect();
        let mut ready: Vec<Ready> = Vec::new();
        for layer in &pushing.image.layers {
            // A user who may not push learns that before all layers are compressed.
            if uploads.iter_mut().any(Uploads::have_failed) {
                break;
            }
            let one = compress::ready(store, layer, pushing.compression, pin)?;
            if !ready.iter().any(|other| other.blob.digest == one.blob.digest) {
                let part = Part { digest: one.blob.digest, size: one.blob.size, content: Content::File(one.path.clone()) };
                uploads.iter().for_each(|uploads| uploads.begin(part.clone()));
            }
            ready.push(one);
        }
        let blobs: Vec<StoredBlob> = ready.iter().map(|one| one.blob.clone()).collect();
        let whole = blobs.len() == pushing.image.layers.len();
        let made = whole.then(|| manifest(store, pushing, &blobs)).transpose()?;
        if let Some((_, config)) = &made {
            uploads.iter().for_each(|uploads| uploads.begin(config.clone()));
        }
        let ends: Vec<Result<(usize, usize)>> = uploads.into_iter().map(Uploads::end).collect();
        // Compressed layers are kept even after a failure, for the next try.
        compress::keep(store, ready)?;
        let ends = ends.into_iter().collect::<Result<Vec<_>>>()?;
        let (manifest, _) = made.ok_or_else(|| Error::new("not all parts could be sent"))?;
        let (sent, parts) = ends.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let pushed = Pushed { digest: Digest::of(&manifest), sent, parts };
        for reference in references {
            let wanted = reference.tag.clone().unwrap_or_else(|| "latest".into());
            self.put(&remotes[&reference.name()].1, wanted, &manifest)?;
        }
        for (reference, remote) in remotes.values() {
            self.attach(store, reference, remote, pushing, &manifest)?;
        }
        Ok(pushed)
    }

    /// Puts a manifest under a tag or its digest; returns whether the registry recorded its subject.
    fn put(&self, remote: &Arc<Remote>, wanted: String, manifest: &[u8]) -> Result<bool> {
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
    ) -> Result<()> {
        let value: Value = serde_json::from_slice(manifest).context(|| "the manifest is no JSON".into())?;
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

    /// Adds to the list of referrers under a tag, for registries that keep no such list (distribution-spec, "Referrers Tag
    /// Schema").
    fn list_by_tag(&self, remote: &Arc<Remote>, image: &Digest, listed: Vec<Value>) -> Result<()> {
        let tag = format!("sha256-{}", image.hex());
        let (asked, wanted) = (remote.clone(), tag.clone());
        let there = self.wire.wait(async move {
            let path = format!("manifests/{wanted}");
            let answer = asked.send(Method::GET, &path, Wish::Push, |request| request.header("Accept", OCI_INDEX)).await?;
            match answer.status() {
                status if status.is_success() => limited(answer, 4 << 20).await.map(Some),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(said(&asked.endpoint.host, answer).await),
            }
        })?;
        // What others have attached must not be lost.
        let unreadable = || format!("{}:{tag} is not a list of referrers", remote.name());
        let mut all: Vec<Value> = match there {
            Some(bytes) => {
                let mut known: Value = serde_json::from_slice(&bytes).context(unreadable)?;
                let listed = known.get_mut("manifests").and_then(Value::as_array_mut);
                std::mem::take(listed.ok_or_else(|| Error::new(unreadable()))?)
            }
            None => Vec::new(),
        };
        for one in listed {
            if !all.iter().any(|other| other["digest"] == one["digest"]) {
                all.push(one);
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": all });
        self.put(remote, tag, index.to_string().as_bytes()).map(drop)
    }
}

/// The manifest for the registry, and the image's configuration. If the image's own manifest already fits what is sent,
/// it stays the same byte for byte.
fn manifest(store: &Store, pushing: &Pushing, blobs: &[StoredBlob]) -> Result<(Vec<u8>, Part)> {
    let lost = || Error::new("the image is not whole in the store").hint("pull or build it again");
    let bytes = store.blob(&pushing.image.digest).ok_or_else(lost)?;
    let mut value: Value = serde_json::from_slice(&bytes).context(|| "the image's manifest is no JSON".into())?;
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

async fn put_manifest(remote: &Remote, wanted: &str, manifest: &[u8]) -> Result<bool> {
    let value: Value = serde_json::from_slice(manifest).context(|| "the manifest is no JSON".into())?;
    let kind = value["mediaType"].as_str().unwrap_or(OCI_MANIFEST).to_owned();
    let body = bytes::Bytes::copy_from_slice(manifest);
    let path = format!("manifests/{wanted}");
    let answer =
        remote.send(Method::PUT, &path, Wish::Push, |request| request.header(CONTENT_TYPE, &kind).body(body.clone())).await?;
    if !answer.status().is_success() {
        return Err(Error::caused(
            format!("cannot put the manifest {}:{wanted}", remote.name()),
            said(&remote.endpoint.host, answer).await,
        ));
    }
    Ok(answer.headers().contains_key("OCI-Subject"))
}

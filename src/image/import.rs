//! Images that were made elsewhere → the store.
//!
//! Manifest, configuration and layers are kept as they came, byte for byte, so that the image keeps its
//! digest. The layers are also kept unpacked, as containers need them. Each layer is read once: one pass gives
//! its digest, its content's digest and its files. Several layers are read at the same time.

use super::compression::budgeted;
use super::config::parse;
use super::unpack::{Rules, Tree};
use crate::model::bounds::image::{ARCHIVE, IMAGE, LAYERS, LONGEST};
use crate::model::{Budget, Context, Digest, Error, ErrorKind, Hasher, LayerInfo, Result, StoredBlob};
use crate::plan::Image;
use crate::store::{Staging, Store, disk_error};
use crate::sys;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the parts of an image come from.
pub trait Blobs: Sync {
    /// Opens a part by its digest.
    ///
    /// # Errors
    /// Fails when it is not there.
    fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Is called when the bytes that came for a digest do not match it. Returns whether there is another source to try.
    fn distrust(&self, _: &Digest) -> bool {
        false
    }
}

/// A part of an image, as a manifest names it (image-spec, descriptor.md).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    urls: Vec<String>,
}

impl Descriptor {
    /// Its digest.
    ///
    /// # Errors
    /// Fails when the digest is of an algorithm that is not supported.
    pub fn digest(&self) -> Result<Digest> {
        Digest::named(&self.digest)
    }
}

/// The fields of an image's manifest that matter here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Fails when it is not a manifest, is of a schema that is not supported, or has too many layers.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).context(|| "the manifest is no JSON".into())?;
        refuse_schema_1(bytes)?;
        let manifest: Self = serde_json::from_value(value).context(|| "this is not an image manifest".into())?;
        if manifest.schema_version != 2 {
            return Err(Error::new(format!("the manifest is of schema {}, which is not known here", manifest.schema_version)));
        }
        if manifest.layers.len() > LAYERS {
            return Err(Error::new(format!("the image has {} layers, and at most {LAYERS} are allowed", manifest.layers.len())));
        }
        Ok(manifest)
    }
}

/// Refuses manifests of schema 1.
///
/// # Errors
/// Fails when the manifest is of schema 1.
pub fn refuse_schema_1(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    if serde_json::from_slice::<Version>(bytes).is_ok_and(|version| version.schema_version == 1) {
        return Err(Error::new("the manifest is of schema 1, which Docker gave up in 2017")
            .hint("push the image again with a newer tool, or build it anew"));
    }
    Ok(())
}

/// Takes an image into the store; parts that are there already are not fetched.
///
/// `pin` keeps the given digests from being collected.
///
/// # Errors
/// Fails, with the digest, when a part is missing or damaged, and when the disk is full. Parts that were taken in until
/// then stay.
pub fn import(
    store: &Store,
    manifest: &[u8],
    blobs: &dyn Blobs,
    pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync),
) -> Result<Image> {
    let described = Manifest::read(manifest)?;
    let identity = Digest::of(manifest);
    let config_digest = described.config.digest()?;
    pin(&[identity, config_digest])?;
    // After a power cut its content may be wrong.
    let config_bytes = match store.blob(&config_digest).filter(|bytes| Digest::of(bytes) == config_digest) {
        Some(bytes) => bytes,
        None => small(blobs, &described.config).context(|| "cannot read the image's configuration".into())?,
    };
    let (config, diff_ids) = parse(&config_bytes)?;
    if diff_ids.len() != described.layers.len() {
        let (layers, known) = (described.layers.len(), diff_ids.len());
        return Err(Error::new(format!("the manifest has {layers} layers, but the configuration lists {known}")));
    }
    let all: Vec<(&Descriptor, Digest)> = described.layers.iter().zip(diff_ids).collect();
    // An image may list the same layer more than once.
    let mut work: Vec<&(&Descriptor, Digest)> = Vec::new();
    for one in &all {
        if !work.iter().any(|other| other.0.digest == one.0.digest && other.1 == one.1) {
            work.push(one);
        }
    }
    let (next, failed, budget) = (AtomicUsize::new(0), Mutex::new(None), Arc::new(Budget::new(IMAGE)));
    let found: Mutex<Vec<Option<Taken>>> = Mutex::new(work.iter().map(|_| None).collect());
    // This may be more threads than there are cores, because some of them wait for the network.
    let lanes = crate::sys::cores().max(LANES).min(work.len());
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((descriptor, diff_id)) = work.get(index).copied() else { return };
                    match layer(store, descriptor, diff_id, blobs, pin, &budget) {
                        Ok(taken) => found.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(taken),
                        Err(error) => {
                            let text = format!("cannot take in layer {} of {}, {}", index + 1, work.len(), descriptor.digest);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Error::caused(text, error));
                        }
                    }
                }
            });
        }
    });
    let taken: Vec<Taken> = found.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect();
    // Complete layers are kept even after a failure, for the next try.
    adopt(store, &taken)?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let known: Vec<LayerInfo> = taken.into_iter().map(|one| one.info).collect();
    let same = |layer: &&LayerInfo, one: &(&Descriptor, Digest)| {
        layer.diff_id == one.1 && layer.blob.as_ref().is_some_and(|blob| one.0.digest == blob.digest.to_string())
    };
    let layers: Vec<LayerInfo> = all.iter().filter_map(|one| known.iter().find(|layer| same(layer, one)).cloned()).collect();
    store.put_blob(&config_bytes)?;
    store.put_blob(manifest)?;
    let image = Image { digest: identity, config, layers };
    super::config::keep(store, &image)?;
    Ok(image)
}

/// The least number of threads that take in layers.
const LANES: usize = 4;

/// A layer that was taken in, and its staging directory until it has its name in the store.
struct Taken {
    info: LayerInfo,
    staged: Option<Staging>,
}

/// Moves layers to their names in the store, after one sync for all of them.
fn adopt(store: &Store, taken: &[Taken]) -> Result<()> {
    if taken.iter().any(|one| one.staged.is_some()) {
        store.sync()?;
    }
    for Taken { info, staged } in taken {
        let (Some(staging), Some(blob)) = (staged, &info.blob) else { continue };
        if store.layer(&info.diff_id).is_none() {
            store.name_layer(&staging.join("tree"), info)?;
        }
        fs::rename(staging.join("blob"), store.blob_path(&blob.digest)).context(|| "cannot keep the layer".into())?;
    }
    Ok(())
}

/// Reads a part that is small enough to be held in memory, and verifies it.
///
/// # Errors
/// Fails when it is too long, is missing, or does not match its digest.
pub fn small(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let wanted = descriptor.digest()?;
    if descriptor.size > LONGEST {
        return Err(Error::new(format!(
            "{wanted} has {} bytes, more than the {LONGEST} that such a part may have",
            descriptor.size
        )));
    }
    loop {
        let mut bytes = Vec::new();
        let opened = blobs.open(&wanted, descriptor.size)?;
        opened.take(descriptor.size + 1).read_to_end(&mut bytes).context(|| format!("cannot read {wanted}"))?;
        if Digest::of(&bytes) == wanted {
            return Ok(bytes);
        }
        if !blobs.distrust(&wanted) {
            return Err(Error::new(format!("what came for {wanted} has the digest {}", Digest::of(&bytes))));
        }
    }
}

fn layer(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &Digest,
    blobs: &dyn Blobs,
    pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync),
    budget: &Arc<Budget>,
) -> Result<Taken> {
    let wanted = descriptor.digest()?;
    if descriptor.media_type.contains("foreign")
        || descriptor.media_type.contains("nondistributable")
        || !descriptor.urls.is_empty()
    {
        return Err(Error::new("it is a foreign layer, which must be fetched from its maker and may not be passed on")
            .hint("such images are made for Windows; use one that is made for Linux"));
    }
    if descriptor.media_type.contains("encrypted") {
        return Err(Error::new("it is encrypted").hint("decrypt the image first, with `skopeo copy --decryption-key`"));
    }
    let blob = StoredBlob { digest: wanted, size: descriptor.size, media_type: descriptor.media_type.clone() };
    pin(&[wanted, *diff_id])?;
    let there = fs::metadata(store.blob_path(&wanted)).is_ok_and(|metadata| metadata.len() == descriptor.size);
    if let Some(known) = store.layer(diff_id).filter(|_| there) {
        return Ok(Taken { info: LayerInfo { blob: Some(blob), ..known }, staged: None });
    }
    loop {
        match receive(store, &blob, diff_id, blobs, budget) {
            Err(error) if error.kind() == ErrorKind::Damaged && blobs.distrust(&wanted) => {}
            taken => return taken,
        }
    }
}

/// Reads a layer and unpacks it.
fn receive(store: &Store, blob: &StoredBlob, diff_id: &Digest, blobs: &dyn Blobs, budget: &Arc<Budget>) -> Result<Taken> {
    let StoredBlob { digest: wanted, size: announced, .. } = *blob;
    let staging = store.staging()?;
    let (tree, kept) = (staging.join("tree"), staging.join("blob"));
    fs::create_dir(&tree).map_err(|error| disk_error("cannot make a staging directory", error))?;
    let out = File::create(&kept).map_err(|error| disk_error("cannot keep the layer", error))?;
    let inner = blobs.open(&wanted, announced)?;
    let mut came = Came { inner, out: Some(out), hasher: Hasher::default(), length: 0, limit: announced };
    // The budget counts the bytes that really came: the announced size proves nothing.
    let budget = Arc::new(Budget::new(ARCHIVE).within(budget.clone()));
    let info = unpack(&mut came, &tree, budget).map_err(|error| {
        // For a broken connection and a full disk, `disk_error` gives a message or hint of its own.
        disk_error("cannot unpack it", error)
    });
    // Bytes behind the end of the archive count for the digest, too. If the digest is wrong, that is the error to report,
    // even if unpacking failed.
    let rest = io::copy(&mut came, &mut io::sink());
    let Came { hasher, length, .. } = came;
    let told = rest.is_ok() || length > announced;
    if told && (length != announced || hasher.clone().finish() != wanted) {
        return Err(Error::new(format!(
            "what came has {length} bytes and the digest {}, not {} bytes",
            hasher.finish(),
            announced
        ))
        .hint("it was damaged on its way, or its source lies; try again")
        .of(ErrorKind::Damaged));
    }
    let (found, size, files) = info?;
    rest.context(|| "cannot read it to its end".into())?;
    if found != *diff_id {
        return Err(Error::new(format!("its content has the digest {found}, and the configuration says {diff_id}")));
    }
    let info = LayerInfo { diff_id: *diff_id, size, files, blob: Some(blob.clone()) };
    Ok(Taken { info, staged: Some(staging) })
}

/// Unpacks a layer; returns the digest and the length of its content, and the number of entries.
fn unpack(came: &mut (impl Read + Send), tree: &std::path::Path, budget: Arc<Budget>) -> io::Result<(Digest, u64, u64)> {
    let rules = Rules { latest: i64::MAX, owner: None, whiteouts: true, rootfs: true, folder_times: true };
    let inner = budgeted(came, &budget)?;
    let mut content = Came { inner, out: None, hasher: Hasher::default(), length: 0, limit: u64::MAX };
    let mut writer = Tree::new(tree, rules, budget)?;
    let entries = writer.write(&mut content)?;
    writer.finish()?;
    io::copy(&mut content, &mut io::sink())?;
    Ok((content.hasher.finish(), content.length, entries))
}

/// A stream whose bytes are counted, hashed and written to a file as they come.
struct Came<R> {
    inner: R,
    out: Option<File>,
    hasher: Hasher,
    length: u64,
    limit: u64,
}

impl<R: Read> Read for Came<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.length += length as u64;
        if self.length > self.limit {
            return Err(io::Error::other(format!("more came than the {} bytes that were announced", self.limit)));
        }
        self.hasher.update(&buffer[..length]);
        if let Some(out) = &mut self.out {
            out.write_all(&buffer[..length])?;
            sys::write_out_along(out, self.length - length as u64, self.length);
        }
        Ok(length)
    }
}

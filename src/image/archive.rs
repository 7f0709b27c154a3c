//! Writes an image for other tools: an OCI layout (image-spec, image-layout.md) in one tar or a directory, or the format that
//! `docker load` reads.
//!
//! Layers from elsewhere are written as they came. Our own are written uncompressed, because their digest is their identity.
//! The same image always gives the same archive.

use super::compression::decompressed;
use super::layer::write_tar;
use crate::model::{Context, Digest, EPOCH, Error, LayerInfo, Result};
use crate::plan::Image;
use crate::store::{Store, disk_error};
use crate::sys;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where an archive's files go.
trait Files {
    /// Adds a file of a known length; `write` writes its content.
    fn file(&mut self, name: &str, size: u64, write: &mut dyn FnMut(&mut (dyn Write + Send)) -> io::Result<()>)
    -> io::Result<()>;

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name, bytes.len() as u64, &mut |out| out.write_all(bytes))
    }
}

struct Tar<W>(W);

impl<W: Write + Send> Files for Tar<W> {
    fn file(
        &mut self,
        name: &str,
        size: u64,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(EPOCH).unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        write(&mut self.0)?;
        self.0.write_all(&[0; 512][..usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0)])
    }
}

struct Folder<'a>(&'a Path);

impl Files for Folder<'_> {
    fn file(&mut self, name: &str, _: u64, write: &mut dyn FnMut(&mut (dyn Write + Send)) -> io::Result<()>) -> io::Result<()> {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap_or(self.0))?;
        let mut out = BufWriter::new(File::create(path)?);
        write(&mut out)?;
        out.flush()
    }
}

/// The parts of an image in the store.
struct Parts<'a> {
    store: &'a Store,
    image: &'a Image,
    manifest: Vec<u8>,
    config: (Digest, Vec<u8>),
}

impl<'a> Parts<'a> {
    fn of(store: &'a Store, image: &'a Image) -> Result<Self> {
        let lost =
            || Error::new(format!("image {} is not whole in the store", image.digest.short(12))).hint("type `stead build`");
        let manifest = store.blob(&image.digest).ok_or_else(lost)?;
        let described: serde_json::Value =
            serde_json::from_slice(&manifest).context(|| "cannot read the image's manifest".into())?;
        let config = described["config"]["digest"].as_str().and_then(|text| Digest::parse(text.trim_start_matches("sha256:")));
        let config = config.and_then(|digest| Some((digest, store.blob(&digest)?))).ok_or_else(lost)?;
        Ok(Self { store, image, manifest, config })
    }

    /// Writes each layer once: two steps may have produced the same one.
    fn layers(&self, files: &mut dyn Files, written: &mut BTreeSet<String>, name: impl Fn(&Digest) -> String) -> io::Result<()> {
        for layer in &self.image.layers {
            let (digest, size) = layer.blob.as_ref().map_or((layer.diff_id, layer.size), |blob| (blob.digest, blob.size));
            let name = name(&digest);
            if !written.insert(name.clone()) {
                continue;
            }
            files.file(&name, size, &mut |mut out| {
                if layer.blob.is_some() {
                    io::copy(&mut File::open(self.store.blob_path(&digest))?, out).map(drop)
                } else {
                    write_tar(&sys::Tree::open(&self.store.layer_path(&layer.diff_id))?, &mut out).map(drop)
                }
            })?;
        }
        Ok(())
    }

    /// The image's entry in an index.
    fn entry(&self, reference: &str) -> serde_json::Value {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self.image.digest.to_string(),
            "size": self.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": reference },
        })
    }

    /// Writes manifest, configuration and layers; blobs that are in `written` already are skipped.
    fn blobs(&self, files: &mut dyn Files, written: &mut BTreeSet<String>) -> io::Result<()> {
        let name = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        for (digest, bytes) in [(&self.image.digest, &self.manifest), (&self.config.0, &self.config.1)] {
            if written.insert(name(digest)) {
                files.bytes(&name(digest), bytes)?;
            }
        }
        self.layers(files, written, name)
    }

    fn layout(&self, reference: &str, files: &mut dyn Files) -> io::Result<()> {
        files.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        files.bytes("index.json", index(&[self.entry(reference)]).as_bytes())?;
        self.blobs(files, &mut BTreeSet::new())
    }

    /// Writes the format of `docker save`: layers uncompressed, named by the digests of their content.
    fn docker(&self, reference: &str, files: &mut dyn Files) -> io::Result<()> {
        let name = |layer: &LayerInfo| format!("{}/layer.tar", layer.diff_id.hex());
        let config = format!("{}.json", self.config.0.hex());
        let list = json!([{
            "Config": config,
            "RepoTags": [reference],
            "Layers": self.image.layers.iter().map(name).collect::<Vec<_>>(),
        }]);
        let mut written = BTreeSet::new();
        for layer in self.image.layers.iter().filter(|layer| written.insert(layer.diff_id)) {
            files.file(&name(layer), layer.size, &mut |mut out| match &layer.blob {
                Some(blob) => io::copy(&mut decompressed(File::open(self.store.blob_path(&blob.digest))?)?, out).map(drop),
                None => write_tar(&sys::Tree::open(&self.store.layer_path(&layer.diff_id))?, &mut out).map(drop),
            })?;
        }
        files.bytes(&config, &self.config.1)?;
        files.bytes("manifest.json", list.to_string().as_bytes())
    }
}

/// Writes an image as an OCI layout in one tar; `reference` is the name that other tools will know it by.
///
/// # Errors
/// Fails when the store has lost a blob, or when writing fails.
pub fn write_layout(store: &Store, image: &Image, reference: &str, out: &mut (impl Write + Send)) -> Result<()> {
    let parts = Parts::of(store, image)?;
    parts.layout(reference, &mut Tar(&mut *out)).and_then(|()| end(out)).map_err(failed)
}

/// Writes an image as `docker save` does.
///
/// # Errors
/// As [`write_layout`].
pub fn write_docker(store: &Store, image: &Image, reference: &str, out: &mut (impl Write + Send)) -> Result<()> {
    let parts = Parts::of(store, image)?;
    parts.docker(reference, &mut Tar(&mut *out)).and_then(|()| end(out)).map_err(failed)
}

/// Writes an image as an OCI layout into an empty directory.
///
/// # Errors
/// As [`write_layout`].
pub fn write_folder(store: &Store, image: &Image, reference: &str, folder: &Path) -> Result<()> {
    Parts::of(store, image)?.layout(reference, &mut Folder(folder)).map_err(failed)
}

/// Writes several images as an OCI layout in one tar, with the file `first` in front and the entries of `extra` behind them.
///
/// # Errors
/// As [`write_layout`].
pub fn write_several(
    store: &Store,
    images: &[(String, &Image)],
    first: (&str, &[u8]),
    extra: impl FnOnce(&mut tar::Builder<&mut dyn Write>) -> io::Result<()>,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let all = images.iter().map(|(name, image)| Ok((name.as_str(), Parts::of(store, image)?))).collect::<Result<Vec<_>>>()?;
    let write = |files: &mut dyn Files| -> io::Result<()> {
        files.bytes(first.0, first.1)?;
        files.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let manifests: Vec<_> = all.iter().map(|(name, parts)| parts.entry(name)).collect();
        files.bytes("index.json", index(&manifests).as_bytes())?;
        let mut written = BTreeSet::new();
        all.iter().try_for_each(|(_, parts)| parts.blobs(files, &mut written))
    };
    let beside = |out: &mut dyn Write| {
        let mut builder = tar::Builder::new(out);
        builder.follow_symlinks(false);
        builder.mode(tar::HeaderMode::Deterministic);
        extra(&mut builder)?;
        builder.into_inner()?.flush()
    };
    write(&mut Tar(&mut *out)).and_then(|()| beside(out)).map_err(failed)
}

fn index(manifests: &[serde_json::Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests }).to_string()
}

fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 1024]).and_then(|()| out.flush())
}

fn failed(error: io::Error) -> Error {
    disk_error("cannot write the archive", error)
}

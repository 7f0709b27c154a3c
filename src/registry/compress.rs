//! Layers in the form in which they are pushed: those that were made here are compressed, once.
//!
//! The result is remembered, so that an image has the same digest each time it is pushed.

use super::blocks::gzip;
use crate::image::write_tar;
use crate::model::{Context, Digest, Error, Hasher, LayerInfo, Result, StoredBlob};
use crate::store::{Refers, Staging, Store, disk_error};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// The version of the compressed output: raise it when an encoder changes.
const ENCODERS: u32 = 4;

/// How layers that were made here are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    #[default]
    Gzip,
    Zstd,
    None,
}

/// A layer as it is sent.
pub struct Ready {
    pub blob: StoredBlob,
    pub path: PathBuf,
    /// If it was compressed just now and has no name in the store yet: its staging directory, and what is to be recorded.
    new: Option<(Staging, Digest, LayerInfo)>,
}

/// The record of a compressed layer; it is kept as long as the layer.
#[derive(Serialize, Deserialize)]
struct Compressed {
    compressed: StoredBlob,
    layer: LayerInfo,
}

/// A layer's bytes: as they came from elsewhere, as they were compressed before, or compressed now.
///
/// # Errors
/// Fails when the store has lost the bytes, or when the disk is full.
pub fn ready(
    store: &Store,
    layer: &LayerInfo,
    compression: Compression,
    pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync),
) -> Result<Ready> {
    let known = |blob: StoredBlob| -> Result<Option<Ready>> {
        pin(&[blob.digest])?;
        let path = store.blob_path(&blob.digest);
        let there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == blob.size);
        Ok(there.then_some(Ready { blob, path, new: None }))
    };
    if let Some(blob) = &layer.blob {
        let lost = || Error::new(format!("the store lost {}", blob.digest)).hint("pull or build the image again");
        return known(blob.clone())?.ok_or_else(lost);
    }
    let (word, media_type) = match compression {
        Compression::Gzip => ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        Compression::Zstd => ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        Compression::None => ("none", "application/vnd.oci.image.layer.v1.tar"),
    };
    let key = Digest::of_json(&("compressed", ENCODERS, word, layer.diff_id));
    pin(&[key, layer.diff_id])?;
    if let Some(Compressed { compressed, .. }) = store.result(&key)
        && let Some(ready) = known(compressed)?
    {
        return Ok(ready);
    }
    let staging = store.staging()?;
    let path = staging.join("blob");
    let (digest, size) =
        compress(store, layer, compression, &path).map_err(|error| disk_error("cannot compress a layer", error))?;
    pin(&[digest])?;
    let blob = StoredBlob { digest, size, media_type: media_type.to_owned() };
    Ok(Ready { blob, path, new: Some((staging, key, layer.clone())) })
}

fn compress(store: &Store, layer: &LayerInfo, compression: Compression, path: &PathBuf) -> io::Result<(Digest, u64)> {
    let mut out = Counted { out: BufWriter::with_capacity(1 << 18, File::create(path)?), hasher: Hasher::default(), length: 0 };
    let tree = sys::Tree::open(&store.layer_path(&layer.diff_id))?;
    match compression {
        Compression::None => drop(write_tar(&tree, &mut out)?),
        Compression::Gzip => out = gzip(out, |blocks| write_tar(&tree, blocks).map(drop))?,
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, 3)?;
            write_tar(&tree, &mut encoder)?;
            out = encoder.finish()?;
        }
    }
    out.flush()?;
    Ok((out.hasher.finish(), out.length))
}

/// Keeps the compressed layers for the next push, after one sync for all of them.
///
/// # Errors
/// Fails when syncing or renaming fails, or when the disk is full.
pub fn keep(store: &Store, all: Vec<Ready>) -> Result<()> {
    if all.iter().any(|one| one.new.is_some()) {
        store.sync()?;
    }
    for Ready { blob, path, new } in all {
        let Some((_staging, key, layer)) = new else { continue };
        fs::rename(path, store.blob_path(&blob.digest)).context(|| "cannot keep a compressed layer".into())?;
        let refers = Refers::to(layer.diff_id).bringing(blob.digest);
        store.put_result(&key, refers, &Compressed { compressed: blob, layer })?;
    }
    Ok(())
}

/// A file whose bytes are counted and hashed as they are written.
struct Counted {
    out: BufWriter<File>,
    hasher: Hasher,
    length: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        let before = self.length;
        self.length += length as u64;
        sys::write_out_along(self.out.get_ref(), before, self.length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

//! An image as an OCI layout in one tar (image-spec, image-layout.md): what `save` writes.
//!
//! Layers go in as they are, uncompressed: their digest is their identity. The same image gives the
//! same archive.

use super::layer::write_tar;
use crate::model::{Context, Digest, EPOCH, Fault, LayerInfo, Outcome};
use crate::plan::Image;
use crate::store::Store;
use serde_json::json;
use std::io::{self, Write};

/// Writes an image; `reference` is the name that other tools will know it by.
///
/// # Errors
/// Blobs that the store lost; those of writing.
pub fn write_layout(store: &Store, image: &Image, reference: &str, out: &mut (impl Write + Send)) -> Outcome<()> {
    let lost = || Fault::new(format!("image {} is not whole in the store", image.digest.short(12))).hint("type `stead build`");
    let manifest = store.blob(&image.digest).ok_or_else(lost)?;
    let described: serde_json::Value = serde_json::from_slice(&manifest).doing(|| "cannot read the image's manifest".into())?;
    let config = described["config"]["digest"].as_str().and_then(|text| Digest::parse(text.trim_start_matches("sha256:")));
    let config = config.ok_or_else(lost)?;
    let config_bytes = store.blob(&config).ok_or_else(lost)?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.digest.to_string(),
            "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": reference },
        }],
    });
    let failed = || "cannot write the archive".to_owned();
    let mut files = |name: &str, bytes: &[u8]| file(out, name, bytes).doing(failed);
    files("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    files("index.json", index.to_string().as_bytes())?;
    files(&format!("blobs/sha256/{}", image.digest.hex()), &manifest)?;
    files(&format!("blobs/sha256/{}", config.hex()), &config_bytes)?;
    let mut written: Vec<&LayerInfo> = Vec::new();
    for layer in &image.layers {
        // Two steps may have come to the same layer.
        if written.iter().any(|other| other.diff_id == layer.diff_id) {
            continue;
        }
        let (digest, size) = layer.blob.as_ref().map_or((layer.diff_id, layer.size), |blob| (blob.digest, blob.size));
        header(out, &format!("blobs/sha256/{}", digest.hex()), size).doing(failed)?;
        if layer.blob.is_some() {
            let mut file = std::fs::File::open(store.blob_path(&digest)).map_err(|_| lost())?;
            io::copy(&mut file, out).doing(failed)?;
        } else {
            write_tar(&store.layer_path(&layer.diff_id), out).doing(failed)?;
        }
        pad(out, size).doing(failed)?;
        written.push(layer);
    }
    out.write_all(&[0; 1024]).and_then(|()| out.flush()).doing(failed)
}

fn file(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    header(out, name, bytes.len() as u64)?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn header(out: &mut impl Write, name: &str, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(EPOCH).unwrap_or(0));
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all(&[0; 512][..usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0)])
}

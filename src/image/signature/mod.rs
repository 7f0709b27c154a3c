//! Signatures of images, as cosign makes them with a key: what they say and whether they are valid.
//!
//! Owns public keys and the two forms of signatures: beside the image under a tag of their own (sigstore/cosign,
//! specs/SIGNATURE_SPEC.md), and as bundles. `registry` fetches them. Certificates and transparency logs are not supported.

mod bundle;
mod key;

pub use bundle::{Claim, bundles_in, check_bundle, may_be_bundles};
pub use key::PublicKey;

use crate::model::{Context, Digest, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The media type of a signature's payload.
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of a payload's descriptor that holds the signature.
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// The type that a payload must have.
const TYPE: &str = "cosign container image signature";

/// The most layers that a signature manifest may have; cosign's own limit (its `pkg/oci/remote`).
const MOST: usize = 1000;

/// Decodes base64 that may be broken into lines.
fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text.split_ascii_whitespace().collect::<String>())
}

/// The tag under which cosign keeps an image's signatures.
pub fn signature_tag(image: &Digest) -> String {
    format!("sha256-{}.sig", image.hex())
}

/// A signature in a signature manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The digest of the payload, which is what is signed.
    pub payload: Digest,
    /// The payload's length in bytes, according to the manifest.
    pub size: u64,
    /// The signature itself, decoded from base64.
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

/// The signatures that a signature manifest lists (image-spec, manifest.md).
///
/// Layers of other types are skipped, and so are those whose signature or digest cannot be read: they can never be
/// valid, and others beside them may be.
///
/// # Errors
/// Fails when it is not a manifest, or has more than a thousand layers.
pub fn signatures(manifest: &[u8]) -> Result<Vec<Signature>> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).context(|| "the signature's tag does not name a manifest of signatures".into())?;
    if manifest.schema_version != 2 {
        let version = manifest.schema_version;
        return Err(Error::new(format!("the manifest of signatures is of schema {version}, which is not known here")));
    }
    let layers = manifest.layers.len();
    if layers > MOST {
        return Err(Error::new(format!("the manifest of signatures has {layers} layers, more than the {MOST} that are allowed")));
    }
    let read = |layer: &Layer| {
        let text = layer.annotations.as_ref()?.get(ANNOTATION)?;
        Some(Signature { payload: Digest::named(&layer.digest).ok()?, size: layer.size, signature: decode(text).ok()? })
    };
    Ok(manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).filter_map(read).collect())
}

/// What is signed: simple signing's JSON (containers/image, docs/containers-signature.5.md).
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Named,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Checks that a payload is for this image.
///
/// The image's name in the payload is not checked, as in cosign: a mirror's copy has another name.
///
/// # Errors
/// Fails when it is for another image, is of another type, or is not a payload.
pub fn check_payload(payload: &[u8], image: &Digest) -> Result<()> {
    let Payload { critical } = serde_json::from_slice(payload).context(|| "what was signed is no signature's payload".into())?;
    if critical.kind != TYPE {
        return Err(Error::new(format!("what was signed is of the type {:?}, not {TYPE:?}", critical.kind)));
    }
    let signed = Digest::named(&critical.image.digest).context(|| "what was signed names no image".into())?;
    if signed != *image {
        return Err(Error::new(format!("what was signed is the image {signed}, not {image}")));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A payload for the image whose digest is that of the text "an image".
    pub const TEXT: &str = concat!(
        r#"{"critical":{"identity":{"docker-reference":"registry.test/app"},"image":{"docker-manifest-digest":"#,
        r#""sha256:a5df3fde7b200c3fa2791144c7e05c5c2bced4c6ad863d3a4cf76c972c1712f9"},"#,
        r#""type":"cosign container image signature"},"optional":null}"#
    );

    #[test]
    fn manifests_list_their_signatures() {
        let layer = |kind: &str, digest: &str, note: &str| serde_json::json!({"mediaType": kind, "digest": digest, "size": 7, "annotations": {ANNOTATION: note}});
        let manifest = |layers: Vec<serde_json::Value>| {
            serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": {}, "layers": layers})).unwrap()
        };
        let (payload, other) = (Digest::of("p").to_string(), format!("sha512:{}", "0".repeat(128)));
        let found = signatures(&manifest(vec![
            layer("application/vnd.oci.image.layer.v1.tar", &payload, "AQID"),
            layer(PAYLOAD, &payload, "AQID\n"),
            layer(PAYLOAD, &other, "AQID"),
            layer(PAYLOAD, &payload, "*"),
            serde_json::json!({"mediaType": PAYLOAD, "digest": payload, "size": 7}),
        ]));
        assert_eq!(found.unwrap(), [Signature { payload: Digest::of("p"), size: 7, signature: vec![1, 2, 3] }]);
        assert!(signatures(b"{}").is_err() && signatures(b"<html>").is_err());
        assert!(signatures(br#"{"schemaVersion":2,"manifests":[]}"#).is_err());
        let crowd = manifest(vec![layer(PAYLOAD, &payload, "AQID"); MOST + 1]);
        assert!(signatures(&crowd).unwrap_err().chain().contains("1001 layers"));
        assert_eq!(signature_tag(&Digest::of("p")), format!("sha256-{}.sig", Digest::of("p").hex()));
    }

    #[test]
    fn payloads_are_of_one_image() {
        let image = Digest::of("an image");
        check_payload(TEXT.as_bytes(), &image).unwrap();
        let text = check_payload(TEXT.as_bytes(), &Digest::of("another")).unwrap_err().chain();
        assert!(text.contains(&image.hex()) && text.contains(&Digest::of("another").hex()), "{text}");
        let refused = |from: &str, to: &str| check_payload(TEXT.replace(from, to).as_bytes(), &image).unwrap_err().chain();
        assert!(refused("cosign container", "atomic container").contains("\"atomic container image signature\""));
        assert!(refused("sha256:", "").contains("names no image"));
        assert!(refused("critical", "uncritical").contains("no signature's payload"));
        assert!(refused("null}", "null").contains("no signature's payload"));
        // A payload with two digests is refused: a reader must not choose one.
        let twice = format!(r#""docker-manifest-digest":"{}","docker-manifest-digest""#, Digest::of("another"));
        assert!(refused(r#""docker-manifest-digest""#, &twice).contains("duplicate field"));
    }
}

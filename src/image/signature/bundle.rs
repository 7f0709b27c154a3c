//! Sigstore's bundles, which cosign 3 attaches to images (sigstore/cosign, specs/BUNDLE_SPEC.md): an in-toto
//! statement about the image, signed in a DSSE envelope.

use super::{PublicKey, decode};
use crate::image::import::{Descriptor, Manifest};
use crate::model::{Context, Digest, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The beginning of a bundle's media type, without the version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Some registries list attached manifests under the type of their configuration, which is the empty one.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The payload type of an envelope with an in-toto statement.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// The predicate type of a signature. Statements with other types are attestations, which do not approve the image.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// The most attached manifests that are examined.
const MOST: usize = 100;

/// What a bundle says about an image and a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The key signed the image.
    Holds,
    /// It is a signature, but not by this key.
    AnotherKey,
    /// It is not a signature of an image.
    None,
}

/// The manifests in a list of referrers that may hold bundles (distribution-spec, "Listing Referrers").
///
/// # Errors
/// Fails when the list is not an index.
pub fn may_be_bundles(index: &[u8]) -> Result<Vec<Descriptor>> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Attached>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Attached {
        #[serde(default)]
        artifact_type: String,
        #[serde(flatten)]
        descriptor: Descriptor,
    }
    let index: Index = serde_json::from_slice(index).context(|| "the registry's list of referrers is not an index".into())?;
    let fits = |kind: &str| kind.is_empty() || kind == EMPTY || kind.starts_with(BUNDLE);
    Ok(index.manifests.into_iter().filter(|one| fits(&one.artifact_type)).map(|one| one.descriptor).take(MOST).collect())
}

/// The bundles that an attached manifest holds.
pub fn bundles_in(manifest: &[u8]) -> Vec<Descriptor> {
    let layers = Manifest::read(manifest).map(|manifest| manifest.layers).unwrap_or_default();
    layers.into_iter().filter(|layer| layer.media_type.starts_with(BUNDLE)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

/// An envelope (secure-systems-lab/dsse, envelope.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// A statement (in-toto/attestation, spec/v1/statement.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Whether a bundle says that a key signed an image.
///
/// # Errors
/// Fails when the bundle is damaged, or when the key signed it for other images.
pub fn check_bundle(bundle: &[u8], key: &PublicKey, image: &Digest) -> Result<Claim> {
    let bundle: Bundle = serde_json::from_slice(bundle).context(|| "a bundle of signatures is damaged".into())?;
    let Some(envelope) = bundle.dsse_envelope.filter(|envelope| envelope.payload_type == STATEMENT) else {
        return Ok(Claim::None);
    };
    let payload = decode(&envelope.payload).context(|| "a bundle's payload is no base64".into())?;
    let signed = encoded(&envelope.payload_type, &payload);
    let by_key = |one: &Signature| decode(&one.sig).is_ok_and(|signature| key.verifies(&signed, &signature));
    // The statement is read even without a signature by the key, but only to tell a signature from an attestation.
    let known = envelope.signatures.iter().any(by_key);
    let statement: Statement = serde_json::from_slice(&payload).context(|| "what was signed is not a statement".into())?;
    if statement.predicate_type != SIGNED {
        return Ok(Claim::None);
    }
    if !known {
        return Ok(Claim::AnotherKey);
    }
    let subjects: Vec<String> = statement.subject.iter().filter_map(|one| one.digest.get("sha256").cloned()).collect();
    if subjects.iter().any(|hex| Digest::named(&format!("sha256:{hex}")).is_ok_and(|signed| signed == *image)) {
        return Ok(Claim::Holds);
    }
    Err(Error::new(format!("what was signed is the image {}, not {image}", subjects.join(", "))))
}

/// The bytes that an envelope's signatures sign (secure-systems-lab/dsse, protocol.md: PAE).
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    fn pair(seed: u8) -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        // A SubjectPublicKeyInfo for Ed25519 (RFC 8410, section 4).
        let start = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let text = STANDARD.encode([&start[..], pair.public_key().as_ref()].concat());
        let key = PublicKey::parse(&format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")).unwrap();
        (pair, key)
    }

    fn bundle(pair: &Ed25519KeyPair, image: &Digest, kind: &str) -> serde_json::Value {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": {},
            "subject": [{ "digest": { "sha512": "00" } }, { "digest": { "sha256": image.hex() }, "annotations": {} }] });
        let payload = statement.to_string();
        let signature = pair.sign(&encoded(STATEMENT, payload.as_bytes()));
        json!({ "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": { "publicKey": { "hint": "x" } },
            "dsseEnvelope": { "payload": STANDARD.encode(payload), "payloadType": STATEMENT,
                "signatures": [{ "sig": STANDARD.encode([0; 64]) }, { "sig": STANDARD.encode(signature.as_ref()), "keyid": "" }] } })
    }

    #[test]
    fn what_is_signed_is_as_the_protocol_says() {
        // The example in protocol.md.
        assert_eq!(
            encoded("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_bundle_holds_for_its_key_and_image_alone() {
        let ((ours, key), (_, other)) = (pair(1), pair(2));
        let image = Digest::of("an image");
        let good = bundle(&ours, &image, SIGNED);
        let check = |value: &serde_json::Value, key: &PublicKey| check_bundle(value.to_string().as_bytes(), key, &image);
        assert_eq!(check(&good, &key).unwrap(), Claim::Holds);
        assert_eq!(check(&good, &other).unwrap(), Claim::AnotherKey);
        // An attestation by the same key does not say that the image is approved.
        assert_eq!(check(&bundle(&ours, &image, "https://slsa.dev/provenance/v1"), &key).unwrap(), Claim::None);
        let elsewhere = check(&bundle(&ours, &Digest::of("another"), SIGNED), &key).unwrap_err().chain();
        assert!(elsewhere.contains(&Digest::of("another").hex()), "{elsewhere}");
        let changed = |pointer: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        assert_eq!(check(&changed("/dsseEnvelope/payloadType", json!("text/plain")), &key).unwrap(), Claim::None);
        assert_eq!(check(&changed("/dsseEnvelope", json!(null)), &key).unwrap(), Claim::None);
        assert_eq!(check(&changed("/dsseEnvelope/signatures", json!([])), &key).unwrap(), Claim::AnotherKey);
        let payload = good["dsseEnvelope"]["payload"].as_str().unwrap();
        let moved = String::from_utf8(decode(payload).unwrap()).unwrap().replace("in-toto.io", "in-toto.oi");
        assert_eq!(check(&changed("/dsseEnvelope/payload", json!(STANDARD.encode(moved))), &key).unwrap(), Claim::AnotherKey);
        assert!(check(&changed("/dsseEnvelope/payload", json!("*")), &key).is_err());
        assert!(check(&changed("/dsseEnvelope/payload", json!("")), &key).is_err());
        assert!(check_bundle(b"<html>", &key, &image).is_err());
    }

    #[test]
    fn bundles_are_found_among_what_is_attached() {
        let attached = |kind: &str| {
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7,
            "digest": Digest::of(kind).to_string(), "artifactType": kind })
        };
        let mut all =
            vec![attached("application/spdx+json"), attached(EMPTY), attached("application/vnd.dev.sigstore.bundle.v0.3+json")];
        let index = |all: &[serde_json::Value]| json!({ "schemaVersion": 2, "manifests": all }).to_string();
        let found = may_be_bundles(index(&all).as_bytes()).unwrap();
        assert_eq!(
            found.iter().map(|one| one.digest.clone()).collect::<Vec<_>>(),
            [all[1]["digest"].clone(), all[2]["digest"].clone()]
        );
        all = vec![attached(EMPTY); MOST + 1];
        assert_eq!(may_be_bundles(index(&all).as_bytes()).unwrap().len(), MOST);
        assert!(may_be_bundles(b"{}").is_err());
        let layer = |kind: &str| json!({ "mediaType": kind, "digest": Digest::of(kind).to_string(), "size": 7 });
        let manifest =
            json!({ "schemaVersion": 2, "config": layer("x"), "layers": [layer("text/plain"), layer(BUNDLE)] }).to_string();
        assert_eq!(bundles_in(manifest.as_bytes()).len(), 1);
        assert!(bundles_in(b"<html>").is_empty());
    }
}

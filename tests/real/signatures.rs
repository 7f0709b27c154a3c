//! Images that are used only if a key signed them: openssl makes the signatures here, in the form that cosign stores.

use crate::registries::{possible, publish, sample, world};
use crate::registry::{Act, Error, Proxy, Registry, run};
use crate::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Makes a key pair with this name.
fn make_key(folder: &Path, name: &str) {
    let openssl = |line: String| run("openssl", &line.split(' ').collect::<Vec<_>>(), folder, b"");
    openssl(format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
    openssl(format!("pkey -in {name}.key -pubout -out {name}.pub"));
}

fn sign(folder: &Path, key: &str, bytes: &[u8]) -> String {
    STANDARD.encode(run("openssl", &["dgst", "-sha256", "-sign", &format!("{key}.key")], folder, bytes))
}

/// A project whose image must be signed by `key.pub`.
fn asking(name: &str, image: &str) -> World {
    let from = format!("from \"{image}\" {{ signed-by \"key.pub\"; }}");
    world(name, &format!("image \"app\" {{ {from}; cmd \"/bin/hello\"; }}\ncontainer \"app\" {{ image \"app\" }}\n"))
}

#[test]
fn only_what_is_signed_is_used_where_that_is_asked() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[1000]);
    let registry = Registry::plain();
    let digest = publish(&made, &registry, "app:1");
    let name = format!("{}/app:1", registry.address);
    let world = asking("signed", &name);
    for key in ["ours", "theirs"] {
        make_key(folder.path(), key);
    }
    let ran = world.fails(&["build"]);
    assert!(ran.err.contains("stead.kdl:2") && ran.err.contains("key.pub"), "{}", ran.err);
    std::fs::copy(folder.path().join("ours.pub"), world.folder.join("key.pub")).unwrap();
    let ran = world.fails(&["build"]);
    assert!(ran.err.contains("has no signature"), "{}", ran.err);
    // As cosign stores it: a manifest under a tag that names the image.
    let sign = |key: &str, signed: &str| {
        let payload = json!({ "critical": { "identity": { "docker-reference": name }, "image": { "docker-manifest-digest": signed },
            "type": "cosign container image signature" }, "optional": null });
        let payload = payload.to_string();
        let mut layer = registry.put("app", "application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": sign(folder.path(), key, payload.as_bytes()) });
        let config = registry.put("app", "application/vnd.oci.image.config.v1+json", b"{}");
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        registry.put_manifest("app", Some(&format!("sha256-{}.sig", &digest[7..])), &manifest);
    };
    sign("theirs", &digest);
    assert!(world.fails(&["build"]).err.contains("none is by this key"));
    sign("ours", &format!("sha256:{}", "0".repeat(64)));
    assert!(world.fails(&["build"]).err.contains(&digest[7..]));
    assert!(!world.folder.join("stead.lock").exists());
    sign("ours", &digest);
    world.ok(&["build"]);
    let lock = std::fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    assert!(lock.contains("signed-by=\"sha256:"), "{lock}");
    world.ok(&["build", "--frozen"]);
    // With another key, the signature is checked again, also by `up`.
    std::fs::copy(folder.path().join("theirs.pub"), world.folder.join("key.pub")).unwrap();
    for command in ["build", "up"] {
        let ran = world.fails(&[command, "--frozen"]);
        assert!(ran.err.contains("signed by the key"), "{command}: {}", ran.err);
    }
    assert!(world.fails(&["up"]).err.contains("none is by this key"));
}

#[test]
fn bundles_that_are_attached_count_as_signatures() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[1000]);
    let registry = Registry::plain();
    let digest = publish(&made, &registry, "app:1");
    for key in ["ours", "theirs"] {
        make_key(folder.path(), key);
    }
    // As cosign 3 stores it (its specs/BUNDLE_SPEC.md): a statement in an envelope, attached to the image.
    let attach = |key: &str, image: &str, kind: &str| -> Value {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": {},
            "subject": [{ "digest": { "sha256": &image[7..] }, "annotations": {} }] });
        let (statement, of) = (statement.to_string(), "application/vnd.in-toto+json");
        let signed = format!("DSSEv1 {} {of} {} {statement}", of.len(), statement.len());
        let signature = sign(folder.path(), key, signed.as_bytes());
        let bundle = json!({ "mediaType": BUNDLE, "verificationMaterial": { "publicKey": { "hint": "x" } },
            "dsseEnvelope": { "payload": STANDARD.encode(&statement), "payloadType": of, "signatures": [{ "sig": signature }] } });
        let layer = registry.put("app", BUNDLE, bundle.to_string().as_bytes());
        let config = registry.put("app", "application/vnd.oci.empty.v1+json", b"{}");
        let subject = json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 });
        let mut attached = registry.put_manifest(
            "app",
            None,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "artifactType": BUNDLE, "config": config, "layers": [layer], "subject": subject }),
        );
        attached["artifactType"] = json!(BUNDLE);
        attached
    };
    let signature = "https://sigstore.dev/cosign/sign/v1";
    let index = |attached: &[&Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": attached });
    let list = |attached: &[&Value]| registry.put_manifest("app", Some(&format!("sha256-{}", &digest[7..])), &index(attached));
    let world = asking("bundled", &format!("{}/app:1", registry.address));
    std::fs::copy(folder.path().join("ours.pub"), world.folder.join("key.pub")).unwrap();
    let attestation = attach("ours", &digest, "https://slsa.dev/provenance/v1");
    list(&[&attestation]);
    let ran = world.fails(&["build"]);
    assert!(ran.err.contains("has no signature"), "an attestation is none: {}", ran.err);
    let theirs = attach("theirs", &digest, signature);
    list(&[&attestation, &theirs]);
    assert!(world.fails(&["build"]).err.contains("none is by this key"));
    let other = attach("ours", &format!("sha256:{}", "0".repeat(64)), signature);
    list(&[&other]);
    assert!(world.fails(&["build"]).err.contains(&digest[7..]));
    let ours = attach("ours", &digest, signature);
    list(&[&attestation, &theirs, &other, &ours]);
    world.ok(&["build"]);
    assert!(std::fs::read_to_string(world.folder.join("stead.lock")).unwrap().contains("signed-by=\"sha256:"));
    // A registry that keeps the list itself returns it in pages.
    registry.put_manifest("app", Some(&format!("sha256-{}", &digest[7..])), &index(&[]));
    let kind = || ("Content-Type".to_owned(), INDEX.to_owned());
    let further = ("Link".to_owned(), format!("</v2/app/referrers/{digest}?page=2>; rel=\"next\""));
    let page = |path, headers, attached: &[&Value]| Error {
        method: "GET",
        path,
        times: 1,
        act: Act::Answer(200, headers, index(attached).to_string()),
    };
    let first = page("/referrers/", vec![kind(), further], &[&theirs]);
    let second = page("?page=2", vec![kind()], &[&ours]);
    let proxy = Proxy::before(&registry.address, vec![second, first]);
    let paged = asking("bundled-pages", &format!("{}/app:1", proxy.address));
    std::fs::copy(folder.path().join("ours.pub"), paged.folder.join("key.pub")).unwrap();
    paged.ok(&["build"]);
    assert!(proxy.requests().iter().any(|request| request.ends_with("page=2")), "{:?}", proxy.requests());
    // If a registry has no such list, or answers with something else, the list under the tag is used.
    list(&[&ours]);
    for answer in [Act::Answer(500, Vec::new(), String::new()), Act::Answer(200, Vec::new(), "<html>".into())] {
        let proxy = Proxy::before(&registry.address, vec![Error { method: "GET", path: "/referrers/", times: 99, act: answer }]);
        let tagged = asking("bundled-tag", &format!("{}/app:1", proxy.address));
        std::fs::copy(folder.path().join("ours.pub"), tagged.folder.join("key.pub")).unwrap();
        tagged.ok(&["build"]);
    }
}

//! Documents about an image for other tools: its contents as SPDX 2.3 and CycloneDX 1.5, and how it was made as an
//! in-toto statement with SLSA provenance 1. The same image always gives the same text.

use crate::model::{Context, Digest, EPOCH, Result, time_text};
use crate::store::Store;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A Debian package in an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Component {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The source package, if it has another name.
    pub source: Option<String>,
    pub maintainer: Option<String>,
    /// The digest of the package's file, if the lock has it.
    pub sha256: Option<Digest>,
}

impl Component {
    /// Its package URL (purl-spec, type `deb`).
    fn url(&self) -> String {
        package_url(&self.name, &self.version, &self.architecture)
    }
}

/// The package URL of a Debian package (purl-spec, type `deb`).
pub fn package_url(name: &str, version: &str, architecture: &str) -> String {
    let escaped = |text: &str| text.replace('+', "%2B").replace(':', "%3A");
    format!("pkg:deb/debian/{}@{}?arch={architecture}", escaped(name), escaped(version))
}

/// Something that an image was made from (in-toto's ResourceDescriptor).
pub struct Material {
    uri: String,
    /// The name of the digest (in-toto's DigestSet).
    kind: &'static str,
    digest: String,
}

impl From<(String, Digest)> for Material {
    fn from((uri, digest): (String, Digest)) -> Self {
        Self { uri, kind: "sha256", digest: digest.hex() }
    }
}

impl Material {
    /// A commit of a git repository, written as one of SPDX's download locations.
    pub fn commit(repository: &str, commit: &str) -> Self {
        Self { uri: format!("git+{repository}@{commit}"), kind: "gitCommit", digest: commit.to_owned() }
    }
}

/// Where an image's provenance is kept: beside its record, and removed together with it.
fn beside(store: &Store, digest: &Digest) -> PathBuf {
    store.root().join("images").join(digest.hex()).with_extension("json")
}

/// Keeps an image's provenance in the store.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn keep_provenance(store: &Store, digest: &Digest, statement: &Value) -> Result<()> {
    let path = beside(store, digest);
    crate::sys::write_whole(&path, statement.to_string().as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))
}

/// An image's provenance, if it was kept.
pub fn kept_provenance(store: &Store, digest: &Digest) -> Option<Value> {
    crate::store::read_json(&beside(store, digest))
}

const TOOL: &str = concat!("stead-", env!("CARGO_PKG_VERSION"));

/// An SPDX 2.3 document.
pub fn spdx(name: &str, digest: &Digest, components: &[Component]) -> Value {
    let id = |component: &Component| {
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
        format!("SPDXRef-{}-{}", component.name.replace(|c| legal(c) != c, "-"), component.architecture)
    };
    let package = |component: &Component| {
        let supplier = component.maintainer.as_ref().map_or("NOASSERTION".into(), |who| format!("Person: {who}"));
        let mut value = json!({
            "SPDXID": id(component),
            "name": component.name,
            "versionInfo": component.version,
            "supplier": supplier,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "externalRefs": [
                { "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component.url() },
            ],
        });
        if let Some(digest) = &component.sha256 {
            value["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": digest.hex() }]);
        }
        if let Some(source) = &component.source {
            value["sourceInfo"] = json!(format!("built from the source package {source}"));
        }
        value
    };
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": digest.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": digest.hex() }],
    })];
    packages.extend(components.iter().map(package));
    let describes =
        json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image" });
    let contains = components.iter().map(|component| {
        json!({ "spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": id(component) })
    });
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("urn:stead:sbom:{}", digest.hex()),
        "creationInfo": { "created": time_text(EPOCH), "creators": [format!("Tool: {TOOL}")] },
        "packages": packages,
        "relationships": std::iter::once(describes).chain(contains).collect::<Vec<_>>(),
    })
}

/// A CycloneDX 1.5 document.
pub fn cyclonedx(name: &str, digest: &Digest, components: &[Component]) -> Value {
    let hex = digest.hex();
    // A version 8 UUID with bits of the digest (RFC 9562, section 5.8).
    let serial = format!("urn:uuid:{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    let component = |one: &Component| {
        let mut value = json!({
            "type": "library",
            "bom-ref": one.url(),
            "name": one.name,
            "version": one.version,
            "purl": one.url(),
        });
        if let Some(digest) = &one.sha256 {
            value["hashes"] = json!([{ "alg": "SHA-256", "content": digest.hex() }]);
        }
        if let Some(who) = &one.maintainer {
            value["supplier"] = json!({ "name": who });
        }
        value
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": serial,
        "version": 1,
        "metadata": {
            "timestamp": time_text(EPOCH),
            "tools": { "components": [{ "type": "application", "name": "stead", "version": env!("CARGO_PKG_VERSION") }] },
            "component": { "type": "container", "bom-ref": digest.to_string(), "name": name, "version": digest.to_string() },
        },
        "components": components.iter().map(component).collect::<Vec<_>>(),
    })
}

/// An in-toto statement with SLSA provenance: what the image was made from, and by which program.
pub fn provenance(name: &str, digest: &Digest, steps: &[String], materials: &[Material]) -> Value {
    let dependency = |one: &Material| json!({ "uri": one.uri, "digest": { one.kind: one.digest } });
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": name, "digest": { "sha256": digest.hex() } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:stead:build:v1",
                "externalParameters": { "image": name, "steps": steps },
                "resolvedDependencies": materials.iter().map(dependency).collect::<Vec<_>>(),
            },
            "runDetails": { "builder": { "id": format!("urn:stead:{}", env!("CARGO_PKG_VERSION")) } },
        },
    })
}

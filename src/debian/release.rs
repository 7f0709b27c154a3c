//! `InRelease`: its signature, its freshness, the digests of the indexes it vouches for.

use super::mirror::Archive;
use crate::lock::stanzas;
use crate::model::{Context, Digest, Fault, Outcome, bounds};
use crate::sys::{ProjectFiles, Unread};
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::SignatureType;
use std::collections::BTreeMap;
use std::path::Path;

/// Debian's archive keys (package debian-archive-keyring, 2025-04).
const SHIPPED: &[&[u8]] = &[
    include_bytes!("keys/debian-archive-bullseye-automatic.gpg"),
    include_bytes!("keys/debian-archive-bullseye-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-bullseye-stable.gpg"),
    include_bytes!("keys/debian-archive-bookworm-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-bookworm-stable.gpg"),
    include_bytes!("keys/debian-archive-trixie-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-security-automatic.gpg"),
    include_bytes!("keys/debian-archive-trixie-stable.gpg"),
];

/// The keys that may sign a suite.
pub struct Keyring(Vec<SignedPublicKey>);

impl Keyring {
    /// Debian's keys.
    ///
    /// # Errors
    /// When the shipped keys cannot be read.
    pub fn shipped() -> Outcome<Self> {
        let mut keys = Vec::new();
        for bytes in SHIPPED {
            keys.extend(Self::read(bytes).doing(|| "cannot read the shipped keys".into())?);
        }
        Ok(Self(keys))
    }

    /// The keys in a file that a project in some folder names, binary or armored.
    ///
    /// # Errors
    /// When the file cannot be read or holds no key.
    pub fn file(folder: &Path, path: &Path) -> Outcome<Self> {
        let bytes = ProjectFiles::at(folder).map_err(Unread::from).and_then(|files| files.named(path, bounds::SMALL_FILE));
        let bytes = bytes.doing(|| format!("cannot read the key file {}", path.display()))?;
        let keys = Self::read(&bytes).doing(|| format!("{} is not a file of OpenPGP keys", path.display()))?;
        if keys.is_empty() {
            return Err(Fault::new(format!("{} holds no OpenPGP key", path.display())));
        }
        Ok(Self(keys))
    }

    fn read(bytes: &[u8]) -> pgp::errors::Result<Vec<SignedPublicKey>> {
        let (keys, _) = SignedPublicKey::from_reader_many_buf(bytes)?;
        keys.collect()
    }

    /// The signed text of a cleartext-signed message, if one of these keys signed it well.
    fn verify(&self, data: &str) -> Outcome<String> {
        let (message, _) = CleartextSignedMessage::from_string(data).doing(|| "it is not a signed message".into())?;
        let text = message.signed_text();
        let strong = |signature: &&pgp::packet::Signature| {
            matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary))
                && matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
        };
        for signature in message.signatures().iter().filter(strong) {
            for key in &self.0 {
                let revoked =
                    key.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(&key.primary_key).is_ok());
                let by_subkey = || {
                    key.public_subkeys
                        .iter()
                        .any(|subkey| signature.verify(&subkey.key, text.as_bytes()).is_ok() && may_sign(key, subkey))
                };
                if !revoked && (signature.verify(&key.primary_key, text.as_bytes()).is_ok() || by_subkey()) {
                    return Ok(text.replace("\r\n", "\n"));
                }
            }
        }
        Err(Fault::new("no key that may sign it did"))
    }
}

/// Whether a subkey is bound to its key, for signing, in both directions (RFC 9580, section 5.2.1.8).
fn may_sign(key: &SignedPublicKey, subkey: &SignedPublicSubKey) -> bool {
    let mut bound = false;
    for signature in &subkey.signatures {
        if signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_err() {
            continue;
        }
        match signature.typ() {
            Some(SignatureType::SubkeyRevocation) => return false,
            Some(SignatureType::SubkeyBinding) if signature.key_flags().sign() => {
                bound |= signature
                    .embedded_signature()
                    .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok());
            }
            _ => {}
        }
    }
    bound
}

/// A verified release file.
#[derive(Debug)]
pub struct Release {
    pub digest: Digest,
    pub by_hash: bool,
    /// Its packages come only where they are asked for.
    pub reluctant: bool,
    files: BTreeMap<String, Digest>,
}

impl Release {
    /// Verifies an `InRelease` and reads it.
    ///
    /// # Errors
    /// A bad signature, a file that is too old or of another suite.
    pub fn verify(archive: &Archive, bytes: &[u8], keys: &Keyring, now: i64) -> Outcome<Self> {
        let name = format!("{}/dists/{}/InRelease", archive.place.describe(), archive.suite);
        let data = String::from_utf8(bytes.to_vec()).doing(|| format!("{name} is not text"))?;
        let text = keys.verify(&data).doing(|| format!("the signature of {name} is not good")).map_err(|fault| {
            fault.hint(
                "the mirror may be damaged or lie; for an archive that is not Debian's, name its keys: debian \"…\" key=\"FILE\"",
            )
        })?;
        let mut release = Self { digest: Digest::of(bytes), by_hash: false, reluctant: false, files: BTreeMap::new() };
        let mut names = Vec::new();
        for (field, value) in stanzas(&text).next().unwrap_or_default() {
            match field {
                "Acquire-By-Hash" => release.by_hash = value == "yes",
                "NotAutomatic" => release.reluctant = value == "yes",
                "Suite" | "Codename" => names.push(value),
                "Valid-Until" if http_date(&value).is_some_and(|until| until < now) => {
                    return Err(Fault::new(format!("{name} was only valid until {value}"))
                        .hint("the mirror is out of date, or this host's clock is wrong"));
                }
                "SHA256" => {
                    for line in value.lines() {
                        let mut words = line.split_whitespace();
                        if let (Some(digest), Some(_), Some(path)) =
                            (words.next().and_then(Digest::parse), words.next(), words.next())
                        {
                            release.files.insert(path.to_owned(), digest);
                        }
                    }
                }
                _ => {}
            }
        }
        // A signed file of another suite must not pass for this one.
        let base = |suite: &str| suite.trim_end_matches("/updates").to_owned();
        if !names.is_empty() && !names.iter().any(|name| base(name) == base(&archive.suite)) {
            return Err(Fault::new(format!("{name} is of the suite {}, not {}", names.join("/"), archive.suite)));
        }
        Ok(release)
    }

    /// The best form of a component's index: its path and digest.
    pub fn index(&self, component: &str, architecture: &str) -> Option<(String, Digest)> {
        let base = format!("{component}/binary-{architecture}/Packages");
        [".xz", ".gz", ""].iter().map(|suffix| format!("{base}{suffix}")).find_map(|path| {
            let digest = *self.files.get(&path)?;
            Some((path, digest))
        })
    }
}

/// Seconds since 1970 of a date as `Sat, 11 Jul 2026 10:16:37 UTC`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace().skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').filter_map(|part| part.parse::<i64>().ok());
    let seconds = clock.next()? * 3600 + clock.next()? * 60 + clock.next()?;
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Place;

    #[test]
    fn dates() {
        assert_eq!(http_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
    }

    #[test]
    fn shipped_keys_are_readable_and_nonsense_is_refused() {
        let keys = Keyring::shipped().unwrap();
        assert!(keys.0.len() >= 9);
        let archive = Archive { place: Place::Url("http://m.test".into()), suite: "bookworm".into(), required: true };
        let fault = Release::verify(&archive, b"Suite: x", &keys, 0).unwrap_err();
        assert!(fault.chain().contains("not a signed message"), "{}", fault.chain());
    }
}

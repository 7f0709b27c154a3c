//! OpenPGP: which keys may sign a suite, and when (RFC 9580, sections 5.2 and 10.1).
//!
//! As in apt with gpgv, a key or signature that has expired by now does not count (`EXPKEYSIG`, `EXPSIG`, `REVKEYSIG`), even
//! if the signature was made before that. The caller passes the current time.

use crate::model::{Context, Error, Result, bounds};
use crate::sys::{ProjectFiles, Unread};
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};
use std::collections::BTreeSet;
use std::path::Path;

/// How far the clocks of an archive and of this host may differ, in seconds.
pub const SLACK: i64 = 300;

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

/// The time at which a signature must be valid, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Now: for what will be trusted from now on.
    Now(i64),
    /// When the signature was made, which must be in the past: for what a lock trusts already.
    Made { now: i64 },
}

impl Moment {
    /// The current time.
    pub fn now(self) -> i64 {
        match self {
            Self::Now(now) | Self::Made { now } => now,
        }
    }
}

/// The keys that may sign a suite.
pub struct Keyring(Vec<SignedPublicKey>);

impl Keyring {
    /// Debian's keys.
    ///
    /// # Errors
    /// Fails when the shipped keys cannot be read.
    pub fn shipped() -> Result<Self> {
        let mut keys = Vec::new();
        for bytes in SHIPPED {
            keys.extend(Self::read(bytes).context(|| "cannot read the shipped keys".into())?);
        }
        Ok(Self(keys))
    }

    /// The keys in a file that the project in this directory names, binary or armored.
    ///
    /// # Errors
    /// Fails when the file cannot be read or holds no key.
    pub fn file(folder: &Path, path: &Path) -> Result<Self> {
        let bytes = ProjectFiles::at(folder).map_err(Unread::from).and_then(|files| files.named(path, bounds::SMALL_FILE));
        let bytes = bytes.context(|| format!("cannot read the key file {}", path.display()))?;
        let keys = Self::read(&bytes).context(|| format!("{} is not a file of OpenPGP keys", path.display()))?;
        if keys.is_empty() {
            return Err(Error::new(format!("{} holds no OpenPGP key", path.display())));
        }
        Ok(Self(keys))
    }

    fn read(bytes: &[u8]) -> pgp::errors::Result<Vec<SignedPublicKey>> {
        let (keys, _) = SignedPublicKey::from_reader_many_buf(bytes)?;
        keys.collect()
    }

    /// Returns the signed text of a cleartext-signed message, if one of these keys made a valid signature.
    ///
    /// # Errors
    /// Fails when it is not such a message, or when none of the signatures counts; the error says why.
    pub fn verify(&self, data: &str, moment: Moment) -> Result<String> {
        let (message, _) = CleartextSignedMessage::from_string(data).context(|| "it is not a signed message".into())?;
        let text = message.signed_text();
        let strong = |signature: &&Signature| {
            matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary))
                && matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
        };
        let mut reasons = BTreeSet::new();
        for signature in message.signatures().iter().filter(strong) {
            for key in &self.0 {
                let by = |subkey: &&SignedPublicSubKey| signature.verify(&subkey.key, text.as_bytes()).is_ok();
                let judged = if signature.verify(&key.primary_key, text.as_bytes()).is_ok() {
                    judge(key, None, signature, moment)
                } else if let Some(subkey) = key.public_subkeys.iter().find(by) {
                    judge(key, Some(subkey), signature, moment)
                } else {
                    continue;
                };
                match judged {
                    Ok(()) => return Ok(text.replace("\r\n", "\n")),
                    Err(why) => reasons.insert(why),
                };
            }
        }
        if reasons.is_empty() {
            return Err(Error::new("no accepted key signed it"));
        }
        Err(Error::new(reasons.into_iter().collect::<Vec<_>>().join("; ")))
    }
}

/// Whether a signature counts; it was made by this key, or by one of its subkeys.
fn judge(
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    signature: &Signature,
    moment: Moment,
) -> Result<(), String> {
    let now = moment.now();
    let made = made(signature).ok_or("a signature does not say when it was made")?;
    if made > now.saturating_add(SLACK) {
        return Err(format!("its signature is dated {}, which is in the future", date(made)));
    }
    let until = match moment {
        Moment::Now(now) => now.max(made),
        Moment::Made { .. } => made,
    };
    if let Some(end) = ends(signature).filter(|end| *end <= until) {
        return Err(format!("its signature expired on {}", date(end)));
    }
    let primary = Life {
        name: name(&key.primary_key),
        born: born(&key.primary_key),
        end: end(key, now).ok_or_else(|| format!("the key {} has no valid self-signature", name(&key.primary_key)))?,
    };
    if key.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(&key.primary_key).is_ok()) {
        return Err(format!("the key {} is revoked", primary.name));
    }
    primary.covers(made, until)?;
    let Some(subkey) = subkey else { return Ok(()) };
    let end = binding(key, subkey, now)?;
    Life { name: name(&subkey.key), born: born(&subkey.key), end }.covers(made, until)
}

/// The period in which a key may sign.
struct Life {
    name: String,
    born: i64,
    end: Option<i64>,
}

impl Life {
    fn covers(&self, made: i64, until: i64) -> Result<(), String> {
        let Self { name, born, end } = self;
        if made < *born {
            return Err(format!("its signature of {} is older than the key {name}, made on {}", date(made), date(*born)));
        }
        match end.filter(|end| *end <= made.max(until)) {
            Some(end) => Err(format!("the key {name} expired on {}", date(end))),
            None => Ok(()),
        }
    }
}

/// When a subkey expires. It must be bound to its key for signing, in both directions (RFC 9580, section 5.2.1.8).
fn binding(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: i64) -> Result<Option<i64>, String> {
    let good = |signature: &&Signature| signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    let kind = |signature: &&Signature, kind: SignatureType| signature.typ() == Some(kind);
    let good: Vec<&Signature> = subkey.signatures.iter().filter(good).collect();
    if good.iter().any(|signature| kind(signature, SignatureType::SubkeyRevocation)) {
        return Err(format!("the key {} is revoked", name(&subkey.key)));
    }
    let bindings = good.into_iter().filter(|signature| kind(signature, SignatureType::SubkeyBinding));
    let binding = newest(bindings, now).filter(|binding| {
        let back = binding.embedded_signature();
        binding.key_flags().sign()
            && back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok())
    });
    let binding =
        binding.ok_or_else(|| format!("the key {} is not a signing subkey of {}", name(&subkey.key), name(&key.primary_key)))?;
    Ok(life(binding, born(&subkey.key)))
}

/// When a key expires, by gpg's rules: by the signature on the key itself, or else by those on its user ids. The outer
/// `None` means that neither has a valid signature, so that its expiry is unknown; the inner one that it never expires.
fn end(key: &SignedPublicKey, now: i64) -> Option<Option<i64>> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    let direct = newest(direct, now);
    // A direct signature may serve another purpose, for example to say who may revoke the key.
    if let Some(end) = direct.and_then(|direct| life(direct, born(primary))) {
        return Some(Some(end));
    }
    let names = key.details.users.iter().filter_map(|user| {
        let good = user.signatures.iter().filter(|one| one.verify_certification(primary, Tag::UserId, &user.id).is_ok());
        // A revoked user id does not count.
        newest(good, now).filter(|newest| newest.typ() != Some(SignatureType::CertRevocation))
    });
    newest(names, now).or(direct).map(|own| life(own, born(primary)))
}

/// The newest of the signatures that are valid now.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: i64) -> Option<&'a Signature> {
    signatures
        .filter(|signature| made(signature).is_some_and(|made| made <= now.saturating_add(SLACK)))
        .filter(|signature| ends(signature).is_none_or(|end| end > now))
        .max_by_key(|signature| made(signature))
}

fn made(signature: &Signature) -> Option<i64> {
    signature.created().map(|time| time.as_secs().into())
}

/// When a signature itself expires.
fn ends(signature: &Signature) -> Option<i64> {
    let length = signature.signature_expiration_time().map(|length| i64::from(length.as_secs())).filter(|length| *length > 0)?;
    Some(made(signature)?.saturating_add(length))
}

/// When a key expires, by a signature over it. Without a lifetime, or with one of zero, it never expires.
fn life(own: &Signature, born: i64) -> Option<i64> {
    let length = own.key_expiration_time().map(|length| i64::from(length.as_secs())).filter(|length| *length > 0)?;
    Some(born.saturating_add(length))
}

fn born(key: &impl KeyDetails) -> i64 {
    key.created_at().as_secs().into()
}

fn name(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

/// A time in readable form.
pub fn date(seconds: i64) -> String {
    crate::model::time_text(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by gpg with `--faked-system-time`: keys of 2020-01-01, signatures of 2020-06-01; `-ends` expires after a year.
    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("fixtures/", $name))
        };
    }

    const KEY_MADE: i64 = 1_577_836_800;
    const SIGNED: i64 = 1_590_969_600;
    const YEAR: i64 = 365 * 86_400;
    const TODAY: i64 = 1_795_000_000;

    fn verify(key: &str, message: &str, moment: Moment) -> Result<String, String> {
        let keys = Keyring(Keyring::read(key.as_bytes()).unwrap());
        assert_eq!(keys.0.len(), 1);
        keys.verify(message, moment).map_err(|error| error.chain())
    }

    fn refused(key: &str, message: &str, moment: Moment, told: &str) {
        let why = verify(key, message, moment).unwrap_err();
        assert!(why.contains(told), "expected {told:?}: {why}");
    }

    #[test]
    fn a_good_signature_counts_from_when_it_was_made() {
        let (key, message) = (fixture!("lasting.key"), fixture!("lasting.txt"));
        for now in [TODAY, SIGNED, SIGNED - SLACK] {
            assert_eq!(verify(key, message, Moment::Now(now)).unwrap(), "Suite: test\nCodename: test");
        }
        let told = "its signature is dated 2020-06-01T00:00:00Z, which is in the future";
        refused(key, message, Moment::Now(SIGNED - SLACK - 1), told);
        refused(key, message, Moment::Made { now: SIGNED - SLACK - 1 }, told);
        refused(key, fixture!("too-old.txt"), Moment::Now(TODAY), "is older than the key 2E23");
        refused(key, fixture!("too-old.txt"), Moment::Made { now: TODAY }, "is older than the key");
        refused(fixture!("ending.key"), message, Moment::Now(TODAY), "no accepted key signed it");
    }

    #[test]
    fn signatures_end() {
        let (key, message) = (fixture!("lasting.key"), fixture!("sig-ends.txt"));
        assert!(verify(key, message, Moment::Now(SIGNED + 86_400)).is_ok());
        refused(key, message, Moment::Now(TODAY), "its signature expired on 2020-0");
        assert!(verify(key, message, Moment::Made { now: TODAY }).is_ok());
    }

    #[test]
    fn keys_end_and_their_subkeys_with_them() {
        let end = KEY_MADE + YEAR;
        for (key, message) in [
            (fixture!("ending.key"), fixture!("ending.txt")),
            (fixture!("subkey-ends.key"), fixture!("subkey-ends.txt")),
            (fixture!("primary-ends.key"), fixture!("primary-ends.txt")),
        ] {
            assert!(verify(key, message, Moment::Now(SIGNED)).is_ok());
            assert!(verify(key, message, Moment::Now(end - 1)).is_ok());
            refused(key, message, Moment::Now(end), "expired on 2020-12-31T00:00:00Z");
            refused(key, message, Moment::Now(TODAY), "expired on 2020-12-31");
            assert!(verify(key, message, Moment::Made { now: TODAY }).is_ok(), "what is locked stays usable");
        }
        assert!(verify(fixture!("extended.key"), fixture!("ending.txt"), Moment::Now(TODAY)).is_ok(), "it was extended");
    }

    #[test]
    fn what_was_taken_back_never_counts() {
        for (key, message) in
            [(fixture!("revoked.key"), fixture!("revoked.txt")), (fixture!("subkey-revoked.key"), fixture!("subkey-revoked.txt"))]
        {
            for moment in [Moment::Now(SIGNED), Moment::Now(TODAY), Moment::Made { now: TODAY }] {
                refused(key, message, moment, "is revoked");
            }
        }
    }

    #[test]
    fn a_key_without_a_signature_of_its_own_has_no_known_end() {
        let mut keys = Keyring::read(fixture!("lasting.key").as_bytes()).unwrap();
        keys[0].details.users.clear();
        let why = Keyring(keys).verify(fixture!("lasting.txt"), Moment::Now(TODAY)).unwrap_err().chain();
        assert!(why.contains("no valid self-signature"), "{why}");
    }

    #[test]
    fn shipped_keys_are_readable_and_none_is_for_ever() {
        let keys = Keyring::shipped().unwrap();
        assert!(keys.0.len() >= 9);
        for key in &keys.0 {
            assert!(end(key, TODAY).unwrap().is_some(), "{}", name(&key.primary_key));
            for subkey in &key.public_subkeys {
                assert!(binding(key, subkey, TODAY).unwrap().is_some(), "{}", name(&subkey.key));
            }
        }
        assert!(keys.verify("Suite: x", Moment::Now(TODAY)).unwrap_err().chain().contains("not a signed message"));
    }
}

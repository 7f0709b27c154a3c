//! Verifies that an image at a registry is signed by a key. Cosign's signatures are kept beside the image under a tag
//! of their own, or attached to it as bundles.

use super::pull::{Found, Source};
use crate::image::{
    Blobs, Claim, Descriptor, PublicKey, bundles_in, check_bundle, check_payload, may_be_bundles, signature_tag, signatures,
    small,
};
use crate::model::bounds::image::LONGEST;
use crate::model::{Context, Digest, Error, Result};
use std::io::Read;

impl Source<'_> {
    /// Verifies that an image, or the list that it belongs to, is signed by a key.
    ///
    /// # Errors
    /// Fails when there is no signature, when none is valid, or when the registry cannot be asked.
    pub fn verify(&self, found: &Found, key: &PublicKey) -> Result<Signed> {
        let mut none = Error::new("it has no signature").hint("its publisher can sign it with `cosign sign --key`");
        let list = found.list.map(|list| (list, Signed::AllPlatforms));
        for (digest, signed) in list.into_iter().chain([(found.digest, Signed::ThisPlatform)]) {
            for look in [Self::by_tag, Self::by_bundle] {
                match look(self, &digest, key)? {
                    Verdict::Holds => return Ok(signed),
                    Verdict::Unsigned => {}
                    Verdict::Wrong(error) => none = error,
                }
            }
        }
        Err(none)
    }

    /// Checks the signatures under the image's signature tag, where cosign kept them before version 3.
    fn by_tag(&self, digest: &Digest, key: &PublicKey) -> Result<Verdict> {
        let Some(manifest) = self.manifest_if_there(&signature_tag(digest))? else { return Ok(Verdict::Unsigned) };
        let mut wrong = by_another();
        for signature in signatures(&manifest)? {
            if signature.size > LONGEST {
                continue;
            }
            let mut payload = Vec::new();
            let opened = self.open(&signature.payload, signature.size)?;
            opened.take(LONGEST).read_to_end(&mut payload).context(|| "cannot read a signature".into())?;
            // The signature is checked before the payload is read.
            if Digest::of(&payload) != signature.payload || !key.verifies(&payload, &signature.signature) {
                continue;
            }
            match check_payload(&payload, digest) {
                Ok(()) => return Ok(Verdict::Holds),
                Err(error) => wrong = error,
            }
        }
        Ok(Verdict::Wrong(wrong))
    }

    /// Checks the bundles that are attached to the image.
    fn by_bundle(&self, image: &Digest, key: &PublicKey) -> Result<Verdict> {
        let mut verdict = Verdict::Unsigned;
        for index in self.referrers(image)? {
            for attached in may_be_bundles(&index)? {
                let manifest = self.manifest(&attached.digest, Some(&attached.digest()?))?;
                for bundle in bundles_in(&manifest) {
                    match self.check(&bundle, image, key) {
                        Ok(Claim::Holds) => return Ok(Verdict::Holds),
                        Ok(Claim::None) => {}
                        Ok(Claim::AnotherKey) if matches!(verdict, Verdict::Wrong(_)) => {}
                        Ok(Claim::AnotherKey) => verdict = Verdict::Wrong(by_another()),
                        Err(error) => verdict = Verdict::Wrong(error),
                    }
                }
            }
        }
        Ok(verdict)
    }

    fn check(&self, bundle: &Descriptor, image: &Digest, key: &PublicKey) -> Result<Claim> {
        check_bundle(&small(self, bundle)?, key, image)
    }
}

fn by_another() -> Error {
    Error::new("there are signatures, but none is by this key")
}

/// What is signed: the list for all platforms, or only the manifest for this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    AllPlatforms,
    ThisPlatform,
}

enum Verdict {
    Holds,
    Unsigned,
    Wrong(Error),
}

//! Whether an image at a registry is signed by a key (cosign's signatures, kept beside the image).

use super::pull::{Found, Source};
use crate::image::{Blobs, LONGEST, PublicKey, check_payload, signature_tag, signatures};
use crate::model::{Context, Digest, Fault, Outcome};
use std::io::Read;

impl Source<'_> {
    /// Verifies that an image, or the list that it stands in, is signed by a key.
    ///
    /// # Errors
    /// No signature; none that holds; a registry that cannot be asked.
    pub fn verify(&self, found: &Found, key: &PublicKey) -> Outcome<Signed> {
        let mut none = Fault::new("it has no signature")
            .hint("whoever publishes it signs it with `cosign sign --key`, in the form of a signature tag");
        let list = found.list.map(|list| (list, Signed::AllPlatforms));
        for (digest, signed) in list.into_iter().chain([(found.digest, Signed::ThisPlatform)]) {
            match self.verify_one(&digest, key)? {
                Verdict::Holds => return Ok(signed),
                Verdict::Unsigned => {}
                Verdict::Wrong(fault) => none = fault,
            }
        }
        Err(none)
    }

    fn verify_one(&self, digest: &Digest, key: &PublicKey) -> Outcome<Verdict> {
        let Some(manifest) = self.manifest_if_there(&signature_tag(digest))? else { return Ok(Verdict::Unsigned) };
        let mut wrong = Fault::new("there are signatures, and none is by this key");
        for signature in signatures(&manifest)? {
            if signature.size > LONGEST {
                continue;
            }
            let mut payload = Vec::new();
            let opened = self.open(&signature.payload, signature.size)?;
            opened.take(LONGEST).read_to_end(&mut payload).doing(|| "cannot read a signature".into())?;
            // What is signed is checked first, what it says then.
            if Digest::of(&payload) != signature.payload || !key.verifies(&payload, &signature.signature) {
                continue;
            }
            match check_payload(&payload, digest) {
                Ok(()) => return Ok(Verdict::Holds),
                Err(fault) => wrong = fault,
            }
        }
        Ok(Verdict::Wrong(wrong))
    }
}

/// What a signature is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    AllPlatforms,
    ThisPlatform,
}

enum Verdict {
    Holds,
    Unsigned,
    Wrong(Fault),
}

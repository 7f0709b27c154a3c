//! One archive's indexes: fetched, verified, unpacked, and compared with the lock.

use super::inflate::inflate;
use super::keys::{Keyring, Moment, date};
use super::mirror::Archive;
use super::release::{Index, Release};
use crate::fetch::{Bound, Client, Content, Origin, Whole, read_file};
use crate::lock::{IndexLock, Package, packages};
use crate::model::bounds::debian as limits;
use crate::model::{ARCHITECTURE, Context, Digest, Error, Result};
use crate::store::Store;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Whether the lock may move back: to older releases or versions, or without an archive that it used before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Downgrade {
    Refused,
    Allowed,
}

/// The command that allows a downgrade, for hints.
pub const WAY_BACK: &str = "`stead update --allow-downgrade`";

/// What is needed to fetch and verify archives.
pub struct Reader<'a> {
    pub client: Client,
    pub store: &'a Store,
    pub moment: Moment,
    pub downgrade: Downgrade,
}

/// What an archive offers.
pub struct Indexed {
    pub packages: Vec<Package>,
    pub indexes: BTreeMap<String, IndexLock>,
    /// Requested components that the archive does not have.
    pub without: Vec<String>,
    pub warnings: Vec<String>,
}

/// Why an archive offers nothing.
pub enum Trouble {
    Absent,
    Unreachable(Error),
    Wrong(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

impl Reader<'_> {
    /// Reads the indexes of an archive's components; `known` is the date of the release that the lock knows.
    ///
    /// # Errors
    /// Fails when something cannot be fetched or verified, or when the release is older than the lock's.
    pub async fn read(
        &self,
        archive: &Archive,
        components: &[String],
        keys: &Keyring,
        known: Option<i64>,
    ) -> Result<Indexed, Trouble> {
        let release = self.release(archive, keys).await?;
        let mut found = Indexed { packages: Vec::new(), indexes: BTreeMap::new(), without: Vec::new(), warnings: Vec::new() };
        if let Some(error) = goes_back(archive, release.date, known) {
            match self.downgrade {
                Downgrade::Refused => return Err(Trouble::Wrong(error)),
                Downgrade::Allowed => found.warnings.push(error.to_string()),
            }
        }
        for component in components {
            let Some(index) = release.index(component, ARCHITECTURE) else {
                found.without.push(component.clone());
                continue;
            };
            let text = self.index(archive, &release, &index).await?;
            let of = |package: Package| Package { reluctant: release.reluctant, ..package };
            found.packages.extend(packages(&text, ARCHITECTURE).into_iter().map(of));
            let lock = IndexLock { release: release.digest, packages: index.digest, date: release.date };
            found.indexes.insert(format!("{}/{component}", archive.suite), lock);
        }
        Ok(found)
    }

    /// Fetches and verifies the release that an archive has now.
    async fn release(&self, archive: &Archive, keys: &Keyring) -> Result<Release, Trouble> {
        let path = format!("dists/{}/InRelease", archive.suite);
        let bound = Bound::AtMost(limits::RELEASE);
        let bytes = self.client.get(&archive.place, &path, Content::Unknown, bound).await.map_err(Trouble::Unreachable)?;
        let bytes = bytes.ok_or(Trouble::Absent)?;
        let release = Release::verify(archive, &bytes, keys, self.moment)?;
        // It is stored because archives keep no old releases, and a check of the lock needs it again.
        self.keep(&release.digest, &bytes)?;
        Ok(release)
    }

    /// Finds the release with this digest: in the store, or in the archive if that still has it.
    ///
    /// # Errors
    /// Fails when the release does not verify, or when the archive no longer has it or cannot be reached.
    pub async fn known_release(&self, archive: &Archive, keys: &Keyring, digest: &Digest) -> Result<Release, Trouble> {
        let bound = Bound::AtMost(limits::RELEASE);
        let right = |bytes: &Vec<u8>| Digest::of(bytes) == *digest;
        let kept = read_file(&self.store.download_path(digest), bound).map_err(Trouble::Unreachable)?.filter(right);
        let bytes = match kept {
            Some(bytes) => Some(bytes),
            None => {
                let path = format!("dists/{}/InRelease", archive.suite);
                let got = self.client.get(&archive.place, &path, Content::Known, bound).await;
                got.map_err(Trouble::Unreachable)?.filter(right)
            }
        };
        Ok(Release::verify(archive, &bytes.ok_or(Trouble::Absent)?, keys, self.moment)?)
    }

    /// Reads the text of an index.
    ///
    /// # Errors
    /// Fails when the index cannot be fetched, has another digest or length, or unpacks to more than it may.
    pub async fn index(&self, archive: &Archive, release: &Release, index: &Index) -> Result<String> {
        let packed = self.packed(archive, release, index).await?;
        decompress(index, &packed).context(|| format!("cannot unpack dists/{}/{}", archive.suite, index.path))
    }

    /// Reads a compressed index from the store, or fetches it by its hash or its name.
    async fn packed(&self, archive: &Archive, release: &Release, index: &Index) -> Result<Vec<u8>> {
        let Index { path, digest, size, .. } = index;
        let base = format!("dists/{}", archive.suite);
        let plain = format!("{base}/{path}");
        Bound::AtMost(limits::INDEX).check(&format!("{}/{plain}", archive.place.describe()), *size, Whole::Yes)?;
        // Any problem with the stored file is ignored, because the archive has the index, too.
        if let Ok(Some(bytes)) = read_file(&self.store.download_path(digest), Bound::AtMost(*size))
            && Digest::of(&bytes) == *digest
        {
            return Ok(bytes);
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let hashed = format!("{base}/{folder}/by-hash/SHA256/{}", digest.hex());
        let by_hash = release.by_hash && matches!(archive.place, Origin::Url(_));
        let bound = Bound::Exactly { size: *size, says: "its signed InRelease" };
        for candidate in by_hash.then_some(&hashed).into_iter().chain([&plain]) {
            let Some(bytes) = self.client.get(&archive.place, candidate, Content::Known, bound).await? else { continue };
            if Digest::of(&bytes) != *digest {
                return Err(Error::new(format!(
                    "{}/{candidate} has a wrong hash: its signed InRelease says {digest}",
                    archive.place.describe()
                ))
                .hint("the mirror is damaged, or in the middle of an update; try again in a minute"));
            }
            self.keep(digest, &bytes)?;
            return Ok(bytes);
        }
        Err(Error::new(format!("{} lists {plain} but does not have it", archive.place.describe()))
            .hint("the mirror is incomplete; name another"))
    }

    fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        crate::sys::write_whole(&self.store.download_path(digest), bytes, 0o644)
            .map_err(|error| crate::store::disk_error("cannot keep an index", error))
    }
}

/// The error if a release is older than the one that the lock knows. An attacker may serve an old release, whose signature
/// is still valid, to make somebody install packages with known vulnerabilities.
fn goes_back(archive: &Archive, is: Option<i64>, known: Option<i64>) -> Option<Error> {
    let known = known?;
    let (place, suite) = (archive.place.describe(), &archive.suite);
    let text = match is {
        Some(is) if is >= known => return None,
        Some(is) => {
            format!("the release of \"{suite}\" at {place} is dated {}, but stead.lock has one of {}", date(is), date(known))
        }
        None => format!("the release of \"{suite}\" at {place} has no date, but stead.lock has one of {}", date(known)),
    };
    Some(Error::new(text).hint(format!(
        "the mirror lags behind, or somebody is replaying an old release; try again later, or name another mirror; to go back: {WAY_BACK}"
    )))
}

/// Decompresses an index, which may be no longer than its release says and the limit allows.
fn decompress(index: &Index, bytes: &[u8]) -> io::Result<String> {
    let most = index.unpacked.unwrap_or(limits::INDEX).min(limits::INDEX);
    let mut text = Vec::new();
    let ending = index.path.rsplit_once("Packages").map_or("", |(_, ending)| ending);
    inflate(ending, bytes)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it unpacks to more than {most} bytes")));
    }
    Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::mirror::Need;
    use super::*;

    fn archive() -> Archive {
        Archive { place: Origin::Url("http://m.test".into()), suite: "test".into(), need: Need::Required }
    }

    #[test]
    fn releases_do_not_go_back() {
        assert!(goes_back(&archive(), Some(7), Some(7)).is_none(), "the same date is not a step back");
        assert!(goes_back(&archive(), Some(8), Some(7)).is_none());
        assert!(goes_back(&archive(), Some(6), None).is_none() && goes_back(&archive(), None, None).is_none());
        let told = goes_back(&archive(), Some(0), Some(86_400)).unwrap();
        assert!(told.to_string().contains("1970-01-01T00:00:00Z") && told.to_string().contains("1970-01-02T00:00:00Z"), "{told}");
        assert!(told.advice().unwrap().contains("stead update --allow-downgrade"));
        assert!(goes_back(&archive(), None, Some(7)).unwrap().to_string().contains("has no date"));
    }

    #[test]
    fn indexes_come_to_what_their_release_says() {
        let text = vec![b'\n'; 1 << 20];
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new(&text[..], 6).read_to_end(&mut packed).unwrap();
        let index = |unpacked| Index {
            path: "main/binary-amd64/Packages.xz".into(),
            digest: Digest::of(&packed),
            size: packed.len() as u64,
            unpacked,
        };
        assert_eq!(decompress(&index(Some(1 << 20)), &packed).unwrap().len(), 1 << 20);
        assert_eq!(decompress(&index(None), &packed).unwrap().len(), 1 << 20);
        let told = decompress(&index(Some((1 << 20) - 1)), &packed).unwrap_err().to_string();
        assert!(told.contains("more than 1048575 bytes"), "{told}");
    }
}

//! `InRelease`: its freshness, and the digests and sizes of the indexes that it lists.

use super::keys::{Keyring, Moment, SLACK, date};
use super::mirror::Archive;
use crate::lock::stanzas;
use crate::model::{Context, Digest, Error, Result, parse_date};
use std::collections::BTreeMap;

/// A verified release file.
#[derive(Debug)]
pub struct Release {
    pub digest: Digest,
    /// When the archive says that it was made.
    pub date: Option<i64>,
    pub by_hash: bool,
    /// Whether its packages are used only where a step asks for them (`NotAutomatic`).
    pub reluctant: bool,
    files: BTreeMap<String, (Digest, u64)>,
}

/// An index as a release lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    pub path: String,
    pub digest: Digest,
    pub size: u64,
    /// Its size without compression, if the release says so.
    pub unpacked: Option<u64>,
}

impl Release {
    /// Verifies an `InRelease` and reads it.
    ///
    /// # Errors
    /// Fails when the signature is bad, or when the file is too old, dated in the future, or for another suite.
    pub fn verify(archive: &Archive, bytes: &[u8], keys: &Keyring, moment: Moment) -> Result<Self> {
        let name = file_name(archive);
        let data = String::from_utf8(bytes.to_vec()).context(|| format!("{name} is not text"))?;
        let text =
            keys.verify(&data, moment).context(|| format!("the signature of {name} is not valid")).map_err(|error| {
                error.hint(
                    "the mirror may be damaged or malicious, or this host's clock may be wrong; for an archive that is not Debian's, name its keys: debian \"…\" key=\"FILE\"",
                )
            })?;
        Self::read(archive, &text, Digest::of(bytes), moment)
    }

    /// Reads the text of a release file that was verified.
    fn read(archive: &Archive, text: &str, digest: Digest, moment: Moment) -> Result<Self> {
        let name = file_name(archive);
        let mut release = Self { digest, date: None, by_hash: false, reluctant: false, files: BTreeMap::new() };
        let mut names = Vec::new();
        for (field, value) in stanzas(text).next().unwrap_or_default() {
            let time = || parse_date(&value).ok_or_else(|| Error::new(format!("{name} has an invalid {field}: {value}")));
            match field {
                "Acquire-By-Hash" => release.by_hash = value == "yes",
                "NotAutomatic" => release.reluctant = value == "yes",
                "Suite" | "Codename" => names.push(value),
                "Date" => release.date = Some(time()?),
                "Valid-Until" => still_valid(&name, time()?, moment)?,
                "SHA256" => release.files.extend(value.lines().filter_map(listed)),
                _ => {}
            }
        }
        if let Some(made) = release.date.filter(|made| *made > moment.now().saturating_add(SLACK)) {
            return Err(Error::new(format!("{name} is dated {}, which is in the future", date(made)))
                .hint("this host's clock is wrong, or the archive's"));
        }
        // A signed release file of another suite must not be accepted for this one.
        let base = |suite: &str| suite.trim_end_matches("/updates").to_owned();
        if names.is_empty() {
            return Err(Error::new(format!("{name} does not say which suite it is for"))
                .hint("a release file needs Suite or Codename: without them it could be of any suite"));
        }
        if !names.iter().any(|name| base(name) == base(&archive.suite)) {
            return Err(Error::new(format!("{name} is for the suite {}, not {}", names.join("/"), archive.suite)));
        }
        Ok(release)
    }

    /// The best-compressed form of a component's index.
    pub fn index(&self, component: &str, architecture: &str) -> Option<Index> {
        self.forms(component, architecture).next()
    }

    /// Every form of a component's index, the best first.
    pub fn forms(&self, component: &str, architecture: &str) -> impl Iterator<Item = Index> {
        let base = format!("{component}/binary-{architecture}/Packages");
        let unpacked = self.files.get(&base).map(|(_, size)| *size);
        [".xz", ".gz", ""].into_iter().filter_map(move |suffix| {
            let path = format!("{base}{suffix}");
            let (digest, size) = *self.files.get(&path)?;
            Some(Index { path, digest, size, unpacked })
        })
    }
}

fn file_name(archive: &Archive) -> String {
    format!("{}/dists/{}/InRelease", archive.place.describe(), archive.suite)
}

/// Reads a line of a list of digests: digest, size, path.
fn listed(line: &str) -> Option<(String, (Digest, u64))> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    Some((path.to_owned(), (Digest::parse(digest)?, size.parse().ok()?)))
}

/// Checks that a release has not expired.
fn still_valid(name: &str, until: i64, moment: Moment) -> Result<()> {
    match moment {
        Moment::Now(now) if until < now => Err(Error::new(format!("{name} was only valid until {}", date(until)))
            .hint("the mirror is out of date, or this host's clock is wrong")),
        Moment::Now(_) | Moment::Made { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::mirror::Need;
    use crate::fetch::Origin;

    fn archive() -> Archive {
        Archive { place: Origin::Url("http://m.test".into()), suite: "test".into(), need: Need::Required }
    }

    #[test]
    fn a_release_is_of_its_suite_and_of_its_time() {
        let made = 1_783_764_997;
        let text = "Suite: test\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\n";
        let read = |text: &str, moment| Release::read(&archive(), text, Digest::of("x"), moment);
        let refused = |text: &str, now: i64, told: &str| {
            let why = read(text, Moment::Now(now)).unwrap_err().chain();
            assert!(why.contains(told) && why.contains("http://m.test/dists/test/InRelease"), "{why}");
        };
        assert_eq!(read(text, Moment::Now(made)).unwrap().date, Some(made));
        assert!(read(text, Moment::Now(made - SLACK)).is_ok());
        refused(text, made - SLACK - 1, "is dated 2026-07-11T10:16:37Z, which is in the future");
        let week = 7 * 86_400;
        assert!(read(text, Moment::Now(made + week)).is_ok());
        refused(text, made + week + 1, "was only valid until 2026-07-18T10:16:37Z");
        assert!(read(text, Moment::Made { now: made + week + 1 }).is_ok(), "what is locked stays usable");
        for field in ["Date", "Valid-Until"] {
            let broken: String = text
                .lines()
                .map(|line| if line.starts_with(field) { format!("{field}: soon\n") } else { format!("{line}\n") })
                .collect();
            refused(&broken, made, &format!("has an invalid {field}: soon"));
            assert!(read(&broken, Moment::Made { now: made }).is_err());
        }
        refused("Origin: x\n", made, "does not say which suite");
        refused("", made, "does not say which suite");
        refused("Suite: other\nCodename: another\n", made, "is for the suite other/another, not test");
        assert_eq!(read("Codename: test\n", Moment::Now(made)).unwrap().date, None);
    }

    #[test]
    fn indexes_come_with_their_sizes() {
        let (packed, plain) = (Digest::of("packed"), Digest::of("plain"));
        let text = format!(
            "Suite: test\nSHA256:\n {} 5 main/binary-amd64/Packages.xz\n {} 50 main/binary-amd64/Packages\n {} x contrib/binary-amd64/Packages\n",
            packed.hex(),
            plain.hex(),
            plain.hex()
        );
        let release = Release::read(&archive(), &text, Digest::of("x"), Moment::Now(0)).unwrap();
        let path = "main/binary-amd64/Packages.xz".to_owned();
        assert_eq!(release.index("main", "amd64"), Some(Index { path, digest: packed, size: 5, unpacked: Some(50) }));
        assert_eq!(release.forms("main", "amd64").count(), 2);
        assert_eq!(release.index("contrib", "amd64"), None, "what has no size is not vouched for");
    }
}

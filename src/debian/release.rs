//! `InRelease`: its freshness, the digests and sizes of the indexes it vouches for.

use super::keys::{Keyring, Moment, SLACK, date};
use super::mirror::Archive;
use crate::lock::stanzas;
use crate::model::{Context, Digest, Fault, Outcome};
use std::collections::BTreeMap;

/// A verified release file.
#[derive(Debug)]
pub struct Release {
    pub digest: Digest,
    /// When the archive says that it made it.
    pub date: Option<i64>,
    pub by_hash: bool,
    /// Its packages come only where they are asked for.
    pub reluctant: bool,
    files: BTreeMap<String, (Digest, u64)>,
}

/// An index as a release vouches for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    pub path: String,
    pub digest: Digest,
    pub size: u64,
    /// What it comes to without its compression, where the release says so.
    pub unpacked: Option<u64>,
}

impl Release {
    /// Verifies an `InRelease` and reads it.
    ///
    /// # Errors
    /// A bad signature; a file that is too old, of a time to come, or of another suite.
    pub fn verify(archive: &Archive, bytes: &[u8], keys: &Keyring, moment: Moment) -> Outcome<Self> {
        let name = file_name(archive);
        let data = String::from_utf8(bytes.to_vec()).doing(|| format!("{name} is not text"))?;
        let text =
            keys.verify(&data, moment).doing(|| format!("the signature of {name} is not good")).map_err(|fault| {
                fault.hint(
                    "the mirror may be damaged or lie, or this host's clock be wrong; for an archive that is not Debian's, name its keys: debian \"…\" key=\"FILE\"",
                )
            })?;
        Self::read(archive, &text, Digest::of(bytes), moment)
    }

    /// Reads the text of a release file that was verified.
    fn read(archive: &Archive, text: &str, digest: Digest, moment: Moment) -> Outcome<Self> {
        let name = file_name(archive);
        let mut release = Self { digest, date: None, by_hash: false, reluctant: false, files: BTreeMap::new() };
        let mut names = Vec::new();
        for (field, value) in stanzas(text).next().unwrap_or_default() {
            let time = || http_date(&value).ok_or_else(|| Fault::new(format!("{name} has a {field} that is no date: {value}")));
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
            return Err(Fault::new(format!("{name} is of {}, which has not come yet", date(made)))
                .hint("this host's clock is wrong, or the archive's"));
        }
        // A signed file of another suite must not pass for this one.
        let base = |suite: &str| suite.trim_end_matches("/updates").to_owned();
        if names.is_empty() {
            return Err(Fault::new(format!("{name} does not say of which suite it is"))
                .hint("a release file needs Suite or Codename: without them it could be of any suite"));
        }
        if !names.iter().any(|name| base(name) == base(&archive.suite)) {
            return Err(Fault::new(format!("{name} is of the suite {}, not {}", names.join("/"), archive.suite)));
        }
        Ok(release)
    }

    /// The best form of a component's index.
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

/// A line of a list of digests: digest, size, path.
fn listed(line: &str) -> Option<(String, (Digest, u64))> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    Some((path.to_owned(), (Digest::parse(digest)?, size.parse().ok()?)))
}

/// Whether a release may still be used.
fn still_valid(name: &str, until: i64, moment: Moment) -> Outcome<()> {
    match moment {
        Moment::Now(now) if until < now => Err(Fault::new(format!("{name} was only valid until {}", date(until)))
            .hint("the mirror is out of date, or this host's clock is wrong")),
        Moment::Now(_) | Moment::Made { .. } => Ok(()),
    }
}

/// Seconds since 1970 of a date as `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 9110, 5.6.7, and with an offset as RFC 5322).
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [weekday, day, month, year, clock, zone] = words[..] else { return None };
    let number = |text: &str, most: i64| {
        let digits = text.len() <= 4 && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten().filter(|number| *number <= most)
    };
    if !DAYS.contains(&weekday) {
        return None;
    }
    let day = number(day, 31).filter(|day| *day > 0)?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year = number(year, 9999)?;
    let clock: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = clock[..] else { return None };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60 + number(seconds, 60)?;
    let offset = match zone {
        "UTC" | "GMT" | "Z" => 0,
        _ => {
            let (sign, digits) = zone.strip_prefix('+').map(|rest| (1, rest)).or_else(|| Some((-1, zone.strip_prefix('-')?)))?;
            let (hours, minutes) = digits.split_at_checked(2).filter(|_| digits.len() == 4)?;
            sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60)
        }
    };
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + seconds - offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::mirror::Need;
    use crate::fetch::Place;

    fn archive() -> Archive {
        Archive { place: Place::Url("http://m.test".into()), suite: "test".into(), need: Need::Required }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(http_date("Thu, 01 Jan 1970 02:00:00 +0200"), Some(0));
        assert_eq!(http_date("Thu,  1 Jan 1970 00:00:00 GMT"), Some(0));
        for wrong in [
            "",
            "soon",
            "2026-07-11",
            "Sat, 11 Jul 2026 10:16:37",
            "Sat, 11 Jul 2026 10:16:37 CEST",
            "Sat, 32 Jul 2026 10:16:37 UTC",
            "Sat, 0 Jul 2026 10:16:37 UTC",
            "Sat, 11 Juli 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 24:16:37 UTC",
            "Sat, 11 Jul 2026 10:16 UTC",
            "Sat, 11 Jul -2026 10:16:37 UTC",
            "Sat, 11 Jul 99999999 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 UTC more",
            "11 Jul 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 +02ä0",
        ] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
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
        refused(text, made - SLACK - 1, "is of 2026-07-11T10:16:37Z, which has not come yet");
        let week = 7 * 86_400;
        assert!(read(text, Moment::Now(made + week)).is_ok());
        refused(text, made + week + 1, "was only valid until 2026-07-18T10:16:37Z");
        assert!(read(text, Moment::Made { now: made + week + 1 }).is_ok(), "what is locked stays usable");
        for field in ["Date", "Valid-Until"] {
            let broken: String = text
                .lines()
                .map(|line| if line.starts_with(field) { format!("{field}: soon\n") } else { format!("{line}\n") })
                .collect();
            refused(&broken, made, &format!("has a {field} that is no date: soon"));
            assert!(read(&broken, Moment::Made { now: made }).is_err());
        }
        refused("Origin: x\n", made, "does not say of which suite");
        refused("", made, "does not say of which suite");
        refused("Suite: other\nCodename: another\n", made, "is of the suite other/another, not test");
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

//! Everything that a suite offers to some steps: its own archive, its updates and security archives, further repositories.
//!
//! An archive that existed before and is missing now is never ignored: a mirror without the security archive serves packages
//! with known vulnerabilities, and all their signatures are valid.

use super::archive::{Downgrade, Indexed, Reader, Trouble, WAY_BACK};
use super::keys::Keyring;
use super::mirror::{Archive, Mirrors, Need, Settings};
use crate::fetch::{Origin, runtime};
use crate::lock::{IndexLock, Package, Universe};
use crate::model::{ARCHITECTURE, Error, Result};
use crate::project::{Debian, Project, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One suite as one group of steps sees it: where it is, who signs it, and what else the steps name beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source<'a> {
    pub suite: &'a str,
    mirror: Option<&'a str>,
    key: Option<&'a str>,
    pub components: &'a [String],
    suites: &'a [String],
    pub repositories: &'a [Repository],
}

impl<'a> Source<'a> {
    /// The suite as a step sees it.
    pub fn of(step: &'a Debian) -> Self {
        Self {
            suite: &step.suite,
            mirror: step.mirror.as_deref(),
            key: step.key.as_deref(),
            components: &step.components,
            suites: &step.suites,
            repositories: &step.repositories,
        }
    }

    /// The archives to ask.
    ///
    /// # Errors
    /// Fails when nothing says where they are.
    pub fn archives(&self, project: &Project, settings: &Settings) -> Result<Vec<Archive>> {
        let mirrors = Mirrors::find(self.suite, self.mirror, &project.mirrors, settings)?;
        let further = self.suites.iter().flat_map(|further| mirrors.further(further));
        Ok(mirrors.archives(self.suite).into_iter().chain(further).collect())
    }

    /// The keys that may sign these archives.
    ///
    /// # Errors
    /// Fails when a key file cannot be read.
    pub fn keys(&self, settings: &Settings) -> Result<Keyring> {
        self.key.map_or_else(Keyring::shipped, |path| Keyring::file(&settings.folder, Path::new(path)))
    }
}

/// Describes a further repository as an archive.
pub fn archive(repository: &Repository, settings: &Settings) -> Archive {
    let place = Origin::parse(&repository.place, &settings.folder);
    Archive { place, suite: repository.suite.clone(), need: Need::Required }
}

/// What a suite offers.
pub struct Offered {
    pub packages: Universe,
    pub indexes: BTreeMap<String, IndexLock>,
    pub warnings: Vec<String>,
}

/// What was fetched so far.
#[derive(Default)]
struct Gathered {
    packages: Vec<Package>,
    indexes: BTreeMap<String, IndexLock>,
    warnings: Vec<String>,
    /// Suites that some mirror offered.
    given: BTreeSet<String>,
    /// Archives that offered nothing.
    absent: Vec<(Archive, Missing)>,
    /// Components that a suite does not have.
    without: BTreeSet<String>,
}

/// Why an archive offered nothing.
enum Missing {
    NotThere,
    Unreachable(Error),
}

impl Missing {
    fn error(self, archive: &Archive) -> Error {
        match self {
            Self::NotThere => Error::new(format!("{} has no suite \"{}\"", archive.place.describe(), archive.suite)),
            Self::Unreachable(error) => error,
        }
    }
}

/// Fetches and verifies the indexes of a suite with its updates and security archives.
///
/// # Errors
/// Fails when something cannot be fetched or verified, or when an archive is missing that the lock was made with or that the
/// host's sources name.
pub fn read(
    reader: &Reader,
    source: &Source,
    known: &BTreeMap<String, IndexLock>,
    project: &Project,
    settings: &Settings,
) -> Result<Offered> {
    let archives = source.archives(project, settings)?;
    let keys = source.keys(settings)?;
    let mut gathered = Gathered::default();
    runtime()?.block_on(async {
        for archive in archives {
            if !gathered.given.contains(&archive.suite) {
                let found = reader.read(&archive, source.components, &keys, dated(known, &archive.suite)).await;
                gathered.take(archive, found)?;
            }
        }
        for repository in source.repositories {
            let keys = Keyring::file(&settings.folder, Path::new(&repository.key))?;
            let named = format!("{}/{}", repository.place, repository.suite);
            let found = reader.read(&archive(repository, settings), &repository.components, &keys, dated(known, &named)).await;
            gathered.take_repository(repository, found)?;
        }
        Ok::<_, Error>(())
    })?;
    gathered.judge(source, known, reader.downgrade)
}

/// The date of the newest release of an archive that the lock knows.
fn dated(known: &BTreeMap<String, IndexLock>, archive: &str) -> Option<i64> {
    known.iter().filter(|(name, _)| is_of(name, archive)).filter_map(|(_, index)| index.date).max()
}

/// Whether an index, given by its name in the lock, belongs to an archive.
pub fn is_of(index: &str, archive: &str) -> bool {
    // Components may contain slashes, like `updates/main` in the past.
    index.strip_prefix(archive).is_some_and(|rest| rest.starts_with('/'))
}

impl Gathered {
    fn take(&mut self, archive: Archive, found: Result<Indexed, Trouble>) -> Result<()> {
        match found {
            Ok(found) => {
                let without = found.without.iter().map(|component| format!("{}/{component}", archive.suite));
                if let (Need::Required, Some(component)) = (archive.need, found.without.first()) {
                    return Err(Error::new(format!(
                        "\"{}\" has no component \"{component}\" for {}",
                        archive.suite, ARCHITECTURE
                    )));
                }
                self.without.extend(without);
                self.given.insert(archive.suite);
                self.packages.extend(found.packages);
                self.indexes.extend(found.indexes);
                self.warnings.extend(found.warnings);
            }
            // A wrong archive is never ignored.
            Err(Trouble::Wrong(error)) => return Err(error),
            Err(Trouble::Unreachable(error)) => self.absent.push((archive, Missing::Unreachable(error))),
            Err(Trouble::Absent) => self.absent.push((archive, Missing::NotThere)),
        }
        Ok(())
    }

    fn take_repository(&mut self, repository: &Repository, found: Result<Indexed, Trouble>) -> Result<()> {
        let found = match found {
            Ok(found) => found,
            Err(Trouble::Absent) => {
                let error = Error::new(format!("{} has no suite \"{}\"", repository.place, repository.suite));
                return Err(error.hint("look below dists/ there: that is where suites are"));
            }
            Err(Trouble::Wrong(error) | Trouble::Unreachable(error)) => return Err(error),
        };
        if let Some(component) = found.without.first() {
            return Err(Error::new(format!("{} has no component \"{component}\" in \"{}\"", repository.place, repository.suite)));
        }
        let of = |package: Package| Package { repository: Some(repository.place.clone()), ..package };
        self.packages.extend(found.packages.into_iter().map(of));
        self.indexes.extend(found.indexes.into_iter().map(|(name, index)| (format!("{}/{name}", repository.place), index)));
        self.warnings.extend(found.warnings);
        Ok(())
    }

    /// Decides whether the archives that were not found may be missing.
    fn judge(mut self, source: &Source, known: &BTreeMap<String, IndexLock>, downgrade: Downgrade) -> Result<Offered> {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        // A mirror in a list may be missing, as long as another one has the same suite.
        for (archive, lacks) in std::mem::take(&mut self.absent) {
            let suite = &archive.suite;
            if self.given.contains(suite) {
                continue;
            }
            let was = known.keys().any(|name| is_of(name, suite));
            match (archive.need, lacks) {
                (Need::Required, Missing::NotThere) => {
                    let hint = "suites have names like \"bookworm\" and \"trixie\"";
                    return Err(Missing::NotThere.error(&archive).hint(hint));
                }
                (Need::Required, Missing::Unreachable(error)) => return Err(error),
                (Need::Expected, lacks) => self.gone(suite, was, lacks.error(&archive), downgrade)?,
                (_, lacks) if was => self.gone(suite, was, lacks.error(&archive), downgrade)?,
                (_, Missing::Unreachable(error)) if downgrade == Downgrade::Refused => return Err(error),
                (_, Missing::Unreachable(error)) => self.warnings.push(error.chain()),
                (Need::Usual, Missing::NotThere) => drop(missing.insert(format!("\"{suite}\""))),
                (Need::Optional, Missing::NotThere) => {}
            }
        }
        let without = std::mem::take(&mut self.without);
        let lost = |index: &String| known.contains_key(index) && !self.indexes.contains_key(index);
        let lost: Vec<String> = without.into_iter().filter(lost).collect();
        for index in lost {
            let error = Error::new("its release lists no such component any more");
            self.gone(&index, true, error, downgrade)?;
        }
        if !missing.is_empty() {
            let missing: Vec<String> = missing.into_iter().collect();
            self.warnings.push(format!(
                "no mirror of \"{}\" has {}: Debian publishes its fixes there, so packages may be older than they should be",
                source.suite,
                missing.join(" or ")
            ));
        }
        Ok(Offered { packages: Universe::new(self.packages), indexes: self.indexes, warnings: self.warnings })
    }

    /// Handles an archive that should exist but is missing: an error, or a warning if a downgrade is allowed.
    fn gone(&mut self, what: &str, was: bool, error: Error, downgrade: Downgrade) -> Result<()> {
        let why = if was { "stead.lock was made with it" } else { "this host's package sources name it" };
        let text = format!("\"{what}\" is not available, but {why}; without it packages would silently be older");
        match downgrade {
            // Several mirrors may lack it; the warning is given once.
            Downgrade::Allowed if self.warnings.iter().any(|told| told.starts_with(&text)) => {}
            Downgrade::Allowed => self.warnings.push(format!("{text} ({})", error.chain())),
            Downgrade::Refused => {
                return Err(Error::caused(text, error)
                    .hint(format!("try again later, or name another mirror; to do without it: {WAY_BACK}")));
            }
        }
        Ok(())
    }
}

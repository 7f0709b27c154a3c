//! Everything that a suite offers to some steps: its own archive, its updates and security, further repositories.
//!
//! What was there and is not any more is never passed over: who leaves the security archive out hands out packages
//! with known holes, and every signature in it is good.

use super::archive::{Downgrade, Indexed, Reader, Trouble, WAY_BACK};
use super::keys::Keyring;
use super::mirror::{Archive, Mirrors, Need, Settings};
use crate::fetch::{Origin, runtime};
use crate::lock::{IndexLock, Package, Universe};
use crate::model::{ARCHITECTURE, Error, Result};
use crate::project::{Debian, Project, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One suite as one group of steps sees it: where it is, what signs it, what stands beside it.
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
    /// How a step sees its suite.
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

    /// The archives that are asked.
    ///
    /// # Errors
    /// When nothing says where they are.
    pub fn archives(&self, project: &Project, settings: &Settings) -> Result<Vec<Archive>> {
        let mirrors = Mirrors::find(self.suite, self.mirror, project, settings)?;
        let further = self.suites.iter().flat_map(|further| mirrors.further(further));
        Ok(mirrors.archives(self.suite).into_iter().chain(further).collect())
    }

    /// The keys that may sign them.
    ///
    /// # Errors
    /// A file of keys that cannot be read.
    pub fn keys(&self, settings: &Settings) -> Result<Keyring> {
        self.key.map_or_else(Keyring::shipped, |path| Keyring::file(&settings.folder, Path::new(path)))
    }
}

/// A further repository as an archive.
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

/// What came so far.
#[derive(Default)]
struct Gathered {
    packages: Vec<Package>,
    indexes: BTreeMap<String, IndexLock>,
    warnings: Vec<String>,
    /// Suites that some place gave.
    given: BTreeSet<String>,
    /// Archives that gave nothing.
    absent: Vec<(Archive, Missing)>,
    /// Components that a suite does not have.
    without: BTreeSet<String>,
}

/// Why an archive gave nothing.
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
/// What cannot be had or verified; what the lock was made with, or the host's sources name, and is not there.
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

/// The date of the youngest release of an archive that the lock knows.
fn dated(known: &BTreeMap<String, IndexLock>, archive: &str) -> Option<i64> {
    known.iter().filter(|(name, _)| is_of(name, archive)).filter_map(|(_, index)| index.date).max()
}

/// Whether an index, by its name in the lock, is one of an archive's components.
pub fn is_of(index: &str, archive: &str) -> bool {
    // Components may have slashes, as `updates/main` once had.
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
            // What is there and wrong is never passed over.
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

    /// Whether what is not there may be missing.
    fn judge(mut self, source: &Source, known: &BTreeMap<String, IndexLock>, downgrade: Downgrade) -> Result<Offered> {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        // A mirror of a list may be away, as long as another one gave what it would have given.
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
                "no mirror of \"{}\" has {}: that is where Debian puts what it mends, so packages may be older than they should be",
                source.suite,
                missing.join(" or ")
            ));
        }
        Ok(Offered { packages: Universe::new(self.packages), indexes: self.indexes, warnings: self.warnings })
    }

    /// An archive that should be there is not.
    fn gone(&mut self, what: &str, was: bool, error: Error, downgrade: Downgrade) -> Result<()> {
        let why = if was { "stead.lock was made with it" } else { "this host's package sources name it" };
        let text = format!("\"{what}\" cannot be had, and {why}; without it packages would silently be older");
        match downgrade {
            // More than one place may lack it.
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

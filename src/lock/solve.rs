//! Which packages satisfy a request: versions, alternatives, provides, conflicts, breaks.
//!
//! The search is resolvo's (a CDCL solver). Here Debian's relations become its terms: a dependency
//! is a union over the real package and its providers, a conflict constrains each of them.

use super::control::{Package, Relation};
use super::version::compare;
use crate::model::{nearest, pattern_matches};
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner, KnownDependencies,
    NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled, VersionSetId,
    VersionSetUnionId,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// All packages that a suite offers, including its updates and security archives.
pub struct Universe {
    packages: Vec<Package>,
    by_name: HashMap<String, Vec<usize>>,
    providers: HashMap<String, Vec<usize>>,
}

/// What is requested from a suite.
pub struct Request<'a> {
    pub packages: &'a [String],
    pub essential: bool,
    pub recommends: bool,
    /// Versions to keep where they are still offered.
    pub keep: &'a BTreeMap<String, String>,
    /// Patterns of the versions that may be taken.
    pub pins: &'a BTreeMap<String, String>,
}

impl Request<'_> {
    fn admits(&self, package: &Package) -> bool {
        self.pins.get(&package.name).is_none_or(|pin| pattern_matches(pin, &package.version))
    }
}

/// Why a request cannot be met.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsolved {
    /// No index has the package; `near` has similar names that exist.
    NoSuchPackage { name: String, near: Vec<String> },
    /// The package has only other versions.
    NoSuchVersion { name: String, pin: String, versions: Vec<String> },
    /// Relations contradict each other; the text explains how.
    Conflict(String),
}

impl Universe {
    /// Indexes packages by their names and by what they provide.
    pub fn new(packages: Vec<Package>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut providers: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, package) in packages.iter().enumerate() {
            let same = by_name.entry(package.name.clone()).or_default();
            // The same version in two archives is one package.
            if same.iter().any(|other: &usize| packages[*other].version == package.version) {
                continue;
            }
            same.push(index);
            for provided in &package.provides {
                providers.entry(provided.name.clone()).or_default().push(index);
            }
        }
        Self { packages, by_name, providers }
    }

    /// The chosen packages, by name.
    ///
    /// # Errors
    /// Fails with [`Unsolved`] when a name is unknown or no choice satisfies every relation.
    pub fn solve(&self, request: &Request) -> Result<Vec<&Package>, Unsolved> {
        for name in request.packages {
            if !self.by_name.contains_key(name) && !self.providers.contains_key(name) {
                return Err(Unsolved::NoSuchPackage { name: name.clone(), near: self.near(name) });
            }
        }
        for (name, pin) in request.pins {
            let all: Vec<&Package> = self.by_name.get(name).into_iter().flatten().map(|index| &self.packages[*index]).collect();
            if !all.iter().any(|package| request.admits(package)) {
                let versions = all.iter().map(|package| package.version.clone()).collect();
                return Err(Unsolved::NoSuchVersion { name: name.clone(), pin: pin.clone(), versions });
            }
        }
        let provider = Provider::new(self, request);
        let wanted: BTreeSet<&str> = request.packages.iter().map(String::as_str).chain(self.essentials(request)).collect();
        let requirements = wanted
            .into_iter()
            .filter_map(|name| provider.requirement(&[Relation { name: name.to_owned(), condition: None }]))
            .collect::<Vec<_>>();
        let mut solver = Solver::new(provider);
        match solver.solve(Problem::new().requirements(requirements)) {
            Ok(solution) => {
                let pool = &solver.provider().pool;
                let mut chosen: Vec<&Package> = solution
                    .into_iter()
                    .filter_map(|id| pool.resolve_solvable(id).record.index)
                    .map(|index| &self.packages[index])
                    .collect();
                chosen.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(chosen)
            }
            Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
                Err(Unsolved::Conflict(conflict.display_user_friendly(&solver).to_string()))
            }
            Err(UnsolvableOrCancelled::Cancelled(_)) => Err(Unsolved::Conflict("the search was cancelled".into())),
        }
    }

    fn essentials<'a>(&'a self, request: &Request) -> impl Iterator<Item = &'a str> {
        let wanted = request.essential;
        self.packages.iter().filter(move |package| wanted && package.essential).map(|package| package.name.as_str())
    }

    fn near(&self, name: &str) -> Vec<String> {
        let mut near: Vec<&str> = nearest(name, self.by_name.keys().map(String::as_str)).into_iter().collect();
        let mut holding: Vec<&str> =
            self.by_name.keys().map(String::as_str).filter(|other| name.len() > 2 && other.contains(name)).collect();
        holding.sort_by_key(|other| (other.len(), *other));
        near.extend(holding);
        let mut seen = BTreeSet::new();
        near.into_iter().filter(|name| seen.insert(*name)).take(4).map(str::to_owned).collect()
    }
}

/// The versions of one package that relations admit, or, if negated, refuse.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Admits {
    relations: Vec<Relation>,
    /// Exactly these versions, if a virtual package is meant.
    versions: Option<Vec<String>>,
    negated: bool,
}

#[derive(Clone)]
struct Record {
    version: String,
    /// Absent for the stand-ins that make a recommendation optional.
    index: Option<usize>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

impl VersionSet for Admits {
    type V = Record;
}

impl Admits {
    fn contains(&self, version: &str) -> bool {
        let inside = match &self.versions {
            Some(versions) => versions.iter().any(|other| other == version),
            None => self.relations.iter().all(|relation| relation.admits(version)),
        };
        inside != self.negated
    }
}

impl fmt::Display for Admits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = match &self.versions {
            Some(versions) => versions.iter().map(|version| format!("= {version}")).collect(),
            None => self
                .relations
                .iter()
                .filter_map(|relation| {
                    relation.to_string().split_once(" (").map(|(_, rest)| rest.trim_end_matches(')').to_owned())
                })
                .collect(),
        };
        match (self.negated, conditions.is_empty()) {
            (false, true) => Ok(()),
            (false, false) => write!(f, "({})", conditions.join(" or ")),
            (true, true) => f.write_str("(absent)"),
            (true, false) => write!(f, "(not {})", conditions.join(" or ")),
        }
    }
}

struct Provider<'a> {
    universe: &'a Universe,
    request: &'a Request<'a>,
    pool: Pool<Admits>,
    solvables: RefCell<HashMap<NameId, Vec<SolvableId>>>,
    requirements: RefCell<HashMap<Vec<Relation>, Option<ConditionalRequirement>>>,
    optional: RefCell<HashMap<NameId, Vec<Relation>>>,
}

impl<'a> Provider<'a> {
    fn new(universe: &'a Universe, request: &'a Request<'a>) -> Self {
        Self {
            universe,
            request,
            pool: Pool::default(),
            solvables: RefCell::default(),
            requirements: RefCell::default(),
            optional: RefCell::default(),
        }
    }

    fn candidates(&self, name: NameId) -> Vec<SolvableId> {
        if let Some(known) = self.solvables.borrow().get(&name) {
            return known.clone();
        }
        let text = self.pool.resolve_package_name(name);
        let indexes = self.universe.by_name.get(text.as_str()).map_or(&[][..], Vec::as_slice);
        let solvables: Vec<SolvableId> = indexes
            .iter()
            .filter(|index| self.request.admits(&self.universe.packages[**index]))
            .map(|index| {
                self.pool.intern_solvable(
                    name,
                    Record { version: self.universe.packages[*index].version.clone(), index: Some(*index) },
                )
            })
            .collect();
        self.solvables.borrow_mut().insert(name, solvables.clone());
        solvables
    }

    fn set(&self, name: &str, set: Admits) -> VersionSetId {
        self.pool.intern_version_set(self.pool.intern_package_name(name), set)
    }

    /// A group of alternatives as a union over real packages and providers, in order of preference.
    fn requirement(&self, group: &[Relation]) -> Option<ConditionalRequirement> {
        if let Some(known) = self.requirements.borrow().get(group) {
            return *known;
        }
        let mut sets = Vec::new();
        for relation in group {
            if self.universe.by_name.contains_key(&relation.name) {
                sets.push(self.set(&relation.name, Admits { relations: vec![relation.clone()], versions: None, negated: false }));
            }
            for (name, versions) in self.providers(relation) {
                sets.push(self.set(name, Admits { relations: Vec::new(), versions: Some(versions), negated: false }));
            }
        }
        if sets.is_empty() {
            // Nothing offers it: an empty set, so that the solver can say so.
            let relation = &group[0];
            sets.push(self.set(&relation.name, Admits { relations: vec![relation.clone()], versions: None, negated: false }));
        }
        let requirement = match sets.as_slice() {
            [one] => Requirement::Single(*one),
            [first, rest @ ..] => Requirement::Union(self.pool.intern_version_set_union(*first, rest.iter().copied())),
            [] => return None,
        };
        let requirement: ConditionalRequirement = requirement.into();
        self.requirements.borrow_mut().insert(group.to_vec(), Some(requirement));
        Some(requirement)
    }

    /// Packages that provide what a relation asks for, with the versions of each that do.
    ///
    /// A versioned relation is met only by a versioned provide (Debian Policy, section 7.5). Packages
    /// of higher priority, then of a shorter name, are preferred.
    fn providers(&self, relation: &Relation) -> Vec<(&'a str, Vec<String>)> {
        let mut found: BTreeMap<(bool, usize, &'a str), Vec<String>> = BTreeMap::new();
        for index in self.universe.providers.get(&relation.name).into_iter().flatten() {
            let package = &self.universe.packages[*index];
            let fits = package.provides.iter().filter(|provided| provided.name == relation.name).any(|provided| {
                match (&relation.condition, &provided.condition) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(_), Some((_, version))) => relation.admits(version),
                }
            });
            if fits && package.name != relation.name {
                found.entry((!package.important, package.name.len(), &package.name)).or_default().push(package.version.clone());
            }
        }
        found.into_iter().map(|((_, _, name), versions)| (name, versions)).collect()
    }

    /// The requirement for a recommendation: a stand-in package, whose preferred version depends on the recommended package
    /// and whose other version does not.
    fn recommendation(&self, package: &Package, index: usize) -> Option<ConditionalRequirement> {
        let group = &package.recommends[index];
        let name = self.pool.intern_package_name(format!("{} recommends {}", package.name, group[0]));
        if !self.solvables.borrow().contains_key(&name) {
            let both = ["with", "without"]
                .map(|version| self.pool.intern_solvable(name, Record { version: version.into(), index: None }));
            self.solvables.borrow_mut().insert(name, both.to_vec());
            self.optional.borrow_mut().insert(name, group.clone());
        }
        let any = self.pool.intern_version_set(name, Admits { relations: Vec::new(), versions: None, negated: false });
        Some(Requirement::Single(any).into())
    }

    fn constraints(&self, package: &Package) -> Vec<VersionSetId> {
        let mut constrains = Vec::new();
        for relation in &package.conflicts {
            // A package may conflict with a name that it provides itself (Debian Policy, section 7.6.2).
            if relation.name != package.name && self.universe.by_name.contains_key(&relation.name) {
                constrains
                    .push(self.set(&relation.name, Admits { relations: vec![relation.clone()], versions: None, negated: true }));
            }
            for (name, versions) in self.providers(relation) {
                if name != package.name {
                    constrains.push(self.set(name, Admits { relations: Vec::new(), versions: Some(versions), negated: true }));
                }
            }
        }
        constrains
    }
}

impl Interner for Provider<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl fmt::Display + '_ {
        let solvable = self.pool.resolve_solvable(solvable);
        format!("{} {}", self.pool.resolve_package_name(solvable.name), solvable.record)
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl fmt::Display + '_ {
        let versions: Vec<String> = solvables.iter().map(|id| self.pool.resolve_solvable(*id).record.to_string()).collect();
        let name =
            solvables.first().map_or("", |id| self.pool.resolve_package_name(self.pool.resolve_solvable(*id).name).as_str());
        format!("{name} {}", versions.join(" or "))
    }

    fn display_name(&self, name: NameId) -> impl fmt::Display + '_ {
        self.pool.resolve_package_name(name).clone()
    }

    fn display_version_set(&self, set: VersionSetId) -> impl fmt::Display + '_ {
        self.pool.resolve_version_set(set).clone()
    }

    fn display_string(&self, string: StringId) -> impl fmt::Display + '_ {
        self.pool.resolve_string(string).to_owned()
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Provider<'_> {
    async fn filter_candidates(&self, candidates: &[SolvableId], set: VersionSetId, inverse: bool) -> Vec<SolvableId> {
        let set = self.pool.resolve_version_set(set);
        candidates.iter().copied().filter(|id| set.contains(&self.pool.resolve_solvable(*id).record.version) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let candidates = self.candidates(name);
        if candidates.is_empty() {
            return None;
        }
        let text = self.pool.resolve_package_name(name);
        let kept = self.request.keep.get(text.as_str());
        let favored = kept
            .and_then(|version| candidates.iter().copied().find(|id| self.pool.resolve_solvable(*id).record.version == *version));
        Some(Candidates { candidates, favored, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_by(|a, b| {
            let (a, b) = (&self.pool.resolve_solvable(*a).record, &self.pool.resolve_solvable(*b).record);
            match (a.index, b.index) {
                (Some(first), Some(second)) => {
                    let reluctant = |index: usize| self.universe.packages[index].reluctant;
                    reluctant(first).cmp(&reluctant(second)).then_with(|| compare(&b.version, &a.version))
                }
                _ => a.version.cmp(&b.version),
            }
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let solvable = self.pool.resolve_solvable(solvable);
        let mut known = KnownDependencies::default();
        match solvable.record.index {
            Some(index) => {
                let package = &self.universe.packages[index];
                known.requirements.extend(package.depends.iter().filter_map(|group| self.requirement(group)));
                if self.request.recommends {
                    known
                        .requirements
                        .extend((0..package.recommends.len()).filter_map(|index| self.recommendation(package, index)));
                }
                known.constrains = self.constraints(package);
            }
            None if solvable.record.version == "with" => {
                let group = self.optional.borrow().get(&solvable.name).cloned().unwrap_or_default();
                known.requirements.extend(self.requirement(&group));
            }
            None => {}
        }
        Dependencies::Known(known)
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::packages;
    use super::*;

    fn universe(lines: &str) -> Universe {
        let sha = "a".repeat(64);
        let text: String = lines
            .lines()
            .map(|line| {
                let fields = line.trim().replace("; ", "\n");
                format!("Package: {fields}\nArchitecture: amd64\nSHA256: {sha}\n\n")
            })
            .collect();
        Universe::new(packages(&text, "amd64"))
    }

    fn solve(universe: &Universe, wanted: &[&str], recommends: bool) -> Result<Vec<String>, Unsolved> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let request = Request { packages: &wanted, essential: true, recommends, keep: &BTreeMap::new(), pins: &BTreeMap::new() };
        universe
            .solve(&request)
            .map(|found| found.iter().map(|package| format!("{}={}", package.name, package.version)).collect())
    }

    #[test]
    fn relations_of_every_kind() {
        let universe = universe(
            "base; Version: 1; Essential: yes
             app; Version: 1; Depends: lib (>= 2), mail-agent, a | b; Recommends: extra, absent
             lib; Version: 1
             lib; Version: 3; Breaks: b (<< 2)
             exim; Version: 1; Provides: mail-agent
             postfix; Version: 1; Provides: mail-agent; Conflicts: mail-agent
             a; Version: 1; Depends: nowhere
             b; Version: 2; Conflicts: exim
             extra; Version: 1",
        );
        assert_eq!(solve(&universe, &["app"], false).unwrap(), ["app=1", "b=2", "base=1", "lib=3", "postfix=1"]);
        assert!(solve(&universe, &["app"], true).unwrap().contains(&"extra=1".to_owned()));
        assert!(matches!(solve(&universe, &["app", "exim"], false), Err(Unsolved::Conflict(_))));
        let near = solve(&universe, &["extr"], false).unwrap_err();
        assert_eq!(near, Unsolved::NoSuchPackage { name: "extr".into(), near: vec!["extra".into()] });
    }

    #[test]
    fn kept_versions_stay() {
        let universe = universe("lib; Version: 1\nlib; Version: 2");
        let keep = BTreeMap::from([("lib".to_owned(), "1".to_owned())]);
        let wanted = ["lib".to_owned()];
        let chosen = universe
            .solve(&Request { packages: &wanted, essential: false, recommends: false, keep: &keep, pins: &BTreeMap::new() })
            .unwrap();
        assert_eq!(chosen[0].version, "1");
    }

    #[test]
    fn pins_choose_and_what_is_reluctant_comes_last() {
        let mut universe =
            universe("lib; Version: 1.2-1\nlib; Version: 1.3-1\nlib; Version: 2.0-1~bpo\napp; Version: 1; Depends: lib");
        universe.packages[2].reluctant = true;
        let solved = |pin: Option<&str>| {
            let pins: BTreeMap<String, String> = pin.iter().map(|pin| ("lib".to_owned(), (*pin).to_owned())).collect();
            let wanted = ["app".to_owned()];
            let none = BTreeMap::new();
            let request = Request { packages: &wanted, essential: false, recommends: false, keep: &none, pins: &pins };
            universe.solve(&request).map(|found| found[1].version.clone())
        };
        assert_eq!(solved(None).unwrap(), "1.3-1");
        assert_eq!(solved(Some("1.2*")).unwrap(), "1.2-1");
        assert_eq!(solved(Some("*~bpo*")).unwrap(), "2.0-1~bpo");
        assert!(matches!(solved(Some("9*")), Err(Unsolved::NoSuchVersion { versions, .. }) if versions.len() == 3));
    }

    #[test]
    fn versioned_provides_only_meet_versioned_needs() {
        let universe = universe("p; Version: 1; Provides: v (= 5)\nq; Version: 1; Provides: v\nx; Version: 1; Depends: v (>= 4)");
        assert_eq!(solve(&universe, &["x"], false).unwrap(), ["p=1", "x=1"]);
    }
}

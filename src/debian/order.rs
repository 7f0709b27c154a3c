//! The order in which dpkg installs packages: Essential ones first, then by their dependencies.
//!
//! Relations: Debian Policy, chapter 7. Packages that depend on each other in a cycle are installed at once; dpkg allows this.

use crate::lock::{Relation, relations, stanzas};
use std::collections::{BTreeMap, BTreeSet};

/// What a package's control file says about its relations to other packages.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub name: String,
    essential: bool,
    provides: Vec<String>,
    pre_depends: Vec<Vec<Relation>>,
    depends: Vec<Vec<Relation>>,
}

impl Needs {
    /// Reads a control file.
    pub fn read(control: &str) -> Self {
        let mut found = Self::default();
        for (field, value) in stanzas(control).next().unwrap_or_default() {
            match field {
                "Package" => found.name = value,
                "Essential" => found.essential = value == "yes",
                "Provides" => found.provides = relations(&value).into_iter().flatten().map(|one| one.name).collect(),
                "Pre-Depends" => found.pre_depends = relations(&value),
                "Depends" => found.depends = relations(&value),
                _ => {}
            }
        }
        found
    }
}

/// Packages, as indexes into the list that was given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// Essential packages with all their dependencies: dpkg itself needs these.
    pub essential: Vec<usize>,
    /// The others, in batches; whatever must be configured before a batch is in an earlier one.
    pub batches: Vec<Vec<usize>>,
}

/// Orders packages.
pub fn order(all: &[Needs]) -> Order {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, needs) in all.iter().enumerate() {
        for name in std::iter::once(&needs.name).chain(&needs.provides) {
            by_name.entry(name).or_default().push(index);
        }
    }
    let meant = |groups: &[Vec<Relation>]| -> Vec<usize> {
        let one = |group: &Vec<Relation>| group.iter().find_map(|relation| by_name.get(relation.name.as_str())?.first().copied());
        groups.iter().filter_map(one).collect()
    };
    let before: Vec<Vec<usize>> = all.iter().map(|needs| meant(&needs.pre_depends)).collect();
    let with: Vec<Vec<usize>> =
        all.iter().zip(&before).map(|(needs, before)| [before.clone(), meant(&needs.depends)].concat()).collect();
    let mut essential = BTreeSet::new();
    let mut queue: Vec<usize> = (0..all.len()).filter(|index| all[*index].essential).collect();
    while let Some(index) = queue.pop() {
        if essential.insert(index) {
            queue.extend(&with[index]);
        }
    }
    let mut sorted = Vec::new();
    let mut seen = essential.clone();
    for index in 0..all.len() {
        visit(index, &with, &mut seen, &mut sorted);
    }
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut batch: BTreeSet<usize> = BTreeSet::new();
    let mut current = Vec::new();
    for index in sorted {
        // A package that must be configured beforehand may not be in the same batch.
        if before[index].iter().any(|other| batch.contains(other)) {
            batches.push(std::mem::take(&mut current));
            batch.clear();
        }
        batch.insert(index);
        current.push(index);
    }
    if !current.is_empty() {
        batches.push(current);
    }
    Order { essential: essential.into_iter().collect(), batches }
}

/// Puts a package after everything that it needs, except where dependencies form a cycle.
fn visit(index: usize, with: &[Vec<usize>], seen: &mut BTreeSet<usize>, sorted: &mut Vec<usize>) {
    if !seen.insert(index) {
        return;
    }
    for other in &with[index] {
        visit(*other, with, seen, sorted);
    }
    sorted.push(index);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first() {
        let texts = [
            "Package: app\nDepends: lib, helper\nPre-Depends: init",
            "Package: dpkg\nEssential: yes\nPre-Depends: libc6",
            "Package: helper\nDepends: app",
            "Package: init\nProvides: x",
            "Package: lib\nDepends: x | y",
            "Package: libc6",
        ];
        let all: Vec<Needs> = texts.iter().map(|text| Needs::read(text)).collect();
        let found = order(&all);
        assert_eq!(found.essential, [1, 5]);
        let names: Vec<Vec<&str>> =
            found.batches.iter().map(|batch| batch.iter().map(|index| all[*index].name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["init", "lib", "helper"], vec!["app"]]);
    }
}

//! Where the parts of a project were written.

use crate::model::{Location, Name};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The path to a part of a project: a top-level node, then the nodes inside it, each by its name or number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodePath(Vec<Cow<'static, str>>);

impl NodePath {
    fn top(kind: &'static str, name: impl ToString) -> Self {
        Self(vec![kind.into(), name.to_string().into()])
    }

    /// The node that names the project.
    pub fn project() -> Self {
        Self(vec!["project".into()])
    }

    pub fn image(name: &Name) -> Self {
        Self::top("image", name)
    }

    pub fn container(name: impl ToString) -> Self {
        Self::top("container", name)
    }

    pub fn network(name: &Name) -> Self {
        Self::top("network", name)
    }

    pub fn volume(name: &Name) -> Self {
        Self::top("volume", name)
    }

    /// A declared node of any kind that has names.
    pub fn declared(kind: &'static str, name: &Name) -> Self {
        Self::top(kind, name)
    }

    /// A container, job or network of a profile that was not chosen.
    pub fn unchosen(kind: &'static str, name: &Name) -> Self {
        Self::top("unchosen", kind).node(name.to_string())
    }

    /// The parameter that reads a variable of the caller's environment.
    pub fn variable(name: &str) -> Self {
        Self::top("variable", name)
    }

    /// One of the project's mirrors, by its number.
    pub fn mirror(number: usize) -> Self {
        Self::top("mirror", number)
    }

    /// This path, which is relative to a node, prefixed with the path of that node.
    #[must_use]
    pub fn within(self, mut node: Self) -> Self {
        node.0.extend(self.0);
        node
    }

    /// A node in this one.
    #[must_use]
    pub fn node(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(name.into());
        self
    }

    /// One of several nodes of a kind in this one, by its distinguishing key.
    #[must_use]
    pub fn named(self, kind: impl Into<Cow<'static, str>>, key: impl ToString) -> Self {
        self.node(kind).node(key.to_string())
    }

    /// The node of an aspect of a container or of a setting of an image: `user`, `env.LANG`, `limits.memory`.
    #[must_use]
    pub fn aspect(self, key: &str) -> Self {
        match key.split_once('.') {
            Some((kind, key)) => self.named(kind.to_owned(), key),
            None => self.node(key.to_owned()),
        }
    }

    /// A step of an image, by its number.
    #[must_use]
    pub fn step(self, number: usize) -> Self {
        self.named("step", number)
    }

    /// A source of a step, by its number.
    #[must_use]
    pub fn source(self, number: usize) -> Self {
        self.named("source", number)
    }
}

/// Where parts of a project were written.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(NodePath, Location)>", into = "Vec<(NodePath, Location)>")]
pub struct Locations(BTreeMap<NodePath, Location>);

impl Locations {
    /// The location of a part, or of the nearest part that contains it.
    pub fn of(&self, path: &NodePath) -> Option<&Location> {
        if let Some(found) = self.0.get(path) {
            return Some(found);
        }
        let mut path = path.clone();
        loop {
            path.0.pop()?;
            if let Some(found) = self.0.get(&path) {
                return Some(found);
            }
        }
    }

    /// The location of exactly this part.
    pub fn exactly(&self, path: &NodePath) -> Option<&Location> {
        self.0.get(path)
    }

    /// Records where a part was written.
    pub fn insert(&mut self, path: NodePath, location: Location) {
        self.0.insert(path, location);
    }

    /// Records where a part was written, unless that is known already.
    pub fn insert_first(&mut self, path: NodePath, location: &Location) {
        self.0.entry(path).or_insert_with(|| location.clone());
    }

    /// All locations.
    pub fn all(&self) -> impl Iterator<Item = &Location> {
        self.0.values()
    }
}

impl From<Vec<(NodePath, Location)>> for Locations {
    fn from(all: Vec<(NodePath, Location)>) -> Self {
        Self(all.into_iter().collect())
    }
}

impl From<Locations> for Vec<(NodePath, Location)> {
    fn from(all: Locations) -> Self {
        all.0.into_iter().collect()
    }
}

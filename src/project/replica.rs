//! Identifies a replica of a container: `web-2` is the second of `web`.

use crate::model::Name;
use std::fmt;

/// One replica of a container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaId {
    pub container: Name,
    /// Its number, counted from 1.
    pub index: u32,
}

impl ReplicaId {
    /// All replicas of a container.
    pub fn all(container: &Name, count: u32) -> impl Iterator<Item = Self> {
        (1..=count).map(move |index| Self { container: container.clone(), index })
    }

    /// Parses a full name; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (container, number) = text.rsplit_once('-')?;
        // A number has only one spelling: `web-02` is a different name.
        let index = number.parse().ok().filter(|index: &u32| *index > 0 && index.to_string() == number)?;
        Some(Self { container: Name::parse(container).ok()?, index })
    }

    /// Whether a full name is that of a container's replica, or is the name itself.
    pub fn is_of(full: &str, name: &str) -> bool {
        full == name || Self::parse(full).is_some_and(|replica| replica.container.as_str() == name)
    }

    /// The container's name within a full name; the whole text if it is not a full name.
    pub fn container_of(full: &str) -> &str {
        match Self::parse(full) {
            Some(replica) => &full[..replica.container.as_str().len()],
            None => full,
        }
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.container, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for full in ["web-1", "web-10", "web-2-3", "run-77-1"] {
            assert_eq!(ReplicaId::parse(full).unwrap().to_string(), full);
        }
        for other in ["web", "web-0", "web-02", "web-", "-1", "web-x", "web--1", "Web-1", "web-4294967296"] {
            assert_eq!(ReplicaId::parse(other), None, "{other}");
        }
        assert!(ReplicaId::is_of("web-2", "web") && ReplicaId::is_of("web", "web"));
        assert!(!ReplicaId::is_of("web-2-1", "web") && !ReplicaId::is_of("web-02", "web"));
        assert_eq!((ReplicaId::container_of("web-2-1"), ReplicaId::container_of("web-02")), ("web-2", "web-02"));
        let name = Name::parse("web").unwrap();
        let mut all: Vec<ReplicaId> = ReplicaId::all(&name, 11).collect();
        all.sort();
        assert_eq!(all.last().unwrap().to_string(), "web-11", "by number, not by letters");
    }
}

//! Debian control data: stanzas, package records, relations between packages.
//!
//! Formats: Debian Policy, chapters 5 and 7.

use super::version::compare;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// The fields of one stanza, in order, with continuation lines joined by newlines.
pub fn stanzas(text: &str) -> impl Iterator<Item = Vec<(&str, String)>> {
    text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(|stanza| {
        let mut fields: Vec<(&str, String)> = Vec::new();
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name, value.trim().to_owned()));
            }
        }
        fields
    })
}

/// A package as an index describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub essential: bool,
    pub important: bool,
    pub depends: Vec<Vec<Relation>>,
    pub recommends: Vec<Vec<Relation>>,
    pub conflicts: Vec<Relation>,
    pub provides: Vec<Relation>,
    pub path: String,
    pub size: u64,
    pub sha256: String,
    /// The repository that it belongs to, if that is not the suite's own archive.
    #[serde(default)]
    pub repository: Option<String>,
    /// Whether its archive's packages are installed only on request (`NotAutomatic`, as for backports).
    #[serde(default)]
    pub reluctant: bool,
}

/// A package, perhaps with a condition on its version.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Relation {
    pub name: String,
    pub condition: Option<(Comparison, String)>,
}

/// How a version must compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Comparison {
    Less,
    LessEqual,
    Equal,
    GreaterEqual,
    Greater,
}

impl Relation {
    /// Whether a version satisfies the condition, if there is one.
    pub fn admits(&self, version: &str) -> bool {
        self.condition.as_ref().is_none_or(|(comparison, wanted)| comparison.holds(version, wanted))
    }

    fn parse(text: &str) -> Option<Self> {
        // Architecture and build profile restrictions do not occur in binary packages' indexes.
        let text = text.trim();
        let (name, condition) = match text.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.trim_end_matches(')').trim())),
            None => (text, None),
        };
        let name = name.split(':').next().unwrap_or(name).trim();
        if name.is_empty() {
            return None;
        }
        let condition = match condition {
            None => None,
            Some(condition) => {
                let split = condition.find(|c: char| !matches!(c, '<' | '>' | '='))?;
                let (operator, version) = condition.split_at(split);
                let comparison = match operator {
                    "<<" => Comparison::Less,
                    "<=" | "<" => Comparison::LessEqual,
                    "=" => Comparison::Equal,
                    ">=" | ">" => Comparison::GreaterEqual,
                    ">>" => Comparison::Greater,
                    _ => return None,
                };
                Some((comparison, version.trim().to_owned()))
            }
        };
        Some(Self { name: name.to_owned(), condition })
    }
}

impl Comparison {
    fn holds(self, version: &str, wanted: &str) -> bool {
        let order = compare(version, wanted);
        match self {
            Self::Less => order == Ordering::Less,
            Self::LessEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::GreaterEqual => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let Some((comparison, version)) = &self.condition else { return Ok(()) };
        let sign = match comparison {
            Comparison::Less => "<<",
            Comparison::LessEqual => "<=",
            Comparison::Equal => "=",
            Comparison::GreaterEqual => ">=",
            Comparison::Greater => ">>",
        };
        write!(f, " ({sign} {version})")
    }
}

/// Groups of alternatives, as `Depends` lists them.
pub fn relations(text: &str) -> Vec<Vec<Relation>> {
    let groups = text.split(',').map(|group| group.split('|').filter_map(Relation::parse).collect::<Vec<_>>());
    groups.filter(|group| !group.is_empty()).collect()
}

/// The packages in a `Packages` index that fit an architecture.
pub fn packages(text: &str, architecture: &str) -> Vec<Package> {
    let mut found = Vec::new();
    for fields in stanzas(text) {
        let mut package = Package::default();
        for (name, value) in fields {
            match name {
                "Package" => package.name = value,
                "Version" => package.version = value,
                "Architecture" => package.architecture = value,
                "Essential" => package.essential = value == "yes",
                "Priority" => package.important = matches!(value.as_str(), "required" | "important"),
                "Depends" | "Pre-Depends" => package.depends.extend(relations(&value)),
                "Recommends" => package.recommends = relations(&value),
                "Conflicts" | "Breaks" => package.conflicts.extend(relations(&value).into_iter().flatten()),
                "Provides" => package.provides = relations(&value).into_iter().flatten().collect(),
                "Filename" => package.path = value,
                "Size" => package.size = value.parse().unwrap_or(0),
                "SHA256" => package.sha256 = value,
                _ => {}
            }
        }
        let suits = package.architecture == architecture || package.architecture == "all";
        if suits && !package.name.is_empty() && package.sha256.len() == 64 {
            found.push(package);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read() {
        let text = "Package: nginx\nVersion: 1.22.1-9\nArchitecture: amd64\nDepends: libc6 (>= 2.34), libssl3 | libssl4,\n iproute2:any\n\
                    Provides: httpd (= 1), httpd-cgi\nBreaks: old (<< 1)\nFilename: pool/n.deb\nSize: 5\nSHA256: \
                    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\nPackage: x\nArchitecture: arm64\n";
        let found = packages(text, "amd64");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].depends.len(), 3);
        assert_eq!(found[0].depends[1].len(), 2);
        assert_eq!(found[0].depends[2][0].name, "iproute2");
        assert_eq!(found[0].provides[0].to_string(), "httpd (= 1)");
        assert!(found[0].conflicts[0].admits("0.9") && !found[0].conflicts[0].admits("1"));
    }
}

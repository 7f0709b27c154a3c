//! Names that people choose for images, containers, networks, volumes: one rule for all.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;

/// A name: 1 to 40 lowercase letters, digits and hyphens, starting with a letter.
///
/// The rule is that of a DNS label (RFC 1123, section 2.1), shortened so that a replica's number
/// still fits, because a container's name is also its host name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence saying which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() {
            return Err("a name cannot be empty".into());
        }
        if text.len() > 40 {
            return Err("a name has at most 40 characters".into());
        }
        if let Some(bad) = text.chars().find(|c| !legal(*c)) {
            let mended: String = text.to_lowercase().chars().map(|c| if legal(c) { c } else { '-' }).collect();
            return Err(format!("a name has lowercase letters, digits and hyphens, not {bad:?}; perhaps \"{mended}\""));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.ends_with('-') {
            return Err("a name starts with a letter and does not end with a hyphen".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The name of something inside: nobody can write it, for it has a dot.
    #[must_use]
    pub fn inner(&self, part: &str) -> Self {
        Self(format!("{self}.{part}"))
    }

    /// The name of an image that is made elsewhere: its reference.
    pub fn of_reference(reference: &str) -> Self {
        Self(reference.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The candidate that somebody most likely meant, if any is near enough.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len().min(lower.len()) / 4 && *distance < candidate.len().max(2)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Matches a path against a pattern of `*` (no slash), `**` (any folders), `?` and `[a-z]`.
///
/// Rules as in Docker's ignore files, which are Go's `path/filepath.Match` plus `**`.
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) if rest.first() == Some(&b'*') => {
                let rest = &rest[1..];
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                rest.is_empty() || (0..=path.len()).any(|i| (i == 0 || path[i - 1] == b'/') && matches(rest, &path[i..]))
            }
            Some((b'*', rest)) => {
                let end = path.iter().position(|c| *c == b'/').unwrap_or(path.len());
                (0..=end).any(|i| matches(rest, &path[i..]))
            }
            Some((b'?', rest)) => path.first().is_some_and(|c| *c != b'/') && matches(rest, &path[1..]),
            Some((b'[', rest)) => {
                let Some(end) = rest.iter().position(|c| *c == b']') else { return false };
                let (class, rest) = (&rest[..end], &rest[end + 1..]);
                let (negated, class) = class.strip_prefix(b"^").map_or((false, class), |class| (true, class));
                let Some((first, path)) = path.split_first() else { return false };
                let mut found = false;
                let mut i = 0;
                while i < class.len() {
                    if i + 2 < class.len() && class[i + 1] == b'-' {
                        found |= (class[i]..=class[i + 2]).contains(first);
                        i += 3;
                    } else {
                        found |= class[i] == *first;
                        i += 1;
                    }
                }
                found != negated && *first != b'/' && matches(rest, path)
            }
            Some((b'\\', rest)) if !rest.is_empty() => path.first() == rest.first() && matches(&rest[1..], &path[1..]),
            Some((c, rest)) => path.first() == Some(c) && matches(rest, &path[1..]),
        }
    }
    matches(pattern.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_dns_rule() {
        assert!(Name::parse("web-1").is_ok());
        assert!(Name::parse("Web_App").unwrap_err().contains("web-app"));
        for bad in ["", "1a", "a-", &"a".repeat(41)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("contaner", ["container", "config"]), Some("container"));
        assert_eq!(nearest("env_file", ["env-file", "env"]), Some("env-file"));
        assert_eq!(nearest("zzz", ["container", "config"]), None);
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("*.py", "a.py", true),
            ("*.py", "d/a.py", false),
            ("**/*.py", "a.py", true),
            ("**/*.py", "d/e/a.py", true),
            ("d/**", "d/e/f", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("**/node_modules", "a/node_modules", true),
            ("**/node_modules", "a/xnode_modules", false),
        ] {
            assert_eq!(pattern_matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}

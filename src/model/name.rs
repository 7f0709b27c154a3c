//! Names that users choose for images, containers, networks, volumes: one rule for all.

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
        match Self::broken_rule(text) {
            None => Ok(Self(text.to_owned())),
            Some(rule) => Err(format!("{rule}{}", Self::perhaps(text))),
        }
    }

    /// The rule that a text breaks.
    fn broken_rule(text: &str) -> Option<String> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() {
            return Some("a name cannot be empty".into());
        }
        if text.len() > 40 {
            return Some("a name has at most 40 characters".into());
        }
        if let Some(bad) = text.chars().find(|c| !legal(*c)) {
            return Some(format!("a name has lowercase letters, digits and hyphens, not {}", shown_letter(bad)));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.ends_with('-') {
            return Some("a name starts with a letter and does not end with a hyphen".into());
        }
        None
    }

    /// A suggestion for a text that is no name, if something like it is one.
    fn perhaps(text: &str) -> String {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
        let mended = words.collect::<Vec<_>>().join("-");
        if Self::broken_rule(&mended).is_none() { format!("; perhaps \"{mended}\"") } else { String::new() }
    }

    /// A placeholder for something that has no name yet; users cannot write it.
    pub fn none() -> Self {
        Self(String::new())
    }

    /// The name of a part of something: users cannot write it because it has a dot.
    #[must_use]
    pub fn inner(&self, part: &str) -> Self {
        Self(format!("{self}.{part}"))
    }

    /// The name of an image from elsewhere: its reference.
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

/// A letter in a message about a text that must not have it.
pub fn shown_letter(letter: char) -> String {
    match letter {
        ' ' => "a blank".into(),
        '\n' | '\r' => "a line break".into(),
        '\t' => "a tab".into(),
        letter if letter.is_whitespace() => format!("a kind of blank (U+{:04X})", u32::from(letter)),
        letter => format!("{letter:?}"),
    }
}

/// Checks a host name: labels of letters, digits, hyphens and underscores with dots between them, and no more than the 64
/// bytes that the kernel keeps (uname(2)).
///
/// # Errors
/// A sentence saying which rule it breaks.
pub fn check_host_name(text: &str) -> Result<(), String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let whole = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(legal);
    if text.is_empty() {
        return Err("a host name cannot be empty".into());
    }
    if text.len() > 64 {
        return Err("a host name has at most 64 characters".into());
    }
    if text.eq_ignore_ascii_case("localhost") {
        return Err("every container is \"localhost\" to itself".into());
    }
    if !text.split('.').all(whole) {
        return Err(format!(
            "{text:?} is not a host name: it has letters, digits, hyphens and underscores, and dots between them"
        ));
    }
    Ok(())
}

/// The candidate that was most likely meant, if any is near enough.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase().replace('_', "-");
    let length = lower.chars().count();
    candidates
        .into_iter()
        // Each missing or extra character costs at least one edit, so candidates of very different length are skipped.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= 1 + candidate.len().min(lower.len()) / 4)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len().min(lower.len()) / 4 && *distance < candidate.len().max(2)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_may_have_dots() {
        for name in ["web", "mail.example.com", "Web_1.internal", "0a"] {
            assert_eq!(check_host_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "a.", ".a", "a..b", "-a", "a-.b", "a b", "a/b", "localhost", "é", &"a".repeat(65)] {
            assert!(check_host_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_follow_the_dns_rule() {
        assert!(Name::parse("web-1").is_ok());
        assert!(Name::parse("Web_App").unwrap_err().contains("web-app"));
        for bad in ["", "1a", "a-", &"a".repeat(41)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
        for (text, says) in [
            ("a name:1", "not a blank; perhaps \"a-name-1\""),
            (" web ", "not a blank; perhaps \"web\""),
            ("web\tapp", "not a tab; perhaps \"web-app\""),
            ("web\u{a0}app", "not a kind of blank (U+00A0); perhaps \"web-app\""),
            ("shop/web:1", "not '/'; perhaps \"shop-web-1\""),
            ("web-", "a hyphen; perhaps \"web\""),
        ] {
            assert!(Name::parse(text).unwrap_err().ends_with(says), "{text}: {:?}", Name::parse(text));
        }
        // What would be no name either is not suggested.
        for text in ["ä", "1 a", "_", &format!("{} b", "a".repeat(39))] {
            assert!(!Name::parse(text).unwrap_err().contains("perhaps"), "{text}");
        }
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("contaner", ["container", "config"]), Some("container"));
        assert_eq!(nearest("env_file", ["env-file", "env"]), Some("env-file"));
        assert_eq!(nearest("zzz", ["container", "config"]), None);
    }
}

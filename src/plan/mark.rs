//! Marks: what a project is trusted with beyond its directory and the defaults of its containers.

use crate::model::{Digest, Location};
use serde::{Deserialize, Serialize};

/// The kind of a mark; also the words of `--allow`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// Files and sockets of the host, and the caller's environment variables.
    #[default]
    Files,
    /// Capabilities, devices, namespaces and filters; the caller's keys.
    Privileges,
    /// The host's network, its bridges, and connections from the host itself.
    Network,
}

impl MarkKind {
    /// Every kind, for `--allow all`.
    pub const ALL: [Self; 3] = [Self::Files, Self::Privileges, Self::Network];

    /// The word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Privileges => "privileges",
            Self::Network => "network",
        }
    }
}

/// Whether consent is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// It is only shown: it stays in the project's directory, or only makes something reachable.
    #[default]
    Shown,
    /// It needs consent: it reaches beyond the project's directory, or adds privileges.
    Asks,
}

/// One extension of trust. Kind, grade and holder have defaults: older histories have only text and place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    #[serde(default)]
    pub grade: Grade,
    #[serde(default)]
    pub kind: MarkKind,
    /// What it belongs to: "container web", "image app", "project".
    #[serde(default)]
    pub holder: String,
    /// What its holder does, beginning with a verb, with real paths and full names.
    pub text: String,
    /// Distinguishes it from other marks with the same text: only the beginning of a long command is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Location>,
}

impl Mark {
    /// The identity that consent is given to; its position in the file does not matter.
    pub fn id(&self) -> Digest {
        Digest::of_json(&(&self.kind, &self.holder, &self.text, &self.exact))
    }

    /// Whether consent is needed.
    pub fn asks(&self) -> bool {
        self.grade == Grade::Asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_another_one_by_what_it_says_and_not_by_where() {
        let old: Mark = serde_json::from_str(r#"{"text":"capability NET_ADMIN"}"#).unwrap();
        assert!(!old.asks() && old.kind == MarkKind::Files);
        let place = Some(Location { file: "x".into(), line: 7, offset: 0, length: 0 });
        assert_eq!(Mark { place, grade: Grade::Asks, ..old.clone() }.id(), old.id());
        for other in [
            Mark { kind: MarkKind::Network, ..old.clone() },
            Mark { holder: "container web".into(), ..old.clone() },
            Mark { exact: "1".into(), ..old.clone() },
            Mark { text: "capability SYS_ADMIN".into(), ..old.clone() },
        ] {
            assert_ne!(other.id(), old.id());
        }
    }
}

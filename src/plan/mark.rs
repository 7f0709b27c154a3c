//! Marks: what a project is trusted with beyond its directory and its containers.

use crate::model::{Digest, Location};
use serde::{Deserialize, Serialize};

/// What a mark is about; also the words of `--allow`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// Files and sockets of the host, and variables of the caller.
    #[default]
    Files,
    /// Capabilities, devices, namespaces and filters; the caller's keys.
    Privileges,
    /// The host's network, its bridges, and who is reached from the host itself.
    Network,
}

impl MarkKind {
    /// Every kind, as `--allow all` means.
    pub const ALL: [Self; 3] = [Self::Files, Self::Privileges, Self::Network];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Privileges => "privileges",
            Self::Network => "network",
        }
    }
}

/// Whether somebody must have said yes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// It is told: it stays in the project's directory, or only opens something.
    #[default]
    Shown,
    /// It reaches beyond the project's directory, or adds privileges.
    Asks,
}

/// One widening of trust. Kind, grade and holder have defaults: older histories have text and place only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    #[serde(default)]
    pub grade: Grade,
    #[serde(default)]
    pub kind: MarkKind,
    /// Who has it: "container web", "image app", "project".
    #[serde(default)]
    pub holder: String,
    /// What it is, with real paths and whole names.
    pub text: String,
    /// What tells it from another with the same text: of a long command only the beginning is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Location>,
}

impl Mark {
    /// Who says yes says it to this; where it stands in the file does not matter.
    pub fn id(&self) -> Digest {
        Digest::of_json(&(&self.kind, &self.holder, &self.text, &self.exact))
    }

    /// Whether somebody must have said yes.
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

//! Why something changes.

use crate::model::Location;
use serde::{Deserialize, Serialize};

/// Why: the path to the input that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Location>,
}

impl Cause {
    /// It as the deeper cause of something.
    pub fn under(&self, text: impl std::fmt::Display) -> Self {
        Self { text: format!("{text} ← {}", self.text), place: self.place.clone() }
    }
}

//! The causes of changes.

use crate::model::Location;
use serde::{Deserialize, Serialize};

/// The cause of a change: the chain to the input that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Location>,
}

impl Cause {
    /// Makes this the deeper cause of something else.
    pub fn under(&self, text: impl std::fmt::Display) -> Self {
        Self { text: format!("{text} ← {}", self.text), place: self.place.clone() }
    }
}

//! Why something changes.

use crate::model::Place;
use serde::{Deserialize, Serialize};

/// Why: the path to the input that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

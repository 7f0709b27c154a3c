//! Why something changes.

use crate::model::{Name, Place};
use serde::{Deserialize, Serialize};

/// Why: the path to the input that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The image that changed, where that is all that is known of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<Name>,
}

//! The definition of a named command: a `task` of the project file.

use crate::model::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A command that `stead run NAME` runs in a new container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedCommand {
    /// The container whose definition it runs with.
    pub container: Name,
    /// Its words; never empty.
    pub cmd: Vec<String>,
    /// Variables in addition to the container's, or in place of them.
    pub env: BTreeMap<String, String>,
    /// The working directory, if it is not the container's.
    pub workdir: Option<String>,
    /// The user, if it is not the container's.
    pub user: Option<String>,
}

//! Where the parts of a project were written, by keys.

use crate::model::Location;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where parts of a project were written: keys like `container.web.env.LANG`.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Locations(pub BTreeMap<String, Location>);

impl Locations {
    /// The place of a part, or of the nearest part that holds it.
    pub fn of(&self, path: &str) -> Option<&Location> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind('.')?];
        }
    }
}

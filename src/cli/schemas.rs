//! The schemas and references that `stead schema` prints. Those of the language and of the command line are made from their
//! tables; those of what is printed as JSON are files of `schemas/`, which tests compare with what is printed.

use super::reference;
use crate::spec;

/// One of them.
pub struct Schema {
    pub name: &'static str,
    /// The file in the repository.
    pub path: &'static str,
    pub what: &'static str,
    source: Source,
}

enum Source {
    Made(fn() -> String),
    Written(&'static str),
}

impl Schema {
    pub fn text(&self) -> String {
        match self.source {
            Source::Made(make) => make(),
            Source::Written(text) => text.to_owned(),
        }
    }
}

macro_rules! written {
    ($name:literal, $path:literal, $what:literal) => {
        Schema { name: $name, path: $path, what: $what, source: Source::Written(include_str!(concat!("../../", $path))) }
    };
}

const fn made(name: &'static str, path: &'static str, what: &'static str, make: fn() -> String) -> Schema {
    Schema { name, path, what, source: Source::Made(make) }
}

/// The one that is printed without a name.
pub const LANGUAGE: &str = "language";
/// The manual of the language.
pub const REFERENCE: &str = "reference";

pub const ALL: &[Schema] = &[
    made(LANGUAGE, "schemas/stead.json", "the words of project files, as JSON", spec::schema),
    made(REFERENCE, "schemas/reference.md", "the words of project files, as a manual", spec::reference),
    made("project", "schemas/project.schema.kdl", "project files, as a schema of KDL", spec::kdl_schema),
    made("commands", "schemas/commands.md", "the commands and their options, as a manual", reference::commands),
    written!("lock", "schemas/lock.schema.kdl", "stead.lock, as a schema of KDL"),
    written!("check", "schemas/check.schema.json", "what `stead check --json` prints"),
    written!("plan", "schemas/plan.schema.json", "what `stead plan --json` prints and `stead apply` reads"),
    written!("ps", "schemas/ps.schema.json", "what `stead ps --json` prints"),
    written!("history", "schemas/history.schema.json", "what `stead history --json` prints"),
    written!("gc", "schemas/gc.schema.json", "what `stead gc --json` prints"),
    written!("images", "schemas/images.schema.json", "what `stead images --json` prints"),
    written!("image-history", "schemas/image-history.schema.json", "what `stead image history --json` prints"),
    written!("volume-ls", "schemas/volume-ls.schema.json", "what `stead volume ls --json` prints"),
    written!(
        "volume-ls-snapshots",
        "schemas/volume-ls-snapshots.schema.json",
        "what `stead volume ls --snapshots --json` prints"
    ),
    written!("volume-inspect", "schemas/volume-inspect.schema.json", "what `stead volume inspect` prints"),
    written!("changes", "schemas/changes.schema.json", "what `stead changes --json` prints"),
    written!("search", "schemas/search.schema.json", "what `stead search --json` prints"),
    written!("events", "schemas/events.schema.json", "a line of what `stead events --json` prints"),
];

/// The text of one, by its name.
pub fn text(name: &str) -> Option<String> {
    ALL.iter().find(|one| one.name == name).map(Schema::text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_schema_that_is_written_can_be_read_and_has_a_version() {
        for one in ALL {
            let text = one.text();
            if one.path.ends_with(".schema.json") {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", one.name));
                let id = value["$id"].as_str().unwrap();
                let version = id.strip_prefix(&format!("stead:{}:", one.name)).unwrap();
                assert!(version.parse::<u32>().is_ok(), "{id}");
            } else if one.path.ends_with(".kdl") {
                assert_eq!(spec::syntax(one.path, &text).len(), 0, "{}", one.name);
            }
        }
        let plan: Value = serde_json::from_str(&ALL.iter().find(|one| one.name == "plan").unwrap().text()).unwrap();
        assert_eq!(plan["$defs"]["plan"]["properties"]["version"]["const"], crate::plan::Plan::VERSION);
    }
}

//! Names: where images, containers, networks, volumes and the like are declared, and where they are used.

use std::ops::Range;

/// What a name is the name of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Image,
    /// A container or a job: `depends-on` takes both.
    Container,
    Network,
    Volume,
    Secret,
    Config,
    Task,
    Template,
    Profile,
    Param,
}

impl Kind {
    /// What a node of this name declares.
    pub fn declared_by(node: &str) -> Option<Self> {
        Some(match node {
            "image" => Self::Image,
            "container" | "job" => Self::Container,
            "network" => Self::Network,
            "volume" => Self::Volume,
            "secret" => Self::Secret,
            "config" => Self::Config,
            "task" => Self::Task,
            "template" => Self::Template,
            "profile" => Self::Profile,
            "param" => Self::Param,
            _ => return None,
        })
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Task => "task",
            Self::Template => "template",
            Self::Profile => "profile",
            Self::Param => "param",
        }
    }
}

/// What a mention is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Declared,
    /// It is changed in a profile.
    Changed,
    Used,
}

/// A name in a text.
#[derive(Clone, Debug)]
pub struct Mention {
    pub kind: Kind,
    pub name: String,
    /// Where the name is, without its quotes.
    pub place: Range<usize>,
    pub node: usize,
    pub role: Role,
}

/// A place where a value can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'a> {
    Argument(usize),
    Property(&'a str),
}

/// What the values at a place of a node name.
pub fn used_at(parent: Option<&str>, node: &str, place: Place) -> Option<Kind> {
    let runs = matches!(parent, Some("container" | "job" | "template"));
    match (parent, node, place) {
        (_, "image", Place::Argument(0)) if runs => Some(Kind::Image),
        (_, "network", Place::Argument(_)) if runs => Some(Kind::Network),
        (_, "secret", Place::Argument(0)) if runs => Some(Kind::Secret),
        (_, "config", Place::Argument(0)) if runs => Some(Kind::Config),
        (_, "depends-on", Place::Argument(0)) if runs => Some(Kind::Container),
        (_, "mount", Place::Property("volume")) if runs => Some(Kind::Volume),
        (_, "mount", Place::Property("image")) => Some(Kind::Image),
        (Some("run"), "mount", Place::Property("secret")) => Some(Kind::Secret),
        (Some("image"), "from", Place::Argument(0)) => Some(Kind::Image),
        (Some("image"), "copy", Place::Property("from")) => Some(Kind::Image),
        (Some("task"), "container", Place::Argument(0)) => Some(Kind::Container),
        (_, _, Place::Property("template")) => Some(Kind::Template),
        _ => None,
    }
}

/// Where the names of parameters are in a value; `$${` is a literal `${`.
pub fn parameter_places<'t>(text: &'t str, value: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<'t> {
    let start = value.start;
    let written = text.get(value.clone()).unwrap_or_default();
    written.match_indices("${").filter_map(move |(at, _)| {
        if written[..at].ends_with('$') {
            return None;
        }
        let name = written[at + 2..].split('}').next().filter(|name| written[at + 2 + name.len()..].starts_with('}'))?;
        // A default may follow the name.
        let name = name.split(':').next().unwrap_or(name);
        Some(start + at + 2..start + at + 2 + name.len())
    })
}

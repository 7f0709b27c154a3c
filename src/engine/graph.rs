//! A project as a graph for people to look at: what it declares, and what uses what. The callers decide how it is drawn.

use crate::model::Name;
use crate::plan::attachments;
use crate::project::{Container, MountSource, NetworkMode, Project, Protocol, Publish, Until};
use std::collections::{BTreeMap, BTreeSet};

/// The most published ports that are named at a container.
const PORTS: usize = 6;

/// The kind of a vertex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    Container,
    Image,
    Network,
    Volume,
}

impl Part {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Container, Self::Image, Self::Network, Self::Volume];

    /// The word for it in a project file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// Something that the project declares or implies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vertex {
    pub part: Part,
    pub name: String,
    /// What else is said about it, in short lines.
    pub notes: Vec<String>,
}

/// One vertex uses another; both are positions in the list of vertices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub label: Option<&'static str>,
}

/// A project as a graph. Its order depends only on what the project is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    pub project: String,
    pub vertices: Vec<Vertex>,
    pub edges: Vec<Edge>,
}

type Key = (Part, Name);

/// The graph of a project: its containers, images, networks and volumes. Secrets and configs are left out.
pub fn graph(project: &Project) -> Graph {
    let edges = edges(project);
    let mut keys: BTreeSet<Key> = edges.keys().flat_map(|(from, to)| [from.clone(), to.clone()]).collect();
    keys.extend(project.containers.keys().map(|name| (Part::Container, name.clone())));
    keys.extend(project.images.keys().map(|name| (Part::Image, name.clone())));
    keys.extend(project.networks.keys().map(|name| (Part::Network, name.clone())));
    keys.extend(project.volumes.keys().map(|name| (Part::Volume, name.clone())));
    let places: BTreeMap<&Key, usize> = keys.iter().enumerate().map(|(at, key)| (key, at)).collect();
    let found = edges.iter().filter_map(|((from, to), label)| {
        let (from, to) = (*places.get(from)?, *places.get(to)?);
        Some(Edge { from, to, label: *label })
    });
    Graph {
        project: project.name.to_string(),
        edges: found.collect(),
        vertices: keys.iter().map(|(part, name)| vertex(project, *part, name)).collect(),
    }
}

fn vertex(project: &Project, part: Part, name: &Name) -> Vertex {
    let notes = match part {
        Part::Container => project.containers.get(name).map(notes).unwrap_or_default(),
        Part::Network if project.networks.get(name).is_some_and(|network| network.internal) => vec!["internal".to_owned()],
        Part::Image | Part::Network | Part::Volume => Vec::new(),
    };
    Vertex { part, name: name.to_string(), notes }
}

/// What is said about a container: how many there are, and where it is reached.
fn notes(container: &Container) -> Vec<String> {
    let mut notes = Vec::new();
    if container.job.is_some() {
        notes.push("a job".to_owned());
    }
    if container.replicas != 1 {
        notes.push(format!("{} replicas", container.replicas));
    }
    if container.namespaces.network == NetworkMode::Host {
        notes.push("on the host's network".to_owned());
    }
    notes.extend(container.publish.iter().take(PORTS).map(published));
    if container.publish.len() > PORTS {
        notes.push(format!("and {} more ports", container.publish.len() - PORTS));
    }
    notes
}

fn published(publish: &Publish) -> String {
    let range = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let protocol = match publish.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    };
    format!("{}:{} → {}{protocol}", publish.address, range(publish.host), range(publish.to))
}

fn edges(project: &Project) -> BTreeMap<(Key, Key), Option<&'static str>> {
    let mut found = BTreeMap::new();
    for (name, image) in &project.images {
        for other in image.needs() {
            found.insert(((Part::Image, name.clone()), (Part::Image, other.clone())), None);
        }
    }
    for (name, container) in &project.containers {
        let mut add = |part: Part, to: &Name, label: Option<&'static str>| {
            found.entry(((Part::Container, name.clone()), (part, to.clone()))).or_insert(label);
        };
        add(Part::Image, &container.image, None);
        for attachment in attachments(container) {
            add(Part::Network, &attachment.network, None);
        }
        for mount in &container.mounts {
            match &mount.source {
                MountSource::Volume(volume) => add(Part::Volume, volume, None),
                MountSource::Image(image) => add(Part::Image, image, Some("mounts")),
                MountSource::Bind(_) => {}
            }
        }
        for (needed, until) in &container.depends_on {
            let is_job = project.containers.get(needed).is_some_and(|needed| needed.job.is_some());
            add(Part::Container, needed, Some(if is_job { "done" } else { word(*until) }));
        }
    }
    found
}

fn word(until: Until) -> &'static str {
    match until {
        Until::Started => "started",
        Until::Healthy => "healthy",
        Until::Completed => "completed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::project_of;

    #[test]
    fn it_has_what_the_project_has_and_what_it_implies() {
        let text = "project \"p\"\nimage \"a\" { from \"b\"; }\nimage \"b\" { }\nvolume \"unused\"\n\
                    container \"one\" { image \"a\"; publish 53 to=5353 protocol=\"udp\"; mount image=\"b\" to=\"/b\"; }\n\
                    container \"two\" { image \"b\"; replicas 3; depends-on \"one\"; }\n";
        let project = project_of(text);
        let graph = graph(&project);
        let shown = |at: usize| format!("{} {}", graph.vertices[at].part.word(), graph.vertices[at].name);
        let all: Vec<String> = (0..graph.vertices.len()).map(shown).collect();
        assert_eq!(all, ["container one", "container two", "image a", "image b", "network default", "volume unused"]);
        assert_eq!(graph.vertices[0].notes, ["127.0.0.1:53 → 5353/udp"]);
        assert_eq!(graph.vertices[1].notes, ["3 replicas"]);
        let lines = |edge: &Edge| format!("{} > {} {}", shown(edge.from), shown(edge.to), edge.label.unwrap_or("-"));
        assert_eq!(
            graph.edges.iter().map(lines).collect::<Vec<_>>(),
            [
                "container one > image a -",
                "container one > image b mounts",
                "container one > network default -",
                "container two > container one started",
                "container two > image b -",
                "container two > network default -",
                "image a > image b -",
            ]
        );
    }
}

//! Checked nodes → the typed project and the places of its parts.
//!
//! The grammar has checked structure and kinds, so a value that is missing here has been reported
//! already; decoders then leave the part out and continue.

mod container;
mod image;
mod limits;
mod step;
mod values;

use self::values::*;
use super::assemble::Assembled;
use super::diagnose::{Diagnostic, Sink};
use super::dockerfile::Request;
use super::grammar::{self, Node, row};
use super::language::TOP;
use super::tree::{Entry, Tree, Value};
use crate::model::{Duration, Location, Name, Pattern, Size, Subnet, capability, nearest, nearest_signal, signal_number};
use crate::project::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Decodes everything; `later` gets what is understood but not implemented yet.
pub fn project(file: &str, assembled: &Assembled, sink: &mut Sink, later: &mut Sink) -> (Project, Locations, Vec<Request>) {
    for tree in &assembled.nodes {
        note_later(tree, TOP, later);
    }
    let (images, jobs, dockerfiles, outside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut decoder = Decoder { sink, places: Locations::default(), images, jobs, dockerfiles, outside };
    let mut project = decoder.project(file, &assembled.nodes);
    project.variables.clone_from(&assembled.values.env);
    project.settings =
        assembled.values.settings.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    project.given.clone_from(&assembled.given);
    project.parameters.clone_from(&assembled.values.sources);
    for (tree, profile) in &assembled.unchosen {
        let Some(name) = tree.name() else { continue };
        let (of, kind) = match tree.name.as_str() {
            "network" => (&mut project.unchosen.networks, "network"),
            _ => (&mut project.unchosen.containers, "container"),
        };
        decoder.places.insert(NodePath::unchosen(kind, &name), tree.first_place());
        of.entry(name).or_insert_with(|| profile.clone());
    }
    (project, decoder.places, decoder.dockerfiles)
}

/// A container of an image with only the defaults of the table; `None` if the table lacks a default that it needs.
pub fn container_of(image: Name) -> Option<Container> {
    let node = |name: &str, word: &Name, children| {
        let place = Location { file: String::new(), line: 0, offset: 0, length: 0 };
        let word = Entry { value: Value::Text(word.to_string()), place: place.clone(), name: 0, written: None };
        Tree { name: name.into(), place, whole: 0..0, block: None, args: vec![word], props: Vec::new(), children }
    };
    let mut tree = node("container", &image, vec![node("image", &image, Vec::new())]);
    grammar::complete(&mut tree, TOP);
    let (mut sink, images) = (Sink::default(), vec![image.to_string()]);
    let (places, jobs, dockerfiles, outside) = (Locations::default(), Vec::new(), Vec::new(), Vec::new());
    let mut decoder = Decoder { sink: &mut sink, places, images, jobs, dockerfiles, outside };
    // The image's name may be one that users cannot write, so it is not decoded from the node.
    decoder.container_with(&tree, image)
}

/// Lets everything that mounts a volume wait for the job that fills it. A job that itself waits for such a container is reported
/// elsewhere.
fn wait_for_seeds(project: &mut Project) {
    let seeds: Vec<(Name, Name)> =
        project.volumes.iter().filter_map(|(volume, declared)| Some((volume.clone(), declared.seed.clone()?))).collect();
    for (volume, job) in seeds {
        let is_job = project.containers.get(&job).is_some_and(|container| container.job.is_some());
        let needed = project.needed_by(&job);
        let users = project
            .containers
            .iter_mut()
            .filter(|(name, container)| is_job && **name != job && !needed.contains(*name) && container.mounts_volume(&volume));
        for (_, container) in users {
            container.depends_on.entry(job.clone()).or_insert(Until::Completed);
        }
    }
}

fn note_later(tree: &Tree, rows: &'static [Node], later: &mut Sink) {
    let Some(row) = row(rows, &tree.name) else { return };
    if row.later {
        later.push(unsupported(&tree.place, &format!("`{}`", tree.name)));
        return;
    }
    for child in &tree.children {
        note_later(child, row.children, later);
    }
}

fn unsupported(place: &Location, what: &str) -> Diagnostic {
    Diagnostic::error("not-supported-yet", place.clone(), format!("{what} is not supported yet"))
        .help("the file is valid; remove this to run it with this version")
}

struct Decoder<'a> {
    sink: &'a mut Sink,
    places: Locations,
    images: Vec<String>,
    /// The names of the jobs.
    jobs: Vec<String>,
    dockerfiles: Vec<Request>,
    /// References of images from elsewhere.
    outside: Vec<String>,
}

impl Decoder<'_> {
    fn project(&mut self, file: &str, nodes: &[Tree]) -> Project {
        let head = nodes.iter().find(|node| node.name == "project");
        // The name may be in a part that could not be read, and for a file in another language the syntax errors say enough.
        let foreign = nodes.is_empty() && !self.sink.all().is_empty();
        if head.is_none() && !self.sink.is_partial() && !foreign {
            let place = Location { file: file.to_owned(), line: 1, offset: 0, length: 0 };
            let diagnostic = Diagnostic::error("no-project", place, "the project has no name");
            self.sink.push(diagnostic.help("begin the file with: project \"NAME\""));
        }
        let named =
            |kind: &str| -> Vec<String> { nodes.iter().filter(|node| node.name == kind).filter_map(Tree::text).collect() };
        (self.images, self.jobs) = (named("image"), named("job"));
        if let Some(head) = head {
            self.places.insert(NodePath::project(), head.place.clone());
        }
        for node in nodes.iter().filter(|node| node.name == "param") {
            if let Some(variable) = node.prop_text("env") {
                self.places.insert(NodePath::variable(&variable), node.place.clone());
            }
        }
        let mut mirrors = Vec::new();
        for (index, node) in nodes.iter().filter(|node| node.name == "mirror").enumerate() {
            self.places.insert(NodePath::mirror(index), node.place.clone());
            mirrors.push(Mirror { places: node.words(), suite: node.prop_text("suite") });
        }
        let mut project = Project {
            images: self.named(nodes, "image", Self::image),
            containers: self.containers(nodes),
            networks: self.named(nodes, "network", Self::network),
            volumes: self.named(nodes, "volume", Self::volume),
            secrets: self.named(nodes, "secret", |_, node, _| node.prop_text("file")),
            configs: self.named(nodes, "config", Self::config),
            tasks: self.named(nodes, "task", Self::task),
            mirrors,
            variables: BTreeMap::new(),
            settings: BTreeMap::new(),
            given: BTreeMap::new(),
            parameters: BTreeMap::new(),
            unchosen: Unchosen::default(),
            name: head.and_then(Tree::name).unwrap_or_else(Name::none),
        };
        for reference in &self.outside {
            project.add_outside(reference);
        }
        wait_for_seeds(&mut project);
        project
    }

    /// Decodes containers and jobs, which share their names. A job is found at the place of a container of its name, too, so
    /// that whatever is said of one of them has its place.
    fn containers(&mut self, nodes: &[Tree]) -> BTreeMap<Name, Container> {
        let mut found = self.named(nodes, "container", Self::container);
        for node in nodes.iter().filter(|node| node.name == "job") {
            let Some(name) = node.name() else { continue };
            let (own, path) = (NodePath::declared("job", &name), NodePath::container(&name));
            if let Some(first) = self.places.exactly(&path).cloned() {
                let (message, there) = match self.places.exactly(&own) {
                    Some(_) => (format!("there are two jobs named \"{name}\""), "first here"),
                    None => (format!("the job \"{name}\" has the name of a container"), "that one"),
                };
                let diagnostic = Diagnostic::error("duplicate", node.first_place(), message).other(first, there);
                self.sink.push(diagnostic.help("give one of them another name"));
                continue;
            }
            self.places.insert(own, node.first_place());
            self.places.insert(path.clone(), node.first_place());
            if let Some(job) = self.job(node, &path) {
                found.insert(name, job);
            }
        }
        found
    }

    /// Decodes all nodes of a kind, and reports duplicate names.
    fn named<T>(
        &mut self,
        nodes: &[Tree],
        kind: &'static str,
        decode: impl Fn(&mut Self, &Tree, &NodePath) -> Option<T>,
    ) -> BTreeMap<Name, T> {
        let mut found = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.name == kind) {
            let Some(name) = node.name() else { continue };
            let path = NodePath::declared(kind, &name);
            if let Some(first) = self.places.exactly(&path) {
                self.sink.push(
                    Diagnostic::error("duplicate", node.first_place(), format!("there are two {kind}s named \"{name}\""))
                        .other(first.clone(), "first here")
                        .help("give one of them another name"),
                );
                continue;
            }
            self.places.insert(path.clone(), node.first_place());
            if let Some(value) = decode(self, node, &path) {
                found.insert(name, value);
            }
        }
        found
    }

    /// The image that a node names: one of the project, or one from elsewhere.
    fn image_ref(&mut self, node: &Tree) -> Option<Name> {
        self.image_named(&node.text()?, &node.first_place())
    }

    /// The image of this name: one of the project, or one from elsewhere, unless it looks like one of the project.
    fn image_named(&mut self, text: &str, place: &Location) -> Option<Name> {
        if self.images.iter().any(|image| image == text) {
            return Name::parse(text).ok();
        }
        let plain = !text.contains(['/', ':', '.', '@']);
        if let Some(near) = nearest(text, self.images.iter().map(String::as_str)).filter(|_| plain && !self.sink.is_partial()) {
            self.sink.push(
                Diagnostic::error("unknown-image", place.clone(), format!("there is no image \"{text}\""))
                    .help(format!("write \"{near}\"; for an image of a registry, write its tag too: \"{text}:latest\"")),
            );
            return None;
        }
        Some(self.outside(text, place))
    }

    /// Notes an image from elsewhere, with the first place that names it.
    fn outside(&mut self, reference: &str, place: &Location) -> Name {
        let name = Name::of_reference(reference);
        self.places.insert_first(NodePath::image(&name), place);
        self.outside.push(reference.to_owned());
        name
    }

    /// Decodes a user: strict numbers or a name, never something that could be taken for both (CVE-2026-30892).
    fn user(&mut self, node: &Tree) -> Option<String> {
        self.user_text(node.text()?, node.first_place())
    }

    fn user_text(&mut self, text: String, place: Location) -> Option<String> {
        let bad = text.split(':').any(|part| {
            part.is_empty()
                || part.chars().any(|c| c.is_control() || c == '/')
                || (part.starts_with(|c: char| c.is_ascii_digit()) && part.parse::<u32>().is_err_and(|_| true))
        });
        if bad || text.matches(':').count() > 1 {
            self.sink.push(
                Diagnostic::error("wrong-value", place, format!("{text:?} is not a user"))
                    .help("write a name or a number from 0 to 4294967294, with `:group` if wanted"),
            );
            return None;
        }
        Some(text)
    }

    fn absolute(&mut self, node: &Tree) -> Option<String> {
        let text = node.text()?;
        self.must_be_absolute(&text, &node.first_place()).then_some(text)
    }

    fn must_be_absolute(&mut self, text: &str, place: &Location) -> bool {
        let fine = text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if !fine {
            self.sink.push(
                Diagnostic::error("wrong-value", place.clone(), format!("{text:?} is not an absolute path in the container"))
                    .help(format!("write \"/{}\"", text.trim_start_matches(['.', '/']))),
            );
        }
        fine
    }

    /// Checks the name of a variable: with others, the environment would be read as something else.
    fn is_variable(&mut self, name: &str, entry: &Entry) {
        let wrong = if name.is_empty() {
            "a variable has a name".to_owned()
        } else if name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
            format!("{name:?} is not the name of a variable")
        } else {
            return;
        };
        let help = "a name has neither `=` nor white space: env NAME=\"value\"";
        self.sink.push(Diagnostic::error("wrong-value", entry.name_place(), wrong).help(help));
    }

    fn signal(&mut self, node: &Tree) -> Option<String> {
        let text = node.text()?;
        if signal_number(&text).is_some() {
            let upper = text.to_uppercase();
            return Some(upper.strip_prefix("SIG").unwrap_or(&upper).to_owned());
        }
        let near = nearest_signal(&text)
            .map_or("for example: \"TERM\", \"HUP\", \"RTMIN+3\"".into(), |near| format!("write \"{near}\""));
        self.sink.push(Diagnostic::error("wrong-value", node.first_place(), format!("{text:?} is not a signal")).help(near));
        None
    }

    fn health(&mut self, node: &Tree) -> Option<Health> {
        let span = |name: &str| node.prop(name).and_then(as_span);
        let probes: Vec<&Tree> = node.children.iter().collect();
        let probe = match (node.text().as_deref(), probes.as_slice()) {
            (Some("none"), []) => Probe::None,
            // It has been reported.
            (Some(word), []) if word != "none" => return None,
            (None, [probe]) => match probe.name.as_str() {
                "exec" => Probe::Exec(probe.words()),
                "http" => Probe::Http {
                    port: probe.arg(0).and_then(as_u32).and_then(|port| u16::try_from(port).ok())?,
                    path: probe.prop_text("path")?,
                },
                _ => Probe::Tcp(probe.arg(0).and_then(as_u32).and_then(|port| u16::try_from(port).ok())?),
            },
            (_, probes) => {
                let message = if probes.len() > 1 {
                    "a health check is one of exec, http, tcp"
                } else {
                    "this health check checks nothing"
                };
                let diagnostic =
                    Diagnostic::error("healthcheck", probes.get(1).map_or(&node.place, |second| &second.place).clone(), message);
                node.lacks(diagnostic.help("for example: healthcheck { tcp 6379 }"), self.sink);
                return None;
            }
        };
        Some(Health {
            probe,
            interval: span("interval")?,
            timeout: span("timeout")?,
            retries: node.prop("retries").and_then(as_u32)?,
            start_period: span("start-period")?,
            start_interval: span("start-interval")?,
        })
    }

    fn network(&mut self, node: &Tree, _: &NodePath) -> Option<Network> {
        let subnet = node.prop_text("subnet").and_then(|text| Subnet::parse(&text).ok());
        let gateway = node.prop("gateway").and_then(as_address);
        if let Some(gateway) = gateway
            && !subnet.is_some_and(|subnet| subnet.contains(gateway))
        {
            let diagnostic =
                Diagnostic::error("wrong-value", node.prop_place("gateway"), "the gateway must lie in the network's `subnet=`");
            self.sink.push(diagnostic);
        }
        Some(Network {
            internal: node.flag("internal")?,
            subnet,
            gateway,
            mtu: node.prop("mtu").and_then(as_u32),
            external: node.prop_text("external"),
            labels: free(node, "label"),
        })
    }

    fn volume(&mut self, node: &Tree, path: &NodePath) -> Option<Volume> {
        let seed = node.child("seed").and_then(|child| {
            self.places.insert(path.clone().node("seed"), child.place.clone());
            let text = child.prop_text("from")?;
            let job = text.strip_prefix("job:").and_then(|name| Name::parse(name).ok());
            if job.is_none() {
                let near = nearest(&text, self.jobs.iter().map(String::as_str)).unwrap_or("NAME");
                let diagnostic = Diagnostic::error("wrong-value", child.prop_place("from"), format!("{text:?} names no job"));
                self.sink.push(diagnostic.help(format!("a volume is filled by a job: from=\"job:{near}\"")));
            }
            job
        });
        Some(Volume { labels: free(node, "label"), seed })
    }

    fn task(&mut self, node: &Tree, path: &NodePath) -> Option<NamedCommand> {
        for child in &node.children {
            self.places.insert_first(path.clone().node(child.name.clone()), &child.place);
        }
        let mut lacking = |what: &str, example: &str| {
            let missing = Diagnostic::error("task", node.place.clone(), format!("this task has no {what}"));
            node.lacks(missing.help(format!("for example: {example}")), self.sink);
        };
        let container = node.child("container");
        if container.is_none() {
            lacking("container", "container \"web\"");
        }
        let cmd = node.child("cmd").map(Tree::words).unwrap_or_default();
        if node.child("cmd").is_none_or(|child| child.args.is_empty()) {
            lacking("command", "cmd \"flask\" \"db\" \"upgrade\"");
        }
        let (env, workdir, user) = (
            self.environment(node),
            node.child("workdir").and_then(|child| self.absolute(child)),
            node.child("user").and_then(|child| self.user(child)),
        );
        Some(NamedCommand { container: container.and_then(Tree::name)?, cmd, env, workdir, user })
    }

    fn config(&mut self, node: &Tree, _: &NodePath) -> Option<ConfigSource> {
        match (node.prop_text("file"), node.child("content").and_then(Tree::text)) {
            (Some(file), None) => Some(ConfigSource::File(file)),
            (None, Some(content)) => Some(ConfigSource::Content(content)),
            _ => {
                let missing = Diagnostic::error("config", node.place.clone(), "a config has either `file=` or `content`");
                node.lacks(missing.help("for example: config \"motd\" { content \"hello\" }"), self.sink);
                None
            }
        }
    }
}

/// All properties of all nodes with this name, as text.
fn free(node: &Tree, name: &str) -> BTreeMap<String, String> {
    node.all(name).flat_map(|child| &child.props).map(|(key, entry)| (key.clone(), entry.text())).collect()
}

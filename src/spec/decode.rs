//! Checked nodes → the typed project and the places of its parts.
//!
//! Structure and kinds were checked by the grammar, so a value that is missing here has been
//! reported already; decoders then leave the part out and go on.

use super::assemble::{Assembled, plain};
use super::diagnose::{Diagnostic, Sink};
use super::grammar::{self, Node, row};
use super::language::TOP;
use super::project::*;
use super::tree::{Tree, Value};
use crate::model::{Name, Place, Size, Span, Subnet, capability, nearest};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Decodes everything; `later` gets what is understood and not carried out yet.
pub fn project(file: &str, assembled: &Assembled, sink: &mut Sink, later: &mut Sink) -> (Option<Project>, Places) {
    for tree in &assembled.nodes {
        note_later(tree, TOP, later);
    }
    let mut decoder = Decoder { sink, later, places: Places::default(), images: Vec::new() };
    let project = decoder.project(file, &assembled.nodes);
    (project, decoder.places)
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

fn unsupported(place: &Place, what: &str) -> Diagnostic {
    Diagnostic::error("not-supported-yet", place.clone(), format!("{what} is not supported yet"))
        .help("the file is right; take this out to run it with this version")
}

/// Docker's own least: below it no container starts.
const LEAST_MEMORY: Size = Size::mib(6);

struct Decoder<'a> {
    sink: &'a mut Sink,
    later: &'a mut Sink,
    places: Places,
    images: Vec<String>,
}

impl Tree {
    fn arg(&self, index: usize) -> Option<&Value> {
        self.args.get(index).map(|entry| &entry.value)
    }

    fn text(&self) -> Option<String> {
        self.arg(0).and_then(as_text)
    }

    fn words(&self) -> Vec<String> {
        self.args.iter().filter_map(|entry| as_text(&entry.value)).collect()
    }

    fn name(&self) -> Option<Name> {
        Name::parse(&self.text()?).ok()
    }

    fn prop(&self, name: &str) -> Option<&Value> {
        self.props.iter().find(|(other, _)| other == name).map(|(_, entry)| &entry.value)
    }

    fn prop_text(&self, name: &str) -> Option<String> {
        self.prop(name).and_then(as_text)
    }

    fn prop_place(&self, name: &str) -> Place {
        let found = self.props.iter().find(|(other, _)| other == name);
        found.map_or(&self.place, |(_, entry)| &entry.place).clone()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.prop(name).and_then(as_flag)
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    fn first_place(&self) -> Place {
        self.args.first().map_or(&self.place, |entry| &entry.place).clone()
    }
}

fn as_text(value: &Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text.clone()) } else { None }
}

fn as_flag(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

fn as_u32(value: &Value) -> Option<u32> {
    if let Value::Integer(number) = value { u32::try_from(*number).ok() } else { None }
}

fn as_i32(value: &Value) -> Option<i32> {
    if let Value::Integer(number) = value { i32::try_from(*number).ok() } else { None }
}

fn as_span(value: &Value) -> Option<Span> {
    Span::parse(&as_text(value)?).ok()
}

fn as_size(value: &Value) -> Option<Size> {
    Size::parse(&as_text(value)?).ok()
}

fn as_address(value: &Value) -> Option<Ipv4Addr> {
    as_text(value)?.parse().ok()
}

fn as_mode(value: &Value) -> Option<u32> {
    grammar::mode(&as_text(value)?)
}

impl Decoder<'_> {
    fn project(&mut self, file: &str, nodes: &[Tree]) -> Option<Project> {
        let Some(head) = nodes.iter().find(|node| node.name == "project") else {
            let place = Place { file: file.to_owned(), line: 1, offset: 0, length: 0 };
            // A file that is not KDL has no nodes; its own error says enough.
            if !nodes.is_empty() || self.sink.all().is_empty() {
                let diagnostic = Diagnostic::error("no-project", place, "the project has no name");
                self.sink.push(diagnostic.help("begin the file with: project \"NAME\""));
            }
            return None;
        };
        self.images = nodes.iter().filter(|node| node.name == "image").filter_map(Tree::text).collect();
        self.places.0.insert("project".into(), head.place.clone());
        let mut mirrors = Vec::new();
        for (index, node) in nodes.iter().filter(|node| node.name == "mirror").enumerate() {
            self.places.0.insert(format!("mirror.{index}"), node.place.clone());
            mirrors.push(Mirror { places: node.words(), suite: node.prop_text("suite") });
        }
        for job in nodes.iter().filter(|node| node.name == "job") {
            self.places.0.insert(format!("job.{}", job.text().unwrap_or_default()), job.place.clone());
        }
        Some(Project {
            images: self.named(nodes, "image", Self::image),
            containers: self.named(nodes, "container", Self::container),
            networks: self.named(nodes, "network", Self::network),
            volumes: self.named(nodes, "volume", |_, node, _| Some(Volume { labels: free(node, "label") })),
            secrets: self.named(nodes, "secret", |_, node, _| node.prop_text("file")),
            configs: self.named(nodes, "config", Self::config),
            mirrors,
            name: head.name()?,
        })
    }

    /// Decodes all nodes of a kind, and reports those that share a name.
    fn named<T>(
        &mut self,
        nodes: &[Tree],
        kind: &str,
        decode: impl Fn(&mut Self, &Tree, &str) -> Option<T>,
    ) -> BTreeMap<Name, T> {
        let mut found = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.name == kind) {
            let Some(name) = node.name() else { continue };
            let path = format!("{kind}.{name}");
            if let Some(first) = self.places.0.get(&path) {
                self.sink.push(
                    Diagnostic::error("duplicate", node.first_place(), format!("there are two {kind}s named \"{name}\""))
                        .other(first.clone(), "first here")
                        .help("give one of them another name"),
                );
                continue;
            }
            self.places.0.insert(path.clone(), node.first_place());
            if let Some(value) = decode(self, node, &path) {
                found.insert(name, value);
            }
        }
        found
    }

    fn image_ref(&mut self, node: &Tree) -> Option<ImageRef> {
        let text = node.text()?;
        if self.images.contains(&text) {
            return Name::parse(&text).ok().map(ImageRef::Project);
        }
        let plain = !text.contains(['/', ':', '.', '@']);
        if let Some(near) = nearest(&text, self.images.iter().map(String::as_str)).filter(|_| plain) {
            self.sink.push(
                Diagnostic::error("unknown-image", node.first_place(), format!("there is no image \"{text}\""))
                    .help(format!("write \"{near}\"; for an image of a registry, write its tag too: \"{text}:latest\"")),
            );
            return None;
        }
        self.later
            .push(unsupported(&node.first_place(), &format!("\"{text}\" is no `image` of this project, and a registry's image")));
        Some(ImageRef::Registry(text))
    }

    fn image(&mut self, node: &Tree, path: &str) -> Option<Image> {
        let from = match node.child("from") {
            Some(from) if from.text().as_deref() == Some("scratch") => Base::Scratch,
            Some(from) => {
                self.places.0.insert(format!("{path}.from"), from.first_place());
                match self.image_ref(from)? {
                    ImageRef::Project(name) => Base::Image(name),
                    ImageRef::Registry(text) => Base::Registry(text),
                }
            }
            None => Base::Scratch,
        };
        let mut steps = Vec::new();
        for child in &node.children {
            if let Some(step) = self.step(child) {
                let step_path = format!("{path}.step{}", steps.len());
                self.places.0.insert(step_path.clone(), child.place.clone());
                if matches!(step, Step::Copy(_)) {
                    for (index, entry) in child.args.iter().enumerate() {
                        self.places.0.insert(format!("{step_path}.source{index}"), entry.place.clone());
                    }
                }
                if let Step::Debian(_) = step {
                    self.places.0.insert(format!("{step_path}.suite"), child.first_place());
                    for entry in child.all("package").flat_map(|package| &package.args) {
                        self.places.0.insert(format!("{step_path}.package.{}", plain(&entry.value)), entry.place.clone());
                    }
                }
                match &step {
                    Step::Env(_) => {
                        for (name, entry) in &child.props {
                            self.places.0.insert(format!("{path}.env.{name}"), entry.place.clone());
                        }
                    }
                    Step::Workdir(_) | Step::User(_) | Step::Shell(_) | Step::Arg(_) => {
                        self.places.0.insert(format!("{path}.{}", child.name), child.place.clone());
                    }
                    _ => {}
                }
                steps.push(step);
            }
        }
        let words = |name: &str| node.child(name).map(Tree::words);
        for name in ["cmd", "entrypoint", "healthcheck", "stop-signal", "expose", "label", "volume"] {
            if let Some(child) = node.child(name) {
                self.places.0.insert(format!("{path}.{name}"), child.place.clone());
            }
        }
        Some(Image {
            from,
            steps,
            cmd: words("cmd"),
            entrypoint: words("entrypoint"),
            expose: self.exposed(node),
            labels: free(node, "label"),
            volumes: node.all("volume").flat_map(Tree::words).collect(),
            stop_signal: node.child("stop-signal").and_then(|child| self.signal(child)),
            healthcheck: node.child("healthcheck").and_then(|child| self.health(child)),
        })
    }

    fn exposed(&mut self, node: &Tree) -> Vec<(u16, u16)> {
        node.all("expose").flat_map(|child| &child.args).filter_map(|entry| grammar::ports(&entry.value).ok()).collect()
    }

    fn step(&mut self, node: &Tree) -> Option<Step> {
        Some(match node.name.as_str() {
            "debian" => Step::Debian(self.debian(node)?),
            "copy" => Step::Copy(Copy {
                sources: node.words(),
                to: node.prop_text("to")?,
                from: match node.prop_text("from") {
                    Some(text) if self.images.contains(&text) => Name::parse(&text).ok(),
                    Some(text) => {
                        let near =
                            nearest(&text, self.images.iter().map(String::as_str)).map(|near| format!("write from=\"{near}\""));
                        let message = format!("there is no image \"{text}\" to copy from");
                        self.sink.push(Diagnostic::error("unknown-image", node.prop_place("from"), message).maybe_help(near));
                        return None;
                    }
                    None => None,
                },
                owner: node.prop_text("owner"),
                mode: node.prop("mode").and_then(as_mode),
            }),
            "run" => Step::Run(Run { words: node.words(), network: node.flag("network").unwrap_or(false) }),
            "env" => Step::Env(node.props.iter().map(|(name, entry)| (name.clone(), plain(&entry.value))).collect()),
            "arg" => Step::Arg(node.props.iter().map(|(name, entry)| (name.clone(), plain(&entry.value))).collect()),
            "workdir" => Step::Workdir(self.absolute(node)?),
            "user" => Step::User(self.user(node)?),
            "shell" => Step::Shell(node.words()),
            _ => return None,
        })
    }

    fn debian(&mut self, node: &Tree) -> Option<Debian> {
        let flag = |name: &str| node.child(name).and_then(|child| child.arg(0)).and_then(as_flag);
        for entry in node.all("package").flat_map(|package| &package.args) {
            let Value::Text(text) = &entry.value else { continue };
            let legal = text.len() >= 2
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
            if !legal {
                let (name, rest) = text.split_at(text.find(['=', ':', ' ', '/']).unwrap_or(text.len()));
                let help = if rest.starts_with('=') {
                    format!("write \"{name}\"; the lock pins versions, `stead update` moves them")
                } else {
                    "package names have lowercase letters, digits, `+`, `-` and `.`".to_owned()
                };
                let message = format!("\"{text}\" is not the name of a package");
                self.sink.push(Diagnostic::error("package-name", entry.place.clone(), message).help(help));
            }
        }
        let mut packages: Vec<String> = node.all("package").flat_map(Tree::words).collect();
        packages.sort();
        packages.dedup();
        Some(Debian {
            suite: node.text()?,
            packages,
            essential: flag("essential").unwrap_or(true),
            recommends: flag("recommends").unwrap_or(false),
            components: node.child("component").map_or_else(|| vec!["main".into()], Tree::words),
            mirror: node.prop_text("mirror"),
            key: node.prop_text("key"),
        })
    }

    /// A user: strict numbers or a name, never something that could be read as both (CVE-2026-30892).
    fn user(&mut self, node: &Tree) -> Option<String> {
        let text = node.text()?;
        let bad = text.split(':').any(|part| {
            part.is_empty()
                || part.chars().any(|c| c.is_control() || c == '/')
                || (part.starts_with(|c: char| c.is_ascii_digit()) && part.parse::<u32>().is_err_and(|_| true))
        });
        if bad || text.matches(':').count() > 1 {
            self.sink.push(
                Diagnostic::error("wrong-value", node.first_place(), format!("{text:?} is not a user"))
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

    fn must_be_absolute(&mut self, text: &str, place: &Place) -> bool {
        let fine = text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if !fine {
            self.sink.push(
                Diagnostic::error("wrong-value", place.clone(), format!("{text:?} is not an absolute path in the container"))
                    .help(format!("write \"/{}\"", text.trim_start_matches(['.', '/']))),
            );
        }
        fine
    }

    fn signal(&mut self, node: &Tree) -> Option<String> {
        let text = node.text()?;
        let short = text.to_uppercase();
        let short = short.strip_prefix("SIG").unwrap_or(&short);
        if SIGNALS.contains(&short) {
            return Some(short.to_owned());
        }
        let near = nearest(&short.to_lowercase(), LOWER_SIGNALS.iter().copied())
            .map(|near| format!("write \"{}\"", near.to_uppercase()));
        self.sink
            .push(Diagnostic::error("wrong-value", node.first_place(), format!("{text:?} is not a signal")).maybe_help(near));
        None
    }

    fn health(&mut self, node: &Tree) -> Option<Health> {
        let span = |name: &str, default: Span| node.prop(name).and_then(as_span).unwrap_or(default);
        let probes: Vec<&Tree> = node.children.iter().collect();
        let probe = match (node.text().as_deref(), probes.as_slice()) {
            (Some("none"), []) => Probe::None,
            (None, [probe]) => match probe.name.as_str() {
                "exec" => Probe::Exec(probe.words()),
                "http" => Probe::Http {
                    port: probe.arg(0).and_then(as_u32).and_then(|port| u16::try_from(port).ok())?,
                    path: probe.prop_text("path").unwrap_or_else(|| "/".into()),
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
                self.sink.push(diagnostic.help("for example: healthcheck { tcp 6379 }"));
                return None;
            }
        };
        Some(Health {
            probe,
            interval: span("interval", Span::seconds(10)),
            timeout: span("timeout", Span::seconds(5)),
            retries: node.prop("retries").and_then(as_u32).unwrap_or(3),
            start_period: span("start-period", Span(0)),
            start_interval: span("start-interval", Span(250)),
        })
    }

    fn container(&mut self, node: &Tree, path: &str) -> Option<Container> {
        for child in &node.children {
            self.places.0.entry(format!("{path}.{}", child.name)).or_insert_with(|| child.place.clone());
            if matches!(child.name.as_str(), "limits" | "security") {
                for inner in &child.children {
                    self.places.0.entry(format!("{path}.{}.{}", child.name, inner.name)).or_insert_with(|| inner.place.clone());
                }
            }
            if child.name == "env" {
                for (name, entry) in &child.props {
                    self.places.0.insert(format!("{path}.env.{name}"), entry.place.clone());
                }
            }
            for keyed in ["mount", "secret", "config", "tmpfs", "publish", "depends-on", "network", "env-file"] {
                if child.name == keyed {
                    let key = child
                        .prop_text("to")
                        .filter(|_| keyed == "mount")
                        .or_else(|| child.args.first().map(|arg| plain(&arg.value)));
                    self.places.0.insert(format!("{path}.{keyed}.{}", key.unwrap_or_default()), child.place.clone());
                }
            }
        }
        let Some(image) = node.child("image") else {
            let help = self
                .images
                .first()
                .map_or("for example: image \"app\"".to_owned(), |name| format!("for example: image \"{name}\""));
            self.sink.push(Diagnostic::error("no-image", node.place.clone(), "this container has no image").help(help));
            return None;
        };
        let words = |name: &str| node.child(name).map(Tree::words);
        let flag = |name: &str| node.child(name).and_then(|child| child.arg(0)).and_then(as_flag).unwrap_or(false);
        let hooks = |event: &str| -> Vec<Vec<String>> {
            node.all("on")
                .filter(|on| on.text().as_deref() == Some(event))
                .flat_map(|on| on.all("exec"))
                .map(Tree::words)
                .collect()
        };
        Some(Container {
            image: self.image_ref(image)?,
            cmd: words("cmd"),
            entrypoint: words("entrypoint"),
            env: self.environment(node),
            env_files: node
                .all("env-file")
                .filter_map(|child| Some(EnvFile { path: child.text()?, required: child.flag("required").unwrap_or(true) }))
                .collect(),
            workdir: node.child("workdir").and_then(|child| self.absolute(child)),
            user: node.child("user").and_then(|child| self.user(child)),
            groups: node.all("group-add").flat_map(Tree::words).collect(),
            hostname: node.child("hostname").and_then(Tree::name),
            replicas: node.child("replicas").and_then(|child| child.arg(0)).and_then(as_u32).unwrap_or(1),
            networks: self.attachments(node),
            publish: node.all("publish").filter_map(|child| self.publish(child)).collect(),
            mounts: node.all("mount").filter_map(|child| self.mount(child)).collect(),
            tmpfs: node.all("tmpfs").filter_map(|child| self.tmpfs(child)).collect(),
            secrets: node.all("secret").filter_map(|child| self.file_use(child, "/run/secrets", 0o400)).collect(),
            configs: node.all("config").filter_map(|child| self.file_use(child, "/run/configs", 0o444)).collect(),
            depends_on: self.dependencies(node),
            healthcheck: node.child("healthcheck").and_then(|child| self.health(child)),
            restart: node.child("restart").map(|child| self.restart(child)).unwrap_or_default(),
            restart_unhealthy: node.child("restart").and_then(|child| child.flag("unhealthy")).unwrap_or(false),
            limits: node.child("limits").map(|child| self.limits(child)).unwrap_or_default(),
            security: node.child("security").map(|child| self.security(child)).unwrap_or_default(),
            devices: node
                .all("device")
                .filter_map(|child| child.text().map(|path| (path.clone(), child.prop_text("to").unwrap_or(path))))
                .collect(),
            sysctls: free(node, "sysctl"),
            stop_signal: node.child("stop-signal").and_then(|child| self.signal(child)),
            stop_grace: node.child("stop-grace").and_then(|child| child.arg(0)).and_then(as_span).unwrap_or(Span::seconds(10)),
            init: flag("init"),
            tty: flag("tty"),
            log: node.child("log").map(log).unwrap_or_else(|| Log { size: Size::mib(20), files: 5, driver: None }),
            extra_hosts: node
                .all("extra-host")
                .filter_map(|child| Some((child.text()?, child.arg(1).and_then(as_text)?)))
                .collect(),
            labels: free(node, "label"),
            namespaces: node.child("namespace").map(namespaces).unwrap_or_default(),
            on_start: hooks("start"),
            on_stop: hooks("stop"),
        })
    }

    /// Limits, with what no host could apply refused.
    fn limits(&mut self, node: &Tree) -> Limits {
        let found = limits(node);
        let mut refuse = |child: Option<&Tree>, message: String, help: &str| {
            let place = child.map_or(&node.place, |child| &child.place).clone();
            self.sink.push(Diagnostic::error("wrong-value", place, message).help(help));
        };
        if let Some(memory) = found.memory.filter(|memory| memory.0 < LEAST_MEMORY.0) {
            refuse(node.child("memory"), format!("nothing starts with {memory} of memory"), "write \"6MiB\" or more");
        }
        if let (Some(reservation), Some(memory)) = (found.memory_reservation, found.memory)
            && reservation.0 > memory.0
        {
            let message = format!("{reservation} cannot be kept for a container that may use {memory}");
            refuse(node.child("memory-reservation"), message, "write at most the size of `memory`");
        }
        if found.swap.is_some() && found.memory.is_none() {
            refuse(node.child("swap"), "`swap` has no meaning without `memory`".into(), "add memory \"256MiB\"");
        }
        for (child, limit) in node.all("ulimit").zip(&found.ulimits) {
            if limit.soft > limit.hard {
                refuse(Some(child), format!("`soft` {} is above `hard` {}", limit.soft, limit.hard), "write a smaller `soft`");
            }
        }
        let empty = node.all("ulimit").find(|child| child.prop("soft").is_none() && child.prop("hard").is_none());
        if let Some(child) = empty {
            refuse(Some(child), "this ulimit says no limit".into(), "for example: ulimit \"nofile\" soft=1024 hard=2048");
        }
        for child in node.all("io").filter(|child| child.props.is_empty()) {
            refuse(Some(child), "this `io` limits nothing".into(), "for example: io \"/dev/sda\" read=\"10MiB\"");
        }
        found
    }

    fn security(&mut self, node: &Tree) -> Security {
        let flag = |name: &str| node.child(name).and_then(|child| child.arg(0)).and_then(as_flag).unwrap_or(false);
        let mut found = Security {
            seccomp: node.child("seccomp").and_then(Tree::text),
            no_new_privileges: flag("no-new-privileges"),
            privileged: flag("privileged"),
            read_only: flag("read-only"),
            ..Security::default()
        };
        for child in node.all("capability") {
            for (property, list) in [("add", &mut found.add), ("drop", &mut found.drop)] {
                let Some(text) = child.prop_text(property) else { continue };
                let upper = text.to_uppercase();
                let name = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
                if name == "ALL" || capability::number(&name).is_some() {
                    list.push(name);
                    continue;
                }
                let known: Vec<String> = capability::NAMES.iter().map(|name| name.to_lowercase()).collect();
                let near = nearest(&name.to_lowercase(), known.iter().map(String::as_str));
                let near = near.map(|near| format!("write \"{}\"", near.to_uppercase()));
                let message = format!("{text:?} is not a capability");
                self.sink.push(Diagnostic::error("wrong-value", child.prop_place(property), message).maybe_help(near));
            }
        }
        found
    }

    fn environment(&mut self, node: &Tree) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut places: BTreeMap<&str, &Place> = BTreeMap::new();
        for (name, entry) in node.all("env").flat_map(|child| &child.props) {
            if let Some(first) = places.insert(name, &entry.place) {
                self.sink.push(
                    Diagnostic::error("duplicate", entry.place.clone(), format!("`{name}` is set twice"))
                        .other(first.clone(), "first here"),
                );
            }
            all.insert(name.clone(), plain(&entry.value));
        }
        all
    }

    fn attachments(&mut self, node: &Tree) -> Vec<Attachment> {
        let mut found: Vec<Attachment> = Vec::new();
        for child in node.all("network") {
            let alias = child.prop_text("alias").and_then(|text| Name::parse(&text).ok());
            let address = child.prop("address").and_then(as_address);
            for network in child.words().iter().filter_map(|text| Name::parse(text).ok()) {
                if found.iter().any(|other| other.network == network) {
                    let message = format!("the network \"{network}\" stands twice");
                    self.sink.push(Diagnostic::error("duplicate", child.place.clone(), message));
                    continue;
                }
                found.push(Attachment { network, alias: alias.clone(), address });
            }
        }
        found
    }

    fn publish(&mut self, node: &Tree) -> Option<Publish> {
        let host = node.arg(0).and_then(|value| grammar::ports(value).ok())?;
        let to = node.prop("to").and_then(|value| grammar::ports(value).ok()).unwrap_or(host);
        if host.1 - host.0 != to.1 - to.0 {
            self.sink.push(
                Diagnostic::error("wrong-value", node.place.clone(), "the two ranges of ports differ in length").help(format!(
                    "write to=\"{}-{}\"",
                    to.0,
                    u32::from(to.0) + u32::from(host.1 - host.0)
                )),
            );
            return None;
        }
        Some(Publish {
            host,
            to,
            address: node.prop("address").and_then(as_address).unwrap_or(Ipv4Addr::LOCALHOST),
            protocol: if node.prop_text("protocol").as_deref() == Some("udp") { Protocol::Udp } else { Protocol::Tcp },
        })
    }

    fn mount(&mut self, node: &Tree) -> Option<Mount> {
        let to = node.prop_text("to")?;
        if !self.must_be_absolute(&to, &node.prop_place("to")) {
            return None;
        }
        let name = |prop: &str| node.prop_text(prop).and_then(|text| Name::parse(&text).ok());
        let source = match (name("volume"), node.prop_text("bind"), name("image")) {
            (Some(volume), None, None) => MountSource::Volume(volume),
            (None, Some(path), None) => MountSource::Bind(path),
            (None, None, Some(image)) => MountSource::Image(image),
            _ => {
                self.sink.push(
                    Diagnostic::error("mount", node.place.clone(), "a mount has exactly one of `volume=`, `bind=` and `image=`")
                        .help("for example: mount volume=\"data\" to=\"/data\""),
                );
                return None;
            }
        };
        Some(Mount {
            source,
            to,
            read_only: node.flag("read-only").unwrap_or(false),
            subpath: node.prop_text("subpath"),
            create: node.flag("create").unwrap_or(false),
            propagation: match node.prop_text("propagation").as_deref() {
                Some("slave") => Propagation::Slave,
                Some("shared") => Propagation::Shared,
                _ => Propagation::Private,
            },
        })
    }

    fn tmpfs(&mut self, node: &Tree) -> Option<Tmpfs> {
        let path = self.absolute(node)?;
        Some(Tmpfs {
            path,
            size: node.prop("size").and_then(as_size),
            mode: node.prop("mode").and_then(as_mode).unwrap_or(0o1777),
        })
    }

    fn file_use(&mut self, node: &Tree, folder: &str, mode: u32) -> Option<FileUse> {
        let name = node.name()?;
        let to = node.prop_text("to").unwrap_or_else(|| format!("{folder}/{name}"));
        if !self.must_be_absolute(&to, &node.prop_place("to")) {
            return None;
        }
        let mode = node.prop("mode").and_then(as_mode).unwrap_or(mode);
        Some(FileUse { name, to, mode, owner: node.prop_text("owner") })
    }

    fn dependencies(&mut self, node: &Tree) -> BTreeMap<Name, Until> {
        let mut found = BTreeMap::new();
        for child in node.all("depends-on") {
            let Some(name) = child.name() else { continue };
            let until = match child.prop_text("until").as_deref() {
                Some("healthy") => Until::Healthy,
                Some("completed") => Until::Completed,
                _ => Until::Started,
            };
            if found.insert(name.clone(), until).is_some() {
                self.sink.push(Diagnostic::error("duplicate", child.place.clone(), format!("\"{name}\" is depended on twice")));
            }
        }
        found
    }

    fn restart(&mut self, node: &Tree) -> Restart {
        let max = node.prop("max").and_then(as_u32);
        let policy = match node.text().as_deref() {
            Some("on-failure") => return Restart::OnFailure(max),
            Some("always") => Restart::Always,
            Some("unless-stopped") => Restart::UnlessStopped,
            _ => Restart::No,
        };
        if max.is_some() {
            let diagnostic = Diagnostic::error("wrong-value", node.prop_place("max"), "`max` belongs to \"on-failure\" only");
            self.sink.push(diagnostic.help("write restart \"on-failure\" max=…, or leave `max` out"));
        }
        policy
    }

    fn network(&mut self, node: &Tree, _: &str) -> Option<Network> {
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
            internal: node.flag("internal").unwrap_or(false),
            subnet,
            gateway,
            mtu: node.prop("mtu").and_then(as_u32),
            external: node.prop_text("external"),
            labels: free(node, "label"),
        })
    }

    fn config(&mut self, node: &Tree, _: &str) -> Option<ConfigSource> {
        match (node.prop_text("file"), node.child("content").and_then(Tree::text)) {
            (Some(file), None) => Some(ConfigSource::File(file)),
            (None, Some(content)) => Some(ConfigSource::Content(content)),
            _ => {
                self.sink.push(
                    Diagnostic::error("config", node.place.clone(), "a config has either `file=` or `content`")
                        .help("for example: config \"motd\" { content \"hello\" }"),
                );
                None
            }
        }
    }
}

fn limits(node: &Tree) -> Limits {
    let first = |name: &str| node.child(name).and_then(|child| child.arg(0));
    let size = |name: &str| first(name).and_then(as_size);
    Limits {
        cpus: first("cpus").and_then(|value| match value {
            #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 processors")]
            Value::Integer(number) => Some(*number as f64),
            Value::Number(number) => Some(*number),
            _ => None,
        }),
        cpu_weight: first("cpu-weight").and_then(as_u32),
        cpuset: first("cpuset").and_then(as_text),
        memory: size("memory"),
        memory_reservation: size("memory-reservation"),
        swap: size("swap"),
        pids: first("pids").and_then(as_u32),
        io: node.all("io").filter_map(io_limit).collect(),
        hugepages: node
            .all("hugepages")
            .filter_map(|child| Some((child.arg(0).and_then(as_size)?, child.prop("limit").and_then(as_size)?)))
            .collect(),
        ulimits: node.all("ulimit").filter_map(ulimit).collect(),
        oom_score: first("oom-score").and_then(as_i32),
        shm: size("shm"),
        log: size("log"),
    }
}

fn io_limit(node: &Tree) -> Option<IoLimit> {
    Some(IoLimit {
        device: node.text()?,
        read: node.prop("read").and_then(as_size),
        write: node.prop("write").and_then(as_size),
        read_operations: node.prop("read-operations").and_then(as_u32),
        write_operations: node.prop("write-operations").and_then(as_u32),
        weight: node.prop("weight").and_then(as_u32),
    })
}

fn ulimit(node: &Tree) -> Option<Ulimit> {
    let number = |name: &str| match node.prop(name) {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let (soft, hard) = (number("soft"), number("hard"));
    Some(Ulimit { name: node.text()?, soft: soft.or(hard)?, hard: hard.or(soft)? })
}

fn log(node: &Tree) -> Log {
    let driver =
        node.child("driver").and_then(|driver| Some(LogDriver { name: driver.text()?, address: driver.prop_text("address") }));
    Log {
        size: node.prop("size").and_then(as_size).unwrap_or(Size::mib(20)),
        files: node.prop("files").and_then(as_u32).unwrap_or(5),
        driver,
    }
}

fn namespaces(node: &Tree) -> Namespaces {
    Namespaces {
        network: match node.prop_text("network").as_deref() {
            Some("host") => NetworkMode::Host,
            Some("none") => NetworkMode::None,
            _ => NetworkMode::Own,
        },
        host_pid: node.prop("pid").is_some(),
        host_ipc: node.prop("ipc").is_some(),
    }
}

/// All properties of all nodes of a name, as text.
fn free(node: &Tree, name: &str) -> BTreeMap<String, String> {
    node.all(name).flat_map(|child| &child.props).map(|(key, entry)| (key.clone(), plain(&entry.value))).collect()
}

const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "CHLD",
    "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const LOWER_SIGNALS: &[&str] =
    &["hup", "int", "quit", "abrt", "kill", "usr1", "usr2", "pipe", "alrm", "term", "cont", "stop", "winch"];

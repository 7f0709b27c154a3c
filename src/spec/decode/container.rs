//! `container` and `job` nodes, except for limits and security.

use super::limits::log;
use super::*;
use std::net::Ipv4Addr;
use std::path::Component;

/// How many name servers glibc asks (resolv.conf(5), `MAXNS`).
const SERVERS: usize = 3;

impl Decoder<'_> {
    pub(super) fn container(&mut self, node: &Tree, path: &NodePath) -> Option<Container> {
        for child in node.children.iter().filter(|child| child.is_given()) {
            self.places.insert_first(path.clone().node(child.name.clone()), &child.place);
            if matches!(child.name.as_str(), "limits" | "security") {
                for inner in child.children.iter().filter(|inner| inner.is_given()) {
                    self.places.insert_first(path.clone().named(child.name.clone(), &inner.name), &inner.place);
                }
            }
            if child.name == "watch" {
                for rule in child.children.iter().filter(|rule| rule.is_given()) {
                    let key = rule.args.first().map(|arg| arg.text()).unwrap_or_default();
                    self.places.insert(path.clone().node("watch").named(rule.name.clone(), key), rule.place.clone());
                }
            }
            if child.name == "env" {
                for (name, entry) in &child.props {
                    self.places.insert(path.clone().named("env", name), entry.place.clone());
                }
            }
            for keyed in ["mount", "secret", "config", "tmpfs", "publish", "depends-on", "network", "env-file"] {
                if child.name == keyed {
                    let key =
                        child.prop_text("to").filter(|_| keyed == "mount").or_else(|| child.args.first().map(|arg| arg.text()));
                    self.places.insert(path.clone().named(keyed, key.unwrap_or_default()), child.place.clone());
                }
            }
        }
        let Some(image) = node.child("image") else {
            self.lacks_image(node);
            return None;
        };
        let image = self.image_ref(image)?;
        self.container_with(node, image)
    }

    fn lacks_image(&mut self, node: &Tree) {
        let help =
            self.images.first().map_or("for example: image \"app\"".to_owned(), |name| format!("for example: image \"{name}\""));
        let missing = Diagnostic::error("no-image", node.place.clone(), format!("this {} has no image", node.name));
        node.lacks(missing.help(help), self.sink);
    }

    /// Decodes a job: a container that runs to its end. What jobs do not have is as the table says of containers.
    pub(super) fn job(&mut self, node: &Tree, path: &NodePath) -> Option<Container> {
        if node.child("image").is_none() {
            self.lacks_image(node);
            return None;
        }
        let mut whole = Tree { name: "container".into(), ..node.clone() };
        grammar::complete(&mut whole, TOP);
        let inputs = self.inputs(node);
        let timeout = node.first("timeout").and_then(as_span);
        if let (Some(Duration(0)), Some(child)) = (timeout, node.child("timeout")) {
            let diagnostic = Diagnostic::error("wrong-value", child.first_place(), "no job is done in no time");
            self.sink.push(diagnostic.help("write how long it may take, for example \"10m\""));
        }
        // `watch` follows what it is made from, and writes nothing into it. A rule cannot be a pattern.
        let followed = inputs.iter().filter(|path| !path.contains(['*', '?', '[']));
        let rules = followed.map(|path| WatchRule { path: path.clone(), to: None, then: Then::Rebuild }).collect();
        let container = self.container(&whole, path)?;
        Some(Container {
            // It is done when its command has ended, whatever the image checks.
            healthcheck: Some(Health::none()),
            watch: Some(Watch { only_rules: true, rules, ignore: Vec::new(), include: Vec::new() }),
            job: Some(JobSpec { inputs, timeout }),
            ..container
        })
    }

    /// The files and directories that a job declares, as paths in the project's directory.
    fn inputs(&mut self, node: &Tree) -> Vec<String> {
        let mut found = Vec::new();
        for entry in node.all("inputs").flat_map(|child| &child.args) {
            if let Some(path) = self.inside(&entry.text(), &entry.place) {
                found.push(if path.is_empty() { ".".to_owned() } else { path });
            }
        }
        found
    }

    pub(super) fn container_with(&mut self, node: &Tree, image: Name) -> Option<Container> {
        let words = |name: &str| node.child(name).map(Tree::words);
        let flag = |name: &str| node.first(name).and_then(as_flag);
        let hooks = |event: &str| -> Vec<Vec<String>> {
            node.all("on")
                .filter(|on| on.text().as_deref() == Some(event))
                .flat_map(|on| on.all("exec"))
                .map(Tree::words)
                .collect()
        };
        Some(Container {
            image,
            cmd: words("cmd"),
            entrypoint: words("entrypoint"),
            env: self.environment(node),
            env_files: node
                .all("env-file")
                .filter_map(|child| Some(EnvFile { path: child.text()?, required: child.flag("required")? }))
                .collect(),
            workdir: node.child("workdir").and_then(|child| self.absolute(child)),
            user: node.child("user").and_then(|child| self.user(child)),
            groups: node.all("group-add").flat_map(Tree::words).collect(),
            hostname: node.child("hostname").and_then(Tree::text),
            replicas: node.first("replicas").and_then(as_u32)?,
            update: node.child("update").and_then(update),
            networks: self.attachments(node),
            publish: node.all("publish").filter_map(|child| self.publish(child)).collect(),
            mounts: node.all("mount").filter_map(|child| self.mount(child)).collect(),
            tmpfs: node.all("tmpfs").filter_map(|child| self.tmpfs(child)).collect(),
            secrets: node.all("secret").filter_map(|child| self.file_use(child, "/run/secrets")).collect(),
            configs: node.all("config").filter_map(|child| self.file_use(child, "/run/configs")).collect(),
            depends_on: self.dependencies(node),
            healthcheck: node.child("healthcheck").and_then(|child| self.health(child)),
            restart: node.child("restart").map(|child| self.restart(child))?,
            restart_unhealthy: node.child("restart").and_then(|child| child.flag("unhealthy"))?,
            limits: node.child("limits").map(|child| self.limits(child))?,
            shm: self.shm(node)?,
            security: node.child("security").and_then(|child| self.security(child))?,
            devices: node
                .all("device")
                .filter_map(|child| child.text().map(|path| (path.clone(), child.prop_text("to").unwrap_or(path))))
                .collect(),
            sysctls: free(node, "sysctl"),
            stop_signal: node.child("stop-signal").and_then(|child| self.signal(child)),
            stop_grace: node.first("stop-grace").and_then(as_span)?,
            init: flag("init")?,
            tty: flag("tty")?,
            log: node.child("log").and_then(log)?,
            dns: self.dns(node),
            extra_hosts: node.all("extra-host").filter_map(|child| self.extra_host(child)).collect(),
            labels: free(node, "label"),
            namespaces: node.child("namespace").map(namespaces).unwrap_or_default(),
            on_start: hooks("start"),
            on_stop: hooks("stop"),
            watch: node.child("watch").map(|child| self.watch(child)),
            job: None,
        })
    }

    fn watch(&mut self, node: &Tree) -> Watch {
        let rules = node.children.iter().filter_map(|child| self.watch_rule(child)).collect();
        for child in node.all("ignore").chain(node.all("include")) {
            for entry in &child.args {
                let text = entry.text();
                let whole = text.strip_prefix('!').unwrap_or(&text).trim_end_matches('/');
                if whole.is_empty() || Pattern::parse(whole).is_none() {
                    let message = format!("{text:?} is not a pattern");
                    let help = "write a name with `*`, `?` or classes such as [a-z]; `\\\\[` means the character itself";
                    self.sink.push(Diagnostic::error("wrong-value", entry.place.clone(), message).help(help));
                }
            }
        }
        if let (Some(none), Some(rule)) = (node.args.first(), node.children.iter().find(|child| child.is_given())) {
            let message = "\"none\" switches watching off, and there are rules for it";
            let diagnostic = Diagnostic::error("watch-none", none.place.clone(), message).other(rule.place.clone(), "this rule");
            self.sink.push(diagnostic.help("take \"none\" out, or the rules"));
        }
        let patterns = |name: &str| node.all(name).flat_map(Tree::words).collect();
        Watch { only_rules: node.text().is_some(), rules, ignore: patterns("ignore"), include: patterns("include") }
    }

    fn watch_rule(&mut self, node: &Tree) -> Option<WatchRule> {
        let then = match node.name.as_str() {
            "sync" => Then::Nothing,
            "restart" | "sync-restart" => Then::Restart,
            "rebuild" => Then::Rebuild,
            "sync-exec" => {
                let Some(exec) = node.child("exec") else {
                    let missing = Diagnostic::error("no-exec", node.place.clone(), "this rule has no command to run");
                    node.lacks(
                        missing.help("for example: sync-exec \"a.conf\" to=\"/etc/a.conf\" { exec \"reload\" }"),
                        self.sink,
                    );
                    return None;
                };
                Then::Run(exec.words())
            }
            _ => return None,
        };
        let path = node.text()?;
        let inside = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let message = format!("{path:?} is not a path in the project's directory");
            let help = "only what is beside the project file, or below, is watched";
            self.sink.push(Diagnostic::error("wrong-value", node.first_place(), message).help(help));
            return None;
        }
        if path.contains(['*', '?', '[']) {
            let message = format!("{path:?} is a pattern: a rule names a file or a directory");
            let help = "name the directory, and write `include` with the pattern beside the rule";
            self.sink.push(Diagnostic::error("wrong-value", node.first_place(), message).help(help));
            return None;
        }
        let to = node.prop_text("to");
        if let Some(to) = &to
            && !self.must_be_absolute(to, &node.prop_place("to"))
        {
            return None;
        }
        Some(WatchRule { path, to, then })
    }

    pub(super) fn environment(&mut self, node: &Tree) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut places: BTreeMap<&str, &Location> = BTreeMap::new();
        for (name, entry) in node.all("env").flat_map(|child| &child.props) {
            self.is_variable(name, entry);
            if let Some(first) = places.insert(name, &entry.place) {
                self.sink.push(
                    Diagnostic::error("duplicate", entry.place.clone(), format!("`{name}` is set twice"))
                        .other(first.clone(), "first here"),
                );
            }
            all.insert(name.clone(), entry.text());
        }
        all
    }

    pub(super) fn attachments(&mut self, node: &Tree) -> Vec<Attachment> {
        let mut found: Vec<Attachment> = Vec::new();
        for child in node.all("network") {
            let alias = child.prop_text("alias");
            let address = child.prop("address").and_then(as_address);
            for network in child.words().iter().filter_map(|text| Name::parse(text).ok()) {
                if found.iter().any(|other| other.network == network) {
                    let message = format!("the network \"{network}\" is given twice");
                    self.sink.push(Diagnostic::error("duplicate", child.place.clone(), message));
                    continue;
                }
                found.push(Attachment { network, alias: alias.clone(), address });
            }
        }
        found
    }

    pub(super) fn publish(&mut self, node: &Tree) -> Option<Publish> {
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
            address: node.prop("address").and_then(as_address)?,
            protocol: if node.prop_text("protocol").as_deref() == Some("udp") { Protocol::Udp } else { Protocol::Tcp },
        })
    }

    pub(super) fn mount(&mut self, node: &Tree) -> Option<Mount> {
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
                let message = "a mount has exactly one of `volume=`, `bind=` and `image=`";
                let wrong = Diagnostic::error("mount", node.place.clone(), message);
                node.lacks(wrong.help("for example: mount volume=\"data\" to=\"/data\""), self.sink);
                return None;
            }
        };
        Some(Mount {
            source,
            to,
            read_only: node.flag("read-only")?,
            subpath: node.prop_text("subpath"),
            create: node.flag("create")?,
            propagation: match node.prop_text("propagation").as_deref() {
                Some("slave") => Propagation::Slave,
                Some("shared") => Propagation::Shared,
                _ => Propagation::Private,
            },
        })
    }

    /// A line of /etc/hosts: what is no host name or no address would be read as something else, or not at all.
    fn dns(&mut self, node: &Tree) -> Vec<Ipv4Addr> {
        let Some(child) = node.child("dns") else { return Vec::new() };
        if child.args.len() > SERVERS {
            let message = format!("a program asks at most {SERVERS} name servers, and here are {}", child.args.len());
            let diagnostic = Diagnostic::error("wrong-value", child.place.clone(), message);
            self.sink.push(diagnostic.help("keep those that know all names: the next is asked only if one does not answer"));
        }
        child.words().iter().filter_map(|word| word.parse().ok()).collect()
    }

    fn extra_host(&mut self, node: &Tree) -> Option<(String, String)> {
        let (name, address) = (node.text()?, node.arg(1).and_then(as_text)?);
        let legal = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        let wrong = if name.is_empty() || !name.chars().all(legal) {
            Some((format!("{name:?} is not a host name"), "a host name has letters, digits, hyphens and dots"))
        } else if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
            Some((format!("{address:?} is not an IP address"), "write an address, or \"host-gateway\" for the host's"))
        } else {
            None
        };
        if let Some((message, help)) = wrong {
            self.sink.push(Diagnostic::error("wrong-value", node.place.clone(), message).help(help));
            return None;
        }
        Some((name, address))
    }

    fn shm(&mut self, node: &Tree) -> Option<Size> {
        let limits = node.child("limits");
        let size = limits.and_then(|limits| limits.first("shm")).and_then(as_size);
        match limits.and_then(|limits| limits.child("shm")) {
            Some(child) => self.tmpfs_size(size, &child.place),
            None => size,
        }
    }

    /// The size of a tmpfs. To the kernel, no size at all would be none that limits (tmpfs(5)).
    pub(super) fn tmpfs_size(&mut self, size: Option<Size>, place: &Location) -> Option<Size> {
        if size == Some(Size(0)) {
            let diagnostic = Diagnostic::error("wrong-value", place.clone(), "a tmpfs of no size would have no limit".to_owned());
            self.sink.push(diagnostic.help("write how much it may hold, for example \"64MiB\""));
        }
        size
    }

    pub(super) fn tmpfs(&mut self, node: &Tree) -> Option<Tmpfs> {
        let path = self.absolute(node)?;
        let size = self.tmpfs_size(node.prop("size").and_then(as_size), &node.prop_place("size"));
        Some(Tmpfs { path, size, mode: node.prop("mode").and_then(as_mode)? })
    }

    pub(super) fn file_use(&mut self, node: &Tree, folder: &str) -> Option<FileUse> {
        let name = node.name()?;
        let to = node.prop_text("to").unwrap_or_else(|| format!("{folder}/{name}"));
        if !self.must_be_absolute(&to, &node.prop_place("to")) {
            return None;
        }
        let mode = node.prop("mode").and_then(as_mode)?;
        Some(FileUse { name, to, mode, owner: node.prop_text("owner") })
    }

    pub(super) fn dependencies(&mut self, node: &Tree) -> BTreeMap<Name, Until> {
        let mut found = BTreeMap::new();
        for child in node.all("depends-on") {
            let Some(name) = child.name() else { continue };
            let until = match child.prop_text("until").as_deref() {
                Some("healthy") => Until::Healthy,
                Some("done" | "completed") => Until::Completed,
                None if self.jobs.iter().any(|job| job == name.as_str()) => Until::Completed,
                _ => Until::Started,
            };
            if found.insert(name.clone(), until).is_some() {
                self.sink.push(Diagnostic::error("duplicate", child.place.clone(), format!("\"{name}\" is depended on twice")));
            }
        }
        found
    }

    pub(super) fn restart(&mut self, node: &Tree) -> Restart {
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
}

fn update(node: &Tree) -> Option<Update> {
    let order = match node.child("order").and_then(Tree::text).as_deref() {
        Some("start-first") => UpdateOrder::StartFirst,
        _ => UpdateOrder::StopFirst,
    };
    Some(Update { order, parallel: node.first("parallel").and_then(as_u32)? })
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

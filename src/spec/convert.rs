//! Images → the equivalent nodes: what `convert dockerfile` prints.

use crate::model::kdl_text::quoted as quoted_text;
use crate::model::{Duration, Mode, Name, nearest};
use crate::project::{
    AddSource, Base, BuildContext, Copy, Health, Image, Outside, Probe, Run, RunMount, RunNetwork, RunSource, Sharing, Step,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The images of a project as text, each after those that it needs, and the secrets that must be there for them; images from
/// elsewhere need no nodes.
pub fn kdl(images: &BTreeMap<Name, Image>) -> String {
    let names: BTreeMap<&Name, String> = images.keys().map(|name| (name, legal(name, images))).collect();
    let mut order = Vec::new();
    for name in images.keys() {
        collect(name, images, &mut order);
    }
    let writer = Writer { names };
    let written = order.into_iter().filter(|name| !matches!(images[*name].from, Base::Outside(Outside::Reference(_))));
    let secrets = secrets(images).into_iter().map(|name| Node::new("secret").arg(name.as_str()).prop("file", name.as_str()));
    let secrets = secrets.map(|node| node.finish(0)).collect::<String>();
    let images = written.map(|name| writer.image(name, &images[name]));
    Some(secrets).filter(|secrets| !secrets.is_empty()).into_iter().chain(images).collect::<Vec<_>>().join("\n")
}

/// The secrets that commands cannot do without.
fn secrets(images: &BTreeMap<Name, Image>) -> BTreeSet<&Name> {
    let steps = images.values().flat_map(|image| &image.steps);
    let runs = steps.filter_map(|step| if let Step::Run(run) = step { Some(run) } else { None });
    let needed = runs.flat_map(|run| &run.mounts).filter_map(|mount| match &mount.source {
        RunSource::Secret { name, required: true, .. } => Some(name),
        _ => None,
    });
    needed.collect()
}

fn collect<'a>(name: &'a Name, images: &'a BTreeMap<Name, Image>, order: &mut Vec<&'a Name>) {
    let Some((name, image)) = images.get_key_value(name).filter(|_| !order.contains(&name)) else { return };
    for other in image.needs() {
        collect(other, images, order);
    }
    order.push(name);
}

/// A name that can be written in a project file: the names of stages have a dot.
fn legal(name: &Name, images: &BTreeMap<Name, Image>) -> String {
    let is_outside = |image: &Image| matches!(image.from, Base::Outside(Outside::Reference(_)));
    if is_outside(&images[name]) {
        // What looks like a slip in the name of another image needs its tag.
        let is_plain = !name.as_str().contains(['/', ':', '.', '@']);
        let others = images.iter().filter(|(_, image)| !is_outside(image)).map(|(other, _)| other.as_str().replace('.', "-"));
        let others: Vec<String> = others.collect();
        let is_near = is_plain && nearest(name.as_str(), others.iter().map(String::as_str)).is_some();
        return if is_near { format!("{name}:latest") } else { name.to_string() };
    }
    if Name::parse(name.as_str()).is_ok() {
        return name.to_string();
    }
    let plain: String =
        name.as_str().chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).take(36).collect();
    let plain = plain.trim_matches('-').to_owned();
    let mut number = 1;
    loop {
        let candidate = if number == 1 { plain.clone() } else { format!("{plain}-{number}") };
        if !images.contains_key(candidate.as_str()) {
            return candidate;
        }
        number += 1;
    }
}

/// Text in the syntax of the language, on one line.
pub fn text(text: &str) -> String {
    escaped(text)
}

/// The name of a property, with quotes if it needs them.
pub fn key(name: &str) -> String {
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // In the name of a property, nothing begins a parameter.
    if plain && !matches!(name, "true" | "false" | "null" | "inf" | "nan") { name.to_owned() } else { quoted_text(name) }
}

/// Text in the syntax of the language; text of several lines becomes a multi-line string if that loses nothing.
fn quoted(text: &str, indent: usize) -> String {
    let lossy = text.lines().any(|line| !line.is_empty() && line.trim().is_empty()) || text.contains(['\r', '\u{b}', '\u{c}']);
    if !text.contains('\n') || lossy || text.contains("\"\"\"") {
        return escaped(text);
    }
    let margin = " ".repeat(indent);
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{margin}{}\n", inner(line)) };
    format!("\"\"\"\n{}{margin}\"\"\"", text.split('\n').map(line).collect::<String>())
}

fn inner(text: &str) -> String {
    let escaped = escaped(text);
    escaped[1..escaped.len() - 1].to_owned()
}

fn escaped(text: &str) -> String {
    // A plain `${` would begin a parameter.
    quoted_text(&text.replace("${", "$${"))
}

/// One node being written.
struct Node {
    text: String,
    children: Vec<String>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self { text: name.to_owned(), children: Vec::new() }
    }

    fn arg(mut self, text: &str) -> Self {
        let _ = write!(self.text, " {}", quoted(text, 8));
        self
    }

    fn args(self, all: &[String]) -> Self {
        all.iter().fold(self, |node, word| node.arg(word))
    }

    fn prop(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let _ = write!(self.text, " {}={}", key(name), quoted(value.as_ref(), 8));
        self
    }

    fn maybe(self, name: &str, value: Option<&String>) -> Self {
        match value {
            Some(value) => self.prop(name, value),
            None => self,
        }
    }

    fn flag(mut self, name: &str, on: bool) -> Self {
        if on {
            let _ = write!(self.text, " {name}=#true");
        }
        self
    }

    fn raw(mut self, text: &str) -> Self {
        let _ = write!(self.text, " {text}");
        self
    }

    fn child(mut self, child: Self) -> Self {
        self.children.push(child.finish(8));
        self
    }

    fn finish(self, indent: usize) -> String {
        let margin = " ".repeat(indent);
        if self.children.is_empty() {
            return format!("{margin}{}\n", self.text);
        }
        format!("{margin}{} {{\n{}{margin}}}\n", self.text, self.children.concat())
    }
}

struct Writer<'a> {
    names: BTreeMap<&'a Name, String>,
}

impl Writer<'_> {
    fn name(&self, name: &Name) -> String {
        self.names.get(name).cloned().unwrap_or_else(|| name.to_string())
    }

    fn image(&self, name: &Name, image: &Image) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut say = |node: Node| lines.push(node.finish(4));
        match &image.from {
            Base::Scratch => {}
            Base::Image(other) => say(Node::new("from").arg(&self.name(other))),
            Base::Outside(Outside::Archive { path, name }) => {
                say(Node::new("from").prop("archive", path).maybe("name", name.as_ref()))
            }
            Base::Outside(Outside::Reference(text)) => say(Node::new("from").arg(text)),
        }
        for step in &image.steps {
            say(self.step(step));
        }
        if let Some(words) = &image.entrypoint {
            say(Node::new("entrypoint").args(words));
        }
        if let Some(words) = &image.cmd {
            say(Node::new("cmd").args(words));
        }
        for (ports, protocol) in [(&image.expose, "tcp"), (&image.expose_udp, "udp"), (&image.expose_sctp, "sctp")] {
            if ports.is_empty() {
                continue;
            }
            let range =
                |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("\"{first}-{last}\"") };
            let node = ports.iter().fold(Node::new("expose"), |node, ports| node.raw(&range(ports)));
            say(if protocol == "tcp" { node } else { node.prop("protocol", protocol) });
        }
        if let Some(author) = &image.author {
            say(Node::new("author").arg(author));
        }
        if !image.labels.is_empty() {
            say(image.labels.iter().fold(Node::new("label"), |node, (name, value)| node.prop(name, value)));
        }
        if !image.volumes.is_empty() {
            say(Node::new("volume").args(&image.volumes));
        }
        if let Some(signal) = &image.stop_signal {
            say(Node::new("stop-signal").arg(signal));
        }
        if let Some(health) = &image.healthcheck {
            say(healthcheck(health));
        }
        for instruction in &image.onbuild {
            say(Node::new("onbuild").arg(instruction));
        }
        if image.squash {
            say(Node::new("squash").raw("#true"));
        }
        format!("image {} {{\n{}}}\n", escaped(&self.name(name)), lines.concat())
    }

    fn step(&self, step: &Step) -> Node {
        let pairs = |name: &str, values: &BTreeMap<String, String>| {
            values.iter().fold(Node::new(name), |node, (name, value)| node.prop(name, value))
        };
        match step {
            Step::Env(values) => pairs("env", values),
            Step::Arg(values) => pairs("arg", values),
            Step::Workdir(path) => Node::new("workdir").arg(path),
            Step::User(user) => Node::new("user").arg(user),
            Step::Shell(words) => Node::new("shell").args(words),
            Step::Folder(path) => Node::new("folder").arg(path),
            Step::Copy(copy) => self.copy(copy),
            Step::Run(run) => self.run(run),
            Step::Add(add) => {
                let node = match &add.source {
                    AddSource::Url { url, sha256 } => {
                        Node::new("add").arg(url).maybe("sha256", sha256.map(|digest| digest.hex()).as_ref())
                    }
                    AddSource::Git(git) => {
                        let commit = git.pinned().map(str::to_owned);
                        let node = Node::new("add").prop("git", git.place.to_string()).maybe("commit", commit.as_ref());
                        let node = node.maybe("folder", git.folder.as_ref()).flag("keep-git", git.dot_git);
                        if git.submodules { node } else { node.raw("submodules=#false") }
                    }
                };
                let node = node.prop("to", &add.to).maybe("owner", add.owner.as_ref()).maybe("mode", mode(&add.mode).as_ref());
                excludes(node.flag("unpack", add.unpack).flag("docker", add.as_docker).flag("link", add.link), &add.exclude)
            }
            // Images from Dockerfiles never have this step.
            Step::Debian(debian) => Node::new("debian").arg(&debian.suite).child(Node::new("package").args(&debian.packages)),
        }
    }

    fn copy(&self, copy: &Copy) -> Node {
        let node = Node::new("copy").args(&copy.sources).prop("to", &copy.to);
        let node = node.maybe("from", copy.from.as_ref().map(|name| self.name(name)).as_ref());
        let node = node.maybe("owner", copy.owner.as_ref()).maybe("mode", mode(&copy.mode).as_ref());
        let node = context(node.flag("parents", copy.parents).flag("unpack", copy.unpack), copy.context.as_ref());
        let node = excludes(node.flag("docker", copy.as_docker).flag("link", copy.link), &copy.exclude);
        copy.inline.iter().fold(node, |node, (name, content)| node.child(Node::new("text").arg(name).arg(content)))
    }

    fn run(&self, run: &Run) -> Node {
        let mut node = Node::new("run").args(&run.words).flag("network", run.network == RunNetwork::Own);
        if run.network == RunNetwork::Host {
            node = node.prop("network", "host");
        }
        node = node.flag("privileged", run.privileged).maybe("user", run.user.as_ref());
        if run.shell != (run.words.len() == 1) {
            node = node.raw(if run.shell { "shell=#true" } else { "shell=#false" });
        }
        if !run.env.is_empty() {
            node = node.child(run.env.iter().fold(Node::new("env"), |node, (name, value)| node.prop(name, value)));
        }
        run.mounts.iter().fold(node, |node, mount| node.child(self.mount(mount)))
    }

    fn mount(&self, mount: &RunMount) -> Node {
        let node = Node::new("mount").prop("to", &mount.to);
        let owned = |node: Node, bits: u32, owner: (u32, u32), usual: u32| {
            let node = if bits == usual { node } else { node.prop("mode", format!("{bits:04o}")) };
            if owner == (0, 0) { node } else { node.prop("owner", format!("{}:{}", owner.0, owner.1)) }
        };
        let mut writable = false;
        let node = match &mount.source {
            RunSource::Cache { id, mode, owner, sharing, shared, from } => {
                writable = true;
                let node = owned(node.prop("cache", id), *mode, *owner, 0o755);
                let node = match sharing {
                    Sharing::Shared => node,
                    Sharing::Locked => node.prop("sharing", "locked"),
                    Sharing::Private => node.prop("sharing", "private"),
                };
                let node = node.flag("shared", *shared);
                match from {
                    Some((name, path)) => node.prop("image", self.name(name)).prop("subpath", path),
                    None => node,
                }
            }
            RunSource::Tmpfs { size } => {
                writable = true;
                let node = node.flag("tmpfs", true);
                match size {
                    Some(size) => node.prop("size", format!("{}B", size.0)),
                    None => node,
                }
            }
            RunSource::Secret { name, mode, owner, required, env, file } => {
                let node = owned(node.prop("secret", name.as_str()), *mode, *owner, 0o400).maybe("env", env.as_ref());
                let node = if *required { node } else { node.raw("required=#false") };
                if *file { node } else { node.raw("file=#false") }
            }
            RunSource::Ssh { required } => {
                let node = node.flag("ssh", true);
                if *required { node } else { node.raw("required=#false") }
            }
            RunSource::Image { name, path } => node.prop("image", self.name(name)).prop("subpath", path),
            RunSource::Context { context: folder, path } => {
                let node = context(node, Some(folder));
                if path.is_empty() { node } else { node.prop("subpath", path) }
            }
            RunSource::Script(text) => node.prop("script", text),
        };
        match (mount.read_only, writable) {
            (false, false) => node.raw("writable=#true"),
            (true, true) => node.raw("writable=#false"),
            _ => node,
        }
    }
}

fn mode(mode: &Option<Mode>) -> Option<String> {
    mode.as_ref().map(|mode| match mode {
        Mode::Exact(bits) => format!("{bits:04o}"),
        Mode::Symbols(text) => text.clone(),
    })
}

fn context(node: Node, context: Option<&BuildContext>) -> Node {
    let Some(context) = context else { return node };
    let folder = if context.folder.is_empty() { "." } else { &context.folder };
    node.prop("context", folder).prop("ignore", &context.ignore)
}

fn excludes(node: Node, patterns: &[String]) -> Node {
    if patterns.is_empty() { node } else { node.child(Node::new("exclude").args(patterns)) }
}

fn healthcheck(health: &Health) -> Node {
    let span = |span: Duration| format!("{}ms", span.0);
    let node = Node::new("healthcheck");
    let probe = match &health.probe {
        Probe::None => return node.arg("none"),
        Probe::Exec(words) => Node::new("exec").args(words),
        Probe::Http { port, path } => Node::new("http").raw(&port.to_string()).prop("path", path),
        Probe::Tcp(port) => Node::new("tcp").raw(&port.to_string()),
    };
    node.prop("interval", span(health.interval))
        .prop("timeout", span(health.timeout))
        .raw(&format!("retries={}", health.retries))
        .prop("start-period", span(health.start_period))
        .prop("start-interval", span(health.start_interval))
        .child(probe)
}

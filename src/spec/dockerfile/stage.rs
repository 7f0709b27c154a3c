//! Stages: instructions → an image's steps and configuration (Dockerfile reference).

use super::Request;
use super::syntax::{Document, Instruction, Syntax, instruction, is_heredoc, raw_words};
use super::words::{expand, expand_document, expand_words};
use crate::model::{Name, PATH, Place, Size, Span, nearest};
use crate::spec::diagnose::{Diagnostic, Sink};
use crate::spec::project::{Base, BuildContext, Copy, Health, Image, Probe, Run, RunMount, RunSource, Step};
use std::collections::{BTreeMap, BTreeSet};

type Values = BTreeMap<String, String>;

/// What a stage has from what it starts from.
#[derive(Clone, Debug)]
pub struct Given {
    pub env: Values,
    pub workdir: String,
    pub shell: Vec<String>,
    /// Instructions that the base holds for whoever starts from it.
    pub triggers: Vec<String>,
    /// What an earlier stage of the same file declared: stages that start from it have it, too.
    pub arguments: Values,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            env: Values::new(),
            workdir: String::new(),
            shell: default_shell(),
            triggers: Vec::new(),
            arguments: Values::new(),
        }
    }
}

fn default_shell() -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into()]
}

/// Arguments that exist without being declared (reference, "Predefined ARGs").
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that tell of the platform (reference, "Automatic platform ARGs in the global scope").
fn platform() -> Values {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut found = Values::new();
    for side in ["TARGET", "BUILD"] {
        found.insert(format!("{side}PLATFORM"), format!("linux/{architecture}"));
        found.insert(format!("{side}OS"), "linux".into());
        found.insert(format!("{side}ARCH"), architecture.into());
        found.insert(format!("{side}VARIANT"), String::new());
    }
    found
}

struct Stage {
    /// As `AS` gives it, in lower case.
    name: Option<String>,
    from: String,
    place: Place,
    instructions: Vec<Instruction>,
}

/// A Dockerfile cut into its stages.
pub struct Stages {
    escape: char,
    /// Arguments before the first FROM.
    global: Values,
    stages: Vec<Stage>,
    target: usize,
    /// Images of the project that stages start from or copy from.
    outside: BTreeSet<Name>,
}

/// An image with the places of its parts.
pub type Made = (Name, Image, Vec<(String, Place)>);

impl Stages {
    /// Cuts a Dockerfile; nothing when it is too wrong to go on.
    pub fn split(syntax: Syntax, request: &Request, sink: &mut Sink) -> Option<Self> {
        let escape = syntax.escape;
        let mut global = platform();
        let mut stages: Vec<Stage> = Vec::new();
        for one in syntax.instructions {
            let wrong = |message: String| Diagnostic::error("dockerfile", one.place.clone(), message);
            match (one.name.as_str(), stages.last_mut()) {
                ("FROM", _) => match stage(&one, &global, escape) {
                    Ok(stage) => {
                        if let Some(twice) = stages.iter().find(|other| other.name.is_some() && other.name == stage.name) {
                            let message = format!("there are two stages named {}", stage.name.as_deref().unwrap_or_default());
                            sink.push(wrong(message).other(twice.place.clone(), "first here"));
                        }
                        stages.push(stage);
                    }
                    Err(message) => sink.push(wrong(message)),
                },
                (_, Some(last)) => last.instructions.push(one),
                ("ARG", None) => match arguments(&one, &global, escape) {
                    Ok(declared) => {
                        for (name, value) in declared {
                            let value = request.arguments.get(&name).cloned().or(value);
                            global.extend(value.map(|value| (name, value)));
                        }
                    }
                    Err(message) => sink.push(wrong(message)),
                },
                (name, None) => sink.push(wrong(format!("{name} stands before the first FROM")).help("only ARG may")),
            }
        }
        if stages.is_empty() {
            let message = format!("`{}` has no FROM", request.path);
            sink.push(Diagnostic::error("dockerfile", request.place.clone(), message));
            return None;
        }
        let target = match &request.target {
            None => stages.len() - 1,
            Some(target) => match find(&stages, target, stages.len()) {
                Some(found) => found,
                None => {
                    let names = stages.iter().filter_map(|stage| stage.name.as_deref());
                    let near = nearest(target, names).map(|near| format!("write target=\"{near}\""));
                    let message = format!("`{}` has no stage \"{target}\"", request.path);
                    sink.push(Diagnostic::error("dockerfile", request.place.clone(), message).maybe_help(near));
                    return None;
                }
            },
        };
        let outside = |(index, stage): (usize, &Stage)| {
            let copied = stage.instructions.iter().flat_map(sources_of);
            let all: Vec<String> = copied.chain([stage.from.clone()]).collect();
            all.into_iter().filter(|name| find(&stages, name, index).is_none()).collect::<Vec<_>>()
        };
        let outside = stages.iter().enumerate().flat_map(outside).filter_map(|name| Name::parse(&name).ok()).collect();
        Some(Self { escape, global, stages, target, outside })
    }

    /// Images of the project that it needs.
    pub fn outside(&self) -> impl Iterator<Item = &Name> {
        self.outside.iter()
    }

    /// The stages that the target needs, as images; the target has the image's own name.
    pub fn images(self, request: &Request, given: &dyn Fn(&Name) -> Given, sink: &mut Sink, later: &mut Sink) -> Vec<Made> {
        let mut needed = BTreeSet::from([self.target]);
        let mut queue = vec![self.target];
        while let Some(index) = queue.pop() {
            let stage = &self.stages[index];
            let from = stage.instructions.iter().flat_map(sources_of).chain([stage.from.clone()]);
            for other in from.filter_map(|name| find(&self.stages, &name, index)) {
                if needed.insert(other) {
                    queue.push(other);
                }
            }
        }
        let mut ends: BTreeMap<usize, Given> = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut made = Vec::new();
        for index in needed {
            let stage = &self.stages[index];
            let base = match find(&self.stages, &stage.from, index) {
                Some(other) => (Base::Image(self.image_of(other, request)), ends.get(&other).cloned().unwrap_or_default()),
                None if stage.from == "scratch" => (Base::Scratch, Given::default()),
                None => match Name::parse(&stage.from) {
                    Ok(name) => {
                        let given = given(&name);
                        (Base::Image(name), given)
                    }
                    Err(_) => {
                        let message = format!("{} is a registry's image, which is not supported yet", stage.from);
                        let help = "start from an `image` of the project, from an earlier stage or from scratch";
                        later.push(Diagnostic::error("not-supported-yet", stage.place.clone(), message).help(help));
                        (Base::Registry(stage.from.clone()), Given::default())
                    }
                },
            };
            let mut writer = Writer::new(self.escape, request, &self, index, base.1);
            let image = writer.write(base.0, stage, sink);
            used.extend(writer.used);
            let ended = Given { triggers: image.onbuild.clone(), arguments: writer.arguments.clone(), ..writer.given };
            ends.insert(index, ended);
            made.push((self.image_of(index, request), image, writer.places));
        }
        for name in request.arguments.keys() {
            let known = used.contains(name) || self.global.contains_key(name) || PREDEFINED.contains(&name.as_str());
            if !known {
                let message = format!("`{}` has no ARG {name}", request.path);
                sink.push(Diagnostic::warning("unused-argument", request.place.clone(), message));
            }
        }
        made
    }

    fn image_of(&self, index: usize, request: &Request) -> Name {
        if index == self.target {
            return request.image.clone();
        }
        let stage = self.stages[index].name.clone().unwrap_or_else(|| index.to_string());
        request.image.inner(&stage)
    }
}

/// The stage that a name or number means, among those before one.
fn find(stages: &[Stage], name: &str, before: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    let named = stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(&lower));
    named.or_else(|| name.parse().ok().filter(|index| *index < before))
}

/// Images or stages that an instruction takes files from.
fn sources_of(one: &Instruction) -> Vec<String> {
    let mounts = one.flags.iter().filter(|(name, _)| name == "mount").flat_map(|(_, value)| value.split(','));
    let mounted = mounts.filter_map(|part| part.strip_prefix("from="));
    let copied = one.flags.iter().filter(|(name, _)| name == "from" && one.name != "RUN").map(|(_, value)| value.as_str());
    mounted.chain(copied).map(str::to_owned).collect()
}

fn stage(one: &Instruction, values: &Values, escape: char) -> Result<Stage, String> {
    for (flag, value) in &one.flags {
        let value = expand(value, values, escape)?;
        if flag != "platform" {
            return Err(format!("FROM has no --{flag}"));
        }
        let own = &values["TARGETPLATFORM"];
        if value != *own && !value.is_empty() {
            return Err(format!("the platform {value} is not this machine's, {own}"));
        }
    }
    let words = raw_words(&one.rest, escape);
    let name = match words.as_slice() {
        [_] => None,
        [_, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let legal = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if !legal {
                return Err(format!("{name} is no name for a stage; it starts with a letter and has letters, digits, - _ ."));
            }
            Some(lower)
        }
        _ => return Err("FROM wants an image, and perhaps AS and a name".into()),
    };
    let from = expand(words[0], values, escape)?;
    if from.is_empty() {
        return Err(format!("the image {} is empty once its variables are replaced", words[0]));
    }
    Ok(Stage { name, from, place: one.place.clone(), instructions: Vec::new() })
}

/// The declarations of an ARG, with what they default to.
fn arguments(one: &Instruction, values: &Values, escape: char) -> Result<Vec<(String, Option<String>)>, String> {
    let mut values = values.clone();
    let mut found = Vec::new();
    for word in raw_words(&one.rest, escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(expand(default, &values, escape)?)),
            None => (word, None),
        };
        if name.is_empty() {
            return Err("ARG wants a name".into());
        }
        values.extend(default.clone().map(|value| (name.to_owned(), value)));
        found.push((name.to_owned(), default));
    }
    Ok(found)
}

/// Words in JSON's form, if they are that.
fn json(rest: &str) -> Option<Vec<String>> {
    if rest.trim_start().starts_with('[') { serde_json::from_str(rest.trim()).ok() } else { None }
}

/// Writes one stage as an image.
struct Writer<'a> {
    escape: char,
    request: &'a Request,
    stages: &'a Stages,
    index: usize,
    given: Given,
    arguments: Values,
    /// Arguments of the request that were declared.
    used: BTreeSet<String>,
    places: Vec<(String, Place)>,
    image: Image,
    has_cmd: bool,
}

impl<'a> Writer<'a> {
    fn new(escape: char, request: &'a Request, stages: &'a Stages, index: usize, given: Given) -> Self {
        let predefined = |name: &&str| request.arguments.get(*name).map(|value| ((*name).to_owned(), value.clone()));
        Self {
            escape,
            request,
            stages,
            index,
            arguments: PREDEFINED.iter().filter_map(predefined).chain(given.arguments.clone()).collect(),
            given,
            used: BTreeSet::new(),
            places: Vec::new(),
            image: Image::default(),
            has_cmd: false,
        }
    }

    fn write(&mut self, base: Base, stage: &Stage, sink: &mut Sink) -> Image {
        self.image.from = base;
        self.places.push(("from".into(), stage.place.clone()));
        if self.given.shell != default_shell() {
            self.image.steps.push(Step::Shell(self.given.shell.clone()));
        }
        if !self.arguments.is_empty() {
            self.image.steps.push(Step::Arg(self.arguments.clone()));
        }
        let triggers = std::mem::take(&mut self.given.triggers);
        let held = triggers.iter().filter_map(|text| instruction(text, &stage.place, self.escape, sink)).collect::<Vec<_>>();
        for one in held.iter().chain(&stage.instructions) {
            if let Err(message) = self.one(one) {
                let (message, help) = message.split_once("\n").map_or((message.as_str(), None), |(a, b)| (a, Some(b.to_owned())));
                sink.push(Diagnostic::error("dockerfile", one.place.clone(), message).maybe_help(help));
            }
        }
        self.image.clone()
    }

    /// Variables that instructions see: arguments, and over them the environment.
    fn values(&self) -> Values {
        let mut all = Values::from([("PATH".to_owned(), PATH.to_owned())]);
        all.extend(self.arguments.clone());
        all.extend(self.given.env.clone());
        all
    }

    fn text(&self, text: &str) -> Result<String, String> {
        expand(text, &self.values(), self.escape)
    }

    fn words(&self, text: &str) -> Result<Vec<String>, String> {
        match json(text) {
            Some(words) => words.iter().map(|word| self.text(word)).collect(),
            None => expand_words(text, &self.values(), self.escape),
        }
    }

    /// A command: as it is in JSON's form, else by the shell.
    fn command(&self, rest: &str) -> Vec<String> {
        json(rest).unwrap_or_else(|| self.given.shell.iter().cloned().chain([rest.to_owned()]).collect())
    }

    fn step(&mut self, step: Step, place: &Place) {
        self.places.push((format!("step{}", self.image.steps.len()), place.clone()));
        self.image.steps.push(step);
    }

    fn only(one: &Instruction, allowed: &[&str]) -> Result<(), String> {
        match one.flags.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let near = nearest(name, allowed.iter().copied()).map_or_else(String::new, |near| format!("\nwrite --{near}"));
                Err(format!("{} has no --{name}{near}", one.name))
            }
        }
    }

    fn one(&mut self, one: &Instruction) -> Result<(), String> {
        let rest = one.rest.as_str();
        match one.name.as_str() {
            "ARG" => {
                for (name, default) in arguments(one, &self.values(), self.escape)? {
                    let outer = || default.clone().or_else(|| self.stages.global.get(&name).cloned());
                    let value = self.request.arguments.get(&name).cloned().or_else(outer);
                    self.used.insert(name.clone());
                    if let Some(value) = value {
                        self.arguments.insert(name.clone(), value.clone());
                        self.image.steps.push(Step::Arg(Values::from([(name, value)])));
                    }
                }
            }
            "ENV" => {
                let pairs = self.pairs(rest)?;
                for (name, _) in &pairs {
                    self.places.push((format!("env.{name}"), one.place.clone()));
                }
                let pairs: Values = pairs.into_iter().collect();
                self.given.env.extend(pairs.clone());
                self.image.steps.push(Step::Env(pairs));
            }
            "LABEL" => {
                let pairs = self.pairs(rest)?;
                self.image.labels.extend(pairs);
            }
            "MAINTAINER" => drop(self.image.labels.insert("maintainer".into(), rest.to_owned())),
            "WORKDIR" => {
                let wanted = self.text(rest)?;
                let workdir = clean(&self.given.workdir, &wanted);
                self.given.workdir.clone_from(&workdir);
                self.image.steps.push(Step::Workdir(workdir.clone()));
                if workdir != "/" {
                    self.step(Step::Folder(workdir), &one.place);
                }
            }
            "USER" => {
                let user = self.text(rest)?;
                self.image.steps.push(Step::User(user));
            }
            "SHELL" => {
                let words = json(rest).filter(|words| !words.is_empty());
                let words = words.ok_or("SHELL wants words in JSON's form\nwrite SHELL [\"/bin/bash\", \"-c\"]")?;
                self.given.shell.clone_from(&words);
                self.image.steps.push(Step::Shell(words));
            }
            "CMD" => {
                self.has_cmd = true;
                self.image.cmd = Some(self.command(rest));
            }
            "ENTRYPOINT" => {
                self.image.entrypoint = Some(self.command(rest));
                if !self.has_cmd {
                    self.image.cmd = None;
                }
            }
            "EXPOSE" => {
                for word in self.words(rest)? {
                    let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
                    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{word} is no port"));
                    let range = (number(first)?, number(last)?);
                    match protocol.to_ascii_lowercase().as_str() {
                        "tcp" => self.image.expose.push(range),
                        "udp" => self.image.expose_udp.push(range),
                        other => return Err(format!("EXPOSE knows tcp and udp, not {other}")),
                    }
                }
            }
            "VOLUME" => {
                let words = self.words(rest)?;
                self.image.volumes.extend(words);
            }
            "STOPSIGNAL" => {
                let text = self.text(rest)?;
                let short = text.to_ascii_uppercase();
                self.image.stop_signal = Some(short.strip_prefix("SIG").unwrap_or(&short).to_owned());
            }
            "HEALTHCHECK" => self.image.healthcheck = Some(self.health(one)?),
            "ONBUILD" => {
                let word = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if ["ONBUILD", "FROM", "MAINTAINER"].contains(&word.as_str()) {
                    return Err(format!("ONBUILD may not hold {word}"));
                }
                if !one.documents.is_empty() {
                    return Err("ONBUILD with a here-document is not supported yet".into());
                }
                self.image.onbuild.push(rest.to_owned());
            }
            "RUN" => self.run(one)?,
            "COPY" | "ADD" => self.copy(one)?,
            _ => return Err(format!("{} cannot stand here", one.name)),
        }
        Ok(())
    }

    /// `name=value …`, or the old form of one name and the rest of the line.
    fn pairs(&self, rest: &str) -> Result<Vec<(String, String)>, String> {
        let words = raw_words(rest, self.escape);
        if !words.first().is_some_and(|word| word.contains('=')) {
            let (name, value) = rest.split_once(char::is_whitespace).ok_or("a name and a value were expected")?;
            return Ok(vec![(self.text(name)?, self.text(value.trim_start())?)]);
        }
        let mut found = Vec::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word} has no `=`"))?;
            let name = self.text(name)?;
            if name.is_empty() {
                return Err("a name stands before `=`".into());
            }
            found.push((name, self.text(value)?));
        }
        Ok(found)
    }

    fn health(&self, one: &Instruction) -> Result<Health, String> {
        Self::only(one, &["interval", "timeout", "start-period", "start-interval", "retries"])?;
        let span = |name: &str, default: Span| match one.flags.iter().find(|(flag, _)| flag == name) {
            None => Ok(default),
            Some((_, value)) => Span::parse(value).map_err(|why| format!("--{name}={value}: {why}")),
        };
        let (kind, rest) = one.rest.split_once(char::is_whitespace).unwrap_or((&one.rest, ""));
        let probe = match kind.to_ascii_uppercase().as_str() {
            "NONE" => Probe::None,
            "CMD" if !rest.trim().is_empty() => Probe::Exec(self.command(rest.trim())),
            _ => return Err("HEALTHCHECK wants NONE, or CMD and a command".into()),
        };
        let retries = one.flags.iter().find(|(flag, _)| flag == "retries").map_or(Ok(3), |(_, value)| value.parse());
        Ok(Health {
            probe,
            interval: span("interval", Span::seconds(30))?,
            timeout: span("timeout", Span::seconds(30))?,
            retries: retries.map_err(|_| "--retries wants a number".to_owned())?,
            start_period: span("start-period", Span(0))?,
            start_interval: span("start-interval", Span::seconds(5))?,
        })
    }

    fn context(&self) -> BuildContext {
        let own = self.request.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.request.context.clone().unwrap_or_else(|| own.to_owned());
        BuildContext { folder: folder.trim_matches('/').to_owned(), ignore: format!("{}.dockerignore", self.request.path) }
    }

    /// The image that a stage's name, its number or an image's name means.
    fn other(&self, name: &str) -> Result<Name, String> {
        match find(&self.stages.stages, name, self.index) {
            Some(other) => Ok(self.stages.image_of(other, self.request)),
            None => {
                Name::parse(name).map_err(|_| format!("there is no stage {name}, and a registry's image is not supported yet"))
            }
        }
    }

    fn run(&mut self, one: &Instruction) -> Result<(), String> {
        Self::only(one, &["mount", "network", "security"])?;
        let mut network = true;
        let mut mounts = Vec::new();
        for (flag, value) in &one.flags {
            let value = self.text(value)?;
            match (flag.as_str(), value.as_str()) {
                ("network", "none") => network = false,
                ("network", "default" | "host") | ("security", "sandbox") => {}
                ("mount", _) => mounts.push(self.mount(&value)?),
                _ => return Err(format!("RUN knows no --{flag}={value}")),
            }
        }
        let (words, shell) = match (json(&one.rest), one.documents.as_slice()) {
            (Some(words), []) if words.is_empty() => return Err("RUN wants a command".into()),
            (Some(words), []) => (words, false),
            // A script with an interpreter of its own is a file, where BuildKit has it.
            (_, [only]) if is_heredoc(one.rest.trim()) && only.content.starts_with("#!") => {
                let to = format!("/dev/pipes/{}", only.name);
                mounts.push(RunMount { to: to.clone(), read_only: true, source: RunSource::Script(only.content.clone()) });
                (vec![to], false)
            }
            // Nothing but a here-document is a script; else the shell reads it, as it stands.
            (_, [only]) if is_heredoc(one.rest.trim()) => (vec![only.content.clone()], true),
            (_, documents) => {
                let mut text = one.rest.clone();
                for document in documents {
                    text.push_str(&format!("\n{}{}", document.content, document.name));
                }
                (vec![text], true)
            }
        };
        self.step(Step::Run(Run { words, shell, network, mounts }), &one.place);
        Ok(())
    }

    /// `RUN --mount` (reference, "RUN --mount").
    fn mount(&self, text: &str) -> Result<RunMount, String> {
        let fields: Vec<(&str, &str)> = text.split(',').map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        let known = [
            "type",
            "target",
            "dst",
            "destination",
            "source",
            "src",
            "from",
            "id",
            "rw",
            "readwrite",
            "ro",
            "readonly",
            "sharing",
            "mode",
            "uid",
            "gid",
            "size",
            "required",
            "env",
        ];
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !known.contains(name)) {
            return Err(format!("a mount has no {unknown}"));
        }
        let get = |names: &[&str]| fields.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| (*value).to_owned());
        let flag = |names: &[&str]| get(names).is_some_and(|value| value != "false" && value != "0");
        let kind = get(&["type"]).unwrap_or_else(|| "bind".into());
        let target = get(&["target", "dst", "destination"]);
        let mode = get(&["mode"]).map(|mode| u32::from_str_radix(&mode, 8).map_err(|_| format!("mode={mode} is not octal")));
        let mode = mode.transpose()?;
        let number =
            |name: &str| get(&[name]).map_or(Ok(0), |value| value.parse::<u32>().map_err(|_| format!("{name} wants a number")));
        let owner = (number("uid")?, number("gid")?);
        let absolute = |target: String| clean(&self.given.workdir, &target);
        let wanted = || target.clone().map(absolute).ok_or_else(|| format!("a mount of type {kind} wants a target"));
        let source = match kind.as_str() {
            "cache" => {
                if get(&["from"]).is_some() {
                    return Err("a cache that begins with an image's files is not supported yet".into());
                }
                let locked = match get(&["sharing"]).as_deref() {
                    None | Some("shared") => false,
                    Some("locked") => true,
                    Some(other) => return Err(format!("a cache with sharing={other} is not supported yet")),
                };
                let target = wanted()?;
                RunSource::Cache {
                    id: get(&["id"]).unwrap_or_else(|| target.clone()),
                    mode: mode.unwrap_or(0o755),
                    owner,
                    locked,
                }
            }
            "tmpfs" => RunSource::Tmpfs {
                size: get(&["size"])
                    .map(|size| size.parse().map(Size).map_err(|_| format!("size={size} is no number")))
                    .transpose()?,
            },
            "secret" => {
                let id = get(&["id"]).or_else(|| target.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned));
                let id = id.ok_or("a secret wants an id")?;
                let name = Name::parse(&id).map_err(|why| format!("the secret {id}: {why}"))?;
                let to = target.clone().map_or_else(|| format!("/run/secrets/{id}"), absolute);
                if get(&["env"]).is_some() {
                    return Err("a secret as an environment variable is not supported yet\nread it from its file".into());
                }
                return Ok(RunMount {
                    to,
                    read_only: true,
                    source: RunSource::Secret { name, mode: mode.unwrap_or(0o400), owner, required: flag(&["required"]) },
                });
            }
            "bind" => {
                let source = get(&["source", "src"]).unwrap_or_else(|| "/".into());
                match get(&["from"]) {
                    Some(from) => RunSource::Image { name: self.other(&from)?, path: source },
                    None => RunSource::Context { context: self.context(), path: source.trim_matches('/').to_owned() },
                }
            }
            "ssh" => return Err("a mount of type ssh is not supported yet".into()),
            other => return Err(format!("there is no mount of type {other}")),
        };
        let read_only = match kind.as_str() {
            "bind" => {
                if flag(&["rw", "readwrite"]) {
                    return Err("a bind that is written to and then forgotten is not supported yet".into());
                }
                true
            }
            _ => flag(&["ro", "readonly"]),
        };
        Ok(RunMount { to: wanted()?, read_only, source })
    }

    fn copy(&mut self, one: &Instruction) -> Result<(), String> {
        let allowed: &[&str] = if one.name == "COPY" {
            &["from", "chown", "chmod", "link", "parents", "exclude"]
        } else {
            &["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"]
        };
        Self::only(one, allowed)?;
        let mut copy = Copy { as_docker: true, ..Copy::default() };
        let on = |value: &str| value.is_empty() || value == "true" || value == "1";
        for (flag, value) in &one.flags {
            let value = self.text(value)?;
            match flag.as_str() {
                "from" => copy.from = Some(self.other(&value)?),
                "chown" => copy.owner = Some(value),
                "chmod" => {
                    let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o7777);
                    copy.mode = Some(mode.ok_or_else(|| format!("--chmod={value} is not octal; symbols are not supported yet"))?);
                }
                "parents" => copy.parents = on(&value),
                "exclude" => copy.exclude.push(value),
                "checksum" | "keep-git-dir" | "unpack" => return Err(format!("ADD --{flag} is not supported yet")),
                // Layers are independent of each other anyway.
                _ => {}
            }
        }
        let mut words: Vec<String> = match json(&one.rest) {
            Some(words) => words.iter().map(|word| self.text(word)).collect::<Result<_, _>>()?,
            None => {
                let mut found = Vec::new();
                for raw in raw_words(&one.rest, self.escape) {
                    if is_heredoc(raw) { found.push(raw.to_owned()) } else { found.push(self.text(raw)?) }
                }
                found
            }
        };
        let to = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| format!("{} wants sources and a target", one.name))?;
        if to.is_empty() {
            return Err(format!("the target of {} is empty", one.name));
        }
        let mut documents = one.documents.iter();
        for word in words {
            if is_heredoc(&word) {
                let Some(document) = documents.next() else { continue };
                copy.inline.push((document.name.clone(), self.document(document)?));
            } else if one.name == "ADD" && (word.contains("://") || word.starts_with("git@")) {
                return Err(format!("ADD of {word} is not supported yet\nfetch it in a RUN, with its digest checked"));
            } else {
                // `..` stops at the top of the context, as at the top of a tree; what `/./` marks stays.
                let cleaned: Vec<String> =
                    word.split("/./").map(|part| clean("", part).trim_start_matches('/').to_owned()).collect();
                let slash = if word.ends_with('/') && word.len() > 1 { "/" } else { "" };
                let word = format!("{}{slash}", cleaned.join("/./"));
                copy.sources.push(match (word.is_empty(), copy.from.is_some()) {
                    (true, true) => "/".into(),
                    (true, false) => ".".into(),
                    (false, true) => format!("/{word}"),
                    (false, false) => word,
                });
            }
        }
        if copy.sources.len() + copy.inline.len() > 1 && !to.ends_with('/') {
            return Err(format!("with more than one source the target must be a folder\nwrite {to}/"));
        }
        copy.unpack = one.name == "ADD";
        copy.to = to;
        if copy.from.is_some() && (copy.parents || !copy.inline.is_empty()) {
            return Err("COPY --from with --parents or a here-document is not supported yet".into());
        }
        if copy.from.is_none() {
            copy.context = Some(self.context());
        }
        let index = self.image.steps.len();
        for source in 0..copy.sources.len() {
            self.places.push((format!("step{index}.source{source}"), one.place.clone()));
        }
        self.step(Step::Copy(copy), &one.place);
        Ok(())
    }

    fn document(&self, document: &Document) -> Result<String, String> {
        if document.expand {
            expand_document(&document.content, &self.values(), self.escape)
        } else {
            Ok(document.content.clone())
        }
    }
}

/// A path made absolute from a working directory, without `.` and `..`.
fn clean(workdir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

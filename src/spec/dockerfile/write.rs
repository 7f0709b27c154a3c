//! One stage's instructions → an image's steps and configuration (Dockerfile reference).

use super::path::{AGENT, clean, source};
use super::stage::{
    Given, PREDEFINED, Seen, Stage, Stages, Surroundings, Values, arguments, default_shell, find, find_named, fit,
};
use super::syntax::{Document, Instruction, is_heredoc, is_one_heredoc, parse, plain_words, raw_words};
use super::words::{expand, expand_document, expand_words};
use super::{Request, remote};
use crate::model::bounds::PATTERN;
use crate::model::{DOCKER_HUB, Duration, Location, Mode, Name, PATH, Reference, nearest, nearest_signal, signal_number};
use crate::project::looks_secret;
use crate::project::{Add, Base, BuildContext, Copy, Health, Image, NodePath, Probe, Run, RunMount, RunNetwork, RunSource, Step};
use crate::spec::diagnose::{Diagnostic, Sink};
use std::collections::BTreeSet;

/// The words of a JSON array, if the text is one.
fn json(rest: &str) -> Option<Vec<String>> {
    if rest.trim_start().starts_with('[') { serde_json::from_str(rest.trim()).ok() } else { None }
}

/// Refuses a JSON array that holds anything but texts.
fn only_texts(rest: &str) -> Result<(), String> {
    let array = || serde_json::from_str::<Vec<serde_json::Value>>(rest.trim()).is_ok();
    if json(rest).is_none() && array() {
        return Err("a JSON array of words holds only texts\nput quotes around each word".into());
    }
    Ok(())
}

/// Refuses what cannot be the name of an image.
///
/// # Errors
/// A sentence saying why.
pub fn check_reference(name: &str) -> Result<(), String> {
    Reference::parse(name, DOCKER_HUB).map(drop)
}

/// Arguments for tools that look at builds: neither instructions nor commands see them.
const UNSEEN: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Writes one stage as an image.
pub struct Writer<'a> {
    escape: char,
    request: &'a Request,
    stages: &'a Stages,
    index: usize,
    around: &'a dyn Surroundings,
    pub given: Given,
    pub arguments: Values,
    /// The arguments of the request that were declared.
    pub used: BTreeSet<String>,
    pub places: Vec<(NodePath, Location)>,
    /// The references of images from elsewhere, with the places that name them.
    pub outside: Vec<(String, Location)>,
    image: Image,
    has_cmd: bool,
    /// The health check's command, if it is a text for the shell that the stage has at its end.
    checked: Option<String>,
}

impl<'a> Writer<'a> {
    pub fn new(
        escape: char,
        request: &'a Request,
        stages: &'a Stages,
        index: usize,
        given: Given,
        around: &'a dyn Surroundings,
    ) -> Self {
        Self {
            escape,
            request,
            stages,
            index,
            around,
            // A variable of the base takes precedence over an argument of the stage that made it.
            arguments: given.arguments.clone().into_iter().filter(|(name, _)| !given.env.contains_key(name)).collect(),
            given,
            used: BTreeSet::new(),
            places: Vec::new(),
            outside: Vec::new(),
            image: Image::default(),
            has_cmd: false,
            checked: None,
        }
    }

    pub fn write(&mut self, base: Base, stage: &Stage, sink: &mut Sink) -> Image {
        self.image.from = base;
        self.places.push((NodePath::default().node("from"), stage.place.clone()));
        if self.given.shell != default_shell() {
            self.image.steps.push(Step::Shell(self.given.shell.clone()));
        }
        // Those that are predefined are there for commands, but are not replaced in instructions unless they are declared.
        let predefined = |name: &&str| self.request.arguments.get(*name).map(|value| ((*name).to_owned(), value.clone()));
        let arguments: Values = PREDEFINED.iter().filter_map(predefined).chain(self.arguments.clone()).collect();
        if !arguments.is_empty() {
            self.image.steps.push(Step::Arg(arguments));
        }
        let triggers = std::mem::take(&mut self.given.triggers);
        let mut held = Vec::new();
        for text in &triggers {
            // Each is a complete instruction of the base; its errors are reported at the stage's FROM.
            let read = parse(&stage.place.file, &format!("# escape={}\n{text}", self.escape), sink).instructions;
            held.extend(read.into_iter().map(|one| Instruction { place: stage.place.clone(), ..one }));
        }
        for one in held.iter().chain(&stage.instructions) {
            for (flag, _) in &one.flags {
                if flag.is_empty() {
                    sink.push(Diagnostic::error("dockerfile", one.place.clone(), "a flag has no name"));
                }
            }
            self.secrets_in(one, sink);
            if let Err(message) = self.one(one) {
                let (message, help) = message.split_once("\n").map_or((message.as_str(), None), |(a, b)| (a, Some(b.to_owned())));
                sink.push(Diagnostic::error("dockerfile", one.place.clone(), message).maybe_help(help));
            }
        }
        if let (Some(line), Some(health)) = (self.checked.take(), &mut self.image.healthcheck) {
            health.probe = Probe::Exec(self.given.shell.iter().cloned().chain([line]).collect());
        }
        self.image.clone()
    }

    /// Warns about secrets in variables: everybody who gets the image can read them.
    fn secrets_in(&self, one: &Instruction, sink: &mut Sink) {
        if one.name != "ENV" {
            return;
        }
        for (name, value) in self.pairs(&one.rest).unwrap_or_default() {
            if looks_secret(&name) && !value.is_empty() {
                let message = format!("{name} looks like a secret, and everybody who gets the image can read it");
                let help = "give it to one command: RUN --mount=type=secret,id=…";
                sink.push(Diagnostic::warning("secret-in-env", one.place.clone(), message).help(help));
            }
        }
    }

    /// The variables that instructions see. Of an argument and a variable with the same name, the later one is seen: ENV
    /// removes the argument.
    fn values(&self) -> Seen<'_> {
        Seen { values: &self.given.env, over: &self.arguments, path: Some(PATH), effort: &self.stages.effort }
    }

    pub fn text(&self, text: &str) -> Result<String, String> {
        expand(text, &self.values(), self.escape)
    }

    fn words(&self, text: &str) -> Result<Vec<String>, String> {
        expand_words(text, &self.values(), self.escape)
    }

    /// A command: a JSON array as it is, otherwise the text as an argument of the shell.
    fn command(&self, rest: &str) -> Vec<String> {
        json(rest).unwrap_or_else(|| self.given.shell.iter().cloned().chain([rest.to_owned()]).collect())
    }

    fn step(&mut self, step: Step, place: &Location) {
        self.places.push((NodePath::default().step(self.image.steps.len()), place.clone()));
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
        if !["RUN", "COPY", "ADD", "HEALTHCHECK"].contains(&one.name.as_str()) {
            Self::only(one, &[])?;
        }
        for (index, (flag, value)) in one.flags.iter().enumerate() {
            if value.is_none() && !["link", "parents", "keep-git-dir", "unpack"].contains(&flag.as_str()) {
                return Err(format!("--{flag} needs a value\nwrite --{flag}=…"));
            }
            if !["mount", "exclude"].contains(&flag.as_str()) && one.flags[..index].iter().any(|(other, _)| other == flag) {
                return Err(format!("--{flag} is given twice"));
            }
        }
        if ["RUN", "CMD", "ENTRYPOINT", "VOLUME", "COPY", "ADD"].contains(&one.name.as_str()) {
            only_texts(rest)?;
        }
        match one.name.as_str() {
            "ARG" => {
                let declared = arguments(one, &self.values(), (&self.request.arguments, &self.stages.global), self.escape)?;
                for (name, value) in declared {
                    self.used.insert(name.clone());
                    if let Some(value) = value.filter(|_| !UNSEEN.contains(&name.as_str())) {
                        self.arguments.insert(name.clone(), value.clone());
                        self.image.steps.push(Step::Arg(Values::from([(name, value)])));
                    }
                }
                fit(&[&self.arguments, &self.given.env])?;
            }
            "ENV" => {
                let pairs = self.pairs(rest)?;
                for (name, _) in &pairs {
                    self.places.push((NodePath::default().named("env", name), one.place.clone()));
                }
                let pairs: Values = pairs.into_iter().collect();
                self.arguments.retain(|name, _| !pairs.contains_key(name));
                self.given.env.extend(pairs.clone());
                self.image.steps.push(Step::Env(pairs));
                fit(&[&self.arguments, &self.given.env])?;
            }
            "LABEL" => {
                let pairs = self.pairs(rest)?;
                self.image.labels.extend(pairs);
            }
            "MAINTAINER" => self.image.author = Some(rest.to_owned()),
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
                let words = words.ok_or("SHELL needs a JSON array of words\nwrite SHELL [\"/bin/bash\", \"-c\"]")?;
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
                    let range = |ports: &str| {
                        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{word} is no port"));
                        let (first, last) = (number(first)?, number(last)?);
                        if first > last { Err(format!("{word} is no range of ports")) } else { Ok((first, last)) }
                    };
                    // A port of the host in front of it, as `docker run -p` has it, means nothing here.
                    let (host, ports) = ports.rsplit_once(':').unwrap_or(("", ports));
                    let (_, host) = host.rsplit_once(':').unwrap_or(("", host));
                    if !host.is_empty() {
                        range(host)?;
                    }
                    let range = range(ports)?;
                    match protocol.to_ascii_lowercase().as_str() {
                        "tcp" | "" => self.image.expose.push(range),
                        "udp" => self.image.expose_udp.push(range),
                        "sctp" => self.image.expose_sctp.push(range),
                        other => return Err(format!("EXPOSE knows tcp, udp and sctp, not {other}")),
                    }
                }
            }
            "VOLUME" => {
                let words = json(rest).unwrap_or_else(|| plain_words(rest).into_iter().map(str::to_owned).collect());
                if words.is_empty() {
                    return Err("VOLUME needs a path".into());
                }
                for word in words {
                    let path = self.text(word.trim())?;
                    if path.is_empty() {
                        return Err("a path of VOLUME is empty".into());
                    }
                    self.image.volumes.push(path);
                }
            }
            "STOPSIGNAL" => {
                let text = self.text(rest)?;
                if signal_number(&text).is_none() {
                    let near = nearest_signal(&text).map_or_else(String::new, |near| format!("\nwrite {near}"));
                    return Err(format!("{text} is not a signal{near}"));
                }
                let short = text.to_ascii_uppercase();
                self.image.stop_signal = Some(short.strip_prefix("SIG").unwrap_or(&short).to_owned());
            }
            "HEALTHCHECK" => {
                self.checked = None;
                self.image.healthcheck = Some(self.health(one)?);
            }
            "ONBUILD" => {
                let word = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if ["ONBUILD", "FROM", "MAINTAINER"].contains(&word.as_str()) {
                    return Err(format!("ONBUILD may not hold {word}"));
                }
                // The text includes its here-documents, so that it can be parsed again.
                let documents = one.documents.iter().map(|one| format!("\n{}{}", one.content, one.name));
                self.image.onbuild.push(documents.fold(rest.to_owned(), |text, document| text + &document));
            }
            "RUN" => self.run(one)?,
            "COPY" | "ADD" => self.copy(one)?,
            _ => return Err(format!("{} is not allowed here", one.name)),
        }
        Ok(())
    }

    /// Parses `name=value …`, or the old form of one name and the rest of the line.
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
                return Err("a name is missing before `=`".into());
            }
            found.push((name, self.text(value)?));
        }
        Ok(found)
    }

    fn health(&mut self, one: &Instruction) -> Result<Health, String> {
        Self::only(one, &["interval", "timeout", "start-period", "start-interval", "retries"])?;
        let flag = |name: &str| one.flags.iter().find(|(flag, _)| flag == name).and_then(|(_, value)| value.as_deref());
        let span = |name: &str, default: Duration| match flag(name) {
            None | Some("" | "0") => Ok(default),
            Some(value) => match duration(value) {
                Some(Duration(0)) if value.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) => {
                    Err(format!("--{name}={value} is less than 1ms"))
                }
                Some(Duration(0)) => Ok(default),
                Some(span) => Ok(span),
                None => Err(format!("--{name}={value} is no duration\nwrite 30s, 1m30s or 500ms")),
            },
        };
        let (kind, rest) = one.rest.split_once(char::is_whitespace).unwrap_or((&one.rest, ""));
        let probe = match kind.to_ascii_uppercase().as_str() {
            "NONE" if rest.trim().is_empty() => return Ok(Health::none()),
            "NONE" => return Err("HEALTHCHECK NONE takes no command".into()),
            "CMD" if !rest.trim().is_empty() => {
                only_texts(rest)?;
                match json(rest) {
                    Some(words) if words.is_empty() => return Err("HEALTHCHECK needs NONE, or CMD and a command".into()),
                    Some(words) => Probe::Exec(words),
                    None => {
                        self.checked = Some(rest.trim().to_owned());
                        Probe::Exec(Vec::new())
                    }
                }
            }
            _ => return Err("HEALTHCHECK needs NONE, or CMD and a command".into()),
        };
        let retries = match flag("retries") {
            None | Some("" | "0") => Ok(3),
            Some(value) => value.parse(),
        };
        Ok(Health {
            probe,
            interval: span("interval", Duration::seconds(30))?,
            timeout: span("timeout", Duration::seconds(30))?,
            retries: retries.map_err(|_| "--retries needs a number".to_owned())?,
            start_period: span("start-period", Duration(0))?,
            start_interval: span("start-interval", Duration::seconds(5))?,
        })
    }

    pub fn context(&self) -> BuildContext {
        let own = self.request.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.request.context.clone().unwrap_or_else(|| own.to_owned());
        BuildContext { folder: folder.trim_matches('/').to_owned(), ignore: format!("{}.dockerignore", self.request.path) }
    }

    /// The image that is named by a stage's name or number, an image's name or a reference; a mount's `from` is no number.
    ///
    /// # Errors
    /// Fails for the number of a stage that does not come before, and for what is no reference.
    pub fn other(&mut self, name: &str, numbers: bool, place: &Location) -> Result<Name, String> {
        let look = if numbers { find } else { find_named };
        if let Some(other) = look(&self.stages.stages, name, self.index) {
            return Ok(self.stages.image_of(other, self.request));
        }
        if self.stages.stages[self.index].name.as_ref().is_some_and(|own| *own == name.to_lowercase()) {
            return Err(format!("the stage {name} cannot take files from itself"));
        }
        let is_own = name == self.request.image.as_str();
        if let Some(image) = self.around.image(name).filter(|_| !is_own) {
            return Ok(image);
        }
        if numbers && name.parse::<usize>().is_ok() {
            return Err(format!("no stage before this one has the number {name}"));
        }
        check_reference(name)?;
        // An image has nothing of itself: its own name is that of another one.
        let reference = if is_own { format!("{name}:latest") } else { name.to_owned() };
        self.outside.push((reference.clone(), place.clone()));
        Ok(Name::of_reference(&reference))
    }

    fn run(&mut self, one: &Instruction) -> Result<(), String> {
        Self::only(one, &["mount", "network", "security"])?;
        let (mut network, mut privileged) = (RunNetwork::Own, false);
        let mut mounts = Vec::new();
        for (flag, value) in &one.flags {
            let written = value.as_deref().unwrap_or_default();
            if flag == "mount" {
                mounts.push(self.mount(written, &one.place)?);
                continue;
            }
            let value = self.text(written)?;
            match (flag.as_str(), value.as_str()) {
                ("network", "none") => network = RunNetwork::None,
                ("network", "host") => network = RunNetwork::Host,
                ("network", "default") => network = RunNetwork::Own,
                ("security", "insecure") => privileged = true,
                ("security", "sandbox") => {}
                _ => return Err(format!("RUN does not support --{flag}={value}")),
            }
        }
        // Each agent has a socket of its own.
        let agents = mounts.iter_mut().filter(|mount| matches!(mount.source, RunSource::Ssh { .. }));
        for (number, mount) in agents.enumerate().filter(|(_, mount)| mount.to == AGENT) {
            mount.to = format!("{}{number}", AGENT.trim_end_matches('0'));
        }
        let alone = is_one_heredoc(&one.rest, self.escape);
        let (words, shell) = match (json(&one.rest), one.documents.as_slice()) {
            (Some(words), []) if words.is_empty() => return Err("RUN needs a command".into()),
            (Some(words), []) => (words, false),
            // A script with its own interpreter becomes a file, at the same path as in BuildKit.
            (_, [only]) if alone && only.content.starts_with("#!") => {
                let to = format!("/dev/pipes/{}", only.name);
                mounts.push(RunMount { to: to.clone(), read_only: true, source: RunSource::Script(only.content.clone()) });
                (vec![to], false)
            }
            // A here-document alone is a script; otherwise the shell gets the command with it, unchanged.
            (_, [only]) if alone => (vec![only.content.clone()], true),
            (_, documents) => {
                let mut text = one.rest.clone();
                for document in documents {
                    text.push_str(&format!("\n{}{}", document.content, document.name));
                }
                (vec![text], true)
            }
        };
        self.step(Step::Run(Run { words, shell, network, privileged, mounts, ..Run::default() }), &one.place);
        Ok(())
    }

    fn copy(&mut self, one: &Instruction) -> Result<(), String> {
        let copies = one.name == "COPY";
        let allowed: &[&str] = if copies {
            &["from", "chown", "chmod", "link", "parents", "exclude"]
        } else {
            &["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"]
        };
        Self::only(one, allowed)?;
        let mut copy = Copy { as_docker: true, unpack: !copies, ..Copy::default() };
        let (mut unpack, mut flags) = (None, remote::Flags::default());
        for (flag, written) in &one.flags {
            let on = || match written.as_ref().map(|value| value.to_ascii_lowercase()).as_deref() {
                None | Some("true") => Ok(true),
                Some("false") => Ok(false),
                Some(other) => Err(format!("--{flag}={other}: true or false was expected")),
            };
            let written = written.as_deref().unwrap_or_default();
            let value = || self.text(written);
            // What is empty is as if it were not there.
            let some = || value().map(|value| Some(value).filter(|value| !value.is_empty()));
            match flag.as_str() {
                "from" if value()? != written => {
                    return Err("--from names a stage or an image as it is\nname a stage in front: FROM … AS name".into());
                }
                "from" if written.is_empty() => {}
                "from" => copy.from = Some(self.other(written, true, &one.place)?),
                "chown" => copy.owner = some()?,
                "chmod" => {
                    let parse = |mode: String| Mode::parse(&mode).map_err(|why| format!("--chmod: {why}"));
                    copy.mode = some()?.map(parse).transpose()?;
                }
                "parents" => copy.parents = on()?,
                // Variables are not replaced in patterns.
                "exclude" => copy.exclude.push(written.to_owned()),
                "checksum" => flags.checksum = some()?,
                "unpack" => unpack = Some(on()?),
                "keep-git-dir" => flags.keep_git = on()?,
                _ => copy.link = on()?,
            }
        }
        // As for BuildKit, `--link` has no effect together with `--chmod`.
        copy.link &= copy.mode.is_none();
        let mut words: Vec<String> = match json(&one.rest) {
            Some(words) => words.iter().map(|word| self.text(word)).collect::<Result<_, _>>()?,
            None => {
                let mut found = Vec::new();
                for raw in plain_words(&one.rest) {
                    if is_heredoc(raw) { found.push(raw.to_owned()) } else { found.push(self.text(raw)?) }
                }
                found
            }
        };
        if let Some(long) = words.iter().chain(&copy.exclude).find(|word| word.len() > PATTERN) {
            return Err(format!("a path has at most {PATTERN} bytes, and one here has {}", long.len()));
        }
        let to = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| format!("{} needs sources and a target", one.name))?;
        copy.unpack = unpack.unwrap_or(copy.unpack);
        // An empty target is the working directory, and what ends in `/.` a directory.
        let to = to.strip_suffix("/.").map_or_else(|| to.clone(), |folder| format!("{folder}/"));
        copy.to = if to.is_empty() { ".".into() } else { to };
        // What is fetched is a step of its own; all are in the order of the sources.
        let mut fetched = Vec::new();
        let mut documents = one.documents.iter();
        for word in words {
            if is_heredoc(&word) {
                let Some(document) = documents.next() else { continue };
                copy.inline.push((document.name.clone(), self.document(document)?));
            } else if copies && remote::is_remote(&word) {
                return Err(format!("COPY does not fetch {word}\nwrite ADD"));
            } else if let Some(source) = if copies { None } else { remote::parse(&word, &flags)? } {
                fetched.push((source, copy.sources.len()));
            } else {
                copy.sources.push(source(&word, copy.from.is_some()));
            }
        }
        let all = copy.sources.len() + copy.inline.len() + fetched.len();
        if all > 1 && !copy.to.ends_with('/') {
            copy.to.push('/');
        }
        if flags.checksum.is_some() && fetched.len() != 1 {
            return Err("--checksum needs exactly one URL".into());
        }
        if copy.from.is_none() {
            copy.context = Some(self.context());
        }
        let mut taken = 0;
        for (source, after) in fetched {
            if after > taken {
                let part = Copy { sources: copy.sources[taken..after].to_vec(), inline: Vec::new(), ..copy.clone() };
                self.copy_step(part, &one.place);
                taken = after;
            }
            // A file from the web is unpacked only on request (reference, "ADD --unpack").
            let add = Add {
                source,
                to: copy.to.clone(),
                owner: copy.owner.clone(),
                mode: copy.mode.clone(),
                exclude: copy.exclude.clone(),
                unpack: unpack.unwrap_or(false),
                as_docker: true,
                link: copy.link,
            };
            self.step(Step::Add(add), &one.place);
        }
        copy.sources.drain(..taken);
        if !copy.sources.is_empty() || !copy.inline.is_empty() {
            self.copy_step(copy, &one.place);
        }
        Ok(())
    }

    fn copy_step(&mut self, copy: Copy, place: &Location) {
        let index = self.image.steps.len();
        for source in 0..copy.sources.len() {
            self.places.push((NodePath::default().step(index).source(source), place.clone()));
        }
        self.step(Step::Copy(copy), place);
    }

    fn document(&self, document: &Document) -> Result<String, String> {
        if document.expand { expand_document(&document.content, &self.values()) } else { Ok(document.content.clone()) }
    }
}

/// A duration in Go's format: `1m30s`, `1.5s`, `500ms` (package time, `ParseDuration`).
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let factor = match &unit[..end] {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        millis += number.parse::<f64>().ok()? * factor;
        rest = &unit[end..];
    }
    // Docker counts nanoseconds in 63 bits.
    if !(0.0..9e12).contains(&millis) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a duration is not negative, and fractions of milliseconds are dropped on purpose"
    )]
    Some(Duration(millis as u64))
}

//! The stages of a Dockerfile: which there are, which is the target, what each starts from.
//!
//! What the instructions of a stage mean is up to `write`.

use super::Request;
use super::syntax::{Instruction, Syntax, plain_words, raw_words};
use super::words::{Effort, Lookup, expand, separated};
use crate::model::{ARCHITECTURE, Amount, Location, Name, PLATFORM, bounds, nearest};
use crate::project::Image;
use crate::spec::diagnose::{Diagnostic, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub type Values = BTreeMap<String, String>;

/// What a stage inherits from its base.
#[derive(Clone, Debug)]
pub struct Given {
    pub env: Values,
    pub workdir: String,
    pub shell: Vec<String>,
    /// The ONBUILD instructions of the base.
    pub triggers: Vec<String>,
    /// The arguments that an earlier stage of the same file declared: stages that start from it have them, too.
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

pub fn default_shell() -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into()]
}

/// The arguments that exist without being declared (reference, "Predefined ARGs").
pub const PREDEFINED: [&str; 10] = [
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

/// The arguments that describe the platform (reference, "Automatic platform ARGs in the global scope").
fn platform() -> Values {
    let mut found = Values::new();
    for side in ["TARGET", "BUILD"] {
        found.insert(format!("{side}PLATFORM"), PLATFORM.to_owned());
        found.insert(format!("{side}OS"), "linux".into());
        found.insert(format!("{side}ARCH"), ARCHITECTURE.into());
        found.insert(format!("{side}VARIANT"), String::new());
    }
    found
}

pub struct Stage {
    /// The name after `AS`, in lower case.
    pub(super) name: Option<String>,
    pub(super) from: String,
    pub place: Location,
    pub instructions: Vec<Instruction>,
    /// Another kind of machine that it is for, as it is written: an error only where the stage is needed.
    pub(super) foreign: Option<String>,
}

/// A Dockerfile split into its stages.
pub struct Stages {
    pub(super) escape: char,
    /// The arguments before the first FROM.
    pub global: Values,
    pub stages: Vec<Stage>,
    pub(super) target: usize,
    /// The images of the project that stages start from or copy from.
    pub(super) outside: BTreeSet<Name>,
    pub effort: Rc<Effort>,
}

/// A stage as an image.
pub struct Made {
    pub name: Name,
    pub image: Image,
    /// The places of its parts.
    pub places: Vec<(crate::project::NodePath, Location)>,
    /// The references of images from elsewhere, with the places that name them.
    pub outside: Vec<(String, Location)>,
}

/// What is known of the images that a Dockerfile may name.
pub trait Surroundings {
    /// The image of the project with this name.
    fn image(&self, name: &str) -> Option<Name>;
    /// What a stage inherits from an image.
    fn given(&self, name: &Name) -> Given;
}

/// The visible variables, and the effort that replacing them has taken.
pub struct Seen<'a> {
    pub values: &'a Values,
    /// Variables that take precedence.
    pub over: &'a Values,
    pub path: Option<&'static str>,
    pub effort: &'a Effort,
}

impl Lookup for Seen<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let own = self.over.get(name).or_else(|| self.values.get(name)).map(String::as_str);
        own.or_else(|| self.path.filter(|_| name == "PATH"))
    }

    fn spend(&self, steps: usize) -> Result<(), String> {
        self.effort.spend(steps)
    }
}

/// Checks the size of a stage's variables.
///
/// # Errors
/// Fails when they are too long together.
pub fn fit(values: &[&Values]) -> Result<(), String> {
    let length: usize = values.iter().flat_map(|values| values.iter()).map(|(name, value)| name.len() + value.len()).sum();
    if length <= bounds::VARIABLES {
        return Ok(());
    }
    Err(format!("the variables and arguments of a stage have at most {} together", Amount::Bytes(bounds::VARIABLES as u64)))
}

impl Stages {
    /// Splits a Dockerfile into stages; `None` if errors make it useless to continue.
    pub fn split(syntax: Syntax, request: &Request, effort: &Rc<Effort>, sink: &mut Sink) -> Option<Self> {
        let escape = syntax.escape;
        let mut global = platform();
        global.insert("TARGETSTAGE".into(), request.target.clone().unwrap_or_else(|| "default".into()));
        let mut stages: Vec<Stage> = Vec::new();
        // A FROM that is wrong is told once: what follows from it is not another error.
        let mut failed = false;
        for one in syntax.instructions {
            let wrong = |message: String| Diagnostic::error("dockerfile", one.place.clone(), message);
            let full = stages.len() >= bounds::STAGES;
            match (one.name.as_str(), stages.last_mut()) {
                ("FROM", _) if full => {
                    sink.push(wrong(format!("a Dockerfile has at most {} stages", bounds::STAGES)));
                    return None;
                }
                ("FROM", _) => match stage(&one, &global, effort, escape) {
                    Ok(stage) => {
                        stages.push(stage);
                    }
                    Err(message) => {
                        failed = true;
                        sink.push(wrong(message));
                    }
                },
                (_, None) if failed => {}
                (_, Some(last)) => last.instructions.push(one),
                ("ARG", None) => {
                    let seen = Seen { values: &global, over: &Values::new(), path: None, effort };
                    match arguments(&one, &seen, (&request.arguments, &Values::new()), escape) {
                        Ok(declared) => {
                            global.extend(declared.into_iter().filter_map(|(name, value)| Some((name, value?))));
                            if let Err(message) = fit(&[&global]) {
                                sink.push(wrong(message));
                                return None;
                            }
                        }
                        Err(message) => sink.push(wrong(message)),
                    }
                }
                (name, None) => sink.push(wrong(format!("{name} comes before the first FROM")).help("only ARG may")),
            }
        }
        for index in 0..stages.len() {
            // An image cannot start from itself, so its own name is that of another one.
            if stages[index].from == request.image.as_str() && find_named(&stages, &stages[index].from, index).is_none() {
                stages[index].from.push_str(":latest");
            }
        }
        if stages.is_empty() {
            let message = format!("`{}` has no FROM", request.path);
            let none = Diagnostic::error("dockerfile", request.place.clone(), message);
            Some(none).filter(|_| !failed).into_iter().for_each(|none| sink.push(none));
            return None;
        }
        let target = match &request.target {
            None => stages.len() - 1,
            Some(target) => match find(&stages, target, stages.len()) {
                Some(found) => found,
                None if failed => return None,
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
            let copied = copied.filter(|name| find(&stages, name, index).is_none());
            let from = Some(stage.from.clone()).filter(|name| find_named(&stages, name, index).is_none());
            copied.chain(from).collect::<Vec<_>>()
        };
        let outside = stages.iter().enumerate().flat_map(outside).filter_map(|name| Name::parse(&name).ok());
        let outside = outside.filter(|name| *name != request.image).collect();
        Some(Self { escape, global, stages, target, outside, effort: effort.clone() })
    }

    /// The images of the project that it needs.
    pub fn outside(&self) -> impl Iterator<Item = &Name> {
        self.outside.iter()
    }

    pub fn image_of(&self, index: usize, request: &Request) -> Name {
        if index == self.target {
            return request.image.clone();
        }
        // Of two stages with one name, the name is that of the later one.
        let stage = self.stages[index].name.clone();
        let hidden = |name: &String| self.stages[index + 1..].iter().any(|later| later.name.as_ref() == Some(name));
        request.image.inner(&stage.filter(|name| !hidden(name)).unwrap_or_else(|| index.to_string()))
    }
}

/// The stage with this name or number, among those before a stage.
pub fn find(stages: &[Stage], name: &str, before: usize) -> Option<usize> {
    find_named(stages, name, before).or_else(|| name.parse().ok().filter(|index| *index < before))
}

/// The stage with this name. FROM takes a number for the name of an image.
pub fn find_named(stages: &[Stage], name: &str, before: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(&lower))
}

/// The images or stages that an instruction takes files from.
pub(super) fn sources_of(one: &Instruction) -> Vec<String> {
    let mounts = one.flags.iter().filter(|(name, _)| name == "mount").flat_map(|(_, value)| value.iter());
    let mounted = mounts.flat_map(|value| separated(value)).filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("from").then(|| value.to_owned())
    });
    let copied = one.flags.iter().filter(|(name, _)| name == "from" && one.name != "RUN").filter_map(|(_, value)| value.clone());
    mounted.chain(copied).filter(|name| !name.is_empty()).collect()
}

fn stage(one: &Instruction, values: &Values, effort: &Effort, escape: char) -> Result<Stage, String> {
    let seen = Seen { values, over: &Values::new(), path: None, effort };
    let mut foreign = None;
    if one.flags.len() > 1 {
        return Err("FROM has at most one --platform".into());
    }
    for (flag, value) in &one.flags {
        if flag != "platform" {
            return Err(format!("FROM has no --{flag}"));
        }
        // One that is empty as it is written is as none.
        let Some(written) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        let value = expand(written, &seen, escape)?;
        if value.is_empty() {
            return Err("the platform is empty once its variables are replaced".into());
        }
        foreign = (!is_own_platform(&value)).then_some(value);
    }
    let words = plain_words(&one.rest);
    let name = match words.as_slice() {
        [_] => None,
        [_, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let legal = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if !legal {
                return Err(format!("{name} is not a stage name; it starts with a letter and has letters, digits, - _ ."));
            }
            Some(lower)
        }
        _ => return Err("FROM needs an image, and optionally AS and a name".into()),
    };
    let from = expand(words[0], &seen, escape)?;
    if from.is_empty() {
        return Err(format!("the image {} is empty once its variables are replaced", words[0]));
    }
    Ok(Stage { name, from, place: one.place.clone(), instructions: Vec::new(), foreign })
}

/// Whether a platform is this machine's, however it is spelt: `linux/amd64`, `amd64`, `linux`, `Linux/x86_64`
/// (containerd's platforms, `Parse` and `Normalize`).
fn is_own_platform(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let machine = |name: &str| match name {
        "x86_64" | "x86-64" | "amd64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        _ => "another",
    };
    // Every variant of these that there are images for runs on them.
    let variant = |name: &str| matches!((ARCHITECTURE, name), ("amd64", "v1" | "v2") | ("arm64", "v8" | "8"));
    match parts.as_slice() {
        ["linux"] => true,
        [one] | ["linux", one] => machine(one) == ARCHITECTURE,
        ["linux", one, kind] => machine(one) == ARCHITECTURE && variant(kind),
        _ => false,
    }
}

/// The arguments that an ARG declares, with their values: the one that is given, else the default, else the outer one. The
/// default of an argument that is given a value is not looked at.
pub fn arguments(
    one: &Instruction,
    below: &Seen,
    (given, outer): (&Values, &Values),
    escape: char,
) -> Result<Vec<(String, Option<String>)>, String> {
    // Earlier declarations of the same instruction take precedence over other variables.
    let mut own = Values::new();
    let mut found = Vec::new();
    for word in raw_words(&one.rest, escape) {
        let (name, default) = word.split_once('=').map_or((word, None), |(name, default)| (name, Some(default)));
        if name.is_empty() {
            return Err("ARG needs a name".into());
        }
        let value = match (given.get(name), default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(expand(default, &Declared { own: &own, below }, escape)?),
            (None, None) => outer.get(name).cloned(),
        };
        own.extend(value.clone().map(|value| (name.to_owned(), value)));
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// The variables that an instruction has declared so far; they take precedence over all others.
struct Declared<'a> {
    own: &'a Values,
    below: &'a Seen<'a>,
}

impl Lookup for Declared<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.own.get(name).map(String::as_str).or_else(|| self.below.get(name))
    }

    fn spend(&self, steps: usize) -> Result<(), String> {
        self.below.spend(steps)
    }
}

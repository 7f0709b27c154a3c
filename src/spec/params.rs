//! Parameters: which values they have, where these come from, and which are legal.
//!
//! A value comes from `--set`, else from the environment, else from `.env`, else it is the default; only variables that a `param`
//! declares are looked at. Values from outside may be passwords, so no message has them.

use super::diagnose::{Diagnostic, Sink};
use super::grammar::{Kind, fits};
use super::tree::{Entry, Tree, Value};
use super::{Choices, Sources};
use crate::model::{Location, nearest};
use crate::project::ParamSource;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The types that a parameter may have, with what a value of it is, in words.
const TYPES: &[(&str, Kind, &str)] = &[
    ("string", Kind::Text, "a text"),
    ("integer", Kind::Integer(i64::MIN as i128, i64::MAX as i128), "a whole number"),
    ("boolean", Kind::Flag, "true or false"),
    ("size", Kind::Size, "a size such as \"256MiB\""),
    ("duration", Kind::Duration, "a duration such as \"30s\""),
    ("port", Kind::Integer(1, 65535), "a port from 1 to 65535"),
];

/// The value of a parameter.
#[derive(Clone, Debug)]
pub struct Given {
    /// None if it has none, or a wrong one.
    pub text: Option<String>,
    /// Whether a missing value has been reported.
    pub reported: bool,
    /// The file that the value is written in, which a path in it is relative to; empty for the project's directory.
    pub file: String,
}

/// The values of a project's parameters, and where they come from.
#[derive(Default)]
pub struct Values {
    pub given: BTreeMap<String, Given>,
    pub sources: BTreeMap<String, ParamSource>,
    /// The declarations of those without a value.
    pub missing: BTreeMap<String, Tree>,
    /// The variables of the environment that were asked for, with their values.
    pub env: BTreeMap<String, Option<String>>,
    /// The variables that were looked for in `.env`, with their values.
    pub settings: BTreeMap<String, Option<String>>,
}

/// The declaration of a parameter.
pub struct Declared<'a> {
    pub name: &'a str,
    pub node: &'a Tree,
}

impl<'a> Declared<'a> {
    /// The parameters that these nodes declare; a name that is declared twice is reported.
    pub fn all(nodes: impl Iterator<Item = &'a Tree>, sink: &mut Sink) -> Vec<Self> {
        let mut places: BTreeMap<&str, &Location> = BTreeMap::new();
        let mut found = Vec::new();
        for node in nodes.filter(|node| node.name == "param") {
            let Some(name) = node.first_text() else { continue };
            if let Some(first) = places.insert(name, &node.place) {
                let message = format!("the parameter \"{name}\" is declared twice");
                sink.push(Diagnostic::error("duplicate", node.place.clone(), message).other(first.clone(), "first here"));
            }
            found.push(Self { name, node });
        }
        found
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.node.props.iter().find(|(known, _)| known == name).map(|(_, entry)| entry)
    }

    /// Its default, as a value.
    pub fn default(&self, sink: &mut Sink) -> Option<Given> {
        let entry = self.entry("default")?;
        let text = match (&entry.value, self.kind()) {
            // As a number, 0x10 is 16; as a text, it is what is written.
            (Value::Integer(number), Some(Kind::Integer(..))) => number.to_string(),
            _ => entry.text(),
        };
        Some(self.checked(text, &entry.place, "its default", sink))
    }

    fn kind(&self) -> Option<Kind> {
        let kind = self.entry("type").map_or_else(|| "string".to_owned(), Entry::text);
        TYPES.iter().find(|(name, ..)| *name == kind).map(|(_, kind, _)| *kind)
    }

    /// A value, if it is of the parameter's type; else that is reported without the value, which may be private.
    pub fn checked(&self, text: String, place: &Location, what: &str, sink: &mut Sink) -> Given {
        let one_of = || self.node.children.iter().filter(|child| child.name == "values").flat_map(|child| &child.args);
        let is_listed = one_of().next().is_none() || one_of().any(|entry| entry.text() == text);
        let is_right = is_listed && self.kind().is_none_or(|kind| is_of(&text, kind));
        if !is_right {
            let wanted = if is_listed {
                let kind = self.entry("type").map_or_else(String::new, Entry::text);
                TYPES.iter().find(|(name, ..)| *name == kind).map_or_else(String::new, |(.., words)| (*words).to_owned())
            } else {
                format!("one of {}", one_of().map(|entry| Value::Text(entry.text()).written()).collect::<Vec<_>>().join(", "))
            };
            let message = format!("the parameter \"{}\" is {wanted}, and {what} is not", self.name);
            let mut found = Diagnostic::error("param-value", place.clone(), message);
            if *place != self.node.place {
                found = found.other(self.node.place.clone(), "declared here");
            }
            sink.push(found);
        }
        Given { text: is_right.then_some(text), reported: !is_right, file: place.file.clone() }
    }
}

/// Whether a text is of a kind, written as it is on a command line: without quotes.
fn is_of(text: &str, kind: Kind) -> bool {
    let value = match kind {
        Kind::Integer(..) => text.parse().map(Value::Integer),
        Kind::Flag => return matches!(text, "true" | "false"),
        _ => Ok(Value::Text(text.to_owned())),
    };
    let nowhere = Location { file: String::new(), line: 1, offset: 0, length: 0 };
    value.is_ok_and(|value| fits(&Entry { value, place: nowhere, name: 0, written: None }, kind).is_ok())
}

/// The values of the project's parameters.
pub fn values(nodes: &[Tree], choices: &Choices, sources: &dyn Sources, sink: &mut Sink) -> Values {
    let mut found = Values::default();
    let mut settings = None;
    for param in Declared::all(nodes.iter(), sink) {
        let given = from_outside(&param, choices, sources, &mut settings, &mut found, sink);
        let (given, source) = match given {
            Some((text, source)) => {
                let what = match &source {
                    ParamSource::Environment(name) => format!("the variable {name} of the environment"),
                    ParamSource::Settings(name) => format!("{name} in `.env`"),
                    ParamSource::Set | ParamSource::Default => format!("what `--set {}=…` gives", param.name),
                };
                let given = param.checked(text, &param.node.place, &what, sink);
                (Given { file: String::new(), ..given }, Some(source))
            }
            None => match param.default(sink) {
                Some(given) => (given, Some(ParamSource::Default)),
                None => (Given { text: None, reported: false, file: String::new() }, None),
            },
        };
        if let Some(source) = source {
            found.sources.insert(param.name.to_owned(), source);
        } else {
            found.missing.insert(param.name.to_owned(), param.node.clone());
        }
        found.given.insert(param.name.to_owned(), given);
    }
    let partial = sink.is_partial();
    for name in choices.set.keys().filter(|name| !partial && !found.given.contains_key(*name)) {
        let file = nodes.first().map_or_else(String::new, |node| node.place.file.clone());
        let place = Location { file, line: 1, offset: 0, length: 0 };
        let near = nearest(name, found.given.keys().map(String::as_str)).map(|near| format!("write `--set {near}=…`"));
        let message = format!("`--set {name}`: the project declares no such parameter");
        sink.push(Diagnostic::error("unknown-param", place, message).maybe_help(near));
    }
    found
}

/// The value that does not come from the project's files, if there is one, and where it does come from.
fn from_outside(
    param: &Declared,
    choices: &Choices,
    sources: &dyn Sources,
    settings: &mut Option<BTreeMap<String, String>>,
    found: &mut Values,
    sink: &mut Sink,
) -> Option<(String, ParamSource)> {
    let variable = param.entry("env").map(Entry::text);
    let from_env = variable.clone().and_then(|name| match sources.env(&name).map(OsString::into_string).transpose() {
        Ok(value) => {
            found.env.insert(name.clone(), value.clone());
            value.map(|text| (text, ParamSource::Environment(name)))
        }
        // Falling back to the default would silently replace the value that was given.
        Err(_) => {
            let text = format!("the environment variable {name} of the parameter \"{}\" is not text in UTF-8", param.name);
            let told = Diagnostic::error("wrong-value", param.node.place.clone(), text);
            sink.push(told.help("give it a value in UTF-8, or unset it".to_owned()));
            None
        }
    });
    if let Some(text) = choices.set.get(param.name) {
        return Some((text.clone(), ParamSource::Set));
    }
    if from_env.is_some() {
        return from_env;
    }
    let name = variable?;
    let settings = settings.get_or_insert_with(|| {
        sources.settings().unwrap_or_else(|why| {
            let told = Diagnostic::error("unreadable", param.node.place.clone(), format!("cannot read `.env`: {why}"));
            sink.push(told.help("mend the file, or remove it: it gives values to parameters with `env=`"));
            BTreeMap::new()
        })
    });
    let text = settings.get(&name).cloned();
    found.settings.insert(name.clone(), text.clone());
    Some((text?, ParamSource::Settings(name)))
}

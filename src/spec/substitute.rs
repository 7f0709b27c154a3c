//! `${name}` in texts: replaced by the values of parameters, and checked against the grammar afterwards.

use super::diagnose::{Diagnostic, Sink};
use super::grammar::{Kind, Node, fits, row};
use super::params::{Given, Values};
use super::paths::{arguments_are_files, settle_entry};
use super::tree::{Entry, Tree, Value};
use crate::model::{Amount, Location, bounds, nearest};
use crate::project::without_values;
use std::collections::{BTreeMap, BTreeSet};

/// The values that are put into texts.
pub struct Substitution {
    values: BTreeMap<String, Given>,
    /// The parameters of the template that is being used: they count before the project's.
    own: BTreeMap<String, Given>,
    /// The values that no message may have, with the names of their parameters.
    private: Vec<(String, String)>,
    /// How many bytes were put in so far.
    put_in: usize,
    /// Where a parameter without a value is needed first.
    needed: BTreeMap<String, Location>,
    /// The parameters that are used with a value for the case that they have none.
    spared: BTreeSet<String>,
}

impl Substitution {
    pub fn new(values: &Values) -> Self {
        let is_private = |name: &String| values.sources.get(name).is_some_and(|source| !source.is_of_project());
        let private = values.given.iter().filter(|(name, _)| is_private(name));
        let private = private.filter_map(|(name, given)| Some((name.clone(), given.text.clone()?))).collect();
        let (own, put_in, needed, spared) = (BTreeMap::new(), 0, BTreeMap::new(), BTreeSet::new());
        Self { values: values.given.clone(), own, private, put_in, needed, spared }
    }

    /// Makes the parameters of a template count; returns those that counted before.
    pub fn enter(&mut self, own: BTreeMap<String, Given>) -> BTreeMap<String, Given> {
        std::mem::replace(&mut self.own, own)
    }

    /// Replaces `${name}` in every text of a node.
    pub fn node(&mut self, tree: &mut Tree, rows: &'static [Node], sink: &mut Sink) {
        let Some(row) = row(rows, &tree.name) else { return };
        let named_here = arguments_are_files(tree, row);
        for (index, entry) in tree.args.iter_mut().enumerate() {
            self.entry(entry, row.argument(index), named_here, sink);
        }
        for (name, entry) in &mut tree.props {
            self.entry(entry, row.property(name), true, sink);
        }
        for child in &mut tree.children {
            self.node(child, row.children, sink);
        }
    }

    fn entry(&mut self, entry: &mut Entry, kind: Option<Kind>, is_of_project: bool, sink: &mut Sink) {
        let Value::Text(text) = &entry.value else { return };
        if !text.contains("${") {
            return;
        }
        let Some((out, file)) = self.text(text.clone(), &entry.place, sink) else { return };
        let number = matches!(kind, Some(Kind::Integer(..) | Kind::Number | Kind::Ports));
        let flag = matches!(kind, Some(Kind::Flag | Kind::FlagOr(_)));
        entry.value = match (out.parse::<i128>(), out.parse::<f64>(), out.parse::<bool>()) {
            (Ok(value), _, _) if number => Value::Integer(value),
            (_, Ok(value), _) if number => Value::Number(value),
            (_, _, Ok(value)) if flag => Value::Bool(value),
            _ => Value::Text(out),
        };
        let Some(kind) = kind else { return };
        // A `${` in the result comes from `$${` and is not a parameter.
        if let Err((message, help)) = fits(entry, kind) {
            let plain = |text: &str| without_values(&self.private, text);
            let message = format!("after substitution ({}): {message}", entry.value.written());
            let found = Diagnostic::error("wrong-value", entry.place.clone(), plain(&message));
            sink.push(found.maybe_help(help.as_deref().map(plain)));
        }
        if let Some(file) = file.filter(|_| is_of_project) {
            settle_entry(entry, kind, &file);
        }
    }

    /// A text with all values put in, and, if it begins with one, the file that this value is written in. `None` if one of them
    /// has none: that is reported, but for those that were reported before.
    fn text(&mut self, text: String, place: &Location, sink: &mut Sink) -> Option<(String, Option<String>)> {
        let (mut out, mut begins, mut whole) = (String::with_capacity(text.len()), None, true);
        let mut rest = text.as_str();
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            // `$${` is how a literal `${` is written.
            if rest[..at].ends_with('$') {
                out.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            let Some(end) = rest[at..].find('}') else {
                let found = Diagnostic::error("parameter", place.clone(), "`${` without its `}`");
                sink.push(found.help("write `$${` for a literal `${`"));
                return None;
            };
            let (value, file) = match self.value(&rest[at + 2..at + end], place, sink) {
                Ok(found) => found,
                Err(Lacking::Known) => {
                    whole = false;
                    (String::new(), String::new())
                }
                Err(Lacking::Stop) => return None,
            };
            if at == 0 && rest.len() == text.len() {
                begins = Some(file);
            }
            out.push_str(&value);
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        whole.then_some((out, begins))
    }

    /// The value of what is between the braces, `NAME` or `NAME:-OTHERWISE`, and the file that it is written in.
    fn value(&mut self, inside: &str, place: &Location, sink: &mut Sink) -> Result<(String, String), Lacking> {
        let (name, otherwise) = inside.split_once(":-").map_or((inside, None), |(name, text)| (name, Some(text)));
        let is_own = self.own.contains_key(name);
        let Some(given) = self.own.get(name).or_else(|| self.values.get(name)) else {
            // The parameter may be in a part that could not be read, so nothing is reported.
            if sink.is_partial() {
                return Err(Lacking::Stop);
            }
            sink.push(self.unknown(name, place));
            return Err(Lacking::Known);
        };
        let (value, file) = match (given.text.as_ref(), otherwise) {
            (Some(text), Some(otherwise)) if text.is_empty() => (otherwise.to_owned(), place.file.clone()),
            (None, Some(otherwise)) if !given.reported => (otherwise.to_owned(), place.file.clone()),
            (Some(text), _) => (text.clone(), given.file.clone()),
            (None, _) => {
                if !is_own && !given.reported {
                    self.needed.entry(name.to_owned()).or_insert_with(|| place.clone());
                }
                return Err(if sink.is_partial() { Lacking::Stop } else { Lacking::Known });
            }
        };
        if otherwise.is_some() && !is_own {
            self.spared.insert(name.to_owned());
        }
        if self.put_in > bounds::SUBSTITUTED {
            return Err(Lacking::Stop);
        }
        self.put_in += value.len();
        if self.put_in > bounds::SUBSTITUTED {
            let most = Amount::Bytes(bounds::SUBSTITUTED as u64);
            let message = format!("parameters put more than {most} into the project");
            sink.push(Diagnostic::error("too-much-text", place.clone(), message).help("give them shorter values"));
            return Err(Lacking::Stop);
        }
        Ok((value, file))
    }

    fn unknown(&self, name: &str, place: &Location) -> Diagnostic {
        let legal: String = name.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
        let help = match nearest(name, self.own.keys().chain(self.values.keys()).map(String::as_str)) {
            _ if name.contains([':', '?', '+']) => "give the parameter a `default=`, or write `${name:-text}`".to_owned(),
            Some(near) => format!("write `${{{near}}}`"),
            None if legal != name => {
                format!(
                    "variables are read where a parameter declares them: param \"{legal}\" env=\"{name}\"; then write `${{{legal}}}`"
                )
            }
            None => format!("declare it: `param \"{name}\" default=\"…\"`; write `$${{` for a literal `${{`"),
        };
        Diagnostic::error("unknown-param", place.clone(), format!("there is no parameter \"{name}\"")).help(help)
    }

    /// Reports the project's parameters that have no value and need one: those that are used without `:-`, or not at all.
    pub fn report_missing(&self, values: &Values, sink: &mut Sink) {
        for (name, node) in &values.missing {
            let needed = self.needed.get(name);
            if needed.is_none() && self.spared.contains(name) {
                continue;
            }
            let message = format!("the parameter \"{name}\" has no value");
            let mut missing = Diagnostic::error("param-without-value", node.place.clone(), message);
            if let Some(place) = needed {
                missing = missing.other(place.clone(), "needed here");
            }
            let variable = node.props.iter().find(|(known, _)| known == "env").map(|(_, entry)| entry.text());
            let variable = variable.map_or_else(String::new, |name| format!(", set {name} in the environment or in `.env`"));
            node.lacks(missing.help(format!("give one with `--set {name}=VALUE`{variable}, or write `default=` here")), sink);
        }
    }
}

/// Why there is no value.
enum Lacking {
    /// It is reported, or will be.
    Known,
    /// The text is left as it is.
    Stop,
}

//! Hover: what the word at the cursor means, and what is known about what it names.

use super::completion::described;
use super::facts::{size_text, time_text};
use super::names::{Kind, Mention, Role};
use super::project::At;
use super::scan::Slot;
use crate::spec::kind_text;
use crate::spec::table::Node as Row;
use std::fmt::Write as _;
use std::ops::Range;

/// A text in Markdown about a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hover {
    pub text: String,
    pub range: Range<usize>,
}

/// What there is to say about a place.
pub fn hover(at: &At) -> Option<Hover> {
    let document = at.document;
    if let Some(mention) = document.mention_at(at.offset)
        && let Some(text) = named(at, mention)
    {
        return Some(Hover { text, range: mention.place.clone() });
    }
    match document.scan.slot(at.offset) {
        Slot::Name { node: Some(node), replace, .. } => Some(Hover { text: node_text(document.row(node)?), range: replace }),
        Slot::Property { node, entry, replace } | Slot::Value { node, entry, replace } => {
            let name = document.scan.entries[entry].name.clone()?;
            let prop = document.row(node)?.props.iter().find(|prop| prop.name == document.value(&name))?;
            let text = format!("**{}=** {}\n\n{}", prop.name, kind_text(prop.kind), described(prop));
            Some(Hover { text, range: replace })
        }
        Slot::Argument { node, index, entry: Some(_), replace } => {
            let row = document.row(node)?;
            let text = package(at, node, &replace).or_else(|| {
                let arg = row.args.get(index).or(row.rest.as_ref())?;
                Some(format!("**{}**: {}\n\n{}", arg.name, kind_text(arg.kind), row.doc))
            })?;
            Some(Hover { text, range: replace })
        }
        _ => None,
    }
}

/// What the language says about a node.
fn node_text(row: &Row) -> String {
    let mut out = format!("**{}**\n\n{}", row.name, row.doc);
    if row.many {
        out.push_str(" May be repeated.");
    }
    if let Some(default) = row.default.map(|default| default.written()).filter(|default| !default.is_empty()) {
        let _ = write!(out, " Without it: {default}.");
    }
    if row.later {
        out.push_str(" **Checked, and refused by `up` in this version.**");
    }
    let _ = write!(out, "\n\n```kdl\n{}\n```", row.example);
    out
}

/// The locked package that a name stands for.
fn package(at: &At, node: usize, value: &Range<usize>) -> Option<String> {
    let name = at.document.value(value);
    let package = at.project.locked.package(at.document, node, &name)?;
    Some(format!(
        "**{}** {} ({})\n\n{} in the lock\n\n`sha256:{}`",
        package.name,
        package.version,
        package.architecture,
        size_text(package.size),
        package.sha256.hex()
    ))
}

/// What is known about what a name names.
fn named(at: &At, mention: &Mention) -> Option<String> {
    let declared = at.project.declared(mention.kind, &mention.name);
    let mut out = String::new();
    if let Some((file, document, first)) = declared.first() {
        let word = document.name(first.node);
        let line = document.lines.line_of(first.place.start) + 1;
        let _ = write!(out, "**{word} \"{}\"**", first.name);
        if mention.role == Role::Used {
            let _ = write!(out, " of {file}:{line}");
        }
        out.push_str("\n\n");
        match mention.kind {
            Kind::Param => {
                let default = document.property(first.node, "default");
                let from = document.property(first.node, "env");
                out.push_str(
                    &default.map_or_else(|| "It has no default.".into(), |value| format!("Its default is \"{value}\".")),
                );
                let _ = from.iter().try_for_each(|from| write!(out, " The environment variable {from} comes first."));
                out.push_str("\n\n");
            }
            Kind::Image => {
                if let Some(millis) = at.project.observed.builds.get(&first.name) {
                    let _ = write!(out, "Its last build took {}.\n\n", time_text(*millis));
                }
            }
            Kind::Container => replicas(at, &first.name, &mut out),
            Kind::Network => {
                if let Some(subnet) = at.project.observed.networks.get(&first.name) {
                    let _ = write!(out, "Its subnet is {subnet}.\n\n");
                }
            }
            _ => {}
        }
    } else if mention.kind == Kind::Image {
        reference(at, &mention.name, &mut out);
    } else {
        return None;
    }
    // The rest is what the language says about the node.
    if mention.role != Role::Used
        && let Some(row) = at.document.row(mention.node)
    {
        out.push_str(row.doc);
    }
    Some(out.trim_end().to_owned())
}

fn replicas(at: &At, container: &str, out: &mut String) {
    for replica in at.project.observed.replicas(container) {
        let _ = write!(out, "- {}: {}", replica.name, replica.state());
        for (network, address) in &replica.addresses {
            let _ = write!(out, ", {address} in {network}");
        }
        let _ = replica.ports.iter().try_for_each(|port| write!(out, ", {port}"));
        out.push('\n');
    }
}

/// An image of a registry.
fn reference(at: &At, reference: &str, out: &mut String) {
    let locked = &at.project.locked;
    let _ = write!(out, "**{reference}**\n\n");
    match locked.digest(reference) {
        Some(digest) => {
            let _ = write!(out, "The lock says `{digest}`.");
            match locked.sizes.get(reference) {
                Some(size) => {
                    let _ = write!(out, " It has {}.", size_text(*size));
                }
                None => out.push_str(" It is not in the store yet."),
            }
        }
        None => out.push_str("It is not locked yet: the next `stead up` or `stead update` locks it."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Locked, Observed, Replica};
    use super::super::project::testing::Fixture;
    use super::*;
    use crate::lock::{Lock, LockedImage};
    use crate::model::Digest;
    use crate::monitor::{Health, State};
    use std::sync::Arc;

    fn told(marked: &str) -> Option<String> {
        hover(&Fixture::new(marked).at()).map(|hover| hover.text)
    }

    #[test]
    fn words_of_the_language_are_explained() {
        assert!(told("containe█r \"web\" {}").unwrap().contains("runs as long as the environment is up"));
        assert!(told("container \"w\" { publish 80 t█o=90 }").unwrap().starts_with("**to=** port or range"));
        assert!(told("container \"w\" { restart \"n█o\" }").unwrap().contains("policy"));
        assert_eq!(told("unknow█n \"w\""), None);
        assert_eq!(told("█"), None);
        assert_eq!(told("// container█"), None);
    }

    #[test]
    fn names_tell_what_they_name() {
        let text = told("param \"tag\" default=\"dev\" env=\"TAG\"\nproject \"x-${ta█g}\"").unwrap();
        assert!(
            text.contains("param \"tag\"** of stead.kdl:1") && text.contains("\"dev\"") && text.contains("TAG comes first"),
            "{text}"
        );
        assert!(told("container \"w\" { image \"redis:█7\" }").unwrap().contains("not locked yet"));
    }

    #[test]
    fn what_is_locked_and_what_is_up_is_told() {
        let mut fixture = Fixture::new("container \"w\" { image \"redis:█7\" }");
        let digest = Digest::of("x");
        let mut lock = Lock::default();
        lock.images.insert("redis:7".into(), LockedImage::here(digest));
        fixture.project.locked = Arc::new(Locked { lock, sizes: [("redis:7".to_owned(), 5 << 20)].into() });
        let text = hover(&fixture.at()).unwrap().text;
        assert!(text.contains(&digest.to_string()) && text.contains("5 MiB"), "{text}");
        fixture.offset = 11;
        let replica = Replica {
            name: "w".into(),
            container: "w".into(),
            state: State::Running,
            health: Health::Healthy,
            ports: vec!["127.0.0.1:8080".into()],
            addresses: [("default".to_owned(), "10.1.2.3".to_owned())].into(),
        };
        fixture.project.observed = Arc::new(Observed { replicas: vec![replica], ..Observed::default() });
        let text = hover(&fixture.at()).unwrap().text;
        assert!(text.contains("w: healthy, 10.1.2.3 in default, 127.0.0.1:8080"), "{text}");
    }
}

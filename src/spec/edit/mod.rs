//! Changes single things in the texts of a project's files; all else in them stays as it is written.
//!
//! What is changed is found and checked by the grammar (`find`), and the change is made between the bytes of the text
//! (`patch`). Whether the result is a valid project is for the caller to check: it reads it again.

mod find;
mod patch;

use super::grammar::row;
use super::language::TOP;
use super::tree::{Tree, Value, parse};
use crate::model::kdl_text::quoted;
use crate::model::{Error, Result, nearest};
use find::{Target, candidates, literal, node, target, unknown_start};
use patch::Patch;
use std::collections::BTreeMap;

/// The new text of one of the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    pub file: String,
    pub text: String,
}

/// The texts of a project, with their nodes.
struct Read<'t> {
    texts: &'t BTreeMap<String, String>,
    trees: Vec<Tree>,
}

impl<'t> Read<'t> {
    fn new(texts: &'t BTreeMap<String, String>) -> Self {
        let mut sink = super::diagnose::Sink::default();
        let trees = texts.iter().flat_map(|(file, text)| parse(file, text, &mut sink)).collect();
        Self { texts, trees }
    }

    fn patch(&self, tree: &Tree) -> Result<Patch<'t>> {
        Patch::new(&tree.place.file, self.texts)
    }
}

/// Gives the node or property that a path of names leads to another value: `web.replicas`, `web.limits.memory`,
/// `web.env.NAME`, `image.web.workdir`, `web.publish.8080.to`. What is missing on the way is written.
///
/// # Errors
/// Says which part of the path leads nowhere and what is there, or which values were expected.
pub fn set(texts: &BTreeMap<String, String>, path: &str, values: &[String]) -> Result<Edit> {
    let read = Read::new(texts);
    let words: Vec<&str> = path.split('.').collect();
    let found = candidates(&read.trees, TOP, &words);
    let mut targets = found.into_iter().map(|found| target(found.tree, found.row, found.rest, found.named));
    let first = targets.next().ok_or_else(|| unknown_start(&read.trees, path))?;
    let wanted = match first {
        Ok(wanted) => wanted,
        Err(error) => targets.find_map(Result::ok).ok_or(error)?,
    };
    let mut patch;
    match wanted {
        Target::Args(tree, row) => {
            let wanted = find::arguments(row, values)?;
            patch = read.patch(tree)?;
            patch.arguments(tree, &wanted);
        }
        Target::Property(tree, prop) => {
            let value = literal(prop.kind, find::single(path, values)?, prop.name)?;
            patch = read.patch(tree)?;
            patch.property(tree, prop.name, &value);
        }
        Target::Free(parent, row, name) => {
            let value = find::single(path, values)?;
            let nodes: Vec<&Tree> = parent.children.iter().filter(|child| child.name == row.name).collect();
            let there = nodes.iter().find_map(|node| {
                let found = node.props.iter().find(|(known, _)| *known == name);
                found.map(|(_, entry)| (*node, Some(entry.text())))
            });
            let only = if let [only] = nodes.as_slice() { Some((*only, None)) } else { None };
            patch = read.patch(parent)?;
            match there.or(only) {
                Some((_, Some(known))) if known == value => {}
                Some((node, _)) => patch.property(node, &name, &Value::Text(value.to_owned())),
                None => patch.child(parent, &node(row, &[&name], values)?)?,
            }
        }
        Target::New(parent, row, rest) => {
            let text = node(row, rest, values)?;
            patch = read.patch(parent)?;
            patch.child(parent, &text)?;
        }
    }
    Ok(patch.finish())
}

/// A container that is to be written.
#[derive(Clone, Default, Debug)]
pub struct NewContainer {
    pub name: String,
    pub image: String,
    /// Ports of the host, each with the container's, if that is another: `8080:80`, or with an address before them.
    pub publish: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    pub networks: Vec<String>,
    pub after: Vec<String>,
    pub command: Vec<String>,
}

/// Writes a container at the end of a file.
///
/// # Errors
/// Says which value is not as it should be, or that there is a container of that name.
pub fn add_container(texts: &BTreeMap<String, String>, file: &str, wanted: &NewContainer) -> Result<Edit> {
    let read = Read::new(texts);
    let row = row(TOP, "container").ok_or_else(|| Error::new("there are no containers in this language"))?;
    if let Some(there) = named(&read.trees, "container", &wanted.name) {
        let error = Error::new(format!("there is a container \"{}\" already", wanted.name)).at(Some(&there.place));
        return Err(error.hint(format!("`stead set {}.image …` changes it", wanted.name)));
    }
    let line = |word: &str, more: &[&str], values: &[String]| {
        let inner = row.children.iter().find(|inner| inner.name == word);
        node(inner.ok_or_else(|| Error::new(format!("a container has no `{word}`")))?, more, values)
    };
    let mut lines = vec![line("image", &[], std::slice::from_ref(&wanted.image))?];
    for port in &wanted.publish {
        lines.push(find::published(port)?);
    }
    for pair in &wanted.env {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::new(format!("--env {pair}: NAME=VALUE was expected")).usage())?;
        lines.push(line("env", &[name], &[value.to_owned()])?);
    }
    for (word, values) in [("network", &wanted.networks), ("cmd", &wanted.command)] {
        if !values.is_empty() {
            lines.push(line(word, &[], values)?);
        }
    }
    for other in &wanted.after {
        lines.push(line("depends-on", &[], std::slice::from_ref(other))?);
    }
    let name = literal(row.args[0].kind, &wanted.name, "the name")?.written();
    let block: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let mut patch = Patch::new(file, texts)?;
    patch.at_end(&format!("container {name} {{\n{block}}}\n"));
    Ok(patch.finish())
}

/// Adds packages to the `debian` of an image; those that it has already are left out.
///
/// # Errors
/// Says that there is no such image, or that it has no `debian`, or several of which none is named by its suite.
pub fn add_packages(texts: &BTreeMap<String, String>, image: &str, suite: Option<&str>, packages: &[String]) -> Result<Edit> {
    let read = Read::new(texts);
    let Some(tree) = named(&read.trees, "image", image) else {
        let names = read.trees.iter().filter(|tree| tree.name == "image").filter_map(find::first);
        let names: Vec<String> = names.collect();
        let error = Error::new(format!("there is no `image \"{image}\"` in the project's files"));
        let near = nearest(image, names.iter().map(String::as_str)).map(|near| format!("write --image {near}"));
        return Err(error.hint(near.unwrap_or_else(|| format!("its images are: {}", names.join(", ")))));
    };
    let all: Vec<&Tree> = tree.children.iter().filter(|child| child.name == "debian").collect();
    let fitting: Vec<&Tree> =
        all.iter().copied().filter(|node| suite.is_none() || find::first(node).as_deref() == suite).collect();
    let debian = match (fitting.as_slice(), all.as_slice()) {
        ([only], _) => *only,
        ([], []) => {
            let error = Error::new(format!("the image \"{image}\" has no Debian packages")).at(Some(&tree.place));
            let package = packages.first().map_or("nginx", String::as_str);
            return Err(error.hint(format!("write into it: debian \"bookworm\" {{ package {} }}", quoted(package))));
        }
        (_, all) => {
            let suites: Vec<String> = all.iter().filter_map(|node| find::first(node)).collect();
            let error = Error::new(format!("which `debian` of \"{image}\" is meant?")).at(Some(&tree.place));
            return Err(error.hint(format!("say its suite: --suite {}", suites.join(" or "))));
        }
    };
    let nodes: Vec<&Tree> = debian.children.iter().filter(|child| child.name == "package").collect();
    let there = |name: &String| nodes.iter().flat_map(|node| &node.args).any(|arg| arg.text() == *name);
    let mut wanted: Vec<Value> = Vec::new();
    for name in packages.iter().filter(|name| !there(name)) {
        let value = Value::Text(name.clone());
        if !wanted.contains(&value) {
            wanted.push(value);
        }
    }
    let mut patch = read.patch(debian)?;
    match nodes.as_slice() {
        _ if wanted.is_empty() => {}
        [only] if only.props.is_empty() => {
            let all: Vec<_> = only.args.iter().map(|arg| arg.value.clone()).chain(wanted).collect();
            patch.arguments(only, &all);
        }
        _ => {
            let names: Vec<String> = wanted.iter().map(Value::written).collect();
            patch.child(debian, &format!("package {}", names.join(" ")))?;
        }
    }
    Ok(patch.finish())
}

fn named<'t>(trees: &'t [Tree], word: &str, name: &str) -> Option<&'t Tree> {
    trees.iter().find(|tree| tree.name == word && find::first(tree).as_deref() == Some(name))
}

#[cfg(test)]
mod tests;

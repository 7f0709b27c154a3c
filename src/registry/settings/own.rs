//! The user's own `config.kdl`.

use super::{Identity, Mirror, Rule, Settings, damaged, line_of, place};
use crate::model::kdl_text::{self, Limits};
use crate::model::{Error, Result, bounds, nearest};
use kdl::{KdlDocument, KdlNode};
use std::path::{Path, PathBuf};

impl Settings {
    pub(super) fn read_own(&mut self, path: &Path, text: &str) -> Result<()> {
        let file = Own { path, text };
        for node in file.document()?.nodes() {
            match node.name().value() {
                "default-registry" => {
                    let [host] = file.words(node, &[])?;
                    self.default_host = Some(file.place(node, host)?);
                }
                "alias" => {
                    let [short, full] = file.words(node, &[])?;
                    self.aliases.insert(short.to_owned(), full.to_owned());
                }
                "registry" => {
                    let rule = file.registry(node)?;
                    if self.own.iter().any(|other| other.prefix == rule.prefix) {
                        let why = format!("registry {:?} stands here twice", rule.prefix);
                        return Err(file.error(node.span().offset(), &why).hint("make one node of them"));
                    }
                    self.own.push(rule);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The user's `config.kdl`.
struct Own<'f> {
    path: &'f Path,
    text: &'f str,
}

impl Own<'_> {
    fn error(&self, offset: usize, why: &str) -> Error {
        damaged(self.path, line_of(self.text, offset), why)
    }

    fn document(&self) -> Result<KdlDocument> {
        let limits = Limits { nesting: bounds::NESTING, parts: bounds::PROJECT_PARTS };
        kdl_text::read(self.text, limits).map_err(|wrong| {
            let first = wrong.first();
            let error =
                self.error(first.map_or(0, |found| found.offset), first.map_or("this is not KDL", |found| &found.message));
            match first.and_then(|found| found.help.as_deref()) {
                Some(help) => error.hint(help),
                None => error,
            }
        })
    }

    fn unknown(&self, offset: usize, word: &str, known: &[&str]) -> Error {
        let error = self.error(offset, &format!("`{word}` is not known here"));
        match nearest(word, known.iter().copied()) {
            Some(near) => error.hint(format!("write `{near}`")),
            None if known.is_empty() => error.hint("leave it out"),
            None => error.hint(format!("known here: {}", known.join(", "))),
        }
    }

    /// A node's text arguments. Fails unless there are exactly `COUNT` and all properties are among the given ones.
    fn words<'n, const COUNT: usize>(&self, node: &'n KdlNode, properties: &[&str]) -> Result<[&'n str; COUNT]> {
        for entry in node.entries() {
            if let Some(name) = entry.name()
                && !properties.contains(&name.value())
            {
                return Err(self.unknown(entry.span().offset(), name.value(), properties));
            }
        }
        let name = node.name().value();
        if name != "registry" && node.children().is_some() {
            return Err(self.error(node.span().offset(), &format!("`{name}` has nothing in braces")));
        }
        let texts = node.entries().iter().filter(|entry| entry.name().is_none()).map(|entry| entry.value().as_string());
        let texts: Option<[&str; COUNT]> = texts.collect::<Option<Vec<_>>>().and_then(|texts| texts.try_into().ok());
        let count = if COUNT == 1 { "one text" } else { "two texts" };
        texts.ok_or_else(|| self.error(node.span().offset(), &format!("`{name}` takes {count} in quotes")))
    }

    fn place(&self, node: &KdlNode, text: &str) -> Result<String> {
        place(text).map_err(|why| self.error(node.span().offset(), &why))
    }

    fn insecure(&self, node: &KdlNode) -> Result<Option<bool>> {
        let Some(entry) = node.entry("insecure") else { return Ok(None) };
        let wrong = || self.error(entry.span().offset(), "`insecure` is #true or #false");
        entry.value().as_bool().map(Some).ok_or_else(wrong)
    }

    /// The path in a property, relative to the directory of this file.
    fn file(&self, node: &KdlNode, property: &str) -> Result<Option<PathBuf>> {
        let Some(entry) = node.entry(property) else { return Ok(None) };
        let wrong = || self.error(entry.span().offset(), &format!("`{property}` is the path of a file, in quotes"));
        let path = entry.value().as_string().ok_or_else(wrong)?;
        Ok(Some(self.path.parent().unwrap_or(Path::new("/")).join(path)))
    }

    fn authorities(&self, node: &KdlNode) -> Result<Vec<PathBuf>> {
        Ok(self.file(node, "ca")?.into_iter().collect())
    }

    fn identity(&self, node: &KdlNode) -> Result<Option<Identity>> {
        match (self.file(node, "client-cert")?, self.file(node, "client-key")?) {
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (None, None) => Ok(None),
            _ => Err(self.error(node.span().offset(), "`client-cert` and `client-key` come together")),
        }
    }

    fn registry(&self, node: &KdlNode) -> Result<Rule> {
        let [name] = self.words(node, &["insecure", "ca", "client-cert", "client-key"])?;
        let mut mirrors = Vec::new();
        for child in node.children().into_iter().flat_map(KdlDocument::nodes) {
            if child.name().value() != "mirror" {
                return Err(self.unknown(child.span().offset(), child.name().value(), &["mirror"]));
            }
            let [location] = self.words(child, &["insecure", "ca"])?;
            let location = self.place(child, location)?;
            let (insecure, authorities) = (self.insecure(child)?, self.authorities(child)?);
            mirrors.push(Mirror { location, insecure, authorities, only: None });
        }
        let (prefix, insecure) = (self.place(node, name)?, self.insecure(node)?);
        let (authorities, identity) = (self.authorities(node)?, self.identity(node)?);
        Ok(Rule { prefix, insecure, authorities, identity, mirrors, file: self.path.to_owned(), ..Rule::default() })
    }
}

use super::super::Context;
use super::super::ui::{Style, Text, mark_text};
use crate::engine;
use crate::model::{Error, Result};
use crate::plan::MarkKind;
use std::collections::BTreeSet;

/// Allows what the project file asks for beyond its directory and containers, for this directory from now on.
///
/// That is files of the host, privileges and the host's network: `stead plan` marks them with `!`. Commands that would
/// use them ask you first, or fail if there is no terminal. Exactly what is shown is allowed; if the file later asks
/// for anything else, you are asked again.
///
/// Example: stead plan && stead allow && stead up
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// List what was allowed in all directories, and allow nothing.
    #[arg(long)]
    list: bool,
    /// Forget what was allowed for this directory. Running containers are left alone.
    #[arg(long, conflicts_with = "list")]
    revoke: bool,
}

/// What one command is allowed to do.
#[derive(clap::Args, Debug, Default)]
pub struct Allow {
    /// Allow, this time, what the project asks for beyond its directory and containers: `files`, `privileges`,
    /// `network` or `all`, separated by commas. The environment variable `STEAD_ALLOW` does the same for all commands;
    /// `stead allow` allows it from now on.
    #[arg(long = "allow", value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
}

impl Allow {
    /// The allowed kinds, from the command line and the environment.
    ///
    /// # Errors
    /// Fails when a word is not a kind: a misspelt word must not silently allow less, or more.
    pub fn kinds(&self) -> Result<BTreeSet<MarkKind>> {
        let environment = std::env::var("STEAD_ALLOW").unwrap_or_default();
        let given = self.kinds.iter().map(|word| ("--allow", word.trim()));
        let standing = environment.split(',').map(|word| ("STEAD_ALLOW", word.trim())).filter(|(_, word)| !word.is_empty());
        let mut found = BTreeSet::new();
        for (option, word) in given.chain(standing) {
            match MarkKind::ALL.into_iter().find(|kind| kind.word() == word) {
                Some(kind) => drop(found.insert(kind)),
                None if word == "all" => found.extend(MarkKind::ALL),
                None => {
                    let error = Error::new(format!("{option}: \"{word}\" is not a kind that can be allowed"));
                    return Err(error.hint("write files, privileges, network or all").usage());
                }
            }
        }
        Ok(found)
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    if arguments.list {
        return list(context);
    }
    if arguments.revoke {
        let forgotten = engine::revoke(&context.instance()?)?;
        context.ui.say(if forgotten { "what was allowed here is forgotten" } else { "nothing was allowed here" });
        return Ok(0);
    }
    let loaded = context.project()?;
    let marks = engine::allow(&loaded)?;
    if !loaded.unsettled.is_empty() {
        context.ui.warn("the base image of a Dockerfile is not locked yet; once it is, you may be asked to allow more");
    }
    if marks.is_empty() {
        context.ui.say("the project asks for nothing beyond its directory and containers: nothing needs to be allowed");
        return Ok(0);
    }
    for mark in &marks {
        context.ui.result(Text::line(&mark.holder) + " " + mark_text(mark, context.ui.color_out));
    }
    let count = if marks.len() == 1 { "this is".to_owned() } else { format!("these {} are", marks.len()) };
    context.ui.say(Text::from(format!("{count} allowed in ")) + Text::line(&loaded.instance.folder.display().to_string()));
    Ok(0)
}

/// Lists everything that was allowed in this installation. Damaged records are reported, and the exit code is then 1.
fn list(context: &Context) -> Result<u8> {
    let mut code = 0;
    for found in engine::allowed(&context.options.home)? {
        match found {
            Ok(allowed) => {
                let file = if allowed.file == "stead.kdl" { String::new() } else { format!("/{}", allowed.file) };
                let folder = Text::line(&format!("{}{file}", allowed.folder.display()));
                context.ui.result(Style::Bold.paint(folder, context.ui.color_out));
                for mark in &allowed.marks {
                    context.ui.result(Text::from("  ") + Text::line(&format!("{}: {}", mark.holder, mark.text)));
                }
            }
            Err(error) => {
                context.ui.error(&error);
                code = 1;
            }
        }
    }
    Ok(code)
}

use super::super::Context;
use super::super::schemas::{self, ALL};
use super::super::ui::{Style, Table};
use crate::model::{Error, Result, nearest};

/// Prints a schema: of project files, of the lock, or of what a command prints as JSON.
///
/// Example: stead schema plan
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Which one; that of the language for programs if not given.
    name: Option<String>,
    /// List them.
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// Print the reference manual of the language in Markdown, as `stead schema reference` does.
    #[arg(long, conflicts_with_all = ["name", "list"])]
    reference: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    if arguments.list {
        let mut table = Table::new(&["NAME", "WHAT"], &[]);
        ALL.iter().for_each(|one| table.row([(one.name.to_owned(), Some(Style::Bold)), (one.what.to_owned(), None)]));
        context.ui.result(table.text(&context.ui));
        return Ok(0);
    }
    let usual = if arguments.reference { schemas::REFERENCE } else { schemas::LANGUAGE };
    let name = arguments.name.as_deref().unwrap_or(usual);
    let found = ALL.iter().find(|one| one.name == name).ok_or_else(|| {
        let error = Error::new(format!("there is no schema `{name}`")).usage();
        match nearest(name, ALL.iter().map(|one| one.name)) {
            Some(near) => error.hint(format!("perhaps `stead schema {near}`")),
            None => error.hint("`stead schema --list` lists them"),
        }
    })?;
    context.ui.result(found.text());
    Ok(0)
}

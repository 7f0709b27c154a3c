use super::super::Context;
use crate::engine::{self, Applied, LoadError};
use crate::model::{Error, Result};
use crate::spec::{self, Edit, has_errors};
use std::collections::BTreeMap;

/// Changes a value in the project's files, and leaves all else in them as it is written.
///
/// A path leads to the value: the name of a container (or of an image, a network, …), then the words in its block, with dots
/// between them; image.web.workdir if several have the name.
///
/// Example: stead set web.replicas 3
/// Example: stead set web.limits.memory 512MiB
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The path: web.replicas, web.env.NAME, web.publish.8080.to.
    path: String,
    /// The value; several if it is a list, as for web.cmd.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    values: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let edit = spec::set(&texts(context)?, &arguments.path, &arguments.values)?;
    apply(&edit, context)
}

/// The texts of the project, which have no errors of syntax.
pub fn texts(context: &Context) -> Result<BTreeMap<String, String>> {
    let texts = engine::texts(&context.options)?;
    if has_errors(&texts.diagnostics) {
        context.ui.diagnostics(&texts.diagnostics, &texts.files);
        return Err(Error::new("the project's files have errors, and nothing was changed"));
    }
    Ok(texts.files)
}

/// Writes a change, and shows it.
pub fn apply(edit: &Edit, context: &Context) -> Result<u8> {
    match engine::apply(&context.options, edit) {
        Ok(Applied::Unchanged) => context.ui.say(format!("{} says so already", edit.file)),
        Ok(Applied::Done { before, after }) => context.ui.say(difference(&edit.file, &before, &after)),
        Err(LoadError::Error(error)) => return Err(error),
        Err(LoadError::Wrong(found, files)) => {
            context.ui.diagnostics(&found, &files);
            return Err(Error::new(format!("{} would not be valid with that, and nothing was written", context.options.file)));
        }
    }
    Ok(0)
}

/// The lines that changed, with the place of the first.
fn difference(file: &str, before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = |lines: &[&str]| lines[same..].iter().rev().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let end = rest(&old).iter().zip(rest(&new)).take_while(|(old, new)| *old == new).count();
    let shown = |sign: &str, lines: &[&str]| {
        lines[same..lines.len() - end].iter().map(|line| format!("\n  {sign} {}", line.trim_end())).collect::<String>()
    };
    format!("{file}:{}{}{}", same + 1, shown("-", &old), shown("+", &new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_changed_are_shown() {
        let shown = |before, after| difference("x.kdl", before, after);
        assert_eq!(shown("a\n  b 1\nc\n", "a\n  b 2\nc\n"), "x.kdl:2\n  -   b 1\n  +   b 2");
        assert_eq!(shown("a\n", "a\nb\n\nb\n"), "x.kdl:2\n  + b\n  + \n  + b");
        assert_eq!(shown("a\nb\nb\n", "a\nb\n"), "x.kdl:3\n  - b");
    }
}

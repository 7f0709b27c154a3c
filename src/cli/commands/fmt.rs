use super::super::Context;
use crate::engine::Written;
use crate::model::{Context as _, Error, Result, bounds};
use crate::spec;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

/// Gives project files one format: only the white space between words changes.
///
/// Example: stead fmt --check
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The files, or `-` for standard input; if none is given, the project file and all files that it includes.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing; list the files that have another format, and exit with code 1 if there are any.
    #[arg(long)]
    check: bool,
}

/// How many files were seen, of which others have another format or cannot be formatted.
#[derive(Default)]
struct Tally {
    all: usize,
    other: usize,
    refused: usize,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let mut tally = Tally::default();
    if arguments.files.is_empty() {
        for name in super::set::texts(context)?.keys() {
            file(&Written::of_project(&context.options, name)?, arguments, context, &mut tally)?;
        }
    }
    for path in &arguments.files {
        if path.as_os_str() == "-" {
            standard_input(arguments, context, &mut tally)?;
        } else {
            file(&Written::open(path)?, arguments, context, &mut tally)?;
        }
    }
    if tally.refused > 0 {
        return Err(Error::new("what has errors was not formatted"));
    }
    if tally.other == 0 && arguments.files.iter().all(|path| path.as_os_str() != "-") {
        context.ui.say(if tally.all == 1 {
            "nothing to format".to_owned()
        } else {
            format!("nothing to format in {} files", tally.all)
        });
    }
    Ok(u8::from(arguments.check && tally.other > 0))
}

fn file(written: &Written, arguments: &Arguments, context: &Context, tally: &mut Tally) -> Result<()> {
    let Some(text) = formatted(&written.name, &written.text, context, tally) else { return Ok(()) };
    if text == written.text {
        return Ok(());
    }
    tally.other += 1;
    if arguments.check {
        context.ui.result(written.name.as_str());
        return Ok(());
    }
    written.replace(&text)?;
    context.ui.say(format!("formatted {}", written.name));
    Ok(())
}

fn standard_input(arguments: &Arguments, context: &Context, tally: &mut Tally) -> Result<()> {
    const NAME: &str = "standard input";
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(bounds::PROJECT_FILE + 1).read_to_end(&mut bytes).context(|| format!("cannot read {NAME}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::new(format!("{NAME} is not UTF-8 (byte {})", error.utf8_error().valid_up_to())))?;
    let Some(new) = formatted(NAME, &text, context, tally) else { return Ok(()) };
    tally.other += usize::from(new != text);
    if !arguments.check {
        context.ui.raw(new.as_bytes());
    } else if new != text {
        context.ui.result(NAME);
    }
    Ok(())
}

/// The text in its format; if it has errors, they are shown.
fn formatted(name: &str, text: &str, context: &Context, tally: &mut Tally) -> Option<String> {
    tally.all += 1;
    let new = spec::format(text);
    if new.is_none() {
        tally.refused += 1;
        context.ui.diagnostics(&spec::syntax(name, text), &BTreeMap::from([(name.to_owned(), text.to_owned())]));
    }
    new
}

use super::super::Context;
use super::super::ui::{dot, mermaid, svg};
use crate::engine;
use crate::model::{Context as _, Error, Result};
use std::path::{Path, PathBuf};

/// Draws the project: its containers, images, networks and volumes, and what uses what.
///
/// Example: stead graph -o shop.svg
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The format; by default that of the output file's name, else dot.
    #[arg(long, value_parser = ["svg", "dot", "mermaid"])]
    format: Option<String>,
    /// Write a file instead of standard output: NAME.svg, NAME.dot or NAME.mmd.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let format = match (&arguments.format, &arguments.output) {
        (Some(format), Some(path)) => agreed(format, path)?,
        (Some(format), None) => format.as_str(),
        (None, Some(path)) => by_name(path)?,
        (None, None) => "dot",
    };
    let graph = engine::graph(&context.project_dry()?.project);
    let text = match format {
        "svg" => svg(&graph),
        "mermaid" => mermaid(&graph),
        _ => dot(&graph),
    };
    match &arguments.output {
        Some(path) => {
            crate::sys::write_atomic(path, text.as_bytes(), 0o644).context(|| format!("cannot write {}", path.display()))?;
        }
        None => context.ui.result(text),
    }
    Ok(0)
}

/// The format that was asked for, unless the file's name stands for another one.
fn agreed<'a>(format: &'a str, path: &Path) -> Result<&'a str> {
    match by_name(path) {
        Ok(other) if other != format => {
            Err(Error::new(format!("the name {} stands for {other}, not for {format}", path.display()))
                .hint("leave --format out, or give the file another name")
                .usage())
        }
        _ => Ok(format),
    }
}

/// The format that a file's name stands for.
fn by_name(path: &Path) -> Result<&'static str> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok("svg"),
        Some("dot" | "gv") => Ok("dot"),
        Some("mmd" | "mermaid") => Ok("mermaid"),
        _ => Err(Error::new(format!("the name {} does not tell a format", path.display()))
            .hint("end it in .svg, .dot or .mmd, or give --format")
            .usage()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_format() {
        for (name, wanted) in [("a.svg", "svg"), ("x/a.gv", "dot"), ("a.b.mmd", "mermaid")] {
            assert_eq!(by_name(Path::new(name)).unwrap(), wanted);
        }
        assert_eq!(agreed("dot", Path::new("a.gv")).unwrap(), "dot");
        assert_eq!(agreed("svg", Path::new("a")).unwrap(), "svg", "a name that stands for none");
        assert_eq!(agreed("svg", Path::new("x.dot")).unwrap_err().code(), 2);
        for name in ["a", "a.png", ".svg"] {
            assert_eq!(by_name(Path::new(name)).unwrap_err().code(), 2, "{name}");
        }
    }
}

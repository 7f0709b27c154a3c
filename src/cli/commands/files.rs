//! The commands for a container's files: `cp`, `changes`, `export`, `commit`.

use super::super::Context;
use crate::engine::{self, Difference};
use crate::model::{Context as _, Error, Name, Result, visible_line};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Copies files between the host and a container, running or not.
///
/// A directory is copied with its contents; `DIR/.` copies only the contents. A link is copied as a link; with a `/` behind
/// its name, what it leads to is copied. Files that are copied in belong to root; files that are copied out belong to you,
/// and are never setuid.
///
/// Example: stead cp web:/var/log/app.log .
#[derive(clap::Args, Debug)]
pub struct Copy {
    /// The source: a path, or CONTAINER:PATH.
    from: String,
    /// The destination: a path, or CONTAINER:PATH.
    to: String,
}

/// Shows how a container's files differ from its image: A added, C changed, D deleted.
///
/// Example: stead changes web
#[derive(clap::Args, Debug)]
pub struct Changes {
    /// The container or replica.
    name: String,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes a container's file system as a tar archive, without its mounts.
///
/// Example: stead export web -o web.tar
#[derive(clap::Args, Debug)]
pub struct Export {
    /// The file to write; standard output if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container or replica.
    name: String,
}

/// Creates an image from a container: its image, plus what the container wrote since.
///
/// The image is kept until `gc` is run after the project's `down`; `stead images` lists it.
///
/// Example: stead commit web web-patched --change 'CMD ["nginx"]'
#[derive(clap::Args, Debug)]
pub struct Commit {
    /// The container or replica.
    name: String,
    /// The name of the image; the container's name if not given.
    image: Option<String>,
    /// Change the image's configuration with a Dockerfile instruction; may be repeated.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
}

/// The container and the path in it, if the text names them; a path on the host with a colon is written `./a:b`.
fn inside(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(':')?;
    (!name.is_empty() && !name.contains('/') && !name.starts_with('.')).then_some((name, path))
}

pub fn copy(arguments: &Copy, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    if arguments.from == "-" || arguments.to == "-" {
        let error = Error::new("`-` is not taken as a stream").usage();
        return Err(error.hint("for a tar: stead exec -T web tar -c -C / srv; for a file of that name: ./-"));
    }
    match (inside(&arguments.from), inside(&arguments.to)) {
        (Some((name, path)), None) => {
            engine::copy_out(&instance, &instance.find(name)?, path, Path::new(&arguments.to))?;
        }
        (None, Some((name, path))) => {
            let from = std::path::absolute(&arguments.from).context(|| format!("cannot read {}", arguments.from))?;
            // `absolute` removes the final dot, which means "only the contents".
            let from = if arguments.from.ends_with("/.") { PathBuf::from(format!("{}/.", from.display())) } else { from };
            engine::copy_in(&instance, &instance.find(name)?, &from, path)?;
        }
        (Some(_), Some(_)) => {
            return Err(Error::new("files are copied between a container and the host, not between two containers")
                .hint("copy to the host first, or let both mount one volume")
                .usage());
        }
        (None, None) => {
            return Err(Error::new("neither path is in a container").hint("for example: stead cp web:/etc/hosts .").usage());
        }
    }
    Ok(0)
}

pub fn changes(arguments: &Changes, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let found = engine::changes(&instance, &instance.find(&arguments.name)?)?;
    let letter = |difference: &Difference| match difference {
        Difference::Added => "A",
        Difference::Changed => "C",
        Difference::Deleted => "D",
    };
    if arguments.json {
        let list: Vec<_> = found
            .iter()
            .map(|(path, difference)| serde_json::json!({ "path": path.display().to_string(), "kind": letter(difference) }))
            .collect();
        context.ui.json(&serde_json::json!({ "version": 1, "changes": list }));
    } else {
        let lines: Vec<String> = found
            .iter()
            .map(|(path, difference)| format!("{} {}", letter(difference), visible_line(&path.display().to_string())))
            .collect();
        context.ui.result(lines.join("\n"));
    }
    Ok(0)
}

pub fn export(arguments: &Export, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let name = instance.find(&arguments.name)?;
    write_archive(arguments.output.as_deref(), "stead export NAME -o FILE", |mut out| {
        engine::export(&instance, &name, &mut out).map(drop)
    })?;
    Ok(0)
}

/// Writes an archive to a file, which is removed again after a failure, or to standard output if that is no terminal.
/// `with_file` is what to type instead on a terminal.
pub fn write_archive<T>(
    output: Option<&Path>,
    with_file: &str,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<T> {
    let Some(path) = output else {
        if std::io::stdout().is_terminal() {
            let error = Error::new("an archive cannot be written to a terminal");
            return Err(error.hint(format!("type `{with_file}`")).usage());
        }
        let mut out = BufWriter::new(std::io::stdout());
        let done = write(&mut out)?;
        out.flush().context(|| "cannot write".into())?;
        return Ok(done);
    };
    let file = File::create(path).context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|done| out.flush().context(|| "cannot write".into()).map(|()| done));
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

pub fn commit(arguments: &Commit, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let name = instance.find(&arguments.name)?;
    let wanted = arguments.image.as_ref().unwrap_or(&name);
    let image = Name::parse(wanted).map_err(|why| {
        let error = Error::new(format!("\"{}\" cannot be the image's name: {why}", wanted.escape_debug())).usage();
        if !wanted.contains([':', '/']) {
            return error;
        }
        // As Docker's users write it.
        let project = &instance.project;
        error.hint(format!(
            "the image becomes one of the project; `stead tag {project}/NAME REGISTRY/NAME:TAG` gives it another name"
        ))
    })?;
    let made = engine::commit(&instance, &name, &image, &arguments.changes)?;
    // By this name other commands find it: `run`, `image`, `push`, `from`.
    context.ui.result(format!("{}/{image} {}", instance.record()?.project, made.digest));
    Ok(0)
}

use super::super::Context;
use super::super::ui::Shown;
use super::image::project;
use crate::engine;
use crate::model::{Context as _, Error, Result};
use crate::plan::Config;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

/// Gives an image another name.
///
/// Example: stead tag app ghcr.io/o/app:1
#[derive(clap::Args, Debug)]
pub struct Tag {
    /// An `image` of the project, a name, the beginning of a digest, or PROJECT/IMAGE.
    image: String,
    /// The new name, written as in Docker.
    name: String,
}

/// Removes names of images; `stead gc` frees images that nothing names any more.
///
/// Example: stead rmi redis:7
#[derive(clap::Args, Debug)]
pub struct Remove {
    /// Names, or the beginnings of digests.
    #[arg(required = true)]
    images: Vec<String>,
}

/// Loads images from an archive: an OCI layout (a tar archive or a directory), or the output of `docker save`.
///
/// Example: stead load -i app.tar
#[derive(clap::Args, Debug)]
pub struct Load {
    /// The archive; standard input if not given.
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Load only the image with this name.
    #[arg(long)]
    name: Option<String>,
}

/// Creates an image from a tar archive of a root file system.
///
/// Example: stead import rootfs.tar.xz mine:1 --change 'CMD ["/bin/sh"]'
#[derive(clap::Args, Debug)]
pub struct Import {
    /// The tar archive, plain or compressed; `-` is standard input.
    file: PathBuf,
    /// The name of the image, written as in Docker.
    name: String,
    /// Change the image's configuration with a Dockerfile instruction; may be repeated.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
}

pub fn tag(arguments: &Tag, context: &Context) -> Result<u8> {
    let (reference, image) = engine::tag(&context.options.home, project(context)?.as_ref(), &arguments.image, &arguments.name)?;
    context.ui.result(format!("{reference} {}", image.digest));
    Ok(0)
}

pub fn remove(arguments: &Remove, context: &Context) -> Result<u8> {
    for (name, digest) in engine::untag(&context.options.home, &arguments.images)? {
        context.ui.result(format!("{name} {digest}"));
    }
    Ok(0)
}

pub fn load(arguments: &Load, context: &Context) -> Result<u8> {
    let (path, _kept) = match &arguments.input {
        Some(path) => (path.clone(), None),
        None if std::io::stdin().is_terminal() => {
            return Err(Error::new("no archive is given").hint("type `stead load -i FILE`").usage());
        }
        None => {
            // The archive's parts are read in any order, so it must be a file.
            let mut file = engine::scratch_file(&context.options.home)?;
            std::io::copy(&mut std::io::stdin().lock(), &mut file.1).context(|| "cannot store the archive".into())?;
            (file.0.join("archive"), Some(file))
        }
    };
    for (name, image) in engine::load_archive(&context.options.home, &path, arguments.name.as_deref())? {
        context.ui.result(format!("{} {}", name.unwrap_or_else(|| "-".into()), image.digest));
    }
    Ok(0)
}

pub fn import(arguments: &Import, context: &Context) -> Result<u8> {
    let from: Box<dyn Read + Send> = if arguments.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(&arguments.file).context(|| format!("cannot open {}", arguments.file.display()))?)
    };
    let config = engine::change(Config::default(), &arguments.changes)?;
    let shown = Shown::new(&context.ui, false);
    let made = engine::import(&context.options.home, from, &arguments.name, &config);
    shown.clear();
    let (reference, image) = made?;
    context.ui.result(format!("{reference} {}", image.digest));
    Ok(0)
}

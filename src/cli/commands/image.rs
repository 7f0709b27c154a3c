use super::super::Context;
use super::super::ui::{Style, Table};
use crate::build::describe;
use crate::engine::{self, LoadedProject};
use crate::image;
use crate::model::{Context as _, Error, Name, Result, Size, visible_line};
use crate::plan::Image;
use crate::store::Store;
use clap::Subcommand;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;

/// Inspects images, each given as an `image` of the project, the beginning of a digest, or PROJECT/IMAGE.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Prints an image's manifest and configuration as JSON.
    Inspect { image: String },
    /// Lists an image's layers, each with the step that made it.
    History {
        image: String,
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the packages in an image as a bill of materials: SPDX 2.3 or CycloneDX 1.5, in JSON.
    Sbom {
        image: String,
        #[arg(long, default_value = "spdx", value_parser = ["spdx", "cyclonedx"])]
        format: String,
    },
    /// Prints what an image was built from, as an in-toto statement with SLSA provenance.
    Provenance { image: String },
    /// Lists what differs between two images: files, with their sizes, and packages.
    Diff {
        before: String,
        after: String,
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Writes an image for other tools, as an OCI layout or in the format that `docker load` reads.
///
/// Example: stead save app -o app.tar && skopeo copy oci-archive:app.tar containers-storage:app
#[derive(clap::Args, Debug)]
pub struct Save {
    /// An `image` of the project, the beginning of a digest, or PROJECT/IMAGE.
    image: String,
    /// The file or directory to write; standard output if not given.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// `oci` is an OCI layout in a tar archive, `docker` is what `docker save` writes, `folder` is an OCI layout in a directory.
    #[arg(long, default_value = "oci", value_parser = ["oci", "docker", "folder"])]
    format: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    match &arguments.what {
        What::Inspect { image } => inspect(image, context),
        What::History { image, json } => history(image, *json, context),
        What::Sbom { image, format } => {
            let (name, found, components) = contents(image, context)?;
            let write = if format == "spdx" { image::spdx } else { image::cyclonedx };
            context.ui.json(&write(&name, &found.digest, &components));
            Ok(0)
        }
        What::Provenance { image } => {
            let found = find(image, context)?;
            let kept = image::kept_provenance(&Store::at(&context.options.home.store), &found.digest);
            let none = || Error::new(format!("there is no provenance of {image}: it was not built here"));
            context.ui.json(&kept.ok_or_else(none)?);
            Ok(0)
        }
        What::Diff { before, after, json } => diff(before, after, *json, context),
    }
}

/// The project, if there is one here: images in the store can be inspected from any directory.
pub fn project(context: &Context) -> Result<Option<LoadedProject>> {
    if context.has_project() { context.project_dry().map(Some) } else { Ok(None) }
}

pub fn find(text: &str, context: &Context) -> Result<Image> {
    engine::find_image(&context.options.home, project(context)?.as_ref(), text)
}

/// An image's name, the image, and the packages in it.
pub fn contents(text: &str, context: &Context) -> Result<(String, Image, Vec<image::Component>)> {
    let loaded = project(context)?;
    let found = engine::find_image(&context.options.home, loaded.as_ref(), text)?;
    let lock = loaded.map(|loaded| engine::read_lock(&loaded.instance)).transpose()?.unwrap_or_default();
    let components = engine::components(&Store::at(&context.options.home.store), &found, &lock);
    Ok((text.to_owned(), found, components))
}

fn inspect(text: &str, context: &Context) -> Result<u8> {
    let image = find(text, context)?;
    let store = Store::at(&context.options.home.store);
    let read = |digest| store.blob(&digest).and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let lost = || Error::new(format!("image {text} is not whole in the store"));
    let manifest = read(image.digest).ok_or_else(lost)?;
    let config = manifest["config"]["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
    let config = crate::model::Digest::parse(config).and_then(read).ok_or_else(lost)?;
    context.ui.json(&serde_json::json!({ "version": 1, "digest": image.digest, "manifest": manifest, "config": config }));
    Ok(0)
}

fn history(text: &str, json: bool, context: &Context) -> Result<u8> {
    let loaded = project(context)?;
    let image = engine::find_image(&context.options.home, loaded.as_ref(), text)?;
    let own = loaded.as_ref().and_then(|loaded| Some((loaded, loaded.project.images.get_key_value(text)?.0)));
    let layers = match own {
        Some((loaded, name)) => engine::history(loaded, name)?,
        None => image.layers.iter().map(|layer| (None, layer.clone())).collect(),
    };
    let step = |index: usize| own.map(|(loaded, name)| describe(&loaded.project.images[name].steps[index]));
    let base = |_: &Name| "of its base".to_owned();
    let mut table = Table::new(&["LAYER", "FILES", "SIZE", "STEP"], &["FILES"]);
    let mut list = Vec::new();
    for (index, layer) in &layers {
        let made = index.and_then(step).or_else(|| own.map(|(_, name)| base(name))).unwrap_or_else(|| "-".into());
        list.push(serde_json::json!({ "layer": layer.diff_id, "files": layer.files, "size": layer.size, "step": made }));
        table.row([
            (layer.diff_id.short(12), Some(Style::Bold)),
            (layer.files.to_string(), None),
            (Size(layer.size).to_string(), None),
            (made, None),
        ]);
    }
    if json {
        context.ui.json(&serde_json::json!({ "version": 1, "layers": list }));
    } else {
        context.ui.result(table.text(&context.ui));
    }
    Ok(0)
}

fn diff(before: &str, after: &str, json: bool, context: &Context) -> Result<u8> {
    let (old, new) = (find(before, context)?, find(after, context)?);
    let found = engine::compare(&Store::at(&context.options.home.store), &old, &new)?;
    if json {
        let paths: Vec<_> = found
            .paths
            .iter()
            .map(|one| serde_json::json!({ "path": one.path.display().to_string(), "before": one.before, "after": one.after }))
            .collect();
        let packages: Vec<_> = found
            .packages
            .iter()
            .map(|(name, (before, after))| serde_json::json!({ "name": name, "before": before, "after": after }))
            .collect();
        context.ui.json(&serde_json::json!({ "version": 1, "files": paths, "packages": packages }));
        return Ok(0);
    }
    let mut lines = Vec::new();
    for (name, versions) in &found.packages {
        lines.push(match versions {
            (None, Some(after)) => format!("+ package {name} {after}"),
            (Some(before), None) => format!("- package {name} {before}"),
            (before, after) => {
                let shown = |version: &Option<String>| version.clone().unwrap_or_default();
                format!("~ package {name} {} → {}", shown(before), shown(after))
            }
        });
    }
    for one in &found.paths {
        let path = visible_line(&one.path.display().to_string()).into_owned();
        lines.push(match (one.before, one.after) {
            (None, after) => format!("+ {path} {}", Size(after.unwrap_or(0))),
            (before, None) => format!("- {path} {}", Size(before.unwrap_or(0))),
            (Some(before), Some(after)) if before == after => format!("~ {path} {}", Size(after)),
            (Some(before), Some(after)) => format!("~ {path} {} → {}", Size(before), Size(after)),
        });
    }
    if lines.is_empty() {
        context.ui.say("the images have the same files");
    } else {
        context.ui.result(lines.join("\n"));
    }
    Ok(0)
}

pub fn save(arguments: &Save, context: &Context) -> Result<u8> {
    let image = find(&arguments.image, context)?;
    let store = Store::at(&context.options.home.store);
    let reference = arguments.image.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(path) = &arguments.output else {
        if arguments.format == "folder" || std::io::stdout().is_terminal() {
            return Err(Error::new("an archive cannot be written to a terminal").hint("type `stead save IMAGE -o FILE`").usage());
        }
        arguments.archive(&store, &image, &reference, &mut BufWriter::new(std::io::stdout()))?;
        return Ok(0);
    };
    // The output appears under its name only when it is complete.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", crate::sys::unique()));
    let partial = path.with_file_name(name);
    let failed = || format!("cannot write {}", path.display());
    let write = || {
        if arguments.format == "folder" {
            std::fs::create_dir(&partial).context(failed)?;
            image::write_folder(&store, &image, &reference, &partial)
        } else {
            let file = File::create(&partial).context(failed)?;
            arguments.archive(&store, &image, &reference, &mut BufWriter::new(file))
        }
    };
    let written = write().and_then(|()| std::fs::rename(&partial, path).context(failed));
    written.inspect_err(|_| drop(std::fs::remove_file(&partial).or_else(|_| std::fs::remove_dir_all(&partial))))?;
    context.ui.say(format!("saved {} to {}", arguments.image, path.display()));
    Ok(0)
}

impl Save {
    fn archive(&self, store: &Store, image: &Image, reference: &str, out: &mut (impl std::io::Write + Send)) -> Result<()> {
        if self.format == "docker" {
            let reference =
                engine::full_name(&self.image).map_or_else(|_| format!("{reference}:latest"), |name| name.to_string());
            return image::write_docker(store, image, &reference, out);
        }
        image::write_layout(store, image, reference, out)
    }
}

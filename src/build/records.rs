//! Descriptions of steps and images: in one line, as a record for the next build, and as a provenance statement for others.

use super::{Builder, StoreFacts};
use crate::image;
use crate::lock::Lock;
use crate::model::{Context, Digest, Error, Name, Result, without_login};
use crate::plan::{FileTree, Image, ImageRecord, Walk, locked_images, settings, step_records, walk};
use crate::project::{AddSource, Copy, NodePath, Project, Step};
use crate::store::Store;

impl Builder<'_> {
    /// Describes what an image was made of, as an in-toto statement, which is kept beside the image.
    pub(super) fn provenance(&self, name: &Name, image: &Image) -> serde_json::Value {
        let Some(described) = self.project.images.get(name) else { return serde_json::Value::Null };
        let steps: Vec<String> = described.steps.iter().map(describe).collect();
        let mut materials: Vec<image::Material> = Vec::new();
        let mut debians = 0;
        for (index, step) in described.steps.iter().enumerate() {
            match step {
                Step::Debian(debian) => {
                    let packages = self.lock.packages(&(name.clone(), debians), debian).unwrap_or_default();
                    debians += 1;
                    materials.extend(
                        packages
                            .iter()
                            .map(|one| (image::package_url(&one.name, &one.version, &one.architecture), one.sha256).into()),
                    );
                }
                Step::Copy(Copy { from: None, context, .. }) => {
                    let folder = context.as_ref().map_or("", |context| context.folder.as_str());
                    materials.extend(
                        self.scanner
                            .tree(name, index)
                            .ok()
                            .map(|tree| (format!("file:{folder}#step{index}"), tree.digest()).into()),
                    );
                }
                Step::Add(add) => {
                    let locked = add.unknown().and_then(|unknown| self.lock.remotes.get(&unknown));
                    materials.extend(match &add.source {
                        AddSource::Url { url, sha256 } => {
                            let known = sha256.or_else(|| Digest::parse(locked?));
                            known.map(|digest| (without_login(url), digest).into())
                        }
                        AddSource::Git(git) => {
                            let commit = git.pinned().or(locked.map(String::as_str));
                            commit.map(|commit| image::Material::commit(&git.place.shown(), commit))
                        }
                    });
                }
                _ => {}
            }
        }
        for other in described.needs() {
            if let Walk::Built(built) = walk(self.project, self.lock, other, &self.facts()) {
                materials.push((format!("urn:stead:image:{other}"), built.digest).into());
            }
        }
        image::provenance(name.as_str(), &image.digest, &steps, &materials)
    }

    /// Makes an error with its location in the project's files.
    pub(super) fn at(&self, part: &NodePath, why: &str) -> Error {
        Error::new(why).at(self.places.of(part))
    }
}

/// Records what a built image was made from, to explain later why it must be built again.
///
/// # Errors
/// Fails when the lists of copied files cannot be written.
pub fn record(project: &Project, lock: &Lock, facts: &StoreFacts, name: &Name, image: &Image) -> Result<ImageRecord> {
    let mut steps = Vec::new();
    for (index, mut step) in step_records(project, lock, name, facts) {
        if let Ok(tree) = facts.scanner.tree(name, index) {
            step.listing = Some(listing(facts.store, tree)?);
        }
        steps.push(step);
    }
    let settings = project.images.get(name).map(|image| settings(image, lock)).unwrap_or_default();
    let private = project.private_of(&settings);
    Ok(ImageRecord { digest: image.digest, steps, settings, private, locked: locked_images(project, lock, name) })
}

/// Stores the list of the files that a copy took.
pub fn listing(store: &Store, files: &FileTree) -> Result<Digest> {
    store.put_blob(&serde_json::to_vec(files).context(|| "cannot list copied files".into())?)
}

/// Describes a step in one line.
pub fn describe(step: &Step) -> String {
    match step {
        Step::Debian(debian) => format!("debian {} ({})", debian.suite, debian.packages.join(" ")),
        Step::Copy(copy) => {
            let names: Vec<&str> =
                copy.sources.iter().chain(copy.inline.iter().map(|(name, _)| name)).map(String::as_str).collect();
            format!("copy {} to {}", names.join(" "), copy.to)
        }
        Step::Add(add) => match &add.source {
            AddSource::Url { url, .. } => format!("add {} to {}", without_login(url), add.to),
            AddSource::Git(git) => format!("add {} to {}", git.place.shown(), add.to),
        },
        Step::Folder(path) => format!("folder {path}"),
        Step::Run(run) => {
            let text = run.words.join(" ");
            let line = text.lines().next().unwrap_or_default();
            if line.len() < text.len() { format!("run {line} …") } else { format!("run {line}") }
        }
        _ => "settings".into(),
    }
}

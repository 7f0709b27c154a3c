//! The facts that planning asks for, answered by the store and the project's directory.

use super::{Scanner, View, copy};
use crate::image;
use crate::model::{Digest, LayerInfo, Name};
use crate::plan::{Facts, FileTree, Image, StepOutput};
use crate::project::{Copy, Outside};
use crate::store::{Home, RESULTS, Store, read_json, read_result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The facts that planning asks for, from the store and the project's directory.
pub struct StoreFacts<'a> {
    pub store: &'a Store,
    pub scanner: &'a Scanner,
}

/// The directory of the results that came with a bundle. It is beside the directory that the project was unpacked to, so
/// neither the project nor its containers can write to it.
pub fn sealed_place(folder: &Path) -> PathBuf {
    folder.with_extension("sealed")
}

/// Results that came with a bundle, and the list of the images that it holds. They are trusted for the project of
/// that bundle only, and only for layers and images that the bundle names.
///
/// Results in any other directory are not trusted: otherwise a cloned repository could claim any output for its steps.
#[derive(Debug)]
pub struct Sealed {
    place: PathBuf,
    images: BTreeSet<Digest>,
}

/// The images in a bundle's label.
#[derive(Deserialize)]
struct Named {
    images: BTreeMap<String, Digest>,
}

impl Sealed {
    /// The results beside a project's directory, if this installation unpacked that directory from a bundle.
    pub fn of(home: &Home, folder: &Path) -> Option<Self> {
        let bundles = fs::canonicalize(home.state.join("bundles")).ok()?;
        if folder.parent() != Some(&bundles) {
            return None;
        }
        let place = sealed_place(folder);
        let own = |path: &Path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            let safe = metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
            safe.then_some(())
        };
        own(&bundles)?;
        own(&place)?;
        let Named { images } = read_json(&place.join("bundle.json"))?;
        Some(Self { place, images: images.into_values().collect() })
    }

    fn result<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        read_result(&self.place.join(RESULTS).join(key.hex()))
    }

    fn names(&self, store: &Store, layer: &Digest) -> bool {
        self.images.iter().filter_map(|digest| image::load(store, digest)).any(|image| image.parts().any(|part| part == layer))
    }
}

impl Facts for StoreFacts<'_> {
    fn step(&self, key: &Digest) -> Option<StepOutput> {
        let sealed = || {
            let sealed = self.scanner.sealed()?;
            let output: StepOutput = sealed.result(key)?;
            output.layer.as_ref().is_none_or(|layer| sealed.names(self.store, &layer.diff_id)).then_some(output)
        };
        let output: StepOutput = self.store.result(key).or_else(sealed)?;
        // A result whose layer was collected or lost does not count.
        output.layer.as_ref().is_none_or(|layer| self.store.layer(&layer.diff_id).is_some()).then_some(output)
    }

    fn image(&self, key: &Digest) -> Option<Image> {
        let sealed = || {
            let sealed = self.scanner.sealed()?;
            sealed.result(key).filter(|digest| sealed.images.contains(digest))
        };
        let digest: Digest = self.store.result(key).or_else(sealed)?;
        image::load(self.store, &digest)
    }

    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        self.scanner.tree(image, step)
    }

    fn listing(&self, digest: &Digest) -> Option<FileTree> {
        serde_json::from_slice(&self.store.blob(digest)?).ok()
    }

    fn archive(&self, outside: &Outside) -> Result<Digest, String> {
        self.scanner.archive(outside)
    }

    fn surroundings(
        &self,
        copy: &Copy,
        workdir: &str,
        below: &[LayerInfo],
        from: &[LayerInfo],
        tree: Option<&FileTree>,
    ) -> Option<Digest> {
        let view = |layers: &[LayerInfo]| View::new(layers.iter().map(|layer| self.store.layer_path(&layer.diff_id)).collect());
        let from = copy.from.as_ref().map(|_| view(from));
        copy::surroundings(copy, workdir, &view(below), from.as_ref(), tree)
    }
}

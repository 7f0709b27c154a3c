//! What planning asks for: answers of the store and of the project's directory.

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

/// Where the results lie that came with a bundle: beside the directory that its project was unpacked to, where
/// nothing of the project and no container of it can write.
pub fn sealed_place(folder: &Path) -> PathBuf {
    folder.with_extension("sealed")
}

/// Results that came with a bundle, and what the bundle says it holds: they are believed for the project of
/// that bundle, and for layers and images that it names.
///
/// No other directory's are: whoever clones a repository would run what that says its steps came to.
#[derive(Debug)]
pub struct Sealed {
    place: PathBuf,
    images: BTreeSet<Digest>,
}

/// What a bundle's label says of its images.
#[derive(Deserialize)]
struct Named {
    images: BTreeMap<String, Digest>,
}

impl Sealed {
    /// The results beside a project's directory, if that was unpacked by this installation.
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
        // A result whose layer was collected or lost is no result.
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

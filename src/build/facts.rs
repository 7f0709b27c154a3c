//! What planning asks for: answers of the store and of the project's folder.

use super::{Scanner, View, copy};
use crate::image;
use crate::model::{Digest, LayerInfo, Name};
use crate::plan::{Facts, FileTree, Image, StepOutput};
use crate::spec::{Copy, Outside};
use crate::store::{Store, read_json};
use serde::de::DeserializeOwned;

/// Where a bundle's results lie in its project's folder.
pub const SEALED: &str = ".stead/results";

/// The facts that planning asks for, from the store and the project's folder.
pub struct StoreFacts<'a> {
    pub store: &'a Store,
    pub scanner: &'a Scanner,
}

impl StoreFacts<'_> {
    /// What a step came to, by the store or by what came with the project's bundle: that is believed for this
    /// project only.
    fn result<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        let sealed = || read_json(&self.scanner.folder().join(SEALED).join(key.hex()));
        self.store.result(key).or_else(sealed)
    }
}

impl Facts for StoreFacts<'_> {
    fn step(&self, key: &Digest) -> Option<StepOutput> {
        let output: StepOutput = self.result(key)?;
        // A result whose layer was collected or lost is no result.
        output.layer.as_ref().is_none_or(|layer| self.store.layer(&layer.diff_id).is_some()).then_some(output)
    }

    fn image(&self, key: &Digest) -> Option<Image> {
        let digest: Digest = self.result(key)?;
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

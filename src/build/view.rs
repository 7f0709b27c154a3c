//! A stack of layers seen as one tree, without mounting anything.

use crate::image::OPAQUE;
use crate::model::pattern_matches;
use crate::runtime::user_database;
use crate::sys::{self, Tree};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// How many links are followed before a path counts as a loop; the kernel's limit is the same.
const LINKS: usize = 40;

/// Layers, from lowest to highest.
#[derive(Debug)]
pub struct View {
    layers: Vec<PathBuf>,
    /// The paths that were looked up.
    seen: RefCell<BTreeSet<PathBuf>>,
}

enum Found {
    Here(PathBuf, Metadata),
    Hidden,
    Below,
}

impl View {
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self { layers, seen: RefCell::default() }
    }

    /// The paths that were looked up: whatever was made from this view depends on these paths only.
    pub fn seen(self) -> BTreeSet<PathBuf> {
        self.seen.into_inner()
    }

    /// Looks up a path without following links; returns where it is on disk and its metadata.
    pub fn entry(&self, path: &Path) -> Option<(PathBuf, Metadata)> {
        self.find(path).map(|(_, place, metadata)| (place, metadata))
    }

    fn find(&self, path: &Path) -> Option<(&Path, PathBuf, Metadata)> {
        self.seen.borrow_mut().insert(path.to_owned());
        for layer in self.layers.iter().rev() {
            match Self::in_layer(layer, path) {
                Found::Here(place, metadata) => return Some((layer, place, metadata)),
                Found::Hidden => return None,
                Found::Below => {}
            }
        }
        None
    }

    /// Opens the parent directory of a path, in the layer that has the path.
    ///
    /// # Errors
    /// Fails when nothing is at that path, or when the directory cannot be opened.
    pub fn above(&self, path: &Path) -> io::Result<Tree> {
        let (layer, place, _) = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        let inside = place.strip_prefix(layer).unwrap_or(Path::new(""));
        Tree::open(layer)?.folder(inside.parent().unwrap_or(Path::new("")))
    }

    /// Returns the status of the root directory.
    ///
    /// # Errors
    /// Fails when there are no layers, or when the layer cannot be opened.
    pub fn top(&self) -> io::Result<nix::sys::stat::FileStat> {
        let layer = self.layers.last().ok_or(io::ErrorKind::NotFound)?;
        Tree::open(layer)?.facts()
    }

    /// Opens the file at a path, without following links.
    ///
    /// # Errors
    /// Fails when it is not a regular file or cannot be opened.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        self.above(path)?.file(path.file_name().unwrap_or_default())
    }

    /// Returns the target of the link at a path.
    ///
    /// # Errors
    /// Fails when it is not a link or cannot be read.
    pub fn link(&self, path: &Path) -> io::Result<OsString> {
        self.above(path)?.link(path.file_name().unwrap_or_default())
    }

    fn in_layer(layer: &Path, path: &Path) -> Found {
        let mut place = layer.to_owned();
        let mut opaque = false;
        let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        for (index, part) in parts.iter().enumerate() {
            place.push(part);
            let Ok(metadata) = fs::symlink_metadata(&place) else { return if opaque { Found::Hidden } else { Found::Below } };
            if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                return Found::Hidden;
            }
            if index + 1 < parts.len() {
                if !metadata.is_dir() {
                    return Found::Hidden;
                }
                opaque |= sys::get_attribute(&place, OPAQUE).ok().flatten().as_deref() == Some(b"y");
            }
        }
        fs::symlink_metadata(&place).map_or(Found::Below, |metadata| Found::Here(place, metadata))
    }

    /// Resolves a path by following all its links inside the tree; missing components stay as written.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let mut done = PathBuf::from("/");
        let mut left: Vec<OsString> = path
            .components()
            .rev()
            .filter_map(|part| match part {
                Component::Normal(part) => Some(part.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let target = self
                .entry(&next)
                .filter(|(_, metadata)| metadata.is_symlink())
                .and_then(|_| self.link(&next).ok())
                .map(PathBuf::from);
            match target {
                Some(target) if links < LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    left.extend(target.components().rev().filter_map(|part| match part {
                        Component::Normal(part) => Some(part.to_owned()),
                        Component::ParentDir => Some("..".into()),
                        _ => None,
                    }));
                }
                _ => done = next,
            }
        }
        done
    }

    /// Paths that match a pattern, sorted.
    ///
    /// # Errors
    /// Fails when a layer cannot be read.
    pub fn glob(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::from("/")];
        for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let mut next = Vec::new();
            for folder in &found {
                let folder = self.resolve(folder);
                if part.contains(['*', '?', '[']) {
                    let names = self.list(&folder)?;
                    let fits = names.iter().filter(|name| name.to_str().is_some_and(|name| pattern_matches(part, name)));
                    next.extend(fits.map(|name| folder.join(name)));
                } else if self.entry(&self.resolve(&folder.join(part))).is_some() {
                    next.push(folder.join(part));
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// Fails when a layer cannot be read.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let (mut names, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for layer in self.layers.iter().rev() {
            let (place, metadata) = match Self::in_layer(layer, path) {
                Found::Here(place, metadata) => (place, metadata),
                Found::Hidden => break,
                Found::Below => continue,
            };
            if !metadata.is_dir() {
                break;
            }
            for name in sys::entries(&place)? {
                let metadata = fs::symlink_metadata(place.join(&name))?;
                let whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
                if whiteout {
                    hidden.insert(name);
                } else if !hidden.contains(&name) {
                    names.insert(name);
                }
            }
            // If this directory or one above it is opaque, it hides the entries of the lower layers.
            let opaque = |folder: &Path| sys::get_attribute(folder, OPAQUE).ok().flatten().as_deref() == Some(b"y");
            if place.ancestors().take_while(|folder| folder.starts_with(layer)).any(opaque) {
                break;
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Reads the text of a file, following links; empty if it cannot be read.
    pub fn read(&self, path: &str) -> String {
        let path = self.resolve(Path::new(path));
        let file = self.entry(&path).and_then(|_| self.file(&path).ok());
        file.and_then(|file| io::read_to_string(file).ok()).unwrap_or_default()
    }

    /// Reads the bytes of a user database, following links; empty if it does not exist.
    ///
    /// # Errors
    /// Fails when it exists but cannot be read, is not a regular file, or is too long.
    pub fn user_database(&self, path: &str) -> io::Result<Vec<u8>> {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot read the image's {path}: {error}"));
        let path = self.resolve(Path::new(path));
        if self.entry(&path).is_none() {
            return Ok(Vec::new());
        }
        let file = self.file(&path).map_err(failed)?;
        user_database(file).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_layers_hide_and_links_are_followed_inside() {
        let folder = tempfile::tempdir().unwrap();
        let (low, high) = (folder.path().join("low"), folder.path().join("high"));
        for path in ["low/usr/bin", "low/etc", "high/etc"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        std::os::unix::fs::symlink("/usr/bin", low.join("bin")).unwrap();
        fs::write(low.join("etc/a"), "low").unwrap();
        fs::write(low.join("etc/b"), "low").unwrap();
        fs::write(high.join("etc/a"), "high").unwrap();
        let view = View::new(vec![low.clone(), high]);
        assert_eq!(view.user_database("/etc/a").unwrap(), b"high");
        assert_eq!(view.user_database("/etc/b").unwrap(), b"low");
        assert!(view.user_database("/etc/c").unwrap().is_empty() && view.user_database("/etc").is_err());
        assert_eq!(view.resolve(Path::new("/bin/x")), Path::new("/usr/bin/x"));
        assert_eq!(view.list(Path::new("/etc")).unwrap().len(), 2);
        std::os::unix::fs::symlink("self", low.join("self")).unwrap();
        let _ = view.resolve(Path::new("/self/x"));
    }
}

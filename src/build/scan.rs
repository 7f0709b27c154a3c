//! The files of all `copy` steps of a project, and the archives that images start from.
//!
//! This file owns ignore files; `reader` reads files, and `scan_cache` remembers their digests.

use super::facts::Sealed;
use super::ground::Ground;
use super::ignore::Ignore;
use super::reader::{Reader, look};
use super::scan_cache::ScanCache;
use crate::model::{Digest, Name, unspelled};
use crate::plan::{FileTree, TreeEntry, TreeKind};
use crate::project::{Base, BuildContext, Copy, Image, Outside, Project, Run, RunSource, Step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of all `copy` steps of a project, and the archives that images start from.
#[derive(Debug)]
pub struct Scanner {
    folder: PathBuf,
    ground: Ground,
    trees: BTreeMap<(Name, usize), Result<FileTree, String>>,
    archives: BTreeMap<Outside, Result<Digest, String>>,
    /// The digests to keep for the next scan.
    pub cache: ScanCache,
    /// Whether the cache differs from its file.
    stale: bool,
    /// Results that came with the bundle of this directory.
    sealed: Option<Sealed>,
}

impl Scanner {
    /// Reads everything that the images' `copy` steps take; the cache is read while directories are listed.
    pub fn scan(folder: &Path, project: &Project, cache: impl FnOnce() -> ScanCache + Send) -> Self {
        let reads = |step: &Step| match step {
            Step::Copy(copy) => copy.from.is_none(),
            Step::Run(run) => context_mounts(run).next().is_some(),
            _ => false,
        };
        let reads = |image: &Image| matches!(image.from, Base::Outside(Outside::Archive { .. })) || image.steps.iter().any(reads);
        if !project.images.values().any(reads) {
            return Self::with(folder, project, ScanCache::default);
        }
        std::thread::scope(|scope| {
            let cache = scope.spawn(cache);
            Self::with(folder, project, || cache.join().unwrap_or_default())
        })
    }

    fn with(folder: &Path, project: &Project, cache: impl FnOnce() -> ScanCache) -> Self {
        let mut new = ScanCache::default();
        let mut ground = Ground::open(folder);
        let mut trees = BTreeMap::new();
        let mut ignores: BTreeMap<Option<BuildContext>, Result<Ignore, String>> = BTreeMap::new();
        let mut read = |context: &Option<BuildContext>, copy: &Copy| {
            let ignore = ignores.entry(context.clone()).or_insert_with(|| Ignore::of(folder, context.as_ref()));
            let ignore = ignore.as_ref().map_err(Clone::clone)?;
            Reader::new(&mut ground, context.as_ref(), ignore).copy(copy)
        };
        for (name, image) in &project.images {
            for (index, step) in image.steps.iter().enumerate() {
                let tree = match step {
                    Step::Copy(copy) if copy.from.is_none() => read(&copy.context, copy),
                    Step::Run(run) => match context_mounts(run).map(|(context, copy)| read(&Some(context), &copy)).collect() {
                        Ok(trees) => Ok(FileTree::side_by_side(trees)),
                        Err(why) => Err(why),
                    },
                    _ => continue,
                };
                trees.insert((name.clone(), index), tree);
            }
        }
        let cache = cache();
        let same = look(&ground, &cache, &mut new, &mut trees);
        let mut archives = BTreeMap::new();
        for image in project.images.values() {
            if let Base::Outside(outside @ Outside::Archive { path, .. }) = &image.from {
                let ignore = Ignore::default();
                let reader = Reader::new(&mut ground, None, &ignore);
                archives.entry(outside.clone()).or_insert_with(|| reader.archive(folder, path, &cache, &mut new));
            }
        }
        // Usually nothing changed, and the old cache can be kept.
        let same = same && archives.is_empty();
        let stale = !same && new.differs(&cache);
        let cache = if same { cache } else { new };
        Self { folder: folder.to_owned(), ground, trees, archives, cache, stale, sealed: None }
    }

    /// Adds the results that came with the directory's bundle, if any.
    #[must_use]
    pub fn sealed_by(self, sealed: Option<Sealed>) -> Self {
        Self { sealed, ..self }
    }

    /// The results that came with the directory's bundle, if it came from one.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// Saves the cache for the next scan.
    pub fn keep(&self, path: &Path) {
        if self.stale {
            self.cache.keep(path);
        }
    }

    /// The digest that identifies the content of an archive.
    ///
    /// # Errors
    /// Says in the user's terms why it cannot be read.
    pub fn archive(&self, outside: &Outside) -> Result<Digest, String> {
        self.archives.get(outside).cloned().unwrap_or_else(|| Err("no such archive".into()))
    }

    /// The archives that images start from.
    pub fn archives(&self) -> impl Iterator<Item = &str> {
        self.archives.keys().filter_map(|outside| match outside {
            Outside::Archive { path, .. } => Some(path.as_str()),
            Outside::Reference(_) => None,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files of one step.
    ///
    /// # Errors
    /// Says in the user's terms why they cannot be read.
    pub fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        match self.trees.get(&(image.clone(), step)) {
            Some(Ok(tree)) => Ok(tree),
            Some(Err(why)) => Err(why.clone()),
            None => Err("no such step".into()),
        }
    }

    /// The project's directory, held open to reach the scanned files.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Everything that was scanned: paths in the project's directory, with their entries.
    pub fn entries(&self) -> BTreeMap<&str, &TreeEntry> {
        let trees = self.trees.values().filter_map(|tree| tree.as_ref().ok());
        let mut found: BTreeMap<&str, &TreeEntry> = BTreeMap::new();
        for entry in trees.flat_map(|tree| &tree.entries) {
            let known = found.entry(&entry.from).or_insert(entry);
            // A link that a step names counts as its target.
            if matches!(known.kind, TreeKind::Link(_)) || matches!(entry.kind, TreeKind::Twin { .. }) {
                *known = entry;
            }
        }
        found
    }

    /// Directories and files that images are made of: what a `copy` names, unless it is left out here, and archives.
    pub fn sources(&self, leave_out: impl Fn(&Name, usize, &TreeEntry) -> bool) -> Vec<PathBuf> {
        let entries = self
            .trees
            .iter()
            .flat_map(|((image, step), tree)| tree.iter().flat_map(|tree| &tree.entries).map(move |entry| (image, *step, entry)));
        let kept = entries.filter(|(image, step, entry)| !leave_out(image, *step, entry));
        let mut all: Vec<PathBuf> = kept.map(|(_, _, entry)| self.folder.join(unspelled(&entry.from))).collect();
        all.extend(self.archives.keys().filter_map(|outside| match outside {
            Outside::Archive { path, .. } => Some(self.folder.join(path)),
            Outside::Reference(_) => None,
        }));
        all.sort();
        all.dedup();
        all
    }
}

/// The directories of a context that a command mounts, each described as a copy of it.
pub fn context_mounts(run: &Run) -> impl Iterator<Item = (BuildContext, Copy)> {
    run.mounts.iter().filter_map(|mount| match &mount.source {
        RunSource::Context { context, path } => {
            let source = if path.is_empty() { ".".to_owned() } else { path.clone() };
            Some((context.clone(), Copy { sources: vec![source], to: String::new(), as_docker: true, ..Copy::default() }))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ProjectFiles;
    use std::fs;

    fn scan(folder: &Path, copy: &Copy) -> Result<FileTree, String> {
        let mut ground = Ground::open(folder);
        let tree = Reader::new(&mut ground, None, &Ignore::read(&ProjectFiles::at(folder).unwrap()).unwrap()).copy(copy);
        let mut trees = BTreeMap::from([((Name::of_reference("test"), 0), tree)]);
        look(&ground, &ScanCache::default(), &mut ScanCache::default(), &mut trees);
        trees.into_values().next().unwrap()
    }

    fn copy(sources: &[&str], to: &str) -> Copy {
        Copy { sources: sources.iter().map(|source| (*source).to_owned()).collect(), to: to.into(), ..Copy::default() }
    }

    fn names(tree: &FileTree) -> Vec<&str> {
        tree.entries.iter().map(|entry| entry.to.as_str()).collect()
    }

    #[test]
    fn folders_files_patterns_and_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("app/deep")).unwrap();
        for path in ["app/a.py", "app/deep/b.py", "app/x.pyc", "c.txt", "app/deep/keep.pyc"] {
            fs::write(at(path), path).unwrap();
        }
        fs::write(at(".steadignore"), "**/*.pyc\n!app/deep/keep.pyc\n").unwrap();
        assert_eq!(
            names(&scan(folder.path(), &copy(&["app/"], "/srv")).unwrap()),
            ["", "a.py", "deep", "deep/b.py", "deep/keep.pyc"]
        );
        assert_eq!(names(&scan(folder.path(), &copy(&["c.txt"], "/c")).unwrap()), [""]);
        assert_eq!(names(&scan(folder.path(), &copy(&["c.txt"], "/d/")).unwrap()), ["", "c.txt"]);
        assert_eq!(names(&scan(folder.path(), &copy(&["**/*.py"], "/d/")).unwrap()), ["", "a.py", "b.py"]);
        assert!(scan(folder.path(), &copy(&["ap/"], "/d")).unwrap_err().contains("\"app\" is there"));
        std::os::unix::fs::symlink("/etc", at("out")).unwrap();
        assert!(scan(folder.path(), &copy(&["out"], "/d")).unwrap_err().contains("leads out"));
        assert!(scan(folder.path(), &copy(&["../x"], "/d")).is_err());
        std::os::unix::fs::symlink("nowhere", at("dang")).unwrap();
        assert!(scan(folder.path(), &copy(&["dang"], "/d")).unwrap_err().contains("a link to \"nowhere\", which is not there"));
    }

    #[test]
    fn ignored_folders_are_there_for_what_is_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["keep/this/a", "keep/other/x", "gone/y"] {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), path).unwrap();
        }
        fs::create_dir(folder.path().join("keep/this/empty")).unwrap();
        fs::write(folder.path().join(".dockerignore"), "*\n!keep/this\n").unwrap();
        let tree = scan(folder.path(), &copy(&["."], "/d")).unwrap();
        assert_eq!(names(&tree), ["", "keep", "keep/this", "keep/this/a", "keep/this/empty"]);
    }

    #[test]
    fn patterns_of_a_dockerfile_mean_files_and_may_match_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("target")).unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        for path in ["target/foo-1.jar", "package.json", "b1", "b2"] {
            fs::write(folder.path().join(path), path).unwrap();
        }
        let docker = |sources: &[&str], to: &str| {
            scan(folder.path(), &Copy { as_docker: true, ..copy(sources, to) })
                .map(|tree| tree.entries.iter().map(|entry| entry.to.clone()).collect::<Vec<_>>())
        };
        let none: [&str; 0] = [];
        for (sources, to, wanted) in [
            (&["target/*.jar"][..], "app.jar", &[""][..]),
            (&["target/foo-[0-9].jar"], "app.jar", &[""]),
            (&["target/*.jar"], "lib/", &["", "foo-1.jar"]),
            (&["b?"], "x", &["", "b1", "b2"]),
            (&["package.json", "yarn.lock*"], "./", &["", "package.json"]),
            (&["yarn.lock*"], "./", &none),
            (&["empty"], "/x", &[""]),
        ] {
            assert_eq!(docker(sources, to).unwrap(), wanted, "{sources:?} {to}");
        }
        assert!(docker(&["yarn.lock"], "./").is_err(), "a name is not a pattern");
        let native = scan(folder.path(), &copy(&["target/*.jar"], "/x")).unwrap();
        assert_eq!(names(&native), ["", "foo-1.jar"], "a pattern of the project file means a directory");
        assert!(scan(folder.path(), &copy(&["yarn.lock*"], "/x")).unwrap_err().contains("nothing matches"));
    }

    #[test]
    fn touching_changes_nothing_and_editing_does() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let before = scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest();
        crate::sys::set_file_time(&fs::File::open(folder.path().join("a")).unwrap(), 5).unwrap();
        assert_eq!(scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest(), before);
        fs::write(folder.path().join("a"), "2").unwrap();
        assert_ne!(scan(folder.path(), &copy(&["a"], "/a")).unwrap().digest(), before);
    }
}

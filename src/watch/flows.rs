//! Where a changed file goes: the sources that are watched, with the containers that have them and what follows.

use crate::build::Ignore;
use crate::model::{Error, Mode, Name, spelled};
use crate::project::{
    Container, Copy, Locations, MountSource, NodePath, Project, RunSource, Step, Then, WatchRule, no_sync, tidy,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A source, one of its containers, and what a change means for that container.
#[derive(Debug)]
pub struct Flow {
    /// A file or directory, relative to the project's directory.
    pub from: PathBuf,
    pub container: Name,
    /// The path in the container that is kept equal to it.
    pub to: Option<PathBuf>,
    pub then: Then,
    /// Whether a rule says so; otherwise it follows from what the image copies.
    pub is_rule: bool,
    /// The permissions of new files.
    pub modes: Modes,
    selection: Selection,
}

/// The permissions that a file gets which the container does not have yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Modes {
    /// Those of the source.
    Source,
    /// 0755 if it can be executed, else 0644: what `copy` gives.
    Canonical,
    Fixed(u32),
}

impl Modes {
    /// The permissions for a file with these.
    pub fn of(self, source: u32) -> u32 {
        match self {
            Self::Source => source & 0o777,
            Self::Canonical if source & 0o100 != 0 => 0o755,
            Self::Canonical => 0o644,
            Self::Fixed(mode) => mode,
        }
    }
}

/// Which files of a source are meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Selection {
    /// The ignore file of the build, with the directory that its patterns begin at.
    ignore: Option<(Arc<Ignore>, PathBuf)>,
    /// What the container's `watch` leaves out, and what it is limited to.
    rules: Option<Arc<Patterns>>,
}

#[derive(PartialEq, Eq, Debug)]
struct Patterns {
    ignore: Ignore,
    include: Option<Ignore>,
}

impl Selection {
    fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        let text = |path: &Path| spelled(path.as_os_str()).into_owned();
        let by_build = self.ignore.as_ref().is_some_and(|(ignore, top)| {
            let inside = path.strip_prefix(top).unwrap_or(path);
            // An ignored directory may hold something that is not ignored.
            ignore.hides(&text(inside)) && !(is_folder && ignore.has_exceptions)
        });
        by_build
            || self.rules.as_ref().is_some_and(|rules| {
                let whole = text(path);
                rules.ignore.hides(&whole) || !is_folder && rules.include.as_ref().is_some_and(|include| !include.hides(&whole))
            })
    }
}

/// All flows of a project.
#[derive(Debug, Default)]
pub struct Flows {
    pub all: Vec<Flow>,
    /// Files whose change means something for containers, or for all if there are none.
    pub inputs: BTreeMap<PathBuf, BTreeSet<Name>>,
    /// What is wrong with rules.
    pub problems: Vec<Error>,
}

impl Flows {
    /// The flows of a project whose directory is `folder`.
    pub fn of(project: &Project, places: &Locations, folder: &Path) -> Self {
        let mut flows = Self::default();
        let mut patterns = BTreeMap::new();
        for (name, container) in project.containers.iter().filter(|(_, container)| container.replicas > 0) {
            let Some(watch) = &container.watch else { continue };
            let include = if watch.include.is_empty() { Ok(None) } else { Ignore::like_git(&watch.include).map(Some) };
            match (Ignore::like_git(&watch.ignore), include) {
                (Ok(ignore), Ok(include)) => drop(patterns.insert(name, Arc::new(Patterns { ignore, include }))),
                (Err(why), _) | (_, Err(why)) => {
                    flows.problems.push(Error::new(why).at(places.of(&NodePath::container(name).node("watch"))));
                }
            }
            for rule in &watch.rules {
                flows.rule(name, container, rule, patterns.get(name), places);
            }
        }
        let mut ignores = BTreeMap::new();
        for (name, image) in &project.images {
            for (index, step) in image.steps.iter().enumerate() {
                let (context, sources): (_, Vec<(PathBuf, bool)>) = match step {
                    Step::Copy(copy) if copy.from.is_none() => (copy.context.as_ref(), sources(copy)),
                    Step::Run(run) => {
                        for mount in &run.mounts {
                            if let RunSource::Context { context, path } = &mount.source {
                                let from = tidy(&Path::new(&context.folder).join(path));
                                flows.rebuilding(project, name, &from, &Selection::default(), &patterns);
                            }
                        }
                        continue;
                    }
                    _ => continue,
                };
                let ignore = ignores.entry(context.cloned()).or_insert_with(|| Ignore::of(folder, context).map(Arc::new));
                let top = context.map_or_else(PathBuf::new, |context| tidy(Path::new(&context.folder)));
                let Step::Copy(copy) = step else { continue };
                let selection = Selection {
                    // If an ignore file cannot be read, the build says so.
                    ignore: ignore.as_ref().ok().map(|ignore| (ignore.clone(), top.clone())),
                    rules: None,
                };
                for (source, is_pattern) in sources {
                    let from = tidy(&top.join(source));
                    let to = if is_pattern { None } else { delivered_to(project, name, index, copy, &from, folder) };
                    match to {
                        Some(to) => flows.copied(project, name, copy, (&from, &to), &selection, &patterns),
                        None => flows.rebuilding(project, name, &from, &selection, &patterns),
                    }
                }
            }
            if let crate::project::Base::Outside(crate::project::Outside::Archive { path, .. }) = &image.from {
                flows.rebuilding(project, name, &tidy(Path::new(path)), &Selection::default(), &patterns);
            }
        }
        flows
    }

    fn rule(
        &mut self,
        name: &Name,
        container: &Container,
        rule: &WatchRule,
        patterns: Option<&Arc<Patterns>>,
        places: &Locations,
    ) {
        let from = tidy(Path::new(&rule.path));
        let place = || places.of(&NodePath::container(name).node("watch").named(rule.word(), &rule.path));
        let to = rule.to.as_ref().map(|to| {
            // As in `cp`, a `/` at the end means a directory; a directory's content goes to the path itself.
            let is_folder = to.ends_with('/') && !rule.path.ends_with('/');
            let to = tidy(Path::new(to));
            (is_folder, to)
        });
        if let Some((_, to)) = &to
            && let Some((why, help)) = no_sync(name, container, to)
        {
            return self.problems.push(Error::new(why).hint(help).at(place()));
        }
        let selection = Selection { rules: patterns.cloned(), ..Selection::default() };
        let to = to.map(|(is_folder, to)| match from.file_name().filter(|_| is_folder) {
            Some(own) => to.join(own),
            None => to,
        });
        let (container, then) = (name.clone(), rule.then.clone());
        self.all.push(Flow { from, container, to, then, is_rule: true, modes: Modes::Source, selection });
    }

    /// What an image copies, so that its containers can get it without a build.
    fn copied(
        &mut self,
        project: &Project,
        image: &Name,
        copy: &Copy,
        (from, to): (&Path, &Path),
        selection: &Selection,
        patterns: &BTreeMap<&Name, Arc<Patterns>>,
    ) {
        let modes = match (&copy.mode, copy.as_docker) {
            (Some(Mode::Exact(mode)), _) => Modes::Fixed(*mode),
            (Some(Mode::Symbols(_)), _) | (None, true) => Modes::Source,
            (None, false) => Modes::Canonical,
        };
        for (name, container) in users(project, image) {
            if container.watch.as_ref().is_some_and(|watch| watch.only_rules) {
                continue;
            }
            let selection = Selection { rules: patterns.get(name).cloned(), ..selection.clone() };
            let (to, then) = match container.security.read_only {
                true => (None, Then::Rebuild),
                false => (Some(to.to_owned()), Then::Nothing),
            };
            let (from, container) = (from.to_owned(), name.clone());
            self.all.push(Flow { from, container, to, then, is_rule: false, modes, selection });
        }
    }

    /// What an image is made of, so that a change means a build.
    fn rebuilding(
        &mut self,
        project: &Project,
        image: &Name,
        from: &Path,
        selection: &Selection,
        patterns: &BTreeMap<&Name, Arc<Patterns>>,
    ) {
        for name in all_users(project, image) {
            let Some(container) = project.containers.get(&name) else { continue };
            if container.watch.as_ref().is_some_and(|watch| watch.only_rules) {
                continue;
            }
            let (from, rules) = (from.to_owned(), patterns.get(&name).cloned());
            let selection = Selection { rules, ..selection.clone() };
            self.all.push(Flow {
                from,
                container: name,
                to: None,
                then: Then::Rebuild,
                is_rule: false,
                modes: Modes::Source,
                selection,
            });
        }
    }

    /// The flows that a changed path belongs to. A rule takes the place of what follows from the image of its container.
    pub fn of_path<'f>(&'f self, path: &Path, is_folder: bool) -> Vec<&'f Flow> {
        let mut found: Vec<&Flow> = self.all.iter().filter(|flow| flow.takes(path, is_folder)).collect();
        let ruled: BTreeSet<&Name> = found.iter().filter(|flow| flow.is_rule).map(|flow| &flow.container).collect();
        found.retain(|flow| flow.is_rule || !ruled.contains(&flow.container));
        found
    }

    /// Whether the same files are watched for these flows as for others.
    pub fn watch_the_same(&self, others: &Self) -> bool {
        let has = |flows: &Self, flow: &Flow| {
            flows.all.iter().any(|other| (&other.from, &other.selection) == (&flow.from, &flow.selection))
        };
        self.all.iter().all(|flow| has(others, flow))
            && others.all.iter().all(|flow| has(self, flow))
            && self.inputs.keys().eq(others.inputs.keys())
    }

    /// Whether anything below a directory may be meant.
    pub fn enters(&self, directory: &Path) -> bool {
        let below = |flow: &Flow| directory.starts_with(&flow.from) && !flow.selection.leaves_out(directory, true);
        self.all.iter().any(|flow| flow.from.starts_with(directory) || below(flow))
            || self.inputs.keys().any(|input| input.starts_with(directory))
    }
}

impl Flow {
    /// Whether a path is part of this source.
    pub fn takes(&self, path: &Path, is_folder: bool) -> bool {
        path.starts_with(&self.from)
            && (path == self.from && self.selection.rules.is_none() || !self.selection.leaves_out(path, is_folder))
    }

    /// The path in the container that a path of the source is delivered to.
    pub fn target(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(&self.from).ok()?;
        let to = self.to.as_ref()?;
        Some(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) })
    }
}

/// The sources of a step, and whether each is a pattern; of a pattern, the directory that it begins with.
fn sources(copy: &Copy) -> Vec<(PathBuf, bool)> {
    let named = copy.sources.iter().map(|source| {
        let is_pattern = source.contains(['*', '?', '[']);
        let whole = Path::new(source.trim_start_matches('/'));
        let plain = whole.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '[']));
        (if is_pattern { plain.collect() } else { whole.to_owned() }, is_pattern)
    });
    named.collect()
}

/// Where in containers of an image a source of a step ends up, if nothing else depends on it.
fn delivered_to(project: &Project, image: &Name, index: usize, copy: &Copy, from: &Path, folder: &Path) -> Option<PathBuf> {
    let steps = &project.images.get(image)?.steps;
    let is_alone = copy.is_plain() && !copy.parents && copy.exclude.is_empty();
    let workdir = steps[..index].iter().filter_map(|step| if let Step::Workdir(path) = step { Some(path) } else { None });
    // A path from the working directory of another image is not known here.
    let is_known = copy.to.starts_with('/') || workdir.clone().any(|path| path.starts_with('/'));
    let base = tidy(&workdir.fold(PathBuf::from("/"), |base, path| base.join(path)).join(&copy.to));
    let source = folder.join(from);
    let is_folder = source.is_dir();
    let into_folder = !is_folder && (copy.to.ends_with('/') || copy.sources.len() > 1);
    // A link that a step names is followed, and so is what it leads to.
    let is_plain = std::fs::symlink_metadata(&source).is_ok_and(|found| !found.file_type().is_symlink());
    // In a Dockerfile a file goes into a directory of that name, if there is one.
    let is_certain = is_folder || into_folder || !copy.as_docker || copy.link || base.extension().is_some();
    let to = if into_folder { base.join(from.file_name()?) } else { base };
    // What runs or is copied later may make something else of it.
    let is_apart = |other: &str| {
        let other = tidy(Path::new(other));
        other.is_absolute() && !other.starts_with(&to) && !to.starts_with(&other)
    };
    let is_final = steps[index + 1..].iter().all(|step| match step {
        Step::Run(_) => false,
        Step::Debian(debian) => !debian.configure,
        Step::Copy(later) => is_apart(&later.to),
        Step::Add(later) => is_apart(&later.to),
        _ => true,
    });
    let is_used = project.images.values().any(|other| other.needs().any(|needed| needed == image));
    let is_mounted = project
        .containers
        .values()
        .any(|container| container.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Image(name) if name == image)));
    let is_free = is_alone && is_known && is_plain && is_certain && is_final && !is_used && !is_mounted;
    is_free.then_some(to)
}

/// The containers of an image that run.
fn users<'p>(project: &'p Project, image: &'p Name) -> impl Iterator<Item = (&'p Name, &'p Container)> {
    project.containers.iter().filter(move |(_, container)| container.image == *image && container.replicas > 0)
}

/// The containers that an image is part of, whatever way.
fn all_users(project: &Project, image: &Name) -> BTreeSet<Name> {
    let mut images = BTreeSet::from([image]);
    loop {
        let more: Vec<&Name> = project
            .images
            .iter()
            .filter(|(name, other)| !images.contains(name) && other.needs().any(|needed| images.contains(needed)))
            .map(|(name, _)| name)
            .collect();
        if more.is_empty() {
            break;
        }
        images.extend(more);
    }
    let mounts = |container: &Container| {
        container.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Image(name) if images.contains(name)))
    };
    let runs = project.containers.iter().filter(|(_, container)| container.replicas > 0);
    runs.filter(|(_, container)| images.contains(&container.image) || mounts(container)).map(|(name, _)| name.clone()).collect()
}

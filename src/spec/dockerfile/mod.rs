//! Dockerfiles → images of the project: each stage that the target needs becomes an image.
//!
//! `syntax` parses the text, `words` replaces variables, `stage` splits it into stages, and `write`
//! turns the instructions of a stage into steps. The results are built like any other image; the rooms
//! below know nothing of Dockerfiles.

mod images;
mod mounts;
mod path;
mod remote;
mod stage;
mod syntax;
#[cfg(test)]
mod tests;
mod words;
mod write;

use super::diagnose::{Diagnostic, Sink};
use super::{Inherited, Sources};
use crate::model::{Amount, Location, Name, bounds};
use crate::project::{Base, Image, Locations, NodePath, Outside, Project, Step};
use stage::{Given, Made, Stages, Surroundings};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A `dockerfile` node.
#[derive(Clone, Debug)]
pub struct Request {
    pub image: Name,
    pub path: String,
    pub context: Option<String>,
    pub target: Option<String>,
    pub arguments: BTreeMap<String, String>,
    pub place: Location,
}

/// What was found out about images from elsewhere.
#[derive(Debug, Default)]
pub struct Asked {
    /// The images from elsewhere that Dockerfiles start from, each with what it passes on, if that is known.
    pub known: BTreeMap<Outside, Option<Inherited>>,
}

/// Turns every requested Dockerfile into images of the project.
pub fn expand(
    requests: Vec<Request>,
    project: &mut Project,
    places: &mut Locations,
    sources: &dyn Sources,
    files: &mut BTreeMap<String, String>,
    sink: &mut Sink,
) -> Asked {
    let asked = RefCell::new(Asked::default());
    let mut waiting: Vec<(Request, Stages)> = Vec::new();
    let effort = Rc::new(words::Effort::default());
    let (mut length, mut instructions) = (0, 0);
    for request in requests {
        let text = match sources.read(&request.path) {
            Ok(text) => text,
            Err(why) => {
                let message = format!("cannot read `{}`: {why}", request.path);
                sink.push(Diagnostic::error("unreadable", request.place.clone(), message));
                continue;
            }
        };
        let syntax = syntax::parse(&request.path, &text, sink);
        length += text.len();
        instructions += syntax.instructions.len();
        if length > bounds::DOCKERFILES || instructions > bounds::INSTRUCTIONS {
            let most = Amount::Bytes(bounds::DOCKERFILES as u64);
            let message = format!("Dockerfiles have at most {most} and {} instructions together", bounds::INSTRUCTIONS);
            sink.push(Diagnostic::error("too-much-text", request.place.clone(), message));
            break;
        }
        files.insert(request.path.clone(), text);
        if let Some(stages) = Stages::split(syntax, &request, &effort, sink) {
            waiting.push((request, stages));
        }
    }
    let written: BTreeSet<Name> = project.images.keys().cloned().collect();
    // A Dockerfile may start from the image of another one, so those without such dependencies come first.
    while !waiting.is_empty() {
        let names: Vec<Name> = waiting.iter().map(|(request, _)| request.image.clone()).collect();
        let ready = waiting.iter().position(|(_, stages)| !stages.outside().any(|outside| names.contains(outside)));
        let Some(ready) = ready else {
            for (request, _) in &waiting {
                let message = format!("image {} depends on itself through its Dockerfile", request.image);
                sink.push(Diagnostic::error("cycle", request.place.clone(), message));
            }
            break;
        };
        let (request, stages) = waiting.remove(ready);
        let around = Around { images: &project.images, written: &written, sources, asked: &asked };
        for Made { name, image, places: own, outside } in stages.images(&request, &around, sink) {
            for (key, place) in own {
                places.insert(key.within(NodePath::image(&name)), place);
            }
            places.insert_first(NodePath::image(&name), &request.place);
            project.images.insert(name, image);
            for (reference, place) in outside {
                let name = project.add_outside(&reference);
                places.insert_first(NodePath::image(&name), &place);
            }
        }
    }
    asked.into_inner()
}

/// The images of the project so far, and those from elsewhere.
struct Around<'a> {
    images: &'a BTreeMap<Name, Image>,
    /// The images that are declared in the project's files.
    written: &'a BTreeSet<Name>,
    sources: &'a dyn Sources,
    asked: &'a RefCell<Asked>,
}

impl Surroundings for Around<'_> {
    fn image(&self, name: &str) -> Option<Name> {
        self.written.get(name).cloned()
    }

    fn given(&self, name: &Name) -> Given {
        self.given_by(name, self.images.len() + 1)
    }
}

impl Around<'_> {
    fn given_by(&self, name: &Name, depth: usize) -> Given {
        // A cycle is reported later, when all images are known.
        let Some(depth) = depth.checked_sub(1) else { return Given::default() };
        let Some(image) = self.images.get(name) else {
            return self.outside(&Outside::Reference(name.to_string()));
        };
        let mut found = match &image.from {
            Base::Image(base) => self.given_by(base, depth),
            Base::Outside(outside) => self.outside(outside),
            Base::Scratch => Given::default(),
        };
        for step in &image.steps {
            match step {
                Step::Env(values) => found.env.extend(values.clone()),
                Step::Workdir(path) => found.workdir.clone_from(path),
                Step::Shell(words) => found.shell.clone_from(words),
                _ => {}
            }
        }
        if !matches!(image.from, Base::Outside(_)) || !image.onbuild.is_empty() {
            found.triggers.clone_from(&image.onbuild);
        }
        found
    }

    fn outside(&self, outside: &Outside) -> Given {
        let known = self.sources.outside(outside);
        self.asked.borrow_mut().known.insert(outside.clone(), known.clone());
        let Some(known) = known else { return Given::default() };
        let shell = if known.shell.is_empty() { Given::default().shell } else { known.shell };
        Given { env: known.env, workdir: known.workdir, shell, triggers: known.onbuild, ..Given::default() }
    }
}

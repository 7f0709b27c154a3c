//! Dockerfiles → images of the project: each stage that the wanted one needs becomes an image.
//!
//! `syntax` reads the text, `words` replaces variables, `stage` turns instructions into steps. What
//! comes out is built like every other image; nothing further down knows Dockerfiles.

mod stage;
mod syntax;
#[cfg(test)]
mod tests;
mod words;

use super::Sources;
use super::diagnose::{Diagnostic, Sink};
use super::project::{Base, Image, Places, Project, Step};
use crate::model::{Name, Place};
use stage::{Given, Stages};
use std::collections::BTreeMap;

/// A `dockerfile` node.
#[derive(Clone, Debug)]
pub struct Request {
    pub image: Name,
    pub path: String,
    pub context: Option<String>,
    pub target: Option<String>,
    pub arguments: BTreeMap<String, String>,
    pub place: Place,
}

/// Turns every requested Dockerfile into images of the project; `later` gets what is not carried out yet.
pub fn expand(
    requests: Vec<Request>,
    project: &mut Project,
    places: &mut Places,
    sources: &dyn Sources,
    files: &mut BTreeMap<String, String>,
    sink: &mut Sink,
    later: &mut Sink,
) {
    let mut waiting: Vec<(Request, Stages)> = Vec::new();
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
        files.insert(request.path.clone(), text);
        if let Some(stages) = Stages::split(syntax, &request, sink) {
            waiting.push((request, stages));
        }
    }
    // One may start from another's image: those that wait for nobody first.
    while !waiting.is_empty() {
        let names: Vec<Name> = waiting.iter().map(|(request, _)| request.image.clone()).collect();
        let ready = waiting.iter().position(|(_, stages)| !stages.outside().any(|outside| names.contains(outside)));
        let Some(ready) = ready else {
            for (request, _) in &waiting {
                let message = format!("image {} is made from itself, by way of its Dockerfile", request.image);
                sink.push(Diagnostic::error("cycle", request.place.clone(), message));
            }
            return;
        };
        let (request, stages) = waiting.remove(ready);
        let given = |name: &Name| given(&project.images, name, project.images.len());
        let made = stages.images(&request, &given, sink, later);
        for (name, image, its_places) in made {
            for (key, place) in its_places {
                places.0.insert(format!("image.{name}.{key}"), place);
            }
            places.0.entry(format!("image.{name}")).or_insert_with(|| request.place.clone());
            project.images.insert(name, image);
        }
    }
}

/// What an image gives whoever starts from it.
fn given(images: &BTreeMap<Name, Image>, name: &Name, depth: usize) -> Given {
    // A circle is told later, when all images are known.
    let (Some(image), Some(depth)) = (images.get(name), depth.checked_sub(1)) else { return Given::default() };
    let mut found = match &image.from {
        Base::Image(base) => given(images, base, depth),
        Base::Scratch | Base::Registry(_) => Given::default(),
    };
    for step in &image.steps {
        match step {
            Step::Env(values) => found.env.extend(values.clone()),
            Step::Workdir(path) => found.workdir.clone_from(path),
            Step::Shell(words) => found.shell.clone_from(words),
            _ => {}
        }
    }
    found.triggers.clone_from(&image.onbuild);
    found
}

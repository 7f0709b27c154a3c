//! Explains a part of a project: what `up` would change about it and why, what it depends on, and what depends on it.
//!
//! It reads only, as a plan does.

use super::graph::{Edge, Graph, Part, Vertex, graph};
use crate::build::{StoreFacts, describe};
use crate::instance::{Entry, LoadedProject, observe, read_history, read_lock};
use crate::lock::Lock;
use crate::model::{Error, Location, Name, Result, nearest, with_advice};
use crate::plan::{self, Cause, Change, Object, Observed, Planned, Walk};
use crate::project::{Base, NodePath, ReplicaId, RunMount, Step};
use crate::reconcile::{took as time, trusted};
use crate::store::Store;
use std::collections::BTreeSet;

/// What is known about a part of a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// What it is: "container web", "step 2 of image app".
    pub what: String,
    pub place: Option<Location>,
    /// What `up` would change about it: each name with a cause.
    pub causes: Vec<(String, Cause)>,
    /// What else must be known to understand why `up` would change nothing.
    pub note: Option<String>,
    /// What it depends on.
    pub needs: Vec<String>,
    /// What depends on it.
    pub users: Vec<String>,
    /// The last entry of the history that has changes of it, and only these.
    pub last: Option<Entry>,
}

/// Explains everything that has this name: a container, job, replica, image, network or volume, or a step as `IMAGE/NUMBER` or
/// `IMAGE:LINE`.
///
/// # Errors
/// Fails when nothing has this name, and when no plan can be made.
pub fn explain(loaded: &LoadedProject, typed: &str) -> Result<Vec<Explained>> {
    let store = Store::at(&loaded.instance.home.store);
    let lock = trusted(loaded, read_lock(&loaded.instance)?)?;
    let observation = observe(loaded)?;
    let facts = StoreFacts { store: &store, scanner: &observation.scanner };
    let project = (&loaded.project, &loaded.places, &lock);
    let planned = plan::plan(project, &observation.observed, &facts, &BTreeSet::new())?;
    let graph = graph(&loaded.project);
    let (observed, history) = (&observation.observed, read_history(&loaded.instance));
    let known = Known { loaded, lock: &lock, facts: &facts, observed, planned: &planned, graph: &graph, history: &history };
    let named = |vertex: &Vertex| vertex.name == typed || vertex.part == Part::Container && ReplicaId::is_of(typed, &vertex.name);
    let found: Vec<usize> = (0..graph.vertices.len()).filter(|at| named(&graph.vertices[*at])).collect();
    if !found.is_empty() {
        return Ok(found.into_iter().map(|at| known.part(at, typed)).collect());
    }
    let steps = known.steps_named(typed)?;
    if !steps.is_empty() {
        return Ok(steps.into_iter().map(|(name, index)| known.step(name, index)).collect());
    }
    // What is no longer in the project file, and what has no node of its own there.
    let meant = |change: &Change| ReplicaId::is_of(&change.name, typed);
    let rest = Explained {
        what: typed.to_owned(),
        place: None,
        causes: known.causes(&meant),
        note: None,
        needs: Vec::new(),
        users: Vec::new(),
        last: known.last(&meant),
    };
    if !rest.causes.is_empty() || rest.last.is_some() {
        return Ok(vec![rest]);
    }
    let error = Error::new(format!("nothing is known about \"{typed}\""));
    Err(match nearest(typed, graph.vertices.iter().map(|vertex| vertex.name.as_str())) {
        Some(near) => error.hint(format!("perhaps \"{near}\"; `stead status` lists what there is")),
        None => error.hint("`stead status` lists what there is; a step is IMAGE/NUMBER or IMAGE:LINE"),
    })
}

/// What explanations are made from.
struct Known<'a> {
    loaded: &'a LoadedProject,
    lock: &'a Lock,
    facts: &'a StoreFacts<'a>,
    observed: &'a Observed,
    planned: &'a Planned,
    graph: &'a Graph,
    history: &'a [Entry],
}

impl Known<'_> {
    fn part(&self, at: usize, typed: &str) -> Explained {
        let vertex = &self.graph.vertices[at];
        let (object, path) = match vertex.part {
            Part::Container if self.is_job(vertex) => (Object::Job, NodePath::container(&vertex.name)),
            Part::Container => (Object::Container, NodePath::container(&vertex.name)),
            Part::Image => (Object::Image, NodePath::declared("image", &self.name(vertex))),
            Part::Network => (Object::Network, NodePath::declared("network", &self.name(vertex))),
            Part::Volume => (Object::Volume, NodePath::declared("volume", &self.name(vertex))),
        };
        let is_of = |name: &str| if vertex.part == Part::Container { ReplicaId::is_of(name, typed) } else { name == typed };
        // A job may have been a container before, and its history may be of a stead that called it one.
        let is_same = |other: Object| other == object || object == Object::Job && other == Object::Container;
        let meant = |change: &Change| is_same(change.object) && is_of(&change.name);
        let mut needs: Vec<String> =
            self.graph.edges.iter().filter(|edge| edge.from == at).map(|edge| self.need(edge, typed)).collect();
        if vertex.part == Part::Image {
            needs.extend(self.steps(&self.name(vertex)));
        }
        let (causes, note) = (self.causes(&meant), self.note(at));
        let users = self.graph.edges.iter().filter(|edge| edge.to == at).map(|edge| self.user(edge)).collect();
        let what = format!("{} {}", self.word(vertex), if vertex.part == Part::Container { typed } else { vertex.name.as_str() });
        Explained { what, place: self.loaded.places.of(&path).cloned(), causes, note, needs, users, last: self.last(&meant) }
    }

    fn is_job(&self, vertex: &Vertex) -> bool {
        let container = self.loaded.project.containers.get(vertex.name.as_str());
        vertex.part == Part::Container && container.is_some_and(|container| container.job.is_some())
    }

    /// What a vertex is called in a project file.
    fn word(&self, vertex: &Vertex) -> &'static str {
        if self.is_job(vertex) { "job" } else { vertex.part.word() }
    }

    /// The name of a vertex, which is one of the project or is implied by it.
    fn name(&self, vertex: &Vertex) -> Name {
        Name::of_reference(&vertex.name)
    }

    /// What the plan changes: each name with a cause.
    fn causes(&self, meant: &dyn Fn(&Change) -> bool) -> Vec<(String, Cause)> {
        let changes = self.planned.plan.changes().filter(|change| meant(change));
        changes.flat_map(|change| change.causes.iter().map(move |cause| (change.name.clone(), cause.clone()))).collect()
    }

    /// The last entry of the history that has such changes, and only these.
    fn last(&self, meant: &dyn Fn(&Change) -> bool) -> Option<Entry> {
        self.history.iter().rev().find_map(|entry| {
            let changes: Vec<Change> = entry.changes.iter().filter(|change| meant(change)).cloned().collect();
            (!changes.is_empty()).then(|| Entry { changes, ..entry.clone() })
        })
    }

    /// What a vertex uses, with what is known about that now.
    fn need(&self, edge: &Edge, typed: &str) -> String {
        let vertex = &self.graph.vertices[edge.to];
        let shown = format!("{} {}", self.word(vertex), vertex.name);
        match vertex.part {
            Part::Image => match self.planned.built.get(vertex.name.as_str()) {
                Some(image) => format!("{shown} sha256:{}", image.digest.short(12)),
                None => format!("{shown}, which is not built"),
            },
            Part::Network => {
                let subnet = self.planned.networks.get(vertex.name.as_str()).map(|network| format!(" {}", network.subnet));
                let replicas = self.planned.desired.values().filter(|one| ReplicaId::is_of(&one.name, typed));
                let attached = replicas.flat_map(|one| &one.networks).filter(|there| there.network.as_str() == vertex.name);
                let addresses: Vec<String> = attached.map(|there| there.address.to_string()).collect();
                let addresses = if addresses.is_empty() { String::new() } else { format!(" as {}", addresses.join(", ")) };
                format!("{shown}{}{addresses}", subnet.unwrap_or_default())
            }
            Part::Volume => shown,
            Part::Container => format!("{shown} ({})", edge.label.unwrap_or_default()),
        }
    }

    fn user(&self, edge: &Edge) -> String {
        let vertex = &self.graph.vertices[edge.from];
        let label = edge.label.map(|label| format!(" ({label})")).unwrap_or_default();
        format!("{} {}{label}", self.word(vertex), vertex.name)
    }

    /// That no container needs an image, so that `up` leaves it alone.
    fn note(&self, at: usize) -> Option<String> {
        if self.graph.vertices[at].part != Part::Image {
            return None;
        }
        let (mut seen, mut left) = (BTreeSet::from([at]), vec![at]);
        while let Some(next) = left.pop() {
            if self.graph.vertices[next].part == Part::Container {
                return None;
            }
            let users = self.graph.edges.iter().filter(|edge| edge.to == next).map(|edge| edge.from);
            left.extend(users.filter(|user| seen.insert(*user)));
        }
        Some(format!("no container uses it; `stead build {}` makes it", self.graph.vertices[at].name))
    }

    /// The steps of an image, with how long each took when it last ran.
    fn steps(&self, name: &Name) -> Vec<String> {
        let count = self.loaded.project.images.get(name.as_str()).map_or(0, |image| image.steps.len());
        (0..count).map(|index| self.step_line(name, index)).collect()
    }

    fn step_line(&self, name: &Name, index: usize) -> String {
        let Some(image) = self.loaded.project.images.get(name.as_str()) else { return String::new() };
        let place = self.loaded.places.of(&NodePath::image(name).step(index));
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        let position = plan::recorded_steps(image).iter().position(|recorded| *recorded == index);
        let record = self.observed.record.images.get(name.as_str());
        let took = position.and_then(|position| record?.steps.get(position)?.millis);
        let took = took.map(|millis| format!(", took {}", time(u128::from(millis)))).unwrap_or_default();
        let what = image.steps.get(index).map(describe).unwrap_or_default();
        format!("step {} {what}{place}{took}", index + 1)
    }

    /// The steps that a text names: their images and their numbers, counted from 0.
    fn steps_named(&self, typed: &str) -> Result<Vec<(&Name, usize)>> {
        let image = |name: &str| self.loaded.project.images.get_key_value(name);
        if let Some((name, number)) = typed.rsplit_once('/')
            && let (Some((name, image)), Ok(number)) = (image(name), number.parse::<usize>())
        {
            let count = image.steps.len();
            return match number.checked_sub(1).filter(|index| *index < count) {
                Some(index) => Ok(vec![(name, index)]),
                None => Err(Error::new(format!("image {name} has no step {number}"))
                    .hint(format!("its steps are counted from 1 to {count}: `stead why {name}` lists them"))),
            };
        }
        if let Some((name, line)) = typed.rsplit_once(':')
            && let (Some((name, image)), Ok(line)) = (image(name), line.parse::<usize>())
        {
            let is_there = |index: &usize| {
                let place = self.loaded.places.exactly(&NodePath::image(name).step(*index));
                place.is_some_and(|place| place.line == line)
            };
            let found: Vec<(&Name, usize)> = (0..image.steps.len()).filter(is_there).map(|index| (name, index)).collect();
            if found.is_empty() {
                return Err(Error::new(format!("no step of image {name} begins in line {line}"))
                    .hint(format!("`stead why {name}` lists its steps with their lines")));
            }
            return Ok(found);
        }
        Ok(Vec::new())
    }

    fn step(&self, name: &Name, index: usize) -> Explained {
        let images = &self.loaded.project.images;
        let step = images.get(name.as_str()).and_then(|image| image.steps.get(index));
        let makes_a_layer = images.get(name.as_str()).is_some_and(|image| plan::recorded_steps(image).contains(&index));
        let cause = if makes_a_layer { self.step_cause(name, index) } else { None };
        let what = format!("step {} of image {name}", index + 1);
        let mut needs = vec![self.step_line(name, index)];
        needs.extend(self.step_needs(name, index));
        let count = images.get(name.as_str()).map_or(0, |image| image.steps.len());
        let user = if index + 1 < count { self.step_line(name, index + 1) } else { format!("image {name}") };
        let note = match step {
            Some(step) if !makes_a_layer => Some(format!("it makes no layer: {} of what comes after it", describe(step))),
            _ => None,
        };
        Explained {
            causes: cause.map(|cause| (what.clone(), cause)).into_iter().collect(),
            what,
            place: self.loaded.places.of(&NodePath::image(name).step(index)).cloned(),
            note,
            needs,
            users: vec![user],
            last: None,
        }
    }

    /// What a step is made from: the step before it, or the base, and images that it takes files from.
    fn step_needs(&self, name: &Name, index: usize) -> Vec<String> {
        let Some(image) = self.loaded.project.images.get(name.as_str()) else { return Vec::new() };
        let digest = |other: &Name| match self.planned.built.get(other.as_str()) {
            Some(built) => format!("image {other} sha256:{}", built.digest.short(12)),
            None => format!("image {other}"),
        };
        let below = match (index.checked_sub(1), &image.from) {
            (Some(before), _) => Some(self.step_line(name, before)),
            (None, Base::Image(base)) => Some(digest(base)),
            (None, Base::Scratch | Base::Outside(_)) => None,
        };
        let taken: Vec<&Name> = match image.steps.get(index) {
            Some(Step::Copy(copy)) => copy.from.iter().collect(),
            Some(Step::Run(run)) => run.mounts.iter().filter_map(RunMount::image).collect(),
            _ => Vec::new(),
        };
        below.into_iter().chain(taken.into_iter().map(digest)).collect()
    }

    /// Why a step would run now; `None` if its result is there.
    fn step_cause(&self, name: &Name, index: usize) -> Option<Cause> {
        let LoadedProject { project, places, .. } = self.loaded;
        let known = (project, places, self.lock, self.observed);
        let cause = |at: usize| plan::step_cause(known, self.facts, name, at, &[]);
        let plain = |text: String| Some(Cause { text, place: None });
        match plan::walk(project, self.lock, name, self.facts) {
            Walk::Step(next) if next.index == index => Some(cause(index)),
            Walk::Step(next) if next.index < index => {
                Some(cause(next.index).under(format!("step {} runs before it, and may give another result", next.index + 1)))
            }
            Walk::Missing { step, why } if step <= index => plain(with_advice(&why).0.to_owned()),
            Walk::NoArchive(why) => plain(why),
            Walk::Blocked(other) => {
                let change = |change: &Change| change.object == Object::Image && change.name == other.as_str();
                let text = format!("the image {other} is built before it");
                match self.causes(&change).into_iter().next() {
                    Some((_, deeper)) => Some(deeper.under(text)),
                    None => plain(text),
                }
            }
            Walk::Import(_) | Walk::Unlocked => Some(cause(index)),
            // What is to be done comes after all steps, or after this one.
            Walk::Step(_) | Walk::Missing { .. } | Walk::Built(_) | Walk::Assemble(_) | Walk::Squash(_) => None,
        }
    }
}

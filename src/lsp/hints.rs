//! Inlay hints: what is locked, and what is up, beside the words that stand for it.

use super::document::Document;
use super::facts::Replica;
use super::names::{Kind, Role};
use super::project::{At, Project};
use std::ops::Range;

/// A text that is shown behind a word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    pub offset: usize,
    pub label: String,
}

/// The hints in a range of a file.
pub fn hints(at: &At, within: &Range<usize>) -> Vec<Hint> {
    let mut found = names(at.project, at.document, within);
    found.extend(packages(at.project, at.document, within));
    found.sort_by_key(|hint| hint.offset);
    found
}

/// Behind a value, quotes included.
fn behind(document: &Document, place: &Range<usize>) -> usize {
    place.end + usize::from(document.text[place.end..].starts_with('"') && document.text[..place.start].ends_with('"'))
}

fn names(project: &Project, document: &Document, within: &Range<usize>) -> Vec<Hint> {
    let inside = document.mentions.iter().filter(|one| within.start <= one.place.start && one.place.end <= within.end);
    let label = |one: &super::names::Mention| match (one.kind, one.role) {
        (Kind::Container, Role::Declared) => state(&project.observed.replicas(&one.name).collect::<Vec<_>>()),
        (Kind::Image, Role::Used) => project.locked.digest(&one.name).map(|digest| format!("@{}", digest.short(12))),
        (Kind::Network, Role::Declared) => project.observed.networks.get(&one.name).cloned(),
        _ => None,
    };
    inside.filter_map(|one| Some(Hint { offset: behind(document, &one.place), label: label(one)? })).collect()
}

/// The state of a container's replicas, and the ports of the first one.
fn state(replicas: &[&Replica]) -> Option<String> {
    let first = replicas.first()?;
    let same = replicas.iter().filter(|replica| replica.state() == first.state()).count();
    let mut label = first.state().to_owned();
    if replicas.len() > 1 {
        label = format!("{same}/{} {label}", replicas.len());
    }
    first.ports.iter().for_each(|port| label.push_str(&format!(", {port}")));
    Some(label)
}

fn packages(project: &Project, document: &Document, within: &Range<usize>) -> Vec<Hint> {
    let nodes = document.scan.nodes.iter().enumerate();
    let inside = nodes.filter(|(_, node)| within.start <= node.header_end && node.name.start <= within.end && node.off.is_none());
    let named = inside.filter(|(number, _)| document.name(*number) == "package");
    let hints = named.flat_map(|(number, _)| {
        document.scan.arguments(number).filter_map(move |(_, entry)| {
            let package = project.locked.package(document, number, &document.value(&entry.value))?;
            Some(Hint { offset: entry.value.end, label: package.version.clone() })
        })
    });
    hints.collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Locked, Observed};
    use super::super::project::testing::Fixture;
    use super::*;
    use crate::lock::{Lock, LockedImage, LockedPackage, StepLock, SuiteLock};
    use crate::model::{Digest, Name};
    use crate::monitor::{Health, State};
    use std::sync::Arc;

    fn replica(name: &str, health: Health) -> Replica {
        let ports = vec!["127.0.0.1:8080".to_owned()];
        Replica { name: name.into(), container: "web".into(), state: State::Running, health, ports, addresses: [].into() }
    }

    #[test]
    fn what_is_locked_and_up_stands_beside_it() {
        let mut fixture = Fixture::new(
            "image \"app\" { debian \"bookworm\" { package \"nginx\" \"none\" } }\ncontainer \"web\" { image \"redis:7\" }\nvolume \"v\"\n",
        );
        let whole = 0..fixture.at().document.text.len();
        assert_eq!(hints(&fixture.at(), &whole), []);
        let package = LockedPackage {
            name: "nginx".into(),
            version: "1.22".into(),
            architecture: "amd64".into(),
            sha256: Digest::of("x"),
            size: 1,
            path: String::new(),
            repository: None,
        };
        let mut lock = Lock::default();
        let suite = SuiteLock { packages: [(package.key(), package)].into(), ..SuiteLock::default() };
        lock.suites.insert("bookworm".into(), suite);
        let step = StepLock { suite: "bookworm".into(), request: String::new(), packages: ["nginx=1.22".to_owned()].into() };
        lock.steps.insert((Name::parse("app").unwrap(), 0), step);
        lock.images.insert("redis:7".into(), LockedImage::here(Digest::of("y")));
        fixture.project.locked = Arc::new(Locked { lock, ..Locked::default() });
        let replicas = vec![replica("web-1", Health::Healthy), replica("web-2", Health::Unhealthy)];
        fixture.project.observed = Arc::new(Observed { replicas, ..Observed::default() });
        let text = &fixture.at().document.text;
        let shown: Vec<String> = hints(&fixture.at(), &whole)
            .into_iter()
            .map(|hint| format!("{}| {}", &text[hint.offset - 4..hint.offset], hint.label))
            .collect();
        let digest = Digest::of("y").short(12);
        assert_eq!(shown, ["inx\"| 1.22".to_owned(), "web\"| 1/2 healthy, 127.0.0.1:8080".into(), format!("s:7\"| @{digest}")]);
        assert_eq!(hints(&fixture.at(), &(0..5)), [], "only in the range");
    }
}

//! Who needs whom: containers that depend on others, images that start from others, as a hierarchy of calls.

use super::names::{Kind, Mention, Role};
use super::navigate::mention_at;
use super::project::{At, Project, Spot};
use std::collections::BTreeMap;

/// A container or an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    pub kind: Kind,
    pub name: String,
}

/// An item, where it is declared, and where the edge to it or from it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    pub item: Item,
    pub declared: Spot,
    /// The whole node.
    pub node: Spot,
    pub places: Vec<Spot>,
}

fn is_vertex(kind: Kind) -> bool {
    matches!(kind, Kind::Image | Kind::Container)
}

/// The item at a place.
pub fn item_at(at: &At) -> Option<Edge> {
    let mention = mention_at(at).filter(|mention| is_vertex(mention.kind))?;
    edge(at.project, Item { kind: mention.kind, name: mention.name.clone() }, Vec::new())
}

fn edge(project: &Project, item: Item, places: Vec<Spot>) -> Option<Edge> {
    let found = project.declared(item.kind, &item.name);
    let (file, document, mention) = found.first()?;
    let node = &document.scan.nodes[mention.node];
    let spot = |range| Spot { file: (*file).to_owned(), range };
    Some(Edge { item, declared: spot(mention.place.clone()), node: spot(node.name.start..node.end), places })
}

/// The uses of containers and images, each with the item in whose node it is.
fn uses(project: &Project) -> impl Iterator<Item = (Item, &Mention, Spot)> {
    project.mentions().filter(|(_, _, one)| one.role == Role::Used && is_vertex(one.kind)).filter_map(|(file, document, one)| {
        let mut node = one.node;
        while let Some(parent) = document.scan.nodes[node].parent.filter(|parent| document.name(*parent) != "profile") {
            node = parent;
        }
        let kind = Kind::declared_by(&document.name(node)).filter(|kind| is_vertex(*kind))?;
        let user = Item { kind, name: document.first(node)?.into_owned() };
        Some((user, one, Spot { file: file.to_owned(), range: one.place.clone() }))
    })
}

/// What needs an item.
pub fn incoming(project: &Project, item: &Item) -> Vec<Edge> {
    let mut found: BTreeMap<Item, Vec<Spot>> = BTreeMap::new();
    for (user, _, spot) in uses(project).filter(|(_, used, _)| used.kind == item.kind && used.name == item.name) {
        found.entry(user).or_default().push(spot);
    }
    found.into_iter().filter_map(|(item, places)| edge(project, item, places)).collect()
}

/// What an item needs.
pub fn outgoing(project: &Project, item: &Item) -> Vec<Edge> {
    let mut found: BTreeMap<Item, Vec<Spot>> = BTreeMap::new();
    for (_, used, spot) in uses(project).filter(|(user, _, _)| user == item) {
        found.entry(Item { kind: used.kind, name: used.name.clone() }).or_default().push(spot);
    }
    found.into_iter().filter_map(|(item, places)| edge(project, item, places)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::project::testing::Fixture;
    use super::*;

    #[test]
    fn who_needs_whom_is_known() {
        let fixture = Fixture::new(
            "image \"base\" {}\nimage \"app\" { from \"base\"; copy \"/x\" from=\"base\" to=\"/x\" }\ncontainer \"db\" { image \"redis:7\" }\n\
             container \"w█eb\" { image \"app\"; depends-on \"db\" }\n",
        );
        let names = |edges: Vec<Edge>| edges.into_iter().map(|edge| (edge.item.name, edge.places.len())).collect::<Vec<_>>();
        let item = item_at(&fixture.at()).unwrap().item;
        assert_eq!(names(outgoing(&fixture.project, &item)), [("app".to_owned(), 1), ("db".to_owned(), 1)]);
        assert_eq!(names(incoming(&fixture.project, &item)), []);
        let base = Item { kind: Kind::Image, name: "base".into() };
        assert_eq!(names(incoming(&fixture.project, &base)), [("app".to_owned(), 2)]);
    }
}

//! From a name to where it is declared and used, and to another name everywhere.

use super::document::Document;
use super::edit::Edit;
use super::links::link_at;
use super::names::{Mention, Role};
use super::project::{At, Spot};
use super::scan::Slot;
use crate::model::Name;
use crate::model::kdl_text::quoted;
use std::ops::Range;

/// The name at a place: the one at the cursor, or, on the word of a node that declares one, that one.
pub fn mention_at<'a>(at: &At<'a>) -> Option<&'a Mention> {
    let document = at.document;
    document.mention_at(at.offset).or_else(|| match document.scan.slot(at.offset) {
        Slot::Name { node: Some(node), .. } => {
            document.mentions.iter().find(|one| one.node == node && one.role == Role::Declared)
        }
        _ => None,
    })
}

fn spot(file: &str, mention: &Mention) -> Spot {
    Spot { file: file.to_owned(), range: mention.place.clone() }
}

/// Where the name at a place is declared, or the file that the path there leads to.
pub fn definition(at: &At) -> Vec<Spot> {
    if let Some(mention) = mention_at(at) {
        let found: Vec<Spot> =
            at.project.declared(mention.kind, &mention.name).into_iter().map(|(file, _, one)| spot(file, one)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    link_at(at).map(|link| Spot { file: link.path, range: 0..0 }).into_iter().collect()
}

/// Which mentions of a name are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    All,
    Uses,
}

/// Where the name at a place is used.
pub fn references(at: &At, wanted: Wanted) -> Vec<Spot> {
    let Some(mention) = mention_at(at) else { return Vec::new() };
    let same = |one: &Mention| one.kind == mention.kind && one.name == mention.name;
    let taken = |one: &Mention| same(one) && (wanted == Wanted::All || one.role != Role::Declared);
    at.project.mentions().filter(|(_, _, one)| taken(one)).map(|(file, _, one)| spot(file, one)).collect()
}

/// The range of the name at a place, if it can be renamed.
///
/// # Errors
/// A sentence saying why it cannot.
pub fn renamed(at: &At) -> Result<Range<usize>, String> {
    let Some(mention) = mention_at(at) else { return Err("there is no name here".into()) };
    if at.project.declared(mention.kind, &mention.name).is_empty() {
        return Err(format!(
            "the project declares no {} \"{}\", so it cannot be renamed here",
            mention.kind.word(),
            mention.name
        ));
    }
    Ok(mention.place.clone())
}

/// What to change so that the name at a place is another one everywhere.
///
/// # Errors
/// A sentence saying why it cannot be.
pub fn rename(at: &At, new: &str) -> Result<Vec<Edit>, String> {
    renamed(at)?;
    let Some(mention) = mention_at(at) else { return Err("there is no name here".into()) };
    Name::parse(new)?;
    if new != mention.name && !at.project.declared(mention.kind, new).is_empty() {
        return Err(format!("there is a {} \"{new}\" already", mention.kind.word()));
    }
    let same = at.project.mentions().filter(|(_, _, one)| one.kind == mention.kind && one.name == mention.name);
    Ok(same.map(|(file, document, one)| Edit::new(file, one.place.clone(), written(document, one, new))).collect())
}

/// A name as it is written in the place of another one: without quotes where that one has none, unless it needs them.
fn written(document: &Document, mention: &Mention, new: &str) -> String {
    let before = document.text[..mention.place.start].chars().next_back();
    let is_inside = matches!(before, Some('"' | '{'));
    let keyword = matches!(new, "true" | "false" | "null" | "inf" | "nan");
    if keyword && !is_inside { quoted(new) } else { new.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::project::testing::Fixture;
    use super::*;

    const OTHER: (&str, &str) = ("db.kdl", "container \"db\" { image \"app\"; network \"back\" }\nnetwork \"back\"\n");

    fn all(fixture: &Fixture, spots: Vec<Spot>) -> Vec<String> {
        spots.iter().map(|spot| fixture.text(spot)).collect()
    }

    #[test]
    fn names_lead_to_their_declarations_in_all_files() {
        let fixture = Fixture::with("include \"db.kdl\"\nimage \"app\" {}\ncontainer \"w\" { network \"ba█ck\" }\n", &[OTHER]);
        assert_eq!(all(&fixture, definition(&fixture.at())), ["db.kdl:back"]);
        assert_eq!(all(&fixture, references(&fixture.at(), Wanted::All)), ["db.kdl:back", "db.kdl:back", "stead.kdl:back"]);
        assert_eq!(references(&fixture.at(), Wanted::Uses).len(), 2);
        let fixture = Fixture::with("include \"db.█kdl\"\n", &[OTHER]);
        assert_eq!(definition(&fixture.at()), [Spot { file: "db.kdl".into(), range: 0..0 }]);
        let fixture = Fixture::new("im█age \"app\" {}\ncontainer \"w\" { image app }\n");
        assert_eq!(references(&fixture.at(), Wanted::All).len(), 2, "from the word `image`, and without quotes");
        let fixture = Fixture::new("container \"w\" { image \"redis█:7\" }\n");
        assert_eq!(definition(&fixture.at()), []);
    }

    /// The files of a project after a rename.
    fn after(fixture: &Fixture, new: &str) -> Result<Vec<String>, String> {
        let mut edits = rename(&fixture.at(), new)?;
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.spot.range.start));
        let mut texts: std::collections::BTreeMap<_, _> =
            fixture.project.documents.iter().map(|(file, document)| (file.clone(), document.text.to_string())).collect();
        for edit in edits {
            texts.get_mut(&edit.spot.file).unwrap().replace_range(edit.spot.range, &edit.text);
        }
        Ok(texts.into_values().collect())
    }

    #[test]
    fn names_are_renamed_in_all_files() {
        let main = "include \"db.kdl\"\nimage \"a█pp\" {}\nimage \"b\" { from app }\nprofile \"ci\" { image \"app\" {} }\n";
        let fixture = Fixture::with(main, &[OTHER]);
        let found = after(&fixture, "web").unwrap();
        assert_eq!(found[0], OTHER.1.replace("\"app\"", "\"web\""));
        assert_eq!(found[1], main.replace('█', "").replace("app", "web"));
        assert_eq!(after(&fixture, "true").unwrap()[1].matches("\"true\"").count(), 3, "a keyword needs quotes");
        assert!(rename(&fixture.at(), "b").unwrap_err().contains("already"));
        assert!(rename(&fixture.at(), "Web_1").unwrap_err().contains("lowercase"));
        let fixture = Fixture::new("param \"tag\"\nproject \"a-${ta█g}-$${tag}\"\n");
        assert_eq!(after(&fixture, "version").unwrap(), ["param \"version\"\nproject \"a-${version}-$${tag}\"\n"]);
        let fixture = Fixture::new("container \"w\" { image \"re█dis:7\" }\n");
        assert!(renamed(&fixture.at()).unwrap_err().contains("declares no image"));
        assert!(renamed(&Fixture::new("█").at()).is_err());
    }
}

//! Code actions: what can be done about a finding, and what a file can be improved by.

use super::edit::Edit;
use super::fixes::{self, literals};
use super::names::{Kind, Role};
use super::project::At;
use crate::spec::Diagnostic;
use std::ops::Range;

/// Something that an editor can do to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    pub title: String,
    pub edits: Vec<Edit>,
    /// The number of the finding that it is about; without one, the file was right before.
    pub finding: Option<usize>,
}

/// What can be done in a range of a file; the findings are those about the file as it is now.
pub fn actions(at: &At, range: &Range<usize>, findings: &[Diagnostic]) -> Vec<Action> {
    let mut found = Vec::new();
    for (number, finding) in findings.iter().enumerate() {
        let place = finding.place.offset..finding.place.offset + finding.place.length;
        let here = crate::spec::tidy(&finding.place.file) == at.file && place.start <= range.end && range.start <= place.end;
        if here && let Some((title, edits)) = fixes::fix(at, finding) {
            found.push(Action { title, edits, finding: Some(number) });
        }
    }
    found.extend(old_literals(at, range));
    found.extend(pin(at));
    found
}

/// Converts all literals of KDL 1, if the range has one.
fn old_literals(at: &At, range: &Range<usize>) -> Option<Action> {
    let all = literals(at.document);
    all.iter().any(|(place, _)| place.start <= range.end && range.start <= place.end).then(|| {
        let edits = all.into_iter().map(|(place, text)| Edit::new(at.file, place, text)).collect();
        Action { title: "Write all literals of KDL 1 as KDL 2 does".into(), edits, finding: None }
    })
}

/// Adds the locked digest to the reference at the cursor.
fn pin(at: &At) -> Option<Action> {
    let mention = at.document.mention_at(at.offset).filter(|one| one.kind == Kind::Image && one.role == Role::Used)?;
    if mention.name.contains('@') || !at.project.declared(Kind::Image, &mention.name).is_empty() {
        return None;
    }
    let digest = at.project.locked.digest(&mention.name)?;
    let pinned = crate::model::kdl_text::quoted(&format!("{}@{digest}", mention.name));
    // A word without quotes cannot have an `@` and a digest as its value stands; the quotes are part of what is written.
    let quoted = at.document.text[..mention.place.start].ends_with('"');
    let text = if quoted { pinned.trim_matches('"').to_owned() } else { pinned };
    let title = format!("Pin {} to the digest of the lock", mention.name);
    Some(Action { title, edits: vec![Edit::new(at.file, mention.place.clone(), text)], finding: None })
}

#[cfg(test)]
mod tests {
    use super::super::facts::Locked;
    use super::super::project::testing::Fixture;
    use super::*;
    use crate::lock::{Lock, LockedImage};
    use crate::model::Digest;
    use crate::spec::{Choices, Sources, load};
    use std::sync::Arc;

    struct One(String);

    impl Sources for One {
        fn read(&self, _: &str) -> Result<String, String> {
            Ok(self.0.clone())
        }
        fn env(&self, _: &str) -> Option<std::ffi::OsString> {
            None
        }
    }

    /// The text after an action, by the beginning of its title.
    fn done(text: &str, title: &str) -> String {
        let fixture = Fixture::new(text);
        let loaded = load("stead.kdl", &Choices::default(), &One(text.to_owned()));
        let found = actions(&fixture.at(), &(0..text.len()), &loaded.diagnostics);
        let titles: Vec<_> = found.iter().map(|action| action.title.clone()).collect();
        let action = found.into_iter().find(|action| action.title.starts_with(title));
        let mut edits = action.unwrap_or_else(|| panic!("{title:?} is none of {titles:?} for {:?}", loaded.diagnostics)).edits;
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.spot.range.start));
        let mut text = text.to_owned();
        edits.into_iter().for_each(|edit| text.replace_range(edit.spot.range, &edit.text));
        text
    }

    #[test]
    fn suggestions_are_accepted() {
        let inside = |line: &str| {
            format!("project \"p\"\nimage \"app\" {{ from \"x:1\" }}\ncontainer \"web\" {{\n    image \"app\"\n    {line}\n}}\n")
        };
        for (wrong, title, right) in [
            ("memry \"1GiB\"", "", ""),
            ("publsh 80", "Write `publish`", "publish 80"),
            ("ports 80", "Write `publish`", "publish 80"),
            ("publish 80 too=90", "Write `to`", "publish 80 to=90"),
            ("publish \"8080:80\"", "Write `publish 8080 to=80`", "publish 8080 to=80"),
            ("init \"yes\"", "Write `#true`", "init #true"),
            ("init true", "Write `#true`", "init #true"),
            ("restart \"allways\"", "Write `\"always\"`", "restart \"always\""),
            ("replicas \"2\"", "Write `2`", "replicas 2"),
            ("hostname 7", "Write `\"7\"`", "hostname \"7\""),
            ("mount volume=\"data\"", "Write `to=`", "mount volume=\"data\" to=\"\""),
            ("cmd \"a\", \"b\"", "Remove the comma", "cmd \"a\" \"b\""),
        ] {
            if !title.is_empty() {
                assert_eq!(done(&inside(wrong), title), inside(right), "{wrong}");
            }
        }
        let near = inside("network \"bak\"") + "network \"back\"\n";
        assert_eq!(done(&near, "Write `back`"), near.replace("bak\"", "back\""));
        let twice = inside("init #true\n    init #false");
        assert_eq!(done(&twice, "Remove"), inside("init #true"));
    }

    #[test]
    fn missing_nodes_are_added() {
        let text = "project \"p\"\ncontainer \"web\" {\n    image \"redis:7\"\n    mount volume=\"data\" to=\"/data\"\n}\n";
        assert_eq!(done(text, "Declare"), format!("{text}\nvolume \"data\"\n"));
        let text = "project \"p\"\nimage \"app\" {\n    from \"x:1\"\n}\ncontainer \"web\" {\n    init #true\n}\n";
        assert_eq!(done(text, "Add `image"), text.replace("\"web\" {\n", "\"web\" {\n    image \"app\"\n"));
        let text = "container \"web\" { image \"redis:7\" }\n";
        assert_eq!(done(text, "Begin"), format!("project \"NAME\"\n\n{text}"));
    }

    #[test]
    fn literals_of_the_old_language_are_converted() {
        let text = "project \"p\"\ncontainer \"web\" {\n    image \"redis:7\"\n    init true\n    cmd r\"a\\b\" r#\"c\"#\n    mount volume=\"true\" read-only=false\n}\n";
        let want = text
            .replace("init true", "init #true")
            .replace("r\"a\\b\" r#\"c\"#", "#\"a\\b\"# #\"c\"#")
            .replace("=false", "=#false");
        assert_eq!(done(text, "Write all literals"), want);
    }

    #[test]
    fn tags_are_pinned_to_the_lock() {
        for (marked, start) in [
            ("container \"w\" { image \"redis█:7\" }", "\"redis:7@sha256:"),
            ("container \"w\" { image redis█:7 }", "\"redis:7@sha256:"),
        ] {
            let mut fixture = Fixture::new(marked);
            assert!(pin(&fixture.at()).is_none(), "it is not locked");
            let mut lock = Lock::default();
            lock.images.insert("redis:7".into(), LockedImage::here(Digest::of("x")));
            fixture.project.locked = Arc::new(Locked { lock, ..Locked::default() });
            let edit = pin(&fixture.at()).unwrap().edits.remove(0);
            let mut text = fixture.at().document.text.to_string();
            text.replace_range(edit.spot.range, &edit.text);
            assert!(text.contains(start) && text.ends_with("\" }"), "{text}");
        }
    }
}

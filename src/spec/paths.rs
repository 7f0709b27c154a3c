//! Paths of the host in project files: each is relative to the file that it is written in, and becomes relative to the
//! project's directory here.

use super::grammar::{Kind, Node, row};
use super::tree::{Entry, Tree, Value};

/// A path without `.` and `NAME/..`, judged by its text alone.
pub fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match parts.last() {
            Some(last) if part == ".." && *last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// Makes the paths of a node and of all in it relative to the project's directory. Those that begin with a parameter are left as
/// they are: only its value tells whether they are absolute, and the file that it is written in what they are relative to.
pub fn settle(tree: &mut Tree, rows: &'static [Node]) {
    let Some(row) = row(rows, &tree.name) else { return };
    let begins = |entry: &Entry| matches!(&entry.value, Value::Text(text) if text.starts_with("${"));
    let named_here = arguments_are_files(tree, row);
    for (index, entry) in tree.args.iter_mut().enumerate().filter(|(_, entry)| named_here && !begins(entry)) {
        if let Some(kind) = row.argument(index) {
            let file = entry.place.file.clone();
            settle_entry(entry, kind, &file);
        }
    }
    for (name, entry) in tree.props.iter_mut().filter(|(_, entry)| !begins(entry)) {
        if let Some(kind) = row.property(name) {
            let file = entry.place.file.clone();
            settle_entry(entry, kind, &file);
        }
    }
    for child in &mut tree.children {
        settle(child, row.children);
    }
}

/// Whether the arguments of a node are files of the project, if its row says so.
pub fn arguments_are_files(tree: &Tree, row: &Node) -> bool {
    !tree.props.iter().any(|(name, _)| row.elsewhere.contains(&name.as_str()))
}

/// Makes a value relative to the project's directory, if it is a path that is relative to a file in another directory.
pub fn settle_entry(entry: &mut Entry, kind: Kind, file: &str) {
    let Some((folder, _)) = file.rsplit_once('/') else { return };
    let Value::Text(text) = &mut entry.value else { return };
    match kind {
        Kind::File => *text = below(folder, text),
        Kind::FileOr(words) if !words.contains(&text.as_str()) => *text = below(folder, text),
        Kind::Origin if !text.contains("://") => *text = below(folder, text),
        Kind::FilePattern => *text = pattern_below(folder, text),
        _ => {}
    }
}

/// A path from a directory; one that is absolute or wrong stays as it is.
fn below(folder: &str, path: &str) -> String {
    let of_shell = path == "~" || path.starts_with("~/") || path.starts_with('$') && !path.starts_with("$${");
    if path.is_empty() || path.starts_with('/') || of_shell {
        return path.to_owned();
    }
    let whole = tidy(&format!("{folder}/{path}"));
    match (whole.as_str(), path.ends_with('/')) {
        ("", _) => ".".to_owned(),
        (_, true) => format!("{whole}/"),
        _ => whole,
    }
}

/// A pattern as in a `.gitignore` of a directory: without a `/` before its end, it means names anywhere.
fn pattern_below(folder: &str, pattern: &str) -> String {
    let (not, plain) = pattern.strip_prefix('!').map_or(("", pattern), |rest| ("!", rest));
    if !plain.trim_end_matches('/').contains('/') {
        return pattern.to_owned();
    }
    format!("{not}{}/{}", tidy(folder).trim_start_matches('/'), plain.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_the_directory_of_its_file() {
        for (folder, path, wanted) in [
            ("d", "a", "d/a"),
            ("d", "./a/", "d/a/"),
            ("d", "../a", "a"),
            ("d", "..", "."),
            ("d/e", "../../../a", "../a"),
            ("d", ".", "d"),
            ("d", "/a", "/a"),
            ("/o", "a", "/o/a"),
            ("", "a", "/a"),
            ("d", "*.py", "d/*.py"),
            ("d", "", ""),
            ("d", "~/a", "~/a"),
            ("d", "$HOME/a", "$HOME/a"),
            ("d", "$${a}", "d/$${a}"),
        ] {
            assert_eq!(below(folder, path), wanted, "{folder:?} {path:?}");
        }
    }

    #[test]
    fn only_a_pattern_with_a_place_is_relative() {
        for (pattern, wanted) in
            [("*.log", "*.log"), ("out/", "out/"), ("/out", "d/out"), ("a/b", "d/a/b"), ("!a/*.x", "!d/a/*.x")]
        {
            assert_eq!(pattern_below("d", pattern), wanted);
        }
    }
}

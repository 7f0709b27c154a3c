//! Submodules: the addresses of the repositories whose commits a tree names (gitmodules, git-config).

use super::entries;
use super::object::{Id, Kind, Objects};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Reads the addresses of submodules, by their paths, from the `.gitmodules` of a tree.
///
/// # Errors
/// Fails when the tree or the file cannot be read.
pub fn read(objects: &mut impl Objects, tree: Id) -> io::Result<BTreeMap<PathBuf, String>> {
    let top = objects.get(&tree, Kind::Tree)?;
    let found = entries(&top)?.into_iter().find(|entry| entry.name == b".gitmodules" && entry.mode & 0o170_000 == 0o100_000);
    let Some(file) = found else { return Ok(BTreeMap::new()) };
    Ok(parse(&String::from_utf8_lossy(&objects.get(&file.id, Kind::Blob)?)))
}

fn parse(text: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().map(str::trim).chain(["["]) {
        if line.starts_with('[') {
            if let (Some(path), Some(url)) = (path.take(), url.take()) {
                found.insert(PathBuf::from(path), url);
            }
            (path, url) = (None, None);
        } else if let Some((key, value)) = line.split_once('=') {
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => path = Some(plain(value)),
                "url" => url = Some(plain(value)),
                _ => {}
            }
        }
    }
    found
}

/// Removes the quotes, escapes and comment of a value.
fn plain(value: &str) -> String {
    let (mut out, mut quoted, mut characters) = (String::new(), false, value.trim().chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => out.extend(characters.next()),
            '#' | ';' if !quoted => break,
            other => out.push(other),
        }
    }
    if quoted { out } else { out.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_git_writes_them() {
        let text = "# c\n[submodule \"a\"]\n\tpath = lib/a\n\turl = ../a.git # why\n[submodule \"b\"]\n\turl = \"https://x.org/b;1.git\"\n\
                    \tPath=\"b \\\"c\"\n[submodule \"none\"]\n\tpath = d\n[other]\n\turl = e\n";
        let found = parse(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[&PathBuf::from("lib/a")], "../a.git");
        assert_eq!(found[&PathBuf::from("b \"c")], "https://x.org/b;1.git");
    }
}

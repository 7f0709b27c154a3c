//! Sources of ADD that are fetched: files from the web, and git repositories (reference, "Adding files from a URL",
//! "… from a Git repository"; Docker's build contexts, "URL queries").

use super::path::clean;
use crate::model::{Digest, GitRepository};
use crate::project::{AddSource, GitSource, is_commit};
use reqwest::Url;

/// The flags of ADD for fetched sources.
#[derive(Default)]
pub struct Flags {
    /// The digest of a file; for a repository, its commit or the beginning of that.
    pub checksum: Option<String>,
    pub keep_git: bool,
}

/// Parses a source; `None` if it is not one to be fetched.
///
/// # Errors
/// A sentence saying what is wrong with it.
pub fn parse(word: &str, flags: &Flags) -> Result<Option<AddSource>, String> {
    let (plain, fragment) = word.split_once('#').unwrap_or((word, ""));
    let (plain, query) = plain.split_once('?').unwrap_or((plain, ""));
    let web = word.starts_with("http://") || word.starts_with("https://");
    if GitRepository::is_other(word) || web && plain.trim_end_matches('/').ends_with(".git") {
        return git(plain, query, fragment, flags).map(|git| Some(AddSource::Git(git)));
    }
    if !web {
        return Ok(None);
    }
    let sha256 = match &flags.checksum {
        None => None,
        Some(text) => {
            let digest = text.strip_prefix("sha256:").and_then(Digest::parse);
            Some(digest.ok_or("--checksum needs sha256: and 64 hexadecimal digits")?)
        }
    };
    Ok(Some(AddSource::Url { url: word.to_owned(), sha256 }))
}

/// Whether a source is fetched from elsewhere.
pub fn is_remote(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://") || GitRepository::is_other(word)
}

fn git(place: &str, query: &str, fragment: &str, flags: &Flags) -> Result<GitSource, String> {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut found = GitSource {
        place: GitRepository::parse(place).map_err(|why| format!("{}; {}", why.message, why.help))?,
        reference: text(reference),
        commit: flags.checksum.clone(),
        folder: text(clean("", folder).trim_matches('/')),
        dot_git: flags.keep_git,
        submodules: true,
    };
    let pairs = Url::parse(&format!("git:?{query}")).map_err(|_| format!("\"{query}\" is not a URL query"))?;
    for (name, value) in pairs.query_pairs() {
        let flag = || match value.as_ref() {
            "" | "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(format!("{name} is true or false, not \"{value}\"")),
        };
        if value.is_empty() && !matches!(name.as_ref(), "keep-git-dir" | "submodules" | "fetch-by-commit") {
            return Err(format!("{name} has no value"));
        }
        let under = |folder: &str| format!("{folder}{}", value.strip_prefix(folder).unwrap_or(&value));
        match name.as_ref() {
            "ref" => one("ref", &mut found.reference, value.into())?,
            "tag" => one("ref", &mut found.reference, under("refs/tags/"))?,
            "branch" => one("ref", &mut found.reference, under("refs/heads/"))?,
            "subdir" => one("subdir", &mut found.folder, value.trim_matches('/').into())?,
            "checksum" | "commit" => one("checksum", &mut found.commit, value.into())?,
            "keep-git-dir" => found.dot_git = flag()?,
            "submodules" => found.submodules = flag()?,
            // A full commit ID is always fetched directly anyway.
            "fetch-by-commit" => drop(flag()?),
            _ => return Err(format!("a repository's URL cannot have {name}=")),
        }
    }
    found.commit = found.commit.map(|commit| commit.to_ascii_lowercase());
    if let Some(commit) = &found.commit {
        if commit.is_empty() || commit.len() > 40 || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("\"{commit}\" is no commit: up to 40 hexadecimal digits"));
        }
        let other = |reference: &&str| is_commit(reference) && !reference.to_ascii_lowercase().starts_with(commit);
        if let Some(reference) = found.reference.as_deref().filter(other) {
            return Err(format!("{reference} does not begin with {commit}"));
        }
    }
    // As in BuildKit, one directory has no `.git`.
    found.dot_git &= found.folder.is_none();
    Ok(found)
}

/// Sets a value; it may be given again only if it is the same.
fn one(name: &str, known: &mut Option<String>, value: String) -> Result<(), String> {
    match known {
        Some(known) if *known != value => Err(format!("{name} is given as \"{known}\" and as \"{value}\"")),
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

//! What is checked out in a working directory: read from its `.git`, without git.
//!
//! Everything that is read here was written by others: it is only shown.

use crate::sys;
use std::path::{Path, PathBuf};

/// The most that is read of a file: git's own have one line.
const MOST: u64 = 4096;
/// The most that is read of the list of packed branches.
const PACKED: u64 = 16 << 20;
/// The most characters of a branch's name.
const SHOWN: usize = 80;

/// The branch that is checked out in a directory or in one above it, or `detached at` a commit; `None` if there is no
/// repository, or one that is not understood.
pub fn checked_out(folder: &Path) -> Option<String> {
    let is_there = |git: &PathBuf| git.symlink_metadata().is_ok();
    let git = folder.ancestors().map(|above| above.join(".git")).find(is_there)?;
    let place = place_of(git)?;
    meaning(&first_line(&place.join("HEAD"))?)
}

/// The commit that is checked out there; `None` if that cannot be told.
pub fn head_commit(folder: &Path) -> Option<String> {
    let git = folder.ancestors().map(|above| above.join(".git")).find(|git| git.symlink_metadata().is_ok())?;
    let place = place_of(git)?;
    let head = first_line(&place.join("HEAD"))?;
    let is_commit = |text: &String| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else { return Some(head.trim().to_owned()).filter(is_commit) };
    // A worktree has its own HEAD, and shares the branches.
    let common = first_line(&place.join("commondir")).map_or_else(|| place.clone(), |common| place.join(common.trim()));
    let loose = || [&place, &common].iter().find_map(|place| first_line(&place.join(reference)));
    let packed = || {
        let bytes = sys::read_regular(&common.join("packed-refs"), PACKED).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().find_map(|line| Some(line.strip_suffix(reference)?.strip_suffix(' ')?.to_owned()))
    };
    loose().or_else(packed).map(|line| line.trim().to_owned()).filter(is_commit)
}

/// The directory of a repository, by its `.git`.
pub fn place_of(git: PathBuf) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git);
    }
    // In a worktree, or in a submodule, it is a file that names the directory (gitrepository-layout(5)).
    let line = first_line(&git)?;
    Some(git.parent()?.join(line.strip_prefix("gitdir:")?.trim()))
}

fn first_line(path: &Path) -> Option<String> {
    let bytes = sys::read_regular(path, MOST).ok()?;
    String::from_utf8_lossy(&bytes).lines().next().map(str::to_owned)
}

/// What a `HEAD` says.
fn meaning(head: &str) -> Option<String> {
    if let Some(reference) = head.strip_prefix("ref:") {
        let reference = reference.trim();
        let name = reference.strip_prefix("refs/heads/").unwrap_or(reference);
        return (!name.is_empty()).then(|| name.chars().take(SHOWN).collect());
    }
    let head = head.trim();
    // SHA-1 or SHA-256.
    let is_commit = matches!(head.len(), 40 | 64) && head.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| format!("detached at {}", &head[..7]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_branch_a_commit_a_worktree_and_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (main, tree) = (folder.path().join("main"), folder.path().join("tree"));
        fs::create_dir_all(main.join(".git/worktrees/tree")).unwrap();
        fs::create_dir_all(main.join("sub/project")).unwrap();
        fs::create_dir_all(&tree).unwrap();
        let head = |text: &str| fs::write(main.join(".git/HEAD"), text).unwrap();
        head("ref: refs/heads/feature/a\n");
        assert_eq!(checked_out(&main).as_deref(), Some("feature/a"));
        assert_eq!(checked_out(&main.join("sub/project")).as_deref(), Some("feature/a"));
        head("1234567890123456789012345678901234567890\n");
        assert_eq!(checked_out(&main).as_deref(), Some("detached at 1234567"));
        fs::write(main.join(".git/worktrees/tree/HEAD"), "ref: refs/heads/other\n").unwrap();
        for gitdir in ["../main/.git/worktrees/tree".to_owned(), main.join(".git/worktrees/tree").display().to_string()] {
            fs::write(tree.join(".git"), format!("gitdir: {gitdir}\n")).unwrap();
            assert_eq!(checked_out(&tree).as_deref(), Some("other"));
        }
        for nothing in ["", "\n", "ref: refs/heads/\n", "12345", "é234567890123456789012345678901234567890"] {
            head(nothing);
            assert_eq!(checked_out(&main), None, "{nothing:?}");
        }
        head(&format!("ref: refs/heads/{}\n", "x".repeat(1000)));
        assert_eq!(checked_out(&main).unwrap().len(), SHOWN);
        head(&"x".repeat(100_000));
        assert_eq!(checked_out(&main), None, "more than git writes is not read");
    }
}

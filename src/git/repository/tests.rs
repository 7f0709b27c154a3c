//! Tests with repositories that git made: loose, packed, borrowed, shallow, with worktrees.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn run(folder: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    for (name, value) in [("NAME", "a"), ("EMAIL", "a@b")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A history with a merge, an annotated tag of a tag, nested branches, a link and a program.
fn history(folder: &Path) {
    run(
        folder,
        "git init -q -b main; mkdir -p app/sub; seq 2000 > app/long; echo 1 > app/sub/file; printf '#!/bin/sh\n' > app/run
        chmod 755 app/run; ln -s sub/file app/link; echo outside > other; git add .; git commit -qm one; git tag -am t v1
        git tag -am t again v1; git switch -qc feature/a; echo 2 > app/sub/file; git commit -qam two
        git switch -q main; sed -i '7s/.*/changed/' app/long; git commit -qam three; git merge -qm merged feature/a
        echo 4 > app/sub/file; git commit -qam four",
    );
}

fn open(folder: &Path) -> Repository {
    Repository::of(folder).unwrap().unwrap()
}

const REVISIONS: [&str; 16] = [
    "HEAD",
    "@",
    "main",
    "main~1",
    "main^",
    "main~1^2",
    "HEAD^^2~1",
    "HEAD~2^0",
    "feature/a",
    "heads/feature/a",
    "refs/heads/main",
    "v1",
    "tags/v1",
    "again",
    "again^{commit}",
    "v1^{}",
];

#[test]
fn a_revision_means_what_git_says() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    fs::create_dir(&folder).unwrap();
    history(&folder);
    let check = |folder: &Path| {
        let mut repository = open(folder);
        for revision in REVISIONS {
            let wanted = run(folder, &format!("git rev-parse '{revision}^{{commit}}'"));
            assert_eq!(repository.commit(revision).unwrap(), wanted, "{revision}");
            for digits in [7, 12, 40] {
                assert_eq!(repository.commit(&wanted[..digits]).unwrap(), wanted);
            }
            assert_eq!(repository.commit(&wanted.to_uppercase()).unwrap(), wanted);
        }
    };
    check(&folder);
    check(&folder.join("app"));
    run(&folder, "git worktree add -q ../b feature/a; git -C ../b switch -qc main-b main");
    check(&place.path().join("b"));
    assert_eq!(open(&place.path().join("b")).top(), place.path().join("b"));
    run(&folder, "git gc -q --prune=now");
    assert!(!folder.join(".git/refs/heads/main").exists(), "branches are packed, too");
    check(&folder);
    run(place.path(), "git clone -q --shared a c; git -C c branch -q feature/a origin/feature/a");
    check(&place.path().join("c"));
    run(&place.path().join("c"), "git switch -q --detach HEAD~1; git branch -qf main main");
    assert_eq!(open(&place.path().join("c")).commit("origin/main").unwrap(), run(&folder, "git rev-parse main"));
}

#[test]
fn what_is_no_commit_is_told() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    fs::create_dir(&folder).unwrap();
    assert!(Repository::of(&folder).unwrap().is_none());
    history(&folder);
    let mut repository = open(&folder);
    let mut told = |revision: &str| {
        let error = repository.commit(revision).unwrap_err();
        format!("{}; {}", error.chain(), error.advice().unwrap_or_default())
    };
    for (revision, wanted) in [
        ("mian", "perhaps \"main\""),
        ("feature/b", "perhaps \"feature/a\""),
        ("", "no branch"),
        ("../../etc/passwd", "is not understood"),
        ("refs/heads", "no branch"),
        ("main@{1}", "`git rev-parse"),
        ("main..v1", "is not understood"),
        ("main:app", "is not understood"),
        ("main~x", "is not understood"),
        ("main~99999999999999999999", "is not understood"),
        ("main~99", "the history begins there"),
        ("main^3", "no parent 3"),
        ("main^{tree}", "is not understood"),
        ("0123456789abcdef0123456789abcdef01234567", "no object"),
        ("/main", "no branch"),
        ("main.lock", "no branch"),
    ] {
        assert!(told(revision).contains(wanted), "{revision}: {}", told(revision));
    }
    let tree = run(&folder, "git rev-parse HEAD:app");
    assert!(told(&tree).contains("is no commit"));
    fs::write(folder.join(".git/refs/heads/circle"), "ref: refs/heads/circle\n").unwrap();
    fs::write(folder.join(".git/refs/heads/out"), "ref: ../../../secret\n").unwrap();
    fs::write(folder.join(".git/refs/heads/broken"), "nonsense\n").unwrap();
    for (revision, wanted) in [("circle", "circle"), ("out", "is damaged"), ("broken", "is damaged")] {
        assert!(told(revision).contains(wanted), "{revision}: {}", told(revision));
    }
    run(place.path(), "git clone -q --depth 1 \"file://$PWD/a\" shallow");
    let error = open(&place.path().join("shallow")).commit("HEAD~1").unwrap_err();
    assert!(error.advice().unwrap().contains("--unshallow"), "{}", error.chain());
    run(&folder, "git config core.repositoryformatversion 1; git config extensions.objectFormat sha256");
    assert!(Repository::of(&folder).err().unwrap().chain().contains("sha256"));
}

#[test]
fn a_commit_is_checked_out_as_git_does() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    fs::create_dir(&folder).unwrap();
    history(&folder);
    let compare = |number: u32| {
        let mut repository = open(&folder);
        for revision in ["main", "main~2", "v1"] {
            let (into, wanted) = (place.path().join(format!("out-{number}-{revision}")), place.path().join("wanted"));
            fs::create_dir(&into).unwrap();
            let commit = repository.commit(revision).unwrap();
            repository.check_out(&commit, &folder.join("app"), &into).unwrap();
            run(&folder, &format!("rm -rf ../wanted; git worktree prune; git worktree add -q --detach ../wanted {revision}"));
            run(place.path(), &format!("diff -r --no-dereference {} wanted/app", into.display()));
            assert!(fs::metadata(into.join("run")).unwrap().permissions().mode() & 0o111 != 0);
            assert!(!into.join("other").exists(), "only the directory that is asked for");
            run(&folder, &format!("git worktree remove --force {}", wanted.display()));
        }
    };
    compare(1);
    run(&folder, "git gc -q --prune=now");
    compare(2);
    run(&folder, "git mv app gone; git commit -qm moved");
    let mut repository = open(&folder);
    let commit = repository.commit("main").unwrap();
    let into = place.path().join("none");
    fs::create_dir(&into).unwrap();
    let error = repository.check_out(&commit, &folder.join("app"), &into).unwrap_err();
    assert!(error.message().contains("has no directory app"), "{}", error.chain());
}

#[test]
fn files_that_are_elsewhere_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    fs::create_dir(&folder).unwrap();
    run(&folder, "git init -q -b main; git init -q ../lib; git -C ../lib commit -q --allow-empty -m one");
    run(&folder, "git -c protocol.file.allow=always submodule --quiet add \"file://$PWD/../lib\" lib; git commit -qm one");
    let refused = |name: &str| {
        let into = place.path().join(name);
        fs::create_dir(&into).unwrap();
        let mut repository = open(&folder);
        let commit = repository.commit("main").unwrap();
        repository.check_out(&commit, &folder, &into).unwrap_err().chain()
    };
    assert!(refused("1").contains("has the submodule lib"));
    run(
        &folder,
        "git rm -qf lib; printf 'version https://git-lfs.github.com/spec/v1\noid 1\n' > big; git add big; git commit -qm two",
    );
    let error = refused("2");
    assert!(error.contains("big") && error.contains("git LFS"), "{error}");
}

#[test]
fn a_damaged_object_is_told() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a");
    fs::create_dir(&folder).unwrap();
    history(&folder);
    let blob = run(&folder, "git rev-parse main:app/sub/file");
    let other = run(&folder, "git rev-parse main:app/run");
    let path = |id: &str| folder.join(".git/objects").join(&id[..2]).join(&id[2..]);
    fs::set_permissions(path(&blob), fs::Permissions::from_mode(0o644)).unwrap();
    fs::copy(path(&other), path(&blob)).unwrap();
    let into = place.path().join("out");
    fs::create_dir(&into).unwrap();
    let mut repository = open(&folder);
    let commit = repository.commit("main").unwrap();
    let error = repository.check_out(&commit, &folder, &into).unwrap_err().chain();
    assert!(error.contains("app/sub/file") && error.contains("is damaged"), "{error}");
    fs::remove_file(path(&blob)).unwrap();
    fs::remove_dir_all(&into).unwrap();
    fs::create_dir(&into).unwrap();
    let error = open(&folder).check_out(&commit, &folder, &into).unwrap_err().chain();
    assert!(error.contains("is missing"), "{error}");
}

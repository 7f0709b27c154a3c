//! Repositories, read from git's own server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stead::tested::git::{Wanted, checkout};
use stead::tested::model::{Error, GitRepository};
use tempfile::TempDir;

/// Serves the bare repositories below a directory through `git http-backend`, until the test's process ends. Without
/// `modern` it speaks only the older version of the protocol, in which a server may refuse commits that no branch or
/// tag names.
pub fn serve(root: &Path, modern: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let root = root.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that closes the connection early does not matter.
            let _ = answer(stream.unwrap(), &root, modern);
        }
    });
    address
}

fn answer(mut stream: TcpStream, root: &Path, modern: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if let Some(rest) = path.strip_prefix("/moved") {
        return write!(
            stream,
            "HTTP/1.1 301 Moved\r\nlocation: {rest}?{query}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_ADDR", "127.0.0.1");
    backend.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => drop(backend.env("CONTENT_TYPE", value)),
            "git-protocol" if modern => drop(backend.env("GIT_PROTOCOL", value)),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut child = backend.env("CONTENT_LENGTH", length.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(&body)?;
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut status, mut headers) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        out.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            header => match header.strip_prefix("Status: ") {
                Some(other) => other.clone_into(&mut status),
                None => headers += &format!("{header}\r\n"),
            },
        }
    }
    write!(stream, "HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n")?;
    std::io::copy(&mut out, &mut stream)?;
    child.wait().map(drop)
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    for (name, value) in
        [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")]
    {
        command.env(name, value);
    }
    let output = command
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Bytes that do not compress.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    (0..length)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .collect()
}

struct World {
    folder: TempDir,
    /// A commit in the middle of the history, which no branch and no tag names.
    old: String,
}

impl World {
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        git(&work, &["init", "-q"]);
        fs::create_dir_all(work.join("sub/deep")).unwrap();
        fs::write(work.join("big"), noise(1 << 20, 7)).unwrap();
        fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(work.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(work.join("sub/deep/file"), "deep\n").unwrap();
        fs::write(work.join("sub/twin"), "deep\n").unwrap();
        fs::write(work.join("sub/empty"), "").unwrap();
        std::os::unix::fs::symlink("sub/deep", work.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", work.join("sub/out")).unwrap();
        // These files are similar, so that packs hold them as deltas.
        let lines: Vec<String> = (0..4000).map(|line| format!("line {line} {}\n", line * 7919 % 1000)).collect();
        for number in 0..30 {
            let mut lines = lines.clone();
            lines[number * 100] = format!("changed {number}\n");
            fs::write(work.join(format!("sub/like{number}")), lines.concat()).unwrap();
        }
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "first"]);
        let mut old = String::new();
        for number in 0..200 {
            let mut text = lines.clone();
            text[number * 20] = format!("changed {number}\n");
            fs::write(work.join("sub/log"), text.concat()).unwrap();
            git(&work, &["add", "sub/log"]);
            git(&work, &["commit", "-q", "-m", "more"]);
            if number == 100 {
                old = git(&work, &["rev-parse", "HEAD"]);
            }
        }
        git(&work, &["tag", "light", "HEAD~5"]);
        git(&work, &["tag", "-a", "-m", "m", "heavy", "HEAD~6"]);
        git(&work, &["tag", "-a", "-m", "m", "heavier", "heavy"]);
        git(&work, &["branch", "feature/x", "HEAD~7"]);
        git(&work, &["branch", "both", "HEAD~8"]);
        git(&work, &["tag", "both", "HEAD~9"]);
        git(&work, &["checkout", "-q", "-b", "modules"]);
        let module = folder.path().join("module");
        fs::create_dir(&module).unwrap();
        git(&module, &["init", "-q"]);
        fs::write(module.join("inside"), "inside\n").unwrap();
        git(&module, &["add", "-A"]);
        git(&module, &["commit", "-q", "-m", "m"]);
        git(&work, &["submodule", "--quiet", "add", "../module", "vendored"]);
        git(&work, &["commit", "-q", "-m", "module"]);
        git(&work, &["checkout", "-q", "main"]);
        git(folder.path(), &["clone", "-q", "--bare", "work", "repo.git"]);
        git(&folder.path().join("repo.git"), &["repack", "-adq"]);
        Self { folder, old }
    }
}

/// All paths of a tree, each with its kind or mode, and its content.
fn listing(folder: &Path) -> Vec<(String, String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                found.push((name, "link".into(), fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()));
            } else {
                found.push((name, format!("{:o}", metadata.permissions().mode() & 0o777), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// What git itself checks out.
fn wanted(world: &World, commit: &str) -> Vec<(String, String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    git(&world.work(), &["worktree", "add", "-q", "--detach", tree.to_str().unwrap(), commit]);
    fs::remove_file(tree.join(".git")).unwrap();
    let found = listing(&tree);
    git(&world.work(), &["worktree", "prune"]);
    found
}

fn place(url: &str) -> GitRepository {
    GitRepository::parse(url).unwrap()
}

fn resolve(url: &str, reference: Option<&str>) -> Result<String, Error> {
    stead::tested::git::resolve(&place(url), reference)
}

fn fetched(url: &str, commit: &str, subfolder: Option<&str>) -> Result<Vec<(String, String, Vec<u8>)>, String> {
    let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = Wanted { commit, folder: subfolder, dot_git: false, submodules: true };
    let done = checkout(&place(url), wanted, into.path(), scratch.path());
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    done.map(|()| listing(into.path())).map_err(|error| error.chain())
}

#[test]
fn a_repository_is_read_as_git_reads_it() {
    let world = World::new();
    let bare = world.folder.path().join("repo.git");
    for (modern, any) in [(true, false), (true, true), (false, true), (false, false)] {
        git(&bare, &["config", "uploadpack.allowAnySHA1InWant", if any { "true" } else { "false" }]);
        let address = serve(world.folder.path(), modern);
        let url = format!("{address}/repo.git");
        let head = git(&world.work(), &["rev-parse", "main"]);
        for (name, means) in [
            (None, "main"),
            (Some("main"), "main"),
            (Some("HEAD"), "main"),
            (Some("light"), "light"),
            (Some("heavy"), "heavy^{}"),
            (Some("heavier"), "heavier^{}"),
            (Some("feature/x"), "feature/x"),
            (Some("both"), "refs/heads/both"),
            (Some("refs/tags/both"), "refs/tags/both"),
            (Some(world.old.as_str()), world.old.as_str()),
        ] {
            assert_eq!(resolve(&url, name).unwrap(), git(&world.work(), &["rev-parse", means]), "{name:?}");
        }
        for name in ["feature", "mai", "nothing", "refs/heads/nothing"] {
            let said = resolve(&url, Some(name)).unwrap_err().chain();
            assert!(said.contains("has no branch and no tag"), "{said}");
        }
        assert_eq!(resolve(&format!("{address}/moved/repo.git/"), None).unwrap(), head);

        assert!(fetched(&url, &head, None).unwrap() == wanted(&world, &head));
        assert!(fetched(&format!("{address}/moved/repo.git"), &head, None).unwrap() == wanted(&world, &head));
        assert!(fetched(&url, &world.old, None).unwrap() == wanted(&world, &world.old));
        let sub: Vec<_> = wanted(&world, &world.old)
            .into_iter()
            .filter_map(|(name, kind, content)| Some((name.strip_prefix("sub/")?.to_owned(), kind, content)))
            .collect();
        assert!(fetched(&url, &world.old, Some("./sub/")).unwrap() == sub);
        for (commit, folder, text) in [
            (head.as_str(), Some("sub/nothing"), "has no directory \"sub/nothing\""),
            (&head, Some("run.sh"), "has no directory \"run.sh\""),
            (&head, Some("link"), "has no directory \"link\""),
            (&head, Some("../work"), "has no directory \"../work\""),
            ("1234567890123456789012345678901234567890", None, "has no commit 1234567890123456789012345678901234567890"),
            (&git(&world.work(), &["rev-parse", "heavy"]), None, "is a tag, not a commit"),
            ("main", None, "is not a commit id"),
        ] {
            let said = fetched(&url, commit, folder).unwrap_err();
            assert!(said.contains(text), "{said}");
        }
        let said = resolve(&format!("{address}/none.git"), None).unwrap_err();
        assert!(said.chain().contains("answers 404") && said.advice().is_some(), "{}", said.chain());
    }
}

#[test]
fn what_git_keeps_beside_the_files_is_a_repository_of_one_commit() {
    let world = World::new();
    let url = format!("{}/repo.git", serve(world.folder.path(), true));
    let commits = [world.old.clone(), git(&world.work(), &["rev-list", "--max-parents=0", "main"])];
    for commit in commits {
        let trees = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for into in &trees {
            let scratch = tempfile::tempdir().unwrap();
            let wanted = Wanted { commit: &commit, folder: None, dot_git: true, submodules: true };
            checkout(&place(&url), wanted, into.path(), scratch.path()).unwrap();
        }
        assert!(listing(trees[0].path()) == listing(trees[1].path()), "the same bytes each time");
        let here = trees[0].path();
        assert_eq!(git(here, &["rev-parse", "HEAD"]), commit);
        assert_eq!(git(here, &["status", "--porcelain"]), "", "nothing is changed, nothing is new");
        assert_eq!(git(here, &["fsck", "--strict", "--full"]), "");
        assert_eq!(git(here, &["log", "--format=%H"]), commit);
        assert_eq!(git(here, &["ls-tree", "-r", "HEAD"]), git(&world.work(), &["ls-tree", "-r", &commit]));
        assert_eq!(git(here, &["remote", "get-url", "origin"]), url);
        // It is possible to continue working from there.
        fs::write(here.join("run.sh"), "other").unwrap();
        assert_eq!(git(here, &["status", "--porcelain"]), "M run.sh");
        git(here, &["commit", "-qam", "next"]);
        if here.join(".git/shallow").exists() {
            git(here, &["fetch", "-q", "--unshallow"]);
        }
    }
}

#[test]
fn submodules_are_fetched_at_their_commits() {
    let world = World::new();
    let work = world.work();
    let serve = serve(world.folder.path(), true);
    let commit = git(&work, &["rev-parse", "modules"]);
    let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = Wanted { commit: &commit, folder: None, dot_git: true, submodules: true };
    checkout(&place(&format!("{serve}/repo.git")), wanted, into.path(), scratch.path()).unwrap();
    assert_eq!(fs::read_to_string(into.path().join("vendored/inside")).unwrap(), "inside\n");
    assert_eq!(git(into.path(), &["status", "--porcelain"]), "");
    // A submodule without a URL, or with one that is not a remote repository, is refused.
    for (text, why) in [
        ("", "does not say where vendored is"),
        ("[submodule \"v\"]\npath = vendored\nurl = /etc\n", "neither on the web nor behind ssh"),
    ] {
        git(&work, &["checkout", "-q", "modules"]);
        fs::write(work.join(".gitmodules"), text).unwrap();
        git(&work, &["commit", "-qam", "elsewhere"]);
        git(&work, &["push", "-qf", "../repo.git", "modules"]);
        let said = fetched(&format!("{serve}/repo.git"), &git(&work, &["rev-parse", "modules"]), None).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

/// Stores a tree whose entries git itself would refuse, and returns a commit of it.
fn evil(work: &Path, mode: &str, name: &[u8], twice: bool) -> String {
    let write = |kind: &str, content: &[u8]| {
        let mut command = Command::new("git");
        command.args(["hash-object", "-w", "--literally", "-t", kind, "--stdin"]).current_dir(work);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let raw = |hex: &str| -> Vec<u8> { (0..20).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect() };
    let blob = write("blob", b"/tmp");
    let inner = write("tree", &[b"100644 hello\0".as_slice(), &raw(&blob)].concat());
    let content = if twice {
        [b"120000 a\0".as_slice(), &raw(&blob), b"40000 a\0", &raw(&inner)].concat()
    } else {
        [mode.as_bytes(), b" ", name, b"\0", &raw(if mode == "40000" { &inner } else { &blob })].concat()
    };
    let tree = write("tree", &content);
    write("commit", format!("tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\nm\n").as_bytes())
}

#[test]
fn nothing_leads_out_of_a_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("evil.git");
    git(folder.path(), &["init", "-q", "--bare", "evil.git"]);
    let url = format!("{}/evil.git", serve(folder.path(), true));
    assert!(resolve(&url, None).unwrap_err().chain().contains("has no commit"));
    for (mode, name) in [
        ("100644", b"..".as_slice()),
        ("40000", b".."),
        ("40000", b"."),
        ("40000", b".git"),
        ("40000", b".GIT"),
        ("100644", b"a/b"),
        ("100644", b"/tmp/x"),
    ] {
        let said = fetched(&url, &evil(&bare, mode, name, false), None).unwrap_err();
        assert!(said.contains("is not a valid file name"), "{said}");
    }
    let said = fetched(&url, &evil(&bare, "", b"", true), None).unwrap_err();
    assert!(said.contains("cannot write a: File exists"), "{said}");
    let said = fetched(&url, &evil(&bare, "60000", b"a", false), None).unwrap_err();
    assert!(said.contains("unknown kind"), "{said}");
}

//! Properties that hold for all inputs, not only for those that somebody thought of. The library shrinks a failing input.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use stead::tested::image::digest_tree;
use stead::tested::lock::{IndexLock, Lock, LockedImage, LockedPackage, StepLock, SuiteLock, compare, parse, write};
use stead::tested::model::{Digest, Name, Subnet, pattern_matches};
use stead::tested::spec::{Choices, Loaded, Sources, load};
use stead::tested::sys::Tree;

// Globs.

/// A slow answer to the same question: it tries every way to match the pattern (moby/patternmatcher's rules).
fn matches_slowly(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/'] | ['*', '*'] => true,
        // Even when no slash follows, it means directories.
        ['*', '*', '/', rest @ ..] | ['*', '*', rest @ ..] => {
            let folders = |at: &usize| *at == 0 || path[at - 1] == '/';
            (0..=path.len()).filter(folders).any(|at| matches_slowly(rest, &path[at..]))
        }
        ['*', rest @ ..] => {
            let end = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=end).any(|at| matches_slowly(rest, &path[at..]))
        }
        ['?', rest @ ..] => matches!(path, [c, behind @ ..] if *c != '/' && matches_slowly(rest, behind)),
        ['[', '^', first, '-', last, ']', rest @ ..] => {
            matches!(path, [c, behind @ ..] if !(*first..=*last).contains(c) && matches_slowly(rest, behind))
        }
        ['[', first, '-', last, ']', rest @ ..] => {
            matches!(path, [c, behind @ ..] if (*first..=*last).contains(c) && matches_slowly(rest, behind))
        }
        ['\\', one, rest @ ..] | [one, rest @ ..] => matches!(path, [c, behind @ ..] if c == one && matches_slowly(rest, behind)),
    }
}

fn glob() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["a", "b", "ä", "/", "*", "**/", "?", "[a-b]", "[^a-a]", "\\*", "."]);
    (vec(piece, 0..8), any::<bool>()).prop_map(|(pieces, all)| {
        let mut pattern = pieces.concat();
        if all {
            pattern.push_str("/**");
        }
        // It is not defined what three stars in a row mean.
        while pattern.contains("***") {
            pattern = pattern.replace("***", "**");
        }
        pattern
    })
}

// Locks.

fn text() -> impl Strategy<Value = String> {
    // Names that a registry, a mirror or a person may have chosen: quotes, backslashes, control characters, other scripts.
    prop_oneof![4 => "[a-z0-9.+:/-]{1,20}", 1 => "\\PC{1,12}", 1 => "[\"\\\\\\n\\t\\r\\x00\\x1b'{};=# a]{1,8}", 1 => any::<String>()]
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<u64>().prop_map(|seed| Digest::of(seed.to_be_bytes()))
}

fn package() -> impl Strategy<Value = LockedPackage> {
    // The lock's parser accepts only what an archive may say about a package.
    let (name, version) = ("[a-z0-9][a-z0-9+.-]{1,8}", "[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?");
    let path = "pool/[a-z0-9]{1,9}/x\\.deb";
    (name, version, "amd64|all", digest(), 0..u64::MAX / 2, path, option::of("https?://[a-z]{1,8}/[a-z]{0,8}")).prop_map(
        |(name, version, architecture, sha256, size, path, repository)| LockedPackage {
            name,
            version,
            architecture,
            sha256,
            size,
            path,
            repository,
        },
    )
}

fn suite() -> impl Strategy<Value = SuiteLock> {
    let index = (digest(), digest(), option::of(0..1i64 << 40));
    let index = index.prop_map(|(release, packages, date)| IndexLock { release, packages, date });
    (btree_map(text(), index, 0..3), vec(package(), 0..4)).prop_map(|(indexes, packages)| SuiteLock {
        indexes,
        packages: packages.into_iter().map(|package| (package.key(), package)).collect(),
    })
}

fn lock() -> impl Strategy<Value = Lock> {
    let image = (btree_map(text(), digest(), 1..3), option::of(digest()));
    let image = image.prop_map(|(platforms, signed_by)| LockedImage { platforms, signed_by });
    let step = (text(), text(), btree_set(text(), 0..4));
    let step = step.prop_map(|(suite, request, packages)| StepLock { suite, request, packages });
    let key = ("[a-z][a-z0-9]{0,8}", 0..4usize).prop_map(|(name, index)| (Name::parse(&name).unwrap(), index));
    (
        0..1i64 << 40,
        btree_map(text(), image, 0..3),
        btree_map(text(), text(), 0..3),
        btree_map(text(), suite(), 0..3),
        btree_map(key, step, 0..3),
    )
        .prop_map(|(epoch, images, remotes, suites, steps)| Lock { epoch, images, remotes, suites, steps })
}

// Layers.

#[derive(Clone, Debug)]
enum Node {
    Folder(u32),
    File(Vec<u8>, u32),
    Link(String),
}

fn node() -> impl Strategy<Value = Node> {
    let mode = || prop::sample::select(vec![0o755, 0o700, 0o644, 0o4755, 0o1777]);
    prop_oneof![
        mode().prop_map(Node::Folder),
        (vec(any::<u8>(), 0..40), mode()).prop_map(|(bytes, mode)| Node::File(bytes, mode)),
        "[a-z/.]{1,12}".prop_map(Node::Link),
    ]
}

fn make<'n>(root: &Path, nodes: impl Iterator<Item = (&'n String, &'n Node)>) {
    for (name, node) in nodes {
        let path = root.join(name);
        let mode = |mode: &u32| fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        match node {
            Node::Folder(permissions) => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), name).unwrap();
                mode(permissions);
            }
            Node::File(bytes, permissions) => {
                fs::write(&path, bytes).unwrap();
                mode(permissions);
            }
            Node::Link(to) => symlink(to, &path).unwrap(),
        }
    }
}

// The language.

struct Files(BTreeMap<&'static str, String>);

impl Sources for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "it is not there".into())
    }

    fn env(&self, _: &str) -> Option<OsString> {
        None
    }
}

fn read(text: &str, profiles: &[&str]) -> Loaded {
    let choices = Choices { profiles: profiles.iter().map(|name| (*name).to_owned()).collect(), ..Choices::default() };
    load("stead.kdl", &choices, &Files([("stead.kdl", text.to_owned())].into()))
}

/// A project as JSON, which has everything except the places.
fn value(loaded: &Loaded) -> serde_json::Value {
    assert!(loaded.project.is_ok(), "{:?}", loaded.diagnostics);
    serde_json::to_value(loaded.project.as_ref().ok()).unwrap()
}

/// Lines for a container's block, each of a different kind.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let number = 1..1000u32;
    let line = prop_oneof![
        ("[A-Z]{1,4}", number.clone()).prop_map(|(name, value)| format!("env {name}=\"{value}\"")),
        number.clone().prop_map(|value| format!("limits {{ memory \"{}MiB\"; }}", value + 16)),
        number.clone().prop_map(|value| format!("stop-grace \"{value}s\"")),
        number.clone().prop_map(|value| format!("hostname \"h{value}\"")),
        number.clone().prop_map(|value| format!("replicas {}", value % 5)),
        number.prop_map(|value| format!("label \"l{value}\"=\"x\"")),
        Just("init #true".to_owned()),
    ];
    // One of each kind, because most may appear only once.
    vec(line, 0..6).prop_map(|lines| {
        let by_word = lines.into_iter().map(|line| (line.split(' ').next().unwrap_or_default().to_owned(), line));
        by_word.collect::<BTreeMap<_, _>>().into_values().collect()
    })
}

fn project(lines: &[String], between: &str) -> String {
    format!(
        "project \"p\"{between}\nimage \"i\" {{ from \"scratch\"; }}{between}\ncontainer \"c\" {{{between}\n image \"i\"; cmd \"x\"\n{} }}\n",
        lines.join(&format!("{between}\n"))
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in one line, the nodes on the other lines are understood.
    #[test]
    fn a_wrong_line_hides_no_other(
        before in 0..4usize, after in 0..4usize, block: bool, wrong in "[a-z0-9 {}=(),:;!<>\\[\\]#\u{1}]{0,14}",
    ) {
        let volumes = |from: usize, to: usize| (from..to).map(|n| format!("volume \"v{n}\" {{ label a=1; }}\n")).collect::<String>();
        let wrong = if block { format!("volume \"w\" {{\n  label x=1\n  {wrong}\n}}") } else { wrong };
        let text = format!("project \"p\"\n{}{wrong}\n{}", volumes(0, before), volumes(before, before + after));
        let project = read(&text, &[]).project.unwrap_or_else(|partial| partial);
        for n in 0..before + after {
            prop_assert!(project.volumes.contains_key(format!("v{n}").as_str()), "v{} in {:?}", n, text);
        }
    }

    #[test]
    fn globs_match_as_if_every_way_was_tried(pattern in glob(), path in "[abä./*]{0,8}") {
        let slowly = matches_slowly(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>());
        prop_assert_eq!(pattern_matches(&pattern, &path), slowly, "{:?} {:?}", pattern, path);
    }

    #[test]
    fn a_lock_is_read_as_it_was_written(lock in lock()) {
        let text = write(&lock);
        prop_assert_eq!(parse(&text).map_err(|wrong| format!("{}: {}\n{text}", wrong.line, wrong.message)), Ok(lock));
    }

    #[test]
    fn versions_have_an_order(a in "[0-9a-z.+~-]{0,6}", b in "[0-9a-z.+~-]{0,6}", c in "[0-9a-z.+~-]{0,6}") {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert!(!(compare(&a, &b).is_le() && compare(&b, &c).is_le()) || compare(&a, &c).is_le());
    }

    #[test]
    fn what_is_shown_is_read_as_the_same(address in any::<[u8; 4]>(), prefix in 8..31u8) {
        let subnet = Subnet::parse(&format!("{}.{}.{}.{}/{prefix}", address[0], address[1], address[2], address[3]));
        if let Ok(subnet) = subnet {
            prop_assert_eq!(Subnet::parse(&subnet.to_string()), Ok(subnet));
        }
    }

    #[test]
    fn dockerfiles_give_words_back_as_they_were_quoted(value in "[a-z $\"\\\\]{0,12}") {
        let quoted: String = value.chars().flat_map(|c| {
            let escape = matches!(c, '$' | '"' | '\\').then_some('\\');
            escape.into_iter().chain([c])
        }).collect();
        let files = Files([
            ("stead.kdl", "project \"p\"\nimage \"i\" { dockerfile \"Dockerfile\"; }\n".to_owned()),
            ("Dockerfile", format!("FROM scratch\nENV A=\"{quoted}\"\n")),
        ].into());
        let loaded = load("stead.kdl", &Choices::default(), &files);
        let project = value_of(&loaded)?;
        let env = project["images"]["i"]["steps"].to_string();
        prop_assert!(env.contains(&serde_json::to_string(&value).unwrap()), "{value:?} in {env}");
    }

    #[test]
    fn comments_and_empty_profiles_change_nothing(lines in lines(), comment in "[a-z ]{0,9}") {
        let plain = value(&read(&project(&lines, ""), &[]));
        prop_assert_eq!(&value(&read(&project(&lines, &format!(" // {comment}")), &[])), &plain);
        let with = format!("{}profile \"e\" {{ }}\n", project(&lines, ""));
        prop_assert_eq!(&value(&read(&with, &["e"])), &plain);
    }

    #[test]
    fn a_profile_said_twice_is_said_once_and_says_what_the_file_could(base in lines(), over in lines()) {
        let profile = format!("profile \"e\" {{ container \"c\" {{ {} }} }}\n", over.join("; "));
        let text = format!("{}{profile}", project(&base, ""));
        let once = value(&read(&text, &["e"]));
        prop_assert_eq!(&value(&read(&text, &["e", "e"])), &once);
        // A line of the profile replaces the file's line with the same word; variables and labels are added.
        let single = |line: &&String| !line.starts_with("env") && !line.starts_with("label");
        let said: BTreeMap<&str, &String> =
            base.iter().chain(&over).filter(single).map(|line| (line.split(' ').next().unwrap_or_default(), line)).collect();
        let more = base.iter().chain(&over).filter(|line| !single(line));
        let lines: Vec<String> = said.into_values().chain(more).cloned().collect();
        if lines.iter().collect::<std::collections::BTreeSet<_>>().len() == lines.len() && clean(&base, &over) {
            prop_assert_eq!(&value(&read(&project(&lines, ""), &[])), &once);
        }
    }
}

/// Whether the two lists name different variables and labels: the same name in two lines of a file is an error.
fn clean(base: &[String], over: &[String]) -> bool {
    let names = |lines: &[String]| -> Vec<String> {
        let several = lines.iter().filter(|line| line.starts_with("env") || line.starts_with("label"));
        several.filter_map(|line| line.split(['=', ' ']).nth(1).map(str::to_owned)).collect()
    };
    names(base).iter().all(|name| !names(over).contains(name))
}

fn value_of(loaded: &Loaded) -> Result<serde_json::Value, TestCaseError> {
    if loaded.project.is_err() {
        return Err(TestCaseError::fail(format!("{:?}", loaded.diagnostics)));
    }
    Ok(serde_json::to_value(loaded.project.as_ref().ok()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_does_not_know_in_which_order_its_files_were_made(nodes in btree_map("[a-z]{1,6}", node(), 0..10)) {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(one.path(), nodes.iter());
        make(two.path(), nodes.iter().rev());
        let digest = |root: &Path| digest_tree(&Tree::open(root).unwrap(), 1_000_000_000).unwrap();
        let (first, second) = (digest(one.path()), digest(two.path()));
        prop_assert_eq!(first.diff_id, second.diff_id);
        prop_assert_eq!((first.size, first.files), (second.size, second.files));
        // A second digest is the same, although the first one has set the times of the files.
        prop_assert_eq!(digest(one.path()).diff_id, first.diff_id);
    }
}

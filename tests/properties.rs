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
use stead::tested::model::kdl_text::{self, Limits, Token};
use stead::tested::model::{Digest, Name, Subnet, pattern_matches};
use stead::tested::spec::{Choices, Loaded, Sources, format, load, set};
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

// The format of texts.

const LIMITS: Limits = Limits { nesting: 32, parts: 10_000 };

/// White space and comments within a node.
fn space() -> impl Strategy<Value = String> {
    let spaces = vec![
        " ",
        " ",
        " ",
        "  \t",
        " /* x */ ",
        "/* x\n  y */",
        " \\\n",
        " \\ // x \n\t",
        "\\\r\n /* x */ ",
        " /-1 ",
        " /-\n k=1 ",
    ];
    prop::sample::select(spaces).prop_map(str::to_owned)
}

/// What ends a node, and white space and comments before the next one.
fn end() -> impl Strategy<Value = String> {
    let ends = vec![
        "\n",
        "\n",
        "\n\n\n  ",
        ";",
        " ;  ",
        "; // x  \n",
        " // x\n",
        "\r\n\t",
        "\n /* x */ ",
        " /* x */\n",
        ";/* x */",
        ";\\\n",
        " \\\n\n",
        "\n/-gone {\n  x\n}\n",
        "; /- gone\n",
        "\n/-  // x\n gone\n",
        "\u{85}",
        "\n // x\n\n // y\n",
    ];
    prop::sample::select(ends).prop_map(str::to_owned)
}

/// What may also stand at the beginning of a block.
fn without_semicolons(ends: Vec<String>) -> String {
    ends.into_iter().filter(|end| !end.contains(';')).collect()
}

fn word() -> impl Strategy<Value = String> {
    let words = vec![
        "b",
        "\"x  y\"",
        "#\"r  \\\"#",
        "1.50",
        "0x1F",
        "#true",
        "(t)1",
        "( t ) b",
        "k=1",
        "k = \"v\"",
        "k=(t) 1",
        "\"\"\"\n   x  \n\n     y\n   \"\"\"",
        "#\"\"\"\n  x\n  \"\"\"#",
        "\"a\\  \n b\"",
    ];
    prop::sample::select(words).prop_map(str::to_owned)
}

/// Texts with everything that the syntax has.
fn kdl() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "\"b c\"", "(t)d", "/-e", "/- f"]);
    let head = (name, vec((space(), word()), 0..4))
        .prop_map(|(name, words)| words.into_iter().fold(name.to_owned(), |text, (space, word)| text + &space + &word));
    let head = head.boxed();
    let leaf = head.clone();
    let nodes = leaf.prop_recursive(4, 24, 4, move |inner| {
        (
            head.clone(),
            prop::sample::select(vec!["", " ", "  ", " /* x */", " \\\n"]),
            vec((end(), inner), 0..4),
            end(),
            option::of(end()),
        )
            .prop_map(|(head, space, nodes, first, last)| {
                let first = if first.contains(';') { String::new() } else { first };
                let nodes: String =
                    nodes.into_iter().enumerate().map(|(at, (end, node))| if at == 0 { node } else { end + &node }).collect();
                let last = if nodes.is_empty() { String::new() } else { last.unwrap_or_default() };
                format!("{head}{space}{{{first}{nodes}{last}}}")
            })
    });
    (any::<bool>(), vec((nodes, end()), 0..5)).prop_map(|(mark, nodes)| {
        let text: String = nodes.into_iter().map(|(node, end)| node + &end).collect();
        if mark { format!("\u{feff}{text}") } else { text }
    })
}

/// The words of a text: all that is no white space between them, and does not only end a node.
fn words_of(text: &str) -> Vec<(Token, &str)> {
    let pieces = kdl_text::pieces(text, LIMITS).unwrap().into_iter();
    let words = pieces.filter(|piece| !matches!(piece.token, Token::Space | Token::LineEnd | Token::Semicolon));
    words.map(|piece| (piece.token, text[piece.range].trim_end())).collect()
}

/// What a text means, without its white space and comments.
fn meaning(text: &str) -> String {
    fn shown(nodes: &[kdl::KdlNode]) -> String {
        let one = |node: &kdl::KdlNode| {
            let entries = node.entries().iter().map(|entry| {
                let name = entry.name().map(|name| name.value());
                format!(" {name:?} {:?} {:?}", entry.ty().map(|ty| ty.value()), entry.value())
            });
            let block = node.children().map(|block| shown(block.nodes()));
            let ty = node.ty().map(|ty| ty.value());
            format!("{ty:?} {:?}{}{block:?}\n", node.name().value(), entries.collect::<String>())
        };
        nodes.iter().map(one).collect()
    }
    shown(kdl_text::read(text, LIMITS).unwrap().nodes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_format_changes_white_space_only_and_only_once(text in kdl()) {
        let wanted = kdl_text::read(&text, LIMITS).map(drop);
        prop_assert!(wanted.is_ok(), "{:?} {:?}", text, wanted);
        let new = format(&text).unwrap();
        prop_assert_eq!(words_of(&new), words_of(&text), "{:?}\n{}", text, new);
        prop_assert_eq!(meaning(&new), meaning(&text), "{:?}\n{}", text, new);
        prop_assert!(!new.contains("\n\n\n\n"), "{:?}", new);
        prop_assert_eq!(format(&new), Some(new), "{:?}", text);
    }

    #[test]
    fn whatever_is_legal_has_a_format(parts in vec(prop::sample::select(vec![
        "a", "b", " ", " ", "\n", "{", "}", "{ c }", ";", "/-", "/* x */", "// y", "\\\n", "\"x\"", "#\"z\"#", "#true", "1", "=", "(t)", "\r\n", "\u{85}",
    ]), 0..12)) {
        let text = parts.concat();
        match kdl_text::read(&text, LIMITS) {
            Err(_) => prop_assert_eq!(format(&text), None),
            Ok(_) => {
                let new = format(&text).unwrap();
                prop_assert_eq!(words_of(&new), words_of(&text), "{:?}\n{}", text, new);
                prop_assert_eq!(meaning(&new), meaning(&text), "{:?}\n{}", text, new);
                prop_assert_eq!(format(&new), Some(new), "{:?}", text);
            }
        }
    }
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
    fn a_formatted_project_is_the_same(lines in lines(), between in vec(end(), 0..3)) {
        let text = project(&lines, &without_semicolons(between));
        prop_assert_eq!(value(&read(&format(&text).unwrap(), &[])), value(&read(&text, &[])));
    }

    #[test]
    fn what_is_set_is_all_that_changes(lines in lines(), between in vec(end(), 0..3), count in 0..9u32) {
        let text = project(&lines, &without_semicolons(between));
        let texts = BTreeMap::from([("stead.kdl".to_owned(), text.clone())]);
        for (path, wanted, there) in [
            ("c.replicas", count.to_string(), "/containers/c/replicas"),
            ("c.hostname", format!("n{count}"), "/containers/c/hostname"),
            ("c.env.NEW", format!("{count} x"), "/containers/c/env"),
        ] {
            let new = set(&texts, path, std::slice::from_ref(&wanted)).unwrap().text;
            let (mut before, mut after) = (value(&read(&text, &[])), value(&read(&new, &[])));
            let found = after.pointer(there).unwrap();
            prop_assert!(found.to_string().contains(&wanted), "{}: {} in {}", path, found, new);
            for value in [&mut before, &mut after] {
                *value.pointer_mut(there).unwrap() = serde_json::Value::Null;
            }
            prop_assert_eq!(before, after, "{}\n{}", path, new);
        }
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

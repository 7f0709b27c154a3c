//! The readers of what git and stead itself left in directories: others may have written there, or a disk may have lost it.

use crate::seeds;
use crate::targets::{Target, said, target, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use stead::tested::instance::{Drift, Drifting, Generation, Instance, generation};
use stead::tested::spec::{Choices, Sources};
use stead::tested::{engine, git, spec, store};

const GIT: &[&str] = &[
    "ref: refs/heads/main\n",
    "ref:",
    "refs/heads/",
    "gitdir: ",
    "../",
    "/",
    "\n",
    "\x01",
    " refs/heads/main\n",
    "1234567890123456789012345678901234567890",
    "^",
    "# pack-refs with: peeled fully-peeled sorted\n",
];
const CONFIG: &[&str] = &["[user]", "[user \"x\"]", "name", "email", "=", "\"", "\\", "\\\n", "#", ";", "\\n", "[", "]", "\n"];
const LINES: &[&str] =
    &["{\"drift\":1}\n", "\"path\":", "\"now\":", "\"gone\"", "\"as-image\"", "{\"file\":\"sha256:", "}\n", "{", "null"];
const JSON: &[&str] =
    &["\"kind\":", "\"version\":", "\"content\":", "\"project\":", "\"number\":", "null", "[]", "{}", "-1", "\"\""];

pub fn all(scratch: &Path) -> Vec<Target> {
    let (repository, tree) = (scratch.join("repository"), scratch.join("tree"));
    fs::create_dir_all(repository.join(".git")).unwrap();
    fs::create_dir_all(&tree).unwrap();
    let folder = scratch.join("records");
    fs::create_dir_all(folder.join("project")).unwrap();
    let home = store::Home::find(Some(&folder.join("root")));
    let instance = Instance::new(&home, &folder.join("project"), "stead.kdl");
    let (drifted, reached) = (instance.clone(), instance);
    let hex = "1234567890123456789012345678901234567890";
    let packed = format!("# pack-refs with: peeled\n{hex} refs/heads/main\n^{hex}\n");
    let heads =
        [format!("ref: refs/heads/main\n\x01{packed}\x01\x01gitdir: ../repository/.git\n"), format!("{hex}\n\x01\x01../x\n\x01")];
    let configs = [
        "[user]\n\tname = Ada \"L.\" # who\n\temail = a\\\nb@c.org\n",
        "[core]\n\tbare = false\n[USER]name=\"a\\\"b\"\n[user \"work\"]\nname = w\n",
    ];
    let digest = stead::tested::model::Digest::of("x");
    let line = |path: &str, now: &str| format!("{{\"path\":\"{path}\",\"now\":{now}}}\n");
    let drift = format!(
        "{{\"drift\":1}}\n{}{}{}",
        line("/srv/a", &format!("{{\"file\":\"{digest}\"}}")),
        line("/srv/b", "\"gone\""),
        line("/srv/a", "\"as-image\"")
    );
    let kept = seed(&reached);
    vec![
        target("git head", seeds::texts(&heads.each_ref().map(String::as_str)), GIT, move |bytes| {
            let mut parts = bytes.splitn(4, |byte| *byte == 1);
            for name in ["HEAD", "packed-refs", "commondir"] {
                fs::write(repository.join(".git").join(name), parts.next().unwrap_or_default()).unwrap();
            }
            fs::write(tree.join(".git"), parts.next().unwrap_or_default()).unwrap();
            let commits = [&repository, &tree].map(|folder| git::head_commit(folder).map(|commit| commit.len()));
            format!("{:?} {commits:?} {:?}", git::checked_out(&repository), git::checked_out(&tree))
        }),
        target("git config", seeds::texts(&configs), CONFIG, |bytes| {
            let engine::Author { name, email } = engine::author_in(std::iter::once(bytes.to_vec()));
            let plain = |value: &Option<String>| value.as_ref().is_none_or(|value| !value.is_empty() && !value.contains('\n'));
            assert!(plain(&name) && plain(&email), "each is the value of a variable");
            format!("{} {}", name.unwrap_or_default(), email.unwrap_or_default())
        }),
        target("drift", seeds::texts(&[&drift, "", "{\"dri"]), LINES, move |bytes| {
            let place = drifted.root("c-1", 1);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("drift.jsonl"), bytes).unwrap();
            let read = || Drift::read(&drifted, "c-1", 1);
            let mut drift = match read() {
                Ok(drift) => drift,
                Err(error) => return error.chain().replace(&place.display().to_string(), ""),
            };
            // Whatever could be read can be added to, and nothing of it is lost.
            drift.add(&drifted, "c-1", 1, vec![("/added".into(), Drifting::Gone)]).unwrap();
            assert_eq!(read().unwrap().digest(), drift.digest());
            format!("good {}", "x".repeat(drift.count().min(20)))
        }),
        target("generation", vec![kept], JSON, move |bytes| {
            let place = reached.state().join("generations");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("1.json"), bytes).unwrap();
            said(generation(&reached, 1)).replace(&place.display().to_string(), "")
        }),
    ]
}

/// A project file.
struct Text;

impl Sources for Text {
    fn read(&self, _: &str) -> Result<String, String> {
        let text = "project \"p\"\nimage \"i\" { debian \"bookworm\" { package \"curl\" }; copy \"a\" to=\"/a\"; run \"make\"; expose 80; }\n\
                    volume \"v\"\nsecret \"s\" file=\"s\"\ncontainer \"c\" { image \"i\"; env A=\"b\"; mount volume=\"v\" to=\"/v\"; secret \"s\"; publish 8080 to=80; }\n";
        Ok(text.to_owned())
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

/// A generation as it is kept.
fn seed(instance: &Instance) -> Vec<u8> {
    let loaded = spec::load("stead.kdl", &Choices::default(), &Text);
    let made = Generation {
        number: 1,
        at: 1_700_000_000_000,
        command: "up".into(),
        author: "ada".into(),
        branch: Some("main".into()),
        commit: None,
        ok: true,
        of: None,
        project: loaded.project.unwrap_or_else(|_| panic!("{:?}", loaded.diagnostics)),
        places: loaded.places,
        images: BTreeMap::new(),
        records: BTreeMap::new(),
        containers: BTreeMap::new(),
        configs: BTreeMap::new(),
        env_files: BTreeMap::new(),
        inputs: BTreeMap::new(),
        changes: Vec::new(),
    };
    made.save(instance).unwrap();
    let kept = fs::read(instance.state().join("generations/1.json")).unwrap();
    assert_eq!(said(generation(instance, 1)), "good", "{}", text(&kept));
    kept
}

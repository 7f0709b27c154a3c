//! Finding, storing and removing credentials, with helpers and files that the tests make.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.into(), password: password.into() }
}

/// A helper with one entry, which it keeps in a file beside it. It also writes the last request to a file there.
const HELPER: &str = r#"#!/bin/sh
    cd "$(dirname "$0")" || exit 2
    case "$1" in
    store) cat > vault ;;
    get) cat > asked; cat vault 2> /dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
    erase) cat > asked; rm vault ;;
    esac
"#;

struct Desk {
    folder: tempfile::TempDir,
    stores: Stores,
}

impl Desk {
    /// Makes stores with `own` as the content of our own file, and `others` as those of the other files.
    fn new(own: &str, others: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        if !own.is_empty() {
            fs::create_dir(at("stead")).unwrap();
            fs::write(at("stead/auth.json"), own).unwrap();
        }
        let mut paths = vec![at("absent.json")];
        for (index, text) in others.iter().enumerate() {
            paths.push(at(&format!("other-{index}.json")));
            fs::write(&paths[index + 1], text).unwrap();
        }
        let stores = Stores { own: at("stead/auth.json"), others: paths, path: Some(at("bin").into()) };
        fs::create_dir(at("bin")).unwrap();
        Self { folder, stores }
    }

    /// Adds a helper. A child process writes it, so that no child of another test can hold it open for writing.
    fn helper(&self, name: &str, script: &str) -> PathBuf {
        let path = self.folder.path().join(format!("bin/docker-credential-{name}"));
        let mut command = Command::new("sh");
        command.args(["-c", r#"printf '%s' "$1" > "$2" && chmod 755 "$2""#, "sh", script]).arg(&path);
        assert!(command.status().unwrap().success());
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

/// A file with an entry for each key, whose user is `user` and whose password is the key.
fn auths(keys: &[&str]) -> String {
    let entries = keys.iter().map(|key| ((*key).to_owned(), basic("user", key).entry().unwrap()));
    let entries: Map<String, Value> = entries.collect();
    json!({ "auths": entries }).to_string()
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?} {:?}", basic("user", "hush"), Credentials::Token("hush".into()));
    assert!(shown.contains("user") && !shown.contains("hush"), "{shown}");
}

#[test]
fn keys_are_known_in_all_their_forms() {
    for (key, host) in [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://registry-1.docker.io/v2/", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("https://a.test:5000", "a.test:5000"),
        ("http://a.test/v2/", "a.test"),
        ("a.test/", "a.test"),
    ] {
        let desk = Desk::new("", &[&auths(&[key])]);
        assert_eq!(desk.stores.find(host, "o/n").unwrap(), Some(basic("user", key)), "{key}");
        assert_eq!(desk.stores.find(host, "").unwrap(), Some(basic("user", key)), "{key}");
        assert_eq!(desk.stores.find("b.test", "o/n").unwrap(), None, "{key}");
    }
    let desk = Desk::new("", &[&auths(&["a.test:5000"])]);
    assert_eq!((desk.stores.find("a.test", "o").unwrap(), place("a.test/v1")), (None, "a.test/v1".to_owned()));
}

#[test]
fn the_longest_key_and_the_first_file_win() {
    let keys = ["a.test", "a.test/team", "a.test/team/app", "b.test/only"];
    let desk = Desk::new("", &[&auths(&keys), &auths(&["a.test/team/app/deep", "b.test"])]);
    for (repository, key) in [
        ("x", "a.test"),
        ("teams/app", "a.test"),
        ("team", "a.test/team"),
        ("team/x", "a.test/team"),
        ("team/app", "a.test/team/app"),
        ("team/app/deep", "a.test/team/app"),
    ] {
        assert_eq!(desk.stores.find("a.test", repository).unwrap(), Some(basic("user", key)), "{repository}");
    }
    assert_eq!(desk.stores.find("b.test", "only").unwrap(), Some(basic("user", "b.test/only")));
    assert_eq!(desk.stores.find("b.test", "other").unwrap(), Some(basic("user", "b.test")));
    let own = Desk::new(&json!({ "auths": { "a.test": { "identitytoken": "t", "auth": "" } } }).to_string(), &[&auths(&keys)]);
    assert_eq!(own.stores.find("a.test", "team").unwrap(), Some(Credentials::Token("t".into())));
}

#[test]
fn entries_have_several_forms() {
    let other = json!({ "auths": {
        "empty.test": {}, "null.test": null, "plain.test": { "username": "u", "password": "p" },
        "zero.test": { "auth": STANDARD.encode("u:p\0\0") }, "token.test": { "auth": STANDARD.encode("<token>:t") },
        "colons.test": { "auth": STANDARD.encode("u:p:q") },
    } });
    let desk = Desk::new("\n", &[&other.to_string()]);
    for (host, expected) in [
        ("empty.test", None),
        ("null.test", None),
        ("plain.test", Some(basic("u", "p"))),
        ("zero.test", Some(basic("u", "p"))),
        ("token.test", Some(Credentials::Token("t".into()))),
        ("colons.test", Some(basic("u", "p:q"))),
    ] {
        assert_eq!(desk.stores.find(host, "x").unwrap(), expected, "{host}");
    }
}

#[test]
fn damaged_files_are_named() {
    for text in ["{", "[]", "{\"auths\": {\"a.test\": {\"auth\": \"%%\"}}}", "{\"auths\": {\"a.test\": {\"auth\": \"eA==\"}}}"] {
        let error = Desk::new("", &[text]).stores.find("a.test", "x").unwrap_err();
        assert!(error.chain().contains("other-0.json is damaged") && error.advice().is_some(), "{}", error.chain());
    }
    let desk = Desk::new("{", &[]);
    assert!(desk.stores.keep("a.test", &basic("u", "p")).unwrap_err().to_string().contains("auth.json is damaged"));
    assert!(desk.stores.forget("a.test").is_err());
    assert_eq!(desk.read("stead/auth.json"), "{");
}

#[test]
fn helpers_are_asked() {
    let desk = Desk::new("", &[r#"{"credHelpers": {"a.test": "one"}, "credsStore": "two"}"#]);
    let (one, two) = (desk.helper("one", HELPER), desk.helper("two", "#!/bin/sh\nexit 3\n"));
    fs::write(one.with_file_name("vault"), r#"{"ServerURL": "a.test", "Username": "u", "Secret": "p"}"#).unwrap();
    assert_eq!(desk.stores.find("a.test", "x").unwrap(), Some(basic("u", "p")));
    assert_eq!(desk.read("bin/asked"), "a.test");
    fs::write(one.with_file_name("vault"), r#"{"Username": "<token>", "Secret": "t"}"#).unwrap();
    assert_eq!(desk.stores.find("a.test", "x").unwrap(), Some(Credentials::Token("t".into())));
    fs::write(one.with_file_name("vault"), "nonsense").unwrap();
    assert!(desk.stores.find("a.test", "x").unwrap_err().to_string().contains("docker-credential-one"));
    // The helper for all hosts is asked only if nothing else has credentials, and then its failure is an error.
    let error = desk.stores.find("b.test", "x").unwrap_err().chain();
    assert!(error.contains("docker-credential-two") && error.contains("other-0.json") && error.contains('3'), "{error}");
    fs::remove_file(two).unwrap();
    assert_eq!(desk.stores.find("b.test", "x").unwrap(), None);
    fs::remove_file(one).unwrap();
    let error = desk.stores.find("a.test", "x").unwrap_err();
    assert!(error.to_string().contains("docker-credential-one") && error.to_string().contains("other-0.json"), "{error}");
}

#[test]
fn a_helper_that_knows_nothing_leaves_it_to_the_rest() {
    let file = r#"{"credHelpers": {"docker.io": "one"}, "auths": {"docker.io": {"auth": "dTpw"}}}"#;
    let desk = Desk::new("", &[file]);
    desk.helper("one", HELPER);
    assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(basic("u", "p")));
    assert_eq!(desk.read("bin/asked"), HUB_KEY);
    desk.helper("one", "#!/bin/sh\necho 'the door is locked' >&2; exit 1\n");
    let error = desk.stores.find("docker.io", "library/x").unwrap_err().chain();
    assert!(error.contains("failed to get: the door is locked"), "{error}");
}

#[test]
fn what_was_kept_is_what_is_found() {
    // The first file has an older login of another tool; the second names the helper.
    let desk = Desk::new("", &[r#"{"auths": {"a.test": {"auth": "b2xkOm9sZA=="}}}"#, r#"{"credsStore": "one"}"#]);
    desk.helper("one", HELPER);
    let own = desk.stores.own.clone();
    assert_eq!(desk.stores.keep("a.test", &basic("u", "new")).unwrap(), Kept::File(own));
    assert_eq!(desk.stores.find("a.test", "x").unwrap(), Some(basic("u", "new")));
}

#[test]
fn names_of_helpers_are_no_commands() {
    for name in ["../x", "a b", "x;y", "$(x)", "a/b", "ä"] {
        let desk = Desk::new("", &[&json!({ "credsStore": name }).to_string()]);
        let error = desk.stores.find("a.test", "x").unwrap_err().to_string();
        assert!(error.contains("other-0.json names a credential helper"), "{name}: {error}");
    }
}

#[test]
fn the_own_file_is_written_and_keeps_the_rest() {
    let own = r#"{"auths": {"index.docker.io": {"auth": "eDp5"}, "b.test": {"x": 1}}, "more": [1, 2]}"#;
    let desk = Desk::new(own, &[&auths(&["docker.io"])]);
    let file = desk.stores.own.clone();
    assert_eq!(desk.stores.keep("docker.io", &basic("u", "p:q")).unwrap(), Kept::File(file.clone()));
    assert_eq!(desk.stores.keep("a.test:5000", &Credentials::Token("t".into())).unwrap(), Kept::File(file.clone()));
    let written: Value = serde_json::from_str(&desk.read("stead/auth.json")).unwrap();
    let expected = json!({ "auths": { HUB_KEY: { "auth": STANDARD.encode("u:p:q") }, "b.test": { "x": 1 },
        "a.test:5000": { "identitytoken": "t" } }, "more": [1, 2] });
    assert_eq!(written, expected);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(basic("u", "p:q")));
    assert_eq!(desk.stores.find("a.test:5000", "x").unwrap(), Some(Credentials::Token("t".into())));
    assert!(desk.stores.keep("a.test", &basic("u:v", "p")).is_err());
}

#[test]
fn a_new_file_has_a_folder_of_its_own_and_a_linked_one_stays_linked() {
    let desk = Desk::new("", &[]);
    desk.stores.keep("a.test", &basic("u", "p")).unwrap();
    let (own, folder) = (&desk.stores.own, desk.folder.path());
    assert_eq!(fs::metadata(folder.join("stead")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::rename(own, folder.join("real.json")).unwrap();
    std::os::unix::fs::symlink("../real.json", own).unwrap();
    desk.stores.keep("b.test", &basic("u", "q")).unwrap();
    assert!(fs::symlink_metadata(own).unwrap().is_symlink());
    assert!(desk.read("real.json").contains("b.test"));
}

#[test]
fn a_helper_keeps_before_the_file_does() {
    let desk = Desk::new(&auths(&["docker.io"]), &[r#"{"credsStore": "absent"}"#, r#"{"credsStore": "one"}"#]);
    desk.helper("one", HELPER);
    assert_eq!(desk.stores.keep("docker.io", &Credentials::Token("t".into())).unwrap(), Kept::Helper("one".into()));
    let kept: Value = serde_json::from_str(&desk.read("bin/vault")).unwrap();
    assert_eq!(kept, json!({ "ServerURL": HUB_KEY, "Username": "<token>", "Secret": "t" }));
    assert_eq!(desk.stores.find("docker.io", "library/x").unwrap(), Some(Credentials::Token("t".into())));
    assert!(!desk.read("stead/auth.json").contains("docker.io"));
}

#[test]
fn forgetting_says_where() {
    let named = r#"{"credHelpers": {"a.test": "one"}, "credsStore": "one"}"#;
    let desk = Desk::new(&auths(&["a.test", "b.test"]), &[named, &auths(&["a.test/team"])]);
    desk.helper("one", HELPER);
    fs::write(desk.folder.path().join("bin/vault"), r#"{"Username": "u", "Secret": "p"}"#).unwrap();
    let other = format!("still in {}", desk.stores.others[2].display());
    let own = desk.stores.own.display().to_string();
    assert_eq!(desk.stores.forget("a.test").unwrap(), [own.clone(), "one".to_owned(), other.clone()]);
    assert_eq!(desk.stores.find("a.test", "x").unwrap(), None);
    assert_eq!(desk.read("bin/asked"), "a.test");
    assert_eq!(desk.stores.forget("a.test").unwrap(), [other]);
    assert_eq!(desk.stores.forget("c.test").unwrap(), Vec::<String>::new());
    assert_eq!(desk.stores.forget("b.test").unwrap(), [own]);
}

#[test]
fn nothing_anywhere_is_nobody() {
    let desk = Desk::new("", &[]);
    assert_eq!(desk.stores.find("a.test", "x").unwrap(), None);
    assert_eq!(desk.stores.forget("a.test").unwrap(), Vec::<String>::new());
    assert!(!desk.stores.own.exists());
    assert_eq!(Stores::of_user().own.file_name().unwrap(), "auth.json");
}

//! Pulling from and pushing to real registries, with and without errors on the way.

use crate::peers::{Dockerd, podman};
use crate::registry::{Act, Error, Options, Proxy, Registry, TokenServer, available, image};
use crate::world::{World, is_root, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub fn possible() -> bool {
    is_root() && available()
}

/// A directory with an image of a few layers.
pub fn sample(layers: &[usize]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let made = image(&folder.path().join("image"), layers);
    (folder, made)
}

pub fn skopeo(arguments: &[&str]) -> String {
    let done = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(done.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Puts an image into a registry, and returns the digest of its manifest.
pub fn publish(made: &Path, registry: &Registry, name: &str) -> String {
    let target = format!("docker://{}/{name}", registry.address);
    skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{}:latest", made.display()), &target]);
    skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &target]).trim().to_owned()
}

/// A world with a fresh home directory and a store that no other test shares.
pub fn world(name: &str, project: &str) -> World {
    let world = World::bare(name, &format!("project \"{name}\"\n{project}"));
    let _ = std::fs::remove_dir_all(world.root.join("store"));
    let _ = std::fs::remove_dir_all(scratch().join(name).join("home"));
    world
}

#[test]
fn what_is_pulled_keeps_its_digest_and_is_not_asked_for_again() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[300_000, 2_000_000, 50]);
    let registry = Registry::plain();
    let digest = publish(&made, &registry, "team/app:1");
    let proxy = Proxy::before(&registry.address, Vec::new());
    let name = format!("{}/team/app:1", proxy.address);
    let world = world("pulled", "");
    assert_eq!(world.ok(&["pull", &name]), format!("{name} {digest}\n"));
    let requests = proxy.requests();
    assert_eq!(requests.iter().filter(|request| request.contains("/blobs/")).count(), 4, "{requests:?}");
    proxy.forget();
    world.ok(&["pull", &name]);
    assert_eq!(proxy.requests().len(), 1, "only what the tag means is asked");
    proxy.forget();
    // A project's reference is locked; after that, the registry is not asked again.
    world.write("stead.kdl", &format!("project \"pulled\"\nimage \"app\" {{ from \"{name}\"; cmd \"/bin/hello\"; }}\n"));
    world.ok(&["build"]);
    let lock = std::fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    assert!(lock.contains(&format!("reference \"{name}\" platform=\"linux/amd64\" digest=\"{digest}\"")), "{lock}");
    proxy.forget();
    world.ok(&["build", "--frozen"]);
    world.ok(&["gc"]);
    assert!(world.ok(&["run", "-T", "app"]).contains("hello"));
    assert_eq!(proxy.requests(), Vec::<String>::new());
    // A moved tag changes nothing until the user asks for it.
    let (_other, other) = sample(&[1000]);
    let moved = publish(&other, &registry, "team/app:1");
    world.ok(&["build"]);
    assert_eq!(proxy.requests(), Vec::<String>::new());
    assert!(world.ok(&["update", &name]).contains(&moved[7..19]));
    world.ok(&["build", "--frozen"]);
    let ran = world.fails(&["pull", &format!("{}/team/app:2", proxy.address)]);
    assert!(ran.err.contains("has no \"2\"") && ran.err.contains("perhaps \"1\""), "{}", ran.err);
}

#[test]
fn what_an_image_starts_from_is_read_once() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[300_000, 50]);
    let registry = Registry::plain();
    publish(&made, &registry, "team/app:1");
    for (kind, nodes) in [
        ("docker", "image \"app\" { dockerfile \"Dockerfile\"; }\n".to_owned()),
        ("plain", "image \"app\" { from \"NAME\"; env A=\"1\"; copy \"f\" to=\"/f\"; }\n".to_owned()),
    ] {
        let proxy = Proxy::before(&registry.address, Vec::new());
        let name = format!("{}/team/app:1", proxy.address);
        let container = "container \"c\" { image \"app\"; cmd \"/bin/hello\"; }\n";
        let world = world(&format!("once-{kind}"), &format!("{}{container}", nodes.replace("NAME", &name)));
        world.write("Dockerfile", &format!("FROM {name}\nENV A=1\nCOPY f /f\n"));
        world.write("f", "f");
        world.ok(&["up"]);
        let mut requests: Vec<String> = proxy.requests();
        requests.retain(|request| request.contains("/manifests/") || request.contains("/blobs/"));
        assert_eq!(requests.iter().filter(|request| request.contains("/manifests/")).count(), 1, "{kind}: {requests:?}");
        let all = requests.len();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), all, "{kind}: nothing is read twice: {requests:?}");
        world.ok(&["down"]);
    }
}

#[test]
fn faults_on_the_way_are_overcome_or_told() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[3_000_000, 1000]);
    let registry = Registry::plain();
    let digest = publish(&made, &registry, "app:1");
    let cut = || Act::CutAfter(100_000);
    let blob = |times, act| Error { method: "GET", path: "/blobs/", times, act };
    let manifest = |times, act| Error { method: "GET", path: "/manifests/", times, act };
    let wait = |seconds: &str| Act::Answer(429, vec![("Retry-After".into(), seconds.into())], String::new());
    let cases: Vec<(&str, Vec<Error>, Option<&str>)> = vec![
        ("cuts", vec![blob(3, cut())], None),
        ("cuts, and no ranges", vec![blob(2, cut()), blob(2, Act::NoRange)], None),
        ("416", vec![blob(1, cut()), blob(1, Act::Answer(416, Vec::new(), String::new()))], None),
        ("500", vec![manifest(2, Act::Answer(500, Vec::new(), String::new()))], None),
        ("closes", vec![manifest(1, Act::Close), blob(1, Act::Close)], None),
        ("429", vec![manifest(1, wait("1"))], None),
        ("drip", vec![blob(1, Act::Drip { piece: 1000, pause: Duration::from_millis(5), pieces: 40 })], None),
        ("429 for long", vec![manifest(9, wait("4000"))], Some("4000 s")),
        ("damage", vec![blob(9, Act::Damage)], Some("digest")),
        ("damaged manifest", vec![manifest(9, Act::Damage)], Some("digest")),
        ("down", vec![manifest(99, Act::Answer(503, Vec::new(), String::new()))], Some("503")),
    ];
    for (what, errors, failure) in cases {
        let world = world("faulty", "");
        let proxy = Proxy::before(&registry.address, errors);
        let name = format!("{}/app:1", proxy.address);
        let ran = world.run(&["pull", &name]);
        match failure {
            None => assert_eq!((ran.code, ran.out.as_str()), (0, format!("{name} {digest}\n").as_str()), "{what}: {}", ran.err),
            Some(words) => {
                assert!(ran.code != 0 && ran.err.contains(words), "{what}: {}", ran.err);
                assert!(!world.ok(&["images", "--json"]).contains(&digest), "{what}");
                // Nothing incomplete has a valid name, and the next try uses what is complete.
                let proxy = Proxy::before(&registry.address, Vec::new());
                world.ok(&["pull", &format!("{}/app:1", proxy.address)]);
            }
        }
    }
}

#[test]
fn what_is_pushed_is_the_same_each_time_and_others_take_it() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let proxy = Proxy::before(&registry.address, Vec::new());
    let world = World::new("pushed", "image \"app\" { from \"base\"; copy \"big\" to=\"/big\"; run \"echo x > /made\"; }\n");
    let big: String = (0..1_500_000u64).map(|number| format!("{:x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    world.write("big", &big);
    world.ok(&["build"]);
    let (first, second) = (format!("{}/team/app:1", proxy.address), format!("{}/team/app:latest", proxy.address));
    let pushed = world.ok(&["push", "app", &first, &second, "--attach"]);
    let digest = pushed.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(pushed, format!("{first} {digest}\n{second} {digest}\n"));
    assert!(proxy.requests().iter().filter(|request| request.starts_with("PATCH")).count() > 3, "{:?}", proxy.requests());
    proxy.forget();
    assert_eq!(world.ok(&["push", "app", &first]), format!("{first} {digest}\n"));
    assert!(!proxy.requests().iter().any(|request| request.starts_with("POST")), "{:?}", proxy.requests());
    // In another repository of the same registry, the blobs of this one are mounted.
    proxy.forget();
    world.ok(&["push", "app", &format!("{}/other/app:1", proxy.address)]);
    assert!(!proxy.requests().iter().any(|request| request.starts_with("PATCH")), "{:?}", proxy.requests());
    // The attached documents are listed under the tag that replaces the list of referrers.
    let listed = skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{}/team/app:sha256-{}", registry.address, &digest[7..]),
    ]);
    assert!(listed.contains("application/spdx+json") && listed.contains("application/vnd.in-toto+json"), "{listed}");
    // Other tools read the image, and what they give back is unchanged.
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:app", folder.path().join("copied").display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{first}"), &layout]);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &layout,
        &format!("docker://{}/back/app:1", registry.address),
    ]);
    let fresh = crate::registries::world("pulled-back", "");
    let back = format!("{}/back/app:1", registry.address);
    assert_eq!(fresh.ok(&["pull", &back]), format!("{back} {digest}\n"));
    assert_eq!(
        fresh.ok(&["push", &back, &format!("{}/again/app:1", registry.address)]),
        format!("{}/again/app:1 {digest}\n", registry.address)
    );
}

#[test]
fn whoever_asks_is_told_apart() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let tokens = TokenServer::new(&[("ada", "secret")]);
    let with_token = Registry::with(Options { token: Some(&tokens), ..Options::default() });
    let with_password = Registry::with(Options { users: Some(&[("ada", "secret")]), ..Options::default() });
    let world = world("known", "");
    world.ok(&["load", "-i", made.to_str().unwrap()]);
    let home = scratch().join("known/home");
    let stead = |arguments: &[&str], input: &str| {
        use std::io::Write;
        let mut command = world.command(arguments);
        command.env("XDG_CONFIG_HOME", &home).env("HOME", &home).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
        command.env("PATH", format!("{}:{}", home.display(), std::env::var("PATH").unwrap()));
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        (done.status.code(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
    };
    for registry in [&with_token, &with_password] {
        let host = registry.address.as_str();
        let name = format!("{host}/app:1");
        let images = world.ok(&["images", "--json"]);
        let images: serde_json::Value = serde_json::from_str(&images).unwrap();
        let digest = images["images"][0]["digest"].as_str().unwrap().to_owned();
        let (code, text) = stead(&["push", &digest, &name], "");
        assert!(code == Some(1) && text.contains(&format!("stead login {host}")), "{text}");
        let (code, text) = stead(&["login", host, "-u", "ada", "--password-stdin"], "wrong\n");
        assert!(code == Some(1), "{text}");
        let (code, text) = stead(&["login", host, "-u", "ada", "--password-stdin"], "secret\n");
        assert!(code == Some(0) && text.contains("unencrypted") && !text.contains("secret"), "{text}");
        use std::os::unix::fs::PermissionsExt;
        let file = home.join("stead/auth.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, text) = stead(&["push", &digest, &name], "");
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = stead(&["pull", &name], "");
        assert!(code == Some(0) && text.contains(&digest), "{text}");
        let (code, text) = stead(&["logout", host], "");
        assert_eq!(code, Some(0), "{text}");
        assert!(!std::fs::read_to_string(&file).unwrap().contains(host));
        assert_eq!(stead(&["pull", &name], "").0, Some(1));
        // A credential helper that Docker's file names keeps the password, and no file has it.
        let helper = home.join("docker-credential-vault");
        std::fs::write(&helper, HELPER).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(home.join(".docker")).unwrap();
        std::fs::write(home.join(".docker/config.json"), format!("{{\"credHelpers\": {{\"{host}\": \"vault\"}}}}")).unwrap();
        let (code, text) = stead(&["login", host, "-u", "ada", "--password-stdin"], "secret\n");
        assert!(code == Some(0) && text.contains("docker-credential-vault stores"), "{text}");
        assert!(!std::fs::read_to_string(&file).unwrap().contains(host));
        let (code, text) = stead(&["pull", &name], "");
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(stead(&["logout", host], "").0, Some(0));
        assert_eq!(stead(&["pull", &name], "").0, Some(1));
        std::fs::remove_dir_all(home.join(".docker")).unwrap();
    }
}

/// A credential helper that keeps the password in a file beside it (docker-credential-helpers, "Development").
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$1" in
store) cat > vault ;;
get) cat > /dev/null; cat vault 2> /dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) cat > /dev/null; rm -f vault ;;
esac
"#;

/// A world whose user has this configuration.
pub fn configured(name: &str, config: &str) -> (World, impl Fn(&[&str]) -> crate::world::Ran + use<>) {
    let world = world(name, "");
    let home = scratch().join(name).join("home");
    std::fs::create_dir_all(home.join("stead")).unwrap();
    std::fs::write(home.join("stead/config.kdl"), config).unwrap();
    let inner = World { root: world.root.clone(), folder: world.folder.clone() };
    let stead = move |arguments: &[&str]| {
        let mut command = inner.command(arguments);
        command.env("XDG_CONFIG_HOME", &home).env("HOME", &home).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
        crate::world::Ran::from(command.output().unwrap())
    };
    (world, stead)
}

#[test]
fn passwords_stay_with_the_host_they_are_for() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[500_000]);
    let elsewhere = Registry::plain();
    publish(&made, &elsewhere, "app:1");
    // The second host redirects once more, to another proxy of the same registry. Neither may get the password.
    let again = Proxy::before(&elsewhere.address, Vec::new());
    let further = Error { method: "GET", path: "/blobs/", times: 2, act: Act::Redirect(format!("http://{}", again.address)) };
    let ask = Act::Answer(401, vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())], String::new());
    let asking = Error { method: "GET", path: "/blobs/", times: 1, act: ask };
    let store = Proxy::before(&elsewhere.address, vec![further, asking]);
    let closed = Registry::with(Options { users: Some(&[("ada", "secret")]), ..Options::default() });
    let target = format!("docker://{}/app:1", closed.address);
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds=ada:secret", &format!("oci:{}:latest", made.display()), &target]);
    let redirect = Error { method: "GET", path: "/blobs/", times: 99, act: Act::Redirect(format!("http://{}", store.address)) };
    let proxy = Proxy::before(&closed.address, vec![redirect]);
    let (world, stead) = configured("redirected", "");
    let auth = scratch().join("redirected/home/stead/auth.json");
    std::fs::write(&auth, format!("{{\"auths\": {{\"{}\": {{\"auth\": \"YWRhOnNlY3JldA==\"}}}}}}", proxy.address)).unwrap();
    let name = format!("{}/app:1", proxy.address);
    // The configuration and the layer are redirected twice; a host elsewhere that asks for a password gets none.
    let ran = stead(&["pull", &name]);
    if ran.code != 0 {
        assert!(ran.err.contains("does not allow it"), "{}", ran.err);
        assert_eq!(stead(&["pull", &name]).code, 0);
    }
    assert!(again.seen().iter().all(|seen| seen.header("authorization").is_none()) && !again.seen().is_empty());
    assert!(proxy.seen().iter().any(|seen| seen.header("authorization").is_some()));
    assert!(!store.seen().is_empty() && store.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(proxy.seen().iter().any(|seen| seen.status == 401), "it is asked who it is first");
    drop(world);
}

#[test]
fn tokens_that_run_out_are_renewed() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let tokens = TokenServer::open(&[("ada", "secret")]);
    let registry = Registry::with(Options { token: Some(&tokens), ..Options::default() });
    let target = format!("docker://{}/app:1", registry.address);
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds=ada:secret", &format!("oci:{}:latest", made.display()), &target]);
    let (_world, stead) = configured("tokens", "");
    let before = tokens.count();
    let name = format!("{}/app:1", registry.address);
    assert_eq!(stead(&["pull", &name]).code, 0);
    assert_eq!(tokens.count(), before + 1, "one token serves a whole pull");
    tokens.lifetime(-120);
    let ran = stead(&["pull", &format!("{}/app:1", registry.address.replace("127.0.0.1", "localhost"))]);
    assert!(ran.code == 1, "{}", ran.err);
}

#[test]
fn an_upload_that_is_cut_goes_on() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let patch = |times, act| Error { method: "PATCH", path: "/uploads/", times, act };
    let errors = vec![patch(1, Act::CutAfter(100_000)), patch(1, Act::Close), patch(1, Act::Delay(Duration::from_millis(200)))];
    let proxy = Proxy::before(&registry.address, errors);
    let (_folder, made) = sample(&[9_000_000]);
    let (_world, stead) = configured("cut-upload", "");
    let loaded = stead(&["load", "-i", made.to_str().unwrap()]);
    assert_eq!(loaded.code, 0, "{}", loaded.err);
    let digest = loaded.out.split_whitespace().nth(1).unwrap().to_owned();
    let name = format!("{}/app:1", proxy.address);
    let ran = stead(&["push", &digest, &name]);
    assert_eq!((ran.code, ran.out.as_str()), (0, format!("{name} {digest}\n").as_str()), "{}", ran.err);
    let there =
        skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{}/app:1", registry.address)]);
    assert_eq!(there.trim(), digest);
}

#[test]
fn a_whole_project_is_pushed_and_pulled_at_once() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let registry = Registry::plain();
    publish(&made, &registry, "team/base:1");
    let base = format!("{}/team/base:1", registry.address);
    let images = format!("image \"one\" {{ from \"{base}\" }}\nimage \"two\" {{ from \"one\"; copy \"text\" to=\"/text\"; }}\n");
    let here = world("whole", &images);
    here.write("text", "x");
    here.ok(&["build"]);
    let pushed = here.ok(&["push", "--all", &format!("{}/shop", registry.address), "--tag", "2"]);
    let digest = |image: &str| {
        let name = format!("{}/shop/{image}:2 ", registry.address);
        pushed.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{image}: {pushed}")).to_owned()
    };
    let name = |image: &str| format!("{}/shop/{image}:2", registry.address);
    let there = world(
        "whole-there",
        &format!("image \"a\" {{ from \"{}\" }}\ncontainer \"c\" {{ image \"{}\" }}\n", name("one"), name("two")),
    );
    let pulled = there.ok(&["pull"]);
    for image in ["one", "two"] {
        assert!(pulled.contains(&digest(image)), "{image}: {pulled}");
    }
    assert_eq!(there.ok(&["pull"]), pulled);
    assert!(world("whole-none", "").run(&["pull"]).err.contains("names no image of a registry"));
}

#[test]
fn what_a_registry_has_is_found() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[100]);
    let registry = Registry::plain();
    publish(&made, &registry, "team/shop:1");
    publish(&made, &registry, "team/other:1");
    let world = world("searched", "");
    let found = world.ok(&["search", &format!("{}/shop", registry.address)]);
    assert!(found.contains(&format!("{}/team/shop", registry.address)) && !found.contains("other"), "{found}");
    // Docker's own search returns more; foreign text must not control the terminal.
    let hits = r#"{"results": [{"name": "shop", "description": "sells\u001b[2J", "star_count": 7}]}"#;
    let answer = Act::Answer(200, Vec::new(), hits.into());
    let proxy = Proxy::before(&registry.address, vec![Error { method: "GET", path: "/v1/search", times: 9, act: answer }]);
    let found = world.ok(&["search", &format!("{}/shop", proxy.address)]);
    assert!(found.contains("sells\\u{1b}[2J") && found.contains('7') && !found.contains('\u{1b}'), "{found}");
    assert!(proxy.requests()[0].contains("q=shop"), "{:?}", proxy.requests());
}

#[test]
fn registries_that_take_no_chunks_are_sent_all_at_once() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let (_folder, made) = sample(&[9_000_000, 1000]);
    let no = |status| Act::Answer(status, Vec::new(), String::new());
    // One registry refuses the first chunk; the other takes the chunks, and refuses the result.
    let patch = || Error { method: "PATCH", path: "/uploads/", times: 99, act: no(405) };
    let put = || Error { method: "PUT", path: "digest=", times: 1, act: no(400) };
    for (what, errors) in [("chunks", vec![patch()]), ("the end", vec![put()])] {
        let proxy = Proxy::before(&registry.address, errors);
        let (_world, stead) = configured("no-chunks", "");
        let digest = stead(&["load", "-i", made.to_str().unwrap()]).out.split_whitespace().nth(1).unwrap().to_owned();
        let name = format!("{}/{}:1", proxy.address, what.replace(' ', "-"));
        let ran = stead(&["push", &digest, &name]);
        assert_eq!((ran.code, ran.out.as_str()), (0, format!("{name} {digest}\n").as_str()), "{what}: {}", ran.err);
        let (_other, there) = configured("no-chunks-pull", "");
        assert_eq!(there(&["pull", &name]).code, 0, "{what}");
    }
}

#[test]
fn what_was_compressed_is_not_lost_with_the_push() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let refuse = |times| Error { method: "POST", path: "/uploads/", times, act: Act::Answer(403, Vec::new(), String::new()) };
    let proxy = Proxy::before(&registry.address, vec![refuse(99)]);
    let world = World::new("refused-push", "image \"app\" { copy \"numbers\" to=\"/numbers\"; }\n");
    // This content is new, so nothing has compressed it before.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    world.write("numbers", &format!("{now}"));
    world.ok(&["build"]);
    let blobs = || std::fs::read_dir(world.root.join("store/blobs")).unwrap().count();
    let before = blobs();
    let ran = world.fails(&["push", "app", &format!("{}/app:1", proxy.address)]);
    assert!(ran.err.contains("does not allow it"), "{}", ran.err);
    assert!(blobs() > before);
}

#[test]
fn a_token_server_that_stumbles_is_asked_again() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let open = Registry::plain();
    publish(&made, &open, "app:1");
    let stumble =
        |times, status| Error { method: "GET", path: "/token", times, act: Act::Answer(status, Vec::new(), String::new()) };
    let token = |text: &str| Error {
        method: "GET",
        path: "/token",
        times: 99,
        act: Act::Answer(200, Vec::new(), format!("{{\"token\": \"{text}\"}}")),
    };
    let servers = Proxy::before(&open.address, vec![stumble(1, 503), stumble(1, 429), token("x")]);
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", servers.address);
    let ask = Error {
        method: "GET",
        path: "/manifests/",
        times: 3,
        act: Act::Answer(401, vec![("WWW-Authenticate".into(), challenge)], String::new()),
    };
    let proxy = Proxy::before(&open.address, vec![ask]);
    let (_world, stead) = configured("stumbling-tokens", "");
    let ran = stead(&["pull", &format!("{}/app:1", proxy.address)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(servers.requests().iter().filter(|request| request.contains("/token")).count() >= 2);
}

#[test]
fn archives_with_compressed_layers_and_like_names_are_taken_as_they_are() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[5000]);
    let (_other_folder, other) = sample(&[700]);
    let archive = folder.path().join("theirs.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    let mut list = Vec::new();
    for (layout, tag) in [(&made, "app:1"), (&other, "ghcr.io/o/app:1")] {
        let read = |digest: &serde_json::Value| {
            let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
            std::fs::read(layout.join("blobs/sha256").join(hex)).unwrap()
        };
        let index: serde_json::Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&read(&index["manifests"][0]["digest"])).unwrap();
        let prefix = tag.replace(['/', ':'], "-");
        let mut add = |name: String, bytes: Vec<u8>| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, &name, &bytes[..]).unwrap();
            name
        };
        let config = add(format!("{prefix}.json"), read(&manifest["config"]["digest"]));
        let layer = add(format!("{prefix}.tar.gz"), read(&manifest["layers"][0]["digest"]));
        list.push(serde_json::json!({ "Config": config, "RepoTags": [tag], "Layers": [layer] }));
    }
    let list = serde_json::json!(list).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(list.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "manifest.json", list.as_bytes()).unwrap();
    tar.finish().unwrap();
    let world = world("their-archive", "");
    let loaded = world.ok(&["load", "-i", archive.to_str().unwrap()]);
    assert!(loaded.contains("docker.io/library/app:1 ") && loaded.contains("ghcr.io/o/app:1 "), "{loaded}");
    // The manifest states the layer's real media type, because other tools rely on it.
    let registry = Registry::plain();
    world.ok(&["push", "app:1", &format!("{}/app:1", registry.address)]);
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}/app:1", registry.address)]);
    assert!(raw.contains("layer.v1.tar+gzip"), "{raw}");
}

#[test]
fn names_archives_and_root_file_systems() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[1000, 5000]);
    let world = world("interchange", "");
    let loaded = world.ok(&["load", "-i", made.to_str().unwrap()]);
    let digest = loaded.split_whitespace().nth(1).unwrap().to_owned();
    world.ok(&["tag", &digest, "mine:1"]);
    world.ok(&["gc"]);
    assert!(world.ok(&["images"]).contains("docker.io/library/mine:1"));
    let archive = folder.path().join("docker.tar");
    skopeo(&["copy", &format!("oci:{}:latest", made.display()), &format!("docker-archive:{}:other:2", archive.display())]);
    let loaded = world.ok(&["load", "-i", archive.to_str().unwrap()]);
    assert!(loaded.starts_with("docker.io/library/other:2 sha256:"), "{loaded}");
    // Compressed archives, as `docker save | gzip` and similar commands make them.
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")] {
        assert!(Command::new(program).args(["-kf", archive.to_str().unwrap()]).status().unwrap().success());
        let packed = archive.with_added_extension(ending);
        assert_eq!(world.ok(&["load", "-i", packed.to_str().unwrap()]), loaded, "{program}");
        std::fs::write(&packed, &std::fs::read(&packed).unwrap()[..1000]).unwrap();
        let ran = world.fails(&["load", "-i", packed.to_str().unwrap()]);
        assert!(ran.err.contains(&format!("docker.tar.{ending}")), "{program}: {}", ran.err);
    }
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/motd"), "hello").unwrap();
    let tar = folder.path().join("root.tar.gz");
    assert!(
        Command::new("tar").args(["-C", root.to_str().unwrap(), "-czf", tar.to_str().unwrap(), "."]).status().unwrap().success()
    );
    let imported = world.ok(&["import", tar.to_str().unwrap(), "rootfs:1", "--change", "CMD [\"/bin/sh\"]"]);
    assert!(imported.starts_with("docker.io/library/rootfs:1 sha256:"), "{imported}");
    assert!(world.ok(&["image", "inspect", "rootfs:1"]).contains("/bin/sh"));
    world.ok(&["rmi", "mine:1"]);
    let ran = world.fails(&["rmi", "rootfs:2"]);
    assert!(ran.err.contains("perhaps \"docker.io/library/rootfs:1\""), "{}", ran.err);
    world.fails(&["load", "-i", tar.to_str().unwrap()]);
}

#[test]
fn images_run_and_dockerfiles_start_from_them_anywhere() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let world = World::new(
        "anywhere",
        "image \"app\" { from \"base\"; env GREETING=\"from-the-base\"; cmd \"sh\" \"-c\" \"echo hello $GREETING\"; }\n",
    );
    world.ok(&["build"]);
    let name = format!("{}/team/base:1", registry.address);
    world.ok(&["push", "app", &name]);
    // The image runs without a project, in a store that has never seen it.
    let fresh = crate::registries::world("anywhere-else", "");
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let done = fresh.command(arguments).current_dir(empty.path()).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, out, err) = run(&["run", "-T", &name]);
    assert_eq!((code, out.as_str()), (Some(0), "hello from-the-base\n"), "{err}");
    let (code, out, _) = run(&["run", "-T", &name, "sh", "-c", "exit 7"]);
    assert_eq!((code, out.as_str()), (Some(7), ""));
    fresh.assert_nothing_left();
    // A Dockerfile that starts from the image continues with its settings.
    let other = crate::registries::world("anywhere-docker", "image \"app\" { dockerfile \"Dockerfile\" }\n");
    other.write(
        "Dockerfile",
        &format!("FROM {name}\nRUN echo $GREETING > /greeting\nENV AGAIN=$GREETING\nCMD [\"cat\", \"/greeting\"]\n"),
    );
    other.ok(&["build"]);
    assert_eq!(other.ok(&["run", "-T", "app"]), "from-the-base\n");
    assert!(other.ok(&["image", "inspect", "app"]).contains("AGAIN=from-the-base"));
    other.ok(&["down"]);
    // Others can read what we save.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (loader, archive) = (crate::registries::world("anywhere-loaded", ""), at("again"));
    fresh.ok(&["save", &name, "-o", &archive, "--format", "docker"]);
    let loaded = loader.ok(&["load", "-i", &archive]);
    assert!(loaded.starts_with(&name), "{loaded}");
    assert_eq!(loader.ok(&["run", "-T", &name]), "hello from-the-base\n");
    for (format, kind) in [("oci", "oci-archive"), ("docker", "docker-archive"), ("folder", "oci")] {
        fresh.ok(&["save", &name, "-o", &at(format), "--format", format]);
        skopeo(&["copy", &format!("{kind}:{}", at(format)), &format!("dir:{}", at(&format!("{format}-copy")))]);
    }
}

/// The directories of podman and of dockerd, which are removed however the test ends.
struct Apart(PathBuf, PathBuf);

impl Drop for Apart {
    fn drop(&mut self) {
        let away = format!("umount -R {0}/root/overlay 2>/dev/null; rm -rf {0} {1}", self.0.display(), self.1.display());
        let _ = Command::new("sh").args(["-c", &away]).status();
    }
}

#[test]
fn podman_and_docker_run_what_we_push_and_we_run_theirs() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let folder = scratch().join("others");
    let _ = std::fs::remove_dir_all(&folder);
    let at = |name: &str| format!("{}/{name}", registry.address);
    let world = World::new("others-made", "image \"app\" { from \"base\"; run \"echo ours > /who\"; cmd \"cat\" \"/who\"; }\n");
    world.ok(&["build"]);
    for compression in ["gzip", "zstd", "none"] {
        world.ok(&["push", "app", &at(&format!("app:{compression}")), "--compression", compression]);
        let fresh = crate::registries::world("others-fresh", "");
        assert_eq!(fresh.ok(&["run", "-T", &at(&format!("app:{compression}"))]), "ours\n", "{compression}");
    }
    // podman refuses a run root of more than 50 characters, and the path of a checkout may be long.
    let apart = PathBuf::from(format!("/tmp/stead-others-{}", std::process::id()));
    let _clean = Apart(apart.clone(), folder.clone());
    let base = podman(&apart, Path::new("runc"));
    let podman = |args: &[&str]| {
        let done = Command::new("podman").args(&base).args(args).output().unwrap();
        assert!(done.status.success(), "podman {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    podman(&["pull", "-q", "--tls-verify=false", &at("app:gzip")]);
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none"];
    let name = at("app:gzip");
    let run = [&["run", "--rm"][..], &limits, &[&name]].concat();
    assert_eq!(podman(&run), "ours\n");
    // Other tools build on our image, and push it with their kinds of manifests.
    std::fs::create_dir_all(folder.join("context")).unwrap();
    let context = folder.join("context").display().to_string();
    std::fs::write(folder.join("context/Dockerfile"), format!("FROM {}\nCOPY Dockerfile /theirs\n", at("app:gzip"))).unwrap();
    podman(&["build", "-q", "--isolation", "chroot", "--tls-verify=false", "-t", &at("podman:1"), &context]);
    for (format, name) in [("oci", "podman:oci"), ("v2s2", "podman:docker")] {
        podman(&["push", "-q", "--tls-verify=false", "--format", format, &at("podman:1"), &at(name)]);
    }
    // This comes last: once podman knows the zstd form of a layer, it also offers it for a kind of manifest without a
    // name for zstd.
    podman(&["pull", "-q", "--tls-verify=false", &at("app:zstd")]);
    let mut theirs = vec!["podman:oci", "podman:docker"];
    let daemon = Dockerd::start(&folder.join("docker"), &[]);
    if let Some(daemon) = &daemon {
        daemon.ok(&["pull", "-q", &at("app:gzip")]);
        assert_eq!(daemon.ok(&["run", "--rm", "--network", "none", &at("app:gzip")]), "ours");
        daemon.ok(&["tag", &at("app:gzip"), &at("docker:1")]);
        daemon.ok(&["push", "-q", &at("docker:1")]);
        let archive = folder.join("saved.tar").display().to_string();
        world.ok(&["save", "app", "-o", &archive, "--format", "docker"]);
        assert!(daemon.ok(&["load", "-i", &archive]).contains("Loaded image"));
        theirs.push("docker:1");
    }
    for name in theirs {
        let fresh = crate::registries::world("others-theirs", "");
        assert_eq!(fresh.ok(&["run", "-T", &at(name)]), "ours\n", "{name}");
        let digest = fresh.ok(&["pull", &at(name)]).split_whitespace().nth(1).unwrap().to_owned();
        let again = at(&format!("again-{}:1", name.replace(':', "-")));
        assert_eq!(fresh.ok(&["push", &at(name), &again]), format!("{again} {digest}\n"), "as it came, to the byte");
    }
}

#[test]
fn what_is_no_image_for_us_is_told() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let kind = |media: &str| vec![("Content-Type".to_owned(), media.to_owned())];
    let index = |platform: &str| {
        let digest = "a".repeat(64);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":10,"platform":{{"os":"linux","architecture":"{platform}"}}}}]}}"#
        )
    };
    let foreign = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    let cases = [
        (index("s390x"), "application/vnd.oci.image.index.v1+json", "linux/s390x"),
        (
            r#"{"schemaVersion":1,"name":"app"}"#.to_owned(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema 1",
        ),
        (foreign.to_owned(), "application/vnd.oci.image.manifest.v1+json", "configuration"),
        ("x".repeat(9_000_000), "application/vnd.oci.image.manifest.v1+json", "more than 4194304 bytes"),
        ("<html>".to_owned(), "text/html", "no JSON"),
    ];
    for (body, media, says) in cases {
        let answer = Error { method: "GET", path: "/manifests/", times: 9, act: Act::Answer(200, kind(media), body) };
        let proxy = Proxy::before(&registry.address, vec![answer]);
        let world = world("strange", &format!("image \"a\" {{ from \"{}/app:1\" }}\n", proxy.address));
        let ran = world.fails(&["build"]);
        assert!(ran.err.contains(says) && ran.err.contains("stead.kdl:2"), "{says}: {}", ran.err);
        // A manifest for this platform is enough for a digest in the lock; that its parts are missing is found out later.
        assert_eq!(world.folder.join("stead.lock").exists(), says == "configuration", "{says}");
    }
    // Nobody listens there.
    let world = world("nobody", "");
    let ran = world.fails(&["pull", "127.0.0.1:9/app:1"]);
    assert!(ran.err.contains("cannot reach 127.0.0.1:9"), "{}", ran.err);
}

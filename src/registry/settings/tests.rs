//! How the files of stead, podman and Docker work together.

use super::*;

fn files(folder: &Path, own: &str, containers: &[&str], docker: &str) -> Files {
    let keep = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let containers = containers.iter().enumerate().map(|(at, text)| keep(&format!("registries-{at}.conf"), text));
    Files {
        config: Some(keep("config.kdl", own)),
        containers: containers.collect(),
        docker_daemon: keep("daemon.json", docker),
        certificates: vec![folder.join("certs.d")],
    }
}

fn read(own: &str, containers: &[&str], docker: &str) -> Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    Settings::read(&files(folder.path(), own, containers, docker))
}

fn shown(endpoint: &Endpoint) -> String {
    format!("{}/{} {:?}", endpoint.host, endpoint.repository, endpoint.security)
}

fn asked(settings: &Settings, host: &str, repository: &str) -> Vec<String> {
    settings.endpoints(host, repository).iter().map(shown).collect()
}

#[test]
fn without_files_all_is_as_usual() {
    let settings = Settings::read(&Files { config: Some("/nowhere/config.kdl".into()), ..Files::default() }).unwrap();
    assert_eq!((settings.default_host(), settings.alias("redis")), ("docker.io", None));
    assert_eq!(asked(&settings, "docker.io", "library/redis"), ["registry-1.docker.io/library/redis Checked"]);
    assert_eq!(settings.endpoints("ghcr.io", "o/n"), [settings.origin("ghcr.io", "o/n")]);
    assert_eq!(shown(&settings.origin("docker.io", "")), "registry-1.docker.io/ Checked");
    assert_eq!(settings.blocked("ghcr.io", "o/n"), None);
}

#[test]
fn the_own_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let own = r#"
        default-registry "quay.io"
        alias "redis" "docker.io/bitnami/redis"
        mirror "http://debian.test/debian"
        registry "index.docker.io" {
            mirror "mirror.test:5000/cache/" insecure=#true ca="certs/x.pem"
            mirror "second.test"
        }
        registry "second.test" ca="second.pem"
        registry "plain.test" insecure=#true
    "#;
    let settings = Settings::read(&files(folder.path(), own, &[], "")).unwrap();
    assert_eq!((settings.default_host(), settings.alias("redis")), ("quay.io", Some("docker.io/bitnami/redis")));
    assert_eq!(
        asked(&settings, "docker.io", "library/redis"),
        [
            "mirror.test:5000/cache/library/redis Unchecked",
            "second.test/library/redis Checked",
            "registry-1.docker.io/library/redis Checked"
        ]
    );
    let endpoints = settings.endpoints("docker.io", "library/redis");
    assert_eq!(endpoints[0].authorities, [folder.path().join("certs/x.pem")]);
    assert_eq!(endpoints[1].authorities, [folder.path().join("second.pem")]);
    assert_eq!(shown(&settings.origin("plain.test", "a")), "plain.test/a Unchecked");
    assert_eq!(shown(&settings.origin("plain.test:5000", "a")), "plain.test:5000/a Checked");
}

#[test]
fn mistakes_in_the_own_file_have_a_place_and_a_hint() {
    for (text, place, advice) in [
        ("registry \"a.test\" insecur=#true", "config.kdl:1: `insecur` is not known", Some("write `insecure`")),
        ("\nregistry \"a.test\" {\n    miror \"b.test\"\n}", "config.kdl:3: `miror` is not known", Some("write `mirror`")),
        ("registry \"a.test\" {\n    mirror \"b.test\" zzzzzz=1\n}", "config.kdl:2: ", Some("known here: insecure, ca")),
        ("registry \"a.test\" {\n    mirror \"b.test\" {\n        x\n    }\n}", "config.kdl:2: `mirror` has", None),
        ("registry \"https://a.test\"", "without a scheme: \"a.test\"", None),
        ("registry \"a.test\" insecure=\"yes\"", "#true or #false", None),
        ("registry \"a.test\" ca=#true", "`ca` is the path", None),
        ("registry \"a.test\" client-cert=\"x.pem\"", "config.kdl:1: `client-cert` and `client-key` come together", None),
        ("registry \"a.test\"\nregistry \"a.test/\"", "config.kdl:2: registry \"a.test\" stands here twice", Some("make one")),
        ("registry", "config.kdl:1: `registry` takes one text", None),
        ("registry \"a\" \"b\"", "takes one text", None),
        ("alias \"x\"", "takes two texts", None),
        ("default-registry 5", "config.kdl:1: ", None),
        ("\nregistry \"a.test\" insecure=true", "config.kdl:2: ", None),
    ] {
        let error = read(text, &[], "").unwrap_err();
        assert!(error.to_string().contains(place), "{text}: {error}");
        let right = advice.is_none_or(|advice| error.advice().is_some_and(|found| found.contains(advice)));
        assert!(right, "{text}: {:?}", error.advice());
    }
}

const PODMAN: &str = r#"
    unqualified-search-registries = ["quay.io", "docker.io"]
    short-name-mode = "enforcing"
    [aliases]
    "fedora" = "registry.fedoraproject.org/fedora"
    "gone" = "x.test/gone"
    [[registry]]
    prefix = "example.com/foo"
    location = "internal.test/bar"
    [[registry.mirror]]
    location = "mirror-0.local/mirror-for-foo"
    [[registry.mirror]]
    location = "mirror-1.local/foo"
    insecure = true
    [[registry]]
    location = "example.com"
    insecure = true
    [[registry]]
    prefix = "*.wild.test"
    location = "caught.test/all"
    [[registry]]
    prefix = "bad.test/worse"
    blocked = true
"#;

#[test]
fn podmans_files_are_read() {
    let later = "[aliases]\n\"gone\" = \"\"\n[[registry]]\nlocation = \"bad.test/worse\"\ninsecure = true";
    let settings = read("", &[PODMAN, later], "").unwrap();
    assert_eq!((settings.default_host(), settings.alias("gone")), ("quay.io", None));
    assert_eq!(settings.alias("fedora"), Some("registry.fedoraproject.org/fedora"));
    assert_eq!(
        asked(&settings, "example.com", "foo/image"),
        ["mirror-0.local/mirror-for-foo/image Checked", "mirror-1.local/foo/image Unchecked", "internal.test/bar/image Checked"]
    );
    assert_eq!(settings.origin("example.com", "foo/image").host, "example.com");
    assert_eq!(asked(&settings, "example.com", "foobar/image"), ["example.com/foobar/image Unchecked"]);
    assert_eq!(asked(&settings, "example.com:5000", "foo/image"), ["example.com:5000/foo/image Checked"]);
    assert_eq!(asked(&settings, "a.wild.test:5000", "x/y"), ["caught.test/all/x/y Checked"]);
    assert_eq!(asked(&settings, "wild.test", "x"), ["wild.test/x Checked"]);
    // The later file replaces the rule of the earlier one.
    assert_eq!(asked(&settings, "bad.test", "worse"), ["bad.test/worse Unchecked"]);
    assert_eq!(settings.blocked("bad.test", "worse"), None);
}

#[test]
fn podman_can_block() {
    let settings = read("", &[PODMAN], "").unwrap();
    let why = settings.blocked("bad.test", "worse/x").unwrap();
    assert!(why.contains("registries-0.conf") && why.contains("bad.test/worse"), "{why}");
    assert_eq!((settings.blocked("bad.test", "better"), settings.blocked("example.com", "foo")), (None, None));
}

#[test]
fn some_mirrors_are_for_digests_only() {
    let podman = r#"
        [[registry]]
        location = "a.test"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.test"
        [[registry]]
        location = "b.test"
        [[registry.mirror]]
        location = "digest.test"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tag.test"
        pull-from-mirror = "tag-only"
    "#;
    let settings = read("", &[podman], "").unwrap();
    let by_digest = |host| settings.endpoints_by_digest(host, "x").iter().map(shown).collect::<Vec<_>>();
    assert_eq!(asked(&settings, "a.test", "x"), ["a.test/x Checked"]);
    assert_eq!(by_digest("a.test"), ["m.test/x Checked", "a.test/x Checked"]);
    assert_eq!(asked(&settings, "b.test", "x"), ["tag.test/x Checked", "b.test/x Checked"]);
    assert_eq!(by_digest("b.test"), ["digest.test/x Checked", "b.test/x Checked"]);
}

#[test]
fn dockers_file_is_read() {
    let docker = r#"{"registry-mirrors": ["https://m.test/", "http://plain.test:5000"], "debug": true,
        "insecure-registries": ["in.test:5000", "10.0.0.0/8", "http://old.test", "fd00::/8"]}"#;
    let settings = read("", &[], docker).unwrap();
    assert_eq!(
        asked(&settings, "docker.io", "library/x"),
        ["m.test/library/x Checked", "plain.test:5000/library/x Unchecked", "registry-1.docker.io/library/x Checked"]
    );
    for (host, security) in [
        ("in.test:5000", Security::Unchecked),
        ("in.test", Security::Checked),
        ("old.test", Security::Unchecked),
        ("10.1.2.3:5000", Security::Unchecked),
        ("11.1.2.3:5000", Security::Checked),
        ("ghcr.io", Security::Checked),
    ] {
        assert_eq!(settings.endpoints(host, "x").len(), 1);
        assert_eq!(settings.origin(host, "x").security, security, "{host}");
    }
}

#[test]
fn the_own_file_counts_before_podmans_and_podmans_before_dockers() {
    let docker = r#"{"registry-mirrors": ["https://docker.test"], "insecure-registries": ["in.test", "podman.test"]}"#;
    let podman = "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"podman.test\"\ninsecure = true\n\
        [[registry]]\nlocation = \"in.test\"\ninsecure = false\n[aliases]\n\"x\" = \"podman.test/x\"";
    let own = "registry \"docker.io\" { mirror \"own.test\"; }\nregistry \"in.test\" insecure=#true\n\
        default-registry \"own.test\"\nalias \"x\" \"own.test/x\"";
    let first = |settings: &Settings| asked(settings, "docker.io", "x").remove(0);
    let all = read(own, &[podman], docker).unwrap();
    assert_eq!(
        (first(&all), all.default_host(), all.alias("x")),
        ("own.test/x Checked".to_owned(), "own.test", Some("own.test/x"))
    );
    assert_eq!(all.origin("in.test", "").security, Security::Unchecked);
    let two = read("registry \"podman.test\" insecure=#false", &[podman], docker).unwrap();
    assert_eq!((first(&two), two.origin("in.test", "").security), ("podman.test/x Checked".to_owned(), Security::Checked));
    let one = read("registry \"docker.io\"", &[], docker).unwrap();
    assert_eq!((first(&one), one.origin("in.test", "").security), ("docker.test/x Checked".to_owned(), Security::Unchecked));
}

#[test]
fn this_host_needs_no_tls() {
    let settings = read("", &[], r#"{"insecure-registries": ["localhost:5001"]}"#).unwrap();
    for host in ["localhost", "localhost:5000", "x.localhost:1", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
        assert_eq!(settings.origin(host, "x").security, Security::Loopback, "{host}");
    }
    for host in ["128.0.0.1", "localhost.test", "notlocalhost", "[::2]:5000", "127.0.0.1.test"] {
        assert_eq!(settings.origin(host, "x").security, Security::Checked, "{host}");
    }
    assert_eq!(settings.origin("localhost:5001", "x").security, Security::Unchecked);
}

#[test]
fn certificates_lie_in_folders_of_their_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certs.d/a.test:5000");
    fs::create_dir_all(&certificates).unwrap();
    for name in ["b.crt", "a.crt", "client.cert", "client.key"] {
        fs::write(certificates.join(name), "").unwrap();
    }
    let own = "registry \"a.test:5000\" ca=\"/own.pem\"";
    let settings = Settings::read(&files(folder.path(), own, &[], "")).unwrap();
    let expected = [PathBuf::from("/own.pem"), certificates.join("a.crt"), certificates.join("b.crt")];
    assert_eq!(settings.origin("a.test:5000", "x").authorities, expected);
    assert_eq!(settings.origin("a.test", "x").authorities, Vec::<PathBuf>::new());
    let identity = |name: &str, key: &str| Some(Identity { certificate: name.into(), key: key.into() });
    let (certificate, key) = (certificates.join("client.cert"), certificates.join("client.key"));
    assert_eq!(settings.origin("a.test:5000", "x").identity, identity(certificate.to_str().unwrap(), key.to_str().unwrap()));
    assert_eq!(settings.origin("a.test", "x").identity, None);
    let own = "registry \"a.test:5000\" client-cert=\"/c.pem\" client-key=\"/k.pem\"";
    let settings = Settings::read(&files(folder.path(), own, &[], "")).unwrap();
    assert_eq!(settings.origin("a.test:5000", "x").identity, identity("/c.pem", "/k.pem"));
}

#[test]
fn damaged_files_of_others_are_named() {
    for (podman, docker, place) in [
        ("a = 1\nb = x", "", "registries-0.conf:2: "),
        ("[[registry]]\ninsecure = \"x\"\nlocation = \"a.test\"", "", "registries-0.conf:"),
        ("[[registry]]\nblocked = true", "", "registries-0.conf: a [[registry]] has neither"),
        ("[[registry]]\nlocation = \"http://a.test\"", "", "registries-0.conf: \"http://a.test\" is a URL"),
        ("", "{\n", "daemon.json:"),
        ("", "{\"registry-mirrors\": 5}", "daemon.json:1: "),
        ("", "{\"registry-mirrors\": [\"https://\"]}", "daemon.json: \"\" is no host"),
    ] {
        let error = read("", &[podman], docker).unwrap_err().chain();
        assert!(error.contains(place), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = Some(folder.path().to_owned());
    assert!(Settings::read(&Files { config, ..Files::default() }).unwrap_err().chain().contains("cannot read"));
}

#[test]
fn podmans_files_have_an_order() {
    let folder = tempfile::tempdir().unwrap();
    let (system, user) = (folder.path().join("etc"), folder.path().join("home"));
    for name in ["etc/registries.conf.d", "home/registries.conf.d"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for name in ["etc/registries.conf.d/b.conf", "etc/registries.conf.d/a.conf", "etc/registries.conf.d/x.bak"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::write(user.join("registries.conf.d/c.conf"), "").unwrap();
    let found = |named: Option<PathBuf>| -> Vec<String> {
        let files = containers::files(&system, Some(&user), named).unwrap();
        files.iter().map(|path| path.strip_prefix(folder.path()).unwrap_or(path).display().to_string()).collect()
    };
    let parts = ["etc/registries.conf.d/a.conf", "etc/registries.conf.d/b.conf", "home/registries.conf.d/c.conf"];
    assert_eq!(found(None), [&["etc/registries.conf"][..], &parts[..]].concat());
    fs::write(user.join("registries.conf"), "").unwrap();
    assert_eq!(found(None), ["home/registries.conf", "home/registries.conf.d/c.conf"]);
    assert_eq!(found(Some("/named.conf".into())), [&["/named.conf"][..], &parts[..]].concat());
    assert_eq!(containers::files(&system, None, None).unwrap().len(), 3);
}

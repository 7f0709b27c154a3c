//! Where images come from: mirrors, certificates, lists of platforms.

use crate::registries::{configured, possible, publish, sample, skopeo};
use crate::registry::{Act, Certificates, Error, Options, Proxy, Registry};
use serde_json::json;
use stead::tested::model::Digest;

#[test]
fn certificates_mirrors_and_short_names() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[1000]);
    let (good, old) = (folder.path().join("good"), folder.path().join("old"));
    std::fs::create_dir_all(&good).unwrap();
    std::fs::create_dir_all(&old).unwrap();
    let certificates = Certificates::make(&good, 5);
    let authority = certificates.authority.display().to_string();
    let safe = Registry::with(Options { tls: Some(certificates), ..Options::default() });
    let expired = Certificates::make(&old, -1);
    let old_authority = expired.authority.display().to_string();
    let late = Registry::with(Options { tls: Some(expired), ..Options::default() });
    let name = format!("{}/team/app:1", safe.address);
    skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{}:latest", made.display()), &format!("docker://{name}")]);
    // No known authority signed the certificate.
    let (_world, stead) = configured("nobody-vouches", "");
    let ran = stead(&["pull", &name]);
    assert!(ran.code == 1 && ran.err.contains("ca=\"FILE.pem\""), "{}", ran.err);
    let (_world, stead) = configured(
        "vouched",
        &format!(
            "registry \"{0}\" ca=\"{authority}\"\nregistry \"{1}\" ca=\"{old_authority}\"\nalias \"mine\" \"{0}/team/app\"\nregistry \"mirrored.test\" {{ mirror \"{0}\" ca=\"{authority}\"; }}\n",
            safe.address, late.address
        ),
    );
    let pulled = stead(&["pull", &name]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    let digest = pulled.out.split_whitespace().nth(1).unwrap().to_owned();
    let short = stead(&["pull", "mine:1"]);
    assert_eq!(short.out, pulled.out, "{}", short.err);
    let mirrored = stead(&["pull", "mirrored.test/team/app:1"]);
    assert!(mirrored.code == 0 && mirrored.out.contains(&digest), "{}", mirrored.err);
    let ran = stead(&["pull", &format!("{}/team/app:1", late.address)]);
    assert!(ran.code == 1 && ran.err.contains("out of date"), "{}", ran.err);
    let (_world, stead) = configured("careless", &format!("registry \"{}\" insecure=#true\n", safe.address));
    assert_eq!(stead(&["pull", &name]).code, 0);
    let ran = stead(&["pull", "Not/A:Name"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let (_world, stead) = configured("mistyped", "registry \"x.test\" insecur=#true\n");
    let ran = stead(&["pull", &name]);
    assert!(ran.code != 0 && ran.err.contains("config.kdl:1") && ran.err.contains("insecure"), "{}", ran.err);
}

#[test]
fn who_asks_is_known_by_a_certificate() {
    if !possible() {
        return;
    }
    let (folder, made) = sample(&[1000]);
    let (certificates, strange) =
        (Certificates::make(&folder.path().join("good"), 5), Certificates::make(&folder.path().join("strange"), 5));
    let authority = certificates.authority.clone();
    let closed =
        Registry::with(Options { tls: Some(certificates.clone()), clients: Some(authority.clone()), ..Options::default() });
    let name = format!("{}/app:1", closed.address);
    let identity = folder.path().join("identity");
    std::fs::create_dir_all(&identity).unwrap();
    std::fs::copy(&certificates.certificate, identity.join("client.cert")).unwrap();
    std::fs::copy(&certificates.key, identity.join("client.key")).unwrap();
    let flag = format!("--dest-cert-dir={}", identity.display());
    skopeo(&["copy", "--dest-tls-verify=false", &flag, &format!("oci:{}:latest", made.display()), &format!("docker://{name}")]);
    let registry = |more: &str| format!("registry \"{}\" ca=\"{}\"{more}\n", closed.address, authority.display());
    let with = |of: &Certificates| format!(" client-cert=\"{}\" client-key=\"{}\"", of.certificate.display(), of.key.display());
    let (_world, stead) = configured("known-by-certificate", &registry(&with(&certificates)));
    let ran = stead(&["pull", &name]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for (what, config) in [("none", registry("")), ("strange", registry(&with(&strange)))] {
        let (_world, stead) = configured("unknown-certificate", &config);
        let ran = stead(&["pull", &name]);
        assert!(ran.code == 1 && ran.err.contains("client-cert"), "{what}: {}", ran.err);
    }
    std::fs::write(folder.path().join("no.key"), "no key").unwrap();
    let no_key = Certificates { key: folder.path().join("no.key"), ..certificates };
    let (_world, stead) = configured("no-key", &registry(&with(&no_key)));
    assert!(stead(&["pull", &name]).err.contains("no.key"));
}

#[test]
fn a_mirror_that_damages_is_passed_over() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[300_000, 1000]);
    let (origin, copy) = (Registry::plain(), Registry::plain());
    let digest = publish(&made, &origin, "app:1");
    publish(&made, &copy, "app:1");
    for path in ["/blobs/", "/manifests/sha256:"] {
        let mirror = Proxy::before(&copy.address, vec![Error { method: "GET", path, times: 99, act: Act::Damage }]);
        let (world, stead) =
            configured("damaging-mirror", &format!("registry \"{}\" {{ mirror \"{}\"; }}\n", origin.address, mirror.address));
        let ran = stead(&["pull", &format!("{}/app@{digest}", origin.address)]);
        assert_eq!(ran.code, 0, "{path}: {}", ran.err);
        assert!(!mirror.requests().is_empty());
        if path == "/blobs/" {
            assert!(ran.err.contains(&mirror.address) && ran.err.contains("is damaged"), "{}", ran.err);
        }
        assert!(world.ok(&["images", "--json"]).contains(&digest));
    }
}

#[test]
fn lists_may_stand_in_lists() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[1000]);
    let registry = Registry::plain();
    let digest = publish(&made, &registry, "app:1");
    let kind = "application/vnd.oci.image.index.v1+json";
    let image = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
        "platform": {"os": "linux", "architecture": "amd64"}});
    let inner = registry.put_manifest("app", None, &json!({"schemaVersion": 2, "mediaType": kind, "manifests": [image]}));
    registry.put_manifest("app", Some("nested"), &json!({"schemaVersion": 2, "mediaType": kind, "manifests": [inner]}));
    let (world, stead) = configured("nested", "");
    let ran = stead(&["pull", &format!("{}/app:nested", registry.address)]);
    assert!(ran.code == 0 && ran.out.contains(&digest), "{}", ran.err);
    // A list that names itself would never end.
    let circle = format!("sha256:{}", "0".repeat(64));
    let body = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [{"mediaType": kind, "digest": circle, "size": 1}]});
    assert_ne!(Digest::of(body.to_string()).to_string(), circle);
    let answer = Act::Answer(200, vec![("Content-Type".into(), kind.into())], body.to_string());
    let proxy = Proxy::before(&registry.address, vec![Error { method: "GET", path: "/manifests/", times: 99, act: answer }]);
    assert!(world.fails(&["pull", &format!("{}/app:1", proxy.address)]).err.contains("digest"));
}

#[test]
fn a_registry_that_mirrors_serves_what_the_origin_no_longer_can() {
    if !possible() {
        return;
    }
    let (_folder, made) = sample(&[200_000, 1000]);
    let origin = Registry::plain();
    let digest = publish(&made, &origin, "team/app:1");
    let mirror = Registry::with(Options { proxy_of: Some(format!("http://{}", origin.address)), ..Options::default() });
    let config = format!("registry \"{}\" {{ mirror \"{}\"; }}\n", origin.address, mirror.address);
    let name = format!("{}/team/app", origin.address);
    let (_world, stead) = configured("mirrored-first", &config);
    let ran = stead(&["pull", &format!("{name}:1")]);
    assert_eq!(ran.out, format!("{name}:1 {digest}\n"), "{}", ran.err);
    drop(origin);
    let (_world, stead) = configured("mirrored-second", &config);
    let ran = stead(&["pull", &format!("{name}@{digest}")]);
    assert!(ran.code == 0 && ran.out.contains(&digest), "{}", ran.err);
}

#[test]
fn each_platform_has_its_digest_in_the_lock() {
    if !possible() {
        return;
    }
    let registry = Registry::plain();
    let manifest = |layers: &[usize]| {
        let (_folder, made) = sample(layers);
        publish(&made, &registry, "app:part")
    };
    let index = |ours: &str, theirs: &str| {
        let one = |digest: &str, architecture: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let kind = "application/vnd.oci.image.index.v1+json";
        let all = [one(theirs, "arm64"), one(ours, "amd64")];
        registry.put_manifest("app", Some("1"), &json!({"schemaVersion": 2, "mediaType": kind, "manifests": all}));
    };
    let (first, second, other) = (manifest(&[1000]), manifest(&[2000]), manifest(&[3000]));
    index(&first, &other);
    let name = format!("{}/app:1", registry.address);
    let world = crate::registries::world("platforms", &format!("image \"app\" {{ from \"{name}\" }}\n"));
    world.ok(&["build"]);
    let lock = || std::fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    let line = |platform: &str, digest: &str| format!("reference \"{name}\" platform=\"linux/{platform}\" digest=\"{digest}\"");
    assert!(lock().contains(&line("amd64", &first)) && lock().contains(&line("arm64", &other)), "{}", lock());
    index(&second, &other);
    world.ok(&["build", "--frozen"]);
    assert!(lock().contains(&line("amd64", &first)));
    world.ok(&["update", &name]);
    assert!(lock().contains(&line("amd64", &second)) && lock().contains(&line("arm64", &other)), "{}", lock());
}

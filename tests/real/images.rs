//! Images as others see them: archives that other tools read, what the steps made, how two images differ.

use crate::world::{World, is_root, skip};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn tool(words: &[&str], folder: &Path) -> Output {
    Command::new(words[0]).args(&words[1..]).current_dir(folder).output().unwrap()
}

fn ok(words: &[&str], folder: &Path) -> String {
    let out = tool(words, folder);
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn archives_are_read_by_skopeo_umoci_and_podman() {
    if !is_root() {
        return;
    }
    if ["skopeo", "umoci", "podman"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        skip("skopeo, umoci or podman is not installed");
        return;
    }
    let world = World::new(
        "archive",
        "image \"app\" { from \"base\"; copy \"file\" to=\"/app/\" owner=\"33:33\"; run \"rm /etc/motd; ln /app/file /app/hard\"; env A=\"b\"; cmd \"cat\" \"/app/hard\"; expose 80; label l=\"v\"; }",
    );
    world.write("file", "content\n");
    world.ok(&["build"]);
    assert!(world.fails(&["save", "ap", "-o", "x.tar"]).err.contains("perhaps \"app\""));
    world.ok(&["save", "app", "-o", "app.tar"]);
    world.ok(&["save", "app", "-o", "again.tar"]);
    let folder = &world.folder;
    assert_eq!(fs::read(folder.join("app.tar")).unwrap(), fs::read(folder.join("again.tar")).unwrap(), "the same bytes");
    let shown: serde_json::Value = serde_json::from_str(&ok(&["skopeo", "inspect", "oci-archive:app.tar"], folder)).unwrap();
    let own: serde_json::Value = serde_json::from_str(&world.ok(&["image", "inspect", "app"])).unwrap();
    assert_eq!(shown["Digest"], own["digest"]);
    assert_eq!((shown["Labels"]["l"].as_str(), own["config"]["config"]["Cmd"][1].as_str()), (Some("v"), Some("/app/hard")));
    ok(&["mkdir", "layout"], folder);
    ok(&["tar", "-xf", "app.tar", "-C", "layout"], folder);
    ok(&["umoci", "unpack", "--image", "layout:app", "unpacked"], folder);
    let root = folder.join("unpacked/rootfs");
    assert_eq!(fs::read_to_string(root.join("app/hard")).unwrap(), "content\n");
    assert!(!root.join("etc/motd").exists(), "what a command deleted is deleted");
    let storage = std::path::PathBuf::from(format!("/tmp/stead-load-{}", std::process::id()));
    let at = |name: &str| storage.join(name).display().to_string();
    let (stored, running) = (at("root"), at("run"));
    let base = ["podman", "--root", &stored, "--runroot", &running, "--storage-driver", "overlay"];
    let loaded = tool(&[&base[..], &["load", "-i", "app.tar"]].concat(), folder);
    let listed = tool(&[&base[..], &["images", "--format", "{{.Repository}}"]].concat(), folder);
    let _ = tool(&["sh", "-c", &format!("umount -R {0}/root/overlay 2>/dev/null; rm -rf {0}", storage.display())], folder);
    assert!(loaded.status.success(), "{loaded:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("app"), "{listed:?}");
}

#[test]
fn history_and_differences_are_told() {
    if !is_root() {
        return;
    }
    // The shared store may already have what an earlier run built.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let world = World::new(
        "look",
        &format!(
            "image \"one\" {{ from \"base\"; copy \"a\" to=\"/a\"; run \"echo x > /x\"; }}\nimage \"two\" {{ from \"one\"; run \"echo yy > /x; rm /a; touch /new\"; env Z=\"{now}\"; }}"
        ),
    );
    world.write("a", "a");
    assert!(world.fails(&["image", "history", "two"]).err.contains("not built"));
    world.ok(&["build"]);
    let history: serde_json::Value = serde_json::from_str(&world.ok(&["image", "history", "one", "--json"])).unwrap();
    let steps: Vec<&str> = history["layers"].as_array().unwrap().iter().map(|layer| layer["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["of its base", "copy a to /a", "run echo x > /x"]);
    let told = world.ok(&["image", "diff", "one", "two"]);
    assert_eq!(told.lines().collect::<Vec<_>>(), ["- /a 1 B", "+ /new 0 B", "~ /x 2 B → 3 B"]);
    assert!(world.run(&["image", "diff", "one", "one"]).err.contains("same files"));
    let packages = world.ok(&["image", "diff", "one", "base"]);
    assert!(!packages.contains("package"), "{packages}");
}

#[test]
fn bills_of_materials_name_what_the_lock_names() {
    if !is_root() {
        return;
    }
    let world = World::new("bill", "");
    world.ok(&["build"]);
    let read = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&world.ok(args)).unwrap() };
    let spdx = read(&["image", "sbom", "base"]);
    let cyclonedx = read(&["image", "sbom", "base", "--format", "cyclonedx"]);
    let provenance = read(&["image", "provenance", "base"]);
    let own = read(&["image", "inspect", "base"])["digest"].as_str().unwrap().to_owned();
    assert_eq!(spdx["packages"][0]["versionInfo"].as_str(), Some(own.as_str()));
    assert_eq!(provenance["subject"][0]["digest"]["sha256"].as_str(), own.strip_prefix("sha256:"));
    let lock = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    let packages = spdx["packages"].as_array().unwrap();
    assert!(packages.len() > 60 && cyclonedx["components"].as_array().unwrap().len() == packages.len() - 1);
    for package in &packages[1..] {
        let digest = package["checksums"][0]["checksumValue"].as_str().unwrap_or_else(|| panic!("{package}"));
        assert!(lock.contains(digest), "{package}");
    }
    let materials = provenance["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    assert!(materials.iter().any(|one| one["uri"].as_str().unwrap().starts_with("pkg:deb/debian/python3@")), "{provenance}");
    assert_eq!(spdx, read(&["image", "sbom", "base"]), "the same image, the same text");
}

#[test]
fn names_that_are_none_are_told_with_what_is_wrong_and_what_was_meant() {
    if !is_root() {
        return;
    }
    let world = World::new("wrong-names", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    world.ok(&["up"]);
    for (words, told) in [
        (
            &["commit", "c", "a name:1"][..],
            &["\"a name:1\"", "not a blank", "perhaps \"a-name-1\"", "stead tag wrong-names/NAME"][..],
        ),
        (&["commit", "c", "Patched"], &["not 'P'", "perhaps \"patched\""]),
        (&["tag", "base", "a name:1"], &["it has a blank", "perhaps \"a-name:1\""]),
        (&["tag", "base", "shop/web&api"], &["not '&'", "perhaps \"shop/web-api\""]),
        (&["pull", " redis:7"], &["it has a blank", "perhaps \"redis:7\""]),
    ] {
        let ran = world.fails(words);
        assert!(told.iter().all(|told| ran.err.contains(told)), "{words:?}: {}", ran.err);
        assert_eq!(ran.code, 2, "{words:?}: a wrong word is a wrong command line");
    }
    world.ok(&["commit", "c", "patched"]);
    world.ok(&["down"]);
}

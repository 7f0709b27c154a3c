//! Sealed environments: a project with all its bytes in one file.

use crate::registries::{possible, skopeo};
use crate::world::World;
use serde_json::json;
use std::path::Path;
use std::process::Command;

#[test]
fn a_bundle_comes_up_without_a_network() {
    if !possible() {
        return;
    }
    let world = World::new(
        "sealed",
        "image \"app\" { from \"base\"; copy \"text\" to=\"/text\"; copy \"tree/\" to=\"/tree\"; run \"cat /text > /made\"; cmd \"sleep\" \"1000\"; }\nconfig \"motd\" file=\"motd\"\nsecret \"token\" file=\"token\"\ncontainer \"app\" { image \"app\"; config \"motd\" to=\"/motd\"; secret \"token\"; }\nimage \"docked\" { dockerfile \"ctx/Dockerfile\" }\ncontainer \"docked\" { image \"docked\"; cmd \"sleep\" \"1000\" }\n",
    );
    // Names of one file, and a FIFO: what a Dockerfile copies depends on them.
    world.write("ctx/Dockerfile", "FROM base\nCOPY . /d\nRUN stat -c '%h %F' /d/a /d/sub/b /d/pipe > /told\n");
    world.write("ctx/a", "one file");
    world.write("ctx/sub/x", "");
    std::fs::hard_link(world.folder.join("ctx/a"), world.folder.join("ctx/sub/b")).unwrap();
    assert!(Command::new("mkfifo").arg(world.folder.join("ctx/pipe")).status().unwrap().success());
    world.write("text", "sealed");
    world.write("motd", "hello");
    world.write("token", "never to be seen");
    let long = format!("tree/{}/{}", "d".repeat(90), "f".repeat(90));
    world.write(&long, "far");
    std::os::unix::fs::symlink(format!("{}/{}", "d".repeat(90), "f".repeat(90)), world.folder.join("tree/link")).unwrap();
    std::fs::create_dir_all(world.folder.join("tree/empty")).unwrap();
    let file = tempfile::tempdir().unwrap();
    let bundle = file.path().join("shop.stead");
    let told = world.run(&["bundle", bundle.to_str().unwrap()]);
    assert!(told.code == 0 && told.err.contains("left out: the secret token"), "{}", told.err);
    let bytes = std::fs::read(&bundle).unwrap();
    assert!(!bytes.windows(16).any(|part| part == b"never to be seen"));
    // Another tool finds the images in it.
    skopeo(&["inspect", &format!("oci-archive:{}:app", bundle.display())]);
    let there = crate::registries::world("sealed-there", "");
    let bundle = bundle.to_str().unwrap();
    let unshared = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        let program = there.command(arguments);
        command.arg("--net").arg(program.get_program()).args(program.get_args()).current_dir(&there.folder);
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        crate::world::Ran::from(command.output().unwrap())
    };
    // Secrets are read from files beside the bundle.
    let beside = file.path().join("token");
    std::fs::write(&beside, "told here").unwrap();
    let built = unshared(&["-f", bundle, "build", "--offline", "--frozen"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(!built.err.contains("built app"), "nothing is built again: {}", built.err);
    assert!(!built.err.contains("RUN stat") && !built.err.contains("docked:"), "nothing is built again: {}", built.err);
    let up = there.run(&["-f", bundle, "up", "--offline", "--frozen"]);
    assert_eq!(up.code, 0, "{}", up.err);
    let read = ["-f", bundle, "exec", "app", "cat", "/made", "/motd", "/tree/link", "/run/secrets/token"];
    assert_eq!(there.ok(&read), "sealedhellofartold here");
    let told = there.ok(&["-f", bundle, "exec", "docked", "cat", "/told"]);
    assert_eq!(told, "2 regular file\n2 regular file\n1 fifo\n");
    // Results that came with the bundle are used only for its own project.
    let own = std::fs::read_dir(there.root.join("store/results-2")).unwrap().count();
    assert!(own < 8, "{own} results in the store");
    there.ok(&["-f", bundle, "down"]);
    std::fs::write(file.path().join("half.stead"), &bytes[..bytes.len() / 2]).unwrap();
    let half = there.fails(&["-f", file.path().join("half.stead").to_str().unwrap(), "up"]);
    assert!(half.err.contains("half.stead"), "{}", half.err);
}

#[test]
fn a_hostile_bundle_writes_nothing_outside() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let world = crate::registries::world("hostile-bundle", "");
    let bundle = folder.path().join("x.stead");
    let make = |secrets: &[&str], entries: &[(&str, tar::EntryType, &Path)]| {
        let mut archive = tar::Builder::new(std::fs::File::create(&bundle).unwrap());
        let mut add = |name: &str, kind: tar::EntryType, link: Option<&Path>, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            match link {
                Some(link) => archive.append_link(&mut header, name, link).unwrap(),
                None => archive.append_data(&mut header, name, bytes).unwrap(),
            }
        };
        let label = json!({ "version": 1, "file": "stead.kdl", "project": "x", "images": {}, "secrets": secrets });
        add("stead/bundle.json", tar::EntryType::Regular, None, label.to_string().as_bytes());
        add("stead/project/stead.kdl", tar::EntryType::Regular, None, b"project \"x\"\n");
        for (name, kind, link) in entries {
            add(name, *kind, kind.is_symlink().then_some(*link), b"");
        }
        archive.finish().unwrap();
    };
    let check = || world.run(&["-f", bundle.to_str().unwrap(), "check"]);
    let link = tar::EntryType::Symlink;
    make(&[], &[]);
    assert_eq!(check().code, 0, "{}", check().err);
    let through = [("stead/project/a", link, outside.as_path()), ("stead/project/a/evil", link, Path::new("/etc/passwd"))];
    make(&[], &through);
    assert!(check().err.contains("leads through the link"), "{}", check().err);
    let deep = [through[0], ("stead/project/a/new/evil", link, Path::new("x"))];
    make(&[], &deep);
    assert!(check().err.contains("leads through the link"));
    // The path of a secret is resolved as if the project were the whole file system.
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/key"), "taken").unwrap();
    make(&["a/key"], &through[..1]);
    check();
    let result = format!("stead/results-2/{}", "0".repeat(64));
    make(&[], &[(&result, link, Path::new("/etc/passwd"))]);
    assert!(check().err.contains("damaged"));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

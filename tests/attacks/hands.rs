//! Mistakes of our own: what runs keeps the files that it runs from, and nothing of the host or of another project is touched.

use crate::ground::{SLEEP, ground, is_root};
use std::fs;

#[test]
fn what_runs_keeps_its_layers_wherever_its_folder_goes() {
    if !is_root() {
        return;
    }
    let world = ground(
        "renamed",
        &[],
        &format!(
            r#"
image "other" {{ copy "extra/" to="/"; }}
container "c" {{ image "box"; mount image="other" to="/other"; {SLEEP}; }}
"#
        ),
    );
    world.write("extra/file", &format!("of another image {}", std::process::id()));
    world.ok(&["up"]);
    let (here, away) = (world.folder.clone(), world.folder.with_file_name("away"));
    let _ = fs::remove_dir_all(&away);
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    for _ in 0..2 {
        // An empty directory in the project's place is not a project, and `gc` runs in it.
        world.run(&["gc"]);
    }
    fs::remove_dir(&here).unwrap();
    // Now there is nothing at all in the project's place.
    let gone = std::process::Command::new(crate::world::stead())
        .arg("gc")
        .current_dir("/")
        .env("STEAD_ROOT", &world.root)
        .output()
        .unwrap();
    assert!(gone.status.success(), "{gone:?}");
    fs::rename(&away, &here).unwrap();
    assert_eq!(world.exec("c", "busybox echo still; cat /other/file | head -c 16"), "still\nof another image");
}

#[test]
fn a_damaged_root_or_lease_collects_nothing() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-root", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    // This world has a store of its own, because damage affects everybody who uses the store.
    fs::remove_file(world.root.join("store")).unwrap();
    world.ok(&["up"]);
    let root = fs::read_dir(world.root.join("store/roots")).unwrap().flatten().next().unwrap().path();
    let whole = fs::read(&root).unwrap();
    let layers = || fs::read_dir(world.root.join("store/layers")).unwrap().count();
    let before = layers();
    for damaged in [&whole[..whole.len() / 2], b"", b"[]"] {
        fs::write(&root, damaged).unwrap();
        let ran = world.fails(&["gc"]);
        assert!(ran.err.contains("damaged") && ran.err.contains("stead up"), "{ran:?}");
        assert_eq!(layers(), before);
    }
    fs::write(&root, &whole).unwrap();
    world.ok(&["gc"]);
    assert_eq!(world.exec("c", "echo here"), "here");
}

#[test]
fn a_file_saved_during_a_build_ends_nothing_that_runs() {
    if !is_root() {
        return;
    }
    let world = ground(
        "saved",
        &[],
        r#"
image "s" { from "box"; copy "g" to="/g"; run "sleep 2"; copy "f" to="/f"; }
container "s" { image "s"; init #true; stop-grace "50ms"; cmd "sh" "-c" "cat /g /f > /seen; sleep 1000"; }
"#,
    );
    let nonce = std::process::id();
    world.write("f", "f1 ");
    world.write("g", &format!("{nonce} g1 "));
    world.ok(&["up"]);
    for round in 2..4 {
        // The file is saved once before it is copied, and once after.
        world.write("g", &format!("{nonce} g{round} "));
        let up = world.spawn(&["up"]);
        std::thread::sleep(std::time::Duration::from_millis(if round == 2 { 900 } else { 2600 }));
        world.write("f", &format!("f{round} "));
        let ended = crate::world::Ran::from(up.wait_with_output().unwrap());
        let seen = world.exec("s", "cat /seen");
        let (old, new) = (format!("f{} ", round - 1), format!("f{round} "));
        let honest = ended.code == 0 && (seen.contains(&old.trim_end().to_owned()) || seen.contains(new.trim_end()));
        let refused = ended.code != 0 && ended.err.contains("changed while it was copied");
        assert!(honest || refused, "{ended:?} {seen}");
        assert_eq!(world.container("s-1")["state"], "running", "{ended:?}");
        world.ok(&["up"]);
        assert!(world.exec("s", "cat /seen").contains(new.trim_end()));
    }
}

/// The path of an instance's file in the installation's state.
fn own_file(world: &crate::world::World, name: &str) -> std::path::PathBuf {
    let instance = fs::read_dir(world.root.join("state/instances")).unwrap().flatten().next().unwrap().path();
    instance.join(name)
}

#[test]
fn a_damaged_record_ends_nothing() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-record", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    let record = own_file(&world, "record.json");
    let whole = fs::read(&record).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"null", b"\xff\xfe"] {
        fs::write(&record, damaged).unwrap();
        for words in [&["up"][..], &["down"], &["stop", "c"], &["scale", "c=2"], &["rm", "-f", "c"]] {
            let ran = world.fails(words);
            assert!(crate::world::alive(pid), "{words:?} ended it: {ran:?}");
        }
        assert!(world.fails(&["up"]).err.contains("record.json is damaged"));
    }
    fs::write(&record, &whole).unwrap();
    assert!(world.run(&["up"]).err.contains("nothing to do"));
    assert_eq!(world.pid("c-1"), pid);
}

#[test]
fn a_damaged_description_gives_no_more_rights() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-spec", &[], &format!(r#"container "c" {{ image "box"; user "nobody"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "id -u"), "65534");
    let instance = own_file(&world, "").file_name().unwrap().to_owned();
    let folder = world.root.join("run").join(instance).join("c-1");
    let spec = folder.join("spec.json");
    let whole = fs::read(&spec).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}"] {
        fs::write(&spec, damaged).unwrap();
        let ran = world.fails(&["exec", "-T", "c", "id", "-u"]);
        assert!(ran.out.is_empty() && ran.err.contains("spec.json is damaged"), "{ran:?}");
    }
    fs::write(&spec, &whole).unwrap();
    assert_eq!(world.exec("c", "id -u"), "65534");
    // A running container is not replaced because its status cannot be read.
    let pid = world.pid("c-1");
    fs::write(folder.join("status.json"), "{").unwrap();
    let ran = world.run(&["up"]);
    assert!(crate::world::alive(pid), "{ran:?}");
}

#[test]
fn damaged_names_are_not_written_back_as_none() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-names", &[], "");
    world.ok(&["build"]);
    world.ok(&["tag", "box", "here/one:1"]);
    let names = world.root.join("state/names.json");
    let whole = fs::read(&names).unwrap();
    fs::write(&names, &whole[..whole.len() / 2]).unwrap();
    let ran = world.fails(&["tag", "box", "here/two:1"]);
    assert!(ran.err.contains("names.json is damaged"), "{ran:?}");
    assert_eq!(fs::read(&names).unwrap(), &whole[..whole.len() / 2]);
}

/// When another project's record is damaged, its images are not looked up in a registry instead.
#[test]
fn what_cannot_be_read_is_not_looked_for_elsewhere() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-other", &[], "");
    world.ok(&["build"]);
    let other = world.folder.with_file_name("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("stead.kdl"), "project \"other\"\nimage \"o\" { from \"damaged-other/box\"; }\n").unwrap();
    let build = || {
        let run = std::process::Command::new(crate::world::stead());
        let mut run = run;
        run.args(["-C".as_ref(), other.as_os_str(), "build".as_ref()]).env("STEAD_ROOT", &world.root).env("NO_COLOR", "1");
        run.output().unwrap()
    };
    let record = own_file(&world, "record.json");
    let whole = fs::read(&record).unwrap();
    for damaged in [&whole[..whole.len() / 2], b""] {
        fs::write(&record, damaged).unwrap();
        let ran = build();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains("record.json is damaged"), "{said}");
        for words in [&["images"][..], &["ps", "--projects"], &["metrics"], &["ps"], &["logs"]] {
            let ran = world.fails(words);
            assert!(ran.err.contains("record.json is damaged"), "{words:?}: {ran:?}");
        }
    }
    fs::write(&record, &whole).unwrap();
    assert!(build().status.success());
    // The same holds when the image itself is damaged.
    fs::remove_file(other.join("stead.lock")).unwrap();
    let images = fs::read_dir(world.root.join("store/images")).unwrap().map(|entry| entry.unwrap().path());
    let images: Vec<_> = images.map(|path| (fs::read(&path).unwrap(), path)).collect();
    images.iter().for_each(|(_, path)| fs::write(path, "{").unwrap());
    let ran = build();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("not whole in the store"), "{said}");
    images.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    assert!(build().status.success());
    let names = world.root.join("state/names.json");
    fs::write(&names, "[").unwrap();
    assert!(world.fails(&["images"]).err.contains("names.json is damaged"));
    fs::remove_file(&names).unwrap();
}

/// A directory that cannot be listed does not count as one in which nothing runs.
#[test]
fn a_folder_that_cannot_be_listed_is_not_empty() {
    if !is_root() {
        return;
    }
    let world = ground("unlisted", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    let instance = own_file(&world, "").file_name().unwrap().to_owned();
    let folder = world.root.join("run").join(instance);
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    for words in [&["up"][..], &["down"], &["ps"]] {
        let ran = world.fails(words);
        assert!(crate::world::alive(pid), "{words:?} ended it: {ran:?}");
    }
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert_eq!(world.exec("c", "echo here"), "here");
}

/// A lock file that was emptied or truncated is refused. As a lock that pins nothing, it would let versions move.
#[test]
fn an_empty_lock_moves_nothing() {
    if !is_root() {
        return;
    }
    let world = ground("empty-lock", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let pid = world.pid("c-1");
    for damaged in ["", "\n", "// Written by stead; commit it.\n", "suite \"bookworm\" {\n}\n"] {
        world.write("stead.lock", damaged);
        for words in [&["up"][..], &["build"], &["run", "-T", "c", "true"], &["plan"]] {
            let ran = world.fails(words);
            assert!(ran.err.contains("stead.lock:1: ") && ran.err.contains("restore it from git"), "{words:?}: {ran:?}");
        }
        assert!(crate::world::alive(pid));
        assert_eq!(fs::read_to_string(world.folder.join("stead.lock")).unwrap(), damaged);
    }
    fs::remove_file(world.folder.join("stead.lock")).unwrap();
    assert!(world.run(&["up"]).err.contains("nothing to do"));
}

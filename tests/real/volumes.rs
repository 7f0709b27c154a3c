//! `stead volume`: snapshots, restores, copies, archives, and what is refused.

use crate::world::{SmallDisk, World, is_root, tell_skipped};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROJECT: &str = r#"
volume "data"
container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; mount volume="data" to="/data"; }
"#;

/// Files of every kind that a volume may have.
const FILES: &str = "cd /data && echo one > a && ln a twin && ln -s a soft && chown -h 5:6 soft && mkdir -m 2751 d && \
    echo x > d/f && chown 7:8 d/f && chmod 4711 d/f && mkfifo p && truncate -s 8M hole && echo end >> hole && chmod 1777 .";

/// Kinds, modes, owners, numbers of names, times, targets of links, and contents.
const FACTS: &str = "cd /data && find . -printf '%p %y %m %U:%G %n %T@ %l\\n' | sort && sha256sum a hole d/f";

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The names in the volumes' directory, whatever they are.
fn names(world: &World) -> Vec<String> {
    let instance = fs::read_dir(world.root.join("state/volumes")).unwrap().flatten().next().unwrap();
    let entries = fs::read_dir(instance.path()).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_gives_back_everything_and_what_is_used_is_not_deleted() {
    if !is_root() {
        return;
    }
    let world = World::new("volume-snapshots", PROJECT);
    world.ok(&["up"]);
    world.exec("c", FILES);
    let before = world.exec("c", FACTS);
    assert_eq!(world.ok(&["volume", "snapshot", "data", "before"]), "before\n");
    assert!(world.fails(&["volume", "snapshot", "data", "before"]).err.contains("already"));
    assert_eq!(world.fails(&["volume", "snapshot", "data", "../x"]).code, 2);
    let pid = world.pid("c-1");
    world.exec("c", "cd /data && rm -rf d a && echo two > twin && echo new > new");
    let second = world.ok(&["volume", "snapshot", "data"]);
    assert!(second.trim().len() >= 19 && second.contains('T') && !second.contains(':'), "{second}");
    assert_eq!((world.container("c-1")["state"].as_str(), world.pid("c-1")), (Some("running"), pid), "it goes on");

    let listed = json(&world.ok(&["volume", "ls", "--json"]));
    let row = &listed["volumes"][0];
    assert_eq!((row["name"].as_str(), row["snapshots"].as_u64()), (Some("data"), Some(2)), "{listed}");
    assert_eq!(row["used_by"], serde_json::json!(["c-1"]));
    assert!(row["size"].as_u64().is_some_and(|size| (4096..4 << 20).contains(&size)), "holes do not count: {row}");
    let table = world.ok(&["volume", "ls", "--all"]);
    assert!(table.contains("volume-snapshots") && table.contains(&world.folder.display().to_string()), "{table}");
    let table = world.ok(&["volume", "ls", "--snapshots"]);
    assert!(table.lines().count() == 3 && table.contains("before"), "{table}");
    let told = json(&world.ok(&["volume", "inspect", "data"]));
    assert!(told["snapshots"][0]["name"] == "before" && told["used_by"][0]["running"] == true, "{told}");

    let refused = world.fails(&["volume", "restore", "data", "before"]);
    assert!(refused.err.contains("c-1") && refused.err.contains("--stop"), "{}", refused.err);
    assert!(world.fails(&["volume", "restore", "data", "befor"]).err.contains("perhaps \"before\""));
    assert_eq!(world.exec("c", "cat /data/new"), "new");
    world.ok(&["volume", "restore", "data", "before", "--stop"]);
    assert_eq!(world.container("c-1")["state"], "exited");
    world.ok(&["up"]);
    assert_eq!(world.exec("c", FACTS), before);
    let kibibytes: u64 = world.exec("c", "du -k /data/hole | cut -f 1").parse().unwrap();
    assert!(kibibytes < 1024, "a hole was filled: {kibibytes} KiB");
    assert_eq!(names(&world), ["data"], "something is left");

    let refused = world.fails(&["volume", "rm", "data"]);
    assert!(refused.err.contains("c-1") && refused.err.contains("stead down"), "{}", refused.err);
    assert!(world.fails(&["volume", "rm", "dta"]).err.contains("perhaps \"data\""));
    world.ok(&["stop", "c"]);
    assert!(world.fails(&["volume", "rm", "data"]).err.contains("c-1"), "a stopped container mounts it, too");
    world.ok(&["down"]);
    assert!(world.run(&["volume", "rm", "data"]).err.contains("2 snapshots are kept"));
    assert_eq!(world.ok(&["volume", "ls"]), "");
    world.ok(&["volume", "restore", "data", "before"]);
    world.ok(&["volume", "snapshot", "data", second.trim(), "--delete"]);
    assert!(!world.ok(&["volume", "ls", "--snapshots"]).contains(second.trim()));
    world.ok(&["up"]);
    assert_eq!(world.exec("c", FACTS), before, "a volume that was deleted");
    world.ok(&["down", "--volumes"]);
    assert_eq!(world.ok(&["volume", "ls", "--snapshots"]), "", "the snapshots go with the volumes");
}

#[test]
fn an_archive_of_a_volume_makes_the_same_volume() {
    if !is_root() {
        return;
    }
    let world = World::new("volume-archives", PROJECT);
    world.ok(&["up"]);
    world.exec("c", FILES);
    world.ok(&["volume", "export", "data", "-o", "data.tar"]);
    world.ok(&["volume", "import", "copy", "data.tar"]);
    world.ok(&["volume", "export", "copy", "-o", "copy.tar"]);
    let read = |file: &str| fs::read(world.folder.join(file)).unwrap();
    assert!(read("data.tar") == read("copy.tar"), "the archives differ");
    let piped = |name: &str| {
        let archive = fs::File::open(world.folder.join("data.tar")).unwrap();
        let ran = world.command(&["volume", "import", name]).stdin(archive).stderr(Stdio::piped()).output().unwrap();
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    assert!(piped("piped").0);
    let (done, told) = piped("copy");
    assert!(!done && told.contains("not empty") && told.contains("--replace"), "{told}");
    assert!(world.fails(&["volume", "import", "data", "data.tar", "--replace"]).err.contains("c-1"), "it is in use");
    fs::write(world.folder.join("broken.tar"), &read("data.tar")[..3000]).unwrap();
    world.fails(&["volume", "import", "copy", "broken.tar", "--replace"]);
    world.fails(&["volume", "import", "fresh", "broken.tar"]);
    world.write("dump.sql", "CREATE TABLE t (a int);\n");
    for name in ["copy", "fresh"] {
        let told = world.fails(&["volume", "import", name, "dump.sql", "--replace"]).err;
        assert!(told.contains(&format!("cannot import the volume {name}\n")), "{told}");
        assert!(told.contains("what is given is no tar archive"), "{told}");
        assert!(told.contains("stead volume export"), "{told}");
    }
    world.ok(&["volume", "export", "copy", "-o", "copy.tar"]);
    assert!(read("data.tar") == read("copy.tar"), "a failed import changed something");
    assert_eq!(world.ok(&["volume", "clone", "data", "other"]), "other\n");
    assert!(world.fails(&["volume", "clone", "data", "other"]).err.contains("already"));
    world.ok(&["volume", "export", "other", "-o", "other.tar"]);
    assert!(read("data.tar") == read("other.tar"), "the clone differs");
    assert_eq!(names(&world), ["copy", "data", "other", "piped"]);
    world.ok(&["down"]);
    world.ok(&["volume", "import", "data", "data.tar", "--replace"]);
    let asked = world.fails(&["volume", "prune"]);
    assert!(asked.err.contains("--yes") && asked.out.contains("copy") && !asked.out.contains("data"), "{asked:?}");
    assert_eq!(names(&world).len(), 4, "nobody was asked");
    world.ok(&["volume", "prune", "--yes"]);
    assert_eq!(names(&world), ["data"], "the project file has it");
}

#[test]
fn a_snapshot_on_a_full_disk_leaves_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new("volume-full-disk", PROJECT);
    let disk = SmallDisk::below(&world.root, &["state"]);
    world.ok(&["up"]);
    world.exec("c", "echo before > /data/small && sync");
    world.ok(&["volume", "snapshot", "data", "old"]);
    world.exec("c", "head -c 13M /dev/urandom > /data/big && sync");
    let before = world.exec("c", "sha256sum /data/big");
    let refused = world.fails(&["volume", "snapshot", "data", "x"]);
    assert!(refused.err.contains("the disk is full") && refused.err.contains("/big"), "{}", refused.err);
    assert!(refused.err.contains(&world.root.join("state").display().to_string()), "the disk is named: {}", refused.err);
    world.fails(&["volume", "clone", "data", "other"]);
    let snapshots = fs::read_dir(world.root.join("state/snapshots")).unwrap().flatten().next().unwrap().path();
    let left = |folder: &Path| -> Vec<String> {
        fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    assert_eq!(left(&snapshots.join("data")), ["old"], "a part of a snapshot is left, or an old one is gone");
    assert!(world.ok(&["volume", "ls", "--snapshots"]).contains("old"));
    assert_eq!(names(&world), ["data"]);
    assert_eq!(world.exec("c", "sha256sum /data/big"), before, "it goes on");
    world.ok(&["volume", "restore", "data", "old", "--stop"]);
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "cat /data/small; ls /data"), "before\nsmall");
    world.ok(&["down"]);
    drop(disk);
}

/// A file system that is mounted until the test ends.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a new file system whose files can share blocks; `None`, with the reason, if that is impossible here.
    fn sharing(image: &Path, place: &Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        let mut reasons = Vec::new();
        for make in ["mkfs.btrfs -q -f", "mkfs.xfs -q -f"] {
            let line = format!("{make} {0} && mount -o loop {0} {1}", image.display(), place.display());
            let ran = Command::new("sh").args(["-c", &line]).output().unwrap();
            if ran.status.success() {
                return Some(Self(place.to_owned()));
            }
            reasons.push(String::from_utf8_lossy(&ran.stderr).trim().to_owned());
        }
        tell_skipped(&format!("no file system here shares blocks between files: {}", reasons.join("; ")));
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_snapshot_shares_its_bytes_where_the_file_system_can() {
    if !is_root() {
        return;
    }
    let world = World::new("volume-shared", PROJECT);
    let Some(disk) = Mounted::sharing(&world.root.join("disk"), &world.root.join("state")) else { return };
    world.ok(&["up"]);
    world.exec("c", "head -c 4M /dev/urandom > /data/big && echo small > /data/small");
    let before = world.exec("c", "sha256sum /data/big /data/small");
    let made = world.run(&["volume", "snapshot", "data", "x"]);
    assert!(made.code == 0 && made.err.contains("cloned 4 MiB in "), "{}", made.err);
    world.exec("c", "echo more >> /data/big; echo else > /data/small");
    let restored = world.run(&["volume", "restore", "data", "x", "--stop"]);
    assert!(restored.code == 0 && restored.err.contains("cloned"), "{}", restored.err);
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "sha256sum /data/big /data/small"), before);
    world.ok(&["down", "--volumes"]);
    drop(disk);
}

/// A project that needs nothing of a store: its image is busybox, and its job adds a line to a volume.
const OWN: &str = r#"project "p"
image "made" { copy "app" to="/app"; }
volume "data"
volume "other"
job "seed" { image "made"; cmd "/app/busybox" "sh" "-c" "echo seeded >> /data/log"; mount volume="data" to="/data"; }
container "c" { image "made"; stop-grace "100ms"; cmd "/app/busybox" "sleep" "1000"; env A="1"; depends-on "seed"
    mount volume="data" to="/data"; mount volume="other" to="/other"; }
"#;

fn own(name: &str) -> World {
    let world = World::bare(name, OWN);
    fs::remove_file(world.root.join("store")).unwrap();
    fs::create_dir_all(world.folder.join("app")).unwrap();
    fs::write(world.folder.join("app/busybox"), fs::read("/bin/busybox").unwrap()).unwrap();
    fs::set_permissions(world.folder.join("app/busybox"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world
}

fn inside(world: &World, script: &str) -> String {
    world.ok(&["exec", "-T", "c", "/app/busybox", "sh", "-c", script]).trim().to_owned()
}

#[test]
fn data_goes_back_and_forward_with_its_generation() {
    if !is_root() {
        return;
    }
    let world = own("volume-generations");
    let Some(disk) = Mounted::sharing(&world.root.join("disk"), &world.root.join("state")) else { return };
    let see = || inside(&world, "/app/busybox cat /data/a /other/a /data/log; echo $A");
    let write = |text: &str| drop(inside(&world, &format!("echo {text} > /data/a; echo {text} > /other/a")));
    world.ok(&["up"]);
    write("one");
    world.edit("env A=\"1\"", "env A=\"2\"");
    world.ok(&["up"]);
    assert_eq!(see(), "one\none\nseeded\n2", "`up` leaves data alone");
    write("two");
    assert!(world.fails(&["rollback", "--data", "2"]).err.contains("is what is up"));
    world.ok(&["rollback", "--data"]);
    assert_eq!(see(), "one\none\nseeded\n1", "the job did its work in that data already");
    write("lost");
    world.ok(&["rollback", "--data", "2"]);
    assert_eq!(see(), "two\ntwo\nseeded\n2", "and forward");
    world.ok(&["rollback", "--data", "3"]);
    assert_eq!(see(), "lost\nlost\nseeded\n1", "also what was written after going back");
    assert_eq!(world.fails(&["volume", "snapshot", "data", "generation-9"]).code, 2);
    // Killed while the volumes went back.
    let volumes = fs::read_dir(world.root.join("state/volumes")).unwrap().flatten().next().unwrap().path();
    fs::write(volumes.join(".restoring"), "2").unwrap();
    let refused = world.fails(&["up"]);
    assert!(refused.err.contains("`stead rollback --data 2` finishes it"), "{}", refused.err);
    world.ok(&["rollback", "--data", "2"]);
    assert_eq!(see(), "two\ntwo\nseeded\n2");
    // Without the data of one volume nothing is begun.
    world.ok(&["volume", "snapshot", "other", "generation-1", "--delete"]);
    let pid = world.pid("c-1");
    let refused = world.fails(&["rollback", "--data", "1"]);
    assert!(refused.err.contains("no data was kept for generation 1: the volume other"), "{}", refused.err);
    assert_eq!((world.pid("c-1"), see().as_str()), (pid, "two\ntwo\nseeded\n2"));
    assert!(world.ok(&["volume", "ls", "--snapshots"]).contains("generation-2"));
    world.ok(&["gc", "--keep", "1"]);
    assert_eq!(world.ok(&["volume", "ls", "--snapshots"]), "", "they go with their generations");
    world.ok(&["down", "--volumes"]);
    drop(disk);
}

#[test]
fn data_that_went_back_is_not_lost_if_its_generation_does_not_come_up() {
    if !is_root() {
        return;
    }
    let world = own("volume-generations-unfinished");
    let Some(disk) = Mounted::sharing(&world.root.join("disk"), &world.root.join("state")) else { return };
    let see = || inside(&world, "/app/busybox cat /data/a; echo $A");
    world.edit("env A=\"1\"", "env A=\"1\"; publish 18119 to=80");
    world.ok(&["up"]);
    inside(&world, "echo one > /data/a");
    world.edit("env A=\"1\"; publish 18119 to=80", "env A=\"2\"");
    world.ok(&["up"]);
    inside(&world, "echo two > /data/a");
    let listener = std::net::TcpListener::bind("127.0.0.1:18119").unwrap();
    for _ in 0..2 {
        let refused = world.fails(&["rollback", "--data", "1"]);
        assert!(refused.err.contains("another program has this port"), "{}", refused.err);
    }
    let refused = world.fails(&["up"]);
    assert!(refused.err.contains("`stead rollback --data 1` finishes it"), "{}", refused.err);
    // What is up by the records is not what the volumes have, so going back to it is possible, and finishes it, too.
    world.ok(&["rollback", "--data", "2"]);
    assert_eq!(see(), "two\n2");
    assert!(world.fails(&["rollback", "--data", "3"]).err.contains("is what is up"));
    world.fails(&["rollback", "--data", "1"]);
    drop(listener);
    world.ok(&["rollback", "--data", "1"]);
    assert_eq!(see(), "one\n1");
    world.ok(&["up"]);
    world.ok(&["rollback", "--data", "3"]);
    assert_eq!(see(), "two\n2");
    world.ok(&["down", "--volumes"]);
    drop(disk);
}

#[test]
fn where_files_cannot_be_cloned_data_does_not_go_back_and_that_is_told() {
    if !is_root() {
        return;
    }
    let world = own("volume-generations-told");
    let disk = SmallDisk::below(&world.root, &["state"]);
    world.ok(&["up"]);
    inside(&world, "echo one > /data/a");
    world.edit("env A=\"1\"", "env A=\"2\"");
    let up = world.run(&["up"]);
    assert!(up.code == 0 && !up.err.contains("is not kept"), "nobody has asked yet: {}", up.err);
    let pid = world.pid("c-1");
    let refused = world.fails(&["rollback", "--data"]);
    assert!(refused.err.contains("no data was kept for generation 1") && refused.err.contains("cannot clone"), "{}", refused.err);
    assert_eq!(world.pid("c-1"), pid, "nothing was stopped");
    world.ok(&["rollback"]);
    assert_eq!(inside(&world, "/app/busybox cat /data/a; echo $A"), "one\n1");
    world.ok(&["down"]);
    drop(disk);
}

//! Paths that somebody else changes while we use them: volumes, copies in and out, commits, exports, build contexts,
//! second builds.
//!
//! The containers exchange names as fast as they can. Each test checks from outside that they do, because a race that
//! does not run proves nothing.

use crate::ground::{SLEEP, canary, ground, is_root, listing, tries};
use crate::world::{World, eventually};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// The host's path of the directory to which a container writes (the upper directory of its overlay).
fn upper(world: &World, container: &str) -> PathBuf {
    let instance = fs::read_dir(world.root.join("state/instances")).unwrap().flatten().next().unwrap();
    let roots = instance.path().join("roots").join(container);
    let generation = fs::read_dir(roots).unwrap().flatten().next().unwrap();
    generation.path().join("upper")
}

fn volume(world: &World, name: &str) -> PathBuf {
    let instance = fs::read_dir(world.root.join("state/volumes")).unwrap().flatten().next().unwrap();
    instance.path().join(name)
}

/// A canary whose secret no other test has.
fn own_canary(world: &World) -> (PathBuf, String) {
    let folder = canary(world);
    let text = format!("secret of {}", world.folder.display());
    fs::write(folder.join("secret"), &text).unwrap();
    (folder, text)
}

/// Fails the test unless a path is now one thing and now another, which shows that the race runs.
fn assert_changes(path: &Path) {
    let start = Instant::now();
    let (mut links, mut others) = (0, 0);
    while links == 0 || others == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} is not exchanged: {links} {others}", path.display());
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => links += 1,
            Ok(_) => others += 1,
            Err(_) => {}
        }
    }
}

/// A file with this text, in a layer that was made after the given time.
fn layer_with(world: &World, since: SystemTime, text: &str) -> Option<PathBuf> {
    let records = fs::read_dir(world.root.join("store/layers")).unwrap().flatten();
    let new = records.filter(|entry| {
        entry.path().extension().is_some_and(|extension| extension == "json")
            && entry.metadata().is_ok_and(|metadata| metadata.modified().unwrap() >= since)
    });
    new.map(|entry| entry.path().with_extension("")).find_map(|layer| file_with(&layer, text))
}

fn file_with(folder: &Path, text: &str) -> Option<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().find_map(|entry| {
        let metadata = entry.metadata().ok()?;
        if metadata.is_dir() {
            file_with(&entry.path(), text)
        } else {
            let small = metadata.is_file() && metadata.len() < 1000;
            let holds = small && fs::read_to_string(entry.path()).is_ok_and(|found| found.contains(text));
            holds.then(|| entry.path())
        }
    })
}

/// Runs a command for at most twenty seconds; returns its exit status if it ended by itself.
fn ends(world: &World, args: &[&str]) -> Option<i32> {
    let mut child = world.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// C1: the container empties its volume, and puts a link where the next fill would write.
#[test]
fn a_volume_is_never_filled_while_a_container_has_it() {
    if !is_root() {
        return;
    }
    let project = r#"
image "seed" { copy "box/" to="/"; copy "seed/" to="/data"; env PATH="/bin"; }
volume "data"
container "a" { image "seed"; mount volume="data" to="/data"; stop-grace "50ms"; cmd "sh" "-c" "rm -rf /data/*; exec volrace /data/a /data/.gone CANARY" }
"#;
    let world = ground("volumes", &["volrace"], project);
    let (canary, _) = own_canary(&world);
    world.edit("CANARY", canary.to_str().unwrap());
    for number in 0..3000 {
        world.write(&format!("seed/a/{number}"), "of the image");
    }
    world.write("seed/a/zz-evil", "of the image");
    fs::set_permissions(world.folder.join("seed/a/zz-evil"), fs::Permissions::from_mode(0o755)).unwrap();
    world.ok(&["up"]);
    let data = volume(&world, "data");
    eventually("the volume is emptied", || fs::read_dir(&data).unwrap().count() == 0);
    let before = listing(&canary);
    world.edit("volume \"data\"", &format!("volume \"data\"\ncontainer \"b\" {{ image \"box\"; {SLEEP} }}"));
    world.ok(&["up"]);
    assert_eq!(listing(&canary), before, "the image was unpacked where the container's link led");
    // The race runs: a new directory is replaced by a link at once.
    world.exec("b", "true");
    fs::create_dir(data.join("a")).unwrap();
    eventually("the link is there", || fs::symlink_metadata(data.join("a")).is_ok_and(|metadata| metadata.is_symlink()));
    // An empty volume that no container has is filled from the image.
    world.ok(&["down"]);
    for name in ["a", ".gone"] {
        let path = data.join(name);
        if path.is_symlink() { fs::remove_file(path).unwrap() } else { fs::remove_dir_all(path).unwrap() }
    }
    world.edit(&format!("rm -rf /data/*; exec volrace /data/a /data/.gone {}", canary.display()), "sleep 1000");
    world.ok(&["up"]);
    assert_eq!(fs::read_dir(volume(&world, "data").join("a")).unwrap().count(), 3001);
    assert_eq!(listing(&canary), before);
}

/// A volume is filled from the first image that has something at its path, with all of that.
#[test]
fn a_volume_has_what_the_image_has() {
    if !is_root() {
        return;
    }
    let project = r#"
image "site" {
    copy "box/" to="/"
    env PATH="/bin"
    run "mkdir -p /var/www/sub && cd /var/www && echo text > f && ln f sub/g && mkfifo pipe && cp /bin/busybox able && capable able && chown 33:33 f . && chmod 2770 . && ln -s /etc/passwd link"
}
volume "site"
container "backup" { image "box"; mount volume="site" to="/backup"; SLEEP }
container "web" { image "site"; mount volume="site" to="/var/www"; SLEEP }
"#;
    let world = ground("copy-up", &["capable"], &project.replace("SLEEP", SLEEP));
    world.ok(&["up"]);
    let site = volume(&world, "site");
    assert!(site.join("f").exists(), "the first container that mounts it has nothing there, the second has");
    let inode = |path: &str| fs::metadata(site.join(path)).unwrap().ino();
    assert_eq!(inode("f"), inode("sub/g"));
    assert!(fs::symlink_metadata(site.join("pipe")).unwrap().file_type().is_fifo());
    let metadata = fs::metadata(&site).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (33, 33, 0o2770));
    let capability = stead::tested::sys::get_attribute(&site.join("able"), c"security.capability").unwrap();
    assert_eq!(capability.map(|value| value.len()), Some(20));
    assert_eq!(fs::read_link(site.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(world.exec("backup", "cat /backup/sub/g"), "text");
}

/// H6: links that an earlier copy brought are not followed.
#[test]
fn cp_goes_through_no_link_that_it_made_before() {
    if !is_root() {
        return;
    }
    let world = ground("copies", &[], &format!("container \"x\" {{ image \"box\"; {SLEEP} }}"));
    let (canary, _) = own_canary(&world);
    world.ok(&["up"]);
    let shown = canary.display();
    world.exec(
        "x",
        &format!("mkdir -p /srv/d/e; ln -s {shown} /srv/d/x; ln -s {shown} /srv/d/e/y; ln -s {shown}/secret /srv/d/f"),
    );
    world.ok(&["cp", "x:/srv/d/.", "backup"]);
    assert!(world.folder.join("backup/x").is_symlink());
    let before = listing(&canary);
    world.exec(
        "x",
        "cd /srv/d; rm x e/y f; mkdir x e/y; echo key > x/authorized_keys; echo key > e/y/keys; echo key > f; chmod 700 x e/y",
    );
    let second = world.run(&["cp", "x:/srv/d/.", "backup"]);
    assert_eq!(listing(&canary), before, "the second copy went through a link of the first");
    assert_eq!(second.code, 0, "{}", second.err);
    let read = |path: &str| fs::read_to_string(world.folder.join("backup").join(path)).unwrap();
    assert_eq!((read("x/authorized_keys"), read("e/y/keys"), read("f")), ("key\n".into(), "key\n".into(), "key\n".into()));
    assert_eq!(fs::symlink_metadata(world.folder.join("backup/x")).unwrap().mode() & 0o7777, 0o700);
    // Copies one file to a directory that has a link with that name.
    fs::remove_file(world.folder.join("backup/f")).unwrap();
    symlink(canary.join("secret"), world.folder.join("backup/f")).unwrap();
    world.ok(&["cp", "x:/srv/d/f", "backup"]);
    assert_eq!((listing(&canary), read("f")), (before.clone(), "key\n".into()));
    // A link that the user types as the target is followed (moby#52653).
    fs::create_dir(world.folder.join("real")).unwrap();
    symlink("real", world.folder.join("typed")).unwrap();
    world.ok(&["cp", "x:/srv/d/.", "typed"]);
    world.ok(&["cp", "x:/srv/d", "typed/"]);
    for path in ["real/f", "real/d/f", "typed/x/authorized_keys"] {
        assert!(world.folder.join(path).is_file(), "{path}");
    }
    assert!(world.folder.join("typed").is_symlink());
    assert_eq!(listing(&canary), before);
}

/// A world whose container `x` exchanges `/srv/d`, a directory, with `/srv/l`, a link to the canary.
fn exchanging(name: &str) -> (World, PathBuf, String) {
    let text = r#"container "x" { image "box"; stop-grace "50ms"; cmd "sh" "-c" "mkdir -p /srv/d; echo inside > /srv/d/inside; ln -s CANARY /srv/l; exec exchange /srv/d /srv/l" }"#;
    let world = ground(name, &["exchange"], text);
    let (canary, secret) = own_canary(&world);
    world.edit("CANARY", canary.to_str().unwrap());
    world.ok(&["up"]);
    assert_changes(&upper(&world, "x-1").join("srv/d"));
    (world, canary, secret)
}

/// H9: an export of a running container contains only what the container has.
#[test]
fn export_and_changes_follow_no_link_of_a_running_container() {
    if !is_root() {
        return;
    }
    let (world, canary, secret) = exchanging("export");
    let before = listing(&canary);
    for _ in 0..tries() {
        // A directory that disappears may make it fail, but it must not reveal anything.
        world.run(&["export", "x", "-o", "x.tar"]);
        let tar = fs::read(world.folder.join("x.tar")).unwrap_or_default();
        assert!(!tar.windows(secret.len()).any(|window| window == secret.as_bytes()), "the host's secret is in the tar");
        let changes = world.run(&["changes", "x"]).out;
        assert!(!changes.contains("/secret"), "the host's names are told: {changes}");
    }
    assert_changes(&upper(&world, "x-1").join("srv/d"));
    assert_eq!(listing(&canary), before);
    assert!(world.ok(&["changes", "x"]).contains("/srv/d"), "it told nothing at all");
}

/// A file that is saved while the container exchanges its directory with a link is written in the container or nowhere.
#[test]
fn a_sync_goes_through_no_link_that_is_exchanged_meanwhile() {
    if !is_root() {
        return;
    }
    let (world, canary, _) = exchanging("sync");
    world.write("app/secret", "0");
    world.edit("stop-grace \"50ms\";", "stop-grace \"50ms\"; watch { sync \"app/\" to=\"/srv/d\"; };");
    let before = listing(&canary);
    let mut watch = world.command(&["watch"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let root = upper(&world, "x-1").join("srv");
    let arrived = |text: &str| {
        ["d/secret", "l/secret"].iter().any(|path| fs::read_to_string(root.join(path)).is_ok_and(|found| found == text))
    };
    // The first file may meet the link each time: it is saved again until it has arrived.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    while !arrived(&number.to_string()) || number < tries() {
        assert!(Instant::now() < deadline, "nothing arrives");
        number += 1;
        world.write("app/secret", &number.to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(listing(&canary), before, "it was written behind the link");
}

/// H9: a commit of a running container contains only what the container has.
#[test]
fn commit_follows_no_link_of_a_running_container() {
    if !is_root() {
        return;
    }
    let start = SystemTime::now() - Duration::from_secs(1);
    let (world, canary, secret) = exchanging("commit");
    let before = listing(&canary);
    let mut made = 0;
    for _ in 0..tries() {
        made += usize::from(world.run(&["commit", "x", "stolen"]).code == 0);
        assert_eq!(layer_with(&world, start, &secret), None, "the host's secret is in the image");
    }
    assert!(made > tries() / 2, "only {made} commits came about");
    assert_changes(&upper(&world, "x-1").join("srv/d"));
    assert_eq!(listing(&canary), before);
}

/// Related: `commit` removes the mount points in its copy, not behind a link in it.
#[test]
fn commit_removes_nothing_behind_a_link() {
    if !is_root() {
        return;
    }
    let text = format!(
        "image \"bare\" {{ copy \"box/bin/\" to=\"/bin\"; env PATH=\"/bin\"; }}\ncontainer \"x\" {{ image \"bare\"; {SLEEP} }}"
    );
    let world = ground("commit-mounts", &[], &text);
    let (canary, _) = own_canary(&world);
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::write(canary.join(name), "the host's").unwrap();
    }
    world.ok(&["up"]);
    world.exec("x", &format!("mv /etc /old && ln -s {} /etc", canary.display()));
    assert!(upper(&world, "x-1").join("etc").is_symlink());
    let before = listing(&canary);
    let committed = world.run(&["commit", "x", "made"]);
    assert_eq!(listing(&canary), before, "files of the host were removed");
    assert_eq!(committed.code, 0, "{}", committed.err);
}

/// A container is held still while it is read as a whole, and it continues whatever happens to the reader.
#[test]
fn a_container_goes_on_when_its_reader_is_killed() {
    if !is_root() {
        return;
    }
    let text = r#"container "x" { image "box"; stop-grace "50ms"; cmd "sh" "-c" "dd if=/dev/zero of=/big bs=1M count=8; i=0; while :; do i=$((i+1)); echo $i > /n.new; mv /n.new /n; done" }"#;
    let world = ground("held", &[], text);
    world.ok(&["up"]);
    let count = || fs::read_to_string(upper(&world, "x-1").join("n")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let advances = || {
        let before = count();
        std::thread::sleep(Duration::from_millis(100));
        before.is_some() && count() != before
    };
    eventually("it counts", advances);
    // Nothing reads the rest, so the export stays in the middle.
    let mut export = world.spawn(&["export", "x"]);
    let mut out = export.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).unwrap();
    eventually("it stands still", || !advances());
    let refused = world.fails(&["exec", "-T", "x", "true"]);
    assert!(refused.err.contains("held still"), "{}", refused.err);
    export.kill().unwrap();
    export.wait().unwrap();
    eventually("it goes on", advances);
    // A container that the user paused stays paused.
    world.ok(&["pause", "x"]);
    world.ok(&["export", "x", "-o", "x.tar"]);
    assert!(!advances());
    world.ok(&["unpause", "x"]);
    eventually("it goes on", advances);
    // A container can be stopped while somebody reads it.
    let mut export = world.spawn(&["export", "x"]);
    export.stdout.as_mut().unwrap().read_exact(&mut [0; 1000]).unwrap();
    assert!(ends(&world, &["stop", "x"]).is_some(), "a reader kept the container from ending");
    export.kill().unwrap();
    export.wait().unwrap();
}

/// A world that copies `app/` into images, while a container that can write to `app/` runs a script.
fn sharing(name: &str, script: &str) -> (World, PathBuf, String) {
    let project = r#"
image "app" { copy "app/" to="/app" }
image "docker" { dockerfile "Dockerfile" }
container "w" { image "box"; mount bind="app" to="/app"; stop-grace "50ms"; cmd "sh" "-c" "SCRIPT" }
"#;
    let world = ground(name, &["exchange"], &project.replace("SCRIPT", script));
    let (canary, secret) = own_canary(&world);
    world.edit("CANARY", canary.to_str().unwrap());
    world.write("app/one", "1");
    world.write("Dockerfile", "FROM scratch\nCOPY app /app\n");
    (world, canary, secret)
}

/// M10: a directory that is copied into an image is also a writable bind mount of a container, which exchanges what is in it.
#[test]
fn copies_of_a_shared_folder_follow_no_link_of_a_container() {
    if !is_root() {
        return;
    }
    let race = "mkdir -p /app/d; echo inside > /app/d/secret; echo inside > /app/f; ln -s CANARY /app/l; ln -s ../canary/secret /app/k; \
                ln -s ../private/secret /app/p; echo inside > /app/q; \
                exchange /app/d /app/l & exchange /app/f /app/k & exec exchange /app/q /app/p";
    let (world, canary, secret) = sharing("contexts", race);
    let before = listing(&canary);
    // This file belongs to the project, but the container does not have its directory.
    let private = format!("private {secret}");
    world.write("private/secret", &private);
    let start = SystemTime::now() - Duration::from_secs(1);
    world.ok(&["up"]);
    let assert_race = || ["d", "f", "q"].iter().for_each(|name| assert_changes(&world.folder.join("app").join(name)));
    assert_race();
    let mut made = 0;
    for number in 0..tries() {
        // The new content makes each build copy again.
        world.write("app/one", &number.to_string());
        for image in ["app", "docker"] {
            made += usize::from(ends(&world, &["build", image]) == Some(0));
        }
        for text in [&secret, &private] {
            assert_eq!(layer_with(&world, start, text), None, "what no step names is in the image");
        }
    }
    println!("{made} of {} builds came about", 2 * tries());
    assert_race();
    assert_eq!(listing(&canary), before);
    // When nothing exchanges the names any more, the build works.
    world.ok(&["down"]);
    world.ok(&["build", "app"]);
}

/// Related: nothing waits for a file that a container has replaced by something else.
#[test]
fn copies_of_a_shared_folder_wait_for_no_fifo_of_a_container() {
    if !is_root() {
        return;
    }
    let race = ": CANARY; mkfifo /app/fifo; echo inside > /app/g; exec exchange /app/g /app/fifo";
    let (world, ..) = sharing("fifos", race);
    world.ok(&["up"]);
    let file = world.folder.join("app/g");
    eventually("it is exchanged", || fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.file_type().is_fifo()));
    for number in 0..tries() {
        world.write("app/one", &number.to_string());
        if ends(&world, &["build", "app"]).is_none() {
            // Otherwise the world could not be cleaned up.
            drop(world.command(&["kill", "w"]).output());
            for name in ["g", "fifo"] {
                let _ = fs::remove_file(world.folder.join("app").join(name));
            }
            panic!("a FIFO in a file's place holds the build up");
        }
    }
}

/// Related: a bundle is read from the same directory.
#[test]
fn bundles_of_a_shared_folder_hold_nothing_behind_a_link() {
    if !is_root() {
        return;
    }
    let race = "echo inside > /app/f; ln -s CANARY/secret /app/k; exec exchange /app/f /app/k";
    let (world, canary, secret) = sharing("bundles", race);
    let before = listing(&canary);
    world.ok(&["up"]);
    assert_changes(&world.folder.join("app/f"));
    let mut made = 0;
    for _ in 0..tries() {
        made += usize::from(ends(&world, &["bundle", "../x.stead"]) == Some(0));
        let bytes = fs::read(world.folder.join("../x.stead")).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the host's secret is in the bundle");
    }
    println!("{made} of {} bundles came about", tries());
    assert_changes(&world.folder.join("app/f"));
    assert_eq!(listing(&canary), before);
}

/// Links that a step names are followed inside the project, and never out of it.
#[test]
fn links_that_a_step_names_are_followed_inside_the_project() {
    if !is_root() {
        return;
    }
    let project = r#"
image "app" { from "box"; copy "current/" to="/app"; copy "latest.txt" "v1/*.txt" to="/texts/"; }
image "out" { copy "away/secret" to="/x" }
"#;
    let world = ground("named-links", &[], project);
    let (canary, _) = own_canary(&world);
    world.write("v1/deep/a", "a");
    world.write("v1/b.txt", "b");
    symlink("v1", world.folder.join("current")).unwrap();
    symlink(world.folder.join("v1/b.txt"), world.folder.join("latest.txt")).unwrap();
    symlink("/nowhere", world.folder.join("v1/dangling")).unwrap();
    symlink(&canary, world.folder.join("away")).unwrap();
    let told = world.ok(&[
        "run",
        "-T",
        "app",
        "sh",
        "-c",
        "cat /app/deep/a /app/b.txt /texts/latest.txt /texts/b.txt; readlink /app/dangling",
    ]);
    assert_eq!(told, "abbb/nowhere\n");
    assert!(world.fails(&["build", "out"]).err.contains("leads out"));
}

/// B1: a second build writes only to its private copy, whatever the project names.
#[test]
fn build_verify_touches_nothing_but_its_copy() {
    if !is_root() {
        return;
    }
    let project = r#"
secret "absolute" file="HOST/secret"
config "absolute" file="HOST/conf"
secret "beside" file="../beside/token"
secret "again" file="../project/inner/token"
config "linked" file="linked/conf"
image "made" {
    from "box"
    copy "app/" to="/app"
    run "cat /run/secrets/* > /seen" {
        mount secret="absolute" to="/run/secrets/a"
        mount secret="beside" to="/run/secrets/b"
        mount secret="again" to="/run/secrets/c"
    }
}
container "a" {
    image "made"
    secret "absolute"
    secret "beside"
    config "absolute" to="/c1"
    config "linked" to="/c2"
    env-file "HOST/env"
    env-file "../beside/env"
    SLEEP
}
"#;
    let world = ground("verify", &[], &project.replace("SLEEP", SLEEP));
    let base = world.folder.parent().unwrap().to_owned();
    let host = base.join("host");
    world.edit("HOST", host.to_str().unwrap());
    for (path, text) in
        [("host/secret", "one"), ("host/conf", "conf"), ("host/env", "A=1\n"), ("beside/token", "two"), ("beside/env", "B=2\n")]
    {
        fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
        fs::write(base.join(path), text).unwrap();
        fs::set_permissions(base.join(path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    world.write("inner/token", "three");
    world.write("app/file", "file");
    world.write("inner/conf", "conf");
    symlink("inner", world.folder.join("linked")).unwrap();
    symlink(&host, world.folder.join("app/away")).unwrap();
    let times = |folder: &Path| -> Vec<(i64, i64)> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut all: Vec<_> =
            entries.map(|entry| entry.metadata().unwrap()).map(|found| (found.ctime(), found.ctime_nsec())).collect();
        all.sort_unstable();
        all
    };
    let seen = || -> Vec<_> {
        let folders = [host.clone(), base.join("beside"), world.folder.join("inner"), world.folder.join("app")];
        folders.iter().map(|folder| (listing(folder), times(folder))).collect()
    };
    world.ok(&["build"]);
    let before = seen();
    let verified = world.run(&["build", "--verify"]);
    assert_eq!(seen(), before, "the second build's copy was made over the originals\n{}{}", verified.out, verified.err);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// Related: a file that the project names through a link in a directory that is also copied.
#[test]
fn build_verify_writes_through_no_link_of_the_project() {
    if !is_root() {
        return;
    }
    let project = r#"
secret "through" file="app/away/secret"
image "made" { from "box"; copy "app/" to="/app"; }
container "a" { image "made"; secret "through"; SLEEP }
"#;
    let world = ground("verify-links", &[], &project.replace("SLEEP", SLEEP));
    let (canary, _) = own_canary(&world);
    world.write("app/file", "file");
    symlink(&canary, world.folder.join("app/away")).unwrap();
    let before = listing(&canary);
    let refused = world.run(&["build", "--verify"]);
    assert!(refused.code == 1 && refused.err.contains("leads out of the project's directory"), "{}", refused.err);
    world.edit("app/away/secret", "app/file");
    let verified = world.run(&["build", "--verify"]);
    assert_eq!(listing(&canary), before);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    assert!(world.folder.join("app/away").is_symlink());
}

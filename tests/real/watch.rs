//! The loop: files are saved as people and tools save them, and containers have them.

use crate::world::{World, eventually, is_root};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A watch that runs, with what it says.
pub struct Watch {
    pub child: Child,
    said: PathBuf,
}

impl Watch {
    pub fn begin(world: &World) -> Self {
        let said = world.folder.with_file_name("watch.said");
        let out = fs::File::create(&said).unwrap();
        let child = world.command(&["watch"]).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let watch = Self { child, said };
        eventually("it watches", || watch.text().contains("interrupt to end"));
        watch
    }

    pub fn text(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said something since the text had this length.
    pub fn says(&self, since: usize, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.text().get(since..).unwrap_or_default().contains(what) {
            assert!(Instant::now() < deadline, "{what:?} is not in:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn length(&self) -> usize {
        self.text().len()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything below a directory: paths, and what is there.
pub fn listed(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue = vec![top.to_owned()];
    while let Some(folder) = queue.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let inside = path.strip_prefix(top).unwrap().display().to_string();
            if kind.is_dir() {
                found.push(format!("{inside}/"));
                queue.push(path);
            } else if kind.is_symlink() {
                found.push(format!("{inside} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                // It may be replaced at this moment.
                let executable = entry.metadata().is_ok_and(|found| found.mode() & 0o100 != 0);
                let text = fs::read(&path).unwrap_or_default();
                found.push(format!("{inside} {executable} {}", String::from_utf8_lossy(&text)));
            }
        }
    }
    found.sort();
    found
}

pub fn root(world: &World, replica: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", world.pid(replica)))
}

const APP: &str = r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; replicas 2; stop-grace "100ms"; cmd "sleep" "1000"; }"#;

#[test]
fn a_saved_file_is_in_its_containers_however_it_was_saved() {
    if !is_root() {
        return;
    }
    let world = World::new("watch-saves", APP);
    let at = |path: &str| world.folder.join("app").join(path);
    world.write("app/main.py", "one");
    world.write("app/lib/deep/a.py", "a");
    fs::write(world.folder.join(".steadignore"), "**/*.log\n").unwrap();
    let watch = Watch::begin(&world);
    let pids = [world.pid("c-1"), world.pid("c-2")];
    let roots = ["c-1", "c-2"].map(|replica| root(&world, replica).join("srv/app"));
    let equal = |what: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        let visible = || listed(&at("")).into_iter().filter(|line| !line.contains(".log")).collect::<Vec<_>>();
        while roots.iter().any(|root| listed(root) != visible()) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:#?}\n{:#?}\n{}",
                visible(),
                roots.each_ref().map(|root| listed(root)),
                watch.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let shell = |script: &str| {
        assert!(Command::new("sh").args(["-ec", script]).current_dir(at("")).status().unwrap().success(), "{script}");
    };
    equal("at first");
    for (what, script) in [
        ("in place", "echo two > main.py"),
        ("renamed over", "echo three > .main.tmp; mv .main.tmp main.py"),
        ("with a backup, as vim does", "mv main.py main.py~; echo four > main.py; rm main.py~"),
        ("by sed", "sed -i s/four/five/ main.py"),
        ("executable", "chmod +x main.py"),
        ("and no longer", "chmod -x main.py"),
        ("a new directory with files", "mkdir -p new/below; echo 1 > new/a; echo 2 > new/below/b; ln -s a new/link"),
        ("a link that leads elsewhere", "ln -sfn below/b new/link"),
        ("a directory that moves", "mv new moved; echo 3 > moved/below/c"),
        ("a file that becomes a directory", "rm main.py; mkdir main.py; echo x > main.py/x"),
        ("and back", "rm -r main.py; echo six > main.py"),
        ("a directory that is replaced", "rm -r lib; mkdir -p lib/deep; echo other > lib/deep/b.py"),
        ("removed", "rm -r moved"),
        ("made again at once", "rm -r lib; mkdir -p lib/deep; echo 1 > lib/deep/a.py"),
        ("and written in there", "sleep 0.05; echo 2 > lib/deep/a.py"),
        ("many at once", "mkdir many; for i in $(seq 300); do mkdir many/$i; echo $i > many/$i/f; done"),
        ("an ignored file", "echo noise > app.log; echo seven > main.py"),
        ("hard links", "ln main.py twin.py; echo eight > eight"),
        ("a name of any bytes", "printf x > \"$(printf 'a\\377b')\""),
        ("an empty file", ": > empty"),
        ("copied with its times", "cp -a main.py copy.py; cp -a lib lib2"),
    ] {
        shell(script);
        equal(what);
    }
    // vim itself, if it is there.
    if Command::new("vim").arg("--version").output().is_ok_and(|output| output.status.success()) {
        shell("vim -Nu NONE -es -c '%s/seven/nine/' -c wq main.py");
        equal("by vim, through one of two names");
    }
    let before = watch.length();
    shell("touch main.py; touch lib");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(watch.length(), before, "touch does nothing:\n{}", watch.text());
    assert_eq!([world.pid("c-1"), world.pid("c-2")], pids, "nothing is restarted");
    // The old content comes back: then the containers are as their image says.
    assert!(world.ok(&["plan"]).contains("`watch` has synced"), "{}", world.ok(&["plan"]));
}

#[test]
fn what_is_synced_keeps_owners_and_leads_nowhere_else() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-owners",
        r#"image "made" { from "base"; copy "app" to="/srv/app" owner="www-data:www-data"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/a", "1");
    world.write("app/sub/b", "1");
    let watch = Watch::begin(&world);
    let inside = root(&world, "c-1").join("srv/app");
    let has = |path: &str, text: &str| fs::read_to_string(inside.join(path)).is_ok_and(|found| found == text);
    world.exec("c", "chown 7:8 /srv/app/a; chmod 640 /srv/app/a; rm -r /srv/app/sub; ln -s /etc /srv/app/sub");
    let outside = world.folder.with_file_name("outside");
    fs::create_dir_all(&outside).unwrap();
    world.write("app/a", "2");
    eventually("the file arrives", || has("a", "2"));
    let found = fs::metadata(inside.join("a")).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (7, 8, 0o640), "it keeps its owner and permissions");
    world.write("app/new", "3");
    eventually("a new file arrives", || has("new", "3"));
    assert_eq!(fs::metadata(inside.join("new")).unwrap().uid(), 33, "a new one belongs to whom its directory belongs to");
    // The container's link leads inside its own root, and never to the host's /etc.
    world.write("app/sub/stead-test", "4");
    eventually("it is written where the container sees it", || {
        world.run(&["exec", "-T", "c", "cat", "/etc/stead-test"]).out == "4"
    });
    assert!(!Path::new("/etc/stead-test").exists());
    drop(watch);
}

#[test]
fn rules_say_what_follows() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-rules",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; run "cp -r /srv/app /srv/built"; }
volume "data"
container "c" {
    image "made"; stop-grace "2s"; init #true
    cmd "sh" "-c" "date +%s%N > /tmp/started; cat /etc/reload.conf 2>/dev/null; sleep 1000"
    mount volume="data" to="/data"
    watch {
        sync "app/" to="/srv/app"
        restart "app/settings.py"
        sync-restart "settings/" to="/etc/settings"
        sync-exec "reload.conf" to="/etc/reload.conf" { exec "sh" "-c" "cat /etc/reload.conf >> /tmp/reloads" }
        sync "assets" to="/data/assets"
        rebuild "requirements.txt"
        ignore "*.tmp" "/app/ignored/"
    }
}
container "other" { image "base"; cmd "sleep" "1000"; stop-grace "100ms"; watch { sync "only" to="/only"; include "*.txt"; } }
container "plain" { image "made"; cmd "sleep" "1000"; stop-grace "100ms"; watch "none" { }; }"#,
    );
    for (path, text) in [
        ("app/a.py", "1"),
        ("app/settings.py", "1"),
        ("settings/x", "1"),
        ("reload.conf", "1\n"),
        ("assets/logo", "1"),
        ("requirements.txt", "1"),
        ("only/a.txt", "1"),
        ("only/b.bin", "1"),
        ("app/ignored/x", "1"),
    ] {
        world.write(path, text);
    }
    let watch = Watch::begin(&world);
    let read = |container: &str, path: &str| world.run(&["exec", "-T", container, "cat", path]).out;
    // What rules keep equal is equal from the beginning.
    eventually("the first sync", || read("c", "/etc/settings/x") == "1" && read("c", "/data/assets/logo") == "1");
    // What came into it meanwhile follows.
    watch.says(0, "c-1 restarted");
    watch.says(0, "ran in c-1");
    assert_eq!(read("other", "/only/a.txt"), "1");
    assert!(read("other", "/only/b.bin").is_empty(), "it is not included");
    let (pid, image) = (world.pid("c-1"), world.container("c-1")["image_digest"].clone());
    let plain = world.pid("plain-1");
    world.write("app/a.py", "2");
    eventually("a rule takes the place of a build", || read("c", "/srv/app/a.py") == "2");
    world.write("app/ignored/x", "2");
    world.write("app/b.tmp", "2");
    world.write("app/c.py", "2");
    eventually("what is not ignored", || read("c", "/srv/app/c.py") == "2");
    assert_eq!((read("c", "/srv/app/ignored/x").as_str(), read("c", "/srv/app/b.tmp").as_str()), ("1", ""));
    assert_eq!(world.pid("c-1"), pid);
    let started = read("c", "/tmp/started");
    let before = watch.length();
    world.write("app/settings.py", "2");
    watch.says(before, "c-1 restarted");
    eventually("its process is new", || !read("c", "/tmp/started").is_empty() && read("c", "/tmp/started") != started);
    assert_eq!(
        (read("c", "/srv/app/settings.py").as_str(), read("c", "/srv/app/a.py").as_str()),
        ("2", "2"),
        "with the same files"
    );
    let before = watch.length();
    world.write("settings/y", "2");
    watch.says(before, "c-1 restarted");
    assert_eq!(read("c", "/etc/settings/y"), "2");
    world.write("reload.conf", "2\n");
    eventually("a command runs", || read("c", "/tmp/reloads").ends_with("2\n"));
    world.write("assets/logo", "2");
    eventually("a volume is written", || read("c", "/data/assets/logo") == "2");
    assert_eq!(world.container("c-1")["image_digest"], image, "nothing was built");
    assert_eq!(world.pid("plain-1"), plain, "who watches nothing is left alone");
    let text = watch.text();
    assert!(!text.contains("error"), "{text}");
    let before = watch.length();
    world.write("requirements.txt", "2");
    watch.says(before, "requirements.txt changed");
}

#[test]
fn a_build_that_fails_leaves_what_runs_and_goes_on_when_it_is_mended() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-fails",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; run "sh /srv/app/build.sh"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }
container "d" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/build.sh", "echo 1 > /built");
    let watch = Watch::begin(&world);
    let (pid, other) = (world.pid("c-1"), world.pid("d-1"));
    let before = watch.length();
    world.write("app/build.sh", "exit 7");
    watch.says(before, "exit status 7");
    assert_eq!(world.pid("c-1"), pid, "the old one stays");
    world.write("app/build.sh", "echo 2 > /built");
    eventually("it is mended", || world.run(&["exec", "-T", "c", "cat", "/built"]).out == "2\n");
    assert_eq!(world.pid("d-1"), other, "who does not use it is left alone");
    let before = watch.length();
    world.write("stead.kdl", "nonsense {");
    watch.says(before, "stead.kdl has ");
}

#[test]
fn a_rule_that_cannot_be_kept_is_told() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-wrong",
        r#"container "c" {
    image "base"; stop-grace "100ms"; cmd "sleep" "1000"
    mount bind="app" to="/srv/app"
    security { read-only #true }
    watch {
        sync "app/" to="/srv/app"
        sync "app/" to="/opt"
        restart "nosuch/file"
    }
}"#,
    );
    world.write("app/a", "1");
    let watch = Watch::begin(&world);
    let text = watch.text();
    assert!(text.contains("/srv/app in container c is a bind mount") && text.contains("[stead.kdl:"), "{text}");
    assert!(text.contains("the root of container c is read-only, and so is /opt"), "{text}");
    assert!(text.contains("nosuch/file") && text.contains("there is no such path yet"), "{text}");
    let pid = world.pid("c-1");
    world.write("app/a", "2");
    assert_eq!(world.exec("c", "cat /srv/app/a"), "2", "a bind mount needs no sync");
    let before = watch.length();
    world.write("nosuch/file", "1");
    watch.says(before, "c-1 restarted");
    assert_ne!(world.pid("c-1"), pid);
    assert_eq!(listed(&world.folder.join("app")), ["a false 2"], "the project's own files are as they were");
}

#[test]
fn a_branch_is_switched_in_one_action() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-git",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    let git = |line: &str| {
        let words = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
        let output = Command::new("git").args(words).args(line.split(' ')).current_dir(&world.folder).output().unwrap();
        assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let fill = |text: &str| {
        (0..500).for_each(|number| world.write(&format!("app/d{}/f{number}", number % 20), &format!("{text}{number}")))
    };
    git("init -q");
    fill("one");
    git("add app");
    git("commit -qm one");
    git("switch -qc feature");
    fill("two");
    fs::remove_dir_all(world.folder.join("app/d7")).unwrap();
    world.write("app/more", "more");
    git("add app");
    git("commit -qm two");
    git("switch -q main");
    let watch = Watch::begin(&world);
    let inside = root(&world, "c-1").join("srv/app");
    let pid = world.pid("c-1");
    let before = watch.length();
    git("switch -q feature");
    watch.says(before, "c-1");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(listed(&inside), listed(&world.folder.join("app")));
    let said = watch.text()[before..].to_owned();
    assert_eq!(said.lines().count(), 1, "one action:\n{said}");
    git("switch -q main");
    eventually("and back", || listed(&inside) == listed(&world.folder.join("app")));
    // All is again as the image has it, so there is nothing to do.
    eventually("no drift is left", || world.ok(&["plan"]) == "nothing to do\n");
    assert_eq!(world.ok(&["up"]).lines().count(), 2);
    assert_eq!(world.pid("c-1"), pid);
    drop(watch);
}

#[test]
fn who_is_served_while_somebody_writes_without_end() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-busy",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/busy", "0");
    let watch = Watch::begin(&world);
    let inside = root(&world, "c-1").join("srv/app/busy");
    let end = Instant::now() + Duration::from_secs(2);
    let (mut number, mut seen) = (0, std::collections::BTreeSet::new());
    while Instant::now() < end {
        number += 1;
        world.write("app/busy", &number.to_string());
        std::thread::sleep(Duration::from_millis(4));
        seen.insert(fs::read_to_string(&inside).unwrap());
    }
    assert!(seen.len() > 8, "{seen:?}\n{}", watch.text());
    eventually("the last one", || fs::read_to_string(&inside).unwrap() == number.to_string());
    // A file that is never closed is served, too.
    let mut open = fs::OpenOptions::new().append(true).open(world.folder.join("app/busy")).unwrap();
    std::io::Write::write_all(&mut open, b" and more").unwrap();
    eventually("what is not closed", || fs::read_to_string(&inside).unwrap().ends_with(" and more"));
}

/// Random changes, with a watcher that is killed at random: once it is quiet, the container equals the disk.
#[test]
fn after_quiet_the_container_equals_the_disk_whatever_happened() {
    if !is_root() {
        return;
    }
    let world = World::new("watch-model", APP);
    world.write("app/a", "1");
    let seed =
        std::env::var("STEAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("STEAD_SEED={seed}");
    let mut state = seed | 1;
    let mut dice = move |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    };
    let mut watch = Watch::begin(&world);
    let app = world.folder.join("app");
    for _ in 0..6 {
        for _ in 0..40 {
            let mut place = || app.join(["a", "b", "c/a", "c/d", "c/d/e", "f", "f/g"][usize::try_from(dice(7)).unwrap()]);
            let (one, other) = (place(), place());
            let clear = |path: &Path| drop(fs::remove_file(path).or_else(|_| fs::remove_dir_all(path)));
            // Whatever does not fit does nothing.
            let done = match dice(9) {
                0 | 1 => fs::create_dir_all(one.parent().unwrap()).and_then(|()| fs::write(&one, dice(1000).to_string())),
                2 => fs::rename(&one, &other),
                3 => fs::create_dir_all(&one),
                4 => symlink("a", &one),
                5 => fs::hard_link(&one, &other),
                6 => fs::set_permissions(&one, fs::Permissions::from_mode(if dice(2) == 0 { 0o755 } else { 0o644 })),
                _ => {
                    clear(&one);
                    Ok(())
                }
            };
            drop(done);
            if dice(4) == 0 {
                std::thread::sleep(Duration::from_millis(dice(25)));
            }
        }
        fs::create_dir_all(&app).unwrap();
        if dice(3) == 0 {
            watch.child.kill().unwrap();
            drop(watch);
            world.write("app/meanwhile", &dice(1000).to_string());
            watch = Watch::begin(&world);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let roots = || ["c-1", "c-2"].map(|replica| listed(&root(&world, replica).join("srv/app")));
        while roots().iter().any(|found| *found != listed(&app)) {
            assert!(Instant::now() < deadline, "STEAD_SEED={seed}: {:#?}\n{:#?}\n{}", listed(&app), roots(), watch.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_watch_in_the_background_is_shown_and_ends_with_the_environment() {
    if !is_root() {
        return;
    }
    let world = World::new("watch-detached", APP);
    world.write("app/a", "1");
    world.ok(&["watch", "--detach"]);
    assert!(world.ok(&["status"]).contains("watched by process"));
    let again = world.fails(&["watch"]);
    assert!(again.err.contains("watched already") && again.err.contains("stead watch --stop"), "{}", again.err);
    world.write("app/a", "2");
    eventually("it syncs", || world.exec("c-2", "cat /srv/app/a") == "2");
    assert!(world.ok(&["logs", "--watch"]).contains("app/a → c-1, c-2"), "{}", world.ok(&["logs", "--watch"]));
    assert_eq!(world.run(&["watch", "--stop"]).code, 0);
    assert!(!world.ok(&["status"]).contains("watched by process"));
    world.ok(&["watch", "--detach"]);
    world.ok(&["down"]);
    std::thread::sleep(Duration::from_millis(200));
    world.write("app/a", "3");
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.ps().is_empty(), "nothing comes up again");
    world.assert_nothing_left();
}

#[test]
fn what_starts_later_has_what_was_saved_before() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-later",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; watch { sync "conf" to="/etc/conf" }; }"#,
    );
    world.write("app/a", "1");
    world.write("conf/x", "1");
    let watch = Watch::begin(&world);
    world.ok(&["stop", "c"]);
    world.write("conf/x", "2");
    std::thread::sleep(Duration::from_millis(200));
    world.ok(&["start", "c"]);
    eventually("it has it", || world.run(&["exec", "-T", "c", "cat", "/etc/conf/x"]).out == "2");
    world.ok(&["scale", "c=2"]);
    eventually("a further replica, too", || world.run(&["exec", "-T", "c-2", "cat", "/etc/conf/x"]).out == "2");
    drop(watch);
}

#[test]
fn up_in_the_foreground_shows_what_containers_print() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-attach",
        r#"container "a" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "echo from a; sleep 1000"; }
container "b" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "sleep 0.3; echo from b; sleep 1000"; }"#,
    );
    let said = world.folder.with_file_name("up.said");
    let out = fs::File::create(&said).unwrap();
    let mut up = world.command(&["up", "--attach"]).stdout(out).spawn().unwrap();
    let text = || fs::read_to_string(&said).unwrap();
    eventually("both print", || text().contains("from a") && text().contains("from b"));
    assert!(text().contains("a-1") && text().contains("b-1"), "{}", text());
    up.kill().unwrap();
    up.wait().unwrap();
    assert_eq!(world.container("a-1")["state"], "running", "they stay up");
}

#[test]
fn a_container_that_stops_or_is_replaced_does_not_end_the_watch() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-stops",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; watch { sync "conf" to="/etc/conf" }; }"#,
    );
    world.write("app/a", "1");
    world.write("conf/x", "1");
    let mut watch = Watch::begin(&world);
    for _ in 0..4 {
        world.ok(&["stop", "c"]);
        world.ok(&["start", "c"]);
        world.ok(&["restart", "c"]);
    }
    assert!(watch.child.try_wait().unwrap().is_none(), "{}", watch.text());
    world.write("conf/x", "2");
    eventually("it goes on", || world.run(&["exec", "-T", "c", "cat", "/etc/conf/x"]).out == "2");
    // A comment in the project file is no reason to replace what was synced.
    let pid = world.pid("c-1");
    let before = watch.length();
    world.edit("project ", "// a comment\nproject ");
    watch.says(before, "interrupt to end");
    assert_eq!(world.pid("c-1"), pid, "{}", watch.text());
}

#[test]
fn what_a_link_leads_to_outside_of_the_root_is_not_written() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-mounts",
        r#"image "made" { from "base"; copy "html" to="/srv/html"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; mount bind="./data" to="/data" create=#true; }"#,
    );
    world.write("html/x", "1");
    world.write("data/html/x", "the host's");
    let watch = Watch::begin(&world);
    world.exec("c", "rm -r /srv/html; ln -s /data/html /srv/html");
    let before = watch.length();
    world.write("html/x", "2");
    watch.says(before, "a mount lies in between");
    fs::remove_file(world.folder.join("html/x")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read_to_string(world.folder.join("data/html/x")).unwrap(), "the host's");
}

#[test]
fn what_was_synced_becomes_the_image_and_nothing_is_restarted() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "watch-freeze",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; replicas 2; stop-grace "100ms"; cmd "sleep" "1000"; }
container "d" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; watch { sync "extra" to="/extra"; }; }"#,
    );
    world.write("app/a", "1");
    world.write("app/gone", "1");
    world.write("extra/e", "1");
    world.ok(&["up"]);
    assert!(world.run(&["freeze"]).err.contains("nothing has drifted"));
    let pids = [world.pid("c-1"), world.pid("c-2")];
    world.ok(&["watch", "--detach"]);
    world.write("app/a", "2");
    world.write("app/new/b", "2");
    fs::remove_file(world.folder.join("app/gone")).unwrap();
    let synced = "test \"$(cat /srv/app/a /srv/app/new/b)\" = 22 -a ! -e /srv/app/gone && echo yes || true";
    eventually("it syncs", || ["c-1", "c-2"].iter().all(|replica| world.exec(replica, synced) == "yes"));
    eventually("it syncs what no image has", || world.exec("d", "cat /extra/e || true") == "1");
    let watched = world.fails(&["freeze"]);
    assert!(watched.err.contains("`stead watch --stop`"), "{}", watched.err);
    world.ok(&["watch", "--stop"]);
    assert!(world.ok(&["plan"]).contains("`watch` has synced"));
    // What is synced elsewhere is in no image.
    let refused = world.fails(&["freeze"]);
    assert!(refused.err.contains("d-1 is not what") && refused.err.contains("/extra/e (synced, and not so"), "{}", refused.err);
    assert!(world.ok(&["plan"]).contains("`watch` has synced"), "nothing is on record");
    // A file that changed while nobody watched is in the image, and not in the container.
    world.write("app/later", "3");
    let refused = world.fails(&["freeze", "c"]);
    assert!(refused.err.contains("/srv/app/later (changed in the image, and not synced)"), "{}", refused.err);
    fs::remove_file(world.folder.join("app/later")).unwrap();
    // Neither has the container what is set in the image now, nor the mode that a file has there.
    world.edit("copy \"app\" to=\"/srv/app\";", "copy \"app\" to=\"/srv/app\"; env SET=\"1\";");
    let refused = world.fails(&["freeze", "c"]);
    assert!(refused.err.contains("env SET (a setting that changed in the image)"), "{}", refused.err);
    world.edit("copy \"app\" to=\"/srv/app\"; env SET=\"1\";", "copy \"app\" to=\"/srv/app\";");
    world.exec("c-2", "chmod 600 /srv/app/a");
    let refused = world.fails(&["freeze", "c"]);
    assert!(refused.err.contains("/srv/app/a (synced, and of mode 600, in the image"), "{}", refused.err);
    world.exec("c-2", "chmod 644 /srv/app/a");
    let frozen = world.ok(&["freeze", "c", "--tag", "watch-freeze/c:tried"]);
    assert!(frozen.contains("c-1 made sha256:") && frozen.contains("c-2 made sha256:"), "{frozen}");
    assert!(world.ok(&["images"]).contains("watch-freeze/c"), "{}", world.ok(&["images"]));
    let plan = world.ok(&["plan"]);
    assert!(!plan.contains("c-1") && !plan.contains("c-2") && plan.contains("d-1"), "{plan}");
    world.ok(&["up"]);
    assert_eq!([world.pid("c-1"), world.pid("c-2")], pids, "they go on");
    // What is the content of the image now is no longer what it was before.
    let watch = Watch::begin(&world);
    world.write("app/a", "1");
    eventually("it syncs", || world.exec("c-1", "cat /srv/app/a") == "1");
    drop(watch);
    world.write("app/a", "2");
    assert!(
        world.ok(&["plan"]).contains("container c-1"),
        "the container has what it had at first, and not what is in its image"
    );
    world.run(&["rmi", "watch-freeze/c:tried"]);
}

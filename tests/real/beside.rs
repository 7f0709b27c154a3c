//! The loop under load: what takes its time keeps nobody else waiting, and nothing is lost or done twice.

use crate::watch::{Watch, listed, root};
use crate::world::{World, eventually, is_root, tell_skipped};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until something holds, for at most half a minute.
fn at_last(watch: &Watch, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}:\n{}", watch.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Saves a file and waits until it is seen: nothing else may keep it waiting.
fn is_served(world: &World, watch: &Watch, path: &str, text: &str, seen: &Path) {
    let begun = Instant::now();
    world.write(path, text);
    while fs::read_to_string(seen).is_ok_and(|found| found != text) {
        assert!(begun.elapsed() < Duration::from_millis(700), "{path} has to wait:\n{}", watch.text());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn signal(watch: &Watch, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &watch.child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_container_that_is_slow_to_end_keeps_nobody_waiting() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-restart",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "slow" {
    image "made"; stop-grace "3s"; cmd "sh" "-c" "trap '' TERM; while :; do sleep 0.1; done"
    watch { restart "settings" }
}
container "quick" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/a", "0");
    world.write("settings", "1");
    let watch = Watch::begin(&world);
    let pid = world.pid("slow-1");
    let seen = ["slow-1", "quick-1"].map(|replica| root(&world, replica).join("srv/app/a"));
    let before = watch.length();
    world.write("settings", "2");
    watch.says(before, "slow-1 is being restarted: it has not ended yet, and has 3s for that");
    for number in 1..6 {
        is_served(&world, &watch, "app/a", &number.to_string(), &seen[number % 2]);
    }
    assert_eq!(world.pid("slow-1"), pid, "that was while it was ending");
    // The new process will see this, too.
    world.write("settings", "3");
    watch.says(before, "slow-1 restarted");
    std::thread::sleep(Duration::from_millis(1000));
    let text = watch.text()[before..].to_owned();
    assert_eq!((count(&text, "is being restarted"), count(&text, "slow-1 restarted")), (1, 1), "{text}");
    assert_ne!(world.pid("slow-1"), pid);
    assert_eq!(fs::read_to_string(root(&world, "slow-1").join("srv/app/a")).unwrap(), "5");
    // A touch restarts nothing.
    let (pid, before) = (world.pid("slow-1"), watch.length());
    fs::File::open(world.folder.join("settings")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((world.pid("slow-1"), watch.length()), (pid, before), "{}", watch.text());
}

#[test]
fn a_command_that_takes_long_runs_once_more_for_all_that_came_meanwhile() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-exec",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" {
    image "made"; stop-grace "100ms"; cmd "sleep" "1000"
    watch {
        sync-exec "reload.conf" to="/etc/reload.conf" { exec "sh" "-c" "cat /etc/reload.conf >> /tmp/runs; sleep 1.5" }
        sync-exec "wrong.conf" to="/etc/wrong.conf" { exec "sh" "-c" "echo it is broken >&2; exit 3" }
    }
}"#,
    );
    for (path, text) in [("app/a", "1"), ("reload.conf", "0\n")] {
        world.write(path, text);
    }
    let watch = Watch::begin(&world);
    let runs = || fs::read_to_string(root(&world, "c-1").join("tmp/runs")).unwrap_or_default();
    watch.says(0, "ran in c-1");
    assert_eq!(runs(), "0\n", "for what it did not have at first");
    world.write("reload.conf", "1\n");
    eventually("it runs", || runs() == "0\n1\n");
    is_served(&world, &watch, "app/a", "2", &root(&world, "c-1").join("srv/app/a"));
    for text in ["2\n", "3\n"] {
        world.write("reload.conf", text);
        std::thread::sleep(Duration::from_millis(100));
    }
    at_last(&watch, "it runs once more", || runs() == "0\n1\n3\n");
    let before = watch.length();
    world.write("wrong.conf", "1");
    watch.says(before, "ended with exit status 3");
    watch.says(before, "because: it is broken");
    let text = watch.text()[before..].to_owned();
    assert!(!text.contains("help: it is broken"), "{text}");
    std::thread::sleep(Duration::from_millis(1700));
    assert_eq!(runs(), "0\n1\n3\n", "and not again");
}

#[test]
fn a_build_keeps_nobody_waiting_and_is_repeated_once_for_what_it_did_not_read() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-build",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; run "sleep 1; cp /srv/app/x /x"; }
container "web" { image "made"; stop-grace "2s"; cmd "sh" "-c" "trap '' TERM; while :; do sleep 0.1; done"; }
container "other" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; watch { sync "conf" to="/conf" } }"#,
    );
    world.write("app/x", "1");
    world.write("conf/a", "0");
    let watch = Watch::begin(&world);
    let (pid, other) = (world.pid("web-1"), world.pid("other-1"));
    let seen = root(&world, "other-1").join("conf/a");
    assert_eq!(fs::read_to_string(&seen).unwrap(), "0");
    let before = watch.length();
    world.write("app/x", "2");
    watch.says(before, "app/x changed");
    std::thread::sleep(Duration::from_millis(400));
    for number in 1..4 {
        is_served(&world, &watch, "conf/a", &number.to_string(), &seen);
        world.write("app/x", &format!("later {number}"));
    }
    assert_eq!(world.pid("web-1"), pid, "that was while it was built");
    // The old container takes its time.
    at_last(&watch, "it is replaced", || world.container("web-1")["pid"].as_i64() != Some(pid.into()));
    is_served(&world, &watch, "conf/a", "4", &seen);
    let built = || world.run(&["exec", "-T", "web", "cat", "/x"]).out;
    at_last(&watch, "what came meanwhile is built", || built() == "later 3");
    at_last(&watch, "it is over", || count(&watch.text()[before..], "interrupt to end") == 2);
    let same = watch.length();
    world.write("app/x", "later 3");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(watch.length(), same, "what was built already is not built again:\n{}", watch.text());
    let text = watch.text()[before..].to_owned();
    assert_eq!(count(&text, "container web-1 ("), 2, "{text}");
    assert_eq!(world.pid("other-1"), other);
}

#[test]
fn what_is_removed_is_told_as_that() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-removed",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/a", "1");
    world.write("app/b", "1");
    let watch = Watch::begin(&world);
    let before = watch.length();
    fs::remove_file(world.folder.join("app/b")).unwrap();
    watch.says(before, "app/b removed → c-1");
    let before = watch.length();
    world.write("app/b", "1");
    watch.says(before, "app/b → c-1");
}

#[test]
fn when_events_are_lost_everything_is_looked_at() {
    if !is_root() {
        return;
    }
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 50_000 {
        return tell_skipped("so many files as this machine's fs.inotify.max_queued_events need too long");
    }
    let world = World::new(
        "beside-overflow",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/many/a", "1");
    world.write("app/gone", "1");
    let watch = Watch::begin(&world);
    let top = root(&world, "c-1");
    let before = watch.length();
    // It reads no events, so the kernel drops those for which there is no room; each file makes three or more.
    signal(&watch, "STOP");
    for number in 0..limit / 3 + 500 {
        world.write(&format!("app/many/{number}"), &number.to_string());
    }
    fs::remove_file(world.folder.join("app/gone")).unwrap();
    world.write("app/last", "1");
    signal(&watch, "CONT");
    at_last(&watch, "it is told", || {
        watch.text()[before..].contains("too many files changed at once for the kernel to tell which")
    });
    at_last(&watch, "all is there", || listed(&top.join("srv/app")) == listed(&world.folder.join("app")));
    let is_clean = || !names(&top).iter().any(|name| name.starts_with(".stead-"));
    at_last(&watch, "nothing of ours is left", is_clean);
    is_served(&world, &watch, "app/last", "2", &top.join("srv/app/last"));
}

#[test]
fn what_is_brought_up_alone_leaves_the_rest_known() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-limited",
        r#"image "one" { from "base"; copy "one" to="/srv/one"; run "cp /srv/one/x /x"; }
image "two" { from "base"; copy "two" to="/srv/two"; }
container "one" { image "one"; stop-grace "100ms"; cmd "sleep" "1000"; }
container "two" { image "two"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("one/x", "1");
    world.write("two/x", "1");
    // Nothing of the other one has ever been read by what was up.
    world.ok(&["start", "one"]);
    let watch = Watch::begin(&world);
    let (pid, seen) = (world.pid("two-1"), root(&world, "two-1").join("srv/two/x"));
    is_served(&world, &watch, "two/x", "2", &seen);
    let before = watch.length();
    world.write("one/x", "2");
    watch.says(before, "one/x changed");
    watch.says(before, "interrupt to end");
    assert_eq!(world.exec("one", "cat /x"), "2");
    assert_eq!(world.pid("two-1"), pid, "the other one is left alone");
    let before = watch.length();
    fs::File::open(world.folder.join("two/x")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(watch.length(), before, "what it has is known:\n{}", watch.text());
    is_served(&world, &watch, "two/x", "3", &seen);
}

#[test]
fn a_project_that_is_broken_and_mended_is_followed() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-mended",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    world.write("app/a", "1");
    let watch = Watch::begin(&world);
    let whole = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let before = watch.length();
    world.write("stead.kdl", &whole.replace("from \"base\"", "from \"bass\""));
    watch.says(before, "bass");
    watch.says(before, "interrupt to end");
    let pid = world.pid("c-1");
    is_served(&world, &watch, "app/a", "2", &root(&world, "c-1").join("srv/app/a"));
    let before = watch.length();
    world.write("stead.kdl", &whole.replace("\"1000\"", "\"2000\""));
    watch.says(before, "interrupt to end");
    at_last(&watch, "both changes are there", || {
        let line = world.run(&["exec", "-T", "c", "cat", "/proc/1/cmdline", "/srv/app/a"]).out;
        line.contains("2000") && line.ends_with('2')
    });
    assert_ne!(world.pid("c-1"), pid);
}

#[test]
fn what_cannot_be_written_is_still_on_record_as_different() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-drift",
        r#"image "made" { from "base"; copy "html" to="/srv/html"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; mount bind="./data" to="/data" create=#true; }"#,
    );
    world.write("html/x", "1");
    let watch = Watch::begin(&world);
    is_served(&world, &watch, "html/x", "2", &root(&world, "c-1").join("srv/html/x"));
    eventually("it is on record", || world.ok(&["plan"]).contains("`watch` has synced"));
    world.exec("c", "mv /srv/html /srv/aside; ln -s /data /srv/html");
    let before = watch.length();
    // It becomes as in the image again, but cannot be written.
    world.write("html/x", "1");
    watch.says(before, "a mount lies in between");
    drop(watch);
    assert!(world.ok(&["plan"]).contains("`watch` has synced"), "{}", world.ok(&["plan"]));
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "cat /srv/html/x"), "1");
}

#[test]
fn a_watcher_that_is_killed_in_the_middle_leaves_what_up_repairs() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "beside-killed",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    let fill = |text: &str| (0..600).for_each(|number| world.write(&format!("app/f{number}"), &format!("{text} {number}")));
    fill("as in the image");
    for (round, millis) in [0, 5, 15, 30, 60].into_iter().enumerate() {
        let mut watch = Watch::begin(&world);
        fill("other");
        std::thread::sleep(Duration::from_millis(millis));
        watch.child.kill().unwrap();
        drop(watch);
        fill("as in the image");
        let is_equal = || listed(&root(&world, "c-1").join("srv/app")) == listed(&world.folder.join("app"));
        // What is written is on record before, so that a container which differs from its image is not taken for equal to it.
        let plan = world.ok(&["plan"]);
        assert!(is_equal() || plan != "nothing to do\n", "{plan}");
        world.ok(&["up"]);
        assert!(is_equal(), "round {round}");
        assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    }
    let _watch = Watch::begin(&world);
    eventually("nothing of ours is left", || !names(&root(&world, "c-1")).iter().any(|name| name.starts_with(".stead-")));
}

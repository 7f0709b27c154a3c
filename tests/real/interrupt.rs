//! Ctrl-C: whatever a command waits for, it ends soon, says how to continue, and keeps what was done.

use crate::world::{World, eventually, is_root, processes};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Interrupts a command once a condition holds. Without that, each of these commands would wait longer than a test may take.
fn interrupt_once(mut child: Child, holds: impl FnMut() -> bool) -> (ExitStatus, String) {
    eventually("the command is where it waits", holds);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("it goes on waiting");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn who_waits_for_health_is_interrupted_and_the_next_up_goes_on() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "interrupt-up",
        r#"
container "a" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; healthcheck interval="100ms" retries=1000 { exec "test" "-e" "/well"; }; }
container "b" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; depends-on "a" until="healthy"; }"#,
    );
    let (status, told) = interrupt_once(world.spawn(&["up"]), || world.ps().iter().any(|one| one["name"] == "a-1"));
    assert_eq!(status.code(), Some(130), "{told}");
    assert!(told.contains("interrupted") && told.contains("goes on from there"), "{told}");
    let pid = world.pid("a-1");
    world.exec("a", "touch /well");
    world.ok(&["up"]);
    assert_eq!(world.pid("a-1"), pid, "what was up was started again");
    assert!(world.pid("b-1") > 0);
}

#[test]
fn a_build_is_interrupted_and_nothing_of_it_goes_on() {
    if !is_root() {
        return;
    }
    let world = World::new("interrupt-build", r#"image "slow" { from "base"; run "sleep 1234567; true"; }"#);
    world.ok(&["build", "base"]);
    let runs = || processes().iter().any(|(_, _, line)| line.contains("1234567"));
    let child = world.spawn(&["build", "slow"]);
    let own = format!("{}-", child.id());
    let (status, told) = interrupt_once(child, runs);
    assert_eq!(status.code(), Some(130), "{told}");
    let staging = std::fs::read_dir(world.root.join("store/tmp")).unwrap().flatten();
    let left: Vec<_> = staging.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).collect();
    assert!(left.is_empty(), "{left:?}");
    eventually("nothing of the build is left", || !runs());
    world.edit("sleep 1234567; true", "true");
    world.ok(&["build", "slow"]);
}

#[test]
fn an_end_is_interrupted_and_goes_on_by_itself() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "interrupt-down",
        r#"container "c" { image "base"; stop-grace "1000s"; cmd "sh" "-c" "trap '' TERM; touch /there; while true; do sleep 0.1; done"; }"#,
    );
    world.ok(&["up"]);
    eventually("it listens", || world.run(&["exec", "c", "test", "-e", "/there"]).code == 0);
    let child = world.spawn(&["down"]);
    std::thread::sleep(Duration::from_millis(300));
    let (status, told) = interrupt_once(child, || true);
    assert_eq!(status.code(), Some(130), "{told}");
    // The container has been asked to stop; a user who cannot wait kills it.
    assert!(world.pid("c-1") > 0);
    world.ok(&["kill", "c"]);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

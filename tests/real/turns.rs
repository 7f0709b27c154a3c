//! Replacement in turns: no request to a published port is lost, and what does not come up replaces nothing.

use crate::world::{World, eventually, get, is_root};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A server that says its version, half a second after its start.
fn server(port: u16, more: &str) -> String {
    format!(
        r#"container "web" {{
    image "base"
    {more}
    env V="1"
    init #true
    publish {port} to=80
    cmd "sh" "-c" "mkdir -p /w && cd /w && echo -n $V > who && sleep 0.5 && exec python3 -m http.server 80"
    healthcheck interval="200ms" start-period="5s" start-interval="100ms" {{ http 80 path="/who" }}
}}"#
    )
}

/// Requests pages from several threads while something is done. Returns the versions that answered, how many answers there
/// were, and the requests that failed.
fn requested(port: u16, work: impl FnOnce()) -> (BTreeSet<String>, usize, Vec<String>) {
    let (over, found) = (AtomicBool::new(false), Mutex::new((BTreeSet::new(), 0, Vec::new())));
    let address = format!("127.0.0.1:{port}");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = get(&address, "/who");
                    let mut found = found.lock().unwrap();
                    match answer {
                        Ok(version) => {
                            found.0.insert(version);
                            found.1 += 1;
                        }
                        Err(error) => found.2.push(error),
                    }
                    drop(found);
                    thread::sleep(std::time::Duration::from_millis(2));
                }
            });
        }
        // It ends the requests even if the work fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        work();
    });
    found.into_inner().unwrap()
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.ps().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn replaced_without_a_lost_request(name: &str, port: u16, replicas: usize) {
    let world = World::new(name, &server(port, &format!("replicas {replicas}; update {{ order \"start-first\"; }}")));
    world.ok(&["up"]);
    let wanted: Vec<String> = (1..=replicas).map(|index| format!("web-{index}")).collect();
    assert_eq!(names(&world), wanted);
    let before: Vec<i32> = wanted.iter().map(|one| world.pid(one)).collect();
    world.edit("V=\"1\"", "V=\"2\"");
    let (versions, answers, failures) = requested(port, || drop(world.ok(&["up"])));
    assert_eq!(failures, Vec::<String>::new(), "of {answers} requests");
    assert!(answers > 50, "only {answers} requests");
    assert_eq!(versions, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    assert_eq!(names(&world), wanted, "what stood in has ended");
    assert!(wanted.iter().zip(before).all(|(one, pid)| world.pid(one) != pid), "all are replaced");
    for _ in 0..10 {
        assert_eq!(get(&format!("127.0.0.1:{port}"), "/who").unwrap(), "2");
    }
    assert!(world.ok(&["plan"]).contains("nothing to do"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn two_replicas_are_replaced_without_a_lost_request() {
    if is_root() {
        replaced_without_a_lost_request("turns-two", 18410, 2);
    }
}

#[test]
fn one_replica_is_replaced_without_a_lost_request() {
    if is_root() {
        replaced_without_a_lost_request("turns-one", 18411, 1);
    }
}

#[test]
fn what_does_not_become_healthy_replaces_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new("turns-ill", &server(18412, "replicas 2; update { order \"start-first\"; }"));
    world.ok(&["up"]);
    let before = (world.pid("web-1"), world.pid("web-2"));
    world.edit("exec python3 -m http.server 80", "exec python3 -m http.server 81");
    world.edit("start-period=\"5s\" ", "");
    let (versions, _, failures) = requested(18412, || {
        let ran = world.fails(&["up"]);
        assert!(ran.err.contains("web-3: it is unhealthy"), "{ran:?}");
        assert!(ran.err.contains("web-1: it goes on as it was, because web-3, which was to come up before, did not"), "{ran:?}");
        assert!(ran.err.contains("web-2: it goes on as it was"), "{ran:?}");
    });
    assert_eq!((versions, failures), (BTreeSet::from(["1".to_owned()]), Vec::new()));
    assert_eq!((names(&world), before), (vec!["web-1".into(), "web-2".into()], (world.pid("web-1"), world.pid("web-2"))));
    assert!(world.ok(&["plan"]).contains("container web-1 (replace)"));
    // It is mended.
    world.edit("http.server 81", "http.server 80");
    world.edit("interval=\"200ms\" ", "interval=\"200ms\" start-period=\"5s\" ");
    world.edit("V=\"1\"", "V=\"2\"");
    let (_, _, failures) = requested(18412, || drop(world.ok(&["up"])));
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(names(&world), ["web-1", "web-2"]);
}

#[test]
fn killed_at_any_moment_of_a_replacement_no_request_is_lost() {
    if !is_root() {
        return;
    }
    let world = World::new("turns-kill", &server(18413, "replicas 1; update { order \"start-first\"; }"));
    world.ok(&["up"]);
    let mut killed = 0;
    for at in 1..60 {
        world.edit(&format!("V=\"{at}\""), &format!("V=\"{}\"", at + 1));
        let (_, answers, failures) = requested(18413, || {
            let first = world.command(&["up"]).env("STEAD_TEST_KILL_AT", at.to_string()).output().unwrap();
            killed += usize::from(first.status.signal() == Some(9));
            world.ok(&["up"]);
        });
        assert_eq!(failures, Vec::<String>::new(), "of {answers} requests, killed at {at}");
        assert_eq!(names(&world), ["web-1"], "killed at {at}");
        assert_eq!(get("127.0.0.1:18413", "/who").unwrap(), (at + 1).to_string());
        if killed < at {
            break;
        }
    }
    assert!(killed > 8, "only {killed} boundaries");
}

#[test]
fn turns_without_a_stand_in_end_where_one_does_not_come_up() {
    if !is_root() {
        return;
    }
    let text = "container \"c\" { image \"base\"; replicas 2; update { parallel 1; }; env V=\"1\"; stop-grace \"100ms\"; \
                cmd \"sh\" \"-c\" \"test $V != 2 && exec sleep 1000\"; }";
    let world = World::new("turns-stop", text);
    world.ok(&["up"]);
    let second = world.pid("c-2");
    world.edit("V=\"1\"", "V=\"2\"");
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("c-1: it ended with exit status 1"), "{ran:?}");
    assert!(ran.err.contains("c-2: it goes on as it was, because c-1"), "{ran:?}");
    assert_eq!(world.pid("c-2"), second);
    world.edit("V=\"2\"", "V=\"3\"");
    world.ok(&["up"]);
    eventually("both are of the third version", || ["c-1", "c-2"].into_iter().all(|name| world.exec(name, "echo $V") == "3"));
}

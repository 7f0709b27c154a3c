//! Logs: no line is lost or torn, they never exceed the quota, and nobody waits for a reader.

use crate::world::{World, eventually, is_root};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn disk_use(world: &World) -> u64 {
    let line = format!("du -sb {}/state/instances/*/logs | cut -f1", world.root.display());
    let out = Command::new("sh").args(["-c", &line]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
}

#[test]
fn ten_million_lines_survive_rotation() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "many-lines",
        r#"container "c" { image "base"; log size="8MiB" files=1000; limits { log "4GiB" }; cmd "seq" "10000000"; }"#,
    );
    world.ok(&["up"]);
    world.ok(&["wait", "c"]);
    let mut logs = world.command(&["logs", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut expected = 0u64;
    for line in BufReader::with_capacity(1 << 20, logs.stdout.take().unwrap()).lines() {
        expected += 1;
        assert_eq!(line.unwrap(), expected.to_string());
    }
    assert_eq!(expected, 10_000_000);
    assert!(logs.wait().unwrap().success());
    let files = Command::new("sh")
        .args(["-c", &format!("ls {}/state/instances/*/logs/c-1/1 | wc -l", world.root.display())])
        .output()
        .unwrap();
    let files: u32 = String::from_utf8_lossy(&files.stdout).trim().parse().unwrap();
    assert!(files > 20, "{files} files: it was rotated all along");
    assert_eq!(world.ok(&["logs", "-n", "3", "c"]), "9999998\n9999999\n10000000\n");
}

#[test]
fn the_quota_holds_and_what_it_drops_is_counted() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "quota",
        r#"container "c" { image "base"; log size="1MiB" files=1000; limits { log "4MiB" }; stop-grace "100ms"; cmd "sh" "-c" "seq 1000000; echo end; sleep 1000"; }
container "none" { image "base"; log { driver "none" }; cmd "echo" "nothing of this"; }"#,
    );
    world.ok(&["up"]);
    let last = || world.ok(&["logs", "-n", "1", "c"]);
    eventually("it has said all", || last() == "end\n");
    assert!(disk_use(&world) <= (4 << 20) + (64 << 10), "{} bytes", disk_use(&world));
    let text = world.ok(&["logs", "c"]);
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let notes: Vec<&str> = text.lines().filter(|line| line.starts_with("stead: ")).collect();
    let dropped: u64 = notes.last().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    // Every line is there or counted as dropped; our own notes that were dropped with them are counted, too.
    assert_eq!(*numbers.last().unwrap(), 1_000_000);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let gone = numbers[0] - 1;
    assert!(dropped >= gone && dropped - gone < 100, "{dropped} told, {gone} gone");
    assert!(notes.last().unwrap().contains("to stay within 4 MiB"), "{notes:?}");
    assert_eq!(world.ok(&["logs", "none"]), "");
}

#[test]
fn logs_are_filtered_interleaved_and_followed_across_restarts_and_generations() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "filter-logs",
        r#"
container "a" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "echo a1; sleep 0.2; echo a2; sleep 1000"; }
container "bee" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "sleep 0.1; echo b1; sleep 0.2; echo b2 >&2; printf open; sleep 1000"; }
"#,
    );
    world.ok(&["up"]);
    eventually("all is said", || world.ok(&["logs"]).lines().count() == 4);
    assert_eq!(world.ok(&["logs"]), "a-1   | a1\nbee-1 | b1\na-1   | a2\nbee-1 | b2\n");
    assert_eq!(world.ok(&["logs", "--no-log-prefix", "-n", "1"]), "a2\nb2\n");
    let colored = world.command(&["logs"]).env_remove("NO_COLOR").env("FORCE_COLOR", "1").output().unwrap();
    assert!(colored.status.success());
    let stamped = world.ok(&["logs", "-t", "bee"]);
    let time = stamped.lines().next().unwrap().split(' ').next().unwrap().to_owned();
    assert!(time.len() == 30 && time.ends_with('Z'));
    assert_eq!(world.ok(&["logs", "--since", &time]).lines().count(), 3, "b1, a2, b2");
    assert_eq!(world.ok(&["logs", "--until", &time]), "a-1   | a1\n");
    assert_eq!(world.ok(&["logs", "--since", "1h", "--until", "30m"]), "");
    let mut follow = world.command(&["logs", "-f", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    world.ok(&["restart", "a"]);
    eventually("all is said again", || world.ok(&["logs", "a"]).lines().count() == 4);
    world.edit("echo a1", "echo new");
    world.ok(&["up"]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let said: Vec<String> = (0..6).map(|_| lines.next().unwrap().unwrap()).collect();
    let _ = follow.kill();
    let _ = follow.wait();
    assert_eq!(said, ["a1", "a2", "a1", "a2", "new", "a2"].map(String::from).to_vec().as_slice(), "{said:?}");
}

#[test]
fn a_slow_reader_keeps_no_container_waiting() {
    if !is_root() {
        return;
    }
    let world = World::new("slow", r#"container "c" { image "base"; cmd "sh" "-c" "sleep 0.5; seq 300000; sleep 0.1"; }"#);
    world.ok(&["up"]);
    // Neither of these readers reads anything.
    let mut attached = world.command(&["attach", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut follower = world.command(&["logs", "-f", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(world.run(&["wait", "c"]).out, "0\n");
    assert_eq!(world.ok(&["logs", "-n", "1", "c"]), "300000\n");
    for child in [&mut attached, &mut follower] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn lines_are_sent_on_by_one_shipper_that_remembers_where_it_was() {
    if !is_root() {
        return;
    }
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = collector.local_addr().unwrap().port();
    let syslog = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let udp = syslog.local_addr().unwrap().port();
    let world = World::new(
        "ship",
        &format!(
            r#"
container "file" {{ image "base"; log {{ driver "json-file" address="out.json" }}; stop-grace "100ms"; cmd "sh" "-c" "echo first; while [ ! -e /go ]; do sleep 0.02; done; echo second >&2; sleep 1000"; }}
container "sys" {{ image "base"; log {{ driver "syslog" address="udp://127.0.0.1:{udp}" }}; stop-grace "100ms"; cmd "sh" "-c" "echo to syslog; sleep 1000"; }}
container "otel" {{ image "base"; log {{ driver "otlp" address="http://127.0.0.1:{port}" }}; stop-grace "100ms"; cmd "sh" "-c" "echo to otlp; sleep 1000"; }}
container "plain" {{ image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }}
"#
        ),
    );
    let shippers = || {
        crate::world::processes()
            .into_iter()
            .filter(|(_, _, line)| line.contains("stead ship") && line.contains("ship"))
            .map(|(pid, ..)| pid)
            .collect::<Vec<_>>()
    };
    world.ok(&["up"]);
    eventually("one shipper runs", || shippers().len() == 1);
    let read = || fs::read_to_string(world.folder.join("out.json")).unwrap_or_default();
    eventually("the first line", || read().contains("first"));
    let first: serde_json::Value = serde_json::from_str(read().lines().next().unwrap()).unwrap();
    assert_eq!((first["log"].as_str(), first["stream"].as_str()), (Some("first\n"), Some("stdout")));
    let mut datagram = [0; 2048];
    let length = syslog.recv(&mut datagram).unwrap();
    let message = String::from_utf8_lossy(&datagram[..length]).into_owned();
    // RFC 5424: priority (daemon, informational), version, time, host, application.
    assert!(message.starts_with("<30>1 ") && message.contains(" ship/sys-1 ") && message.ends_with("to syslog"), "{message}");
    collector.set_nonblocking(true).unwrap();
    let mut accepted = None;
    eventually("the collector is asked", || {
        accepted = collector.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    use std::io::{Read, Write};
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&request).contains("to otlp") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&request));
        request.extend(&buffer[..length]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    drop(stream);
    let request = String::from_utf8_lossy(&request).into_owned();
    assert!(
        request.starts_with("POST /v1/logs HTTP/1.1") && request.contains("resourceLogs") && request.contains("\"otel\""),
        "{request}"
    );
    // When the shipper is killed, the next `up` starts it again, and it continues where it was: no line twice, none lost.
    for pid in shippers() {
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    world.exec("file", "touch /go");
    eventually("the line is in the log", || world.ok(&["logs", "file"]).contains("second"));
    world.ok(&["up"]);
    eventually("the second line", || read().contains("second"));
    assert_eq!((read().matches("first").count(), read().matches("second").count()), (1, 1), "{}", read());
    world.ok(&["down"]);
    eventually("nothing runs when nothing is up", || shippers().is_empty());
}

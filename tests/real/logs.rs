//! Logs: no line is lost or torn, they never exceed the quota, and nobody waits for a reader.

use crate::world::{SmallDisk, World, eventually, is_root};
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
fn long_lines_stay_whole_beside_others_and_bytes_stay_what_they_are() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "long-lines",
        r#"container "a" { image "base"; cmd "sh" "-c" "head -c 40000 /dev/zero | tr '\\0' A; sleep 0.6; echo an error >&2; sleep 0.6; echo end; python3 -c 'print(\"€\" * 100000)'; printf 'bytes \\377\\376\\n'; sleep 1000"; stop-grace "100ms" }
container "b" { image "base"; cmd "sh" "-c" "sleep 0.3; echo b line 0; sleep 1000"; stop-grace "100ms" }"#,
    );
    world.ok(&["up"]);
    let shown = |args: &[&str]| world.command(args).output().unwrap().stdout;
    eventually("all is said", || shown(&["logs", "-n", "1", "a"]) == b"bytes \xff\xfe\n");
    let all = shown(&["logs"]);
    let lines: Vec<&[u8]> = all.split(|byte| *byte == b'\n').collect();
    let euros = format!("a-1 | {}", "€".repeat(100_000));
    let whole = format!("a-1 | {}end", "A".repeat(40_000));
    for wanted in [&b"b-1 | b line 0"[..], b"a-1 | an error", whole.as_bytes(), euros.as_bytes(), b"a-1 | bytes \xff\xfe"] {
        let brief = String::from_utf8_lossy(&wanted[..wanted.len().min(40)]);
        assert!(lines.contains(&wanted), "{brief} is not a line of {} lines", lines.len());
    }
    assert_eq!(lines.len(), 6, "and there are no others");
    assert_eq!(
        shown(&["logs", "-n", "3", "a"]),
        [&whole.as_bytes()[6..], b"\n", &euros.as_bytes()[6..], b"\nbytes \xff\xfe\n"].concat()
    );
    world.ok(&["down"]);
}

#[test]
fn followers_see_containers_that_come_later() {
    if !is_root() {
        return;
    }
    let say = |word: &str| format!(r#"image "base"; cmd "sh" "-c" "echo {word}; sleep 1000"; stop-grace "100ms""#);
    let world = World::new("later", &format!("container \"a\" {{ {} }}\n", say("from a")));
    world.ok(&["up"]);
    let mut all = world.command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut of_a = world.command(&["logs", "-f", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = |child: &mut std::process::Child| BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (mut all_lines, mut lines_of_a) = (lines(&mut all), lines(&mut of_a));
    assert_eq!((all_lines.next().unwrap(), lines_of_a.next().unwrap()), ("from a".into(), "from a".into()));
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("stead.kdl", &format!("{text}container \"b\" {{ {} }}\n", say("from b")));
    world.ok(&["up"]);
    assert_eq!(all_lines.next().unwrap(), "b-1 | from b");
    world.ok(&["scale", "a=2"]);
    assert_eq!((all_lines.next().unwrap(), lines_of_a.next().unwrap()), ("a-2 | from a".into(), "a-2 | from a".into()));
    for child in [&mut all, &mut of_a] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    world.ok(&["down"]);
}

/// A store on a small file system fills up while a container speaks. Afterwards the log says how much is missing, and where.
#[test]
fn what_a_full_disk_took_is_told_in_its_place() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "full-log",
        r#"container "c" { image "base"; log size="64MiB"; stop-grace "100ms"; cmd "sh" "-c" "i=0; while :; do i=$((i + 1)); echo line $i with some words behind it; done"; }"#,
    );
    let disk = SmallDisk::below(&world.root, &["state"]);
    let early = world.root.join("mount/early");
    fs::write(&early, vec![b'x'; 8 << 20]).unwrap();
    world.ok(&["up"]);
    let ballast = disk.fill();
    std::thread::sleep(std::time::Duration::from_millis(300));
    for file in [early, ballast] {
        fs::remove_file(file).unwrap();
    }
    eventually("the log goes on", || world.ok(&["logs", "c"]).contains("could not be written here"));
    world.ok(&["kill", "-s", "STOP", "c"]);
    let text = world.ok(&["logs", "c"]);
    let lines: Vec<&str> = text.lines().collect();
    let number = |line: &str| -> u64 {
        line.strip_prefix("line ").unwrap().strip_suffix(" with some words behind it").unwrap().parse().unwrap()
    };
    let mut told = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("stead: ")) {
        let lost: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(line.contains("No space left on device"), "{line}");
        if at > 0 && !lines[at - 1].starts_with("stead: ") {
            assert_eq!(number(lines[at + 1]) - number(lines[at - 1]) - 1, lost, "{line}");
            told += 1;
        }
    }
    assert!(told > 0, "{} lines", lines.len());
    world.ok(&["down", "--volumes"]);
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

#[test]
fn who_follows_ends_with_the_reader() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "reader-gone",
        r#"container "c" { image "base"; stop-grace "100ms"; cmd "sh" "-c" "while :; do echo again; sleep 0.05; done"; }"#,
    );
    world.ok(&["up"]);
    let mut follow = world.command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "again");
    drop(lines);
    eventually("it ends", || follow.try_wait().unwrap().is_some_and(|status| status.success()));
}

#[test]
fn who_is_attached_sees_whose_lines_they_are_and_leaves_by_an_interruption() {
    if !is_root() {
        return;
    }
    let line = |name: &str| {
        format!(
            "container \"{name}\" {{ image \"base\"; stop-grace \"100ms\"; cmd \"sh\" \"-c\" \"echo from {name}; sleep 1000\"; }}\n"
        )
    };
    let world = World::new("attached", &line("alone"));
    let (out, err) = (world.folder.with_file_name("out"), world.folder.with_file_name("err"));
    let file = |path: &std::path::Path| fs::File::create(path).unwrap();
    let mut up = world.command(&["up", "--attach"]).stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
    let shown = || fs::read_to_string(&out).unwrap();
    eventually("it is named although it is alone", || shown().contains("alone-1 | from alone\n"));
    world.write("stead.kdl", &format!("{}{}", fs::read_to_string(world.folder.join("stead.kdl")).unwrap(), line("later")));
    world.ok(&["up"]);
    eventually("what comes later is shown, too", || shown().contains("later-1 | from later\n"));
    assert!(!shown().contains('\u{1b}'), "no colours where there is no terminal");
    assert!(Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap().success());
    assert_eq!(up.wait().unwrap().code(), Some(130));
    let said = fs::read_to_string(&err).unwrap();
    assert!(said.contains("left; containers stay up") && !said.contains("interrupted"), "{said}");
    assert_eq!(world.container("alone-1")["state"], "running");
}

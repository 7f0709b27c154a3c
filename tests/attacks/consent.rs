//! Things that a cloned directory asks for silently: files of the host through links and paths, privileges during a
//! build, log files, the caller's keys and variables. Also what it hides on the screen, and build results that it
//! brings along.

use crate::ground::{SLEEP, canary, ground, is_root};
use crate::world::{Ran, World, copy_folder, eventually};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// A command in a stranger's directory: nothing is allowed beforehand.
fn cold(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command.env_remove("STEAD_ALLOW");
    command
}

fn run(world: &World, arguments: &[&str]) -> Ran {
    Ran::from(cold(world, arguments).output().unwrap())
}

/// Gives a world a store of its own. In a shared store, another world may have built an image already, and an image
/// that is built needs no consent.
fn own_store(world: &World) {
    fs::remove_file(world.root.join("store")).unwrap();
}

/// The lines of a plan that are marked with `!`.
fn marks(world: &World) -> String {
    let plan = run(world, &["plan"]);
    assert_eq!(plan.code, 0, "{}{}", plan.out, plan.err);
    plan.out.lines().filter(|line| line.trim_start().starts_with("! ")).collect::<Vec<_>>().join("\n")
}

/// Fails the test unless the command is refused, with an error that names what it would reach and says what to type.
fn refused(world: &World, arguments: &[&str], mark: &str) {
    let ran = run(world, arguments);
    assert_eq!(ran.code, 1, "stead {arguments:?}\n{}{}", ran.out, ran.err);
    assert!(ran.err.contains(mark), "{mark} in {}", ran.err);
    assert!(ran.err.contains("`stead allow`") && ran.err.contains("--allow "), "{}", ran.err);
}

/// Runs a command on a terminal of its own, and answers the question if one is asked.
fn on_terminal(world: &World, arguments: &[&str], answer: &str) -> (String, i32) {
    let (master, slave) = stead::tested::sys::open_terminal(Path::new("/dev/pts")).unwrap();
    let (input, error) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
    let mut command = cold(world, arguments);
    let mut child = command.stdin(input).stderr(error).stdout(slave).spawn().unwrap();
    // From here on, only the child holds the other side of the terminal.
    drop(command);
    let mut terminal = fs::File::from(master);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        let asked = |text: &[u8]| text.windows(5).any(|part| part == b"[y/N]");
        let before = asked(&seen);
        seen.extend(&buffer[..length]);
        if !before && asked(&seen) {
            // The answer must come after the question, as a person's would.
            std::thread::sleep(std::time::Duration::from_millis(100));
            terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    }
    (String::from_utf8_lossy(&seen).into_owned(), child.wait().unwrap().code().unwrap_or(-1))
}

#[test]
fn a_link_out_of_the_project_is_not_mounted_unasked() {
    if !is_root() {
        return;
    }
    let project = format!("container \"c\" {{ image \"box\"; {SLEEP}; mount bind=\"data\" to=\"/data\" read-only=#true; }}");
    let world = ground("link-out", &[], &project);
    let canary = canary(&world);
    symlink(&canary, world.folder.join("data")).unwrap();
    let up = run(&world, &["up"]);
    let stolen = run(&world, &["exec", "-T", "c", "cat", "/data/secret"]);
    assert!(!stolen.out.contains("the host's secret"), "{}{}", up.out, up.err);
    let mark = format!("reads data of the host (it leads to {})", canary.display());
    assert!(marks(&world).contains(&mark), "{}", marks(&world));
    for command in [&["up"][..], &["run", "-T", "c", "true"], &["watch"], &["start", "c"]] {
        if command[0] != "watch" && command[0] != "start" {
            refused(&world, command, &mark);
        }
    }
    // This consent is for one command only.
    world.ok(&["up", "--allow", "files"]);
    assert_eq!(world.exec("c", "cat /data/secret"), "the host's secret");
    world.ok(&["down"]);
    refused(&world, &["up"], &mark);
    // Consent of another kind does not count, and an unknown word allows nothing.
    refused(&world, &["up", "--allow", "network,privileges"], &mark);
    assert_eq!(run(&world, &["up", "--allow", "file"]).code, 2);
    let mut misspelt = cold(&world, &["up"]);
    assert_eq!(Ran::from(misspelt.env("STEAD_ALLOW", "yes").output().unwrap()).code, 2);
}

/// A bridge that is deleted when this is dropped.
struct Bridge(&'static str);

impl Bridge {
    fn new(name: &'static str) -> Self {
        let bridge = Self(name);
        bridge.delete();
        assert!(std::process::Command::new("ip").args(["link", "add", name, "type", "bridge"]).status().unwrap().success());
        bridge
    }

    fn delete(&self) {
        let _ = std::process::Command::new("ip").args(["link", "delete", self.0]).output();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.delete();
    }
}

#[test]
fn all_that_reaches_out_is_marked_and_asked_for() {
    if !is_root() {
        return;
    }
    let world = ground("reaches", &[], "");
    let _bridge = Bridge::new("stconsent");
    let canary = canary(&world);
    fs::write(canary.join("env"), "A=b\n").unwrap();
    fs::write(canary.join("profile.json"), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    let base = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let at = canary.display().to_string();
    let cases = [
        (format!("secret \"s\" file=\"{at}/secret\""), "secret \"s\"", format!("reads {at}/secret of the host, its secret s")),
        ("secret \"s\" file=\"../canary/secret\"".into(), "secret \"s\"", format!("(it leads to {at}/secret)")),
        (format!("config \"s\" file=\"{at}/secret\""), "config \"s\"", format!("reads {at}/secret of the host, its config s")),
        (String::new(), "env-file \"../canary/env\"", "reads ../canary/env of the host for its variables".into()),
        (String::new(), "mount bind=\"../canary\" to=\"/c\" read-only=#true", "reads ../canary of the host".into()),
        (String::new(), "mount bind=\"box\" to=\"/c\" propagation=\"shared\"", "its mounts below /c appear on the host".into()),
        (String::new(), "log { driver \"json-file\" address=\"../canary/log\"; }", "appends its output to ../canary/log".into()),
        (
            String::new(),
            "log { driver \"syslog\" address=\"/run/x.sock\"; }",
            "sends its output to the socket /run/x.sock".into(),
        ),
        (String::new(), "log { driver \"syslog\" address=\"udp://127.0.0.1:9\"; }", "from the host to udp://127.0.0.1:9".into()),
        (String::new(), "log { driver \"otlp\" address=\"http://127.0.0.1:9\"; }", "from the host to http://127.0.0.1:9".into()),
        (String::new(), "limits { oom-score -500; }", "others of the host are killed before it (score -500)".into()),
        (
            "network \"n\" external=\"stconsent\" subnet=\"10.99.0.0/24\"".into(),
            "network \"n\"",
            "the host's bridge stconsent".into(),
        ),
        (String::new(), "security { privileged #true; }", "is privileged: every capability".into()),
        (String::new(), "security { capability add=\"SYS_PTRACE\"; }", "capability SYS_PTRACE".into()),
        (String::new(), "security { seccomp \"unconfined\"; }", "no system call filter".into()),
        (
            String::new(),
            "security { seccomp \"../canary/profile.json\"; }",
            "its own system call filter, ../canary/profile.json".into(),
        ),
        (String::new(), "namespace network=\"host\"", "the host's network".into()),
        (String::new(), "namespace pid=\"host\"", "the host's processes".into()),
        (String::new(), "device \"/dev/null\" to=\"/dev/x\"", "the device /dev/null".into()),
    ];
    for (top, node, mark) in cases {
        world.write("stead.kdl", &format!("{base}\n{top}\ncontainer \"c\" {{ image \"box\"; {SLEEP}; {node}; }}\n"));
        let found = marks(&world);
        assert!(found.contains(&mark), "{mark} in the marks of {node}: {found}");
        refused(&world, &["up"], &mark);
        let json: serde_json::Value = serde_json::from_str(&run(&world, &["plan", "--json"]).out).unwrap();
        let asks = |change: &serde_json::Value| {
            change["trust"].as_array().is_some_and(|all| all.iter().any(|mark| mark["grade"] == "asks"))
        };
        assert!(
            json["tasks"].as_array().unwrap().iter().flat_map(|task| task["changes"].as_array().into_iter().flatten()).any(asks),
            "{json}"
        );
    }
    assert!(world.ps().is_empty(), "nothing was made");
    // What stays inside the project is shown at most, without a question.
    world.write("stead.kdl", &format!("{base}\ncontainer \"c\" {{ image \"box\"; {SLEEP}; mount bind=\"box\" to=\"/b\"; }}\n"));
    assert!(marks(&world).contains("writes box of the host"), "{}", marks(&world));
    let up = run(&world, &["up"]);
    assert_eq!(up.code, 0, "{}", up.err);
    assert!(run(&world, &["stop"]).code == 0 && run(&world, &["start"]).code == 0);
}

#[test]
fn a_privileged_step_of_a_clone_is_not_run_unasked() {
    if !is_root() {
        return;
    }
    let image = "image \"tool\" { from \"box\"; run \"grep CapEff /proc/self/status > /caps\" privileged=#true; }\n";
    let world = ground("insecure", &[], &format!("{image}image \"legacy\" {{ dockerfile \"Dockerfile\"; }}\n"));
    own_store(&world);
    world.write("Dockerfile", "FROM scratch\nCOPY box/ /\nRUN --security=insecure [\"/bin/busybox\", \"touch\", \"/x\"]\n");
    for name in ["tool", "legacy"] {
        let ran = run(&world, &["build", name]);
        assert_ne!(ran.code, 0, "it was built: {}{}", ran.out, ran.err);
        refused(&world, &["build", name], "is privileged while it is built, nothing masked and no filter");
        refused(&world, &["build", name, "--allow", "files"], "is privileged while it is built");
        refused(&world, &["run", "-T", name, "true"], "is privileged while it is built");
        refused(&world, &["build", "--verify", name], "is privileged while it is built");
    }
    // An image that needs no consent is built without a question; the marks of an allowed image are shown.
    assert_eq!(run(&world, &["build", "box"]).code, 0);
    let built = run(&world, &["build", "--allow", "privileges"]);
    assert!(built.code == 0 && built.err.contains("! is privileged while it is built"), "{}", built.err);
    // Images that are built are not built again.
    assert_eq!(run(&world, &["build"]).code, 0);
    // A changed command needs consent again.
    world.edit("/caps", "/capabilities");
    refused(&world, &["build", "tool"], "is privileged while it is built");
}

#[test]
fn a_log_file_is_no_way_to_write_on_the_host() {
    if !is_root() {
        return;
    }
    let words = "while true; do echo said; sleep 0.1; done";
    let project = format!(
        "container \"c\" {{ image \"box\"; stop-grace \"50ms\"; cmd \"sh\" \"-c\" \"{words}\"; log {{ driver \"json-file\"; }} }}"
    );
    let world = ground("log-file", &[], &project);
    let canary = canary(&world);
    let (first, second) = (canary.join("first"), canary.join("second"));
    symlink(&first, world.folder.join("logs.json")).unwrap();
    run(&world, &["up"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(!first.exists(), "it was written through the link");
    refused(&world, &["up"], &format!("appends its output to logs.json of the host (it leads to {})", first.display()));
    // A log file inside the project needs no consent; a link that appears later is not followed.
    fs::remove_file(world.folder.join("logs.json")).unwrap();
    let up = run(&world, &["up"]);
    assert_eq!(up.code, 0, "{}", up.err);
    let said = || fs::read_to_string(world.folder.join("logs.json")).unwrap_or_default().contains("said");
    eventually("lines come", said);
    fs::remove_file(world.folder.join("logs.json")).unwrap();
    symlink(&second, world.folder.join("logs.json")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert!(!second.exists(), "it was written through the later link");
    // Other commands do not silently accept the new path either.
    run(&world, &["up"]);
    run(&world, &["restart", "c"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(!second.exists(), "it was taken over");
}

#[test]
fn a_mount_stays_what_was_looked_at_when_its_container_starts_again() {
    if !is_root() {
        return;
    }
    let script = "if [ -e /p/again ]; then cat /s/secret > /p/stolen; sleep 1000; fi; \
                  touch /p/again; mv /p/sub /p/old; ln -s $(cat /p/where) /p/sub; exit 1";
    let project = format!(
        "container \"c\" {{ image \"box\"; stop-grace \"50ms\"; cmd \"sh\" \"-c\" {script:?}; restart \"on-failure\" max=3; \
         mount bind=\".\" to=\"/p\"; mount bind=\"sub\" to=\"/s\"; }}"
    );
    let world = ground("swapped", &[], &project);
    let canary = canary(&world);
    fs::create_dir(world.folder.join("sub")).unwrap();
    world.write("where", canary.to_str().unwrap());
    run(&world, &["up"]);
    eventually("it was started again, or given up", || {
        world.folder.join("stolen").exists()
            || world.ps().iter().any(|row| row["state"] != "running" && row["state"] != "restarting")
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let stolen = fs::read_to_string(world.folder.join("stolen")).unwrap_or_default();
    assert!(!stolen.contains("secret"), "{stolen}");
    assert!(world.folder.join("again").exists(), "the attack was begun");
    refused(&world, &["up"], &format!("writes sub of the host (it leads to {})", canary.display()));
}

#[test]
fn consent_is_given_once_for_exactly_what_was_shown() {
    if !is_root() {
        return;
    }
    let project = format!(
        "container \"c\" {{ image \"box\"; {SLEEP}; mount bind=\"data\" to=\"/data\" read-only=#true; security {{ capability add=\"SYS_NICE\"; }} }}"
    );
    let world = ground("once", &[], &project);
    let canary = canary(&world);
    symlink(&canary, world.folder.join("data")).unwrap();
    let (seen, code) = on_terminal(&world, &["up"], "n");
    assert!(code == 1 && seen.contains("[y/N]") && seen.contains("capability SYS_NICE"), "{code} {seen}");
    assert!(seen.contains(&format!("reads data of the host (it leads to {}) (stead.kdl:", canary.display())), "{seen}");
    assert_eq!(on_terminal(&world, &["up"], "").1, 1);
    assert_eq!(run(&world, &["up"]).code, 1, "no is not remembered as yes");
    let (seen, code) = on_terminal(&world, &["up"], "y");
    assert_eq!(code, 0, "{seen}");
    // From now on nothing is asked, on a terminal or not, and also not for fewer permissions.
    world.ok(&["down"]);
    assert_eq!(run(&world, &["up"]).code, 0);
    world.edit("security { capability add=\"SYS_NICE\"; }", "");
    let (seen, code) = on_terminal(&world, &["up"], "n");
    assert!(code == 0 && !seen.contains("[y/N]"), "{seen}");
    // Only what is new is asked for.
    world.edit("read-only=#true;", "read-only=#true; security { capability add=\"SYS_NICE\"; capability add=\"SYS_PTRACE\"; }");
    let (seen, code) = on_terminal(&world, &["up"], "n");
    assert!(code == 1 && seen.contains("SYS_PTRACE") && !seen.contains("! has the capability SYS_NICE"), "{seen}");
    world.edit(" capability add=\"SYS_PTRACE\";", "");
    // A link with another target counts as another path.
    fs::remove_file(world.folder.join("data")).unwrap();
    symlink("/", world.folder.join("data")).unwrap();
    refused(&world, &["up"], "reads data of the host (it leads to /)");
    refused(&world, &["restart", "c"], "reads data of the host (it leads to /)");
    assert_eq!(world.container("c-1")["state"], "running", "what runs stays");
    fs::remove_file(world.folder.join("data")).unwrap();
    symlink(&canary, world.folder.join("data")).unwrap();
    assert_eq!(run(&world, &["up"]).code, 0);
    // Another checkout is another directory, and needs its own consent. Commands that start nothing never ask.
    let other = world.folder.with_file_name("other");
    copy_folder(&world.folder.join("box"), &other.join("box"));
    fs::copy(world.folder.join("stead.kdl"), other.join("stead.kdl")).unwrap();
    symlink(&canary, other.join("data")).unwrap();
    refused(&world, &["-C", other.to_str().unwrap(), "up"], "reads data of the host");
    let mut never = cold(&world, &["-C", other.to_str().unwrap(), "status"]);
    assert_eq!(never.output().unwrap().status.code(), Some(0));
    // The list of consents, a damaged record, and revoking consent.
    let list = run(&world, &["allow", "--list"]);
    assert!(list.out.contains(world.folder.to_str().unwrap()) && list.out.contains("SYS_NICE"), "{}", list.out);
    let records =
        fs::read_dir(world.root.join("state/instances")).unwrap().flatten().map(|entry| entry.path().join("consent.json"));
    let record = records.into_iter().find(|path| path.exists()).unwrap();
    assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    let good = fs::read(&record).unwrap();
    world.ok(&["down"]);
    for damaged in [&b"{}"[..], b"", &good[..good.len() - 3], b"{\"version\":9}"] {
        fs::write(&record, damaged).unwrap();
        let ran = run(&world, &["up"]);
        assert!(ran.code == 1 && ran.err.contains("is damaged"), "{}{}", ran.out, ran.err);
    }
    assert_eq!(run(&world, &["allow"]).code, 0);
    assert_eq!(run(&world, &["up"]).code, 0);
    world.ok(&["down"]);
    assert_eq!(run(&world, &["allow", "--revoke"]).code, 0);
    refused(&world, &["up"], "capability SYS_NICE");
}

#[test]
fn keys_of_the_caller_are_not_used_unasked() {
    if !is_root() {
        return;
    }
    let step = "add git=\"ssh://git@127.0.0.1:1/x\" commit=\"0123456789abcdef0123456789abcdef01234567\" to=\"/x\"";
    let world = ground("keys", &[], &format!("image \"app\" {{ from \"box\"; {step}; }}\n"));
    world.write("Dockerfile", "FROM scratch\nADD git@127.0.0.1:x.git#main /x\n");
    let used = world.folder.with_file_name("used");
    let ssh = world.folder.with_file_name("ssh");
    fs::write(&ssh, format!("#!/bin/sh\necho used >> {}\nexit 1\n", used.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let attempt = |arguments: &[&str]| {
        let mut command = cold(&world, arguments);
        Ran::from(command.env("GIT_SSH_COMMAND", &ssh).output().unwrap())
    };
    let told = attempt(&["build", "app"]);
    assert!(!used.exists(), "ssh was begun");
    assert!(told.code == 1 && told.err.contains("is fetched with your ssh keys"), "{}", told.err);
    // A branch must be looked up before anything is built.
    world.edit(step, "copy \"/bin/sh\" from=\"box\" to=\"/x\"");
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("stead.kdl", &format!("{text}image \"legacy\" {{ dockerfile \"Dockerfile\"; }}\n"));
    for arguments in [&["update"][..], &["build", "legacy"], &["bundle", "/dev/null"]] {
        let told = attempt(arguments);
        assert!(!used.exists(), "ssh was begun by {arguments:?}");
        assert!(told.code == 1 && told.err.contains("is fetched with your ssh keys"), "{arguments:?} {}", told.err);
    }
    attempt(&["update", "--allow", "privileges"]);
    assert!(used.exists(), "and it is, once that is allowed");
}

#[test]
fn variables_that_are_read_are_told_and_their_values_are_not() {
    if !is_root() {
        return;
    }
    let project = format!(
        "param \"key\" env=\"CLOUD_SECRET\" default=\"-\"\nparam \"old\" env=\"OLD_SECRET\" default=\"-\"\n\
         image \"app\" {{ from \"box\"; run \"echo ${{key}} > /dev/null\"; }}\n\
         container \"c\" {{ image \"app\"; {SLEEP}; env TOKEN=\"${{key}}\"; hostname \"h-${{old}}\"; }}\n"
    );
    let world = ground("variables", &[], &project);
    let with = |arguments: &[&str], value: &str| {
        let mut command = cold(&world, arguments);
        let ran = Ran::from(command.env("CLOUD_SECRET", value).env("OLD_SECRET", "hostpart").output().unwrap());
        format!("{}{}", ran.out, ran.err)
    };
    let plan = with(&["plan"], "hunter2-first");
    assert!(!plan.contains("hunter2"), "{plan}");
    assert!(plan.contains("reads the variable CLOUD_SECRET of your environment (stead.kdl:"), "{plan}");
    let up = with(&["up"], "hunter2-first");
    assert!(up.contains("up (") && !up.contains("hunter2"), "{up}");
    for arguments in [&["plan"][..], &["plan", "--json"], &["why", "c"], &["up"]] {
        let told = with(arguments, "hunter2-second");
        assert!(!told.contains("hunter2-"), "{arguments:?} {told}");
    }
}

/// Finds a character in foreign text that must not reach a terminal.
fn obeyed(text: &str) -> Option<char> {
    text.chars().find(|c| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}' | '\u{2029}')
    })
}

#[test]
fn what_others_wrote_is_shown_and_not_obeyed() {
    if !is_root() {
        return;
    }
    let hostile = r"\u{1b}[1A\u{1b}[2K\u{9b}8m\u{202e}\u{2066}\u{61c}\u{7f}\u{2028}";
    let words = r"printf '\\033[1A\\033[2Klast words\\342\\200\\256\\n'; exit 3";
    let project = format!(
        "image \"app\" {{ from \"box\"; run \"echo {hostile}\" privileged=#true; run \"echo {hostile}\" network=#true; label x=\"{hostile}\"; }}\n\
         container \"c\" {{ image \"app\"; env A=\"{hostile}\"; label b=\"{hostile}\"; cmd \"sh\" \"-c\" \"{words}\"; security {{ capability add=\"SYS_NICE\"; }} }}\n"
    );
    let world = ground("escapes", &[], &project);
    own_store(&world);
    let clean = |arguments: &[&str]| {
        let ran = world.run(arguments);
        let text = format!("{}{}", ran.out, ran.err);
        assert_eq!(obeyed(&text), None, "stead {arguments:?}\n{text:?}");
        (ran.code, text)
    };
    let (code, plan) = clean(&["plan"]);
    assert!(code == 0 && plan.contains(r"\u{1b}[1A\u{1b}[2K") && plan.contains(r"\u{202e}"), "{plan}");
    clean(&["plan", "--json"]);
    // A warning about the host is no part of the JSON.
    serde_json::from_str::<serde_json::Value>(&world.run(&["plan", "--json"]).out).unwrap();
    let (_, refusal) = {
        let ran = run(&world, &["up"]);
        (ran.code, ran.err)
    };
    assert!(obeyed(&refusal).is_none() && refusal.contains("! image app: is privileged"), "{refusal}");
    let (code, up) = clean(&["up"]);
    assert!(code != 0 && up.contains(r"\u{1b}[1A\u{1b}[2Klast words\u{202e}"), "{up}");
    for arguments in [
        &["ps", "--all"][..],
        &["ps", "--all", "--json"],
        &["inspect", "c"],
        &["image", "history", "app"],
        &["image", "inspect", "app"],
        &["images"],
        &["why", "c"],
        &["status"],
        &["events", "--since", "1h", "--until", "0s"],
        &["build", "--why"],
        &["allow"],
        &["allow", "--list"],
    ] {
        clean(arguments);
    }
    // A container's own output is passed through unchanged.
    assert!(world.run(&["logs", "c"]).out.contains("\u{1b}[2Klast words"));
    // Diagnostics quote lines of files, and point at the right place in them.
    world.write("stead.kdl", "project \"p\"\ncontainer \"\u{1b}[2Kx\u{202e}\" { imag \"a\u{1b}[8m\"; }\n");
    assert_ne!(clean(&["check"]).0, 0);
    clean(&["check", "--json"]);
    world.write("stead.kdl", &format!("project \"p\"\nnode-{} \"x\"\nsecret \"s\" fil=\"x\"\n", "\u{1b}[2K"));
    assert_ne!(clean(&["plan"]).0, 0);
    // Paths with invisible characters are refused, with their location.
    for node in [
        r#"mount bind="../\u{1b}[1A\u{1b}[2K" to="/x""#,
        r#"device "/dev/\u{202e}llun""#,
        r#"mount bind="a\nb" to="/x""#,
        r#"secret "s" to="/x\u{9b}""#,
    ] {
        world.write(
            "stead.kdl",
            &format!("project \"p\"\nsecret \"s\" file=\"s\"\ncontainer \"c\" {{\n    image \"x.example/y:1\"\n    {node}\n}}\n"),
        );
        let (code, told) = clean(&["plan"]);
        assert!(code == 1 && told.contains("invisible characters") && told.contains("stead.kdl:5:"), "{node}: {told}");
    }
}

#[test]
fn results_that_a_clone_brings_along_are_not_believed() {
    if !is_root() {
        return;
    }
    let world = ground("brought", &[], "");
    own_store(&world);
    let base = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let results = || -> std::collections::BTreeMap<String, String> {
        let all = fs::read_dir(world.root.join("store/results-2")).into_iter().flatten().flatten();
        all.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
    };
    let build = |text: &str, file: &str| {
        let before = results();
        world.write("f", file);
        world.write("stead.kdl", &format!("{base}{text}"));
        world.ok(&["build"]);
        results().into_iter().filter(|(key, _)| !before.contains_key(key)).collect::<Vec<_>>()
    };
    let image = "image \"i\" { from \"box\"; copy \"f\" to=\"/f\"; }\n";
    build("", "");
    let private = build(image, "private key of project one");
    let public = build(image, "public");
    // The clone claims that its step and its image have the results of the other project's.
    let is_layer = |text: &str| text.contains("diff_id");
    let of = |layer: bool| private.iter().find(|(_, text)| is_layer(text) == layer).unwrap().1.clone();
    for (key, text) in &public {
        fs::remove_file(world.root.join("store/results-2").join(key)).unwrap();
        for place in [".stead/results-2", "results-2", ".stead"] {
            world.write(&format!("{place}/{key}"), &of(is_layer(text)));
        }
    }
    copy_folder(&world.folder.join(".stead"), &world.folder.with_extension("sealed"));
    let told = world.run(&["run", "-T", "i", "cat", "/f"]);
    assert_eq!(told.out, "public", "{}", told.err);
    let check = world.run(&["check"]);
    assert!(check.code == 0 && check.err.contains("the directory .stead is ignored"), "{}", check.err);
}

#[test]
fn a_bundle_is_believed_for_what_it_names() {
    if !is_root() {
        return;
    }
    let world = ground(
        "named",
        &[],
        "image \"i\" { from \"box\"; copy \"f\" to=\"/f\"; run \"cp /f /made\"; }\ncontainer \"c\" { image \"i\"; cmd \"sleep\" \"1000\"; stop-grace \"50ms\"; mount bind=\"f\" to=\"/own\"; }\n",
    );
    world.write("f", "inside");
    let bundle = world.folder.with_file_name("x.stead");
    world.ok(&["bundle", bundle.to_str().unwrap()]);
    let there = ground("named-there", &[], "");
    own_store(&there);
    let bundle = bundle.to_str().unwrap();
    let built = there.run(&["-f", bundle, "build", "--offline", "--frozen"]);
    assert!(built.code == 0 && !built.err.contains("built i"), "{}{}", built.out, built.err);
    there.ok(&["-f", bundle, "up", "--offline", "--frozen"]);
    assert_eq!(there.ok(&["-f", bundle, "exec", "-T", "c", "cat", "/made", "/own"]), "insideinside");
    there.ok(&["-f", bundle, "down"]);
    let state = there.root.join("state/bundles");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    // Nothing that a container of the bundle could write is trusted, and neither is a bundle without its label.
    let sealed = fs::read_dir(&state)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "sealed"))
        .unwrap();
    let folder = sealed.with_extension("");
    assert!(!folder.join(".stead").exists() && fs::read_dir(sealed.join("results-2")).unwrap().count() > 1);
    fs::remove_file(sealed.join("bundle.json")).unwrap();
    let again = there.run(&["-C", folder.to_str().unwrap(), "build", "--offline", "--frozen"]);
    assert!(again.err.contains("built i"), "{}{}", again.out, again.err);
}

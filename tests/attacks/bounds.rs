//! Cloned directories with hostile content: `check`, `plan`, `status`, `why` and `up` soon end by themselves with an
//! error, and print nothing from this machine's files.
//!
//! Every command runs with limits on memory and time; a command that a limit kills fails the test.

use crate::ground::{SLEEP, canary, ground, is_root, tries};
use crate::world::{Ran, World, scratch, stead};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// A world whose project is replaced by a harmless one before it is taken down, because `down` runs without limits.
struct Hostile(World);

impl std::ops::Deref for Hostile {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        for path in ["stead.kdl", "stead.lock"] {
            let path = self.folder.join(path);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        self.write("stead.kdl", "project \"harmless\"\n");
    }
}

fn hostile(name: &str, project: &str) -> Hostile {
    // An earlier run that was killed may have left its hostile project, which the new world would take down first.
    let left = scratch().join(format!("attack-{name}/project/stead.kdl"));
    if left.exists() {
        fs::write(left, "project \"harmless\"\n").unwrap();
    }
    Hostile(ground(name, &[], project))
}

/// Runs a command with 1.5 GB of memory and 30 seconds (`STEAD_ATTACK_SECONDS` gives an emulated machine more time).
fn bounded(world: &World, arguments: &[&str]) -> Ran {
    with(world, arguments, &[])
}

fn with(world: &World, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
    let seconds = std::env::var("STEAD_ATTACK_SECONDS").unwrap_or_else(|_| "30".into());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1500000; exec timeout -s KILL \"$@\"", "sh", &seconds]).arg(stead()).args(arguments);
    command.current_dir(&world.folder).env("STEAD_ROOT", &world.root).env("NO_COLOR", "1").envs(env.iter().copied());
    Ran::from(command.output().unwrap())
}

/// Runs a command, and fails the test unless it ends by itself with an error that contains `says`.
fn refused(world: &World, arguments: &[&str], says: &str) -> String {
    let ran = bounded(world, arguments);
    let told = format!("{}{}", ran.out, ran.err);
    assert!(matches!(ran.code, 1 | 2), "stead {arguments:?} ended with {}, for {says:?}:\n{told:.2000}", ran.code);
    // Long lines are wrapped.
    let plain = told.split_whitespace().filter(|word| !matches!(*word, "│" | "·")).collect::<Vec<_>>().join(" ");
    assert!(plain.contains(says), "stead {arguments:?} says nothing of {says:?}:\n{told:.2000}");
    told
}

const ALL: [&[&str]; 5] = [&["check"], &["plan"], &["status"], &["why", "web"], &["up"]];
/// The commands that also look at the files that a project passes on.
const OBSERVING: [&[&str]; 4] = [&["plan"], &["status"], &["why", "web"], &["up"]];

fn fifo(world: &World, path: &str) {
    let made = Command::new("mkfifo").arg(world.folder.join(path)).status().unwrap();
    assert!(made.success());
}

/// A project whose container has the nodes `uses`; `more` follows the container.
fn project(name: &str, uses: &str, more: &str) -> Hostile {
    hostile(name, &format!("container \"web\" {{ image \"box\"; {SLEEP}; {uses} }}\n{more}"))
}

#[test]
fn files_that_are_none_are_refused_by_all() {
    if !is_root() {
        return;
    }
    let world = project("bounds-own", "", "include \"more.kdl\"\nimage \"made\" { dockerfile \"Dockerfile\"; }\n");
    let good = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("more.kdl", "");
    world.write("Dockerfile", "FROM scratch\n");
    for path in ["more.kdl", "Dockerfile", "stead.kdl", "stead.lock"] {
        let commands = if path == "stead.lock" { &OBSERVING[..] } else { &ALL[..] };
        for arguments in commands {
            let place = world.folder.join(path);
            let _ = fs::remove_file(&place);
            fifo(&world, path);
            refused(&world, arguments, "it is a FIFO");
            fs::remove_file(&place).unwrap();
            symlink("/dev/zero", &place).unwrap();
            refused(&world, arguments, "leads out of the project's directory");
            fs::remove_file(&place).unwrap();
            fs::create_dir(&place).unwrap();
            refused(&world, arguments, "it is a directory");
            fs::remove_dir(&place).unwrap();
        }
        match path {
            "stead.kdl" => world.write(path, &good),
            "Dockerfile" => world.write(path, "FROM scratch\n"),
            "more.kdl" => world.write(path, ""),
            _ => {}
        }
    }
    // A file that the user names may be outside the project, but it must still be a regular file.
    fifo(&world, "named.kdl");
    refused(&world, &["-f", "named.kdl", "check"], "it is a FIFO");
    fs::remove_file(world.folder.join("named.kdl")).unwrap();
    symlink("/dev/zero", world.folder.join("named.kdl")).unwrap();
    refused(&world, &["-f", "named.kdl", "check"], "it is a device");
    let elsewhere = canary(&world).join("project.kdl");
    fs::write(&elsewhere, "project \"x\"\n").unwrap();
    fs::remove_file(world.folder.join("named.kdl")).unwrap();
    symlink(&elsewhere, world.folder.join("named.kdl")).unwrap();
    assert_eq!(bounded(&world, &["-f", "named.kdl", "check"]).code, 0);
}

#[test]
fn files_that_are_handed_on_are_looked_at_first() {
    if !is_root() {
        return;
    }
    let uses: [(&str, &str); 5] = [
        ("secret \"it\"", "secret \"it\" file=\"hostile\"\n"),
        ("config \"it\" to=\"/it\"", "config \"it\" file=\"hostile\"\n"),
        ("env-file \"hostile\"", ""),
        ("security { seccomp \"hostile\" }", ""),
        ("", "image \"more\" { from archive=\"hostile\" }\ncontainer \"more\" { image \"more\" }\n"),
    ];
    for (number, (used, declared)) in uses.iter().enumerate() {
        let world = project(&format!("bounds-named{number}"), used, declared);
        let place = world.folder.join("hostile");
        for arguments in OBSERVING {
            fifo(&world, "hostile");
            refused(&world, arguments, "it is a FIFO");
            fs::remove_file(&place).unwrap();
            for outside in ["/dev/zero", "/proc/self/environ", canary(&world).join("secret").to_str().unwrap()] {
                symlink(outside, &place).unwrap();
                let told = refused(&world, arguments, "leads out of the project's directory");
                assert!(!told.contains("the host's secret") && !told.contains("STEAD_ROOT"), "{told}");
                fs::remove_file(&place).unwrap();
            }
            if !declared.contains("archive") {
                fs::File::create(&place).unwrap().set_len(1 << 40).unwrap();
                refused(&world, arguments, "it is longer than");
                fs::remove_file(&place).unwrap();
            }
        }
        fifo(&world, "hostile");
        assert_eq!(bounded(&world, &["check"]).code, 0, "the files are not looked at by check");
    }
    // An absolute path is explicit about where it leads, but it must still name a regular file.
    let world = project("bounds-absolute", "secret \"it\"", "secret \"it\" file=\"/dev/zero\"\n");
    refused(&world, &["plan"], "it is a device");
    // The same holds for the secrets of a build.
    let run =
        "image \"made\" { from \"box\"; run \"true\" { mount secret=\"it\" to=\"/it\" } }\nsecret \"it\" file=\"hostile\"\n";
    let world = project("bounds-build", "", run);
    for way in ["fifo", "link"] {
        let place = world.folder.join("hostile");
        let _ = fs::remove_file(&place);
        if way == "fifo" {
            fifo(&world, "hostile")
        } else {
            symlink(canary(&world).join("secret"), &place).unwrap()
        }
        let says = if way == "fifo" { "it is a FIFO" } else { "leads out of the project's directory" };
        refused(&world, &["build", "made", "--allow", "files"], says);
    }
}

#[test]
fn includes_stay_inside_and_nothing_of_others_is_printed() {
    if !is_root() {
        return;
    }
    let world = hostile("bounds-include", "include \"PATH\"\n");
    let secret = canary(&world).join("secret");
    symlink(&secret, world.folder.join("link.kdl")).unwrap();
    symlink(canary(&world), world.folder.join("folder")).unwrap();
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let paths = [
        secret.to_str().unwrap(),
        "../canary/secret",
        "/proc/self/environ",
        "link.kdl",
        "folder/secret",
        "/dev/stdin",
        "/proc/kmsg",
    ];
    for path in paths {
        for node in [format!("include \"{path}\""), format!("image \"made\" {{ dockerfile \"{path}\"; }}")] {
            world.write("stead.kdl", &text.replace("include \"PATH\"", &node));
            for arguments in [&["check"][..], &["plan"]] {
                let ran = bounded(&world, arguments);
                let told = format!("{}{}", ran.out, ran.err);
                assert_eq!(ran.code, 1, "{path}: {told}");
                assert!(!told.contains("the host's secret") && !told.contains("STEAD_ROOT="), "{path}: {told}");
            }
        }
    }
    let ran = bounded(&world, &["convert", "dockerfile", "link.kdl"]);
    assert!(ran.code == 1 && !ran.err.contains("the host's secret"), "{}", ran.err);
}

#[test]
fn includes_end() {
    if !is_root() {
        return;
    }
    let world = hostile("bounds-includes", "include \"f0.kdl\"\n");
    for file in 0..25 {
        let others =
            (0..25).map(|other| format!("include \"f{other}.kdl\"\ninclude \"./f{other}.kdl\"\ninclude \"x/../f{other}.kdl\"\n"));
        world.write(&format!("f{file}.kdl"), &others.collect::<String>());
    }
    fs::create_dir(world.folder.join("x")).unwrap();
    refused(&world, &["check"], "includes itself");
    refused(&world, &["plan"], "errors");
    // Cycles through a link with another name, and chains that are too long or too large.
    world.write("f0.kdl", "include \"l1.kdl\"\n");
    symlink("f0.kdl", world.folder.join("l1.kdl")).unwrap();
    refused(&world, &["check"], "includes itself");
    for file in 0..300 {
        world.write(&format!("f{file}.kdl"), &format!("include \"f{}.kdl\"\n", file + 1));
    }
    refused(&world, &["check"], "at most 256 files");
    let long = format!("/* {} */", " x".repeat(500_000));
    for file in 0..10 {
        world.write(&format!("f{file}.kdl"), &format!("include \"f{}.kdl\"\n{long}", file + 1));
    }
    refused(&world, &["check"], "at most 4 MiB together");
    // A file that is included twice is read once.
    world.write("f0.kdl", "include \"f1.kdl\"\ninclude \"./f1.kdl\"\n");
    world.write("f1.kdl", "volume \"data\"\n");
    assert_eq!(bounded(&world, &["check"]).code, 0);
}

#[test]
fn nesting_is_counted_before_anything_recurses() {
    if !is_root() {
        return;
    }
    let world = hostile("bounds-nesting", "");
    let good = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let nested = |begin: &str, depth: usize| format!("{}{}", begin.repeat(depth), "}".repeat(depth));
    for text in [
        nested("a /- {", 22),
        nested("a {", 5000),
        nested("a /- {", 200_000 / 7),
        nested("/- a {\nb\n", 22),
        nested("a {\nb\n/- c {", 22),
    ] {
        world.write("stead.kdl", &format!("{good}\n{text}"));
        refused(&world, &["check"], "deeper than");
        refused(&world, &["plan"], "error");
        world.write("stead.kdl", &format!("{good}\ninclude \"more.kdl\""));
        world.write("more.kdl", &text);
        refused(&world, &["check"], "more.kdl");
        world.write("stead.kdl", &good);
        world.write("stead.lock", &format!("lock version=1\n{text}"));
        for arguments in OBSERVING {
            refused(&world, arguments, "levels, and no lock is like that");
        }
        fs::remove_file(world.folder.join("stead.lock")).unwrap();
        let config = world.folder.with_file_name("config");
        fs::create_dir_all(config.join("stead")).unwrap();
        fs::write(config.join("stead/config.kdl"), &text).unwrap();
        let ran = with(&world, &["pull", "127.0.0.1:1/x:1"], &[("XDG_CONFIG_HOME", config.to_str().unwrap())]);
        assert!(
            ran.code == 1 && ran.err.contains("config.kdl:") && ran.err.contains("deeper than"),
            "{} {:.500}",
            ran.code,
            ran.err
        );
    }
    // Other input that could make a parser recurse, or report the same error without end.
    let comment = format!("/*{}*/", "* / ".repeat(200_000));
    world.write("stead.kdl", &format!("{good}\n{comment}"));
    assert_eq!(bounded(&world, &["check"]).code, 0, "a long comment is one");
    for part in
        ["a)", "}", "a=", "a {}b ", "/-", "a;", "\"", "/*", "true\n", "a \"\n", "contaner \"x\"\n", "#", "(", "// \u{b}a {"]
    {
        world.write("stead.kdl", &format!("{good}\n{}", part.repeat(tries() * 15_000 / part.len())));
        refused(&world, &["check"], "×");
        world.write("stead.kdl", &good);
        world.write("stead.lock", &format!("lock version=1\n{}", part.repeat(tries() * 15_000 / part.len())));
        refused(&world, &["plan"], "stead.lock:");
        fs::remove_file(world.folder.join("stead.lock")).unwrap();
    }
}

#[test]
fn parameters_and_arguments_do_not_swell() {
    if !is_root() {
        return;
    }
    let used = "${x}".repeat(20);
    let env: String = (0..5000).map(|number| format!("env A{number}=\"{used}\"\n")).collect();
    let param = format!("param \"x\" default=\"{}\"\n", "x".repeat(300_000));
    let world = hostile("bounds-swell", &format!("{param}image \"made\" {{ from \"box\"\n{env} }}\n"));
    refused(&world, &["check"], "more than 16 MiB");
    world.write("stead.kdl", "project \"x\"\nimage \"made\" { dockerfile \"Dockerfile\"; }\n");
    let many = |count: usize, line: &dyn Fn(usize) -> String| (1..count).map(line).collect::<String>();
    let (long, short) = ("a".repeat(8000), "a".repeat(100));
    let files = [
        (format!("ARG A0=xxxxxxxxxx\n{}ENV X=$A59\n", many(60, &|n| format!("ARG A{n}=$A{0}$A{0}\n", n - 1))), "at most 1 MiB"),
        (format!("ENV A={}\nENV B=$A$A\n", "x".repeat(600_000)), "longer than 1 MiB"),
        (format!("ENV A={long}{long}\n{}", many(3000, &|_| "RUN x\nLABEL a=$A$A$A$A\n".into())), "too long to be replaced"),
        (format!("ENV A={long}\nENV B=${{A//{}b/x}}\n", "?".repeat(4000)), "too long to be replaced"),
        (format!("ENV A={short}\n{}", many(1000, &|_| format!("LABEL a=${{A//{short}b/x}}\n"))), "too long to be replaced"),
        (many(300, &|n| format!("FROM scratch AS s{n}\n")), "at most 200 stages"),
        (many(20_000, &|_| "RUN x\n".into()), "10000 instructions"),
    ];
    for (text, says) in files {
        world.write("Dockerfile", &format!("FROM scratch\n{text}"));
        refused(&world, &["check"], says);
    }
    // A Dockerfile that is as large as allowed, with long values and expansions, is accepted.
    let text = format!("FROM scratch\nENV A={long}\nENV B=${{A#{}b}} C=${{A%%{}}}\n", "?".repeat(3000), "*a".repeat(2000));
    world.write("Dockerfile", &format!("{text}{}", many(4000, &|n| format!("ENV A{n}={short}\nRUN x\n"))));
    assert_eq!(bounded(&world, &["check"]).code, 0);
    let twice = |kind: &str| (0..9000).map(|number| format!("{kind} \"a{number}\"\n")).collect::<String>();
    world.write("stead.kdl", &format!("project \"x\"\n{}profile \"p\" {{ {} }}\n", twice("volume"), twice("network")));
    refused(&world, &["check", "--profile", "p"], "20000 nodes and values");
}

/// A world with an image that copies from its directory, where one file has a long name of a single repeated letter.
fn copying(name: &str, image: &str) -> Hostile {
    let world = hostile(
        name,
        &format!(
            "image \"made\" {{ from \"box\"; {image}; }}\ncontainer \"web\" {{ image \"made\"; cmd \"ls\" \"-a\" \"/srv\"; }}\n"
        ),
    );
    world.write(&format!("src/{}", "a".repeat(120)), "");
    world.write("src/.env", "PASSWORD=x\n");
    world.write("src/kept", "");
    world
}

#[test]
fn patterns_end() {
    if !is_root() {
        return;
    }
    let stars = format!("{}b", "*a".repeat(11));
    let world = copying("bounds-ignore", "copy \".\" to=\"/srv/\"");
    for pattern in [format!("src/{stars}"), format!("**/{stars}"), "**/**a".repeat(300), format!("{stars}\n").repeat(1000)] {
        world.write(".dockerignore", &pattern);
        assert_eq!(bounded(&world, &["plan"]).code, 0);
    }
    let long = [("*".repeat(1_000_000), 1), ("**/".repeat(330_000), 1), (format!(".env\n{}", "?".repeat(5000)), 2)];
    for (text, line) in long {
        world.write(".steadignore", &text);
        refused(&world, &["plan"], &format!(".steadignore:{line}: a pattern has at most 4095 bytes"));
    }
    world.write(".steadignore", &"x\n".repeat(20_000));
    refused(&world, &["plan"], ".steadignore:10001: an ignore file has at most 10000 patterns");
    let world = copying("bounds-exclude", &format!("copy \"src/\" to=\"/srv/\" {{ exclude \"{stars}\" }}"));
    assert_eq!(bounded(&world, &["plan"]).code, 0);
    let world = copying("bounds-glob", &format!("copy \"src/{stars}\" \"src/kept\" to=\"/srv/\""));
    refused(&world, &["plan"], "nothing matches");
    let world = copying("bounds-long", &format!("copy \"src/{}\" to=\"/srv/\"", "*a".repeat(3000)));
    refused(&world, &["check"], "a path has at most 4095 bytes");
    world.write("Dockerfile", &format!("FROM scratch\nCOPY --exclude={} . /\n", "*a".repeat(3000)));
    world.write("stead.kdl", "project \"x\"\nimage \"made\" { dockerfile \"Dockerfile\"; }\n");
    refused(&world, &["check"], "a path has at most 4095 bytes");
}

#[test]
fn an_ignore_file_that_cannot_be_read_lets_nothing_through() {
    if !is_root() {
        return;
    }
    let world = copying("bounds-bytes", "copy \"src/\" to=\"/srv/\"");
    let ignore = |bytes: &[u8]| fs::write(world.folder.join(".dockerignore"), bytes).unwrap();
    for arguments in [&["plan"][..], &["build", "made"], &["up"]] {
        ignore(b"# caf\xe9\n**/.env\n");
        refused(&world, arguments, ".dockerignore:1: this is not UTF-8");
        ignore(b"**/.env\n\xff\xfe\n");
        refused(&world, arguments, ".dockerignore:2: this is not UTF-8");
        ignore(format!("**/.env\n{}", "#\n".repeat(600_000)).as_bytes());
        refused(&world, arguments, "it is longer than 1 MiB");
        fs::remove_file(world.folder.join(".dockerignore")).unwrap();
        fs::create_dir(world.folder.join(".dockerignore")).unwrap();
        refused(&world, arguments, "it is a directory");
        fs::remove_dir(world.folder.join(".dockerignore")).unwrap();
        fifo(&world, ".dockerignore");
        refused(&world, arguments, "it is a FIFO");
        fs::remove_file(world.folder.join(".dockerignore")).unwrap();
        fs::write(canary(&world).join("ignore"), "").unwrap();
        symlink("../canary/ignore", world.folder.join(".dockerignore")).unwrap();
        refused(&world, arguments, "leads out of the project's directory");
        refused(&world, arguments, "help: put a copy of the file in its place");
        fs::remove_file(world.folder.join(".dockerignore")).unwrap();
        // A link that leads to nothing is not the same as no file.
        symlink("nowhere", world.folder.join(".dockerignore")).unwrap();
        refused(&world, arguments, "a link to a file that is not there");
        fs::remove_file(world.folder.join(".dockerignore")).unwrap();
    }
    // A byte order mark is not part of the first pattern, and é counts as one character.
    world.write("src/caf\u{e9}", "");
    ignore("\u{feff}**/.env\n**/caf?\n".as_bytes());
    let listed = bounded(&world, &["run", "web"]);
    assert!(listed.code == 0 && listed.out.contains("kept"), "{}{}", listed.out, listed.err);
    assert!(!listed.out.contains(".env") && !listed.out.contains("caf"), "{}", listed.out);
    // The ignore file of a Dockerfile's context, and the one beside the Dockerfile.
    world.write("build/Dockerfile", "FROM scratch\nCOPY . /\n");
    world.write("build/.env", "PASSWORD=x\n");
    world.write(
        "stead.kdl",
        "project \"x\"\nimage \"made\" { dockerfile \"build/Dockerfile\"; }\ncontainer \"web\" { image \"made\"; cmd \"x\"; }\n",
    );
    for name in ["build/.dockerignore", "build/Dockerfile.dockerignore"] {
        fs::write(world.folder.join(name), b"\xe9\n.env\n").unwrap();
        refused(&world, &["plan"], &format!("{name}:1: this is not UTF-8"));
        refused(&world, &["build", "made"], &format!("{name}:1: this is not UTF-8"));
    }
}

#[test]
fn variables_are_text() {
    if !is_root() {
        return;
    }
    let world = project("bounds-env", "env-file \"vars\"", "");
    fs::write(world.folder.join("vars"), b"A=1\nB=\xe9\n").unwrap();
    refused(&world, &["plan"], "vars:2: this is not UTF-8");
    fs::write(world.folder.join("vars"), "\u{feff}A=1\n").unwrap();
    world.ok(&["up"]);
    assert_eq!(world.exec("web", "echo $A"), "1");
}

#[test]
fn a_plan_takes_no_bundle_in() {
    if !is_root() {
        return;
    }
    let world = project("bounds-bundle", "", "");
    world.ok(&["bundle", "made.stead"]);
    let fresh = world.folder.with_file_name("fresh");
    let there = World { root: fresh.clone(), folder: world.folder.with_file_name("there") };
    fs::create_dir_all(&there.folder).unwrap();
    fs::rename(world.folder.join("made.stead"), there.folder.join("made.stead")).unwrap();
    for arguments in [&["plan"][..], &["why", "web"], &["status"]] {
        let arguments = [&["-f", "made.stead"], arguments].concat();
        refused(&there, &arguments, "is not unpacked yet");
        assert!(!fresh.exists(), "stead {arguments:?} wrote something");
    }
    assert_eq!(bounded(&there, &["-f", "made.stead", "check"]).code, 0);
    assert!(!fresh.exists(), "check wrote something");
    there.ok(&["-f", "made.stead", "build"]);
    let planned = bounded(&there, &["-f", "made.stead", "plan"]);
    assert!(planned.code == 0 && planned.out.contains("web"), "{}{}", planned.out, planned.err);
    fifo(&there, "pipe.stead");
    refused(&there, &["-f", "pipe.stead", "plan"], "it is a FIFO");
}

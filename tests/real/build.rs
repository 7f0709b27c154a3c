//! Builds: steps, the rules of `copy`, caching, and the same bytes everywhere.

use crate::world::{World, copy_folder, is_root};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// Text that no earlier test run had, because the shared store remembers what it built.
fn unlike(text: &str) -> String {
    static START: std::sync::LazyLock<std::time::SystemTime> = std::sync::LazyLock::new(std::time::SystemTime::now);
    format!("{text} {:?}\n", START.duration_since(std::time::UNIX_EPOCH).unwrap())
}

fn digests(world: &World) -> String {
    world.ok(&["build"])
}

#[test]
fn steps_do_what_they_say() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "steps",
        r##"
image "made" {
    from "base"
    copy "tree/" to="/opt/tree"
    copy "one.sh" to="/opt/exact"
    copy "one.sh" "two.txt" to="/opt/into/"
    copy "*.txt" to="/opt/glob/" owner="www-data" mode="0600"
    copy "one.sh" to="/bin/one"
    arg SECRETLESS="build"
    env KEEP="yes"
    workdir "/srv/w"
    run "pwd > where; echo $SECRETLESS > arg; id -u > who"
    user "nobody"
    run "id -un > /tmp/who; true"
    shell "/bin/bash" "-ec"
    run "[[ a == a ]] && echo bash > /tmp/shell"
    run "touch" "/tmp/a file"
    run "ls /sys/class/net > /tmp/links"
    label tier="test"
    expose 80
    entrypoint "/bin/echo"
    cmd "default"
}
image "small" { from "scratch"; copy "/bin/busybox" from="base" to="/bin/"; copy "/opt/tree" from="made" to="/t"; entrypoint "/bin/busybox"; }
"##,
    );
    world.write("tree/.dockerignore-is-not-here", "");
    world.write("tree/deep/file", "f");
    world.write("tree/skip/me", "x");
    world.write(".steadignore", "tree/skip\n");
    world.write("one.sh", "#!/bin/sh\necho one $KEEP\n");
    fs::set_permissions(world.folder.join("one.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    world.write("two.txt", "two");
    fs::set_permissions(world.folder.join("two.txt"), fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::symlink("deep/file", world.folder.join("tree/link")).unwrap();
    world.ok(&["build"]);
    assert_eq!(world.ok(&["run", "-T", "made"]), "default\n");
    assert_eq!(world.ok(&["run", "-T", "made", "hello"]), "hello\n");
    let shell = |script: &str| {
        world.edit("    entrypoint \"/bin/echo\"\n", "");
        let out = world.ok(&["run", "-T", "made", "sh", "-c", script]);
        world.edit("    cmd \"default\"", "    entrypoint \"/bin/echo\"\n    cmd \"default\"");
        out
    };
    assert_eq!(
        shell("cd /opt && find . | sort | tr '\\n' ' '"),
        ". ./exact ./glob ./glob/two.txt ./into ./into/one.sh ./into/two.txt ./tree ./tree/.dockerignore-is-not-here ./tree/deep ./tree/deep/file ./tree/link "
    );
    assert_eq!(
        shell("cd /opt; stat -c '%a %U' exact into/two.txt glob/two.txt; readlink tree/link; one"),
        "755 root\n644 root\n600 www-data\ndeep/file\none yes\n"
    );
    assert_eq!(
        shell(
            "cat /srv/w/where /srv/w/arg /srv/w/who /tmp/who /tmp/shell /tmp/links; echo \"[$SECRETLESS]\"; ls '/tmp/a file'; ls -ld /bin | cut -c1"
        ),
        "/srv/w\nbuild\n0\nnobody\nbash\nlo\n[]\n/tmp/a file\nl\n"
    );
    assert_eq!(
        world.ok(&["run", "-T", "small", "ls", "/", "/t"]).split_whitespace().collect::<Vec<_>>().join(" "),
        "/: bin dev etc proc sys t /t: deep link"
    );
}

#[test]
fn what_scripts_would_have_made_is_there() {
    if !is_root() {
        return;
    }
    let world = World::new("scripts", "");
    let shell = |script: &str| world.ok(&["run", "-T", "base", "sh", "-c", script]);
    // The image's own tools check the result.
    assert_eq!(shell("dpkg --audit; dpkg --verify 2>&1 | grep -v ' c /' | head -3; dpkg -l | grep -c ^ii | grep -q .."), "");
    assert_eq!(
        shell(
            "cp /etc/ld.so.cache /tmp/ours; ldconfig; ldconfig -C /tmp/ours -p | grep '=>' > /tmp/a; ldconfig -p | grep '=>' > /tmp/b; cmp /tmp/a /tmp/b && wc -l < /tmp/a | grep -q .. && echo same"
        ),
        "same\n"
    );
    assert_eq!(
        shell(
            "readlink -f /usr/bin/awk; id -u www-data; readlink /bin /var/run | tr '\\n' ' '; stat -c '%a %G' /etc/shadow; su -s /bin/sh nobody -c 'id -un'"
        ),
        "/usr/bin/mawk\n33\nusr/bin /run 640 shadow\nnobody\n"
    );
}

#[test]
fn the_same_bytes_under_every_circumstance() {
    if !is_root() {
        return;
    }
    let project = r#"
image "made" { from "base"; copy "src/" to="/src"; run "mkdir /out && cp -r /src/. /out && date > /dev/null"; }
"#;
    let world = World::new("bytes", project);
    for name in ["b", "a", "c/d"] {
        world.write(&format!("src/{name}"), name);
    }
    let first = digests(&world);
    // The second build has another directory, umask, locale, file owner, creation order and store.
    let other = world.folder.with_file_name("elsewhere");
    fs::create_dir_all(other.join("src/c")).unwrap();
    for name in ["c/d", "a", "b"] {
        fs::write(other.join("src").join(name), name).unwrap();
        std::os::unix::fs::chown(other.join("src").join(name), Some(1234), Some(1234)).unwrap();
        fs::set_permissions(other.join("src").join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    for name in ["stead.kdl", "stead.lock"] {
        fs::copy(world.folder.join(name), other.join(name)).unwrap();
    }
    let root = world.root.with_file_name("other-root");
    let line = format!("umask 077; exec taskset 1 {} build", env!("CARGO_BIN_EXE_stead"));
    let output = Command::new("sh")
        .args(["-c", &line])
        .current_dir(&other)
        .env("STEAD_ROOT", &root)
        .env("LC_ALL", "de_DE.UTF-8")
        .env("TZ", "Asia/Tokyo")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), first);
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_step_that_gives_the_same_bytes_stops_the_rebuild() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "cutoff",
        r#"
image "made" { from "base"; copy "input" to="/input"; run "cut -c1 /input > /first; rm /input"; }
image "user" { from "made"; run "cat /proc/sys/kernel/random/uuid > /uuid"; }
"#,
    );
    world.write("input", "abc");
    let first = digests(&world);
    assert_eq!(digests(&world), first, "nothing is built twice");
    world.write("input", "axx");
    // The layer of `copy` differs, so `run` runs again. It removes /input, so that the result differs only there.
    let second = digests(&world);
    assert_ne!(first, second);
    world.write("input", "abc");
    assert_eq!(digests(&world), first, "going back is found in the store");
}

#[test]
fn failures_tell_place_and_last_lines_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new("buildfail", "image \"made\" {\n    from \"base\"\n    run \"echo before; ls /nowhere\"\n}\n");
    let ran = world.fails(&["build", "made"]);
    assert!(ran.err.contains("stead.kdl:6") && ran.err.contains("    before") && ran.err.contains("/nowhere"), "{}", ran.err);
    world.edit("run \"echo before; ls /nowhere\"", "copy \"nothing-here\" to=\"/x\"");
    let ran = world.fails(&["build", "made"]);
    assert!(ran.err.contains("stead.kdl:6") && ran.err.contains("there is no \"nothing-here\" to copy"), "{}", ran.err);
    assert!(world.fails(&["build", "maed"]).err.contains("perhaps \"made\""));
    world.edit("copy \"nothing-here\" to=\"/x\"", "run \"busybox wget -T 1 -q http://127.0.0.1:9/\"");
    assert!(world.fails(&["build", "made"]).err.contains("network=#true"));
}

#[test]
fn a_link_among_the_sources_leads_nowhere() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "links",
        "image \"made\" { copy \"b/\" \"a/\" to=\"/srv\"; }\nimage \"mixed\" { copy \"a/\" to=\"/srv/\"; copy \"b/\" to=\"/srv/\"; }\n",
    );
    let outside = world.folder.with_file_name("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::create_dir_all(world.folder.join("a")).unwrap();
    std::os::unix::fs::symlink(&outside, world.folder.join("a/x")).unwrap();
    world.write("b/x/deep/evil", "evil");
    let ran = world.fails(&["build", "made"]);
    assert!(ran.err.contains("one source puts a file or link at /srv/x, and another a directory"), "{}", ran.err);
    world.ok(&["build", "mixed"]);
    assert_eq!(fs::read_dir(outside.join("deep")).unwrap().count(), 0, "the host's directory is untouched");
}

#[test]
fn collection_keeps_what_projects_use() {
    if !is_root() {
        return;
    }
    // This installation has a store of its own, so that nothing that other tests build is collected here.
    let world = World::bare("gc", "project \"gc\"\nimage \"a\" { copy \"a\" to=\"/a\" }\nimage \"b\" { copy \"b\" to=\"/b\" }\n");
    fs::remove_file(world.root.join("store")).unwrap();
    world.write("a", "1");
    world.write("b", "2");
    world.ok(&["build"]);
    assert!(world.ok(&["gc"]).contains("kept"));
    assert_eq!(world.ok(&["images", "--json"]).matches("\"gc/").count(), 2);
    world.write("a", "changed");
    world.ok(&["build"]);
    let done: serde_json::Value = serde_json::from_str(&world.ok(&["gc", "--json"])).unwrap();
    assert!(done["removed"].as_u64().unwrap() >= 2, "{done}");
    let moved = world.folder.with_file_name("moved");
    fs::rename(&world.folder, &moved).unwrap();
    let gc = world.command(&["gc", "--json"]).current_dir(&moved).output().unwrap();
    assert!(gc.status.success());
    assert_eq!(
        fs::read_dir(world.root.join("store/layers")).unwrap().count(),
        0,
        "a project whose directory is gone keeps nothing"
    );
    copy_folder(&moved, &world.folder);
}

#[test]
fn layers_made_ahead_are_those_made_one_by_one() {
    if !is_root() {
        return;
    }
    let copies = [
        r#"copy "first/" to="/""#,
        // These go into a directory that the first copy makes, through a link that it makes, and over one of its files.
        r#"copy "second.txt" to="/deep/in/it""#,
        r#"copy "second.txt" to="/way/in/there""#,
        r#"copy "second.txt" to="/deep/file""#,
        r#"copy "second.txt" to="/alone/file" owner="5:6""#,
        r#"copy "first/" to="/alone" owner="7:8""#,
    ];
    let at_once = format!("project \"at-once\"\nimage \"i5\" {{ {} }}", copies.join("; "));
    let mut one_by_one = "project \"one-by-one\"\n".to_owned();
    for (index, copy) in copies.iter().enumerate() {
        let from = if index == 0 { "scratch".into() } else { format!("i{}", index - 1) };
        one_by_one += &format!("image \"i{index}\" {{ from \"{from}\"; {copy}; }}\n");
    }
    let built = [("at-once", at_once), ("one-by-one", one_by_one)].map(|(name, text)| {
        let world = World::bare(name, &text);
        // Each world has a store of its own, so that no results are found there.
        fs::remove_file(world.root.join("store")).unwrap();
        fs::create_dir(world.root.join("store")).unwrap();
        world.write("first/deep/file", "1");
        world.write("second.txt", "2");
        std::os::unix::fs::symlink("deep", world.folder.join("first/way")).unwrap();
        let out = world.ok(&["build", "i5"]);
        out.lines().find(|line| line.starts_with("i5")).unwrap_or_else(|| panic!("no i5 in {out}")).to_owned()
    });
    assert_eq!(built[0], built[1]);
}

#[test]
fn building_twice_gives_the_same_bytes_or_tells_where_not() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "verify",
        "image \"exact\" { from \"base\"; copy \"src/\" to=\"/src\" owner=\"33\"; run \"sort /src/* > /sorted; umask > /umask; nproc > /dev/null\"; }\n\
         image \"file\" { dockerfile \"src/Dockerfile\" }\n",
    );
    for name in ["b", "a", "I", "ı"] {
        world.write(&format!("src/{name}"), name);
    }
    world.write("src/Dockerfile", "FROM base\nCOPY a b /x/\nRUN ls /x > /listed\n");
    world.ok(&["build"]);
    let told = world.ok(&["build", "--verify"]);
    assert!(told.lines().count() == 3 && told.lines().all(|line| line.ends_with(" same")), "{told}");
    world.edit("nproc > /dev/null", "date +%N > /when");
    world.ok(&["build"]);
    let told = world.fails(&["build", "--verify", "exact"]);
    assert!(told.out.contains("exact sha256:") && told.out.contains("  /when: byte "), "{}{}", told.out, told.err);
    assert!(!told.out.contains("/sorted"), "only what differs");
}

#[test]
fn what_is_below_changes_and_what_does_not_depend_on_it_stays() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "siblings",
        "image \"a\" {\n    copy \"first\" to=\"/one/\"\n    debian \"bookworm\" { package \"busybox-static\" \"python3\" \"libcap2-bin\" }\n    \
         copy \"large/\" to=\"/two\" owner=\"www-data\"\n    copy \"/usr/bin/python3\" from=\"base\" to=\"/three/\"\n}\n",
    );
    let lock = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    world.write("stead.lock", &lock.replace("image \"base\" debian=0", "image \"a\" debian=0"));
    world.write("first", &unlike("1"));
    world.write("large/x/y", &unlike("y"));
    world.ok(&["build", "a"]);
    world.write("first", &unlike("2"));
    // Only the first step runs: the inputs of the others did not change, and neither did the paths that they write to.
    let ran = world.run(&["build", "a"]).err;
    assert!(
        ran.contains("copy first") && !ran.contains("large") && !ran.contains("debian") && !ran.contains("python3 to"),
        "{ran}"
    );
    // If a directory on the way to the target gets another owner, the step runs again.
    world.edit("copy \"first\" to=\"/one/\"", "copy \"first\" to=\"/two/\" owner=\"7:7\"");
    let ran = world.run(&["build", "a"]).err;
    assert!(ran.contains("copy large/ to /two") && !ran.contains("debian"), "{ran}");
    assert_eq!(world.ok(&["run", "-T", "a", "cat", "/two/first", "/two/x/y"]), unlike("2") + &unlike("y"));
    // A copy from another image depends on the copied bytes, not on what else that image holds.
    world.edit("image \"base\" { debian", "image \"base\" { copy \"first\" to=\"/else\"; debian");
    let ran = world.run(&["build", "a"]).err;
    assert!(ran.contains("base: copy first") && !ran.contains("a: copy /usr/bin/python3"), "{ran}");
}

#[test]
fn layers_of_an_image_become_one() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "squashed",
        "image \"a\" { from \"base\"; run \"echo 1 > /one; rm -r /usr/share/doc; mkdir /d; echo x > /d/x\"; copy \"f\" to=\"/two\"; run \"rm /one; rm -r /d; mkdir /d; echo y > /d/y\"; squash #true; }\n",
    );
    world.write("f", "2");
    world.ok(&["build", "a"]);
    let layers = |image: &str| -> usize {
        let value: serde_json::Value = serde_json::from_str(&world.ok(&["image", "inspect", image])).unwrap();
        value["manifest"]["layers"].as_array().unwrap().len()
    };
    assert_eq!((layers("base"), layers("a")), (1, 2));
    assert_eq!(
        world.ok(&["run", "-T", "a", "sh", "-c", "ls -d /one /two /usr/share/doc 2>/dev/null; ls /d; cat /two"]),
        "/two\ny\n2"
    );
    assert!(world.ok(&["images", "--tree"]).lines().any(|line| line.contains("└─") && line.contains("squashed/a")));
}

#[test]
fn why_when_and_what_for() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "why",
        "image \"a\" { from \"base\"; copy \"one\" to=\"/one\"; run \"cp /one /two; echo $SOURCE_DATE_EPOCH > /when\"; }\n",
    );
    world.write("one", &unlike("1"));
    let ran = world.run(&["build", "a", "--why"]).err;
    assert!(ran.contains("← the image is not built yet (stead.kdl:4)"), "{ran}");
    world.write("one", &unlike("2"));
    let ran = world.run(&["build", "a", "--why"]).err;
    assert!(ran.contains("← one changed") && ran.contains("← an earlier step gave a different result (stead.kdl:4)"), "{ran}");
    assert!(!world.run(&["build", "a", "--why"]).err.contains("←"));
    // The latest file time comes from the lock, from the command line, and then from the updated lock.
    let first = world.ok(&["build", "a"]);
    let when = |world: &World| world.ok(&["run", "-T", "a", "sh", "-c", "stat -c %Y /one /two; cat /when"]);
    assert_eq!(when(&world), "1735689600\n1735689600\n1735689600\n");
    let other = world.ok(&["build", "a", "--epoch", "2020-01-01"]);
    assert_ne!(first, other);
    let digest = other.trim().rsplit(' ').next().unwrap();
    assert!(world.ok(&["image", "inspect", digest]).contains("2020-01-01T00:00:00Z"));
    assert_eq!(world.ok(&["build", "a"]), first);
    world.ok(&["update", "--epoch", "1577836800"]);
    assert_eq!(world.ok(&["build", "a"]), other);
    assert_eq!(when(&world), "1577836800\n1577836800\n1577836800\n");
    assert!(world.fails(&["build", "--epoch", "soon"]).err.contains("for example: --epoch"));
    // The provenance says how the image came about.
    let statement: serde_json::Value = serde_json::from_str(&world.ok(&["image", "provenance", "a"])).unwrap();
    let definition = &statement["predicate"]["buildDefinition"];
    assert!(definition["externalParameters"]["steps"][0].as_str().unwrap().starts_with("copy one"));
    assert!(definition["resolvedDependencies"].as_array().unwrap().iter().any(|one| one["uri"] == "urn:stead:image:base"));
}

#[test]
fn a_command_for_one_step_and_the_state_before_it() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "rescue",
        "image \"a\" {\n    from \"base\"\n    run \"id -un > /who; echo $ONLY > /only\" user=\"nobody:nogroup\" { env ONLY=\"here\"; mount tmpfs=#true to=\"/t\"; }\n}\n\
         image \"b\" {\n    from \"base\"\n    run \"echo before > /state\"\n    run \"echo after > /state; echo why >&2; exit 3\"\n}\n\
         image \"aa\" {\n    from \"base\"\n    run \"sleep 2; exit 1\"\n}\n",
    );
    // The root directory belongs to root, so the user nobody cannot write there.
    assert!(world.fails(&["build", "a"]).err.contains("Permission denied"));
    world.edit("id -un > /who; echo $ONLY > /only", "id -un > /tmp/who; echo $ONLY > /tmp/only");
    world.ok(&["build", "a"]);
    assert_eq!(world.ok(&["run", "-T", "a", "sh", "-c", "cat /tmp/who /tmp/only; echo $ONLY; id -un"]), "nobody\nhere\n\nroot\n");
    let failed = world.fails(&["build", "b"]);
    assert!(
        failed.err.contains("stead.kdl:11")
            && failed.err.contains("why")
            && failed.err.contains("stead build --shell-on-failure b"),
        "{}",
        failed.err
    );
    let line = format!("{} build aa b --shell-on-failure", env!("CARGO_BIN_EXE_stead"));
    let mut shell = Command::new("script");
    shell.args(["-qec", &line, "/dev/null"]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).env("NO_COLOR", "1");
    let mut child = shell.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    // If the command ended too early, its output says why, so this result is checked after the output.
    let sent = std::io::Write::write_all(&mut stdin, b"cat /state; echo $((6*7)); exit\n");
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(sent.is_ok(), "{sent:?}: {text}");
    assert!(text.contains("before `run echo after") && text.contains("before\r\n42"), "{text}");
    assert!(!out.status.success(), "the build failed all the same");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_dockerfile_is_converted_to_what_builds_the_same() {
    if !is_root() {
        return;
    }
    let world = World::new("converted", "image \"app\" { dockerfile \"d/Dockerfile\" { arg V=\"2\"; } }\n");
    world.write("d/Dockerfile", "FROM base AS make\nARG V=1\nWORKDIR /src\nCOPY . .\nRUN <<E\nset -e\ncat a > out\necho $V >> out\nE\nFROM base\nCOPY --from=make --chmod=640 /src/out /out\nENV A=\"x y\"\nLABEL l=\"\\\"q\\\"\"\nHEALTHCHECK CMD true\nCMD cat /out\n");
    world.write("d/a", "file\n");
    let digest = || world.ok(&["build", "app"]).lines().find(|line| line.starts_with("app ")).map(str::to_owned);
    let built = digest();
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let converted = world.ok(&["convert", "dockerfile", "d/Dockerfile", "--arg", "V=2", "--name", "app"]);
    assert!(converted.contains("image \"app-make\" {") && converted.contains("from=\"app-make\""), "{converted}");
    let kept = text.lines().filter(|line| !line.contains("dockerfile")).collect::<Vec<_>>().join("\n");
    world.write("stead.kdl", &format!("{kept}\n{converted}"));
    assert_eq!(digest(), built, "{converted}");
    world.write("d/bad", "FROM base\nRUM x\n");
    let failed = world.fails(&["convert", "dockerfile", "d/bad"]).err;
    assert!(failed.contains("there is no instruction RUM") && failed.contains("d/bad:2"), "{failed}");
}

/// As with BuildKit; the project's own steps take names as they come, too.
#[test]
fn a_context_keeps_names_of_one_file_fifos_and_any_bytes() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "context",
        "image \"app\" { dockerfile \"d/Dockerfile\" }\nimage \"own\" { from \"base\"; copy \"d\" to=\"/d\" }\n",
    );
    world.write(
        "d/Dockerfile",
        "FROM base\nCOPY . /d\nRUN cd /d && stat -c '%n %h %F' a b pipe sub/c > /told && ls > /names && readlink to >> /names\n",
    );
    let content = unlike("file");
    world.write("d/a", &content);
    world.write("d/sub/x", "");
    let at = |name: &[u8]| world.folder.join("d").join(std::ffi::OsStr::from_bytes(name));
    fs::hard_link(at(b"a"), at(b"b")).unwrap();
    fs::hard_link(at(b"a"), at(b"sub/c")).unwrap();
    fs::write(at(b"caf\xe9"), "latin").unwrap();
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(b"caf\xe9"), at(b"to")).unwrap();
    fs::create_dir_all(at(b"sub/d\xe9/e\xff")).unwrap();
    fs::write(at(b"sub/d\xe9/e\xff/f"), "deep").unwrap();
    assert!(Command::new("mkfifo").arg(at(b"pipe")).status().unwrap().success());
    world.ok(&["build", "app", "own"]);
    let told =
        world.ok(&["run", "-T", "app", "sh", "-c", "cat /told /d/caf*; cat /d/sub/d*/e*/f; od -An -tx1 /names | tr -d ' \\n'"]);
    assert!(told.starts_with("a 3 regular file\nb 3 regular file\npipe 1 fifo\nsub/c 3 regular file\nlatindeep"), "{told}");
    assert!(told.contains("636166e90a") && told.trim_end().ends_with("636166e90a"), "{told}");
    assert_eq!(
        world.ok(&["run", "-T", "own", "sh", "-c", "cat /d/caf*; stat -c %h /d/a; test -p /d/pipe && echo fifo"]),
        "latin1\nfifo\n"
    );
    assert!(world.ok(&["build", "app", "--verify"]).contains("same"));
    // A link that is broken up is another content; the time of a file is not.
    assert!(!world.ok(&["build", "app", "--why"]).contains("changed"));
    fs::remove_file(at(b"b")).unwrap();
    fs::write(at(b"b"), &content).unwrap();
    let why = world.run(&["build", "app", "--why"]);
    assert!(format!("{}{}", why.out, why.err).contains("d/b"), "{why:?}");
    world.ok(&["down"]);
}

/// What is built from another project's image of this machine is verified with that image: it can be had from nowhere else.
#[test]
fn an_image_of_another_project_is_there_when_it_is_verified() {
    if !is_root() {
        return;
    }
    let world = World::new("verify-other", "");
    world.ok(&["build"]);
    let other = world.folder.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("stead.kdl"), "project \"other\"\nimage \"m\" { from \"verify-other/base\"; run \"echo 1 > /one\" }\n")
        .unwrap();
    let there = other.display().to_string();
    world.ok(&["-C", &there, "build", "m"]);
    assert!(world.ok(&["-C", &there, "build", "m", "--verify"]).contains("same"));
}

#[test]
fn what_commands_and_archives_may_not_do() {
    if !is_root() {
        return;
    }
    let world = World::new("review", "");
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let write = |images: &str| world.write("stead.kdl", &format!("{text}{images}"));
    // When a command replaces a directory above a mount point by a link, removing the mount point does not follow that
    // link (class of CVE-2024-23652).
    let victim = world.root.join("victim");
    fs::create_dir_all(victim.join("folder")).unwrap();
    fs::write(victim.join("file"), "").unwrap();
    let to = victim.display();
    write(&format!(
        "image \"a\" {{ from \"base\"; run \"mv /a /c && ln -s {to} /a\" {{ mount tmpfs=#true to=\"/a/folder\"; mount script=\"x\" to=\"/a/file\" }} }}\n"
    ));
    let _ = world.run(&["build", "a"]);
    assert!(victim.join("folder").is_dir() && victim.join("file").exists(), "the host's files are gone");
    // File names with a special meaning in a layer are refused.
    write("image \"a\" { from \"base\"; run \": > /etc/.wh.issue\"; }\n");
    assert!(world.fails(&["build", "a"]).err.contains("begin with .wh."));
    // A later step that edits a copied file in place does not change what is copied.
    write("image \"a\" { from \"base\"; copy \"two/\" to=\"/srv\"; run \"echo edited >> /srv/x\"; }\n");
    world.write("two/x", "x\n");
    world.write("two/other", "1");
    world.ok(&["build", "a"]);
    world.write("two/other", "2");
    world.ok(&["build", "a"]);
    assert_eq!(world.ok(&["run", "-T", "a", "cat", "/srv/x", "/srv/other"]), "x\nedited\n2");
    // A step that changes nothing is not run again after a garbage collection.
    write("image \"a\" { from \"base\"; run \"true\"; env A=\"1\"; }\n");
    world.ok(&["build", "a"]);
    world.ok(&["gc"]);
    assert!(!world.run(&["build", "a"]).err.contains("run true"));
    // A file that a later layer deletes is also absent for a copy from that image.
    write(
        "image \"f\" { from \"base\"; run \"mkdir /d; touch /d/old\"; run \"rm -r /d; mkdir /d; touch /d/new\" }\nimage \"a\" { from \"base\"; copy \"/d/*\" from=\"f\" to=\"/out/\"; }\n",
    );
    world.ok(&["build", "a"]);
    assert_eq!(world.ok(&["run", "-T", "a", "ls", "/out"]), "new\n");
    // The plan marks what a build reads from the host, and an ssh agent is used only when the user asks for it.
    world.write("Dockerfile", "FROM base\nRUN --mount=type=ssh true\n");
    write(
        "secret \"k\" file=\"../outside\"\nimage \"a\" { from \"base\"; run \"true\" { mount secret=\"k\" to=\"/k\" } }\nimage \"s\" { dockerfile \"Dockerfile\" }\ncontainer \"c\" { image \"a\"; }\ncontainer \"d\" { image \"s\"; }\n",
    );
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("reads ../outside of the host while it is built") && plan.contains("uses your ssh agent"), "{plan}");
    assert!(world.fails(&["build", "s"]).err.contains("stead build --ssh s"));
}

#[test]
fn files_that_did_not_change_are_not_copied_again() {
    if !is_root() {
        return;
    }
    let steps = |to: &str| format!("image \"made\" {{ copy \"tree/\" to=\"{to}\"; }}\n");
    let world = World::bare("relinked", &format!("project \"relinked\"\n{}", steps("/t")));
    for index in 0..200 {
        world.write(&format!("tree/d{}/f{index}", index % 10), &unlike(&format!("relinked {index}")));
    }
    world.ok(&["build"]);
    // The inode of a file in the image `made`.
    let inode = |path: &str| {
        let images: serde_json::Value = serde_json::from_str(&world.ok(&["images", "--json"])).unwrap();
        let digest = digests(&world).split_whitespace().nth(1).unwrap().to_owned();
        let image = images["images"].as_array().unwrap().iter().find(|image| image["digest"] == digest.as_str()).unwrap();
        let diff_id = image["layers"][0]["diff_id"].as_str().unwrap().trim_start_matches("sha256:");
        fs::metadata(world.root.join("store/layers").join(diff_id).join(path)).unwrap().ino()
    };
    let (kept, gone, moded) = (inode("t/d0/f0"), inode("t/d1/f1"), inode("t/d2/f2"));
    world.write("tree/d1/f1", &unlike("other"));
    fs::set_permissions(world.folder.join("tree/d2/f2"), fs::Permissions::from_mode(0o755)).unwrap();
    world.write("tree/d3/f3", "");
    let changed = digests(&world);
    assert_eq!(inode("t/d0/f0"), kept);
    assert_ne!(inode("t/d1/f1"), gone);
    assert_ne!(inode("t/d2/f2"), moded, "permissions changed");
    // A build from scratch gives the same result.
    let fresh = |expected: &str| {
        let root = tempfile::tempdir().unwrap();
        let made = world.command(&["build"]).env("STEAD_ROOT", root.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&made.stdout), expected);
    };
    fresh(&changed);
    for (from, to) in [("to=\"/t\"", "to=\"/u\""), ("to=\"/u\"", "to=\"/u\" mode=\"0640\""), (" mode=\"0640\"", " owner=\"7:8\"")]
    {
        world.edit(from, to);
        let made = digests(&world);
        assert_ne!(inode("u/d0/f0"), kept, "{to}");
        fresh(&made);
    }
}

#[test]
fn a_privileged_command_is_held_back_by_nothing_and_leaves_what_it_wrote() {
    if !is_root() {
        return;
    }
    let steps = "run \"busybox mount -t tmpfs none /mnt && touch /mnt/gone /kept && test -e /dev/kmsg && grep Seccomp: /proc/self/status > /filter\"";
    let world = World::new(
        "privileged-build",
        &format!(
            "image \"app\" {{ from \"base\"; {steps} privileged=#true; }}\nimage \"held\" {{ from \"base\"; {steps}; }}\n\
             image \"docker\" {{ dockerfile \"Dockerfile\" }}\n"
        ),
    );
    world.write(
        "Dockerfile",
        "FROM base\nRUN --security=insecure busybox mount -t tmpfs none /mnt\nRUN --security=sandbox ! busybox mount -t tmpfs none /mnt\n",
    );
    world.ok(&["build", "app", "docker"]);
    assert_eq!(world.ok(&["run", "-T", "app", "sh", "-c", "cat /filter; ls -d /kept; ls /mnt"]), "Seccomp:\t0\n/kept\n");
    assert!(world.ok(&["image", "diff", "base", "app"]).lines().all(|line| !line.contains("/dev")));
    let ran = world.fails(&["build", "held"]);
    assert!(ran.err.contains("permission denied") || ran.err.contains("not permitted"), "{}", ran.err);
}

/// Whatever an image is built again for is named: permissions, what a command mounts, what the lock says.
#[test]
fn the_cause_of_a_step_is_named_whatever_it_is() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "whatever",
        "image \"made\" { dockerfile \"d/Dockerfile\" }\ncontainer \"c\" { image \"made\"; cmd \"true\" }\n",
    );
    world.write("d/Dockerfile", "FROM base\nCOPY a /a\nRUN --mount=type=bind,source=m,target=/m cat /m/b > /c\n");
    // The store that tests share must not have any of it.
    let unique = format!("{:?}", std::time::SystemTime::now());
    for file in ["d/a", "d/m/b"] {
        world.write(file, &unique);
    }
    let why = || world.run(&["build", "made", "--why"]).err;
    why();
    std::fs::set_permissions(world.folder.join("d/a"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let told = why();
    assert!(told.contains("← d/a: permissions changed"), "{told}");
    world.write("d/m/b", &format!("{unique} again"));
    let told = why();
    assert!(told.contains("← d/m/b changed"), "{told}");
    std::fs::set_permissions(world.folder.join("d/m/b"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let told = why();
    assert!(told.contains("← d/m/b: permissions changed"), "{told}");
    // Another file than the one that is locked: `plan` names it, whether it can be had or not.
    let lock = std::fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    let at = lock.find("sha256=").or_else(|| lock.find("sha256 ")).unwrap();
    let first = at + lock[at..].find('"').unwrap() + 1;
    let mut changed = lock.clone();
    changed.replace_range(first..first + 4, if &lock[first..first + 4] == "0000" { "1111" } else { "0000" });
    world.write("stead.lock", &changed);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("image base (build)") && plan.contains("stead.lock: base-files: its sha256 is 0000"), "{plan}");
}

#[test]
fn devices_that_a_command_makes_are_told_and_left_out() {
    if !is_root() {
        return;
    }
    let script = "mkdir /srv/d; mknod /srv/d/null c 1 3; mknod /srv/d/loop b 7 0; mkfifo /srv/d/fifo; echo x > /srv/d/file; rm /etc/debian_version; mknod /etc/debian_version c 1 3";
    // Another run of this test may have left its result in the store.
    let script = format!("{script}; : {}", std::process::id());
    let world = World::new(
        "mknod",
        &format!(
            "image \"app\" {{ from \"base\"; run \"{script}\"; }}\nimage \"mark\" {{ from \"base\"; run \"mknod /srv/mark c 0 0\"; }}\n"
        ),
    );
    let ran = world.run(&["build", "app"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let warning = ran.err.lines().find(|line| line.starts_with("warning: app:")).unwrap_or_else(|| panic!("{}", ran.err));
    for told in ["mknod /srv/d/null", "/srv/d/loop", "/etc/debian_version", "not in the image", "`device`"] {
        assert!(warning.contains(told), "{warning}");
    }
    let listed = world.ok(&["run", "-T", "app", "sh", "-c", "ls /srv/d; test -e /etc/debian_version; echo $?"]);
    assert_eq!(listed, "fifo\nfile\n1\n", "what a device hid is not there again");
    // What overlayfs itself means by such a device cannot be made by a command.
    let ran = world.fails(&["build", "mark"]);
    assert!(ran.err.contains("not permitted"), "{}", ran.err);
}

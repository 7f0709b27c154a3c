//! A shell for working on a project, and the commands that have names.

use crate::world::{Ran, World, is_root};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};

const PROJECT: &str = r#"
container "web" { image "base"; env GREETING="it's"; cmd "sleep" "1000"; }
task "greet" {
    container "web"
    cmd "sh" "-c" "echo $GREETING $WHO $1 $2; pwd; exit 7" "sh"
    env WHO="task"
    workdir "/tmp"
}
"#;

/// `stead shell` as root that came without `sudo`, and that allows nothing.
fn command(world: &World, words: &[&str]) -> Command {
    let mut command = world.command(&[&["shell"][..], words].concat());
    for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "STEAD_ALLOW", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command
}

fn shell(world: &World, words: &[&str]) -> Ran {
    Ran::from(command(world, words).output().unwrap())
}

#[test]
fn a_shell_works_on_the_projects_files_as_their_owner() {
    if !is_root() {
        return;
    }
    let world = World::new("shell", PROJECT);
    let folder = fs::canonicalize(&world.folder).unwrap();
    world.write("sub/file", "of the project");
    for path in [folder.clone(), folder.join("sub")] {
        chown(path, Some(1234), Some(1235)).unwrap();
    }
    assert_eq!(shell(&world, &["--", "pwd"]).out, format!("{}\n", folder.display()));
    assert_eq!(shell(&world, &["web", "--", "sh", "-c", "id -u; id -g; id -G"]).out, "1234\n1235\n1235\n");
    let ran = shell(&world, &["base", "--", "sh", "-c", "cat sub/file; echo new > made; exit 9"]);
    assert_eq!((ran.code, ran.out.as_str()), (9, "of the project"), "{}", ran.err);
    let made = fs::metadata(folder.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.len()), (1234, 1235, 4));
    let below = command(&world, &["--", "pwd"]).current_dir(folder.join("sub")).output().unwrap();
    assert_eq!(Ran::from(below).out, format!("{}\n", folder.join("sub").display()));
    let by_sudo = command(&world, &["--", "id", "-u"]).env("SUDO_UID", "4321").env("SUDO_GID", "4321").output().unwrap();
    assert_eq!(Ran::from(by_sudo).out, "4321\n");
    // The home directory is the user's own, and is kept.
    let first = shell(&world, &["--", "sh", "-c", "echo kept > \"$HOME/file\"; dirname \"$HISTFILE\"; stat -c %u:%a \"$HOME\""]);
    assert!(first.out.ends_with("1234:700\n") && first.out.starts_with('/'), "{first:?}");
    let second = shell(&world, &["--", "sh", "-c", "cat \"$HOME/file\"; test \"$HOME\" = \"$(dirname \"$HISTFILE\")\""]);
    assert_eq!((second.code, second.out.as_str()), (0, "kept\n"), "{second:?}");
    assert_eq!(shell(&world, &["--", "no-such-program"]).code, 127);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_shell_has_names_for_its_numbers_and_changes_no_image() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "shell-names",
        r#"
config "accounts" { content "mine:x:61721:61722::/:/bin/sh\n"; }
container "web" { image "base"; }
container "own" { image "base"; config "accounts" to="/etc/passwd"; }
container "said" { image "base"; env USER="app"; }
"#,
    );
    let names = |name: &str| shell(&world, &[name, "--", "sh", "-c", "whoami; id -gn; echo $USER $LOGNAME"]).out;
    chown(&world.folder, Some(61721), Some(61722)).unwrap();
    assert_eq!(names("web"), "user\nuser\nuser user\n");
    assert_eq!(names("said"), "user\nuser\napp user\n", "what the project sets stays");
    assert_eq!(names("own"), "mine\nuser\n\n", "what the container has there stays");
    let line = shell(&world, &["web", "--", "sh", "-c", "head -n 1 /etc/passwd; tail -n 1 /etc/passwd; ls -ln /etc/passwd"]).out;
    let lines: Vec<&str> = line.lines().collect();
    assert!(lines[0].starts_with("root:") && lines[2].starts_with("-rw-r--r-- 1 0 0 "), "{line}");
    assert_eq!(lines[1], "user:x:61721:61722::/run/stead-home:/bin/sh");
    // The image, and every other container of it, has what it had.
    assert_eq!(
        world.run(&["run", "-T", "base", "grep", "-c", "61721", "/etc/passwd", "/etc/group"]).out,
        "/etc/passwd:0\n/etc/group:0\n"
    );
    let by_sudo = command(&world, &["web", "--", "sh", "-c", "whoami; id -gn"])
        .env("SUDO_UID", "61723")
        .env("SUDO_GID", "61723")
        .env("SUDO_USER", "grace")
        .output()
        .unwrap();
    assert_eq!(Ran::from(by_sudo).out, "grace\ngrace\n");
    // A number that the image knows keeps its name, and then there is no copy.
    chown(&world.folder, Some(33), Some(33)).unwrap();
    assert_eq!(names("web"), "www-data\nwww-data\nwww-data www-data\n");
    let mounts = shell(&world, &["web", "--", "cat", "/proc/self/mountinfo"]).out;
    assert!(mounts.contains(" /etc/hosts ") && !mounts.contains(" /etc/passwd ") && !mounts.contains(" /etc/group "), "{mounts}");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_shell_is_the_callers_if_the_image_has_it_and_knows_who_makes_commits() {
    if !is_root() {
        return;
    }
    let world = World::new("shell-caller", PROJECT);
    let typed = |shell: &str, text: &str| {
        let mut command = command(&world, &[]);
        let child = command.env("SHELL", shell).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ran::from(child.wait_with_output().unwrap())
    };
    for (shell, wanted) in [("/usr/bin/no-such-shell", "/bash\n"), ("/bin/dash", "/dash\n"), ("/bin/false", "/bash\n")] {
        let ran = typed(shell, "echo $SHELL\nexit 5\n");
        assert!(ran.code == 5 && ran.out.ends_with(wanted), "{shell}: {ran:?}");
    }
    world.write("home/.gitconfig", "[user]\n\tname = \"Ada L.\"\n\temail = ada@example.org\n");
    let author = || {
        let script = "echo \"$GIT_AUTHOR_NAME <$GIT_COMMITTER_EMAIL>\" $TERM";
        let mut command = command(&world, &["--", "sh", "-c", script]);
        Ran::from(command.env("HOME", world.folder.join("home")).env("TERM", "screen").output().unwrap()).out
    };
    assert_eq!(author(), "Ada L. <ada@example.org> screen\n");
    world.write(".git/config", "[core]\n\tbare = false\n[user]\n\temail = ada@work.example\n");
    assert_eq!(author(), "Ada L. <ada@work.example> screen\n");
    world.edit("task \"greet\"", "container \"db\" { image \"base\"; }\ntask \"greet\"");
    let unclear = shell(&world, &["--", "true"]);
    assert!(unclear.code == 2 && unclear.err.contains("several containers: db, web"), "{unclear:?}");
    assert_eq!(shell(&world, &["db", "--", "true"]).code, 0);
    // What the container itself asks for still needs consent.
    world.edit("container \"db\" { image \"base\"; }", "container \"db\" { image \"base\"; mount bind=\"/etc\" to=\"/host\"; }");
    let asked = shell(&world, &["db", "--", "true"]);
    assert!(asked.code != 0 && asked.err.contains("writes /etc of the host") && !asked.err.contains("stead-home"), "{asked:?}");
    assert!(asked.err.contains("stead shell --allow files"), "{asked:?}");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn the_environment_of_a_container_is_printed_for_a_shell_of_the_host() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "shell-env",
        r#"
image "with-env" { from "base"; env PATH="/opt/bin:/bin" LANG="C.UTF-8" "a;touch"=1 }
container "web" { image "with-env"; env GREETING="it's $HOME \\ `x`\nsecond line" LD_PRELOAD="/x" PROMPT_COMMAND="touch ran" PS4="$(touch ran)"; }
"#,
    );
    let printed = world.ok(&["shell", "--print-env"]);
    assert!(printed.contains("export GREETING='it'\\''s $HOME \\ `x`\nsecond line'\n"), "{printed}");
    assert!(!printed.contains("PATH") && !printed.contains("LD_PRELOAD") && !printed.contains("touch"), "{printed}");
    let hostile = "'; touch ran; echo '$(touch ran)`touch ran`\\\n!";
    world.edit("LD_PRELOAD=\"/x\"", &format!("HOSTILE={hostile:?}"));
    let script = format!("{}\nprintf '%s|' \"$HOSTILE\"", world.ok(&["shell", "--print-env", "web"]));
    for shell in ["sh", "bash"] {
        let out = Command::new(shell).args(["-xc", &script]).current_dir(&world.folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), format!("{hostile}|"), "{shell}");
    }
    assert!(!world.folder.join("ran").exists());
    let script = format!("{printed}\nprintf '%s|%s' \"$GREETING\" \"$LANG\"");
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "it's $HOME \\ `x`\nsecond line|C.UTF-8");
    let of_image = world.ok(&["shell", "--print-env", "with-env"]);
    assert!(of_image.contains("export LANG='C.UTF-8'\n") && !of_image.contains("GREETING"), "{of_image}");
    assert_eq!(world.fails(&["shell", "--print-env", "--", "true"]).code, 2);
}

#[test]
fn a_task_runs_its_command_with_further_words_and_passes_its_status_on() {
    if !is_root() {
        return;
    }
    let world = World::new("tasks", PROJECT);
    let ran = world.run(&["run", "-T", "greet", "a", "b c"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "it's task a b c\n/tmp\n"), "{}", ran.err);
    let other = world.run(&["run", "-T", "-e", "WHO=other", "-w", "/", "greet", "x"]);
    assert_eq!((other.code, other.out.as_str()), (7, "it's other x\n/\n"), "{}", other.err);
    let listed = world.ok(&["run"]);
    assert!(listed.contains("greet") && listed.contains("web") && listed.contains("\"echo $GREETING $WHO"), "{listed}");
    let unknown = world.fails(&["run", "-T", "great"]);
    assert!(
        unknown.err.contains("no task, job, container or image \"great\"") && unknown.err.contains("greet"),
        "{}",
        unknown.err
    );
    // A task is no part of what runs: nothing is to be done when it changes.
    world.ok(&["up"]);
    world.edit("exit 7", "exit 8");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    assert_eq!(world.run(&["run", "-T", "greet"]).code, 8);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

//! The view of `stead watch`, as a terminal shows it: tmux is the terminal.

use crate::world::{World, eventually, is_root, skip, stead};
use std::process::Command;

/// A terminal of 80×24 with a server of its own.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs a command in a shell, in a project's directory.
    fn run(world: &World, line: &str) -> Self {
        let terminal = Self { socket: format!("stead-view-{}", std::process::id()) };
        let root = format!("STEAD_ROOT={}", world.root.display());
        let folder = world.folder.display().to_string();
        let size = ["-x", "80", "-y", "24"];
        let mut command = terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "view"]);
        command.args(size).args(["-c", &folder, "-e", &root, "-e", "STEAD_ALLOW=all", "-e", "NO_COLOR=1", "sh"]);
        assert!(command.status().unwrap().success(), "tmux does not start");
        terminal.keys(&["-l", line]);
        terminal.keys(&["Enter"]);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(words).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        command
    }

    fn keys(&self, keys: &[&str]) {
        assert!(self.tmux(&["send-keys", "-t", "view"]).args(keys).status().unwrap().success(), "{keys:?}");
    }

    fn resize(&self, columns: &str, rows: &str) {
        assert!(self.tmux(&["resize-window", "-t", "view", "-x", columns, "-y", rows]).status().unwrap().success());
    }

    /// What is on the screen.
    fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-t", "view"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the screen is as wanted, and returns it.
    fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = std::time::Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{what}:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).status();
    }
}

#[test]
fn a_view_shows_what_happens_and_gives_the_terminal_back() {
    if !is_root() {
        return;
    }
    if Command::new("tmux").arg("-V").output().is_err() {
        skip("there is no tmux");
        return;
    }
    let world = World::new(
        "view",
        r#"image "made" { from "base"; copy "app" to="/srv/app"; }
container "c" { image "made"; stop-grace "100ms"; cmd "sh" "-c" "echo first; printf 'odd \\033[2Jline\\n'; exec sleep 1000"; }"#,
    );
    world.write("app/main.py", "one");
    world.ok(&["up"]);
    let terminal = Terminal::run(&world, &format!("{} watch; echo left=$?", stead().display()));
    let screen = terminal.shows("the table", |screen| screen.contains("watching ") && screen.contains("running "));
    assert!(screen.contains("NAME") && screen.contains("▸ c-1") && screen.contains("q quit"), "{screen}");
    let screen = terminal.shows("logs", |screen| screen.contains("odd "));
    assert!(screen.contains("first") && screen.contains("\\u{1b}[2Jline"), "{screen}");

    world.write("app/main.py", "two");
    let screen = terminal.shows("the change", |screen| screen.contains("last: app/main.py"));
    let last = screen.lines().find(|line| line.contains("last: app/main.py")).unwrap();
    assert!(last.contains("→ c-1 (") && last.trim_end().ends_with("ms)"), "{last}");
    assert!(screen.contains("1 synced, p50 "), "{screen}");

    terminal.keys(&["/"]);
    terminal.keys(&["-l", "FIRST"]);
    terminal.keys(&["Enter"]);
    let screen = terminal.shows("the filter", |screen| screen.contains("with \"FIRST\""));
    assert!(screen.contains("first") && !screen.contains("odd "), "{screen}");
    terminal.keys(&["Escape"]);
    terminal.shows("no filter", |screen| screen.contains("odd "));

    terminal.keys(&["o"]);
    terminal.shows("no page", |screen| screen.contains("c-1 has no published port"));
    terminal.keys(&["?"]);
    let screen = terminal.shows("the help", |screen| screen.contains("any key closes the help"));
    assert!(screen.contains("┌ keys ─") && screen.contains("restart the container"), "{screen}");
    terminal.keys(&["x"]);
    terminal.shows("no help", |screen| screen.contains("q quit  ? help") && !screen.contains("┌ keys ─"));
    // A click on the first container, which is selected: the mouse reports in SGR's form (ctlseqs, "Mouse Tracking").
    let click: Vec<String> = "\u{1b}[<0;5;3M\u{1b}[<0;5;3m".bytes().map(|byte| format!("{byte:02x}")).collect();
    terminal.keys(&[&["-H"], click.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    terminal.shows("the logs of one", |screen| screen.contains("─ logs of c-1 ─"));
    terminal.keys(&["Escape"]);
    terminal.shows("the logs of all", |screen| screen.contains("─ logs of all containers ─"));
    terminal.resize("50", "14");
    let screen = terminal.shows("a smaller terminal", |screen| screen.contains("b rebuild  q quit  ? help"));
    assert!(screen.contains("▸ c-1") && !screen.contains("o open") && screen.lines().count() <= 14, "{screen}");
    terminal.resize("80", "24");
    terminal.shows("a larger terminal", |screen| screen.contains("o open") && screen.lines().count() == 24);

    world.edit("from \"base\"", "from \"bass\"");
    let screen = terminal.shows("the error", |screen| screen.contains("─ error "));
    assert!(screen.contains("bass"), "{screen}");
    world.edit("from \"bass\"", "from \"base\"");
    terminal.shows("success", |screen| !screen.contains("─ error ") && screen.contains("watching "));
    // It was replaced, because the file that was synced made another image.
    let pid = world.pid("c-1");

    terminal.keys(&["s"]);
    terminal.shows("a shell", |screen| screen.trim_end().ends_with('#'));
    terminal.keys(&["-l", "echo in=$(cat /srv/app/main.py); sleep 1; exit"]);
    terminal.keys(&["Enter"]);
    terminal.shows("the shell's output", |screen| screen.contains("in=two"));
    terminal.shows("the view again", |screen| screen.contains("q quit") && screen.contains("last: app/main.py"));

    terminal.keys(&["q"]);
    terminal.shows("the question", |screen| screen.contains("quit? "));
    terminal.keys(&["Enter"]);
    let screen = terminal.shows("the shell before", |screen| screen.contains("left=0"));
    assert!(screen.contains("containers stay up") && !screen.contains("NAME"), "{screen}");
    assert_eq!(world.pid("c-1"), pid, "containers still run");

    // What ends the process gives the terminal back, too.
    terminal.keys(&["-l", &format!("clear; {} watch; echo left=$?; stty -a | grep -o -- '-\\?icanon'", stead().display())]);
    terminal.keys(&["Enter"]);
    terminal.shows("the view", |screen| screen.contains("▸ c-1") && screen.contains("watching "));
    let lock = world.ok(&["watch", "--stop"]);
    assert_eq!(lock, "");
    let screen = terminal.shows("the shell after", |screen| screen.contains("left=143"));
    assert!(!screen.contains("NAME"), "{screen}");
    eventually("the terminal has its mode back", || terminal.screen().lines().any(|line| line == "icanon"));
    drop(terminal);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn lines_are_printed_where_there_is_no_terminal_or_none_is_wanted() {
    if !is_root() || Command::new("tmux").arg("-V").output().is_err() {
        return;
    }
    let world = World::new("view-plain", r#"container "c" { image "base"; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    let terminal = Terminal::run(&world, &format!("{} watch --plain; echo left=$?", stead().display()));
    let screen = terminal.shows("lines", |screen| screen.contains("interrupt to end"));
    assert!(!screen.contains("q quit"), "{screen}");
    terminal.keys(&["C-c"]);
    terminal.shows("the end", |screen| screen.contains("left=130"));
    terminal.keys(&["-l", &format!("clear; TERM=dumb {} watch; echo left=$?", stead().display())]);
    terminal.keys(&["Enter"]);
    terminal.shows("lines for a simple terminal", |screen| screen.contains("interrupt to end"));
    terminal.keys(&["C-c"]);
    terminal.shows("its end", |screen| screen.contains("left=130"));
    drop(terminal);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

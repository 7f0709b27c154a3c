//! Commands that have names.

use crate::world::{World, is_root};

const PROJECT: &str = r#"
container "web" { image "base"; env GREETING="it's"; cmd "sleep" "1000"; }
task "greet" {
    container "web"
    cmd "sh" "-c" "echo $GREETING $WHO $1 $2; pwd; exit 7" "sh"
    env WHO="task"
    workdir "/tmp"
}
"#;

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
    assert!(unknown.err.contains("no task \"great\"") && unknown.err.contains("greet"), "{}", unknown.err);
    // A task is no part of what runs: nothing is to be done when it changes.
    world.ok(&["up"]);
    world.edit("exit 7", "exit 8");
    assert_eq!(world.ok(&["plan"]), "nothing to do\n");
    assert_eq!(world.run(&["run", "-T", "greet"]).code, 8);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

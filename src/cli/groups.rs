//! The list of all commands, as `stead --help` prints it: in groups, with a line each.

use super::topics;
use clap::Command;
use std::fmt::Write;

/// What the commands of a group are for, and their names. Whatever is in none of them is in a last one.
const GROUPS: [(&str, &[&str]); 8] = [
    ("The project file", &["init", "check", "fmt", "add", "set", "graph", "convert", "lsp"]),
    ("The environment", &["up", "down", "plan", "apply", "status", "watch", "freeze", "why", "update", "boot", "scale"]),
    ("Back and forth", &["history", "show", "diff", "rollback"]),
    ("Working in it", &["exec", "run", "shell", "attach", "logs", "cp", "changes", "export", "commit"]),
    (
        "Containers",
        &[
            "ps", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm", "top", "stats", "events", "metrics",
            "inspect", "port",
        ],
    ),
    ("Volumes and images", &["volume", "build", "images", "image", "tag", "rmi", "save", "load", "import", "bundle"]),
    ("Registries", &["pull", "push", "login", "logout", "search"]),
    ("This machine", &["doctor", "gc", "allow"]),
];
/// What the last group is called.
const REST: &str = "The rest";
/// The widest a line of it is, as of everything that clap prints.
const WIDEST: usize = 100;
/// The space before a name, and after the longest.
const GAP: usize = 2;

/// The groups with the names of their commands that are shown, and a last one of the others.
pub fn all(command: &Command) -> Vec<(&'static str, Vec<&str>)> {
    let shown: Vec<&str> = command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
    let is_grouped = |name: &&str| GROUPS.iter().any(|(_, names)| names.contains(name));
    let in_group = |names: &[&str]| names.iter().filter_map(|name| shown.iter().copied().find(|one| one == name)).collect();
    let groups = GROUPS.iter().map(|(what, names)| (*what, in_group(names)));
    groups.chain([(REST, shown.iter().copied().filter(|name| !is_grouped(name)).collect())]).collect()
}

/// Replaces the one long list in the help of the program by this one.
pub fn grouped(command: Command, columns: Option<usize>) -> Command {
    let list = list(&command, columns.unwrap_or(WIDEST).min(WIDEST));
    let header = *command.get_styles().get_header();
    let (on, off) = (header.render(), header.render_reset());
    let template = format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{on}Options:{off}\n{{options}}");
    command.help_template(template)
}

fn list(command: &Command, width: usize) -> String {
    let shown: Vec<&Command> = command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
    let lengths = shown.iter().map(|one| one.get_name().len()).chain(topics::names().map(str::len));
    let column = lengths.max().unwrap_or(0) + 2 * GAP;
    let (header, literal) = (*command.get_styles().get_header(), *command.get_styles().get_literal());
    let mut text = String::new();
    let room = width.saturating_sub(column).max(20);
    let mut put = |heading: &str, rows: Vec<(&str, String)>| {
        // A text in memory takes everything.
        let _ = writeln!(text, "{}{heading}:{}", header.render(), header.render_reset());
        for (name, what) in rows {
            let padding = " ".repeat(column - GAP - name.len());
            let lines = folded(&what, room).join(&format!("\n{}", " ".repeat(column)));
            let _ = writeln!(text, "  {}{name}{}{padding}{lines}", literal.render(), literal.render_reset());
        }
        text.push('\n');
    };
    for (heading, names) in all(command) {
        let commands = names.into_iter().filter_map(|name| command.find_subcommand(name));
        put(heading, commands.map(|one| (one.get_name(), about(one, room))).collect());
    }
    put("Topics of `stead help TOPIC`", topics::names().map(|name| (name, topics::title(name).to_owned())).collect());
    text
}

/// What a command does, as a line of a list: without what follows a colon or the like, if that makes it too long.
fn about(command: &Command, width: usize) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let whole = about.trim_end_matches('.');
    if whole.chars().count() <= width {
        return whole.to_owned();
    }
    let end = [": ", "; ", ". "].iter().filter_map(|mark| whole.find(mark)).min();
    whole[..end.unwrap_or(whole.len())].to_owned()
}

/// A text in lines of at most `width` characters, broken between words.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let at = lines.len() - 1;
        let line = &mut lines[at];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(columns: usize) -> String {
        let mut command = super::super::command();
        command.build();
        grouped(command, Some(columns)).render_long_help().to_string()
    }

    #[test]
    fn every_command_is_in_one_group_and_has_a_line() {
        let mut command = super::super::command();
        command.build();
        let help = help(100);
        let (help, _) = help.split_once("Topics of").unwrap();
        for one in command.get_subcommands() {
            let start = format!("  {} ", one.get_name());
            let count = help.lines().filter(|line| line.starts_with(&start)).count();
            assert_eq!(count, usize::from(!one.is_hide_set()), "{}\n{help}", one.get_name());
        }
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(command.find_subcommand(name).is_some(), "there is no {name}");
        }
        // A brace would be taken for a part of the template.
        assert!(!list(&command, 100).contains(['{', '}']));
    }

    #[test]
    fn the_list_fits_and_says_what_else_there_is() {
        let narrow = help(80);
        let start = narrow.find("The environment:").unwrap();
        let list: Vec<&str> = narrow[start..].lines().take_while(|line| !line.starts_with("Options:")).collect();
        assert!(list.iter().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(list.contains(&"  up               Makes this machine match the project file"), "{narrow}");
        assert!(
            narrow.contains("\nThe rest:\n") && narrow.contains("  exit-codes   ") && narrow.contains("  direnv "),
            "{narrow}"
        );
        assert!(
            narrow.starts_with("Declarative, ") && narrow.contains("Usage: stead ") && narrow.contains("--profile"),
            "{narrow}"
        );
    }
}

//! The reference of all commands in Markdown, made from the command line as clap knows it.

use super::{command, groups};
use clap::{Arg, Command};
use std::fmt::Write as _;

/// Every command in its group, with what it does, its arguments and its options.
pub fn commands() -> String {
    let mut whole = command();
    whole.build();
    let mut out = String::from(
        "# The commands of stead\n\nGenerated from the command line (`stead help COMMAND` prints the same); do not edit.\n\n\
         Results go to standard output, everything else to standard error. `NO_COLOR` is honoured. \
         [Exit codes](exit-codes.md) are a page of their own.\n\n## Options of all commands\n",
    );
    table(whole.get_arguments().filter(|one| !is_of_clap(one)), &mut out);
    for (heading, names) in groups::all(&whole) {
        let _ = write!(out, "\n## {heading}\n");
        for found in names.iter().filter_map(|name| whole.find_subcommand(name)) {
            section(found, "stead", 3, &mut out);
        }
    }
    out
}

fn is_of_clap(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

fn section(command: &Command, above: &str, level: usize, out: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let (examples, about): (Vec<&str>, Vec<&str>) = about.lines().partition(|line| line.starts_with("Example: "));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    // A text in memory takes everything.
    let _ = write!(out, "\n{} {name}\n\n{}\n\n```sh\n{usage}\n```\n", "#".repeat(level), about.join("\n").trim());
    table(command.get_arguments().filter(|one| !is_of_clap(one) && !one.is_global_set() && !one.is_hide_set()), out);
    for example in examples.iter().filter_map(|line| line.strip_prefix("Example: ")) {
        let _ = write!(out, "\nExample: `{example}`\n");
    }
    for inner in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        section(inner, &name, level + 1, out);
    }
}

/// Arguments, with what each is for.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>, out: &mut String) {
    let rows: Vec<String> = arguments.map(row).collect();
    if !rows.is_empty() {
        let _ = write!(out, "\n| | |\n| --- | --- |\n{}", rows.concat());
    }
}

fn row(argument: &Arg) -> String {
    let value =
        argument.get_value_names().map(|names| names.join(" ")).unwrap_or_else(|| argument.get_id().to_string().to_uppercase());
    let takes_one = argument.get_action().takes_values();
    let mut forms = Vec::new();
    if argument.is_positional() {
        forms.push(value);
    } else {
        forms.extend(argument.get_short().map(|short| format!("-{short}")));
        forms.extend(argument.get_long().map(|long| format!("--{long}")));
        if let Some(last) = forms.last_mut().filter(|_| takes_one) {
            last.push(' ');
            last.push_str(&value);
        }
    }
    let forms: Vec<String> = forms.iter().map(|form| format!("`{}`", form.replace('|', "\\|"))).collect();
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let choices: Vec<String> = argument.get_possible_values().iter().map(|one| format!("`{}`", one.get_name())).collect();
    if takes_one && !choices.is_empty() {
        let _ = write!(help, " One of {}.", choices.join(", "));
    }
    let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_one && !default.is_empty() {
        let _ = write!(help, " By default `{}`.", default.join(" "));
    }
    format!("| {} | {help} |\n", forms.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_section_with_its_options() {
        let text = commands();
        let mut whole = command();
        whole.build();
        for one in whole.get_subcommands() {
            let heading = format!("\n### stead {}\n", one.get_name());
            assert_eq!(text.matches(&heading).count(), usize::from(!one.is_hide_set()), "{heading}");
        }
        assert!(text.contains("\n#### stead volume snapshot\n"), "{text}");
        assert!(text.contains("\n| `-C DIR` | The project's directory"), "{text}");
        assert!(text.contains("\n| `--frozen` | Fail if something is not in stead.lock"), "{text}");
        assert!(text.contains("\nExample: `stead fmt --check`\n") && !text.contains('\u{1b}'), "{text}");
        // A bar would end a cell.
        assert!(text.contains("GENERATION\\|COMMIT"), "{text}");
    }
}

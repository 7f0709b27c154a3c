use super::super::{Context, command};
use crate::engine;
use crate::model::{Name, Result};
use clap_complete::Shell;
use std::collections::BTreeSet;

/// Prints the completion script for a shell; with bash, zsh and fish, names of the project are completed, too.
///
/// Example: stead completions bash > /etc/bash_completion.d/stead
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the names of the project that may follow some words of a command line; for the completion scripts.
#[derive(clap::Args, Debug)]
pub struct Complete {
    /// The words before the one that is completed.
    #[arg(last = true)]
    words: Vec<String>,
}

/// Asks for names after what the generated function found, except for options.
const BASH: &str = r#"
_stead_with_names() {
    _stead "$@"
    local word="${COMP_WORDS[COMP_CWORD]}"
    [[ "$word" == -* ]] && return
    local names
    names=$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null) || return
    COMPREPLY+=($(compgen -W "$names" -- "$word"))
}
complete -F _stead_with_names -o bashdefault -o default stead
"#;

/// What the generated script calls for arguments of which it knows nothing, instead of `_default`, which is for files.
const ZSH: &str = r#"
_stead_names() {
    local -a names
    names=(${(f)"$(stead complete -- "${(@)words[1,CURRENT-1]}" 2>/dev/null)"})
    if (( $#names )); then compadd -a names; else _default; fi
}
"#;

const FISH: &str = r#"
complete -c stead -n "not string match -q -- '-*' (commandline -ct)" -f -a '(stead complete -- (commandline -opc)[2..] 2>/dev/null)'
"#;

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    context.ui.result(script(arguments.shell));
    Ok(0)
}

fn script(shell: Shell) -> String {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command(), "stead", &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    match shell {
        Shell::Bash => text + BASH,
        Shell::Fish => text + FISH,
        // The function must be there before the script, at whose end a first completion may run it.
        Shell::Zsh => match text.split_once('\n') {
            Some((first, rest)) => format!("{first}\n{ZSH}{}", rest.replace(":_default'", ":_stead_names'")),
            None => text,
        },
        _ => text,
    }
}

/// The sets of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    Containers,
    Images,
    Volumes,
    Networks,
    Tasks,
}

/// What a command takes.
const TAKEN: &[(&[&str], &[Names])] = &[
    (
        &[
            "logs", "exec", "attach", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm", "scale", "top",
            "stats", "inspect", "port", "changes", "export", "commit",
        ],
        &[Names::Containers],
    ),
    (&["run"], &[Names::Tasks, Names::Containers]),
    (&["shell"], &[Names::Containers, Names::Images]),
    (&["why"], &[Names::Containers, Names::Images, Names::Networks, Names::Volumes]),
    (&["build", "push", "tag", "save", "history", "diff", "sbom", "provenance"], &[Names::Images]),
    (&["snapshot", "restore", "clone"], &[Names::Volumes]),
];

/// Options of the program whose next word is their value.
const WITH_VALUE: [&str; 5] = ["-C", "-f", "--file", "--profile", "--set"];

/// The names that may follow some words.
fn taken(words: &[String]) -> &'static [Names] {
    let mut left = words.iter().map(String::as_str);
    let mut commands = Vec::new();
    while let Some(word) = left.next() {
        if WITH_VALUE.contains(&word) && left.next().is_none() {
            return &[];
        }
        // After it, words belong to the command that runs.
        if word == "--" {
            return &[];
        }
        if !word.starts_with('-') && !WITH_VALUE.contains(&word) {
            commands.push(word);
        }
    }
    let of = |name: &str| TAKEN.iter().find(|(names, _)| names.contains(&name)).map_or(&[][..], |(_, taken)| *taken);
    match *commands.as_slice() {
        // The next words are the command's own.
        ["exec" | "run" | "shell", _, ..] => &[],
        ["volume", "inspect" | "rm" | "export", ..] => &[Names::Volumes],
        // `history` and `diff` of the program are about generations.
        ["history" | "diff", ..] => &[],
        ["volume" | "image", inner, ..] => of(inner),
        [first, ..] => of(first),
        [] => &[],
    }
}

/// Prints the names, one a line; none if there is no project here. What is wrong with it is no matter of a completion.
pub fn complete(arguments: &Complete, context: &Context) -> Result<u8> {
    let taken = taken(&arguments.words);
    if taken.is_empty() || !context.has_project() {
        return Ok(0);
    }
    let (Ok(project) | Err(project)) = engine::findings(&context.options)?.project;
    let mut names: BTreeSet<&Name> = BTreeSet::new();
    for one in taken {
        match one {
            Names::Containers => names.extend(project.containers.keys()),
            Names::Images => names.extend(project.images.keys()),
            Names::Volumes => names.extend(project.volumes.keys()),
            Names::Networks => names.extend(project.networks.keys()),
            Names::Tasks => names.extend(project.tasks.keys()),
        }
    }
    let lines: String = names.into_iter().map(|name| format!("{name}\n")).collect();
    if !lines.is_empty() {
        context.ui.result(lines);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_command_that_is_typed() {
        let taken = |line: &str| taken(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(taken("logs --follow web"), [Names::Containers]);
        assert_eq!(taken("-C logs build"), [Names::Images]);
        assert_eq!(taken("run"), [Names::Tasks, Names::Containers]);
        assert_eq!(taken("volume snapshot"), [Names::Volumes]);
        assert_eq!(taken("volume rm a"), [Names::Volumes]);
        assert_eq!(taken("image diff a"), [Names::Images]);
        for line in ["", "-C", "run web", "exec web ls", "shell web -- ls", "history", "up", "up --profile"] {
            assert_eq!(taken(line), [], "{line}");
        }
        let known = command();
        for name in TAKEN.iter().flat_map(|(names, _)| *names) {
            let inner = ["volume", "image"].iter().filter_map(|one| known.find_subcommand(one));
            let mut inner = inner.map(|one| {
                let mut one = one.clone();
                one.build();
                one.find_subcommand(name).is_some()
            });
            assert!(known.find_subcommand(name).is_some() || inner.any(|found| found), "there is no {name}");
        }
    }

    #[test]
    fn scripts_ask_for_names() {
        let zsh = script(Shell::Zsh);
        assert!(zsh.starts_with("#compdef stead\n") && zsh.contains(":_stead_names'") && !zsh.contains(":_default'"), "{zsh}");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(script(shell).contains(" complete -- "), "{shell}");
        }
        assert!(!script(Shell::PowerShell).contains(" complete -- "));
    }
}

use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use super::run::{has_terminal, see_through};
use crate::engine::{self, UpOptions};
use crate::model::{Context as _, Result};
use crate::sys;
use std::ffi::OsString;

/// Opens a shell for working on the project, in a new container, which is removed afterwards.
///
/// The container is like the one of that name (its environment, networks, mounts and secrets are used, its ports are not
/// published), or it is one of an image. The project's directory is at its own path in it and can be written to. The shell
/// runs as you, so your files stay yours, and it keeps its home directory, with the history, for the project. It takes along
/// your terminal's type, your language, and your name and address for git. If the image has no name for your user, it sees
/// copies of /etc/passwd and /etc/group that have one. `stead exec NAME sh` is a shell in a container that is running, as its
/// own user and with its own files.
///
/// With --print-env nothing is started: the variables of the container are printed for a shell of the host, as direnv does
/// it (`stead help direnv`). PATH, HOME and what the loader (LD_…) or the shell itself reads are left out: programs, files and
/// shell are the host's.
///
/// Example: stead shell web -- make test
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A container or an image of the project; the only one if not given.
    name: Option<String>,
    /// Print the variables of the container as `export NAME='value'`, and start nothing.
    #[arg(long, conflicts_with_all = ["command", "no_tty"])]
    print_env: bool,
    /// Do not use a terminal, even if this is one.
    #[arg(short = 'T', long)]
    no_tty: bool,
    #[command(flatten)]
    allow: Allow,
    /// Run this command instead of a shell; its exit status becomes this command's.
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    // This process stays with the container, as a monitor does.
    sys::protect().context(|| "cannot protect this program's file".into())?;
    let options = UpOptions { command: "shell".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let loaded = context.settled(&options)?;
    let name = match &arguments.name {
        Some(name) => name.as_str(),
        None => engine::only_one(&loaded.project)?.as_str(),
    };
    let shown = Shown::new(&context.ui, false);
    if arguments.print_env {
        let variables = engine::environment(&loaded, name, &options, &shown);
        shown.clear();
        let lines: String = variables?.iter().filter(|(name, _)| is_for_the_host(name)).map(exported).collect();
        // A terminal shows control characters, and a program gets every value as it is.
        if context.ui.columns_out().is_some() {
            context.ui.result(lines);
        } else {
            context.ui.logged(lines.as_bytes());
        }
        return Ok(0);
    }
    let tty = !arguments.no_tty && has_terminal();
    let one_off = engine::shell(&loaded, name, &arguments.command, tty, &options, &shown);
    shown.clear();
    see_through(&one_off?, tty)
}

/// Variables that are about the host's programs, files and user, that a shell executes or that it refuses to set: the special
/// variables of bash(1) and zshparam(1).
const OF_THE_HOST: [&str; 39] = [
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "HOSTNAME",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "TERM",
    "_",
    "IFS",
    "ENV",
    "CDPATH",
    "FPATH",
    "MAIL",
    "MAILPATH",
    "MAILCHECK",
    "TMOUT",
    "HISTFILE",
    "FCEDIT",
    "GLOBIGNORE",
    "SHELLOPTS",
    "BASHOPTS",
    "UID",
    "EUID",
    "GID",
    "EGID",
    "PPID",
    "ZDOTDIR",
    "RPROMPT",
    "SPROMPT",
    "PS0",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "RPS1",
    "RPS2",
];
/// How further ones begin.
const OF_THE_HOST_BEGIN: [&str; 5] = ["LD_", "BASH_", "PROMPT", "ZSH_", "DIRENV_"];

/// Whether a variable is printed: a shell can have it, and it is not about the programs and files of the image.
fn is_for_the_host(name: &str) -> bool {
    let mut letters = name.chars();
    let is_name = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    is_name && !OF_THE_HOST.contains(&name) && !OF_THE_HOST_BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// A line that sets a variable in a shell (POSIX, Shell Command Language, 2.2.2): only a single quote ends the quotes.
fn exported((name, value): (&String, &String)) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_a_shell() {
        let line = |value: &str| exported((&"A".to_owned(), &value.to_owned()));
        assert_eq!(line("it's"), "export A='it'\\''s'\n");
        assert_eq!(line("$HOME `x` \"y\" \\"), "export A='$HOME `x` \"y\" \\'\n");
        assert_eq!(line(""), "export A=''\n");
    }

    #[test]
    fn a_shell_gets_every_value_as_it_is_and_executes_nothing() {
        let every: String = (1..=0x17f).filter_map(char::from_u32).collect();
        let hostile =
            ["'; echo no; '", "'\n echo no\n'", "$(echo no)", "`echo no`", "\\'; echo no #", "!! ~ * ${A:=no}", "\n\n", "''"];
        let values: Vec<&str> = hostile.into_iter().chain([every.as_str()]).collect();
        for shell in ["sh", "bash"].iter().filter(|shell| std::process::Command::new(shell).args(["-c", ":"]).output().is_ok()) {
            for value in &values {
                let lines = exported((&"A".to_owned(), &(*value).to_owned()));
                let mut command = std::process::Command::new(shell);
                let out = command.args(["-c", "eval \"$1\"; printf '%s|' \"$A\"", "sh", &lines]).output().unwrap();
                assert_eq!(String::from_utf8(out.stdout).unwrap(), format!("{value}|"), "{shell}");
                assert!(out.status.success() && out.stderr.is_empty(), "{shell}: {value:?}");
            }
        }
    }

    #[test]
    fn names_that_a_shell_would_execute_or_that_are_of_the_host_are_left_out() {
        for name in ["LANG", "_a9", "LDFLAGS", "BASHFUL", "PSQLRC", "DATABASE_URL"] {
            assert!(is_for_the_host(name), "{name}");
        }
        let not_names = ["", "9a", "a;b", "a$(b)", "a.b", "é", "BASH_FUNC_ls%%", "a\nb"];
        let executed = ["PROMPT_COMMAND", "PS1", "PS4", "BASH_ENV", "ENV", "PROMPT", "RPROMPT", "MAILPATH", "SHELLOPTS", "UID"];
        let others = ["PATH", "HOME", "LD_PRELOAD", "DIRENV_DIFF", "IFS", "PWD"];
        for name in not_names.iter().chain(&executed).chain(&others) {
            assert!(!is_for_the_host(name), "{name}");
        }
    }
}

use super::super::{Context, whole_command};
use crate::model::{Error, ErrorKind, Result, nearest};

/// Explains a command, or the exit codes.
///
/// Example: stead help exit-codes
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A command, or `exit-codes`; all commands if none is given.
    topic: Vec<String>,
}

const EXIT_CODES: &str = "exit-codes";

/// Each exit code, and when a command ends with it.
fn exit_codes() -> String {
    let kinds = [
        (0, "the command succeeded"),
        (ErrorKind::Failed.code(), "the command failed; standard error says what failed and why"),
        (ErrorKind::Usage.code(), "the command line is wrong; or, with `plan --check`, there is something to do"),
        (ErrorKind::Absent.code(), "the registry does not have the image"),
        (125, "with `run` and `shell`: the container could not be started"),
        (126, "with `run`, `shell` and `exec`: the program cannot be executed"),
        (127, "with `run`, `shell` and `exec`: there is no such program"),
        (137, "with `run`, `shell` and `exec`: SIGKILL ended the program (128 plus the signal's number)"),
    ];
    let lines = kinds.iter().map(|(code, when)| format!("{code:>5}  {when}\n"));
    lines.collect::<String>() + "\n`run`, `shell`, `exec`, `attach` and `wait` end with the status of the program.\n"
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let mut command = whole_command();
    let mut found = &mut command;
    for (at, word) in arguments.topic.iter().enumerate() {
        if at == 0 && word == EXIT_CODES {
            context.ui.result(exit_codes());
            return Ok(0);
        }
        let known: Vec<String> = found.get_subcommands().map(|other| other.get_name().to_owned()).collect();
        if !known.contains(word) {
            let error = Error::new(format!("there is no command `{}`", arguments.topic[..=at].join(" "))).usage();
            let topics = known.iter().map(String::as_str).chain([EXIT_CODES]);
            return Err(match nearest(word, topics) {
                Some(near) => error.hint(format!("perhaps `stead help {near}`")),
                None => error.hint("`stead help` lists them"),
            });
        }
        found = found.find_subcommand_mut(word).ok_or_else(|| Error::new("the command is gone"))?;
    }
    context.ui.result(found.render_long_help().to_string());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_does() {
        let command = whole_command();
        for one in command.get_subcommands() {
            assert!(one.get_about().is_some(), "{} says nothing", one.get_name());
        }
        assert!(exit_codes().lines().count() > 8);
    }
}

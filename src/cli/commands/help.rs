use super::super::topics::{self, EXIT_CODES};
use super::super::ui::Text;
use super::super::{Context, page, whole_command};
use crate::model::{Error, ErrorKind, Result, nearest};

/// Explains a command, or another topic.
///
/// `stead help` lists the commands and the topics.
///
/// Example: stead help direnv
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A command or a topic; all of them if none is given.
    topic: Vec<String>,
}

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
        let mut known: Vec<String> = found.get_subcommands().map(|other| other.get_name().to_owned()).collect();
        if !known.contains(word) {
            let topic = if arguments.topic.len() == 1 { topic(word, context) } else { None };
            if let Some(text) = topic {
                context.ui.result(text);
                return Ok(0);
            }
            let error = Error::new(format!("there is no command or topic `{}`", arguments.topic[..=at].join(" "))).usage();
            known.extend(topics::names().map(str::to_owned));
            return Err(match nearest(word, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("perhaps `stead help {near}`")),
                None => error.hint("`stead help` lists them"),
            });
        }
        found = found.find_subcommand_mut(word).ok_or_else(|| Error::new("the command is gone"))?;
    }
    context.ui.result(found.render_long_help().to_string());
    Ok(0)
}

/// The text of a topic that is no command.
fn topic(word: &str, context: &Context) -> Option<Text> {
    if word == EXIT_CODES {
        return Some(exit_codes().into());
    }
    let ui = &context.ui;
    topics::page(word).map(|text| page::page(text, ui.columns_out().unwrap_or(80), ui.color_out))
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

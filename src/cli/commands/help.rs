use super::super::ui::Text;
use super::super::{Context, page, whole_command};
use super::super::{schemas, topics};
use crate::model::{Error, Result, nearest};

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
    let ui = &context.ui;
    let reference = || match word {
        "language" => Some(schemas::REFERENCE),
        "commands" => Some("commands"),
        _ => None,
    };
    let text = topics::page(word).map(str::to_owned).or_else(|| reference().and_then(schemas::text))?;
    Some(page::page(&text, ui.columns_out().unwrap_or(80), ui.color_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn every_exit_code_of_an_error_is_explained() {
        let text = topics::page("exit-codes").unwrap();
        for kind in [ErrorKind::Failed, ErrorKind::Usage, ErrorKind::Absent, ErrorKind::Refused, ErrorKind::Status(127)] {
            assert!(text.contains(&format!("\n| {} | ", kind.code())), "{kind:?}");
        }
    }

    #[test]
    fn every_command_says_what_it_does() {
        let command = whole_command();
        for one in command.get_subcommands() {
            assert!(one.get_about().is_some(), "{} says nothing", one.get_name());
        }
    }
}

use super::super::Context;
use super::super::ui::{Style, Text};
use crate::engine;
use crate::model::Result;

/// Checks whether this host has what stead needs, and says how to get what is missing.
///
/// Example: stead doctor
#[derive(clap::Args, Debug)]
pub struct Arguments {}

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    let findings = engine::examine(&context.options.home, &context.options.folder);
    let mut text = Text::default();
    for finding in &findings {
        let mark = if finding.well {
            Style::Good.paint("ok     ", context.ui.color_out)
        } else {
            Style::Bad.paint("missing", context.ui.color_out)
        };
        text += mark + format!("  {:<12} {}\n", finding.what, finding.says);
    }
    context.ui.result(text);
    Ok(u8::from(findings.iter().any(|finding| !finding.well)))
}

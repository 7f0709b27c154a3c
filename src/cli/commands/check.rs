use super::super::Context;
use crate::engine;
use crate::model::Result;
use crate::spec::has_errors;
use serde_json::json;

/// Checks the project file and all files that it includes, and shows every error at once.
///
/// Example: stead check --json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let found = engine::findings(&context.options)?;
    let diagnostics = &found.diagnostics;
    let failed = has_errors(diagnostics);
    if context.options.folder.join(".stead").symlink_metadata().is_ok() {
        context.ui.warn("the directory .stead is ignored: build results are kept by the installation, not by the project");
    }
    if arguments.json {
        context.ui.json(&json!({ "version": 1, "ok": !failed, "diagnostics": diagnostics, "unsupported": found.unsupported }));
    } else {
        context.ui.diagnostics(diagnostics, &found.files);
        if !failed {
            let later = found.unsupported.len();
            let note = if later == 0 {
                String::new()
            } else {
                format!(" ({later} node{} not supported by `up` yet)", if later == 1 { "" } else { "s" })
            };
            context.ui.say(format!("{} is valid{note}", context.options.file));
        }
    }
    Ok(u8::from(failed))
}

use super::super::Context;
use crate::engine;
use crate::model::Result;

/// Shows how this machine differs from the project file.
///
/// Example: stead status
#[derive(clap::Args, Debug)]
pub struct Arguments {}

pub fn run(_: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project_dry()?;
    let rows = engine::listing(&loaded.instance, engine::Which::All)?;
    context.ui.result(super::ps::table(&rows, &context.ui));
    if let Some(newest) = engine::generations(&loaded.instance)?.last() {
        let of = newest.of.map_or_else(String::new, |of| format!(", which brought back generation {of}"));
        context.ui.result(format!("generation {}{of}\n", newest.number));
    }
    if let Some(pid) = engine::watcher(&loaded.instance) {
        context.ui.result(format!("its files are watched by process {pid}\n"));
    }
    super::plan::show(&loaded, context)
}

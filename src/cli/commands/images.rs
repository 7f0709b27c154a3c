use super::super::Context;
use super::super::ui::{Style, Table};
use crate::apply::all_instances;
use crate::image;
use crate::model::{Digest, Outcome, Size};
use crate::store::Store;
use std::collections::BTreeMap;

/// Lists the images in the store and whose they are.
///
/// Example: stead images --json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Print the list for programs.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Outcome<u8> {
    let store = Store::at(&context.options.home.store);
    let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (_, record) in all_instances(&context.options.home) {
        for (name, image) in &record.images {
            names.entry(image.digest).or_default().push(format!("{}/{name}", record.project));
        }
        for (name, digest) in &record.commits {
            names.entry(*digest).or_default().push(format!("{}/{name}", record.project));
        }
    }
    let mut table = Table::new(&["NAME", "IMAGE", "LAYERS", "SIZE"]);
    let mut list = Vec::new();
    for digest in store.list("images") {
        let Some(image) = image::load(&store, &digest) else { continue };
        let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let mut name = names.get(&digest).cloned().unwrap_or_default();
        name.dedup();
        list.push(serde_json::json!({ "names": name, "digest": digest, "layers": image.layers, "size": size }));
        let shown = if name.is_empty() { "-".to_owned() } else { name.join(", ") };
        table.row([
            (shown, Some(Style::Bold)),
            (digest.short(12), None),
            (image.layers.len().to_string(), None),
            (Size(size).to_string(), None),
        ]);
    }
    if arguments.json {
        context.ui.json(&serde_json::json!({ "version": 1, "images": list }));
    } else if !table.is_empty() {
        context.ui.result(&table.text(context.ui.color_out));
    }
    Ok(0)
}

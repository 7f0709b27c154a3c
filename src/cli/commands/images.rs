use super::super::Context;
use super::super::ui::{Style, Table, Text};
use crate::engine;
use crate::image;
use crate::model::{Digest, Result, Size};
use crate::plan::Image;
use crate::store::Store;
use std::collections::BTreeMap;

/// Lists the images in the store, with their names.
///
/// Example: stead images --json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Show which image is based on which.
    #[arg(long, conflicts_with = "json")]
    tree: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let store = Store::at(&context.options.home.store);
    let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (name, digest) in engine::known_images(&context.options.home)? {
        names.entry(digest).or_default().push(name);
    }
    for (name, digest) in engine::names(&context.options.home)? {
        names.entry(digest).or_default().push(name);
    }
    if arguments.tree {
        let all: Vec<Image> = store.list("images")?.iter().filter_map(|digest| image::load(&store, digest)).collect();
        context.ui.result(tree(&all, &names, context.ui.color_out));
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "IMAGE", "LAYERS", "SIZE"], &["LAYERS"]);
    let mut list = Vec::new();
    let mut rows = Vec::new();
    for digest in store.list("images")? {
        let Some(image) = image::load(&store, &digest) else { continue };
        let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let mut name = names.get(&digest).cloned().unwrap_or_default();
        name.dedup();
        list.push(serde_json::json!({ "names": name, "digest": digest, "layers": image.layers, "size": size }));
        let cells = [digest.short(12), image.layers.len().to_string(), Size(size).to_string()];
        if name.is_empty() {
            rows.push((None, cells));
        } else {
            rows.extend(name.into_iter().map(|name| (Some(name), cells.clone())));
        }
    }
    list.sort_by_key(|image| (image["names"][0].is_null(), image["names"][0].to_string()));
    // By name, and those without one last.
    rows.sort_by(|(one, _), (other, _)| (one.is_none(), one).cmp(&(other.is_none(), other)));
    for (name, [digest, layers, size]) in rows {
        table.row([(name.unwrap_or_else(|| "-".into()), Some(Style::Bold)), (digest, None), (layers, None), (size, None)]);
    }
    if arguments.json {
        context.ui.json(&serde_json::json!({ "version": 1, "images": list }));
    } else if !table.is_empty() {
        context.ui.result(table.text(&context.ui));
    }
    Ok(0)
}

/// The images as a tree: each is below the image that it is based on, with what it adds.
fn tree(all: &[Image], names: &BTreeMap<Digest, Vec<String>>, color: bool) -> Text {
    let stands_on = |upper: &Image, lower: &Image| {
        upper.layers.len() > lower.layers.len()
            && !lower.layers.is_empty()
            && upper.layers.iter().zip(&lower.layers).all(|(a, b)| a.diff_id == b.diff_id)
    };
    let parent = |image: &Image| {
        let below = all.iter().enumerate().filter(|(_, other)| stands_on(image, other));
        below.max_by_key(|(_, other)| other.layers.len()).map(|(index, _)| index)
    };
    let parents: Vec<Option<usize>> = all.iter().map(parent).collect();
    let mut out = Text::default();
    branch(all, names, &parents, None, "", &mut out, color);
    out
}

fn branch(
    all: &[Image],
    names: &BTreeMap<Digest, Vec<String>>,
    parents: &[Option<usize>],
    below: Option<usize>,
    margin: &str,
    out: &mut Text,
    color: bool,
) {
    let mut children: Vec<usize> = (0..all.len()).filter(|index| parents[*index] == below).collect();
    let shown = |index: usize| names.get(&all[index].digest).map_or_else(|| "-".to_owned(), |names| names.join(", "));
    children.sort_by_key(|index| (shown(*index), all[*index].digest));
    for (number, index) in children.iter().enumerate() {
        let last = number + 1 == children.len();
        let (knee, further) = match (below, last) {
            (None, _) => ("", ""),
            (Some(_), true) => ("└─ ", "   "),
            (Some(_), false) => ("├─ ", "│  "),
        };
        let image = &all[*index];
        let own = &image.layers[below.map_or(0, |below| all[below].layers.len())..];
        let size = Size(own.iter().map(|layer| layer.size).sum());
        let plus = if below.is_some() { "+" } else { "" };
        let count = if own.len() == 1 { "1 layer".to_owned() } else { format!("{} layers", own.len()) };
        let name = Style::Bold.paint(Text::line(&shown(*index)), color);
        *out += Text::from(format!("{margin}{knee}")) + name;
        *out += format!(" {} {plus}{size} in {count}\n", image.digest.short(12));
        branch(all, names, parents, Some(*index), &format!("{margin}{further}"), out, color);
    }
}

use super::super::Context;
use super::super::cells::{health, ports, state};
use super::super::ui::{Style, Table, Text, Ui};
use crate::engine::{self, Resident, Row, Which, listing};
use crate::model::Result;

/// Lists containers.
///
/// Example: stead ps --all
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// List stopped containers, too.
    #[arg(short, long)]
    all: bool,
    /// List the containers of all projects of this installation, and what is left of projects whose directories are gone.
    #[arg(long)]
    projects: bool,
    /// List only containers with this label; may be repeated.
    #[arg(long = "label", value_name = "NAME[=VALUE]")]
    labels: Vec<String>,
    /// Print a JSON object with the list `containers`.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let which = if arguments.all { Which::All } else { Which::Running };
    let has = |row: &Row, label: &String| match label.split_once('=') {
        Some((name, value)) => row.labels.get(name).is_some_and(|known| known == value),
        None => row.labels.contains_key(label),
    };
    let wanted = |row: &Row| arguments.labels.iter().all(|label| has(row, label));
    if arguments.projects {
        let mut all = engine::projects(&context.options.home, which)?;
        all.iter_mut().for_each(|one| one.rows.retain(wanted));
        if !arguments.labels.is_empty() {
            all.retain(|one| !one.rows.is_empty());
        }
        return everywhere(&all, arguments, context);
    }
    let mut listed: Vec<Row> = listing(&context.instance()?, which)?;
    listed.retain(wanted);
    if arguments.json {
        context.ui.json(&serde_json::json!({ "version": 1, "containers": listed }));
    } else {
        context.ui.result(table(&listed, &context.ui));
    }
    Ok(0)
}

/// Shows the containers of all projects, and what is left of those whose directories are gone.
fn everywhere(all: &[Resident], arguments: &Arguments, context: &Context) -> Result<u8> {
    if arguments.json {
        let rows: Vec<&Row> = all.iter().flat_map(|one| &one.rows).collect();
        context.ui.json(&serde_json::json!({ "version": 1, "containers": rows, "projects": all }));
        return Ok(0);
    }
    context.ui.result(projects(all, &context.ui));
    let left = leftovers(all, &context.ui);
    if !left.is_empty() {
        context.ui.result(left);
        context.ui.say("what is left of these can be ended: `stead down --project ID`, with --volumes its volumes, too");
    }
    Ok(0)
}

/// The table of one project's containers.
pub fn table(rows: &[Row], ui: &Ui) -> Text {
    let mut table = Table::new(&["NAME", "IMAGE", "STATE", "HEALTH", "PORTS"], &["IMAGE", "HEALTH"]);
    for row in rows {
        table.row([
            (row.name.clone(), Some(Style::Bold)),
            (row.image.clone(), None),
            state(row),
            health(row),
            (ports(row), None),
        ]);
    }
    if table.is_empty() { Text::default() } else { table.text(ui) }
}

fn projects(all: &[Resident], ui: &Ui) -> Text {
    let headings = ["ID", "PROJECT", "BRANCH", "NAME", "STATE", "HEALTH", "PORTS", "DIRECTORY"];
    let mut table = Table::new(&headings, &["HEALTH", "PORTS", "BRANCH"]);
    for (one, row) in all.iter().flat_map(|one| one.rows.iter().map(move |row| (one, row))) {
        table.row([
            (one.id.clone(), Some(Style::Dim)),
            (row.project.clone(), Some(Style::Bold)),
            (one.branch.clone().unwrap_or_else(|| "-".into()), None),
            (row.name.clone(), None),
            state(row),
            health(row),
            (ports(row), None),
            (format!("{}{}", row.folder, if one.gone { " (gone)" } else { "" }), Some(Style::Dim)),
        ]);
    }
    if table.is_empty() { Text::default() } else { table.text(ui) }
}

/// The table of what is left of projects whose directories are gone.
fn leftovers(all: &[Resident], ui: &Ui) -> Text {
    let mut table = Table::new(&["ID", "PROJECT", "STATE", "LEFT", "DIRECTORY"], &[]);
    for one in all.iter().filter(|one| one.gone) {
        table.row([
            (one.id.clone(), None),
            (one.project.clone(), Some(Style::Bold)),
            ("gone".into(), Some(Style::Bad)),
            (left(one), None),
            (one.folder.clone(), Some(Style::Dim)),
        ]);
    }
    if table.is_empty() { Text::default() } else { table.text(ui) }
}

/// What a project has, in words.
fn left(one: &Resident) -> String {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    let parts = [counted(one.containers.len(), "container"), counted(one.volumes.len(), "volume")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

//! The commands for generations of the environment: `history`, `show`, `diff`, `rollback`.

use super::super::Context;
use super::super::ui::{Style, Table, Text};
use super::allow::Allow;
use crate::engine::{self, Generation, Instance, UpOptions};
use crate::model::{Result, time_text, visible_line};
use crate::project::looks_secret;
use crate::spec::{self, Origins};
use serde_json::json;
use std::time::Instant;

/// Lists the generations of the environment: each `up` that changed something made one.
///
/// Example: stead history
#[derive(clap::Args, Debug)]
pub struct History {
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Shows a generation: when, by whom, what changed, and which images its containers have; or the project as it is resolved.
///
/// Example: stead show 3
/// Example: stead show --resolved --origin
#[derive(clap::Args, Debug)]
pub struct Show {
    /// Its number; the newest if not given.
    generation: Option<u64>,
    /// Print the project as its files are now, with includes, templates, profiles and parameters put together, as a project file;
    /// with a number, the whole project of that generation, as JSON. Private values are not shown.
    #[arg(long)]
    resolved: bool,
    /// Print behind each line which file and line it comes from.
    #[arg(long, requires = "resolved", conflicts_with = "generation")]
    origin: bool,
}

/// Shows what is different between two generations, in the words of the project.
///
/// Example: stead diff 3 5
#[derive(clap::Args, Debug)]
pub struct Diff {
    /// The older one.
    old: u64,
    /// The newer one; the newest of all if not given.
    new: Option<u64>,
}

/// Brings back an earlier generation of the environment, from what is in the store: nothing is built.
///
/// Without a number it goes one back, and again one further; with a number, back or forward to that generation. The project's
/// files stay as they are, so that `stead up` goes to what they say again. Volumes keep their data, unless --data is given.
///
/// Example: stead rollback
#[derive(clap::Args, Debug)]
pub struct Rollback {
    /// The generation; the one before the current one if not given.
    generation: Option<u64>,
    /// Give the volumes the data, too, that they had when that generation was left.
    ///
    /// `up` keeps it where the file system of the volumes can clone files, as btrfs and xfs can. What the volumes have now is kept
    /// for the current generation, so that going forward with --data brings it back.
    #[arg(long, conflicts_with = "dry_run")]
    data: bool,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    allow: Allow,
}

impl Rollback {
    /// Whether it only shows what would be done.
    pub fn is_dry(&self) -> bool {
        self.dry_run
    }
}

fn time(generation: &Generation) -> String {
    time_text(i64::try_from(generation.at / 1000).unwrap_or(0))
}

/// What was checked out: a branch and the beginning of a commit.
fn checkout(generation: &Generation) -> String {
    let commit = generation.commit.as_deref().map(|commit| &commit[..commit.len().min(10)]);
    let parts: Vec<&str> = generation.branch.as_deref().into_iter().chain(commit).collect();
    if parts.is_empty() { "-".to_owned() } else { visible_line(&parts.join(" ")).into_owned() }
}

fn result(generation: &Generation) -> String {
    let back = generation.of.map_or_else(String::new, |of| format!(" = {of}"));
    format!("{}{back}", if generation.ok { "up" } else { "not all up" })
}

pub fn history(arguments: &History, context: &Context) -> Result<u8> {
    let all = engine::generations(&context.instance()?)?;
    if arguments.json {
        let rows: Vec<_> = all.iter().map(facts).collect();
        context.ui.json(&json!({ "version": 1, "generations": rows }));
        return Ok(0);
    }
    let mut table =
        Table::new(&["GENERATION", "TIME", "COMMAND", "BY", "COMMIT", "CHANGES", "RESULT"], &["BY", "COMMIT", "TIME"]);
    for one in &all {
        table.row([
            (one.number.to_string(), Some(Style::Bold)),
            (time(one), None),
            (visible_line(&one.command).into_owned(), None),
            (visible_line(&one.author).into_owned(), None),
            (checkout(one), None),
            (one.changes.len().to_string(), None),
            (result(one), Some(if one.ok { Style::Good } else { Style::Bad })),
        ]);
    }
    context.ui.result(table.text(&context.ui));
    Ok(0)
}

fn facts(one: &Generation) -> serde_json::Value {
    json!({
        "generation": one.number,
        "at": time(one),
        "command": one.command,
        "author": one.author,
        "branch": one.branch,
        "commit": one.commit,
        "ok": one.ok,
        "same_as": one.of,
        "changes": one.changes.len(),
        "images": one.images.iter().map(|(name, image)| (name.to_string(), image.digest.to_string())).collect::<std::collections::BTreeMap<_, _>>(),
    })
}

/// Prints the project as its files are now.
fn show_present(origins: Origins, context: &Context) -> Result<u8> {
    let (text, project) = context.shown(engine::resolved(&context.options, origins))?;
    // In the text, values are written with escapes.
    let inner = |value: &str| spec::text(value).trim_matches('"').to_owned();
    context.ui.keep_private(project.private().into_iter().map(|(name, value)| (name, inner(&value))).collect());
    context.ui.result(context.ui.without_private(&text));
    Ok(0)
}

pub fn show(arguments: &Show, context: &Context) -> Result<u8> {
    if arguments.resolved && arguments.generation.is_none() {
        return show_present(if arguments.origin { Origins::Shown } else { Origins::Hidden }, context);
    }
    let one = engine::generation_meant(&context.instance()?, arguments.generation)?;
    context.ui.keep_private(one.project.private());
    if arguments.resolved {
        let mut project = one.project.clone();
        // Values from outside may be passwords: those that occur elsewhere in it are replaced by their names.
        let private = project.private();
        (project.variables, project.given) = Default::default();
        for container in project.containers.values_mut() {
            container.env.iter_mut().filter(|(name, _)| looks_secret(name)).for_each(|(_, value)| *value = "…".to_owned());
        }
        let inner = |value: &str| json!(value).to_string().trim_matches('"').to_owned();
        let written = private.iter().map(|(name, value)| (name.clone(), inner(value))).collect();
        context.ui.keep_private(written);
        let text = json!({ "version": 1, "generation": facts(&one), "project": project });
        context.ui.result(context.ui.without_private(&format!("{text:#}\n")));
        return Ok(0);
    }
    let mut text = format!(
        "generation {}: `{}` by {} at {}\n",
        one.number,
        visible_line(&one.command),
        visible_line(&one.author),
        time(&one)
    );
    text += &format!("checked out: {}\nresult: {}\n", checkout(&one), result(&one));
    let mut table = Table::new(&["CONTAINER", "IMAGE", "DIGEST"], &["DIGEST"]);
    for (name, container) in &one.containers {
        table.row([
            (name.clone(), Some(Style::Bold)),
            (visible_line(&container.image_name).into_owned(), None),
            (container.image.short(12), None),
        ]);
    }
    context.ui.result(Text::from(text) + table.text(&context.ui));
    let mut changes = String::new();
    for change in &one.changes {
        let causes: Vec<&str> = change.causes.iter().map(|cause| cause.text.as_str()).collect();
        changes += &format!("  {} ← {}\n", visible_line(&change.name), visible_line(&causes.join("; ")));
    }
    if !changes.is_empty() {
        context.ui.result(context.ui.without_private(&format!("what changed:\n{changes}")));
    }
    Ok(0)
}

pub fn diff(arguments: &Diff, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let old = engine::generation_meant(&instance, Some(arguments.old))?;
    let new = engine::generation_meant(&instance, arguments.new)?;
    context.ui.keep_private(old.project.private().into_iter().chain(new.project.private()).collect());
    let lines = engine::generations_differ(&old, &new);
    if lines.is_empty() {
        context.ui.say(format!("generations {} and {} are the same", old.number, new.number));
        return Ok(0);
    }
    let text: String = lines.iter().map(|line| format!("{}\n", visible_line(line))).collect();
    context.ui.result(context.ui.without_private(&text));
    Ok(0)
}

pub fn rollback(arguments: &Rollback, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let target = match arguments.generation {
        Some(number) => engine::generation_meant(&instance, Some(number))?,
        None => engine::generation_before(&instance)?,
    };
    if arguments.dry_run {
        return super::plan::show_planned(&engine::plan_back(&instance, target)?, context);
    }
    let (command, data) = if arguments.data { ("rollback --data", Data::GoesBack) } else { ("rollback", Data::Stays) };
    let options = UpOptions { command: command.into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    go(&instance, target, data, &options, context)
}

/// What happens to the data in volumes when a generation is brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    Stays,
    GoesBack,
}

/// Brings a generation back, and shows how it goes.
pub fn go(instance: &Instance, target: Generation, data: Data, options: &UpOptions, context: &Context) -> Result<u8> {
    let started = Instant::now();
    context.ui.keep_private(target.project.private());
    let (number, of) = (target.number, target.origin());
    let what = if of == number { format!("generation {number}") } else { format!("generation {number}, which is {of}") };
    context.ui.say(format!("going to {what}"));
    super::converge::converge(instance, context, started, |reporter| match data {
        Data::GoesBack => engine::go_back_with_data(instance, target, options, reporter),
        Data::Stays => engine::go_back(instance, target, options, reporter),
    })
}

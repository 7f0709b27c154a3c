use super::super::Context;
use super::super::ui::{Style, Text};
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::{Context as _, Error, Result};
use crate::sys;
use crate::watch::{Happened, Next, Session};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a detached watcher may take until it watches.
const BEGIN: Duration = Duration::from_secs(5);

/// Brings the environment up, and makes it follow every change of the files.
///
/// A changed file that an image copies is written into its running containers, if nothing was made from it; rules of
/// `watch` say what else follows. Whatever needs a build is built, and only containers that it concerns are replaced.
///
/// Example: stead watch
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Watch in the background; `stead logs --watch` shows what is done, `stead down` ends it, too.
    #[arg(long)]
    detach: bool,
    /// End the watch that runs in the background.
    #[arg(long, conflicts_with = "detach")]
    stop: bool,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    if arguments.stop {
        let instance = context.instance()?;
        let said = if engine::end_watcher(&instance) { "no longer watching; containers stay up" } else { "nothing was watching" };
        context.ui.say(said);
        return Ok(0);
    }
    let options = UpOptions { command: "watch".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    if arguments.detach { detach(&options, context) } else { follow(&options, context) }
}

/// Brings the environment up, waits for changes and applies them, until interrupted.
pub fn follow(options: &UpOptions, context: &Context) -> Result<u8> {
    let mut loaded = Some(context.settled(options)?);
    let instance = engine::Instance::new(&context.options.home, &context.options.folder, &context.options.file);
    let _claim = engine::claim_watch(&instance)?;
    let mut session = Session::begin(&instance)?;
    let (mut only, mut since) = (BTreeSet::new(), Instant::now());
    loop {
        let fresh = loaded.take().map_or_else(|| context.settled(options), Ok);
        let applied = fresh.and_then(|loaded| {
            show(session.aim(&loaded, &context.options)?, context);
            let options = UpOptions { only: std::mem::take(&mut only), ..options.clone() };
            super::converge::converge(&loaded.instance, context, since, |reporter| engine::up(&loaded, &options, reporter))
        });
        if let Err(error) = applied {
            // The next change of a file may mend it; what runs goes on.
            context.tell(&error);
            show(session.aim_at_files(&context.options)?, context);
        }
        show(session.settle()?, context);
        let (files, directories) = session.size();
        let size = format!("watching {files} files in {directories} directories; interrupt to end (containers stay up)");
        context.ui.say(Style::Dim.paint(size, context.ui.color_err));
        loop {
            match session.next()? {
                Next::Did(happened) => show(happened, context),
                Next::Converge { changed, only: names, since: at } => {
                    context.ui.say(Text::line(&format!("{} changed", some(&changed))));
                    (only, since) = (names, at);
                    break;
                }
            }
        }
    }
}

/// Brings the environment up, and starts this program again to watch in the background.
fn detach(options: &UpOptions, context: &Context) -> Result<u8> {
    let loaded = context.settled(options)?;
    let instance = &loaded.instance;
    drop(engine::claim_watch(instance)?);
    let code = super::converge::converge(instance, context, Instant::now(), |reporter| engine::up(&loaded, options, reporter))?;
    let path = engine::watch_log(instance);
    let log = OpenOptions::new().create(true).write(true).truncate(true).open(&path);
    let log = log.context(|| format!("cannot write {}", path.display()))?;
    let errors = log.try_clone().context(|| "cannot keep its log".into())?;
    let choices = &context.options.choices;
    let mut command = Command::new(sys::own_program().context(|| "cannot protect this program's file".into())?);
    command.arg0("stead").arg("-C").arg(&instance.folder);
    if context.options.file != "stead.kdl" {
        command.arg("-f").arg(instance.folder.join(&context.options.file));
    }
    command.args(choices.profiles.iter().flat_map(|name| ["--profile", name]));
    command.args(choices.set.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]));
    command.arg("watch");
    if !options.allow.is_empty() {
        let kinds: Vec<&str> = options.allow.iter().map(|kind| kind.word()).collect();
        command.args(["--allow", &kinds.join(",")]);
    }
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    let mut child = command.spawn().context(|| "cannot start the watch".into())?;
    let deadline = Instant::now() + BEGIN;
    while engine::watcher(instance).is_none() {
        let ended = child.try_wait().context(|| "cannot start the watch".into())?.is_some();
        if ended || Instant::now() > deadline {
            return Err(Error::new("the watch has not begun").hint("`stead logs --watch` shows what it said"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    context.ui.say("watching in the background; `stead logs --watch` shows what it does, `stead watch --stop` ends it");
    Ok(code)
}

/// Some of the paths, and how many more there are.
fn some(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn show(happened: Vec<Happened>, context: &Context) {
    let color = context.ui.color_err;
    let line = |what: String, took: Duration| {
        let took = format!(" ({:.1} ms)", took.as_secs_f64() * 1000.0);
        context.ui.say(Text::line(&what) + Style::Dim.paint(took, color));
    };
    for one in happened {
        match one {
            Happened::Synced { paths, replicas, took } => {
                let replicas: Vec<&str> = replicas.iter().map(String::as_str).collect();
                line(format!("{} → {}", some(&paths), replicas.join(", ")), took);
            }
            Happened::Restarted { replica, took } => line(format!("{replica} restarted"), took),
            Happened::Ran { replica, words, took } => line(format!("{} ran in {replica}", words.join(" ")), took),
            Happened::Failed(error) => context.tell(&error),
            Happened::Note(text) => context.ui.say(Text::line(&text)),
        }
    }
}

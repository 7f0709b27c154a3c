use super::super::trace::Trace;
use super::super::{Context, interrupt};
use super::allow::Allow;
use crate::engine::{self, Held, UpOptions};
use crate::model::Result;
use crate::monitor::now_ms;
use std::path::PathBuf;
use std::time::Instant;

/// Makes this machine match the project file: resolves, locks, builds, starts, and waits until containers are healthy.
///
/// Example: stead up
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Fail if something is not in stead.lock, instead of resolving it.
    #[arg(long)]
    frozen: bool,
    /// Do not use the network; fail if it would be needed.
    #[arg(long)]
    offline: bool,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Accepted for compatibility with Docker: `up` always returns.
    #[arg(short = 'd', long, hide = true)]
    detach: bool,
    /// Go to an earlier generation instead, by its number, as `stead rollback` does, or to another commit: `main~3`, a tag,
    /// the beginning of an id.
    ///
    /// A commit's project file, lock and files count then, and the working tree stays as it is. Secrets and env-files that the
    /// commit does not have are read from the project's directory. A bind of the project's own files is refused, since it would
    /// show the working tree. What is digits only is a generation first.
    #[arg(long, value_name = "GENERATION|COMMIT", conflicts_with_all = ["watch", "frozen", "trace"])]
    at: Option<String>,
    /// Stay and show what the containers print from now on; interrupt to leave (they stay up).
    #[arg(long, conflicts_with_all = ["watch", "dry_run", "detach"])]
    attach: bool,
    /// Keep running, and apply every change of the files.
    #[arg(long)]
    watch: bool,
    /// Write when each task waited and ran, in the format of Chrome's traces, which ui.perfetto.dev opens.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    allow: Allow,
}

impl Arguments {
    /// Whether it only shows what would be done.
    pub fn is_dry(&self) -> bool {
        self.dry_run
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    let watch = arguments.watch && !arguments.detach;
    if let Some(at) = &arguments.at {
        return go_to(at, started, arguments, context);
    }
    if arguments.dry_run {
        return super::plan::show(&context.project_dry()?, context);
    }
    let options = UpOptions {
        frozen: arguments.frozen,
        offline: arguments.offline,
        allow: arguments.allow.kinds()?,
        command: "up".into(),
        ..UpOptions::default()
    };
    if watch {
        return super::watch::follow(&options, false, context);
    }
    let trace = arguments.trace.as_deref().map(|path| Trace::begin(path, "up", &context.ui)).transpose()?;
    let loaded = context.settled(&options)?;
    context.warn(&loaded);
    let up = |reporter: &dyn engine::Reporter| match &trace {
        Some(trace) => engine::up(&loaded, &options, &trace.beside(reporter)),
        None => engine::up(&loaded, &options, reporter),
    };
    let from = now_ms();
    let done = super::converge::converge(&loaded.instance, context, started, up);
    let code = match &trace {
        Some(trace) => trace.end(done)?,
        None => done?,
    };
    if !arguments.attach {
        return Ok(code);
    }
    interrupt::leaves("left; containers stay up");
    super::logs::follow(from, context)
}

/// Goes to a generation or to a commit.
fn go_to(at: &str, started: Instant, arguments: &Arguments, context: &Context) -> Result<u8> {
    let options = UpOptions {
        offline: arguments.offline,
        allow: arguments.allow.kinds()?,
        command: "up --at".into(),
        ..UpOptions::default()
    };
    let from = now_ms();
    let instance = context.instance()?;
    let code = match engine::generation_or_commit(&instance, at)? {
        Some(target) if arguments.dry_run => {
            return super::plan::show_planned(&engine::plan_back(&instance, target)?, context);
        }
        Some(target) => super::generations::go(&instance, target, super::generations::Data::Stays, &options, context)?,
        None => {
            let held = if arguments.dry_run { Held::Apart } else { Held::InStore };
            let there = context.at_revision(at, held)?;
            // The places of errors are in the commit's files, which only `there` can show.
            match at_commit(started, arguments, &options, &there) {
                Err(error) => {
                    there.tell(&error);
                    return Ok(error.code());
                }
                Ok(code) => code,
            }
        }
    };
    if arguments.attach { super::logs::follow(from, context) } else { Ok(code) }
}

fn at_commit(started: Instant, arguments: &Arguments, options: &UpOptions, there: &Context) -> Result<u8> {
    let loaded = if arguments.dry_run { there.project_dry()? } else { there.settled(options)? };
    engine::only_of_commit(&loaded)?;
    if arguments.dry_run {
        return super::plan::show(&loaded, there);
    }
    if let Some(checkout) = &loaded.instance.checkout {
        there.ui.say(format!("going to commit {}", &checkout.commit[..12]));
    }
    super::converge::converge(&loaded.instance, there, started, |reporter| engine::up(&loaded, options, reporter))
}

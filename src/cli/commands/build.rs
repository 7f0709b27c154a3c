use super::super::Context;
use super::super::trace::Trace;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, LoadedProject, UpOptions};
use crate::model::{Error, Name, Result, nearest};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

/// Builds the images of the project.
///
/// Example: stead build app
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The images to build; all if none is given.
    names: Vec<String>,
    /// Fail if something is not in stead.lock, instead of resolving it.
    #[arg(long)]
    frozen: bool,
    /// Do not use the network; fail if it would be needed.
    #[arg(long)]
    offline: bool,
    /// Build twice from scratch, under different conditions, and compare the bytes; the lock must be complete.
    #[arg(long)]
    verify: bool,
    /// Show for each step that runs why it does.
    #[arg(long)]
    why: bool,
    /// The latest timestamp in what is built, instead of the lock's: seconds since 1970, or a date.
    #[arg(long, value_name = "TIME")]
    epoch: Option<String>,
    /// Let commands that ask for it use your ssh agent.
    #[arg(long)]
    ssh: bool,
    /// If a command fails, open a shell in the state before it.
    #[arg(long)]
    shell_on_failure: bool,
    /// Write when each image and step was built, in the format of Chrome's traces, which ui.perfetto.dev opens.
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    allow: Allow,
}

/// Parses the value of `--epoch`: the latest timestamp in what is built.
pub fn epoch(text: &str) -> Result<i64> {
    let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    let date = || crate::model::parse_time(text).and_then(|millis| i64::try_from(millis / 1000).ok());
    seconds.or_else(date).ok_or_else(|| {
        Error::new(format!("--epoch {text}: seconds since 1970 or a date were expected"))
            .hint("for example: --epoch 2026-01-31")
            .usage()
    })
}

impl Arguments {
    /// Whether the command may open a shell.
    pub fn opens_a_shell(&self) -> bool {
        self.shell_on_failure
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let started = Instant::now();
    let epoch = arguments.epoch.as_deref().map(epoch).transpose()?;
    let options = UpOptions {
        frozen: arguments.frozen,
        offline: arguments.offline,
        why: arguments.why,
        ssh: arguments.ssh,
        epoch,
        allow: arguments.allow.kinds()?,
        command: "build".into(),
        ..UpOptions::default()
    };
    let trace = arguments.trace.as_deref().map(|path| Trace::begin(path, "build", &context.ui)).transpose()?;
    let loaded = context.settled(&options)?;
    let known = &loaded.project.images;
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for name in &arguments.names {
        let Some((found, _)) = known.get_key_value(name.as_str()) else {
            let error = Error::new(format!("the project has no image \"{name}\""));
            return Err(match nearest(name, known.keys().map(Name::as_str)) {
                Some(near) => error.hint(format!("perhaps \"{near}\"")),
                None => error.hint(format!("it has: {}", known.keys().map(Name::as_str).collect::<Vec<_>>().join(", "))),
            });
        };
        names.insert(found.clone());
    }
    if names.is_empty() {
        names.extend(known.keys().cloned());
    }
    if arguments.verify {
        return verify(&loaded, &names, &options, context, started);
    }
    let shown = Shown::new(&context.ui, false);
    let built = match &trace {
        Some(trace) => engine::build_only(&loaded, &names, &options, &trace.beside(&shown)),
        None => engine::build_only(&loaded, &names, &options, &shown),
    };
    shown.clear();
    let built = match &trace {
        Some(trace) => trace.end(built),
        None => built,
    };
    let built = match built {
        Err(error) if arguments.shell_on_failure => {
            context.tell(&error);
            return shell(&loaded, shown.failed(), epoch, context).map(|()| error.code());
        }
        other => other?,
    };
    for (name, image) in built {
        context.ui.result(format!("{name} {}", image.digest));
    }
    context.ui.say(format!("built ({})", engine::since(started)));
    Ok(0)
}

/// Opens a shell in the state before the command that failed.
fn shell(loaded: &LoadedProject, failed: Option<Name>, epoch: Option<i64>, context: &Context) -> Result<()> {
    let rescue = failed.map(|name| engine::rescue(loaded, &name, epoch).map(|rescue| (name, rescue))).transpose()?;
    let Some((name, Some(rescue))) = rescue else {
        context.ui.say("no command failed, so there is no state to look around in");
        return Ok(());
    };
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Error::new("--shell-on-failure needs a terminal"));
    }
    context.ui.say(format!("{name}: before `{}`; changes made here are discarded", rescue.step));
    super::run::attend(&rescue.blueprint, &rescue.contents, true).map(drop)
}

fn verify(loaded: &LoadedProject, names: &BTreeSet<Name>, how: &UpOptions, context: &Context, started: Instant) -> Result<u8> {
    let shown = Shown::new(&context.ui, false);
    let verdicts = engine::verify(loaded, &context.options, names, how, &shown)?;
    let differing = verdicts.iter().filter(|verdict| !verdict.differences.is_empty()).count();
    for verdict in &verdicts {
        let same = verdict.differences.is_empty();
        context.ui.result(format!("{} {} {}", verdict.image, verdict.digest, if same { "same" } else { "differs" }));
        for line in verdict.differences.iter().take(20) {
            context.ui.result(format!("  {line}"));
        }
        if verdict.differences.len() > 20 {
            context.ui.result(format!("  and {} more", verdict.differences.len() - 20));
        }
    }
    context.ui.say(format!("built twice ({})", engine::since(started)));
    if differing == 0 {
        return Ok(0);
    }
    let what = if differing == 1 { "an image is".to_owned() } else { format!("{differing} images are") };
    Err(Error::new(format!("{what} not the same in both builds"))
        .hint("a `run` step is only as reproducible as its command: look for times, random numbers, caches"))
}

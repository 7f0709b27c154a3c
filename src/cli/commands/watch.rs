use super::super::ui::{Style, Text};
use super::super::view::{self, End, Work};
use super::super::watching::{Told, shown, some};
use super::super::{Context, interrupt};
use super::allow::Allow;
use crate::engine::{self, Instance, LoadedProject, Reporter, UpOptions};
use crate::model::{Context as _, Error, Name, Result};
use crate::sys;
use crate::watch::{Asker, Happened, Next, Reading, Session};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// How long a detached watcher may take until it watches.
const BEGIN: Duration = Duration::from_secs(5);
/// What is said at the end.
const LEFT: &str = "no longer watching; containers stay up";

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
    /// Print lines instead of the view, which is there only on a terminal.
    #[arg(long)]
    plain: bool,
    /// End the watch that runs in the background.
    #[arg(long, conflicts_with = "detach")]
    stop: bool,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    if arguments.stop {
        let instance = context.instance()?;
        let said = if engine::end_watcher(&instance) { LEFT } else { "nothing was watching" };
        context.ui.say(said);
        return Ok(0);
    }
    let options = UpOptions { command: "watch".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    if arguments.detach { detach(&options, context) } else { follow(&options, arguments.plain, context) }
}

/// Brings the environment up, waits for changes and applies them, until interrupted: in a view if there is a terminal, and
/// in lines otherwise.
pub fn follow(options: &UpOptions, plain: bool, context: &Context) -> Result<u8> {
    let begun = SystemTime::now();
    let loaded = context.settled(options)?;
    let instance = loaded.instance.clone();
    let _claim = engine::claim_watch(&instance)?;
    if plain || !context.ui.can_view() {
        return session(&instance, options, context, Some((loaded, begun)), &in_lines);
    }
    let (options, allow) = (options.clone(), options.allow.clone());
    let of_session = instance.clone();
    let work = Work {
        // The project is loaded again, so that the view has what there is to say about it.
        session: Box::new(move |context: &Context, face: &dyn Fn(Told, &Context)| {
            session(&of_session, &options, context, None, face)
        }),
        restart: Box::new(move |context: &Context, name: &str| super::restart::these(&[name.to_owned()], allow.clone(), context)),
    };
    match view::show(&instance, work, context)? {
        End::Leave => {
            context.ui.say(LEFT);
            Ok(0)
        }
        End::Down => super::down::all(context),
    }
}

/// What a session tells, in lines.
fn in_lines(told: Told, context: &Context) {
    let color = context.ui.color_err;
    match told {
        Told::Begins(_) | Told::Converging | Told::Converged => {}
        // Then somebody has asked for it.
        Told::Changed(paths) if paths.is_empty() => {}
        Told::Changed(paths) => context.ui.say(Text::line(&format!("{} changed", some(&paths)))),
        Told::Failed(error) => context.tell(&error),
        Told::Watching { files, directories } => {
            let size = format!("watching {files} files in {directories} directories; interrupt to end (containers stay up)");
            context.ui.say(Style::Dim.paint(size, color));
        }
        Told::Happened(happened) => match shown(happened) {
            Ok((what, Some(took))) => {
                let took = format!(" ({:.1} ms)", took.as_secs_f64() * 1000.0);
                context.ui.say(Text::line(&what) + Style::Dim.paint(took, color));
            }
            Ok((what, None)) => context.ui.say(Text::line(&what)),
            Err(error) => context.tell(&error),
        },
    }
}

/// A project, and when it was about to be loaded.
type Fresh = (LoadedProject, SystemTime);

/// What ran beside a session, and is over.
enum Done {
    Loaded(Box<Result<Fresh>>),
    Up(Result<u8>, Reading),
}

/// What runs beside a session, so that the session goes on to deliver files meanwhile.
struct Beside<'a> {
    instance: &'a Instance,
    options: &'a UpOptions,
    context: &'a Context,
    asker: Asker,
    sender: Sender<Done>,
}

impl Beside<'_> {
    /// Runs something, and wakes the session when it is over.
    fn run(&self, work: impl FnOnce(&Context) -> Done + Send + 'static) {
        let context = self.context.with(self.context.ui.clone());
        let (sender, asker) = (self.sender.clone(), self.asker.clone());
        std::thread::spawn(move || {
            // If the session is over, this process is about to end.
            let _ = sender.send(work(&context));
            asker.wake();
        });
    }

    fn load(&self) {
        let options = self.options.clone();
        self.run(move |context| {
            let begun = SystemTime::now();
            Done::Loaded(Box::new(context.settled(&options).map(|loaded| (loaded, begun))))
        });
    }

    /// Brings these containers up, or all if there are none.
    fn up(&self, loaded: LoadedProject, only: BTreeSet<Name>, keep_drift: bool, since: Instant) {
        let options = UpOptions { only, keep_drift, ..self.options.clone() };
        let reading = Reading::of(&self.instance.folder);
        self.run(move |context| {
            let up = |reporter: &dyn Reporter| engine::up(&loaded, &options, &reading.beside(reporter));
            let up = super::converge::converge(&loaded.instance, context, since, up);
            Done::Up(up, reading)
        });
    }
}

/// Brings the environment up, waits for changes and applies them; `face` shows what is told. The project may have been loaded
/// already.
fn session(
    instance: &Instance,
    options: &UpOptions,
    context: &Context,
    mut fresh: Option<Fresh>,
    face: &dyn Fn(Told, &Context),
) -> Result<u8> {
    interrupt::leaves(LEFT);
    let mut session = Session::begin(instance)?;
    let (sender, done) = channel();
    let beside = Beside { instance, options, context, asker: session.asker(), sender };
    face(Told::Begins(session.asker()), context);
    let all = |happened: Vec<Happened>| happened.into_iter().for_each(|one| face(Told::Happened(one), context));
    let (mut names, mut since) = (BTreeSet::new(), Instant::now());
    // Once everything was up, what has drifted is what this session has synced.
    let mut is_begun = false;
    loop {
        match session.next()? {
            Next::Did(happened) => all(happened),
            Next::Converge { changed, only, since: at } => {
                face(Told::Changed(changed), context);
                face(Told::Converging, context);
                (names, since) = (only, at);
                match fresh.take() {
                    Some(fresh) => beside.run(move |_| Done::Loaded(Box::new(Ok(fresh)))),
                    None => beside.load(),
                }
            }
            Next::Woken => {
                while let Ok(done) = done.try_recv() {
                    let (up, reading) = match done {
                        Done::Loaded(loaded) => match *loaded {
                            Ok((loaded, begun)) => {
                                context.warn(&loaded);
                                all(session.aim(&loaded, &context.options, begun)?);
                                beside.up(loaded, std::mem::take(&mut names), is_begun, since);
                                continue;
                            }
                            Err(error) => (Err(error), None),
                        },
                        Done::Up(up, reading) => (up.map(drop), Some(reading)),
                    };
                    let is_up = up.is_ok();
                    is_begun |= is_up;
                    if let Err(error) = up {
                        // The next change of a file may mend it; what runs goes on.
                        face(Told::Failed(error), context);
                        all(session.aim_at_files(&context.options)?);
                    }
                    all(session.settle(is_up, reading)?);
                    if session.is_whole() {
                        face(Told::Converged, context);
                    }
                    let (files, directories) = session.size();
                    face(Told::Watching { files, directories }, context);
                }
            }
        }
    }
}

/// Brings the environment up, and starts this program again to watch in the background.
fn detach(options: &UpOptions, context: &Context) -> Result<u8> {
    let loaded = context.settled(options)?;
    context.warn(&loaded);
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
    if context.options.file != "stead.kdl" || !choices.files.is_empty() {
        let files = std::iter::once(&context.options.file).chain(&choices.files);
        command.args(files.flat_map(|file| [OsString::from("-f"), instance.folder.join(file).into()]));
    }
    // What was chosen is on its command line, all of it.
    command.env_remove("STEAD_PROFILE");
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

//! One file per command: its arguments, whose doc comments are the help text, then its function.

mod add;
mod allow;
mod apply;
mod attach;
mod boot;
mod build;
mod bundle;
mod check;
mod completions;
mod converge;
mod convert;
mod doctor;
mod down;
mod events;
mod exec;
mod files;
mod fmt;
mod freeze;
mod gc;
mod generations;
mod graph;
mod help;
mod image;
mod images;
mod init;
mod inspect;
mod kill;
mod logs;
mod lsp;
mod man;
mod metrics;
mod names;
pub mod oci;
mod pause;
mod plan;
mod port;
mod ps;
mod registry;
mod restart;
mod rm;
mod run;
mod scale;
mod schema;
mod set;
mod shell;
mod start;
mod stats;
mod status;
mod stop;
mod top;
mod up;
mod update;
mod volume;
mod wait;
mod watch;
mod why;

use super::Context;
use crate::model::{Error, Result};
use clap::Subcommand;

/// The commands. The arguments of a command are built only when it is used, which halves the time of a short command.
#[derive(Subcommand, Debug)]
#[command(defer = true)]
pub enum Command {
    Init(init::Arguments),
    Up(up::Arguments),
    Down(down::Arguments),
    Plan(plan::Arguments),
    Allow(allow::Arguments),
    Apply(apply::Arguments),
    Check(check::Arguments),
    Fmt(fmt::Arguments),
    Add(add::Arguments),
    Set(set::Arguments),
    Status(status::Arguments),
    Watch(watch::Arguments),
    Ps(ps::Arguments),
    Logs(logs::Arguments),
    Exec(exec::Arguments),
    Run(run::Arguments),
    Shell(shell::Arguments),
    Start(start::Arguments),
    Stop(stop::Arguments),
    Restart(restart::Arguments),
    Kill(kill::Arguments),
    Attach(attach::Arguments),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    Wait(wait::Arguments),
    Rm(rm::Arguments),
    Scale(scale::Arguments),
    Top(top::Arguments),
    Stats(stats::Arguments),
    Events(events::Arguments),
    Metrics(metrics::Arguments),
    Inspect(inspect::Arguments),
    Port(port::Arguments),
    Cp(files::Copy),
    Changes(files::Changes),
    Export(files::Export),
    Commit(files::Commit),
    Freeze(freeze::Arguments),
    Volume(volume::Arguments),
    Boot(boot::Arguments),
    Build(build::Arguments),
    Convert(convert::Arguments),
    Images(images::Arguments),
    Image(image::Arguments),
    Save(image::Save),
    Bundle(bundle::Arguments),
    Load(names::Load),
    Import(names::Import),
    Tag(names::Tag),
    Rmi(names::Remove),
    Pull(registry::Pull),
    Push(registry::Push),
    Login(registry::Login),
    Logout(registry::Logout),
    Search(registry::Search),
    Update(update::Arguments),
    Why(why::Arguments),
    Graph(graph::Arguments),
    History(generations::History),
    Show(generations::Show),
    Diff(generations::Diff),
    Rollback(generations::Rollback),
    Gc(gc::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Schema(schema::Arguments),
    Lsp(lsp::Arguments),
    Help(help::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
    #[command(hide = true)]
    Complete(completions::Complete),
}

/// What a command does with a bundle that is given instead of a project file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bundles {
    /// It unpacks the bundle.
    TakeIn,
    /// It needs a bundle that was unpacked before, because the command itself writes nothing.
    TakenIn,
    /// It only reads the project's files in the bundle.
    LookInto,
    /// It changes the project's files, which is refused: a bundle stays as it was made.
    Refuse,
}

impl Command {
    /// What the command does with a bundle.
    pub fn bundles(&self) -> Bundles {
        match self {
            Self::Check(_) | Self::Graph(_) | Self::Complete(_) => Bundles::LookInto,
            Self::Plan(_) | Self::Status(_) | Self::Why(_) | Self::Lsp(_) => Bundles::TakenIn,
            Self::Init(_) | Self::Fmt(_) | Self::Add(_) | Self::Set(_) => Bundles::Refuse,
            _ => Bundles::TakeIn,
        }
    }

    /// Whether the command begins a project in the current directory, whatever project is above it.
    pub fn begins_a_project(&self) -> bool {
        matches!(self, Self::Init(_))
    }

    /// Whether the command ends by itself after an interruption; the others are killed by it, or pass it on.
    pub fn ends_by_itself(&self) -> bool {
        match self {
            // It may start a container itself, which is impossible in a program with threads.
            Self::Build(arguments) => !arguments.opens_a_shell(),
            _ => self.changes_things(),
        }
    }

    fn changes_things(&self) -> bool {
        matches!(
            self,
            Self::Up(_)
                | Self::Rollback(_)
                | Self::Apply(_)
                | Self::Down(_)
                | Self::Watch(_)
                | Self::Start(_)
                | Self::Stop(_)
                | Self::Restart(_)
                | Self::Rm(_)
                | Self::Scale(_)
                | Self::Boot(_)
                | Self::Bundle(_)
                | Self::Freeze(_)
                | Self::Update(_)
        )
    }

    /// Whether the command does more than read project files and print text: then it needs root, and a home.
    fn touches_the_machine(&self) -> bool {
        !matches!(
            self,
            Self::Init(_)
                | Self::Check(_)
                | Self::Fmt(_)
                | Self::Add(_)
                | Self::Set(_)
                | Self::Plan(_)
                | Self::Completions(_)
                | Self::Schema(_)
                | Self::Lsp(_)
                | Self::Help(_)
                | Self::Man(_)
                | Self::Complete(_)
                | Self::Convert(_)
                | Self::Doctor(_)
                | Self::Why(_)
                | Self::Graph(_)
        )
    }

    /// Whether the command only shows what it would do.
    fn is_dry(&self) -> bool {
        match self {
            Self::Up(arguments) => arguments.is_dry(),
            Self::Rollback(arguments) => arguments.is_dry(),
            _ => false,
        }
    }

    /// Runs the command and returns its exit code.
    pub fn run(self, context: &Context) -> Result<u8> {
        if self.touches_the_machine() {
            ordinary_user()?;
            if !self.is_dry() {
                context.options.home.secure()?;
            }
        }
        match self {
            Self::Init(arguments) => init::run(&arguments, context),
            Self::Check(arguments) => check::run(&arguments, context),
            Self::Fmt(arguments) => fmt::run(&arguments, context),
            Self::Add(arguments) => add::run(&arguments, context),
            Self::Set(arguments) => set::run(&arguments, context),
            Self::Plan(arguments) => plan::run(&arguments, context),
            Self::Completions(arguments) => completions::run(&arguments, context),
            Self::Schema(arguments) => schema::run(&arguments, context),
            Self::Lsp(arguments) => lsp::run(&arguments, context),
            Self::Help(arguments) => help::run(&arguments, context),
            Self::Man(arguments) => man::run(&arguments, context),
            Self::Complete(arguments) => completions::complete(&arguments, context),
            Self::Convert(arguments) => convert::run(&arguments, context),
            Self::Doctor(arguments) => doctor::run(&arguments, context),
            Self::Why(arguments) => why::run(&arguments, context),
            Self::Graph(arguments) => graph::run(&arguments, context),
            Self::Up(arguments) => up::run(&arguments, context),
            Self::Down(arguments) => down::run(&arguments, context),
            Self::Allow(arguments) => allow::run(&arguments, context),
            Self::Apply(arguments) => apply::run(&arguments, context),
            Self::Status(arguments) => status::run(&arguments, context),
            Self::Watch(arguments) => watch::run(&arguments, context),
            Self::Ps(arguments) => ps::run(&arguments, context),
            Self::Logs(arguments) => logs::run(&arguments, context),
            Self::Exec(arguments) => exec::run(&arguments, context),
            Self::Run(arguments) => run::run(&arguments, context),
            Self::Shell(arguments) => shell::run(&arguments, context),
            Self::Start(arguments) => start::run(&arguments, context),
            Self::Stop(arguments) => stop::run(&arguments, context),
            Self::Restart(arguments) => restart::run(&arguments, context),
            Self::Kill(arguments) => kill::run(&arguments, context),
            Self::Attach(arguments) => attach::run(&arguments, context),
            Self::Pause(arguments) => pause::pause(&arguments, context),
            Self::Unpause(arguments) => pause::unpause(&arguments, context),
            Self::Wait(arguments) => wait::run(&arguments, context),
            Self::Rm(arguments) => rm::run(&arguments, context),
            Self::Scale(arguments) => scale::run(&arguments, context),
            Self::Top(arguments) => top::run(&arguments, context),
            Self::Stats(arguments) => stats::run(&arguments, context),
            Self::Events(arguments) => events::run(&arguments, context),
            Self::Metrics(arguments) => metrics::run(&arguments, context),
            Self::Inspect(arguments) => inspect::run(&arguments, context),
            Self::Port(arguments) => port::run(&arguments, context),
            Self::Cp(arguments) => files::copy(&arguments, context),
            Self::Changes(arguments) => files::changes(&arguments, context),
            Self::Export(arguments) => files::export(&arguments, context),
            Self::Commit(arguments) => files::commit(&arguments, context),
            Self::Volume(arguments) => volume::run(&arguments, context),
            Self::Boot(arguments) => boot::run(&arguments, context),
            Self::Build(arguments) => build::run(&arguments, context),
            Self::Images(arguments) => images::run(&arguments, context),
            Self::Image(arguments) => image::run(&arguments, context),
            Self::Save(arguments) => image::save(&arguments, context),
            Self::Bundle(arguments) => bundle::run(&arguments, context),
            Self::Load(arguments) => names::load(&arguments, context),
            Self::Import(arguments) => names::import(&arguments, context),
            Self::Tag(arguments) => names::tag(&arguments, context),
            Self::Rmi(arguments) => names::remove(&arguments, context),
            Self::Pull(arguments) => registry::pull(&arguments, context),
            Self::Push(arguments) => registry::push(&arguments, context),
            Self::Login(arguments) => registry::login(&arguments, context),
            Self::Logout(arguments) => registry::logout(&arguments, context),
            Self::Search(arguments) => registry::search(&arguments, context),
            Self::Update(arguments) => update::run(&arguments, context),
            Self::History(arguments) => generations::history(&arguments, context),
            Self::Show(arguments) => generations::show(&arguments, context),
            Self::Diff(arguments) => generations::diff(&arguments, context),
            Self::Rollback(arguments) => generations::rollback(&arguments, context),
            Self::Freeze(arguments) => freeze::run(&arguments, context),
            Self::Gc(arguments) => gc::run(&arguments, context),
        }
    }
}

/// Refuses ordinary users: containers without root are not supported yet.
fn ordinary_user() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new("stead runs containers as root only, for now")
        .hint("use `sudo`; a later version will run containers without root. `stead check` and `stead plan` need no root"))
}

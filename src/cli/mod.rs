//! The command line: global options, one file per command, exit codes.
//!
//! Exit codes: 0 done; 1 failed; 2 the command line is wrong, or (`plan --check`) there is something
//! to do; for a command that runs in a container, the command's own, with Docker's 125 (could not start),
//! 126 (not executable), 127 (not found).

mod cells;
mod commands;
mod foreign;
mod groups;
mod interrupt;
mod moment;
mod page;
mod reference;
mod relay;
mod schemas;
mod streams;
mod topics;
mod trace;
mod ui;
mod view;
mod waiting;
mod watching;

use crate::engine::{self, CheckedOut, Chosen, Held, Instance, LoadError, LoadedProject, Options, Scratch, UpOptions};
use crate::model::{Error, Result, bounds};
use crate::spec::{Choices, Diagnostic, tidy};
use crate::store::Home;
use crate::sys::ProjectFiles;
use clap::error::ContextKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use commands::{Bundles, Command};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use ui::{Style, Text, Ui};

/// Declarative, reproducible container environments: one KDL file in, running containers out.
#[derive(Parser, Debug)]
#[command(name = "stead", version, disable_help_subcommand = true, infer_long_args = true)]
struct Arguments {
    /// The project's directory; by default the current one, or the nearest one above it with a project file.
    #[arg(short = 'C', value_name = "DIR", global = true, display_order = 900)]
    folder: Option<PathBuf>,
    /// The project file, or a bundle; `stead.kdl` if not given. May be repeated: each file counts over those before it.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<String>,
    /// Apply a profile; may be repeated: each counts over those before it. Without it, those of STEAD_PROFILE, with commas between.
    #[arg(long = "profile", value_name = "NAME", global = true, display_order = 901)]
    profiles: Vec<String>,
    /// Set a parameter; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", global = true, display_order = 902)]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

/// What every command gets.
pub struct Context {
    pub ui: Ui,
    pub options: Options,
    /// Files that are there as long as this is.
    _apart: Option<Apart>,
}

/// Files of a project that are not in its directory; they are removed when this is dropped.
#[expect(dead_code, reason = "they are held as long as this lives")]
enum Apart {
    /// The unpacked files of a bundle that is only read.
    Bundle(Scratch),
    /// The files of another commit.
    Commit(CheckedOut),
}

impl Context {
    /// Loads the project. Errors are shown; warnings are for the commands that are about the whole of it, which call
    /// [`warn`](Self::warn).
    ///
    /// # Errors
    /// Fails when the project file is missing or has errors.
    pub fn project(&self) -> Result<LoadedProject> {
        self.load(true)
    }

    /// As [`project`](Self::project), but first locks the images from elsewhere that its Dockerfiles start from,
    /// because their configuration is part of what the Dockerfiles mean.
    ///
    /// # Errors
    /// Fails when the project file is missing or has errors, or when an image cannot be locked.
    pub fn settled(&self, options: &UpOptions) -> Result<LoadedProject> {
        let loaded = self.project()?;
        if loaded.unsettled.is_empty() {
            return Ok(loaded);
        }
        let shown = ui::Shown::new(&self.ui, false);
        let settled = engine::settle(&loaded, options, &shown);
        shown.clear();
        settled?;
        self.project()
    }

    /// Shows the warnings about a project's files.
    pub fn warn(&self, loaded: &LoadedProject) {
        self.ui.diagnostics(&loaded.warnings, &loaded.files);
    }

    /// Whether there is a project here.
    pub fn has_project(&self) -> bool {
        self.options.folder.join(&self.options.file).is_file()
    }

    /// The same for the project in another directory.
    pub fn at(&self, folder: PathBuf) -> Self {
        let (home, file, chosen) = (self.options.home.clone(), "stead.kdl".into(), Chosen::ByFolder);
        let options = Options { home, folder, file, chosen, choices: Choices::default(), checkout: None };
        Self { ui: self.ui.clone(), options, _apart: None }
    }

    /// The same project with its files as a revision has them: `main~3`, a tag, the id of a commit.
    ///
    /// # Errors
    /// Fails when there is no such commit, or when it has no project file.
    pub fn at_revision(&self, revision: &str, held: Held) -> Result<Self> {
        let (options, checked_out) = engine::at_revision(&self.options, revision, held)?;
        Ok(Self { ui: self.ui.clone(), options, _apart: Some(Apart::Commit(checked_out)) })
    }

    /// The same project with another user interface.
    pub fn with(&self, ui: Ui) -> Self {
        Self { ui, options: self.options.clone(), _apart: None }
    }

    /// As [`project`](Self::project), but writes nothing anywhere.
    ///
    /// # Errors
    /// Fails when the project file is missing or has errors.
    pub fn project_dry(&self) -> Result<LoadedProject> {
        self.load(false)
    }

    fn load(&self, remember: bool) -> Result<LoadedProject> {
        match engine::load(&self.options, remember) {
            Ok(loaded) => {
                self.ui.keep_private(loaded.project.private());
                Ok(loaded)
            }
            wrong => self.shown(wrong),
        }
    }

    /// What was loaded; if that failed, shows what is wrong with the project's files.
    ///
    /// # Errors
    /// Says how many errors they have.
    pub fn shown<T>(&self, loaded: Result<T, LoadError>) -> Result<T> {
        match loaded {
            Ok(loaded) => Ok(loaded),
            Err(LoadError::Error(error)) => Err(error),
            Err(LoadError::Wrong(found, files)) => {
                self.ui.diagnostics(&found, &files);
                let errors = found.iter().filter(|one| one.severity == crate::spec::Severity::Error).count();
                Err(Error::new(format!("{} has {errors} error{}", self.options.file, if errors == 1 { "" } else { "s" })))
            }
        }
    }

    /// Shows what failed, and everything else that was found on the way: in the project's text, if it has a place there.
    pub fn tell(&self, error: &Error) {
        self.ui.put(&self.told(error));
    }

    /// What [`tell`](Self::tell) shows, in lines that end.
    pub fn told(&self, error: &Error) -> Text {
        let mut files = BTreeMap::new();
        if let Ok(folder) = ProjectFiles::at(self.options.source()) {
            for file in error.each().filter_map(|error| error.location()).map(|place| &place.file) {
                // If a file cannot be shown, the error is shown with its place only, below.
                let bytes = folder.own(file, bounds::CONTENT).ok();
                files.extend(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| (file.clone(), text)));
            }
        }
        // Errors without a text to show them in are shown with their place only.
        let (found, rest): (Vec<&Error>, Vec<&Error>) =
            error.each().partition(|error| error.location().is_some_and(|place| files.contains_key(&place.file)));
        let found: Vec<Diagnostic> = found.into_iter().filter_map(Diagnostic::of_error).collect();
        let mut text = self.ui.diagnostics_text(&found, &files);
        rest.into_iter().for_each(|error| text += self.ui.error_text(error));
        text
    }

    /// The instance, for commands that need no project file.
    ///
    /// # Errors
    /// Fails when the record cannot be read, and when there is neither a project file nor anything that was ever up.
    pub fn instance(&self) -> Result<Instance> {
        let mut instance = Instance::new(&self.options.home, &self.options.folder, &self.options.file);
        if !self.has_project() && !instance.state().exists() {
            let Options { file, .. } = &self.options;
            let error = Error::new(format!("there is no {file} in {}, and nothing of it is up", instance.folder.display()));
            return Err(error.hint("`stead ps --projects` lists what is up elsewhere; -C DIRECTORY names a project's directory"));
        }
        instance.project = instance.record()?.project;
        Ok(instance)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Protecting our own file means executing it again, so this comes before the command line is parsed, not after.
    if std::env::args_os().any(|word| word == "run" || word == "shell" || word == "create") {
        // A failure here is harmless: whatever enters a container protects itself again, and fails if that fails.
        let _ = crate::sys::protect();
    }
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "stead-oci") {
        return commands::oci::main(words);
    }
    // The monitor, the shipper of logs and the build's helper are this binary, too; they must stay single-threaded and small.
    match words.next().as_ref().and_then(|word| word.to_str()) {
        Some("monitor") => return internal(crate::monitor::main().map(|()| 0)),
        Some("oci") => return commands::oci::main(words),
        Some("ship") => return internal(crate::ship::main().map(|()| 0)),
        Some("build-step") => return internal(crate::build::helper()),
        _ => {}
    }
    // Each published port takes a descriptor, and a login shell allows a thousand. It is no error if no more are to be had.
    let _ = crate::sys::raise_descriptors();
    // What is built must not depend on the caller's umask; private files set their own permissions.
    crate::sys::set_umask(0o022);
    // The descriptions of all commands are built only when they are listed.
    let lists = std::env::args_os().len() < 2 || std::env::args_os().any(|word| word == "--help" || word == "-h");
    let command = if lists { whole_command() } else { command() };
    let matches = match command.try_get_matches() {
        Ok(matches) => matches,
        Err(mut error) => {
            let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            let advice = foreign::advice(error.kind(), &words);
            if advice.is_some() {
                // Words that are spelled alike are no help to who means something else.
                for tip in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::Suggested] {
                    error.remove(tip);
                }
            }
            let _ = error.print();
            if let Some(advice) = advice {
                let ui = Ui::new();
                ui.say(Text::from("\n  ") + Style::Good.paint("help:", ui.color_err) + " " + advice);
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let ui = Ui::new();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    let context = match context(&arguments, ui.clone()) {
        Ok(context) => context,
        Err(error) => {
            ui.error(&error);
            return ExitCode::from(error.code());
        }
    };
    if arguments.command.ends_by_itself() {
        interrupt::watch_over(&ui);
    }
    match arguments.command.run(&context) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.tell(&error);
            ExitCode::from(error.code())
        }
    }
}

/// All schemas and references: the name, the file in the repository and the text of each.
pub fn schemas() -> Vec<(&'static str, &'static str, String)> {
    schemas::ALL.iter().map(|one| (one.name, one.path, one.text())).collect()
}

/// The command line, as clap knows it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// As [`command`], with each of its commands built, too, and listed in groups.
pub fn whole_command() -> clap::Command {
    let mut command = command();
    command.build();
    groups::grouped(command, Ui::new().columns_out())
}

fn internal(result: Result<i32>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            Ui::new().error(&error);
            ExitCode::from(error.code())
        }
    }
}

fn context(arguments: &Arguments, ui: Ui) -> Result<Context> {
    let mut set = BTreeMap::new();
    for pair in &arguments.set {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| Error::new(format!("--set {pair}: NAME=VALUE was expected")).usage())?;
        set.insert(name.to_owned(), value.to_owned());
    }
    let named = arguments.files.first();
    let file = named.cloned().unwrap_or_else(|| "stead.kdl".into());
    // A file in another directory makes that directory the project's.
    let (folder_of_file, file) = match Path::new(&file).parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => (
            Some(parent.to_owned()),
            Path::new(&file).file_name().map_or(file.clone(), |name| name.to_string_lossy().into_owned()),
        ),
        None => (None, file),
    };
    let base = arguments.folder.clone().unwrap_or_else(|| PathBuf::from("."));
    // Where a project is found by the name of its file, the further ones are beside it.
    let beside = (arguments.folder.is_some() || folder_of_file.is_some()).then(|| base.clone());
    let folder = match (&arguments.folder, folder_of_file) {
        (_, Some(parent)) => base.join(parent),
        (Some(folder), None) => folder.clone(),
        (None, None) if arguments.command.begins_a_project() => base,
        (None, None) => nearest_project(&file),
    };
    let root = std::env::var_os("STEAD_ROOT").map(PathBuf::from).filter(|root| !root.as_os_str().is_empty());
    let root = root.map(|root| std::path::absolute(&root).unwrap_or(root));
    let home = Home::find(root.as_deref());
    let folder = if folder.is_dir() { folder } else { deleted(&home, &folder, &file)? };
    let files = arguments.files.iter().skip(1).map(|file| from_folder(&folder, &beside.as_ref().unwrap_or(&folder).join(file)));
    let files = files.collect::<Result<_>>()?;
    let choices = Choices { files, profiles: profiles(&arguments.profiles)?, set };
    let chosen = if named.is_some() { Chosen::ByPerson } else { Chosen::ByFolder };
    let named = folder.join(&file);
    if chosen == Chosen::ByFolder || !engine::is_bundle(&named) {
        return Ok(Context { ui, options: Options { home, folder, file, chosen, choices, checkout: None }, _apart: None });
    }
    let mut looked_into = None;
    let (folder, file) = match arguments.command.bundles() {
        Bundles::TakeIn => engine::unbundle(&home, &named)?,
        Bundles::TakenIn => engine::taken_in(&home, &named)?,
        Bundles::LookInto => {
            let (scratch, file) = engine::look_into(&home, &named)?;
            let folder = scratch.path().to_owned();
            looked_into = Some(scratch);
            (folder, file)
        }
        Bundles::Refuse => {
            let error = Error::new(format!("{} is a bundle, and a bundle stays as it was made", named.display()));
            return Err(error.hint("change the project that it was made of, and make another one").usage());
        }
    };
    let options = Options { home, folder, file, chosen: Chosen::ByFolder, choices, checkout: None };
    Ok(Context { ui, options, _apart: looked_into.map(Apart::Bundle) })
}

/// The profiles that are chosen: those of the command line, else those of the environment.
fn profiles(given: &[String]) -> Result<Vec<String>> {
    let from_env = || match std::env::var_os("STEAD_PROFILE").map(std::ffi::OsString::into_string) {
        None => Ok(String::new()),
        Some(text) => text.map_err(|_| Error::new("STEAD_PROFILE is not text in UTF-8").usage()),
    };
    let all = if given.is_empty() { from_env()?.split(',').map(|name| name.trim().to_owned()).collect() } else { given.to_vec() };
    // An empty name chooses none, in place of those of the environment.
    Ok(all.into_iter().filter(|name| !name.is_empty()).collect())
}

/// The path of a further project file from the project's directory; one that is elsewhere stays absolute.
fn from_folder(folder: &Path, file: &Path) -> Result<String> {
    let whole = |path: &Path| std::path::absolute(path).map(|path| tidy(&path.to_string_lossy()));
    let failed = || Error::new(format!("cannot tell where {} is", file.display()));
    if file.to_str().is_none() {
        return Err(Error::new(format!("the path {} is not text in UTF-8", file.display())).usage());
    }
    let (folder, file) = (whole(folder).map_err(|_| failed())?, whole(file).map_err(|_| failed())?);
    let inside = file.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
    Ok(inside.map_or(file.clone(), str::to_owned))
}

/// A directory that is gone, if something of it is still there: that must be possible to list and to end.
fn deleted(home: &Home, folder: &Path, file: &str) -> Result<PathBuf> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    // The instance is known by the real path, of which only the last part is gone.
    let parent = absolute.parent().and_then(|parent| parent.canonicalize().ok());
    let real = parent.zip(absolute.file_name()).map(|(parent, name)| parent.join(name)).unwrap_or(absolute);
    if engine::Instance::new(home, &real, file).state().exists() {
        return Ok(real);
    }
    let error = Error::new(format!("there is no directory {}", folder.display())).usage();
    Err(error.hint("`stead ps --projects` lists what is up, with its directories"))
}

/// The current directory, or the nearest above it that has a project file.
fn nearest_project(file: &str) -> PathBuf {
    let Ok(here) = std::env::current_dir() else { return PathBuf::from(".") };
    here.ancestors().find(|folder| folder.join(file).is_file()).map_or_else(|| here.clone(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    /// The arguments of a command and its subcommands that have no help text.
    fn silent(command: &clap::Command, found: &mut Vec<String>) {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_help().is_none());
        found.extend(shown.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
        command.get_subcommands().for_each(|inner| silent(inner, found));
    }

    #[test]
    fn every_argument_says_what_it_is() {
        let mut found = Vec::new();
        silent(&super::command(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

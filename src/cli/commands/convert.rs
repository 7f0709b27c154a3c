use super::super::Context;
use crate::image;
use crate::lock::{self, Lock};
use crate::model::{Context as _, Digest, Error, Name, Result, bounds};
use crate::project::{Add, AddSource, Locations, NodePath, Outside, Project, Step};
use crate::spec::{self, Choices, Diagnostic, Inherited, Severity, Sources};
use crate::store::Store;
use crate::sys::{ProjectFiles, Unread};
use clap::Subcommand;

/// Converts a file of another tool to the language of project files, and prints the result.
///
/// Example: stead convert dockerfile Dockerfile >> stead.kdl
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Converts a Dockerfile: each stage that is needed becomes an image; arguments and variables are expanded.
    Dockerfile {
        /// The path of the Dockerfile.
        path: String,
        /// The name of the image; `app` if not given.
        #[arg(long, default_value = "app")]
        name: String,
        /// The directory of the build context; the Dockerfile's directory if not given.
        #[arg(long)]
        context: Option<String>,
        /// The stage to build; the last if not given.
        #[arg(long)]
        target: Option<String>,
        /// A build argument; may be repeated.
        #[arg(long = "arg", value_name = "NAME=VALUE")]
        arguments: Vec<String>,
    },
}

/// The files of a directory with their lock, and a project file that exists only in memory.
struct Around {
    files: ProjectFiles,
    project: String,
    lock: Lock,
    store: Store,
}

/// The name of the project file in memory; no real file has it.
const NOWHERE: &str = "\u{1}";

impl Sources for Around {
    fn read(&self, path: &str) -> Result<String, String> {
        if path == NOWHERE {
            return Ok(self.project.clone());
        }
        let bytes = self.files.own(path, bounds::DOCKERFILE).map_err(|why| why.to_string())?;
        String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 (byte {})", error.utf8_error().valid_up_to()))
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }

    fn outside(&self, outside: &Outside) -> Option<Inherited> {
        let Outside::Reference(text) = outside else { return None };
        let config = image::load(&self.store, &self.lock.image(text)?)?.config;
        Some(Inherited { env: config.env, workdir: config.workdir, shell: config.shell, onbuild: config.onbuild })
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let What::Dockerfile { path, name, context: folder, target, arguments } = &arguments.what;
    let name = Name::parse(name).map_err(|why| Error::new(format!("--name {name}: {why}")).usage())?;
    let mut node = format!("project \"p\"\nimage \"{name}\" {{ dockerfile {}", spec::text(path));
    for (key, value) in [("context", folder), ("target", target)] {
        if let Some(value) = value {
            node.push_str(&format!(" {key}={}", spec::text(value)));
        }
    }
    node.push_str(" {\n");
    for pair in arguments {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Error::new(format!("--arg {pair}: NAME=VALUE was expected")).usage())?;
        node.push_str(&format!("arg {}={}\n", spec::text(key), spec::text(value)));
    }
    node.push_str("} }\n");
    let folder = std::env::current_dir().context(|| "there is no current directory".into())?;
    let files = ProjectFiles::at(&folder).context(|| "cannot open the current directory".into())?;
    let lock = lock_of(&files)?;
    let mut around = Around { files, project: node, lock, store: Store::at(&context.options.home.store) };
    let loaded = spec::load(NOWHERE, &Choices::default(), &around);
    // The project file in memory cannot be shown: findings in it are about the command line.
    let (own, shown): (Vec<_>, Vec<_>) = loaded.diagnostics.into_iter().partition(|one| one.place.file == NOWHERE);
    // Secrets that are not declared yet are declared in what is printed.
    let shown: Vec<_> = shown.into_iter().filter(|one| one.code != "unknown-name").collect();
    context.ui.diagnostics(&shown, &loaded.files);
    if let Some(found) = own.into_iter().find(is_error) {
        return Err(told(found));
    }
    let mut project = match loaded.project {
        Err(_) if shown.iter().any(is_error) => return Err(Error::new(format!("{path} is not valid"))),
        Ok(project) | Err(project) => project,
    };
    pin(&mut project, &loaded.places, &around.lock)?;
    for (outside, _) in loaded.outside.iter().filter(|(_, known)| known.is_none()) {
        if let Outside::Reference(name) = outside {
            context.ui.warn(&format!(
                "{name} is not known here: the variables that it sets count as unset, and its shell and ONBUILD are left out; \
                 after `stead build` of the Dockerfile they are known"
            ));
        }
    }
    let text = spec::kdl(&project.images);
    // What is printed is right; a Dockerfile may have something that the language cannot say.
    around.project = format!("project \"p\"\n{text}");
    if let Some(found) = spec::load(NOWHERE, &Choices::default(), &around).diagnostics.into_iter().find(is_error) {
        return Err(Error::caused(format!("{path} cannot be converted"), told(found)));
    }
    context.ui.result(text.trim_end());
    Ok(0)
}

fn is_error(found: &Diagnostic) -> bool {
    found.severity == Severity::Error
}

fn told(found: Diagnostic) -> Error {
    let error = Error::new(found.message);
    match found.help {
        Some(help) => error.hint(help),
        None => error,
    }
}

/// The lock of a directory; it may have none.
fn lock_of(files: &ProjectFiles) -> Result<Lock> {
    match files.own("stead.lock", bounds::LOCK_FILE) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).context(|| "stead.lock is damaged".into())?;
            lock::parse(&text).map_err(|error| Error::new(format!("stead.lock:{}: {}", error.line, error.message)))
        }
        Err(Unread::Absent) => Ok(Lock::default()),
        Err(why) => Err(Error::new(format!("cannot read stead.lock: {why}"))),
    }
}

/// Gives each `add` the digest or commit that a project file must have: the one that stead.lock has for it.
fn pin(project: &mut Project, places: &Locations, lock: &Lock) -> Result<()> {
    let wanted: Vec<(Name, usize, String)> =
        lock::remotes(project).map(|(image, step, _, what)| (image.clone(), step, what)).collect();
    for (image, index, what) in wanted {
        let place = NodePath::image(&image).step(index);
        let unknown = || {
            Error::new(format!("a project file needs the digest of what it adds, and that of {what} is not known"))
                .at(places.of(&place))
                .hint("write --checksum= in the Dockerfile; or build it: then it is in stead.lock")
        };
        let found = lock.remotes.get(&what).ok_or_else(unknown)?;
        let step = project.images.get_mut(&image).and_then(|image| image.steps.get_mut(index));
        match step {
            Some(Step::Add(Add { source: AddSource::Url { sha256, .. }, .. })) => {
                *sha256 = Some(Digest::parse(found).ok_or_else(unknown)?);
            }
            Some(Step::Add(Add { source: AddSource::Git(git), .. })) => git.commit = Some(found.clone()),
            _ => {}
        }
    }
    Ok(())
}

use super::super::Context;
use crate::model::{Context as _, Error, Name, Result, bounds};
use crate::spec::{self, Choices, Sources};
use crate::sys::ProjectFiles;
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

/// The files of a directory, and a project file that exists only in memory.
struct Around {
    files: ProjectFiles,
    project: String,
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
    let loaded = spec::load(NOWHERE, &Choices::default(), &Around { files, project: node });
    // The project file in memory cannot be shown: findings in it are about the command line.
    let (own, shown): (Vec<_>, Vec<_>) = loaded.diagnostics.into_iter().partition(|one| one.place.file == NOWHERE);
    let shown: Vec<_> = shown.into_iter().filter(|one| one.code != "unknown-name").collect();
    context.ui.diagnostics(&shown, &loaded.files);
    if let Some(found) = own.into_iter().find(|one| one.severity == spec::Severity::Error) {
        let error = Error::new(found.message);
        return Err(match found.help {
            Some(help) => error.hint(help),
            None => error,
        });
    }
    let Ok(project) = loaded.project else {
        return Err(Error::new(format!("{path} is not valid")));
    };
    context.ui.result(spec::kdl(&project.images).trim_end());
    Ok(0)
}

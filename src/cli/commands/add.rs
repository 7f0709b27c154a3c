use super::super::Context;
use super::set;
use crate::model::Result;
use crate::spec::{self, NewContainer};
use clap::Subcommand;

/// Adds to the project file, and leaves all else in it as it is written.
///
/// Example: stead add container cache --image docker.io/library/redis:7 --publish 6379
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Adds a container at the end of the project file.
    Container(Container),
    /// Adds Debian packages to an image.
    Package {
        /// The names of the packages.
        #[arg(required = true)]
        names: Vec<String>,
        /// The image.
        #[arg(long)]
        image: String,
        /// The suite of its `debian` node, if it has several.
        #[arg(long)]
        suite: Option<String>,
    },
}

#[derive(clap::Args, Debug)]
struct Container {
    /// Its name.
    name: String,
    /// Its image: an `image` of the project, or a registry reference.
    #[arg(long)]
    image: String,
    /// A port of the host that leads to it: HOST, HOST:CONTAINER or ADDRESS:HOST:CONTAINER; may be repeated.
    #[arg(long, value_name = "PORT")]
    publish: Vec<String>,
    /// An environment variable; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A network of the project that it is on; may be repeated.
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
    /// A container or job that comes before it; may be repeated.
    #[arg(long, value_name = "NAME")]
    depends_on: Vec<String>,
    /// Its command, after `--`; the image's if not given.
    #[arg(last = true)]
    command: Vec<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let texts = set::texts(context)?;
    let edit = match &arguments.what {
        What::Container(wanted) => {
            let container = NewContainer {
                name: wanted.name.clone(),
                image: wanted.image.clone(),
                publish: wanted.publish.clone(),
                env: wanted.env.clone(),
                networks: wanted.network.clone(),
                after: wanted.depends_on.clone(),
                command: wanted.command.clone(),
            };
            spec::add_container(&texts, &context.options.file, &container)?
        }
        What::Package { names, image, suite } => spec::add_packages(&texts, image, suite.as_deref(), names)?,
    };
    set::apply(&edit, context)
}

use super::super::Context;
use super::super::ui::{Shown, Style, Table};
use super::allow::Allow;
use super::image::{find, project};
use crate::engine;
use crate::image;
use crate::model::{Context as _, Digest, Error, Result};
use crate::registry::{Compression, Credentials, Kept, Pushing};
use crate::store::Store;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};

/// Pulls images from registries into the store.
///
/// Without names, it pulls the images that the project file names, as the project's lock says.
///
/// Example: stead pull redis:7 ghcr.io/o/n@sha256:…
#[derive(clap::Args, Debug)]
pub struct Pull {
    /// Names of images, written as in Docker.
    names: Vec<String>,
    #[command(flatten)]
    allow: Allow,
}

/// Pushes an image to registries, under one or more names.
///
/// Example: stead push app ghcr.io/o/app:1 ghcr.io/o/app:latest
#[derive(clap::Args, Debug)]
pub struct Push {
    /// An `image` of the project, a name, the beginning of a digest, or PROJECT/IMAGE; with --all, the prefix of the names.
    image: String,
    /// Names to push it under; its own name if none is given.
    names: Vec<String>,
    /// Push all images of the project, each as IMAGE/NAME:TAG, with IMAGE as the prefix.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// The tag of images pushed with --all.
    #[arg(long, default_value = "latest", requires = "all")]
    tag: String,
    /// How to compress layers that were built here.
    #[arg(long, default_value = "gzip", value_parser = ["gzip", "zstd", "none"])]
    compression: String,
    /// Add this annotation to the manifest; may be repeated.
    #[arg(long, value_name = "NAME=TEXT")]
    annotation: Vec<String>,
    /// Attach the bill of materials (SPDX) and the provenance to the image.
    #[arg(long)]
    attach: bool,
}

/// Logs in to a registry; the password is stored by a credential helper, or else in a file.
///
/// Example: echo $TOKEN | stead login ghcr.io -u me --password-stdin
#[derive(clap::Args, Debug)]
pub struct Login {
    /// The registry; the default one if not given.
    registry: Option<String>,
    /// The user name; you are asked for it if it is not given.
    #[arg(short, long)]
    username: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    password_stdin: bool,
}

/// Forgets the password for a registry.
#[derive(clap::Args, Debug)]
pub struct Logout {
    /// The registry; the default one if not given.
    registry: Option<String>,
}

/// Searches a registry, if it supports that.
///
/// Example: stead search redis
#[derive(clap::Args, Debug)]
pub struct Search {
    /// A word in names or descriptions; HOST/WORD searches another registry.
    word: String,
    /// The maximum number of results.
    #[arg(long, default_value_t = 25)]
    limit: usize,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

pub fn pull(arguments: &Pull, context: &Context) -> Result<u8> {
    let shown = Shown::new(&context.ui, false);
    if arguments.names.is_empty() {
        let options =
            engine::UpOptions { command: "pull".into(), allow: arguments.allow.kinds()?, ..engine::UpOptions::default() };
        let loaded = context.settled(&options)?;
        let names = loaded.project.references().map(|(name, _)| name.clone()).collect::<std::collections::BTreeSet<_>>();
        if names.is_empty() {
            context.ui.say("the project names no image of a registry");
            return Ok(0);
        }
        let built = engine::build_only(&loaded, &names, &options, &shown);
        shown.clear();
        for (name, image) in built? {
            context.ui.result(format!("{name} {}", image.digest));
        }
        return Ok(0);
    }
    for name in &arguments.names {
        let pulled = engine::pull(&context.options.home, name, &shown);
        shown.clear();
        let (reference, image) = pulled?;
        context.ui.result(format!("{reference} {}", image.digest));
    }
    Ok(0)
}

pub fn push(arguments: &Push, context: &Context) -> Result<u8> {
    let mut annotations = BTreeMap::new();
    for text in &arguments.annotation {
        let (name, value) =
            text.split_once('=').ok_or_else(|| Error::new(format!("--annotation {text:?} is not NAME=TEXT")).usage())?;
        annotations.insert(name.to_owned(), value.to_owned());
    }
    let work: Vec<(String, Vec<String>)> = if arguments.all {
        let loaded = project(context)?.ok_or_else(|| Error::new("--all needs a project, and there is none here"))?;
        let own = loaded.project.images.iter().filter(|(name, _)| crate::model::Name::parse(name.as_str()).is_ok());
        let prefix = arguments.image.trim_end_matches('/');
        own.map(|(name, _)| (name.to_string(), vec![format!("{prefix}/{name}:{}", arguments.tag)])).collect()
    } else if arguments.names.is_empty() {
        vec![(arguments.image.clone(), vec![arguments.image.clone()])]
    } else {
        vec![(arguments.image.clone(), arguments.names.clone())]
    };
    for (name, names) in work {
        one(&name, &names, annotations.clone(), arguments, context)?;
    }
    Ok(0)
}

fn one(name: &str, names: &[String], annotations: BTreeMap<String, String>, arguments: &Push, context: &Context) -> Result<()> {
    let found = find(name, context)?;
    let compression = match arguments.compression.as_str() {
        "zstd" => Compression::Zstd,
        "none" => Compression::None,
        _ => Compression::Gzip,
    };
    let about = if arguments.attach { Some(super::image::contents(name, context)?) } else { None };
    let kept = image::kept_provenance(&Store::at(&context.options.home.store), &found.digest);
    // They describe the image in the registry, which has another digest, because its layers are compressed.
    let attachments = |digest: &Digest| {
        let Some((shown, _, components)) = &about else { return Vec::new() };
        let mut all = vec![("application/spdx+json", image::spdx(shown, digest, components).to_string().into_bytes())];
        all.extend(kept.clone().map(|mut statement| {
            statement["subject"][0]["digest"]["sha256"] = digest.hex().into();
            ("application/vnd.in-toto+json", statement.to_string().into_bytes())
        }));
        all
    };
    let pushing = Pushing { image: &found, compression, annotations, attachments: &attachments };
    let shown = Shown::new(&context.ui, false);
    let pushed = engine::push(&context.options.home, &pushing, names, &shown);
    shown.clear();
    let (references, pushed) = pushed?;
    for reference in references {
        context.ui.result(format!("{reference} {}", pushed.digest));
    }
    let (sent, all) = (pushed.sent, pushed.parts);
    context.ui.say(match all - sent {
        0 => format!("sent {all} parts"),
        _ if sent == 0 => format!("the registry had all {all} parts"),
        _ => format!("sent {sent} of {all} parts; the registry had the others"),
    });
    Ok(())
}

pub fn login(arguments: &Login, context: &Context) -> Result<u8> {
    let terminal = std::io::stdin().is_terminal();
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None if terminal && !arguments.password_stdin => ask("Username: ", context, false)?,
        None => return Err(Error::new("no user name is given").hint("write --username NAME").usage()),
    };
    let password = if arguments.password_stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context(|| "cannot read the password".into())?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else if terminal {
        ask("Password: ", context, true)?
    } else {
        return Err(Error::new("there is no terminal to ask for the password").hint("write --password-stdin").usage());
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::new("the user name or the password is empty").usage());
    }
    let shown = Shown::new(&context.ui, false);
    let done = engine::login(arguments.registry.as_deref(), &Credentials::Basic { user, password }, &shown);
    shown.clear();
    let (host, kept) = done?;
    match kept {
        Kept::Helper(name) => context.ui.say(format!("logged in to {host}; docker-credential-{name} stores the password")),
        Kept::File(path) => {
            context.ui.say(format!("logged in to {host}"));
            let text = format!("the password is stored unencrypted in {}; a credential helper would be safer", path.display());
            context.ui.warn(&text);
        }
    }
    Ok(0)
}

/// Asks for a line at the terminal.
fn ask(what: &str, context: &Context, hidden: bool) -> Result<String> {
    context.ui.say(what.trim_end());
    let silence = if hidden { Some(crate::sys::Silence::begin().context(|| "cannot hide the password".into())?) } else { None };
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context(|| "cannot read the answer".into())?;
    drop(silence);
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub fn logout(arguments: &Logout, context: &Context) -> Result<u8> {
    let (host, gone) = engine::logout(arguments.registry.as_deref())?;
    if gone.is_empty() {
        return Err(Error::new(format!("not logged in to {host}")));
    }
    context.ui.say(format!("logged out of {host} ({})", gone.join(", ")));
    Ok(0)
}

pub fn search(arguments: &Search, context: &Context) -> Result<u8> {
    let (host, word) = match arguments.word.split_once('/') {
        Some((host, word)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), word),
        _ => (None, arguments.word.as_str()),
    };
    let shown = Shown::new(&context.ui, false);
    let hits = engine::search(host, word, arguments.limit, &shown);
    shown.clear();
    let hits = hits?;
    if arguments.json {
        let list: Vec<_> = hits
            .iter()
            .map(|hit| serde_json::json!({ "name": hit.name, "description": hit.description, "stars": hit.stars }))
            .collect();
        context.ui.json(&serde_json::json!({ "version": 1, "images": list }));
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "STARS", "DESCRIPTION"], &[]);
    for hit in hits {
        table.row([(hit.name, Some(Style::Bold)), (hit.stars.to_string(), None), (hit.description, None)]);
    }
    if table.is_empty() {
        context.ui.say("no image was found")
    } else {
        context.ui.result(table.text(&context.ui))
    }
    Ok(0)
}

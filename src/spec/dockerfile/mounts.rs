//! `RUN --mount`: what a command sees in addition to the image (Dockerfile reference, "RUN --mount").

use super::write::{Writer, clean};
use crate::model::{Location, Name, Size, nearest};
use crate::project::{RunMount, RunSource, Sharing};

const KNOWN: [&str; 19] = [
    "type",
    "target",
    "dst",
    "destination",
    "source",
    "src",
    "from",
    "id",
    "rw",
    "readwrite",
    "ro",
    "readonly",
    "sharing",
    "mode",
    "uid",
    "gid",
    "size",
    "required",
    "env",
];

/// The fields of one mount.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let fields: Vec<(&str, &str)> = text.split(',').map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !KNOWN.contains(name)) {
            let near = nearest(unknown, KNOWN).map_or_else(String::new, |near| format!("\nwrite {near}"));
            return Err(format!("a mount has no {unknown}{near}"));
        }
        Ok(Self(fields))
    }

    fn get(&self, names: &[&str]) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
    }

    fn flag(&self, names: &[&str]) -> Result<Option<bool>, String> {
        match self.get(names) {
            None => Ok(None),
            Some("" | "true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("{}={other}: true or false was expected", names[0])),
        }
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        self.get(&[name]).map_or(Ok(0), |value| value.parse().map_err(|_| format!("{name} needs a number")))
    }

    fn mode(&self) -> Result<Option<u32>, String> {
        let octal = |mode: &str| u32::from_str_radix(mode, 8).map_err(|_| format!("mode={mode} is not octal"));
        self.get(&["mode"]).map(octal).transpose()
    }
}

impl Writer<'_> {
    /// Parses one `--mount`.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub fn mount(&mut self, text: &str, place: &Location) -> Result<RunMount, String> {
        let fields = Fields::read(text)?;
        let kind = fields.get(&["type"]).unwrap_or("bind");
        let target = fields.get(&["target", "dst", "destination"]);
        let owner = (fields.number("uid")?, fields.number("gid")?);
        let workdir = self.given.workdir.clone();
        let absolute = |target: &str| clean(&workdir, target);
        let wanted = || target.map(absolute).ok_or_else(|| format!("a mount of type {kind} needs a target"));
        match kind {
            "cache" => {
                let target = wanted()?;
                let path = clean("", fields.get(&["source", "src"]).unwrap_or("/"));
                let from = fields.get(&["from"]).map(|from| (self.other(from, place), path));
                let sharing = match fields.get(&["sharing"]) {
                    None | Some("shared") => Sharing::Shared,
                    Some("locked") => Sharing::Locked,
                    Some("private") => Sharing::Private,
                    Some(other) => return Err(format!("a cache is shared, locked or private, not {other}")),
                };
                let id = fields.get(&["id"]).map_or_else(|| target.clone(), str::to_owned);
                let source = RunSource::Cache { id, mode: fields.mode()?.unwrap_or(0o755), owner, sharing, shared: false, from };
                Ok(RunMount { to: target, read_only: fields.flag(&["ro", "readonly"])?.unwrap_or(false), source })
            }
            "tmpfs" => {
                let number = |size: &str| size.parse().map(Size).map_err(|_| format!("size={size} is no number of bytes"));
                let size = fields.get(&["size"]).map(number).transpose()?;
                Ok(RunMount { to: wanted()?, read_only: false, source: RunSource::Tmpfs { size } })
            }
            "secret" => self.secret(&fields, target.map(absolute), owner),
            "bind" => {
                let source = fields.get(&["source", "src"]).unwrap_or("/");
                let source = match fields.get(&["from"]) {
                    Some(from) => RunSource::Image { name: self.other(from, place), path: clean("", source) },
                    None => RunSource::Context { context: self.context(), path: clean("", source).trim_matches('/').to_owned() },
                };
                Ok(RunMount { to: wanted()?, read_only: !fields.flag(&["rw", "readwrite"])?.unwrap_or(false), source })
            }
            "ssh" => {
                let to = target.map_or_else(|| "/run/buildkit/ssh_agent.0".into(), absolute);
                let required = fields.flag(&["required"])?.unwrap_or(false);
                Ok(RunMount { to, read_only: true, source: RunSource::Ssh { required } })
            }
            other => Err(format!("there is no mount of type {other}")),
        }
    }

    fn secret(&self, fields: &Fields, target: Option<String>, owner: (u32, u32)) -> Result<RunMount, String> {
        let last = || target.as_deref().and_then(|path| path.rsplit('/').next());
        let id = fields.get(&["id"]).or_else(last).ok_or("a secret needs an id")?;
        let name = Name::parse(id).map_err(|why| format!("the secret {id}: {why}"))?;
        let env = fields.get(&["env"]).map(str::to_owned);
        // With a variable, it is also a file only if a target is given.
        let file = env.is_none() || target.is_some();
        Ok(RunMount {
            to: target.clone().unwrap_or_else(|| format!("/run/secrets/{id}")),
            read_only: true,
            source: RunSource::Secret {
                name,
                mode: fields.mode()?.unwrap_or(0o400),
                owner,
                required: fields.flag(&["required"])?.unwrap_or(false),
                env,
                file,
            },
        })
    }
}

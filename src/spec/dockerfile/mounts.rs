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
        let kind = fields.get(&["type"]).unwrap_or("bind").to_ascii_lowercase();
        let kind = kind.as_str();
        let target = fields.get(&["target", "dst", "destination"]);
        let owner = (fields.number("uid")?, fields.number("gid")?);
        let workdir = self.given.workdir.clone();
        let absolute = |target: &str| clean(&workdir, target);
        // Without a target it is at the working directory.
        let at = absolute(target.unwrap_or_default());
        let wanted = || match at.as_str() {
            "/" => Err(format!("a mount of type {kind} cannot cover the root; give it a target")),
            _ => Ok(at.clone()),
        };
        match kind {
            "cache" => {
                let target = wanted()?;
                let path = clean("", fields.get(&["source", "src"]).unwrap_or("/"));
                let from = fields.get(&["from"]).map(|from| (self.other(from, place), path));
                let sharing = fields.get(&["sharing"]).map(str::to_ascii_lowercase);
                let sharing = match sharing.as_deref() {
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
                let wrong = |text: &str| format!("size={text} is not a size; write 100m or 1GiB");
                let size = fields.get(&["size"]).map(|text| size(text).ok_or_else(|| wrong(text))).transpose()?;
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
        let name = Name::parse(&id.to_ascii_lowercase().replace(['_', '.'], "-"));
        let name = name.map_err(|why| format!("the secret {id}: {why}"))?;
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

/// A size as Docker's tools write it: a number of bytes, or with b, k, m, g, t or p, kb, KiB and so on, in powers of 1024
/// (docker/go-units, `RAMInBytes`).
fn size(text: &str) -> Option<Size> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim() {
        "" | "b" => 0,
        unit => {
            let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
            1 + "kmgtp".find(letter).filter(|_| letter.len() == 1)?
        }
    };
    let factor = 1u64 << (10 * power);
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor).map(Size);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a whole number of bytes at most")]
    (bytes.is_finite() && bytes < 9e18).then_some(Size(bytes as u64))
}

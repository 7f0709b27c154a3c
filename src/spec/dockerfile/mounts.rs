//! `RUN --mount`: what a command sees in addition to the image (Dockerfile reference, "RUN --mount").

use super::path::{AGENT, clean};
use super::words::separated;
use super::write::Writer;
use crate::model::{Location, Name, Size, nearest};
use crate::project::{RunMount, RunSource, Sharing};
use crate::spec::paths::tidy;

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

/// The fields of one mount. Of a field that is given several times, the last one counts.
struct Fields(Vec<(String, Option<String>)>);

impl Fields {
    /// Reads the fields; variables are replaced in each value by itself.
    fn read(text: &str, expand: impl Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        let field = |part: String| match part.split_once('=') {
            // Which stages are needed must be known before there are variables.
            Some((name, value)) if name.eq_ignore_ascii_case("from") && value.contains('$') => {
                Err(format!("from={value}: variables are not replaced there\nname a stage in front: FROM … AS name"))
            }
            Some((name, value)) => Ok((name.to_ascii_lowercase(), Some(expand(value)?))),
            None => Ok((part.to_ascii_lowercase(), None)),
        };
        let fields = separated(text).into_iter().map(field).collect::<Result<Vec<_>, String>>()?;
        for (name, value) in &fields {
            if !KNOWN.contains(&name.as_str()) {
                let near = nearest(name, KNOWN).map_or_else(String::new, |near| format!("\nwrite {near}"));
                return Err(format!("a mount has no {name}{near}"));
            }
            if value.is_none() && !FLAGS.contains(&name.as_str()) {
                return Err(format!("{name} of a mount needs a value\nwrite {name}=…"));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        self.0.iter().rfind(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// A field that means nothing when it is empty.
    fn some(&self, names: &[&str]) -> Option<&str> {
        self.get(names).filter(|value| !value.is_empty())
    }

    /// Refuses fields that a kind of mount does not have.
    fn only(&self, kind: &str, names: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(name, _)| !names.contains(&name.as_str()) && !EVERYWHERE.contains(&name.as_str())) {
            Some((name, _)) => Err(format!("a mount of type {kind} has no {name}")),
            None => Ok(()),
        }
    }

    fn read_only(&self, usual: bool) -> Result<bool, String> {
        let last = self.0.iter().rfind(|(name, _)| FLAGS[..4].contains(&name.as_str()));
        let Some((name, value)) = last else { return Ok(usual) };
        let on = truth(name, value.as_deref())?;
        Ok(on == matches!(name.as_str(), "ro" | "readonly"))
    }

    fn required(&self) -> Result<bool, String> {
        self.0.iter().rfind(|(name, _)| name == "required").map_or(Ok(false), |(name, value)| truth(name, value.as_deref()))
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        self.get(&[name]).map_or(Ok(0), |value| value.parse().map_err(|_| format!("{name} needs a number")))
    }

    fn mode(&self) -> Result<Option<u32>, String> {
        let octal = |mode: &str| u32::from_str_radix(mode, 8).map_err(|_| format!("mode={mode} is not octal"));
        self.get(&["mode"]).map(|mode| octal(mode).map(|mode| mode & 0o7777)).transpose()
    }
}

/// The fields that may stand without a value.
const FLAGS: [&str; 5] = ["ro", "readonly", "rw", "readwrite", "required"];

/// The fields that every mount has.
const EVERYWHERE: [&str; 9] = ["type", "target", "dst", "destination", "ro", "readonly", "rw", "readwrite", "id"];

/// A truth value as Go reads it (package strconv, `ParseBool`).
fn truth(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("{name}={other}: true or false was expected")),
    }
}

impl Writer<'_> {
    /// Parses one `--mount`.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub fn mount(&mut self, text: &str, place: &Location) -> Result<RunMount, String> {
        let fields = Fields::read(text, |value| self.text(value))?;
        let kind = fields.get(&["type"]).unwrap_or("bind").to_ascii_lowercase();
        let kind = kind.as_str();
        let target = fields.some(&["target", "dst", "destination"]);
        let owner = (fields.number("uid")?, fields.number("gid")?);
        let workdir = self.given.workdir.clone();
        // Without a target it is at the working directory.
        let at = clean(&workdir, target.unwrap_or_default());
        let wanted = || match at.as_str() {
            "/" => Err(format!("a mount of type {kind} cannot cover the root; give it a target")),
            _ => Ok(at.clone()),
        };
        match kind {
            "cache" => {
                fields.only(kind, &["source", "src", "from", "sharing", "mode", "uid", "gid", "env"])?;
                let to = wanted()?;
                let path = clean("", fields.get(&["source", "src"]).unwrap_or("/"));
                let from =
                    fields.some(&["from"]).map(|from| Ok::<_, String>((self.other(from, false, place)?, path))).transpose()?;
                let sharing = fields.get(&["sharing"]).map(str::to_ascii_lowercase);
                let sharing = match sharing.as_deref() {
                    None | Some("shared") => Sharing::Shared,
                    Some("locked") => Sharing::Locked,
                    Some("private") => Sharing::Private,
                    Some(other) => return Err(format!("a cache is shared, locked or private, not {other}")),
                };
                // Its name is the target as it is written, also where that is relative.
                let written = || target.map(|target| if target.starts_with('/') { clean("", target) } else { tidy(target) });
                let id = fields
                    .some(&["id"])
                    .map(str::to_owned)
                    .or_else(written)
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(|| ".".into());
                let source = RunSource::Cache { id, mode: fields.mode()?.unwrap_or(0o755), owner, sharing, shared: false, from };
                Ok(RunMount { to, read_only: fields.read_only(false)?, source })
            }
            "tmpfs" => {
                fields.only(kind, &["size", "source", "src", "from", "env"])?;
                let wrong = |text: &str| format!("size={text} is not a size; write 100m or 1GiB");
                let size = fields.get(&["size"]).map(|text| size(text).ok_or_else(|| wrong(text))).transpose()?;
                Ok(RunMount { to: wanted()?, read_only: false, source: RunSource::Tmpfs { size } })
            }
            "secret" => {
                fields.only(kind, &["source", "src", "required", "mode", "uid", "gid", "env"])?;
                self.secret(&fields, target, owner)
            }
            "bind" => {
                fields.only(kind, &["source", "src", "from", "env"])?;
                let source = fields.get(&["source", "src"]).unwrap_or("/");
                let source = match fields.some(&["from"]) {
                    Some(from) => RunSource::Image { name: self.other(from, false, place)?, path: clean("", source) },
                    None => RunSource::Context { context: self.context(), path: clean("", source).trim_matches('/').to_owned() },
                };
                Ok(RunMount { to: wanted()?, read_only: fields.read_only(true)?, source })
            }
            "ssh" => {
                fields.only(kind, &["from", "required", "mode", "uid", "gid", "env"])?;
                let to = target.map_or_else(|| AGENT.into(), |target| clean("", target));
                Ok(RunMount { to, read_only: true, source: RunSource::Ssh { required: fields.required()? } })
            }
            other => Err(format!("there is no mount of type {other}")),
        }
    }

    fn secret(&self, fields: &Fields, target: Option<&str>, owner: (u32, u32)) -> Result<RunMount, String> {
        let last = || target.and_then(|path| path.trim_end_matches('/').rsplit('/').next());
        let (source, id) = (fields.some(&["source", "src"]), fields.some(&["id"]));
        if source.is_some() && id.is_some() {
            return Err("a secret has an id or a source, not both".into());
        }
        let id = source.or(id).or_else(last).ok_or("a secret needs an id")?;
        let own = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name: String = id.to_ascii_lowercase().chars().map(|c| if own(c) { c } else { '-' }).collect();
        let name = Name::parse(name.trim_matches('-')).map_err(|why| format!("the secret {id}: {why}"))?;
        let env = fields.get(&["env"]).map(str::to_owned);
        // With a variable, it is also a file only if a target is given.
        let file = env.is_none() || target.is_some();
        let usual = || format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(id));
        Ok(RunMount {
            // The working directory means nothing to secrets.
            to: target.map_or_else(usual, |target| clean("", target)),
            read_only: true,
            source: RunSource::Secret {
                name,
                mode: fields.mode()?.unwrap_or(0o400),
                owner,
                required: fields.required()?,
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

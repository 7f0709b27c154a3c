//! `--change`: Dockerfile instructions that change an image's configuration and nothing else.

use crate::model::{Error, Name, Result, nearest};
use crate::plan::{Config, configure};
use crate::project::Outside;
use crate::spec::{Choices, Inherited, Severity, Sources, load};

/// The instructions that Docker's `commit` and `import` take.
const KNOWN: &[&str] = &[
    "cmd",
    "entrypoint",
    "env",
    "expose",
    "healthcheck",
    "label",
    "onbuild",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// A project with one image, which the instructions make.
struct Given<'g> {
    changes: &'g [String],
    base: &'g Config,
}

impl Sources for Given<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        Ok(match path {
            "changes" => format!("FROM base\n{}\n", self.changes.join("\n")),
            _ => "project \"change\"\nimage \"changed\" { dockerfile \"changes\"; }\n".into(),
        })
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }

    fn outside(&self, _: &Outside) -> Option<Inherited> {
        let Config { env, workdir, shell, .. } = self.base.clone();
        Some(Inherited { env, workdir, shell, onbuild: Vec::new() })
    }
}

/// Applies changes to a configuration.
///
/// # Errors
/// Fails when a text is not an instruction, or is one that does more than change a configuration.
pub fn change(base: Config, changes: &[String]) -> Result<Config> {
    for text in changes {
        let word = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if text.trim().contains('\n') || !KNOWN.contains(&word.as_str()) {
            let error = Error::new(format!("--change {text:?}: there is no such change of a configuration")).usage();
            return Err(match nearest(&word, KNOWN.iter().copied()) {
                Some(near) if near != word => error.hint(format!("write {}", near.to_uppercase())),
                _ => error.hint(format!("write one instruction each time, of these: {}", KNOWN.join(", ").to_uppercase())),
            });
        }
    }
    if changes.is_empty() {
        return Ok(base);
    }
    let loaded = load("stead.kdl", &Choices::default(), &Given { changes, base: &base });
    if let Some(wrong) = loaded.diagnostics.into_iter().find(|one| one.severity == Severity::Error) {
        // The first line is `FROM base`.
        let text = changes.get(wrong.place.line.saturating_sub(2)).map_or("", String::as_str);
        let error = Error::new(format!("--change {text:?}: {}", wrong.message)).usage();
        return Err(match wrong.help {
            Some(help) => error.hint(help),
            None => error,
        });
    }
    let name = Name::parse("changed").map_err(Error::new)?;
    let project = loaded.project.map_err(|_| Error::new("the changes cannot be read"))?;
    let image = project.images.get(&name).ok_or_else(|| Error::new("the changes make no image"))?;
    let onbuild = base.onbuild.clone();
    let mut made = configure(image, base);
    // No image was built from the base, so its `ONBUILD` instructions have not run and stay.
    made.onbuild = [onbuild, made.onbuild].concat();
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(base: &Config, changes: &[&str]) -> Result<Config> {
        change(base.clone(), &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_change_the_configuration_alone() {
        let base = Config {
            env: [("PATH".to_owned(), "/bin".to_owned())].into(),
            workdir: "/srv".into(),
            cmd: vec!["old".into()],
            onbuild: vec!["RUN a".into()],
            ..Config::default()
        };
        let changes = [
            "CMD [\"nginx\", \"-g\"]",
            "env PATH=/opt:$PATH",
            "WORKDIR app",
            "EXPOSE 80",
            "USER www",
            "LABEL a=b",
            "ONBUILD RUN b",
        ];
        let made = changed(&base, &changes).unwrap();
        assert_eq!(made.cmd, ["nginx", "-g"]);
        assert_eq!((made.env["PATH"].as_str(), made.workdir.as_str(), made.user.as_str()), ("/opt:/bin", "/srv/app", "www"));
        assert_eq!((made.expose, made.labels["a"].as_str()), (vec![(80, 80)], "b"));
        assert_eq!(made.onbuild, ["RUN a", "RUN b"]);
        assert_eq!(changed(&base, &[]).unwrap(), base);
        assert_eq!(changed(&base, &["STOPSIGNAL SIGINT"]).unwrap().cmd, ["old"]);
        assert!(changed(&base, &["ENTRYPOINT [\"a\"]"]).unwrap().cmd.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_the_change_they_are_in() {
        for (changes, says, help) in [
            (&["RUN rm -rf /"][..], "RUN rm", "one instruction"),
            (&["CMDD x"], "CMDD x", "write CMD"),
            (&["FROM other"], "FROM other", ""),
            (&["USER a\nRUN b"], "no such change", ""),
            (&[""], "no such change", ""),
            (&["USER a", "EXPOSE no-port"], "EXPOSE no-port", ""),
        ] {
            let error = changed(&Config::default(), changes).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.advice().unwrap_or_default().contains(help), "{error}: {:?}", error.advice());
            assert_eq!(error.code(), 2);
        }
    }
}

//! The first project file of a directory: what is found there, and a `stead.kdl` that fits it.
//!
//! This file looks at the directory and writes; the texts are in `starters`.

mod starters;

use crate::model::{Context, Error, Result, bounds};
use crate::spec;
use crate::sys::{ProjectFiles, Unread};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What `init` found and wrote.
#[derive(Debug)]
pub struct Begun {
    /// The file that it follows, and what that says about the directory.
    pub found: Option<(&'static str, &'static str)>,
    /// Further files of the kind, which it does not follow.
    pub others: Vec<&'static str>,
    /// The port of this machine that leads to the program.
    pub port: Option<u16>,
    pub text: String,
}

/// A directory that gets a project file.
struct Folder {
    files: ProjectFiles,
    /// The project's name.
    name: String,
}

impl Folder {
    /// The text of a file; `None` if there is no such file.
    fn text(&self, path: &str) -> Result<Option<String>> {
        match self.files.own(path, bounds::CONTENT) {
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| Error::new(format!("{path} is not UTF-8"))),
            Err(Unread::Absent) => Ok(None),
            Err(error) => Err(Error::caused(format!("cannot read {path}"), error)),
        }
    }

    /// Whether there is a file or a directory.
    fn has(&self, path: &str) -> Result<bool> {
        match self.files.open(path) {
            Ok(_) => Ok(true),
            Err(Unread::Absent) => Ok(false),
            Err(error) => Err(Error::caused(format!("cannot read {path}"), error)),
        }
    }

    /// Those of some paths that exist.
    fn those<'p>(&self, paths: &[&'p str]) -> Result<Vec<&'p str>> {
        let mut found = Vec::new();
        for path in paths {
            if self.has(path)? {
                found.push(*path);
            }
        }
        Ok(found)
    }
}

/// Writes a first project file for what is in a directory.
///
/// # Errors
/// Fails when there is a project file already, which stays as it is; and when a file there cannot be read.
pub fn init(folder: &Path, file: &str) -> Result<Begun> {
    let path = folder.join(file);
    let already = || {
        Error::new(format!("{file} exists already, and was left alone"))
            .hint("`stead check` checks it, `stead plan` shows what `up` would do")
    };
    if path.symlink_metadata().is_ok() {
        return Err(already());
    }
    let begun = begin(folder)?;
    // Made only if it does not exist, and never through a link: somebody may have made one meanwhile.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
    let mut made = match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(already()),
        made => made.context(|| format!("cannot make {}", path.display()))?,
    };
    made.write_all(begun.text.as_bytes())
        .and_then(|()| made.sync_all())
        .context(|| format!("cannot write {}", path.display()))?;
    Ok(begun)
}

/// What is found in a directory, and the text that fits it.
fn begin(folder: &Path) -> Result<Begun> {
    let whole = folder.canonicalize().context(|| format!("cannot find {}", folder.display()))?;
    let name = project_name(&whole.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()));
    let files = ProjectFiles::at(folder).context(|| format!("cannot open {}", folder.display()))?;
    let folder = Folder { files, name };
    let mut found = Vec::new();
    for kind in starters::KINDS {
        if folder.has(kind.file)? {
            found.push(kind);
        }
    }
    let starter = match found.first() {
        Some(kind) => (kind.write)(&folder)?,
        None => starters::nothing(),
    };
    let text = starter.text(&folder.name, found.first().map(|kind| (kind.file, kind.what)));
    let text = spec::format(&text).ok_or_else(|| Error::new(format!("this text cannot be a project file:\n{text}")))?;
    // Two files of one language say the same.
    let first = found.first().map(|kind| kind.what);
    let others = found.iter().skip(1).filter(|kind| Some(kind.what) != first).map(|kind| kind.file).collect();
    Ok(Begun { found: found.first().map(|kind| (kind.file, kind.what)), others, port: starter.port.map(|(host, _)| host), text })
}

/// A directory's name as the name of a project.
fn project_name(folder: &str) -> String {
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let text: String = folder.to_lowercase().chars().map(legal).skip_while(|c| !c.is_ascii_lowercase()).take(40).collect();
    let mut words: Vec<&str> = text.split('-').collect();
    words.retain(|word| !word.is_empty());
    if words.is_empty() { "project".into() } else { words.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    /// Files by their paths, with their texts.
    type Files = &'static [(&'static str, &'static str)];

    /// What is written for a directory with these files.
    fn begun(files: Files) -> Begun {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("My Shop_2");
        std::fs::create_dir(&place).unwrap();
        for (path, text) in files {
            let path = place.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let begun = init(&place, "stead.kdl").unwrap();
        assert_eq!(std::fs::read_to_string(place.join("stead.kdl")).unwrap(), begun.text);
        assert!(begun.text.contains("project \"my-shop-2\"\n") && begun.text.contains("watch {"), "{}", begun.text);
        assert_eq!(spec::format(&begun.text).as_ref(), Some(&begun.text), "it has its format");
        begun
    }

    #[test]
    fn each_kind_of_directory_gets_a_file_that_fits_it() {
        let cases: &[(Files, &[&str])] = &[
            (
                &[("Dockerfile", "FROM scratch\nEXPOSE 9000/tcp 1\n")],
                &["dockerfile \"Dockerfile\"", "publish 9000 to=9000", "rebuild \"Dockerfile\""],
            ),
            (&[("Dockerfile", "FROM scratch\n")], &["// publish 8080"]),
            (
                &[("package.json", r#"{"scripts":{"start":"node x.js"}}"#), ("package-lock.json", "{}")],
                &["\"npm ci\"", "cmd \"npm\" \"start\"", "copy \"package.json\" \"package-lock.json\""],
            ),
            (&[("package.json", r#"{"main":"lib/x.js"}"#)], &["\"npm install\"", "cmd \"node\" \"lib/x.js\""]),
            (
                &[("requirements.txt", "Flask==3\n"), ("app.py", "")],
                &["cmd \"flask\" \"--app\" \"app\"", "sync-restart \"app.py\" to=\"/srv/app/app.py\""],
            ),
            (
                &[("pyproject.toml", "[project]\ndependencies = [\"uvicorn\"]\n"), ("main.py", "")],
                &["\"main:app\"", "--editable"],
            ),
            (&[("requirements.txt", ""), ("manage.py", "")], &["\"runserver\" \"0.0.0.0:8000\""]),
            (
                &[("Cargo.toml", "[package]\nname = \"Web_1\"\n"), ("src/main.rs", "")],
                &["cmd \"Web_1\"", "from=\"build\"", "rebuild \"src/\""],
            ),
            (&[("go.mod", "module x\n"), ("cmd/web/main.go", "")], &["go build -o /usr/local/bin/app ./cmd/..."]),
            (&[("go.mod", "module x\n"), ("main.go", "")], &["go build -o /usr/local/bin/app .", "rebuild \"main.go\""]),
            (&[("composer.json", "{}"), ("public/index.php", "")], &["\"-t\" \"public\"", "sync \"public/\""]),
            (&[("Gemfile", ""), ("config.ru", "")], &["\"rackup\""]),
            (&[("pom.xml", "<project/>"), ("src/main/java/A.java", "")], &["mvn", "cmd \"java\" \"-jar\" \"/srv/app.jar\""]),
            (&[], &["\"http.server\""]),
        ];
        for (files, words) in cases {
            let begun = begun(files);
            for word in *words {
                assert!(begun.text.contains(word), "{word}:\n{}", begun.text);
            }
            assert_eq!(begun.found.map(|(file, _)| file), files.first().map(|(file, _)| *file));
        }
        let several =
            begun(&[("Dockerfile", "FROM scratch\n"), ("go.mod", ""), ("pyproject.toml", ""), ("requirements.txt", "")]);
        assert_eq!(several.others, ["requirements.txt", "pyproject.toml", "go.mod"]);
        assert_eq!(begun(&[("requirements.txt", ""), ("pyproject.toml", "")]).others, Vec::<&str>::new());
    }

    #[test]
    fn what_is_there_is_never_overwritten_and_what_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stead.kdl");
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        assert!(init(folder.path(), "stead.kdl").unwrap_err().message().contains("exists already"));
        assert!(!folder.path().join("nowhere").exists());
        std::fs::remove_file(&file).unwrap();
        std::fs::write(folder.path().join("package.json"), "{").unwrap();
        let error = init(folder.path(), "stead.kdl").unwrap_err();
        assert!(error.chain().contains("package.json") && !file.exists(), "{}", error.chain());
        std::fs::write(folder.path().join("package.json"), "[1]").unwrap();
        assert!(init(folder.path(), "stead.kdl").is_ok(), "what it does not say is taken as not said");
    }

    #[test]
    fn every_name_of_a_directory_gives_a_name() {
        for (folder, name) in
            [("shop", "shop"), ("My Shop_2", "my-shop-2"), ("--", "project"), ("", "project"), ("42x", "x"), ("größe", "gr-e")]
        {
            assert_eq!(project_name(folder), name);
        }
        assert!(Name::parse(&project_name(&"a-".repeat(60))).is_ok());
    }
}

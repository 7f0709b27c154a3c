//! What the command line adds to a project: further files, profiles, and where the values of parameters come from. No root is
//! needed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests create files, and fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Standard output and standard error, in the project's directory.
    fn run(&self, words: &[&str], env: &[(&str, &str)]) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command.current_dir(self.path().join("project")).args(words).env_remove("STEAD_PROFILE").envs(env.iter().copied());
        let output = command.env("NO_COLOR", "1").env("STEAD_ROOT", self.path().join("root")).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// The project as it is resolved.
    fn resolved(&self, words: &[&str], env: &[(&str, &str)]) -> String {
        let (out, err) = self.run(&[words, &["show", "--resolved"]].concat(), env);
        assert!(err.is_empty(), "{err}");
        out
    }
}

const BASE: &str = r#"project "p"
param "level" env="REUSE_LEVEL" default="info"
image "a" { cmd "x"; }
container "c" { image "a"; replicas 3; env LEVEL="${level}"; }
profile "one" { container "c" { replicas 1; } }
profile "two" { container "c" { replicas 2; } }
"#;

#[test]
fn profiles_come_from_the_command_line_or_the_environment() {
    let project = Project::new(&[("project/stead.kdl", BASE)]);
    let replicas = |words: &[&str], named: &str| {
        let out = project.resolved(words, &[("STEAD_PROFILE", named)]);
        let line = out.lines().find(|line| line.trim_start().starts_with("replicas")).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(replicas(&[], ""), "replicas 3");
    assert_eq!(replicas(&[], "one"), "replicas 1");
    assert_eq!(replicas(&[], "one, two"), "replicas 2");
    assert_eq!(replicas(&["--profile", "two", "--profile", "one"], "two"), "replicas 1");
    assert_eq!(replicas(&["--profile", ""], "two"), "replicas 3");
    let (_, err) = project.run(&["check"], &[("STEAD_PROFILE", "on")]);
    assert!(err.contains("there is no profile \"on\"") && err.contains("--profile one"), "{err}");
    let (_, err) = project.run(&["--profile", "one", "--profile", "two", "check"], &[]);
    assert!(err.contains("the profiles \"one\" and \"two\" give different values to `replicas`"), "{err}");
}

#[test]
fn several_files_lie_over_each_other() {
    let project = Project::new(&[
        ("project/stead.kdl", BASE),
        ("project/over/ci.kdl", "container \"c\" { replicas 7; env-file \"ci.env\"; }\n"),
        ("elsewhere/mine.kdl", "container \"c\" { env-file \"mine.env\"; }\n"),
        ("project/over/ci.env", "A=1\n"),
        ("project/deeper/x", ""),
    ]);
    let out = project.resolved(&["-f", "stead.kdl", "-f", "over/ci.kdl"], &[]);
    assert!(out.contains("replicas 7") && out.contains("env-file \"over/ci.env\""), "{out}");
    let out = project.resolved(&["-f", "stead.kdl", "-f", "../elsewhere/mine.kdl"], &[]);
    let path = fs::canonicalize(project.path()).unwrap().join("elsewhere/mine.env");
    assert!(out.contains(&format!("env-file \"{}\"", path.display())), "{out}");
    let (_, err) = project.run(&["-f", "stead.kdl", "-f", "absent.kdl", "check"], &[]);
    assert!(err.contains("cannot read `absent.kdl`: there is no such file"), "{err}");
    // An include may not do what a person may.
    project.write("project/stead.kdl", &format!("{BASE}include \"../elsewhere/mine.kdl\"\n"));
    let (_, err) = project.run(&["check"], &[]);
    assert!(err.contains("it leads out of the project's directory"), "{err}");
}

#[test]
fn a_value_comes_from_env_if_a_parameter_says_so() {
    let project = Project::new(&[("project/stead.kdl", BASE)]);
    let level = |env: &[(&str, &str)], words: &[&str]| {
        let out = project.resolved(words, env);
        out.lines().find(|line| line.starts_with("// the parameter")).unwrap().to_owned()
    };
    assert_eq!(level(&[], &[]), "// the parameter level has its value from its default");
    project.write("project/.env", "# a comment\nREUSE_LEVEL=\"from the file\"\nOTHER=never-shown\n");
    assert_eq!(level(&[], &[]), "// the parameter level has its value from REUSE_LEVEL in .env");
    let out = project.resolved(&[], &[]);
    assert!(!out.contains("from the file") && !out.contains("never-shown"), "{out}");
    assert_eq!(
        level(&[("REUSE_LEVEL", "here")], &[]),
        "// the parameter level has its value from REUSE_LEVEL of the environment"
    );
    assert_eq!(level(&[], &["--set", "level=set-here"]), "// the parameter level has its value from --set");
    project.write("project/.env", "REUSE_LEVEL\n");
    let (_, err) = project.run(&["check"], &[]);
    assert!(err.contains("cannot read `.env`: line 1"), "{err}");
}

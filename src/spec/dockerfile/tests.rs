//! Tests with Dockerfiles as data: what each means, and which errors it has.

use super::super::{Choices, Loaded, Severity, Sources, load};
use super::syntax::parse;
use super::words::{expand, expand_words};
use super::*;
use crate::model::Duration;
use crate::project::RunNetwork;
use crate::project::{Add, AddSource, Copy, GitSource, Run, RunSource};

fn values() -> BTreeMap<String, String> {
    let pairs = [("foo", "bar"), ("file", "a.tar.gz"), ("empty", ""), ("two", "x y"), ("path", "/usr/lib/x/lib.so")];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn variables_are_replaced_as_a_shell_does() {
    for (text, wanted) in [
        ("$foo/x", "bar/x"),
        ("${foo}x", "barx"),
        ("\\$foo", "$foo"),
        ("'$foo'", "$foo"),
        ("\"$foo \\\"q\\\"\"", "bar \"q\""),
        ("${none:-a $foo}", "a bar"),
        ("${empty:-d}|${empty-d}|${none-d}", "d||d"),
        ("${foo:+y}|${none:+y}|${empty+y}", "y||y"),
        ("${file%.*}|${file%%.*}", "a.tar|a"),
        ("${path#*/}|${path##*/}", "usr/lib/x/lib.so|lib.so"),
        ("${path/lib/LIB}|${path//lib/LIB}", "/usr/LIB/x/lib.so|/usr/LIB/x/LIB.so"),
        ("${file/t?r/X}", "a.X.gz"),
        ("a$", "a$"),
        ("$none", ""),
        ("he\"'\"llo", "he'llo"),
    ] {
        assert_eq!(expand(text, &values(), '\\').as_deref(), Ok(wanted), "{text}");
    }
    for (text, says) in [
        ("${foo", "not closed"),
        ("${none:?must be set}", "must be set"),
        ("'open", "not closed"),
        ("${foo:!x}", "not a valid substitution"),
        ("${}", "needs a name"),
    ] {
        assert!(expand(text, &values(), '\\').is_err_and(|why| why.contains(says)), "{text}");
    }
    assert_eq!(expand("`$foo", &values(), '`').as_deref(), Ok("$foo"));
    assert_eq!(expand_words("a b $two \"$two\"", &values(), '\\').unwrap(), ["a", "b", "x", "y", "x y"]);
}

fn names(text: &str) -> Vec<(String, String, usize)> {
    let mut sink = Sink::default();
    let syntax = parse("Dockerfile", text, &mut sink);
    assert!(sink.all().is_empty(), "{:?}", sink.all());
    syntax.instructions.into_iter().map(|one| (one.name, one.rest, one.place.line)).collect()
}

#[test]
fn lines_continue_and_comments_vanish() {
    let text = "# syntax=docker/dockerfile:1\n\n# a comment\nFROM scratch\nrun echo a \\\n  # inside\n\n  && echo b\\\n&& echo \\\\\nENV A=1\n";
    let wanted = [("FROM", "scratch", 4), ("RUN", "echo a   && echo b&& echo \\\\", 5), ("ENV", "A=1", 10)];
    let found = names(text);
    let found: Vec<(&str, &str, usize)> = found.iter().map(|(name, rest, line)| (name.as_str(), rest.as_str(), *line)).collect();
    assert_eq!(found, wanted);
    assert_eq!(names("# escape=`\r\nFROM x\r\nRUN a `\r\n b \\\r\n")[1].1, "a  b \\");
    assert_eq!(names("\u{feff}FROM x")[0].0, "FROM");
    // A comment before them ends the directives.
    assert_eq!(names("# hello\n# escape=`\nFROM x\nRUN a \\\nb")[1].1, "a b");
}

#[test]
fn here_documents_are_read() {
    let mut sink = Sink::default();
    let text = "FROM x\nCOPY <<a.txt <<-\"b\" /to/\none $foo\na.txt\n\t\ttwo\n\tb\nRUN cat <<E | sh\necho\nE\nRUN echo '<<no' $((1<<2))\n";
    let syntax = parse("Dockerfile", text, &mut sink);
    let documents: Vec<Vec<(&str, &str, bool)>> = syntax
        .instructions
        .iter()
        .map(|one| one.documents.iter().map(|one| (one.name.as_str(), one.content.as_str(), one.expand)).collect())
        .collect();
    assert_eq!(documents[1], [("a.txt", "one $foo\n", true), ("b", "two\n", false)]);
    assert_eq!(documents[2], [("E", "echo\n", true)]);
    assert!(documents[3].is_empty() && sink.all().is_empty());
    parse("Dockerfile", "FROM x\nRUN <<E\nabc\n", &mut sink);
    assert!(sink.all()[0].message.contains("has no end"));
}

struct Files<'a>(&'a str);

impl Sources for Files<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        match path {
            "stead.kdl" => Ok("project \"p\"\nimage \"base\" { env PATH=\"/bin\"; shell \"/bin/bash\" \"-c\"; }\nimage \"app\" { dockerfile \"d/Dockerfile\" { arg V=\"2\" } }\nsecret \"token\" file=\"t\"\n".into()),
            "d/Dockerfile" => Ok(self.0.to_owned()),
            _ => Err("there is no such file".into()),
        }
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

fn read(text: &str) -> Loaded {
    load("stead.kdl", &Choices::default(), &Files(text))
}

fn app(text: &str) -> (Image, BTreeMap<Name, Image>) {
    let loaded = read(text);
    let project = loaded.project.unwrap_or_else(|_| panic!("{:?}", loaded.diagnostics));
    (project.images["app"].clone(), project.images)
}

#[test]
fn stages_become_images_and_only_those_that_are_needed() {
    let text = "ARG B=base\nFROM $B AS Build\nRUN make\nFROM base AS lint\nRUN false\nFROM scratch\nCOPY --from=build /out /out\nCOPY --from=0 /x /x\nCMD [\"/out\"]\n";
    let (app, images) = app(text);
    let names: Vec<&str> = images.keys().map(Name::as_str).collect();
    assert_eq!(names, ["app", "app.build", "base"]);
    assert_eq!(app.cmd, Some(vec!["/out".to_owned()]));
    let from: Vec<_> = app.steps.iter().map(|step| if let Step::Copy(copy) = step { copy.from.clone() } else { None }).collect();
    assert_eq!(from, [Some(Name::parse("app").unwrap().inner("build")), Some(Name::parse("app").unwrap().inner("build"))]);
    // The shell of the base is inherited.
    assert_eq!(images["app.build"].steps[0], Step::Shell(vec!["/bin/bash".into(), "-c".into()]));
}

#[test]
fn arguments_and_environment_have_their_scopes() {
    let text = "ARG G=global\nFROM scratch\nARG V=1\nARG G\nARG W=$V-$G\nENV X=$W Y=\"$V $NOPE\" PATH=/a:$PATH\nENV X=new Z=$X\nENV old form $X\nLABEL l=$TARGETOS\nARG TARGETOS\nLABEL m=$TARGETOS\n";
    let (app, _) = app(text);
    let mut env = BTreeMap::new();
    for step in &app.steps {
        if let Step::Env(values) = step {
            env.extend(values.clone());
        }
    }
    let at = |name: &str| env[name].as_str();
    assert_eq!((at("X"), at("Y"), at("Z"), at("old")), ("new", "2 ", "2-global", "form new"));
    assert_eq!(at("PATH"), format!("/a:{}", crate::model::PATH), "Docker's own default if the base has none");
    assert_eq!((app.labels["l"].as_str(), app.labels["m"].as_str()), ("", "linux"));
}

#[test]
fn commands_copies_and_mounts() {
    let text = "FROM base\nWORKDIR /a\nWORKDIR ../b/./c\nRUN --network=none --mount=type=cache,target=x,id=i --mount=type=secret,id=token ls\nRUN [\"a\", \"b\"]\nCOPY --chown=1:2 --chmod=0644 --exclude=*.md a b/ to/\nHEALTHCHECK --interval=1m --retries=2 CMD true\nEXPOSE 80 9-10/udp\nSTOPSIGNAL SIGQUIT\nCMD run it\nENTRYPOINT [\"e\"]\nUSER $V\n";
    let (app, _) = app(text);
    let of = |kind: &str| app.steps.iter().filter(|step| format!("{step:?}").starts_with(kind)).cloned().collect::<Vec<_>>();
    assert_eq!(of("Folder"), [Step::Folder("/a".into()), Step::Folder("/b/c".into())]);
    let runs = of("Run");
    let Step::Run(Run { network, mounts, shell, .. }) = &runs[0] else { panic!() };
    assert!(*network == RunNetwork::None && *shell && mounts[0].to == "/b/c/x" && mounts[1].to == "/run/secrets/token");
    assert!(matches!(&mounts[0].source, RunSource::Cache { id, .. } if id == "i"));
    assert!(matches!(&runs[1], Step::Run(Run { shell: false, network: RunNetwork::Own, .. })));
    let copies = of("Copy");
    let Step::Copy(Copy { sources, exclude, mode, owner, context, .. }) = &copies[0] else { panic!() };
    assert_eq!(
        (sources.len(), exclude.len(), mode.clone(), owner.as_deref()),
        (2, 1, Some(crate::model::Mode::Exact(0o644)), Some("1:2"))
    );
    assert_eq!(context.as_ref().map(|context| context.folder.as_str()), Some("d"));
    assert_eq!((app.expose.as_slice(), app.expose_udp.as_slice()), (&[(80, 80)][..], &[(9, 10)][..]));
    assert_eq!(app.stop_signal.as_deref(), Some("QUIT"));
    assert_eq!(app.cmd, Some(["/bin/bash", "-c", "run it"].map(str::to_owned).to_vec()));
    assert_eq!(app.healthcheck.map(|health| (health.interval, health.retries)), Some((Duration::seconds(60), 2)));
}

#[test]
fn triggers_run_in_whoever_starts_from_it() {
    let (app, images) = app("FROM base AS lib\nONBUILD RUN echo $V\nONBUILD ENV A=1\nFROM lib\nENV B=$A\n");
    assert_eq!(images["app.lib"].onbuild.len(), 2);
    assert!(app.steps.iter().any(|step| matches!(step, Step::Run(_))) && app.onbuild.is_empty());
    assert!(app.steps.contains(&Step::Env(BTreeMap::from([("B".into(), "1".into())]))));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, line, says) in [
        ("FROM base\nRUM x\n", 2, "there is no instruction RUM"),
        ("RUN x\nFROM base\n", 1, "before the first FROM"),
        ("FROM base\nCOPY a\n", 2, "sources and a target"),
        ("FROM base\nCOPY --form=x a b\n", 2, "no --form"),
        ("FROM base\nSHELL bash\n", 2, "JSON"),
        ("FROM base\nCMD [\"sleep\", 10]\n", 2, "holds only texts"),
        ("FROM base\nENV --x=1 A=b\n", 2, "no --x"),
        ("FROM base\nCOPY --chown=1 --chown=2 a b\n", 2, "given twice"),
        ("FROM base\nSTOPSIGNAL FOO\n", 2, "not a signal"),
        ("FROM base\nSTOPSIGNAL TEMR\n", 2, "not a signal"),
        ("FROM --platform=linux/arm64/v9 base\n", 1, "not this machine's"),
        ("ARG P\nFROM --platform=$P base\n", 2, "is empty"),
        ("FROM base\nRUN --mount=type=bind,target=/ x\n", 2, "cover the root"),
        ("FROM base\nRUN --mount=type=tmpfs,target=/x,size=1q x\n", 2, "not a size"),
        ("FROM base\nEXPOSE nine\n", 2, "no port"),
        ("FROM base\nENV A=\"${B:?no B}\"\n", 2, "no B"),
        ("FROM base\nADD git://host/x.git /z\n", 2, "on the web or behind ssh"),
        ("FROM base\nADD git@-host:x.git /z\n", 2, "begins with a hyphen"),
        ("FROM base\nADD --checksum=md5:1 https://x/y /z\n", 2, "--checksum needs"),
        ("FROM base\nCOPY --chmod=u+q a /z\n", 2, "neither octal nor symbols"),
        ("FROM base\nRUN --mount=type=bind,rw=perhaps,target=/x x\n", 2, "true or false"),
        ("FROM base\nHEALTHCHECK --interval=soon CMD x\n", 2, "is no duration"),
        ("FROM base\nENV DB_PASSWORD=x\n", 2, "looks like a secret"),
        ("FROM base\nONBUILD FROM x\n", 2, "may not hold"),
        ("FROM base\nRUN --mount=type=secret,id=nosuch,required=true x\n", 2, "no secret \"nosuch\""),
    ] {
        let loaded = read(text);
        let mut all = loaded.diagnostics.iter().chain(&loaded.unsupported);
        let found = all.find(|one| one.message.contains(says));
        let found = found.unwrap_or_else(|| panic!("{text}: {:?}", loaded.diagnostics));
        assert_eq!((found.place.file.as_str(), found.place.line), ("d/Dockerfile", line), "{text}");
    }
    assert!(read("FROM base\nRUN x\n").diagnostics.iter().any(|one| one.message.contains("has no ARG V")));
}

#[test]
fn hostile_files_harm_nobody() {
    // The name of a here-document becomes a file name, so a path is not a name.
    let mut sink = Sink::default();
    let syntax = parse("Dockerfile", "FROM x\nCOPY <<../../etc/x /to/\nENV A=1\n", &mut sink);
    assert!(syntax.instructions[1].documents.is_empty() && syntax.instructions.len() == 3);
    let (app, _) = app("FROM base\nRUN #!/bin/sh\n");
    assert!(matches!(app.steps.last(), Some(Step::Run(Run { shell: true, .. }))));
    let long: BTreeMap<String, String> = [("X".to_owned(), "a".repeat(5000))].into();
    assert_eq!(expand("${X##*a*a*a*a*a*a*a*b}", &long, '\\').map(|text| text.len()), Ok(5000));
    let deep = "${a:-".repeat(10_000) + &"}".repeat(10_000);
    assert!(expand(&deep, &long, '\\').is_err_and(|why| why.contains("too deeply")));
    let growing = "FROM base\nENV A=0123456789\n".to_owned() + &"ENV A=$A$A$A$A\n".repeat(40);
    assert!(read(&growing).diagnostics.iter().any(|one| one.message.contains("1 MiB")));
}

#[test]
fn arguments_reach_stages_that_start_from_theirs() {
    let (app, _) = app("FROM base AS one\nARG W=w\nFROM one\nENV X=$W\n");
    assert!(app.steps.contains(&Step::Env(BTreeMap::from([("X".into(), "w".into())]))));
}

#[test]
fn images_of_elsewhere_get_images_of_their_own() {
    let (app, images) =
        app("FROM debian:12 AS one\nFROM one\nCOPY --from=shop/tool /x /x\nRUN --mount=from=debian:12,target=/d true\n");
    let names: Vec<&str> = images.keys().map(Name::as_str).collect();
    assert_eq!(names, ["app", "app.one", "base", "debian:12", "shop/tool"]);
    assert_eq!(images["debian:12"].from, Base::Outside(Outside::Reference("debian:12".into())));
    assert_eq!(images["app.one"].from, Base::Image(Name::of_reference("debian:12")));
    assert_eq!(app.needs().filter(|name| name.as_str() == "debian:12").count(), 1);
}

#[test]
fn what_is_added_from_the_web_is_a_step_of_its_own() {
    let text = "FROM base\nADD a https://x.org/b.tgz https://x.org/r.git#v1:sub /to/\nADD --checksum=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae https://x.org/c /c\n";
    let (app, _) = app(text);
    let adds: Vec<Add> =
        app.steps.iter().filter_map(|step| if let Step::Add(add) = step { Some(add.clone()) } else { None }).collect();
    assert_eq!(adds[0].unknown().as_deref(), Some("https://x.org/b.tgz"));
    assert_eq!(adds[1].unknown().as_deref(), Some("https://x.org/r.git#v1"));
    assert!(matches!(&adds[1].source, AddSource::Git(git) if git.folder.as_deref() == Some("sub")));
    assert_eq!(adds[2].unknown(), None);
    assert!(app.steps.iter().any(|step| matches!(step, Step::Copy(copy) if copy.unpack && copy.sources == ["a"])));
}

#[test]
fn repositories_are_named_as_buildkit_names_them() {
    let git = |source: &str| -> Result<GitSource, String> {
        let loaded = read(&format!("FROM base\nADD {source} /to/\n"));
        let mut steps = loaded.project.iter().flat_map(|project| &project.images["app"].steps);
        let found = steps.find_map(|step| match step {
            Step::Add(Add { source: AddSource::Git(git), .. }) => Some(git.clone()),
            _ => None,
        });
        found.ok_or_else(|| format!("{:?}", loaded.diagnostics))
    };
    let id = "0123456789abcdef0123456789abcdef01234567";
    for (source, place, reference, commit, folder) in [
        ("https://x.org/r.git", "https://x.org/r.git", None, None, None),
        ("https://x.org/r.git#v1:a/b/", "https://x.org/r.git", Some("v1"), None, Some("a/b")),
        ("https://x.org/r.git?tag=v1&subdir=a", "https://x.org/r.git", Some("refs/tags/v1"), None, Some("a")),
        ("https://x.org/r.git?branch=refs/heads/m#refs/heads/m", "https://x.org/r.git", Some("refs/heads/m"), None, None),
        ("https://x.org/r.git?ref=pull/4/head", "https://x.org/r.git", Some("pull/4/head"), None, None),
        ("https://x.org/r.git?commit=0123ABC", "https://x.org/r.git", None, Some("0123abc"), None),
        ("--checksum=0123 https://x.org/r.git#v1", "https://x.org/r.git", Some("v1"), Some("0123"), None),
        ("git@x.org:a/r.git#v1", "git@x.org:a/r.git", Some("v1"), None, None),
        ("ssh://git@x.org:22/a/r?branch=m", "ssh://git@x.org:22/a/r", Some("refs/heads/m"), None, None),
    ] {
        let found = git(source).unwrap_or_else(|said| panic!("{source}: {said}"));
        let text = |text: Option<&str>| text.map(str::to_owned);
        assert_eq!(found.place.to_string(), place, "{source}");
        assert_eq!((found.reference, found.commit, found.folder), (text(reference), text(commit), text(folder)), "{source}");
    }
    let pinned = git(&format!("--checksum={id} https://x.org/r.git#v1")).unwrap();
    assert_eq!(pinned.pinned(), Some(id));
    assert!(!git("https://x.org/r.git?submodules=false").unwrap().submodules);
    assert!(git("https://x.org/r.git?keep-git-dir").unwrap().dot_git);
    assert!(!git("https://x.org/r.git?keep-git-dir=1&subdir=a").unwrap().dot_git);
    for (source, why) in [
        ("https://x.org/r.git?tag=a&branch=b", "ref is given as"),
        ("https://x.org/r.git?subdir=", "has no value"),
        ("https://x.org/r.git?depth=1", "cannot have depth="),
        ("https://x.org/r.git?submodules=perhaps", "true or false"),
        ("https://x.org/r.git?checksum=zz", "is no commit"),
        (&format!("--checksum=99 https://x.org/r.git#{id}"), "does not begin with"),
        ("git://x.org/r.git", "write https://"),
        ("git@-evil:r.git", "hyphen"),
    ] {
        let said = git(source).unwrap_err();
        assert!(said.contains(why), "{source}: {said}");
    }
    // Passwords must not get into the lock file.
    let (app, _) = app("FROM base\nADD https://me:secret@x.org/r.git?checksum=01#v1 https://me:secret@x.org/f /to/\n");
    let unknown: Vec<String> =
        app.steps.iter().filter_map(|step| if let Step::Add(add) = step { add.unknown() } else { None }).collect();
    assert_eq!(unknown, ["https://x.org/r.git?checksum=01#v1", "https://x.org/f"]);
}

/// The cases of a data file: name, text, and what follows `---`.
fn cases(text: &str) -> Vec<(&str, &str, &str)> {
    let parts = text.split("=== ").skip(1).filter_map(|case| case.split_once('\n'));
    parts
        .map(|(name, rest)| match rest.split_once("\n---\n") {
            Some((text, wanted)) => (name, &rest[..text.len() + 1], wanted),
            None => (name, "", rest.strip_prefix("---\n").unwrap_or_default()),
        })
        .collect()
}

#[test]
fn texts_are_taken_apart_as_buildkit_does() {
    let all = cases(include_str!("../../../tests/dockerfiles/parser.txt"));
    assert!(all.len() > 100, "{}", all.len());
    let mut wrong = Vec::new();
    for (name, text, wanted) in all {
        let mut sink = Sink::default();
        let syntax = parse("Dockerfile", text, &mut sink);
        let mut found = String::new();
        for one in &syntax.instructions {
            found.push_str(&format!("{} {}", one.place.line, one.name));
            for (flag, value) in &one.flags {
                found.push_str(&value.as_ref().map_or_else(|| format!(" --{flag}"), |value| format!(" --{flag}={value}")));
            }
            found.push_str(&format!(" | {}\n", one.rest));
            for document in &one.documents {
                found.push_str(&format!("    <<{} {}\n", document.name, if document.expand { "expand" } else { "literal" }));
                document.content.lines().for_each(|line| found.push_str(&format!("        |{line}\n")));
            }
        }
        let right = match wanted.trim_end().strip_prefix("error ") {
            Some(error) => {
                let (line, says) = error.split_once(": ").unwrap_or((error, ""));
                sink.all().iter().any(|one| one.place.line.to_string() == line && one.message.contains(says))
            }
            None => sink.all().is_empty() && found.trim_end() == wanted.trim_end(),
        };
        if !right {
            wrong.push(format!("{name}: wanted\n{wanted}\nfound\n{found}{:?}", sink.all()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn words_are_replaced_as_buildkit_does() {
    let values: BTreeMap<String, String> =
        [("a", "1"), ("b", ""), ("FOO", "foo"), ("PATH", "/bin"), ("HOME", "/root"), ("path", "/usr/share/doc/x.tar.gz")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let lines = include_str!("../../../tests/dockerfiles/words.txt").lines();
    let cases = lines.filter(|line| !line.starts_with("# ") && !line.is_empty()).filter_map(|line| line.rsplit_once(" => "));
    let wrong: Vec<String> = cases
        .filter_map(|(text, wanted)| {
            let found = expand(text, &values, '\\');
            let right = if wanted == "error" { found.is_err() } else { found.as_deref() == Ok(wanted) };
            (!right).then(|| format!("{text} => {found:?}, not {wanted:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A project whose image is a Dockerfile, or one with the nodes that the Dockerfile is converted to.
struct Converted<'a> {
    dockerfile: &'a str,
    nodes: Option<String>,
}

const AROUND: &str = "project \"p\"\nimage \"base\" { env PATH=\"/bin\"; }\nsecret \"token\" file=\"t\"\n";

impl Sources for Converted<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        match path {
            "stead.kdl" => Ok(match &self.nodes {
                Some(nodes) => format!("{AROUND}{nodes}"),
                None => format!("{AROUND}image \"app\" {{ dockerfile \"d/Dockerfile\" context=\"ctx\" }}\n"),
            }),
            _ => Ok(self.dockerfile.to_owned()),
        }
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

#[test]
fn what_is_converted_says_the_same() {
    let texts = [include_str!("../../../tests/dockerfiles/cases.txt"), include_str!("../../../tests/dockerfiles/more.txt")];
    let all = texts.into_iter().flat_map(|text| text.split("=== ").skip(1)).filter_map(|case| case.split_once('\n'));
    let mut count = 0;
    for (name, dockerfile) in all {
        let read = |nodes: Option<String>| {
            let loaded = load("stead.kdl", &Choices::default(), &Converted { dockerfile, nodes: nodes.clone() });
            loaded.project.unwrap_or_else(|_| panic!("{name}: {:?}\n{}", loaded.diagnostics, nodes.unwrap_or_default())).images
        };
        let before = read(None);
        let mut written = before.clone();
        written.retain(|name, _| name.as_str() != "base");
        let text = crate::spec::kdl(&written);
        let after = read(Some(text.clone()));
        // Stage names cannot be written in a project file; everything else must be the same.
        let plain = |images: &BTreeMap<Name, Image>| -> Vec<String> {
            let mut all: Vec<String> = images.values().map(|image| serde_json::to_string(image).unwrap()).collect();
            for name in before.keys().filter(|name| name.as_str().starts_with("app.")) {
                let legal: String =
                    name.as_str().chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
                all = all.into_iter().map(|text| text.replace(&format!("\"{name}\""), &format!("\"{legal}\""))).collect();
            }
            all.sort();
            all
        };
        assert_eq!(plain(&before), plain(&after), "{name}\n{text}");
        count += 1;
    }
    assert!(count > 150, "{count}");
}

#[test]
fn triggers_may_name_stages_of_whoever_starts_from_their_image() {
    let (app, images) = app("FROM base AS tools\nFROM base AS lib\nONBUILD COPY --from=tools /x /x\nFROM lib\n");
    let tools = Name::parse("app").unwrap().inner("tools");
    assert!(images.contains_key(&tools));
    assert!(app.steps.iter().any(|step| matches!(step, Step::Copy(copy) if copy.from.as_ref() == Some(&tools))));
}

/// The steps of the target, as text.
fn steps(text: &str) -> Vec<Step> {
    app(text).0.steps
}

fn one<T>(text: &str, pick: impl Fn(&Step) -> Option<T>) -> T {
    let steps = steps(text);
    steps.iter().find_map(pick).unwrap_or_else(|| panic!("{text}: {steps:?}"))
}

#[test]
fn a_here_document_is_a_script_only_if_it_stands_alone() {
    let words =
        |text: &str| one(text, |step| if let Step::Run(run) = step { Some((run.words.clone(), run.shell)) } else { None });
    let shell = |text: &str| (vec![text.to_owned()], true);
    assert_eq!(words("FROM base\nRUN <<EOT\necho 1\nEOT\n"), shell("echo 1\n"));
    assert_eq!(words("FROM base\nRUN <<\"EOT\"\necho 1\nEOT\n"), shell("echo 1\n"));
    for line in ["<<EOT bash -e", "<<EOT bash", "<<EOT && b", "<<'EOT' tee x", "<<EOT python3", "cat <<EOT"] {
        assert_eq!(words(&format!("FROM base\nRUN {line}\nx\nEOT\n")), shell(&format!("{line}\nx\nEOT")), "{line}");
    }
}

#[test]
fn what_buildkit_accepts_is_accepted() {
    let copied = |text: &str| one(text, |step| if let Step::Copy(copy) = step { Some(copy.to.clone()) } else { None });
    for (line, to) in [
        ("COPY a b .", "./"),
        ("COPY a b /opt", "/opt/"),
        ("COPY a b c/", "c/"),
        ("ADD a b .", "./"),
        ("COPY a ${none}", "."),
        ("COPY a b ${none}", "./"),
        ("COPY a /x", "/x"),
    ] {
        assert_eq!(copied(&format!("FROM base\n{line}\n")), to, "{line}");
    }
    let mounted = |line: &str| {
        let text = format!("FROM base\nWORKDIR /w\nRUN --mount={line} x\n");
        one(&text, |step| if let Step::Run(run) = step { Some(run.mounts[0].clone()) } else { None })
    };
    for line in ["type=bind", "type=BIND", "type=cache", "type=CACHE,sharing=LOCKED", "type=tmpfs,size=100m"] {
        assert_eq!(mounted(line).to, "/w", "{line}");
    }
    for (text, bytes) in [("100m", 100 << 20), ("1GiB", 1 << 30), ("5", 5), ("2kb", 2048), ("1.5k", 1536), ("7B", 7)] {
        let mount = mounted(&format!("type=tmpfs,target=/t,size={text}"));
        assert_eq!(mount.source, RunSource::Tmpfs { size: Some(crate::model::Size(bytes)) }, "{text}");
    }
    for (id, name) in [("token", "token"), ("TOKEN", "token")] {
        let mount = mounted(&format!("type=secret,id={id}"));
        assert_eq!(mount.to, format!("/run/secrets/{id}"));
        assert!(matches!(mount.source, RunSource::Secret { name: found, .. } if found.as_str() == name));
    }
    let architecture = crate::model::ARCHITECTURE;
    let other = if architecture == "amd64" { "arm64" } else { "amd64" };
    for platform in [&format!("linux/{architecture}"), architecture, "linux", &format!("Linux/{}", architecture.to_uppercase())] {
        assert_eq!(app(&format!("FROM --platform={platform} base\n")).1.len(), 2, "{platform}");
    }
    let text = format!(
        "FROM --platform=linux/{other} base AS base-{other}\nRUN no\nFROM base AS base-{architecture}\nRUN yes\nFROM base-${{TARGETARCH}}\n"
    );
    assert!(app(&text).1.contains_key(format!("app.base-{architecture}").as_str()));
    // Of two stages with one name, the later one has it from then on; FROM takes a number for an image.
    let (last, images) = app("FROM base AS a\nRUN 1\nFROM a AS a\nRUN 2\nFROM a\nRUN 3\n");
    assert_eq!((last.from, images.len()), (Base::Image(Name::parse("app").unwrap().inner("a")), 4));
    assert_eq!(app("FROM base\nEXPOSE 8080:80 9090:90/udp\n").0.expose, [(80, 80)]);
    assert_eq!(app("FROM base\nSTOPSIGNAL SIGRTMIN+3\n").0.stop_signal.as_deref(), Some("RTMIN+3"));
}

#[test]
fn of_an_argument_and_a_variable_the_later_one_is_seen() {
    let env = |text: &str| {
        let mut env = BTreeMap::new();
        for step in steps(text) {
            if let Step::Env(values) = step {
                env.extend(values);
            }
        }
        (env.get("X").cloned().unwrap_or_default(), env["Y"].clone())
    };
    let of = |x: &str, y: &str| (x.to_owned(), y.to_owned());
    assert_eq!(env("FROM base\nENV X=env\nARG X=arg\nENV Y=$X\n"), of("env", "arg"));
    assert_eq!(env("FROM base\nARG X=arg\nENV X=env\nENV Y=$X\n"), of("env", "env"));
    assert_eq!(env("FROM base\nENV X=env\nARG X\nENV Y=$X\n"), of("env", "env"));
    assert_eq!(env("FROM base AS b\nENV X=env\nARG X=arg\nFROM b\nENV Y=$X\n"), of("", "env"));
}

/// What `convert` prints of a Dockerfile says what it means; these are BuildKit's answers.
#[test]
fn instructions_mean_what_buildkit_makes_of_them() {
    let kdl = |lines: &str| crate::spec::kdl(&app(&format!("FROM base\n{lines}\n")).1);
    let mut wrong = Vec::new();
    for (lines, wanted) in [
        ("RUN", "run \"\""),
        ("CMD", "cmd \"/bin/bash\" \"-c\" \"\""),
        ("CMD -- a", "cmd \"/bin/bash\" \"-c\" \"a\""),
        ("RUN << E\na\nE", "run \"\"\"\n        a\n"),
        ("COPY --chmod= --chown=$NONE a /d/", "copy \"a\" to=\"/d/\" context"),
        ("COPY --exclude=$X a /d/", "exclude \"$X\""),
        ("COPY a\\ b /d/", "copy \"a\" \"b\" to=\"/d/\""),
        ("ARG X=1\nCOPY <<E /d\n\\a \\$X $X\nE", "text \"E\" \"\"\"\n        a $X 1\n"),
        ("COPY <<E /d\r\na\r\nE", "text \"E\" \"a\\r\\n\""),
        ("ENV V=\"/a /b\"\nVOLUME $V", "volume \"/a /b\""),
        (
            "ENV P=\"1 2/udp\"\nEXPOSE $P 3/sctp 8080:80",
            "expose 1 80\n    expose 2 protocol=\"udp\"\n    expose 3 protocol=\"sctp\"",
        ),
        ("HEALTHCHECK --interval= --retries=0 CMD x\nSHELL [\"s\"]", "exec \"s\" \"x\""),
        ("LABEL maintainer=b\nMAINTAINER a", "author \"a\"\n    label maintainer=\"b\""),
        ("MAINTAINER Jo\nMAINTAINER \"$V\" <jo@e.org>", "author \"\\\"$V\\\" <jo@e.org>\""),
        ("COPY --link a /d", "docker=#true link=#true"),
        ("ADD --link=true https://e.org/x /d", "docker=#true link=#true"),
        ("ENV A=1\u{a0}B=2", "env A=\"1\" B=\"2\""),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=1\nENV X=x$BUILDKIT_SBOM_SCAN_STAGE", "env X=\"x\""),
        ("ARG TARGETSTAGE\nENV X=$TARGETSTAGE", "env X=\"default\""),
        ("WORKDIR /w\nRUN --mount=type=cache,target=./c/ true", "mount to=\"/w/c\" cache=\"c\""),
        ("RUN --mount=type=cache,TARGET=/t,target=/u,ro,rw=0 true", "mount to=\"/u\" cache=\"/u\" writable=#false"),
        (
            "RUN --mount=target=/t,ro=false,from= true",
            "mount to=\"/t\" context=\"d\" ignore=\"d/Dockerfile.dockerignore\" writable=#true",
        ),
        ("WORKDIR /w\nRUN --mount=type=secret,source=a/b,target=t true", "mount to=\"/t\" secret=\"a-b\" required=#false"),
        ("RUN --mount=type=bind,\\\"source=a,b\\\",target=/t true", "subpath=\"a,b\""),
        ("USER $NONE", "user \"\""),
        ("COPY f /a/.", "copy \"f\" to=\"/a/\""),
        ("RUN --mount=type=ssh --mount=type=ssh,id=b true", "to=\"/run/buildkit/ssh_agent.1\""),
        // The fixture gives V a value, so its default does not matter.
        ("ARG V=${NONE:?no}\nENV X=$V", "env X=\""),
        ("COPY --from=app /a /b", "from=\"app:latest\""),
        // A value that is given is seen by what is declared behind it.
        ("ARG V=1 W=$V\nENV X=w$W", "env X=\"w2\""),
    ] {
        if !kdl(lines).contains(wanted) {
            wrong.push(format!("{lines}: {}", kdl(lines)));
        }
    }
    for (lines, why) in [
        ("RUN []", "needs a command"),
        ("CMD --x a", "has no --x"),
        ("COPY --from a /d", "needs a value"),
        ("COPY --link=0 a /d", "true or false"),
        ("MAINTAINER", "needs at least one argument"),
        ("COPY --from=$X a /d", "names a stage or an image as it is"),
        ("COPY --from=7 a /d", "has the number 7"),
        ("FROM base AS me\nCOPY --from=ME a /d", "cannot take files from itself"),
        ("COPY --from=A/B a /d", "is not an image name"),
        ("COPY https://e.org/x /d", "COPY does not fetch"),
        ("COPY a 'b c' /d", "a single quote is not closed"),
        ("VOLUME []", "needs a path"),
        ("VOLUME $NONE", "is empty"),
        ("EXPOSE ip:80", "is no port"),
        ("HEALTHCHECK CMD []", "NONE, or CMD"),
        ("HEALTHCHECK NONE x", "takes no command"),
        ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
        ("RUN --mount=type=bind,size=1,target=/t true", "has no size"),
        ("RUN --mount=type=cache,required,target=/t true", "has no required"),
        ("RUN --mount=type=tmpfs,uid=1,target=/t true", "has no uid"),
        ("RUN --mount=type=secret,sharing=locked,id=a true", "has no sharing"),
        ("RUN --mount=type=secret,id=a,source=b true", "not both"),
        ("RUN --mount=type=ssh,source=b true", "has no source"),
        ("RUN --mount=target true", "needs a value"),
        ("RUN --mount=from=$X,target=/t true", "variables are not replaced there"),
        ("EXPOSE 80-70", "no range of ports"),
    ] {
        let found = read(&format!("FROM base\n{lines}\n")).diagnostics;
        if !found.iter().any(|found| found.message.contains(why)) {
            wrong.push(format!("{lines}: {found:?}"));
        }
    }
    // Where it has no effect for BuildKit it has none here.
    for lines in ["COPY --link=false a /d", "COPY --link --chmod=600 a /d", "ADD --chmod=600 --link https://e.org/x /d"] {
        assert!(!kdl(lines).contains("link="), "{lines}: {}", kdl(lines));
    }
    let text = "FROM base AS b\nRUN make\nFROM base\nRUN --mount=type=bind,FROM=b,target=/t true\n";
    assert!(app(text).1.contains_key("app.b"), "the stage is needed, however the key is written");
    for from in ["base:", "/base", "--platform=linux --platform=linux base", "\"a b\""] {
        let found = read(&format!("FROM {from}\n")).diagnostics;
        if !found.iter().any(|found| found.severity == Severity::Error) {
            wrong.push(from.to_owned());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

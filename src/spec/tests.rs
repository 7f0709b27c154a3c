//! The language, tested on text alone.

use super::*;
use crate::project::{ConfigSource, JobSpec, Step, Until};
struct Files(BTreeMap<&'static str, &'static str>);

impl Sources for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        self.0.get(path).map(|text| (*text).to_owned()).ok_or_else(|| "no such file".into())
    }

    fn env(&self, name: &str) -> Option<std::ffi::OsString> {
        (name == "SHOP_TAG").then(|| "from-env".into())
    }
}

fn read(text: &'static str) -> Loaded {
    load("stead.kdl", &Choices::default(), &Files([("stead.kdl", text)].into()))
}

fn errors(text: &'static str) -> Vec<String> {
    read(text).diagnostics.iter().map(|found| format!("{}: {}", found.code, found.message)).collect()
}

/// Every example in the table is legal at its place in the grammar.
#[test]
fn examples_of_the_table_parse() {
    fn visit(rows: &'static [grammar::Node]) {
        for row in rows {
            let mut sink = diagnose::Sink::default();
            let trees = tree::parse("example", row.example, &mut sink);
            grammar::check(trees, rows, "the example", &mut sink);
            assert!(sink.all().is_empty(), "{}: {:?}", row.name, sink.all());
            visit(row.children);
        }
    }
    visit(language::TOP);
}

/// Every example is also understood where it belongs: in the blocks above it, as `check` reads a project file. What it names
/// may be unknown there, and what stands beside it may be missing.
#[test]
fn examples_of_the_table_are_understood_in_their_blocks() {
    const FORM: [&str; 9] = [
        "syntax",
        "unknown-node",
        "unknown-property",
        "missing-argument",
        "missing-property",
        "extra-argument",
        "wrong-value",
        "bare-keyword",
        "no-children",
    ];
    fn visit(rows: &'static [grammar::Node], above: &str, blocks: usize, count: &mut usize) {
        for row in rows {
            let head = if row.name == "project" { "" } else { "project \"x\"\n" };
            let text = format!("{head}{above}{}\n{}", row.example, "}\n".repeat(blocks));
            let found = read(Box::leak(text.clone().into_boxed_str())).diagnostics;
            let wrong: Vec<_> = found.iter().filter(|found| FORM.contains(&found.code)).collect();
            assert!(wrong.is_empty(), "{text}{wrong:?}");
            *count += 1;
            // A profile takes what the top takes.
            if row.name != "profile" {
                let opening = row.example.lines().next().unwrap().split(" {").next().unwrap();
                visit(row.children, &format!("{above}{opening} {{\n"), blocks + 1, count);
            }
        }
    }
    let mut count = 0;
    visit(language::TOP, "", 0, &mut count);
    assert!(count > 150, "{count}");
}

#[test]
fn the_design_example_is_understood() {
    let files = [
        ("stead.kdl", include_str!("testdata/design.kdl")),
        ("legacy/Dockerfile", "FROM scratch AS prod\nARG VERSION\nFROM prod\n"),
    ];
    let loaded = load("stead.kdl", &Choices::default(), &Files(files.into()));
    assert_eq!(loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).count(), 0, "{:#?}", loaded.diagnostics);
    let project = loaded.project.unwrap();
    assert_eq!(project.configs.values().next(), Some(&ConfigSource::Content("hello from-env".into())));
    assert!(loaded.unsupported.is_empty(), "{:?}", loaded.unsupported);
}

#[test]
fn profiles_replace_and_add() {
    let text = "project \"p\"\nimage \"a\" { }\ncontainer \"web\" { image \"a\"; replicas 3; env A=1; }\n\
                profile \"ci\" { container \"web\" { replicas 1; env B=2; limits { pids 5; } } }";
    let choices = Choices { profiles: vec!["ci".into()], ..Choices::default() };
    let loaded = load("stead.kdl", &choices, &Files([("stead.kdl", text)].into()));
    let web = loaded.project.unwrap().containers.remove("web").unwrap();
    assert_eq!((web.replicas, web.env.len(), web.limits.pids), (1, 2, Some(5)));
}

#[test]
fn a_profile_changes_one_variable_and_the_way_of_a_check() {
    let base = "project \"p\"\nimage \"a\" { }\ncontainer \"web\" { image \"a\"; env X=1 Z=9; label a=1 b=2; CHECK }\n";
    let with = |check: &str, over: &str| {
        let text = format!("{}profile \"ci\" {{ container \"web\" {{ {over} }} }}", base.replace("CHECK", check));
        let choices = Choices { profiles: vec!["ci".into()], ..Choices::default() };
        let loaded = load("stead.kdl", &choices, &Files([("stead.kdl", &*text.leak())].into()));
        assert!(loaded.diagnostics.iter().all(|found| found.severity != Severity::Error), "{over}: {:?}", loaded.diagnostics);
        loaded.project.unwrap().containers.remove("web").unwrap()
    };
    let web = with("", "env X=2; label b=3 c=4");
    assert_eq!((web.env["X"].as_str(), web.env["Z"].as_str(), web.labels.len()), ("2", "9", 3));
    let check = "healthcheck interval=\"7s\" { exec \"true\" }";
    for (check, over, wanted) in [
        (check, "healthcheck { tcp 80 }", "Tcp"),
        (check, "healthcheck { http 80 }", "Http"),
        (check, "healthcheck \"none\"", "None"),
        ("healthcheck \"none\"", "healthcheck { tcp 80 }", "Tcp"),
        (check, "healthcheck interval=\"9s\"", "Exec"),
    ] {
        let found = format!("{:?}", with(check, over).healthcheck);
        assert!(found.contains(wanted), "{over}: {found}");
    }
}

#[test]
fn tasks_are_commands_with_names_and_profiles_change_them() {
    let text = r#"project "p"
image "a" { }
container "web" { image "a"; }
task "migrate" { container "web"; cmd "flask" "db"; env A=1 B=2; workdir "/srv"; user "app"; }
profile "ci" {
    task "migrate" { cmd "true"; env B=3; }
    task "test" { container "web"; cmd "pytest"; }
}"#;
    let with = |profiles: &[&str]| {
        let choices = Choices { profiles: profiles.iter().map(|name| (*name).to_owned()).collect(), ..Choices::default() };
        let loaded = load("stead.kdl", &choices, &Files([("stead.kdl", text)].into()));
        loaded.project.unwrap_or_else(|_| panic!("{:?}", loaded.diagnostics)).tasks
    };
    let plain = with(&[]);
    let migrate = &plain["migrate"];
    assert_eq!((plain.len(), migrate.container.as_str(), migrate.cmd.join(" ").as_str()), (1, "web", "flask db"));
    assert_eq!((migrate.workdir.as_deref(), migrate.user.as_deref()), (Some("/srv"), Some("app")));
    let changed = with(&["ci"]);
    let migrate = &changed["migrate"];
    assert_eq!((migrate.cmd.join(" ").as_str(), migrate.env["A"].as_str(), migrate.env["B"].as_str()), ("true", "1", "3"));
    assert_eq!((migrate.container.as_str(), changed["test"].cmd.join(" ").as_str()), ("web", "pytest"));
}

#[test]
fn a_task_needs_a_container_a_command_and_a_name_of_its_own() {
    let found = |task: &str| {
        let base = r#"project "p"
image "a" { }
container "web" { image "a"; entrypoint "tini"; }
container "db" { image "a"; }
"#;
        errors(format!("{base}{task}").leak())
    };
    for (task, wanted) in [
        (r#"task "t" { container "wbe"; cmd "x"; }"#, r#"unknown-name: there is no container "wbe""#),
        (r#"task "t" { cmd "x"; }"#, "task: this task has no container"),
        (r#"task "t" { container "web"; }"#, "task: this task has no command"),
        (r#"task "t" { container "web"; cmd; }"#, "task: this task has no command"),
        (r#"task "web" { container "web"; cmd "x"; }"#, r#"duplicate: the task "web" has the name of a container"#),
        (r#"task "a" { container "web"; cmd "x"; }"#, r#"duplicate: the task "a" has the name of an image"#),
        (&*"task \"t\" { container \"web\"; cmd \"x\"; }\n".repeat(2).leak(), "duplicate: there are two tasks"),
        (r#"task "t" { container "db"; cmd "make test"; }"#, "command-line: `cmd` begins with the name of a program"),
    ] {
        let found = found(task);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{task}: {found:?}");
    }
    // With an entrypoint, its words are arguments.
    assert_eq!(found(r#"task "t" { container "web"; cmd "make test"; }"#), Vec::<String>::new());
}

#[test]
fn a_job_is_a_container_that_runs_to_its_end() {
    let text = r#"project "p"
image "a" { }
container "db" { image "a"; healthcheck { tcp 5432; }; }
job "migrate" { image "a"; cmd "migrate"; depends-on "db" until="healthy"; inputs "m/" "./x.sql"; timeout "10m"; }
job "seed" { image "a"; depends-on "migrate"; }
container "web" { image "a"; depends-on "migrate"; depends-on "seed" until="done"; depends-on "db" until="done"; }
profile "ci" { job "migrate" { cmd "true"; timeout "1m"; } }"#;
    let with = |profiles: &[&str]| {
        let choices = Choices { profiles: profiles.iter().map(|name| (*name).to_owned()).collect(), ..Choices::default() };
        let loaded = load("stead.kdl", &choices, &Files([("stead.kdl", text)].into()));
        assert!(loaded.unsupported.is_empty());
        loaded.project.unwrap_or_else(|_| panic!("{:?}", loaded.diagnostics)).containers
    };
    let containers = with(&[]);
    let migrate = &containers["migrate"];
    let timeout = Some(crate::model::Duration::seconds(600));
    assert_eq!(migrate.job, Some(JobSpec { inputs: vec!["m".into(), "x.sql".into()], timeout }));
    assert_eq!((migrate.replicas, migrate.restart, containers["seed"].replicas), (1, crate::project::Restart::No, 1));
    assert_eq!(containers["web"].job, None);
    assert!(containers["web"].depends_on.values().all(|until| *until == Until::Completed));
    assert_eq!(containers["seed"].depends_on["migrate"], Until::Completed);
    assert_eq!(migrate.depends_on["db"], Until::Healthy);
    let changed = with(&["ci"]);
    let migrate = &changed["migrate"];
    let timeout = migrate.job.as_ref().and_then(|job| job.timeout);
    assert_eq!(
        (migrate.cmd.as_ref().unwrap().join(" "), timeout),
        ("true".to_owned(), Some(crate::model::Duration::seconds(60)))
    );
}

#[test]
fn what_is_wrong_with_a_job_is_told_once() {
    let found =
        |job: &str| errors(format!("project \"p\"\nimage \"a\" {{ }}\ncontainer \"db\" {{ image \"a\"; }}\n{job}").leak());
    for (job, wanted) in [
        (r#"job "db" { image "a"; }"#, r#"duplicate: the job "db" has the name of a container"#),
        (&*"job \"j\" { image \"a\"; }\n".repeat(2).leak(), r#"duplicate: there are two jobs named "j""#),
        (r#"job "j" { cmd "x"; }"#, "no-image: this job has no image"),
        (r#"job "j" { image "a"; publish 80; }"#, "unknown-node: `publish` is not known in `job`"),
        (r#"job "j" { image "a"; inputs "../x"; }"#, "outside: "),
        (r#"job "j" { image "a"; inputs; }"#, "missing-argument: `inputs` needs its path"),
        (r#"job "j" { image "a"; timeout "0s"; }"#, "wrong-value: no job is done in no time"),
        (
            r#"job "j" { image "a"; }
container "c" { image "a"; depends-on "j" until="healthy"; }"#,
            r#"until-of-job: "j" is a job"#,
        ),
        (
            r#"job "j" { image "a"; }
job "k" { image "a"; depends-on "j" until="started"; }"#,
            r#"until-of-job: "j" is a job"#,
        ),
        (
            r#"job "j" { image "a"; depends-on "k"; }
job "k" { image "a"; depends-on "j"; }"#,
            "cycle: a cycle of `depends-on`",
        ),
        (
            r#"job "j" { image "a"; }
task "j" { container "db"; cmd "x"; }"#,
            r#"duplicate: the task "j" has the name of a job"#,
        ),
        (r#"container "c" { image "a"; inputs "x"; }"#, "unknown-node: `inputs` is not known in `container`"),
    ] {
        let found = found(job);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{job}: {found:?}");
    }
}

#[test]
fn includes_are_read_and_circles_are_told() {
    let files = Files([("stead.kdl", "project \"p\"\ninclude \"d/b.kdl\""), ("d/b.kdl", "include \"../stead.kdl\"")].into());
    let loaded = load("stead.kdl", &Choices::default(), &files);
    assert!(loaded.diagnostics.iter().any(|found| found.code == "unreadable" || found.code == "include-cycle"));
    let files = Files([("stead.kdl", "project \"p\"\ninclude \"d/b.kdl\""), ("d/b.kdl", "volume \"v\"")].into());
    assert_eq!(load("stead.kdl", &Choices::default(), &files).project.unwrap().volumes.len(), 1);
}

/// The fuzzer found this: paths that grow with every include took minutes.
#[test]
fn the_path_of_an_include_has_an_end() {
    for (path, read) in [(format!("d/{}", "-/".repeat(4000)), 1), (format!("{}/b.kdl", "d".repeat(200)), 21)] {
        struct Same(String);
        impl Sources for Same {
            fn read(&self, _: &str) -> Result<String, String> {
                Ok(self.0.clone())
            }
            fn env(&self, _: &str) -> Option<std::ffi::OsString> {
                None
            }
        }
        let loaded = load("stead.kdl", &Choices::default(), &Same(format!("include \"{path}\"\n")));
        assert_eq!(loaded.files.len(), read);
        let found = &loaded.diagnostics[0];
        assert!(found.code == "wrong-value" && found.message.starts_with("a path has at most 4095 bytes"), "{found:?}");
    }
}

/// A default must not replace a value that was given but cannot be read.
#[test]
fn a_variable_that_is_no_text_is_told() {
    struct Bytes;
    impl Sources for Bytes {
        fn read(&self, _: &str) -> Result<String, String> {
            Ok("project \"p\"\nparam \"tag\" default=\"safe\" env=\"TAG\"\nvolume \"${tag}\"".to_owned())
        }
        fn env(&self, _: &str) -> Option<std::ffi::OsString> {
            use std::os::unix::ffi::OsStringExt;
            Some(std::ffi::OsString::from_vec(vec![b'a', 0xff]))
        }
    }
    let loaded = load("stead.kdl", &Choices::default(), &Bytes);
    let told = loaded.diagnostics.iter().find(|found| found.message.contains("is not text"));
    assert!(told.is_some_and(|told| told.message.contains("TAG") && told.place.line == 2), "{:?}", loaded.diagnostics);
}

#[test]
fn a_comment_changes_nothing() {
    let plain = read("project \"p\"\nvolume \"v\"").project;
    assert_eq!(plain, read("// hello\nproject \"p\"\n\n/* x */ volume \"v\" // y").project);
}

#[test]
fn deep_nesting_is_refused_before_parsing() {
    let deep: String = "a {".repeat(5000);
    let deep: &'static str = Box::leak(deep.into_boxed_str());
    assert!(errors(deep)[0].starts_with("too-deep"));
    assert!(errors("project \"p\"\nvolume \"{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{\"")[0].starts_with("wrong-value"));
}

#[test]
fn all_errors_come_at_once() {
    let found = errors(
        "project \"p\"\ncontaner \"a\"\nvolume \"B\"\nnetwork \"n\" internal=\"yes\"\ncontainer \"c\" { image 3; publish \"80:80\"; }",
    );
    assert!(found.len() >= 5, "{found:#?}");
}

#[test]
fn numbers_stay_as_they_are_written_where_a_text_is_meant() {
    let read = read(
        "project \"p\"\nimage \"i\" { env V=1.10 Z=007 X=0x1F E=1e3 M=-0.50; label v=2.0; }\n\
         container \"c\" { image \"i\"; env V=1.10 N=1_000 T=#true; cmd \"run\"; label z=08; replicas 2; limits { cpus 1.50; }; }",
    );
    let project = read.project.unwrap_or_else(|_| panic!("{:?}", read.diagnostics));
    let container = &project.containers["c"];
    let pairs = |all: &BTreeMap<String, String>| all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    assert_eq!(pairs(&container.env), ["N=1_000", "T=true", "V=1.10"]);
    assert_eq!(pairs(&container.labels), ["z=08"]);
    assert_eq!((container.replicas, container.limits.cpus), (2, Some(1.5)));
    let image = &project.images["i"];
    let Step::Env(env) = &image.steps[0] else { panic!("{:?}", image.steps) };
    assert_eq!(pairs(env), ["E=1e3", "M=-0.50", "V=1.10", "X=0x1F", "Z=007"]);
    assert_eq!(pairs(&image.labels), ["v=2.0"]);
    let read = super::tests::read("project \"p\"\nparam \"v\" default=1.10\nvolume \"a\" { label v=\"${v}\"; }");
    assert_eq!(pairs(&read.project.unwrap().volumes["a"].labels), ["v=1.10"]);
}

/// A value with an escaped `$${` is checked like any other: a limit must not be lost because of it.
#[test]
fn a_written_out_parameter_sign_is_no_way_past_the_grammar() {
    for (node, code) in [
        ("limits { memory \"$${256MiB\"; }", "wrong-value"),
        ("limits { pids \"$${5\"; }", "wrong-value"),
        ("stop-grace \"$${1s\"", "wrong-value"),
        ("hostname \"$${x\"", "wrong-value"),
        ("mount bind=\"a\" to=\"/a$${\\u{202e}\"", "wrong-value"),
    ] {
        let text: &'static str =
            Box::leak(format!("project \"p\"\nimage \"i\" {{}}\ncontainer \"c\" {{ image \"i\"; {node}; }}").into_boxed_str());
        let found = errors(text);
        assert!(found.iter().any(|found| found.starts_with(code)), "{node}: {found:?}");
    }
    assert!(errors("project \"p\"\nimage \"i\" { env A=\"$${B}\"; run \"echo $${B}\"; }").is_empty());
}

/// Where a text is expected, a number counts as the text that was written.
#[test]
fn numbers_are_told_as_they_are_written() {
    let told = read("project \"p\"\nimage \"i\" { from \"scratch\"; }\ncontainer \"c\" { image \"i\"; cmd \"x\" 1.10 007; }");
    let helps: Vec<_> = told.diagnostics.iter().filter_map(|found| found.help.clone()).collect();
    assert_eq!(helps, ["put it in quotes: \"1.10\"", "put it in quotes: \"007\""]);
}

/// The text in an editor has errors most of the time: the lines around an error must be understood anyway.
#[test]
fn what_is_right_is_understood_beside_what_is_wrong() {
    let text = "project \"p\"\nparam \"tag\" default=\"1\"\nimage \"a\" { run \"make\"; copy }\n\
                container \"web\" {\n  image \"a\"\n  publish 8080:80\n  env A=1\n  limits { memory \"1GiB\"; pids many }\n}\n\
                container \"db\" {\n  image \"a\"\n  replicas -1\n";
    let read = read(text);
    let project = read.project.expect_err("it has errors");
    assert_eq!((project.name.as_str(), project.containers.len(), project.images.len()), ("p", 2, 1));
    let web = &project.containers["web"];
    assert_eq!((web.env["A"].as_str(), web.limits.memory, web.limits.pids), ("1", Some(crate::model::Size::mib(1024)), None));
    let told: Vec<String> = read.diagnostics.iter().map(|found| format!("{} {}", found.place.line, found.code)).collect();
    // Missing and unknown things are not reported if they may be in a part that could not be read.
    assert_eq!(told, ["3 missing-argument", "3 missing-property", "6 syntax", "8 wrong-value", "12 wrong-value"]);
}

#[test]
fn every_byte_of_a_file_is_a_node_or_space_or_a_comment() {
    fn check(trees: &[tree::Tree], text: &str, within: std::ops::Range<usize>) {
        let mut from = within.start;
        for tree in trees {
            assert_eq!(&text[tree.place.offset..][..tree.place.length].trim_matches('"'), &tree.name);
            between(&text[from..tree.whole.start]);
            if let Some(block) = &tree.block {
                assert!(text[block.clone()].starts_with('{') && text[block.clone()].ends_with('}'), "{:?}", &text[block.clone()]);
                check(&tree.children, text, block.start + 1..block.end - 1);
            }
            for (name, entry) in &tree.props {
                let place = entry.name_place();
                assert_eq!(&text[place.offset..][..place.length], name);
            }
            from = tree.whole.end;
        }
        between(&text[from..within.end]);
    }
    /// Checks that there is nothing but space, comments, ends of nodes and parts behind `/-`.
    fn between(text: &str) {
        let plain = crate::model::kdl_text::recover(
            text,
            crate::model::kdl_text::Limits { nesting: 9, parts: 99 },
            &mut Default::default(),
        )
        .plain;
        assert!(plain.chars().all(|c| c.is_whitespace() || c == ';'), "{text:?}");
    }
    for text in [
        include_str!("testdata/design.kdl"),
        "// first\nproject \"p\" /* why */ // because\n/- volume \"x\"\n(t)volume \"v\" { label a=1; /* in */ }; network \"n\" internal=#true\n// last",
    ] {
        let mut sink = diagnose::Sink::default();
        let trees = tree::parse("stead.kdl", text, &mut sink);
        assert!(!sink.is_partial());
        check(&trees, text, 0..text.len());
    }
}

/// A default must be a value that users could write themselves.
#[test]
fn defaults_of_the_table_are_legal() {
    fn visit(rows: &'static [grammar::Node]) {
        for row in rows {
            let props = row.props.iter().filter_map(|prop| Some((prop.name, prop.kind, prop.default?)));
            let children = row.children.iter().filter_map(|child| Some((child.name, child.args.first()?.kind, child.default?)));
            for (name, kind, default) in props.chain(children) {
                let Some(value) = default.value() else { continue };
                let entry = tree::Entry { value, place: tree::Text::new("", "").place(0, 0), name: 0, written: None };
                assert!(grammar::fits(&entry, kind).is_ok(), "{} {name}: {default:?}", row.name);
            }
            visit(row.children);
        }
    }
    visit(language::TOP);
}

#[test]
fn what_is_not_said_is_what_the_table_says() {
    let text = "project \"p\"\nimage \"a\" { copy \"x\" to=\"/\"; }\ncontainer \"c\" { image \"a\"; healthcheck { http 80; }; publish 80; }";
    let project = read(text).project.unwrap();
    let said = "project \"p\"\nimage \"a\" { copy \"x\" to=\"/\" unpack=#false parents=#false docker=#false; squash #false; }\n\
                container \"c\" { image \"a\"; replicas 1; stop-grace \"10s\"; init #false; tty #false; log size=\"20MiB\" files=5; \
                limits { shm \"64MiB\"; }; security { read-only #false; }; restart \"no\" unhealthy=#false; \
                healthcheck interval=\"10s\" timeout=\"5s\" retries=3 start-period=\"0s\" start-interval=\"250ms\" { http 80 path=\"/\"; }; \
                publish 80 to=80 address=\"127.0.0.1\" protocol=\"tcp\"; }";
    assert_eq!(project, read(said).project.unwrap());
    let mut plain = project.containers["c"].clone();
    (plain.healthcheck, plain.publish) = (None, Vec::new());
    assert_eq!(container_of(plain.image.clone()), Some(plain));
    // Besides the report, a wrong value is replaced by the default.
    let wrong = read("project \"p\"\nimage \"a\" {}\ncontainer \"c\" { image \"a\"; replicas \"many\"; stop-grace 3; }")
        .project
        .unwrap_err();
    assert_eq!((wrong.containers["c"].replicas, wrong.containers["c"].stop_grace), (1, crate::model::Duration::seconds(10)));
}

/// Errors that only follow from a part that could not be read are not reported.
#[test]
fn one_mistake_is_one_finding() {
    for text in [
        "project \"p\"\ncontainer \"web\" {\n",
        "project \"p\"\nimage \"a\" {}\ncontainer \"c\" { image \"a\"\n limits {\n memory 1GB\n swap \"0B\"\n } }",
        "project \"p\"\nparam \"t\" default=1x\nvolume \"${t}\"",
        "project \"p\"\nconfig \"c\" file=a[",
    ] {
        let kinds: std::collections::BTreeSet<String> =
            errors(text).iter().map(|found| found.split(':').next().unwrap_or_default().to_owned()).collect();
        assert!(kinds.iter().all(|kind| kind == "syntax" || kind == "bare-keyword"), "{text:?}: {kinds:?}");
    }
}

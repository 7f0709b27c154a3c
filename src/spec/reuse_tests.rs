//! What a project file takes from elsewhere: includes, templates, profiles, further files and parameters.

use super::*;
use crate::project::{ConfigSource, MountSource, ParamSource, Step};

/// Files, an environment and an `.env` that exist in memory only.
#[derive(Default, Clone)]
struct Host {
    files: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
    choices: Choices,
}

impl Sources for Host {
    fn read(&self, path: &str) -> Result<String, String> {
        self.files.get(&tidy(path)).cloned().ok_or_else(|| "there is no such file".into())
    }

    fn env(&self, name: &str) -> Option<std::ffi::OsString> {
        self.env.get(name).map(Into::into)
    }

    fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        if self.settings.contains_key("damaged") { Err("line 1: no".into()) } else { Ok(self.settings.clone()) }
    }
}

fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        Self { files: pairs(files), ..Self::default() }
    }

    /// A project with this text after its name, an image and whatever else every one needs.
    fn of(text: &str) -> Self {
        Self::new(&[("stead.kdl", &format!("project \"p\"\nimage \"a\" {{ }}\n{text}"))])
    }

    fn profiles(mut self, names: &[&str]) -> Self {
        self.choices.profiles = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn load(&self) -> Loaded {
        load("stead.kdl", &self.choices, self)
    }

    fn project(&self) -> Project {
        let loaded = self.load();
        loaded.project.unwrap_or_else(|_| panic!("{:#?}", loaded.diagnostics))
    }

    /// The findings, each with its code, message, line and the line of its second place.
    fn found(&self) -> Vec<String> {
        let line = |found: &Diagnostic| {
            let other = found.other.as_ref().map_or_else(String::new, |(place, _)| format!(" & {place}"));
            format!("{}: {} @ {}{other}", found.code, found.message, found.place)
        };
        self.load().diagnostics.iter().map(line).collect()
    }

    fn resolved(&self) -> String {
        resolved("stead.kdl", &self.choices, self, Origins::Hidden).0
    }
}

#[track_caller]
fn only(host: &Host, wanted: &str) {
    let found = host.found();
    assert!(found.len() == 1 && found[0].starts_with(wanted), "{wanted}\n{found:#?}");
}

#[test]
fn paths_are_relative_to_the_file_that_they_are_written_in() {
    let host = Host::new(&[
        ("stead.kdl", "project \"p\"\ninclude \"parts/web.kdl\"\nparam \"here\" default=\"conf\"\n"),
        (
            "parts/web.kdl",
            r#"param "data" default="data"
image "web" { copy "app/" "../shared.txt" to="/srv"; copy "x" from="other" to="/x"; copy "." context="sources" to="/y"; }
image "other" { dockerfile "Dockerfile"; }
image "old" { from archive="images/old.tar"; }
secret "key" file="key"
config "motd" file="/etc/motd"
container "web" {
    image "web"; env-file "web.env"; env-file "${here}.env"
    mount bind="${data}" to="/data"; mount bind="/srv" to="/srv2"; mount bind="../top" to="/top"
    security { seccomp "filter.json"; }; secret "key"; config "motd"; workdir "/srv"
    watch { sync "app/" to="/srv"; ignore "*.log" "build/out"; }
}
container "plain" { image "web"; security { seccomp "unconfined"; } }
job "seed" { image "web"; inputs "seed/"; }"#,
        ),
        ("parts/Dockerfile", "FROM scratch\n"),
    ]);
    let project = host.project();
    let web = &project.containers["web"];
    let sources = |step: usize| match &project.images["web"].steps[step] {
        Step::Copy(copy) => (copy.sources.join(" "), copy.context.as_ref().map(|context| context.folder.clone())),
        other => panic!("{other:?}"),
    };
    assert_eq!(sources(0), ("parts/app/ shared.txt".to_owned(), None));
    assert_eq!(sources(1), ("x".to_owned(), None), "a path of an image");
    assert_eq!(sources(2), (".".to_owned(), Some("parts/sources".to_owned())));
    let env: Vec<&str> = web.env_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(env, ["parts/web.env", "conf.env"], "a value is relative to the file that it is written in");
    let binds: Vec<&str> = web
        .mounts
        .iter()
        .filter_map(|mount| if let MountSource::Bind(path) = &mount.source { Some(path.as_str()) } else { None })
        .collect();
    assert_eq!(binds, ["parts/data", "/srv", "top"]);
    assert_eq!(web.security.seccomp.as_deref(), Some("parts/filter.json"));
    assert_eq!(project.containers["plain"].security.seccomp.as_deref(), Some("unconfined"));
    let watch = web.watch.as_ref().unwrap();
    assert_eq!(
        (watch.rules[0].path.trim_end_matches('/'), watch.ignore.join(" ").as_str()),
        ("parts/app", "*.log parts/build/out")
    );
    assert_eq!(project.secrets["key"], "parts/key");
    assert_eq!(project.configs["motd"], ConfigSource::File("/etc/motd".into()));
    assert_eq!(project.containers["seed"].job.as_ref().unwrap().inputs, ["parts/seed"]);
    assert_eq!(web.workdir.as_deref(), Some("/srv"));
}

#[test]
fn what_leads_out_of_the_project_still_does() {
    let host = Host::new(&[
        ("stead.kdl", "project \"p\"\ninclude \"d/x.kdl\"\n"),
        ("d/x.kdl", "image \"a\" { }\njob \"j\" { image \"a\"; inputs \"../../x\"; }"),
    ]);
    only(&host, "outside: \"../x\" leads out of the project's directory @ d/x.kdl:2");
}

#[test]
fn a_circle_of_includes_has_both_places() {
    let host = Host::new(&[
        ("stead.kdl", "project \"p\"\ninclude \"d/b.kdl\""),
        ("d/b.kdl", "volume \"v\"\ninclude \"c.kdl\""),
        ("d/c.kdl", "\n\ninclude \"b.kdl\""),
    ]);
    only(&host, "include-cycle: `d/b.kdl` includes itself: d/b.kdl → d/c.kdl → d/b.kdl @ d/c.kdl:3 & d/b.kdl:2");
    only(&Host::of("include \"${x}.kdl\""), "wrong-value: files are included before parameters have values");
}

const SERVICE: &str = r#"template "service" {
    param "port" type="port"
    param "level" default="info" { values "info" "debug"; }
    image "a"
    publish "${port}" to=80
    env LEVEL="${level}" MODE="${mode}" KEEP=1
    healthcheck interval="9s" { http 80; }
    limits { pids 50; memory "64MiB"; }
}
param "mode" default="dev"
"#;

#[test]
fn a_template_is_the_default_of_its_users() {
    let host = Host::of(&format!(
        "{SERVICE}container \"web\" template=\"service\" {{ with port=8080; env MODE=\"own\" MORE=2; limits {{ pids 9; }} }}\n\
         container \"api\" template=\"service\" {{ with port=\"${{at}}\" level=\"debug\"; healthcheck {{ tcp 80; }}; unset \"env.KEEP\" \"limits.memory\"; }}\n\
         param \"at\" default=9000"
    ));
    let project = host.project();
    let (web, api) = (&project.containers["web"], &project.containers["api"]);
    assert_eq!((web.publish[0].host, api.publish[0].host), ((8080, 8080), (9000, 9000)));
    assert_eq!(web.env, pairs(&[("LEVEL", "info"), ("MODE", "own"), ("KEEP", "1"), ("MORE", "2")]));
    assert_eq!(api.env, pairs(&[("LEVEL", "debug"), ("MODE", "dev")]));
    assert_eq!((web.limits.pids, web.limits.memory.is_some()), (Some(9), true));
    assert_eq!((api.limits.pids, api.limits.memory.is_some()), (Some(50), false));
    let health = |one: &crate::project::Container| format!("{:?}", one.healthcheck.as_ref().unwrap().probe);
    assert!(health(web).contains("Http") && health(api).contains("Tcp"));
    assert_eq!(api.healthcheck.as_ref().unwrap().interval, crate::model::Duration::seconds(9));
}

#[test]
fn a_template_may_start_from_another_and_serve_a_job() {
    let host = Host::of(
        r#"template "base" { param "who"; image "a"; env WHO="${who}" A=1; }
template "worker" template="base" { param "name" default="nobody"; with who="the ${name}"; env B=2; unset "env.A"; }
container "w" template="worker" { with name="smith"; }
job "j" template="worker" { cmd "run"; }"#,
    );
    let project = host.project();
    assert_eq!(project.containers["w"].env, pairs(&[("WHO", "the smith"), ("B", "2")]));
    assert_eq!(project.containers["j"].env, pairs(&[("WHO", "the nobody"), ("B", "2")]));
    assert!(project.containers["j"].job.is_some());
}

#[test]
fn what_is_wrong_with_templates_has_both_places() {
    let with = |user: &str| Host::of(&format!("{SERVICE}{user}"));
    only(
        &with("container \"w\" template=\"service\""),
        "param-without-value: the template \"service\" needs a value of its parameter \"port\" @ stead.kdl:13 & stead.kdl:4",
    );
    only(
        &with("container \"w\" template=\"service\" { with port=\"http\" }"),
        "param-value: the parameter \"port\" is a port from 1 to 65535, and this value is not @ stead.kdl:13 & stead.kdl:4",
    );
    only(
        &with("container \"w\" template=\"service\" { with port=1 level=\"inf\" }"),
        "param-value: the parameter \"level\" is one of \"info\", \"debug\", and this value is not @ stead.kdl:13 & stead.kdl:5",
    );
    only(
        &with("container \"w\" template=\"service\" { with port=1 lvel=\"info\" }"),
        "unknown-param: the template \"service\" has no parameter \"lvel\" @ stead.kdl:13 & stead.kdl:3",
    );
    only(&with("container \"w\" template=\"servce\" { image \"a\" }"), "unknown-name: there is no template \"servce\"");
    only(&with("container \"w\" { image \"a\"; with port=1 }"), "with: `with` gives values to a template");
    let found = with("job \"j\" template=\"service\" { with port=1 }").found();
    let wanted = "unknown-node: `publish` of the template \"service\" is not known in `job` @ stead.kdl:7 & stead.kdl:13";
    assert!(found.len() == 2 && found[0] == wanted, "the health check, too: {found:#?}");
}

#[test]
fn an_error_in_a_template_says_where_it_is_used() {
    let host = Host::new(&[
        ("stead.kdl", "project \"p\"\ninclude \"t.kdl\"\ncontainer \"w\" template=\"t\" { with user=\"1x\" }\n"),
        ("t.kdl", "image \"a\" { }\ntemplate \"t\" {\n    param \"user\"\n    image \"a\"\n    user \"${user}\"\n}"),
    ]);
    only(&host, "wrong-value: \"1x\" is not a user @ t.kdl:5 & stead.kdl:3");
    let host = Host::of("template \"t\" {\n    image \"a\"\n    env X=\"${nothing}\"\n}\ncontainer \"w\" template=\"t\"");
    only(&host, "unknown-param: there is no parameter \"nothing\" @ stead.kdl:5 & stead.kdl:7");
}

#[test]
fn templates_that_use_themselves_are_told_once() {
    let host = Host::of(
        "template \"x\" template=\"y\"\ntemplate \"y\" template=\"x\"\ntemplate \"z\" template=\"x\"\n\
         container \"c\" template=\"z\" { image \"a\" }",
    );
    only(&host, "template-cycle: the template \"x\" uses itself: x → y → x @ stead.kdl:4 & stead.kdl:3");
    only(&Host::of("template \"x\" template=\"x\""), "template-cycle: the template \"x\" uses itself: x → x");
    let chain: String = (0..40).map(|n| format!("template \"t{n}\" template=\"t{}\"\n", n + 1)).collect();
    only(&Host::of(&format!("{chain}template \"t40\"\n")), "template-depth: more than 16 templates use each other in a row");
    only(&Host::of("template \"x\"\ntemplate \"x\""), "duplicate: there are two templates named \"x\"");
}

/// A short file must not become a huge project.
#[test]
fn templates_do_not_multiply_without_end() {
    let nodes: String = (0..2000).map(|n| format!("env A{n}=1\n")).collect();
    let users: String = (0..2000).map(|n| format!("container \"c{n}\" template=\"t\" {{ image \"a\" }}\n")).collect();
    let found = Host::of(&format!("template \"t\" {{ {nodes} }}\n{users}")).found();
    assert!(found.iter().any(|found| found.starts_with("too-many-nodes: templates put more than")), "{:?}", found.first());
}

const LAYERS: &str = r#"container "web" { image "a"; replicas 3; env A=1 B=1 C=1; publish 80; publish 81; mount bind="/x" to="/x"; mount bind="/y" to="/y"; }
profile "ci" { container "web" { replicas 1; env A="ci"; unset "env.B" "publish.80" "mount./x"; } }
profile "fast" { container "web" { replicas 2; env A="fast"; } }
profile "lean" { unset "container.web"; container "other" { image "a"; } }
"#;

#[test]
fn profiles_count_in_the_order_in_which_they_are_named() {
    let web = |names: &[&str]| Host::of(LAYERS).profiles(names).project().containers["web"].clone();
    let one = web(&["ci", "fast"]);
    assert_eq!((one.replicas, one.env), (2, pairs(&[("A", "fast"), ("C", "1")])));
    let two = web(&["fast", "ci"]);
    assert_eq!((two.replicas, two.env), (1, pairs(&[("A", "ci"), ("C", "1")])));
    assert_eq!((two.publish.len(), two.publish[0].host, two.mounts.len()), (1, (81, 81), 1));
    assert_eq!(web(&["ci", "fast", "ci"]).replicas, 1, "the last of a name counts");
    let lean = Host::of(LAYERS).profiles(&["lean"]).project();
    assert_eq!(lean.containers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn profiles_that_say_different_things_are_told_with_both_places() {
    let found = Host::of(LAYERS).profiles(&["ci", "fast"]).found();
    assert_eq!(
        found,
        [
            "profiles-differ: the profiles \"ci\" and \"fast\" give different values to `replicas` @ stead.kdl:5 & stead.kdl:4",
            "profiles-differ: the profiles \"ci\" and \"fast\" give different values to `A` @ stead.kdl:5 & stead.kdl:4",
        ]
    );
    assert_eq!(Host::of(LAYERS).profiles(&["fast"]).found(), Vec::<String>::new());
}

#[test]
fn unset_takes_out_what_is_there_and_nothing_else() {
    for path in ["env.Z", "env.", "publish.82", "mount", "nothing", "env.B.C"] {
        let text = LAYERS.replace("mount bind=\"/x\" to=\"/x\"; mount bind=\"/y\" to=\"/y\";", "").replace("\"mount./x\"", "");
        let host = Host::of(&text.replace("\"publish.80\"", &format!("\"{path}\""))).profiles(&["ci"]);
        only(&host, &format!("nothing-to-unset: there is no \"{path}\" to take out @ stead.kdl:4"));
    }
    only(&Host::of("unset \"volume.x\""), "nothing-to-unset: ");
    only(&Host::of("container \"c\" { image \"a\"; env X=1; unset \"env.X\" }"), "nothing-to-unset: ");
    // What a template says, and two profiles take out.
    let host = Host::of(
        "template \"t\" { image \"a\"; env X=1 Y=1; }\ncontainer \"c\" template=\"t\"\n\
         profile \"one\" { container \"c\" { unset \"env.X\" } }\nprofile \"two\" { container \"c\" { unset \"env.X\"; env X=2 } }",
    );
    assert_eq!(host.clone().profiles(&["one", "two"]).project().containers["c"].env, pairs(&[("X", "2"), ("Y", "1")]));
    assert_eq!(host.profiles(&["one"]).project().containers["c"].env, pairs(&[("Y", "1")]));
}

#[test]
fn a_profile_changes_templates_and_defaults() {
    let host = Host::of(
        "param \"n\" type=\"integer\" default=1\ntemplate \"t\" { image \"a\"; replicas \"${n}\"; }\ncontainer \"c\" template=\"t\"\n\
         profile \"more\" { param \"n\" default=3; template \"t\" { env X=1; } }",
    );
    let more = host.clone().profiles(&["more"]).project();
    assert_eq!((more.containers["c"].replicas, more.containers["c"].env.len()), (3, 1));
    assert_eq!(host.project().containers["c"].replicas, 1);
}

#[test]
fn later_files_lie_over_earlier_ones() {
    let mut host = Host::of("container \"web\" { image \"a\"; replicas 3; env A=1; env-file \"a.env\"; }");
    host.files.insert(
        "over/ci.kdl".into(),
        "project \"q\"\ncontainer \"web\" { replicas 1; env B=2; env-file \"b.env\"; }\nvolume \"v\"".into(),
    );
    host.files.insert("last.kdl".into(), "unset \"volume.v\"\ncontainer \"web\" { replicas 2; }".into());
    host.choices.files = vec!["over/ci.kdl".into()];
    let one = host.project();
    let web = &one.containers["web"];
    assert_eq!((one.name.as_str(), web.replicas, web.env.len(), one.volumes.len()), ("q", 1, 2, 1));
    let paths: Vec<&str> = web.env_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.env", "over/b.env"]);
    host.choices.files.push("last.kdl".into());
    let two = host.project();
    assert_eq!((two.containers["web"].replicas, two.volumes.len()), (2, 0));
    host.choices.files.push("absent.kdl".into());
    assert!(host.found()[0].starts_with("unreadable: cannot read `absent.kdl`"), "{:?}", host.found());
}

#[test]
fn a_parameter_has_a_type() {
    for (kind, right, wrong) in [
        ("integer", "-3", "3.5"),
        ("boolean", "true", "yes"),
        ("size", "256MiB", "256"),
        ("duration", "30s", "30"),
        ("port", "8080", "70000"),
        ("string", "anything", "\0"),
    ] {
        let mut host = Host::of(&format!(
            "param \"x\" type=\"{kind}\" env=\"X\" default=\"{right}\"\nconfig \"c\" {{ content \"${{x}}\" }}"
        ));
        assert_eq!(host.project().configs["c"], ConfigSource::Content(right.into()), "{kind}");
        host.env = pairs(&[("X", wrong)]);
        let found = host.found();
        assert!(found.len() == 1 && found[0].contains("and the variable X of the environment is not"), "{kind}: {found:?}");
        assert!(wrong.len() < 4 || !found[0].contains(wrong), "a value from outside is not shown: {found:?}");
    }
    let numbers = Host::of("param \"x\" type=\"integer\" default=0x10\ncontainer \"c\" { image \"a\"; replicas \"${x}\"; }");
    assert_eq!(numbers.project().containers["c"].replicas, 16);
    only(&Host::of("param \"x\" type=\"size\" default=3"), "param-value: the parameter \"x\" is a size such as \"256MiB\"");
    only(
        &Host::of("param \"x\" default=\"c\" { values \"a\" \"b\" }"),
        "param-value: the parameter \"x\" is one of \"a\", \"b\"",
    );
    only(&Host::of("param \"x\" type=\"prot\" default=1"), "wrong-value: `type`: one of");
}

#[test]
fn a_value_comes_from_the_command_line_the_environment_env_or_the_default() {
    let mut host =
        Host::of("param \"x\" env=\"X\" default=\"d\"\nparam \"own\" default=\"o\"\nconfig \"c\" { content \"${x}${own}\" }");
    let value = |host: &Host| (host.project().configs["c"].clone(), host.project().parameters["x"].clone());
    let said = |text: &str, source: ParamSource| (ConfigSource::Content(text.into()), source);
    assert_eq!(value(&host), said("do", ParamSource::Default));
    host.settings = pairs(&[("X", "s"), ("own", "no"), ("OWN", "no")]);
    assert_eq!(value(&host), said("so", ParamSource::Settings("X".into())));
    assert_eq!(host.project().private(), [("X".to_owned(), "s".to_owned())]);
    host.env = pairs(&[("X", "e"), ("own", "no")]);
    assert_eq!(value(&host), said("eo", ParamSource::Environment("X".into())));
    host.choices.set = pairs(&[("x", "c")]);
    assert_eq!(value(&host), said("co", ParamSource::Set));
    // A damaged file is no absent one, and one that nobody asks for is not read.
    let mut host = Host::of("param \"x\" env=\"X\" default=\"d\"");
    host.settings = pairs(&[("damaged", "")]);
    only(&host, "unreadable: cannot read `.env`: line 1: no @ stead.kdl:3");
    host.env = pairs(&[("X", "e")]);
    assert_eq!(host.found(), Vec::<String>::new());
    assert_eq!(host.load().settings.len(), 0);
}

#[test]
fn a_text_may_say_what_counts_without_a_value() {
    let text = "param \"x\" env=\"X\"\nconfig \"c\" { content \"<${x:-none}>\" }\nconfig \"d\" { content \"$${x:-y}\" }";
    let mut host = Host::of(text);
    assert_eq!(host.project().configs["c"], ConfigSource::Content("<none>".into()));
    assert_eq!(host.project().configs["d"], ConfigSource::Content("${x:-y}".into()));
    host.env = pairs(&[("X", "")]);
    assert_eq!(host.project().configs["c"], ConfigSource::Content("<none>".into()), "as in a shell");
    host.env = pairs(&[("X", "v")]);
    assert_eq!(host.project().configs["c"], ConfigSource::Content("<v>".into()));
    only(
        &Host::of(&format!("{text}\nconfig \"e\" {{ content \"${{x}}\" }}")),
        "param-without-value: the parameter \"x\" has no value @ stead.kdl:3 & stead.kdl:6",
    );
    let loaded = Host::of("volume \"v\" { label a=\"${HOME:-x}\" }").load();
    assert!(loaded.diagnostics[0].help.as_ref().unwrap().contains("param \"home\" env=\"HOME\""), "{:?}", loaded.diagnostics);
}

#[test]
fn a_private_value_is_in_no_message() {
    let mut host =
        Host::of("param \"pw\" env=\"PW\"\ncontainer \"c\" { image \"a\"; stop-grace \"${pw}\"; limits { memory \"${pw}\"; } }");
    host.settings = pairs(&[("PW", "hunter2!")]);
    let loaded = host.load();
    assert_eq!(loaded.diagnostics.len(), 2);
    assert!(!format!("{:?}", loaded.diagnostics).contains("hunter2"), "{:?}", loaded.diagnostics);
}

/// A project with everything that this file is about.
fn everything() -> Host {
    let mut host = Host::new(&[
        (
            "stead.kdl",
            "project \"p\"\ninclude \"lib/service.kdl\"\nparam \"port\" type=\"port\" env=\"PORT\" default=8080\nparam \"pw\" env=\"PW\" default=\"x\"\n\
             container \"web\" template=\"service\" { with port=\"${port}\" name=\"${pw}\"; env API_TOKEN=\"abc\"; label \"a b\"=1.10 }\n\
             profile \"ci\" { container \"web\" { unset \"env.DEBUG\"; replicas 2 }; container \"more\" { image \"app\" } }\n\
             profile \"off\" { network \"n\"; container \"gone\" { image \"app\" } }",
        ),
        (
            "lib/service.kdl",
            "image \"app\" { copy \"app/\" to=\"/srv\"; run \"echo $${HOME}\" }\n\
             template \"service\" {\n param \"port\" type=\"port\"\n param \"name\"\n image \"app\"\n publish \"${port}\" to=80\n\
             env DEBUG=1 NAME=\"${name}\"\n healthcheck { http 80 }\n}",
        ),
        ("over.kdl", "container \"web\" { label over=\"yes\\nno\" }"),
    ]);
    host.settings = pairs(&[("PW", "hunter2!")]);
    host.choices.files = vec!["over.kdl".into()];
    host.profiles(&["ci"])
}

#[test]
fn what_is_resolved_is_a_project_file_that_says_the_same() {
    let host = everything();
    let text = host.resolved().replace("\"…\"", "\"abc\"");
    let again = Host::new(&[("stead.kdl", &text)]).project();
    let plain = |project: Project| Project {
        variables: BTreeMap::new(),
        settings: BTreeMap::new(),
        parameters: BTreeMap::new(),
        unchosen: crate::project::Unchosen::default(),
        ..project
    };
    assert_eq!(plain(again), plain(host.project()), "{text}");
    assert!(host.resolved().contains("API_TOKEN=\"…\""), "{}", host.resolved());
    let (text, _) = resolved("stead.kdl", &host.choices, &host, Origins::Shown);
    for line in [
        "// profiles: ci",
        "// the parameter pw has its value from PW in .env",
        "// the parameter port has its value from its default",
        "    copy \"lib/app/\" to=\"/srv\" // lib/service.kdl:1",
        "    publish 8080 to=80 // lib/service.kdl:6",
        "    replicas 2 // stead.kdl:6",
        "container \"web\" { // stead.kdl:5",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_only_other_profiles_have_is_known() {
    let loaded = everything().load();
    let project = loaded.project.unwrap();
    assert_eq!(
        project.unchosen.containers.iter().map(|(name, profile)| format!("{name} {profile}")).collect::<Vec<_>>(),
        ["gone off"]
    );
    assert_eq!(project.unchosen.networks.len(), 1);
    let none = everything().profiles(&[]).project();
    assert_eq!(none.unchosen.containers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["gone", "more"]);
}

/// Nothing in it depends on an order in memory, a clock or the machine.
#[test]
fn reading_a_project_is_the_same_in_a_hundred_runs() {
    let host = everything();
    let all = |host: &Host| {
        let Loaded { project, places, diagnostics, unsupported, files, env, settings, outside } = host.load();
        let project = serde_json::to_string(&project.unwrap()).unwrap();
        format!("{project}{places:?}{diagnostics:?}{unsupported:?}{files:?}{env:?}{settings:?}{outside:?}{}", host.resolved())
    };
    let first = all(&host);
    assert!((0..100).all(|_| all(&host) == first));
}

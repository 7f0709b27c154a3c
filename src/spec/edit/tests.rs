//! What changes in a text, and that nothing else does.

use super::*;

fn texts(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("stead.kdl".to_owned(), text.to_owned())])
}

fn words(values: &str) -> Vec<String> {
    values.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text after `set`, or the error with its advice.
fn changed(text: &str, path: &str, values: &str) -> String {
    match set(&texts(text), path, &words(values)) {
        Ok(edit) => edit.text,
        Err(error) => format!("{}; {}", error.message(), error.advice().unwrap_or_default()),
    }
}

const SHOP: &str = r##"project "shop" // the shop

image "web" {
    debian "bookworm" { package "nginx-light" }   // small
    workdir #"/srv"#
}
container "web" {   /* in front */
  image "web"
  replicas   2      // two
  publish 8080 to = /* why */ 80
  publish 9090 to=90;
  env A=1 B="x"
  limits { memory "64MiB"; }
  cmd "nginx" /- "old" "-g" \
    "daemon off;"
  // the end
}
volume "data"
param "title" default="x"
profile "ci" { container "web" { replicas 1 } }
"##;

#[test]
fn a_value_changes_and_all_else_stays() {
    for (path, values, from, to) in [
        ("web.replicas", "3", "replicas   2 ", "replicas   3 "),
        ("container.web.replicas", "3", "replicas   2 ", "replicas   3 "),
        ("web.publish.8080.to", "81", "to = /* why */ 80", "to = /* why */ 81"),
        ("web.publish.9090.address", "0.0.0.0", "to=90;", "to=90 address=\"0.0.0.0\";"),
        ("web.env.B", "y", "B=\"x\"", "B=\"y\""),
        ("web.env.NEW.x", "1", "B=\"x\"", "B=\"x\" NEW.x=\"1\""),
        ("web.limits.memory", "1GiB", "\"64MiB\"; }", "\"1GiB\"; }"),
        ("web.limits.pids", "50", "\"64MiB\"; }", "\"64MiB\"; pids 50; }"),
        ("web.cmd", "nginx -g", "    \"daemon off;\"", ""),
        ("web.cmd", "nginx -g x y", "\"daemon off;\"", "\"x\" \"y\""),
        ("web.tty", "true", "  // the end\n", "  // the end\n  tty #true\n"),
        ("web.healthcheck.http", "80", "  // the end\n", "  // the end\n  healthcheck { http 80 }\n"),
        ("web.restart", "always", "  // the end\n", "  // the end\n  restart \"always\"\n"),
        ("web.debian.package", "nginx", "\"nginx-light\"", "\"nginx\""),
        ("image.web.workdir", "/app", "#\"/srv\"#", "\"/app\""),
        ("data.label.a b", "1", "volume \"data\"", "volume \"data\" {\n    label \"a b\"=\"1\"\n}"),
        ("title.default", "y", "default=\"x\"", "default=\"y\""),
        ("project", "store", "\"shop\" //", "\"store\" //"),
        ("ci.web.replicas", "4", "replicas 1 }", "replicas 4 }"),
        ("ci.web.init", "true", "replicas 1 }", "replicas 1; init #true }"),
    ] {
        assert_eq!(changed(SHOP, path, values), SHOP.replacen(from, to, 1), "{path} {values}");
    }
    // What it says already is not written anew.
    for (path, values) in
        [("web.replicas", "2"), ("web.env.A", "1"), ("image.web.workdir", "/srv"), ("web.limits.memory", "64MiB")]
    {
        assert_eq!(changed(SHOP, path, values), SHOP, "{path}");
    }
    let windows = SHOP.replace('\n', "\r\n");
    assert_eq!(changed(&windows, "web.tty", "true"), windows.replace("// the end\r\n", "// the end\r\n  tty #true\r\n"));
}

#[test]
fn a_node_goes_where_its_block_puts_it() {
    for (text, want) in [
        ("container \"c\"", "container \"c\" {\n    tty #true\n}"),
        ("container \"c\" // x", "container \"c\" {\n    tty #true\n} // x"),
        ("container \"c\" {}", "container \"c\" {\n    tty #true\n}"),
        ("container \"c\" { image \"a\" }", "container \"c\" { image \"a\"; tty #true }"),
        ("container \"c\" {image \"a\";}", "container \"c\" {image \"a\"; tty #true; }"),
        ("container \"c\" { /* x */ }", "container \"c\" { /* x */\n    tty #true\n}"),
        ("container \"c\" { /- image \"a\" /* x */ }", "container \"c\" { /- image \"a\" /* x */; tty #true }"),
        ("container \"c\" {\n\timage \"a\"\n}", "container \"c\" {\n\timage \"a\"\n\ttty #true\n}"),
        ("container \"c\" {\n  image \"a\" }", "container \"c\" {\n  image \"a\"\n  tty #true\n}"),
        ("container \"c\" {\n  image \\\n  \"a\" \\\n}", "container \"c\" {\n  image \\\n  \"a\" \\\n\n  tty #true\n}"),
        ("container \"c\" {\n  /- image {\n  }\n}", "container \"c\" {\n  /- image {\n  }\n    tty #true\n}"),
    ] {
        assert_eq!(changed(text, "c.tty", "true"), want, "{text:?}");
        let mut sink = crate::spec::diagnose::Sink::default();
        let trees = parse("x", want, &mut sink);
        let last = trees[0].children.last().map(|child| (child.name.as_str(), child.args.len()));
        assert_eq!((trees.len(), last, sink.all().len()), (1, Some(("tty", 1)), 0), "{want}");
    }
}

#[test]
fn what_is_not_understood_is_told() {
    for (path, values, want) in [
        ("wed.replicas", "3", "nothing in the project's files has the name \"wed\"; write web.replicas"),
        ("web.replica", "3", "`container` \"web\" has no `replica`; write replicas"),
        ("web.memory", "1GiB", "has no `memory`; it belongs to `limits`: write limits.memory"),
        ("web.replicas", "many", "replicas many: a whole number was expected"),
        ("web.replicas", "1 2", "`replicas` does not take 2 values"),
        ("web.limits.memory", "512m", "\"512MiB\""),
        ("web.publish.to", "1", "there are several `publish`, and it is not said which is meant; name one: publish.8080"),
        ("web", "x", "it is not said what of it is changed"),
        ("web.env", "x", "write env.NAME"),
        ("web.restart.max", "many", "a whole number was expected"),
        ("shop.x", "1", "nothing in the project's files has the name \"shop\""),
    ] {
        let found = changed(SHOP, path, values);
        assert!(found.contains(want), "{path}: {found}");
    }
}

#[test]
fn a_node_of_an_included_file_is_changed_there() {
    let mut files = texts("project \"p\"\ninclude \"db/db.kdl\"\n");
    files.insert("db/db.kdl".to_owned(), "container \"db\" { image \"a\"; }\n".to_owned());
    let edit = set(&files, "db.replicas", &words("2")).unwrap();
    assert_eq!((edit.file.as_str(), edit.text.as_str()), ("db/db.kdl", "container \"db\" { image \"a\"; replicas 2; }\n"));
}

#[test]
fn a_container_is_written_at_the_end() {
    let wanted = NewContainer {
        name: "cache".into(),
        image: "docker.io/library/redis:7".into(),
        publish: words("6379 127.0.0.2:80:8080/udp"),
        env: words("A=b=c"),
        networks: words("back"),
        after: words("web"),
        command: words("redis-server --port 6379"),
    };
    let added = |text: &str, wanted: &NewContainer| add_container(&texts(text), "stead.kdl", wanted);
    let lines = [
        "container \"cache\" {",
        "    image \"docker.io/library/redis:7\"",
        "    publish 6379",
        "    publish 80 to=8080 address=\"127.0.0.2\" protocol=\"udp\"",
        "    env A=\"b=c\"",
        "    network \"back\"",
        "    cmd \"redis-server\" \"--port\" \"6379\"",
        "    depends-on \"web\"",
        "}\n",
    ]
    .join("\n");
    assert_eq!(added("project \"p\"\n\n\n", &wanted).unwrap().text, format!("project \"p\"\n\n{lines}"));
    assert_eq!(added("project \"p\" \\", &wanted).unwrap().text, format!("project \"p\" \\\n\n{lines}"));
    assert_eq!(crate::spec::format(&lines), Some(lines), "it has the format already");
    let wrong = |change: &dyn Fn(&mut NewContainer)| {
        let mut wanted = wanted.clone();
        change(&mut wanted);
        added(SHOP, &wanted).unwrap_err().to_string()
    };
    assert!(wrong(&|wanted| wanted.name = "web".into()).contains("there is a container \"web\" already"));
    assert!(wrong(&|wanted| wanted.name = "Web".into()).contains("lowercase"));
    assert!(wrong(&|wanted| wanted.publish = words("x:80")).contains("a port from 1 to 65535"));
    assert!(wrong(&|wanted| wanted.env = words("A")).contains("NAME=VALUE"));
}

#[test]
fn packages_join_those_that_are_there() {
    let added = |text: &str, suite: Option<&str>, names: &str| {
        add_packages(&texts(text), "web", suite, &words(names)).map(|edit| edit.text).map_err(|error| error.to_string())
    };
    let with = |nodes: &str| format!("image \"web\" {{ {nodes} }}");
    let one = with("debian \"bookworm\" { package \"a\" }");
    assert_eq!(added(&one, None, "a b a b").unwrap(), with("debian \"bookworm\" { package \"a\" \"b\" }"));
    assert_eq!(added(&one, None, "a").unwrap(), one);
    let several = with("debian \"bookworm\" { package \"a\" version=\"1*\"; }");
    assert_eq!(added(&several, None, "b").unwrap(), with("debian \"bookworm\" { package \"a\" version=\"1*\"; package \"b\"; }"));
    let two = with("debian \"bookworm\"; debian \"sid\"");
    assert!(added(&two, None, "b").unwrap_err().contains("which `debian`"));
    assert_eq!(added(&two, Some("sid"), "b").unwrap(), with("debian \"bookworm\"; debian \"sid\" { package \"b\" }"));
    assert!(added(&with("from \"x\""), None, "b").unwrap_err().contains("no Debian packages"));
    assert!(added(SHOP, Some("sid"), "b").unwrap_err().contains("which `debian`"));
    assert!(added("project \"p\"", None, "b").unwrap_err().contains("there is no `image \"web\"`"));
}

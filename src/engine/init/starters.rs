//! What a first project file says for each kind of directory.
//!
//! Each builds with Debian's packages, so that nothing but a mirror is needed, and comes up: where no program is found,
//! something else runs in its place, and a comment says what to write.

use super::Folder;
use crate::model::{Error, Result};
use crate::spec::text as quoted;
use serde_json::Value;

/// A kind of directory, known by a file.
pub struct Kind {
    pub file: &'static str,
    pub what: &'static str,
    pub write: fn(&Folder) -> Result<Starter>,
}

/// The kinds, in the order in which they are looked for: the first that is found counts.
pub const KINDS: [Kind; 9] = [
    Kind { file: "Dockerfile", what: "a Dockerfile", write: dockerfile },
    Kind { file: "package.json", what: "a Node.js program", write: node },
    Kind { file: "requirements.txt", what: "a Python program", write: python },
    Kind { file: "pyproject.toml", what: "a Python program", write: python },
    Kind { file: "Cargo.toml", what: "a Rust program", write: rust },
    Kind { file: "go.mod", what: "a Go program", write: go },
    Kind { file: "composer.json", what: "a PHP program", write: php },
    Kind { file: "Gemfile", what: "a Ruby program", write: ruby },
    Kind { file: "pom.xml", what: "a Java program", write: java },
];

/// The suite that packages come from.
const SUITE: &str = "trixie";
/// What is never copied into an image.
const NEVER: &str = r#"".git" ".env" "stead.kdl" "stead.lock""#;

/// The parts of a project file.
pub struct Starter {
    /// The images, of which the container runs `app`.
    images: String,
    /// The host's port and the container's; none if it is not known.
    pub port: Option<(u16, u16)>,
    /// The rules of the container's `watch`, one a line.
    watch: Vec<String>,
}

impl Starter {
    /// The whole text.
    pub fn text(&self, name: &str, found: Option<(&str, &str)>) -> String {
        let Self { images, port, watch } = self;
        let why = found.map_or_else(
            || "It serves the files of this directory, because there was no program that `stead init` knows.".to_owned(),
            |(file, what)| format!("`stead init` wrote it for {what} ({file})."),
        );
        let publish = match port {
            Some((host, port)) => format!(
                "    publish {host} to={port}            // http://127.0.0.1:{host}/; `to` is where the program listens\n"
            ),
            None => "    // publish 8080 to=80    // a port of this machine, and the one where the program listens\n".to_owned(),
        };
        let check = port.map_or(80, |(_, port)| port);
        let rules: String = watch.iter().map(|rule| format!("        {rule}\n")).collect();
        format!(
            "// {why} `stead help language` explains every word.\nproject \"{name}\"\n\n{images}\n\
             container \"app\" {{\n    image \"app\"\n{publish}    \
             // healthcheck {{ http {check} path=\"/\" }}    // what depends on it waits until this answers\n    \
             // What `stead watch` does when you save a file.\n    watch {{\n{rules}    }}\n}}\n"
        )
    }
}

/// The rules that build again when one of some paths changes, as far as they exist.
fn rebuilt(folder: &Folder, paths: &[&str]) -> Result<Vec<String>> {
    Ok(folder.those(paths)?.into_iter().map(|path| format!("rebuild {}", quoted(path))).collect())
}

/// The rules that write changed files into the container; `sync-restart` starts its program again, too.
fn synced(folder: &Folder, word: &str, paths: &[&str]) -> Result<Vec<String>> {
    let rule = |path: &str| format!("{word} {} to={}", quoted(path), quoted(&format!("/srv/app/{path}")));
    Ok(folder.those(paths)?.into_iter().map(rule).collect())
}

fn json(folder: &Folder, path: &str) -> Result<Value> {
    let text = folder.text(path)?.unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| Error::caused(format!("{path} is no JSON"), error))
}

fn dockerfile(folder: &Folder) -> Result<Starter> {
    let text = folder.text("Dockerfile")?.unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut exposed =
        text.lines().map(words).filter(|words| words.first().is_some_and(|word| word.eq_ignore_ascii_case("expose")));
    // The last stage is the one that is built.
    let port =
        exposed.next_back().and_then(|words| words.get(1)?.split('/').next()?.parse::<u16>().ok()).filter(|port| *port > 0);
    let watch = vec!["rebuild \"Dockerfile\"".to_owned(), "ignore \"*.log\"".to_owned()];
    Ok(Starter {
        images:
            "// Every stage is built and kept like any other image; `stead convert dockerfile Dockerfile` prints it as nodes.\n\
                 image \"app\" {\n    dockerfile \"Dockerfile\"\n}\n"
                .into(),
        // A port below 1024 is likely to be somebody else's on this machine.
        port: port.map(|port| (if port < 1024 { 8000 + port } else { port }, port)),
        watch,
    })
}

fn node(folder: &Folder) -> Result<Starter> {
    let package = json(folder, "package.json")?;
    let lock = folder.has("package-lock.json")?;
    let files = if lock { "\"package.json\" \"package-lock.json\"" } else { "\"package.json\"" };
    let install = if lock { "npm ci" } else { "npm install" };
    let main = package["main"].as_str().map(str::to_owned);
    let cmd = if package["scripts"]["start"].is_string() {
        "cmd \"npm\" \"start\"".to_owned()
    } else if let Some(main) = main.or(folder.those(&["server.js", "index.js", "app.js"])?.first().map(|name| (*name).to_owned()))
    {
        format!("cmd \"node\" {}", quoted(&main))
    } else {
        "cmd \"sleep\" \"infinity\"    // in place of your program: package.json has no `start`".to_owned()
    };
    let images = format!(
        "image \"app\" {{\n    debian \"{SUITE}\" {{\n        package \"nodejs\" \"npm\" \"ca-certificates\"\n        configure #true\n    }}\n    \
         workdir \"/srv/app\"\n    // The modules are installed again only when these files change.\n    copy {files} to=\"/srv/app/\"\n    \
         run \"{install}\" network=#true {{ mount cache=\"npm\" to=\"/root/.npm\" }}\n    \
         copy \".\" to=\"/srv/app\" {{ exclude \"node_modules\" {NEVER} }}\n    \
         env HOME=\"/tmp\" HOST=\"0.0.0.0\" PORT=\"3000\"\n    user \"www-data\"\n    {cmd}\n}}\n"
    );
    let mut watch = synced(folder, "sync-restart", &["src/", "lib/", "public/", "server.js", "index.js", "app.js"])?;
    watch.extend(rebuilt(folder, &["package.json", "package-lock.json"])?);
    Ok(Starter { images, port: Some((3000, 3000)), watch })
}

fn python(folder: &Folder) -> Result<Starter> {
    let listed = folder.has("requirements.txt")?;
    let source = if listed { "requirements.txt" } else { "pyproject.toml" };
    let needs = folder.text(source)?.unwrap_or_default().to_lowercase();
    let main = folder.those(&["app.py", "main.py", "wsgi.py"])?.first().map(|name| name.trim_end_matches(".py"));
    let cmd = if folder.has("manage.py")? {
        "cmd \"python\" \"manage.py\" \"runserver\" \"0.0.0.0:8000\"".to_owned()
    } else {
        match main {
            Some(main) if needs.contains("flask") => {
                format!("cmd \"flask\" \"--app\" \"{main}\" \"run\" \"--host\" \"0.0.0.0\" \"--port\" \"8000\"")
            }
            Some(main) if needs.contains("uvicorn") || needs.contains("fastapi") => {
                format!("cmd \"uvicorn\" \"{main}:app\" \"--host\" \"0.0.0.0\" \"--port\" \"8000\"")
            }
            Some(main) => format!("cmd \"python\" \"{main}.py\""),
            None => "cmd \"python\" \"-m\" \"http.server\" \"8000\"    // in place of your program".to_owned(),
        }
    };
    let copy = format!("copy \".\" to=\"/srv/app\" {{ exclude \".venv\" \"**/__pycache__\" {NEVER} }}\n");
    let pip = "network=#true { mount cache=\"pip\" to=\"/root/.cache/pip\" }\n";
    let steps = if listed {
        format!(
            "// The packages are installed again only when this file changes.\n    copy \"requirements.txt\" to=\"/srv/app/\"\n    \
             run \"/opt/venv/bin/pip install -r requirements.txt\" {pip}    {copy}"
        )
    } else {
        format!("{copy}    run \"/opt/venv/bin/pip install --editable .\" {pip}")
    };
    let images = format!(
        "image \"app\" {{\n    debian \"{SUITE}\" {{ package \"python3\" \"python3-venv\" \"ca-certificates\" }}\n    \
         run \"python3 -m venv /opt/venv\"\n    workdir \"/srv/app\"\n    {steps}    \
         env PATH=\"/opt/venv/bin:/usr/local/bin:/usr/bin:/bin\" PYTHONUNBUFFERED=\"1\" PORT=\"8000\"\n    user \"www-data\"\n    {cmd}\n}}\n"
    );
    let mut watch =
        synced(folder, "sync-restart", &["app.py", "main.py", "wsgi.py", "manage.py", "app/", "src/", "templates/", "static/"])?;
    watch.extend(rebuilt(folder, &["requirements.txt", "pyproject.toml"])?);
    watch.push("ignore \"__pycache__/\" \"*.pyc\"".into());
    Ok(Starter { images, port: Some((8000, 8000)), watch })
}

fn rust(folder: &Folder) -> Result<Starter> {
    let text = folder.text("Cargo.toml")?.unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).map_err(|error| Error::caused("Cargo.toml is no TOML", error))?;
    let named =
        |value: Option<&toml::Value>| value.and_then(|value| value.get("name")).and_then(toml::Value::as_str).map(str::to_owned);
    let program = named(table.get("bin").and_then(|list| list.get(0))).or_else(|| named(table.get("package")));
    // A workspace does not say which of its programs is meant.
    let (program, note) = match program {
        Some(program) => (program, ""),
        None => (folder.name.clone(), "    // the name of your workspace's program"),
    };
    let build = quoted(&format!("cargo build --release && cp target/release/{program} /usr/local/bin/"));
    let path = quoted(&format!("/usr/local/bin/{program}"));
    let images = format!(
        "image \"build\" {{\n    debian \"{SUITE}\" {{\n        package \"cargo\" \"gcc\" \"libc6-dev\" \"pkg-config\" \"libssl-dev\" \"ca-certificates\"\n        \
         configure #true\n    }}\n    workdir \"/src\"\n    copy \".\" to=\"/src\" {{ exclude \"target\" {NEVER} }}\n    \
         run {build} network=#true {{\n        mount cache=\"cargo\" to=\"/root/.cargo\"\n        mount cache=\"target\" to=\"/src/target\"\n    }}\n}}\n\n\
         // The program alone, without what built it.\nimage \"app\" {{\n    debian \"{SUITE}\" {{ package \"libgcc-s1\" \"libssl3t64\" \"ca-certificates\" }}\n    \
         copy {path} to={path} from=\"build\"\n    env PORT=\"8080\"\n    user \"nobody\"\n    cmd {}{note}\n}}\n",
        quoted(&program)
    );
    let mut watch = rebuilt(folder, &["src/", "Cargo.toml", "Cargo.lock"])?;
    watch.push("ignore \"target/\"".into());
    Ok(Starter { images, port: Some((8080, 8080)), watch })
}

fn go(folder: &Folder) -> Result<Starter> {
    let what = if !folder.has("main.go")? && folder.has("cmd")? { "./cmd/..." } else { "." };
    let images = format!(
        "image \"build\" {{\n    debian \"{SUITE}\" {{\n        package \"golang-go\" \"git\" \"ca-certificates\"\n        configure #true\n    }}\n    \
         workdir \"/src\"\n    copy \".\" to=\"/src\" {{ exclude {NEVER} }}\n    env CGO_ENABLED=\"0\"\n    \
         run \"go build -o /usr/local/bin/app {what}\" network=#true {{\n        mount cache=\"go\" to=\"/root/go\"\n        \
         mount cache=\"go-build\" to=\"/root/.cache/go-build\"\n    }}\n}}\n\n\
         // The program alone, without what built it.\nimage \"app\" {{\n    debian \"{SUITE}\" {{ package \"ca-certificates\" }}\n    \
         copy \"/usr/local/bin/app\" to=\"/usr/local/bin/app\" from=\"build\"\n    env PORT=\"8080\"\n    user \"nobody\"\n    cmd \"app\"\n}}\n"
    );
    let watch = rebuilt(folder, &["go.mod", "go.sum", "main.go", "cmd/", "internal/", "pkg/"])?;
    Ok(Starter { images, port: Some((8080, 8080)), watch })
}

fn php(folder: &Folder) -> Result<Starter> {
    let files = folder.those(&["composer.json", "composer.lock"])?;
    let files = files.into_iter().map(quoted).collect::<Vec<_>>().join(" ");
    let root = if folder.has("public")? { "public" } else { "." };
    let images = format!(
        "image \"app\" {{\n    debian \"{SUITE}\" {{\n        package \"php-cli\" \"php-mbstring\" \"php-xml\" \"composer\" \"unzip\" \"git\" \"ca-certificates\"\n        \
         configure #true\n    }}\n    workdir \"/srv/app\"\n    // The packages are installed again only when these files change.\n    copy {files} to=\"/srv/app/\"\n    \
         run \"composer install --no-interaction --no-scripts --no-autoloader\" network=#true {{\n        env COMPOSER_ALLOW_SUPERUSER=1\n        \
         mount cache=\"composer\" to=\"/root/.cache/composer\"\n    }}\n    copy \".\" to=\"/srv/app\" {{ exclude \"vendor\" {NEVER} }}\n    \
         run \"composer dump-autoload\" {{ env COMPOSER_ALLOW_SUPERUSER=1; }}\n    user \"www-data\"\n    cmd \"php\" \"-S\" \"0.0.0.0:8000\" \"-t\" \"{root}\"\n}}\n"
    );
    let mut watch = synced(folder, "sync", &["public/", "src/", "index.php"])?; // PHP reads them at each request.
    watch.extend(rebuilt(folder, &["composer.json", "composer.lock"])?);
    Ok(Starter { images, port: Some((8000, 8000)), watch })
}

fn ruby(folder: &Folder) -> Result<Starter> {
    let files = folder.those(&["Gemfile", "Gemfile.lock"])?.into_iter().map(quoted).collect::<Vec<_>>().join(" ");
    let program = folder.those(&["app.rb", "main.rb", "server.rb"])?.first().copied();
    let cmd = if folder.has("bin/rails")? {
        "cmd \"bundle\" \"exec\" \"rails\" \"server\" \"-b\" \"0.0.0.0\" \"-p\" \"3000\"".to_owned()
    } else if folder.has("config.ru")? {
        "cmd \"bundle\" \"exec\" \"rackup\" \"--host\" \"0.0.0.0\" \"--port\" \"3000\"".to_owned()
    } else if let Some(program) = program {
        format!("cmd \"bundle\" \"exec\" \"ruby\" {}", quoted(program))
    } else {
        "cmd \"sleep\" \"infinity\"    // in place of your program".to_owned()
    };
    let images = format!(
        "image \"app\" {{\n    debian \"{SUITE}\" {{\n        package \"ruby\" \"ruby-dev\" \"bundler\" \"build-essential\" \"ca-certificates\"\n        \
         configure #true\n    }}\n    workdir \"/srv/app\"\n    env BUNDLE_PATH=\"/opt/gems\" HOME=\"/tmp\" PORT=\"3000\"\n    \
         // The gems are installed again only when these files change.\n    copy {files} to=\"/srv/app/\"\n    \
         run \"bundle install\" network=#true\n    copy \".\" to=\"/srv/app\" {{ exclude \"vendor/bundle\" {NEVER} }}\n    \
         user \"www-data\"\n    {cmd}\n}}\n"
    );
    let mut watch = synced(folder, "sync-restart", &["app/", "lib/", "config.ru", "app.rb", "main.rb", "server.rb"])?;
    watch.extend(rebuilt(folder, &["Gemfile", "Gemfile.lock"])?);
    Ok(Starter { images, port: Some((3000, 3000)), watch })
}

fn java(folder: &Folder) -> Result<Starter> {
    let images = format!(
        "image \"build\" {{\n    debian \"{SUITE}\" {{\n        package \"maven\" \"default-jdk-headless\" \"ca-certificates-java\"\n        configure #true\n    }}\n    \
         workdir \"/src\"\n    copy \".\" to=\"/src\" {{ exclude \"target\" {NEVER} }}\n    \
         run \"mvn -q -B package -DskipTests && cp $(ls target/*.jar | grep -v -e original -e sources | head -n 1) /srv/app.jar\" network=#true {{\n        \
         mount cache=\"maven\" to=\"/root/.m2\"\n    }}\n}}\n\n\
         // The program alone, without what built it.\nimage \"app\" {{\n    debian \"{SUITE}\" {{\n        package \"default-jre-headless\"\n        configure #true\n    }}\n    \
         copy \"/srv/app.jar\" to=\"/srv/app.jar\" from=\"build\"\n    user \"nobody\"\n    cmd \"java\" \"-jar\" \"/srv/app.jar\"\n}}\n"
    );
    let watch = rebuilt(folder, &["pom.xml", "src/"])?;
    Ok(Starter { images, port: Some((8080, 8080)), watch })
}

/// For a directory without a program that is known.
pub fn nothing() -> Starter {
    let images = format!(
        "image \"app\" {{\n    debian \"{SUITE}\" {{ package \"python3\" }}\n    copy \".\" to=\"/srv/app\" {{ exclude {NEVER} }}\n    \
         workdir \"/srv/app\"\n    user \"www-data\"\n    cmd \"python3\" \"-m\" \"http.server\" \"8080\"\n}}\n"
    );
    Starter {
        images,
        port: Some((8080, 8080)),
        watch: vec!["sync \".\" to=\"/srv/app\"".into(), "ignore \"stead.kdl\" \"stead.lock\" \".git/\" \".env\"".into()],
    }
}

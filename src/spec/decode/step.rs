//! Decodes the steps of an image.

use super::*;
use crate::model::{ARCHITECTURE, Digest, GitRepository, Mode};
use crate::project::looks_secret;

impl Decoder<'_> {
    pub(super) fn step(&mut self, node: &Tree) -> Option<Step> {
        Some(match node.name.as_str() {
            "debian" => Step::Debian(self.debian(node)?),
            "copy" => Step::Copy(self.copy(node)?),
            "add" => Step::Add(self.add(node)?),
            "run" => Step::Run(self.run(node)?),
            "env" => {
                self.secrets_in(node);
                node.props.iter().for_each(|(name, entry)| self.is_variable(name, entry));
                Step::Env(values(node))
            }
            "arg" => Step::Arg(values(node)),
            "workdir" => Step::Workdir(self.absolute(node)?),
            // As in a Dockerfile, no user is root again.
            "user" if node.text().as_deref() == Some("") => Step::User(String::new()),
            "user" => Step::User(self.user(node)?),
            "shell" => Step::Shell(node.words()),
            "folder" => Step::Folder(self.absolute(node)?),
            _ => return None,
        })
    }

    /// Warns about secrets in variables: everybody who gets the image can read them.
    fn secrets_in(&mut self, node: &Tree) {
        for (name, entry) in &node.props {
            if looks_secret(name) && !entry.text().is_empty() {
                let message = format!("{name} looks like a secret, and everybody who gets the image can read it");
                let help =
                    "give it to the container, or to one command: run \"…\" { mount secret=\"token\" to=\"/run/secrets/token\" }";
                self.sink.push(Diagnostic::warning("secret-in-env", entry.place.clone(), message).help(help));
            }
        }
    }

    fn copy(&mut self, node: &Tree) -> Option<Copy> {
        let from = match node.prop_text("from") {
            Some(text) => Some(self.image_named(&text, &node.prop_place("from"))?),
            None => None,
        };
        let inline: Vec<(String, String)> =
            node.all("text").filter_map(|child| Some((child.text()?, child.arg(1).and_then(as_text)?))).collect();
        for (child, (name, _)) in node.all("text").zip(&inline) {
            if name.is_empty() || name.contains('/') || name.trim_matches('.').is_empty() {
                let diagnostic = Diagnostic::error("wrong-value", child.first_place(), format!("{name:?} is not a file name"));
                self.sink.push(diagnostic.help("write a name without `/`; `to` says where it goes"));
                return None;
            }
        }
        if node.args.is_empty() && inline.is_empty() {
            let diagnostic = Diagnostic::error("missing-argument", node.place.clone(), "`copy` needs its source");
            node.lacks(diagnostic.help("for example: copy \"app/\" to=\"/srv/app\""), self.sink);
            return None;
        }
        Some(Copy {
            sources: node.words(),
            to: node.prop_text("to")?,
            from,
            owner: node.prop_text("owner"),
            mode: permissions(node),
            exclude: node.all("exclude").flat_map(Tree::words).collect(),
            parents: node.flag("parents")?,
            context: self.context(node)?,
            inline,
            as_docker: node.flag("docker")?,
            unpack: node.flag("unpack")?,
            link: node.flag("link")?,
        })
    }

    /// The directory that `context=` names; the outer `None` means that its path is not inside the project.
    fn context(&mut self, node: &Tree) -> Option<Option<BuildContext>> {
        let Some(text) = node.prop_text("context") else { return Some(None) };
        let folder = self.inside(&text, &node.prop_place("context"))?;
        let ignore = match node.prop_text("ignore") {
            Some(text) => self.inside(&text, &node.prop_place("ignore"))?,
            None => Path::new(&folder).join(".dockerignore").display().to_string(),
        };
        Some(Some(BuildContext { folder, ignore }))
    }

    fn add(&mut self, node: &Tree) -> Option<Add> {
        let wrong = |place: Location, message: &str, help: &str| Diagnostic::error("add", place, message.to_owned()).help(help);
        let source = match (node.text(), node.prop_text("git")) {
            (Some(url), None) => {
                if !url.starts_with("http://") && !url.starts_with("https://") {
                    let help = "files of the project are copied: copy \"FILE\" to=\"/opt/\" unpack=#true";
                    self.sink.push(wrong(node.first_place(), "`add` fetches over http and https", help));
                    return None;
                }
                let digest = node.prop_text("sha256");
                let sha256 = digest.as_deref().map(|text| Digest::parse(text.trim_start_matches("sha256:")));
                let Some(Some(sha256)) = sha256 else {
                    let message = match digest {
                        None => "`add` needs the digest of the file, so that its bytes are the same everywhere",
                        Some(_) => "this is not a SHA-256 digest: 64 hexadecimal digits",
                    };
                    let help = format!("fetch it once and write what `sha256sum` says: add \"{url}\" … sha256=\"…\"");
                    node.lacks(wrong(node.prop_place("sha256"), message, &help), self.sink);
                    return None;
                };
                AddSource::Url { url, sha256: Some(sha256) }
            }
            (None, Some(url)) => {
                let commit = node.prop_text("commit").filter(|text| is_commit(text));
                let Some(commit) = commit else {
                    let message = "a repository is added at a full commit ID: 40 hexadecimal digits";
                    self.sink.push(wrong(node.prop_place("commit"), message, "write what `git rev-parse HEAD` says"));
                    return None;
                };
                let (folder, keep) = (node.prop_text("folder"), node.flag("keep-git")?);
                if keep && folder.is_some() {
                    let help = "take `folder` out, or `keep-git`";
                    self.sink.push(wrong(node.prop_place("keep-git"), "one directory of a repository has no `.git`", help));
                    return None;
                }
                let place = match GitRepository::parse(&url) {
                    Ok(place) => place,
                    Err(why) => {
                        self.sink.push(wrong(node.prop_place("git"), &why.message, why.help));
                        return None;
                    }
                };
                let submodules = node.flag("submodules")?;
                let commit = Some(commit.to_lowercase());
                AddSource::Git(GitSource { place, reference: None, commit, folder, dot_git: keep, submodules })
            }
            _ => {
                let help = "for example: add \"https://example.org/tool.tar.gz\" to=\"/opt/\" sha256=\"…\"";
                self.sink.push(wrong(node.place.clone(), "`add` takes one thing: a URL, or `git=`", help));
                return None;
            }
        };
        Some(Add {
            source,
            to: node.prop_text("to")?,
            owner: node.prop_text("owner"),
            mode: permissions(node),
            exclude: node.all("exclude").flat_map(Tree::words).collect(),
            unpack: node.flag("unpack")?,
            as_docker: node.flag("docker")?,
            link: node.flag("link")?,
        })
    }

    fn run(&mut self, node: &Tree) -> Option<Run> {
        let words = node.words();
        let mounts = node.all("mount").filter_map(|mount| self.run_mount(mount)).collect();
        let user = match node.prop_text("user") {
            Some(text) => Some(self.user_text(text, node.prop_place("user"))?),
            None => None,
        };
        Some(Run {
            shell: node.flag("shell").unwrap_or(words.len() == 1),
            words,
            network: match (node.flag("network"), node.prop_text("network").as_deref()) {
                (Some(true), _) => RunNetwork::Own,
                (_, Some("host")) => RunNetwork::Host,
                _ => RunNetwork::None,
            },
            privileged: node.flag("privileged")?,
            mounts,
            user,
            env: free(node, "env"),
        })
    }

    /// Decodes a mount of a command: it has exactly one kind of source.
    fn run_mount(&mut self, node: &Tree) -> Option<RunMount> {
        let to = node.prop_text("to")?;
        if !self.must_be_absolute(&to, &node.prop_place("to")) {
            return None;
        }
        let owner = match node.prop_text("owner") {
            None => (0, 0),
            Some(text) => {
                let numbers = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
                let Some(numbers) = numbers else {
                    let message = format!("{text:?} is not two numbers: user names are not known here");
                    self.sink.push(Diagnostic::error("wrong-value", node.prop_place("owner"), message).help("write \"33:33\""));
                    return None;
                };
                numbers
            }
        };
        let mode = |default| node.prop("mode").and_then(as_mode).unwrap_or(default);
        let image = match node.prop_text("image") {
            Some(text) => {
                let name = self.image_named(&text, &node.prop_place("image"))?;
                Some((name, node.prop_text("subpath").unwrap_or_else(|| "/".into())))
            }
            None => None,
        };
        let mut found = Vec::new();
        if let Some(id) = node.prop_text("cache") {
            let sharing = match node.prop_text("sharing").as_deref() {
                Some("locked") => Sharing::Locked,
                Some("private") => Sharing::Private,
                _ => Sharing::Shared,
            };
            let shared = node.flag("shared")?;
            found.push(RunSource::Cache { id, mode: mode(0o755), owner, sharing, shared, from: image });
        } else if let Some((name, path)) = image {
            found.push(RunSource::Image { name, path });
        }
        if let Some(name) = node.prop_text("secret").and_then(|name| Name::parse(&name).ok()) {
            found.push(RunSource::Secret {
                name,
                mode: mode(0o400),
                owner,
                required: node.flag("required")?,
                env: node.prop_text("env"),
                file: node.flag("file")?,
            });
        }
        if node.flag("tmpfs") == Some(true) {
            found.push(RunSource::Tmpfs { size: node.prop_text("size").and_then(|size| Size::parse(&size).ok()) });
        }
        if node.flag("ssh") == Some(true) {
            found.push(RunSource::Ssh { required: node.flag("required")? });
        }
        if let Some(text) = node.prop_text("script") {
            found.push(RunSource::Script(text));
        }
        if let Some(context) = self.context(node)? {
            found.push(RunSource::Context { context, path: node.prop_text("subpath").unwrap_or_default() });
        }
        match <[RunSource; 1]>::try_from(found) {
            Ok([source]) => {
                let writable = matches!(source, RunSource::Cache { .. } | RunSource::Tmpfs { .. });
                Some(RunMount { to, read_only: !node.flag("writable").unwrap_or(writable), source })
            }
            Err(_) => {
                let message = "a mount of a command is one of cache=, secret=, tmpfs=#true, image=, context=, ssh=#true, script=";
                let help = "for example: mount cache=\"pip\" to=\"/root/.cache/pip\"";
                node.lacks(Diagnostic::error("run-mount", node.place.clone(), message).help(help), self.sink);
                None
            }
        }
    }

    fn debian(&mut self, node: &Tree) -> Option<Debian> {
        let flag = |name: &str| node.child(name).and_then(|child| child.arg(0)).and_then(as_flag);
        if let Some(wanted) = node.prop_text("architecture").filter(|wanted| wanted != ARCHITECTURE) {
            let message =
                format!("packages of {wanted} are not supported: images are made for {ARCHITECTURE}, this machine's own");
            self.sink.push(Diagnostic::error("architecture", node.prop_place("architecture"), message).help("leave it out"));
        }
        let mut pins = BTreeMap::new();
        for package in node.all("package") {
            for entry in &package.args {
                self.package_name(entry);
                if let Some(version) = package.prop_text("version") {
                    pins.insert(entry.text(), version);
                }
            }
        }
        let mut packages: Vec<String> = node.all("package").flat_map(Tree::words).collect();
        packages.sort();
        packages.dedup();
        let repository = |child: &Tree| {
            Some(Repository {
                place: child.text()?,
                suite: child.prop_text("suite")?,
                components: child.prop_text("component")?.split_whitespace().map(str::to_owned).collect(),
                key: child.prop_text("key")?,
            })
        };
        Some(Debian {
            suite: node.text()?,
            packages,
            pins,
            essential: flag("essential")?,
            recommends: flag("recommends")?,
            configure: flag("configure")?,
            components: node.child("component").map(Tree::words)?,
            suites: node.all("suite").filter_map(Tree::text).collect(),
            repositories: node.all("repository").filter_map(repository).collect(),
            mirror: node.prop_text("mirror"),
            key: node.prop_text("key"),
        })
    }

    fn package_name(&mut self, entry: &Entry) {
        let Value::Text(text) = &entry.value else { return };
        let legal =
            text.len() >= 2 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        if legal {
            return;
        }
        let (name, rest) = text.split_at(text.find(['=', ':', ' ', '/']).unwrap_or(text.len()));
        let help = match rest.chars().next() {
            Some('=') => {
                format!("write package \"{name}\" version=\"{}*\"; the lock pins exactly, `stead update` moves it", &rest[1..])
            }
            Some(':') => format!("write \"{name}\"; packages of other architectures are not supported"),
            _ => "package names have lowercase letters, digits, `+`, `-` and `.`".to_owned(),
        };
        let message = format!("\"{text}\" is not a package name");
        self.sink.push(Diagnostic::error("package-name", entry.place.clone(), message).help(help));
    }
}

fn values(node: &Tree) -> BTreeMap<String, String> {
    node.props.iter().map(|(name, entry)| (name.clone(), entry.text())).collect()
}

fn permissions(node: &Tree) -> Option<Mode> {
    Mode::parse(&node.prop_text("mode")?).ok()
}

//! `image` nodes: where they start from, their steps, their configuration.

use super::*;

impl Decoder<'_> {
    pub(super) fn image(&mut self, node: &Tree, path: &str) -> Option<Image> {
        if let Some(dockerfile) = node.child("dockerfile") {
            self.dockerfile(node, dockerfile);
            // It stands for the image until the Dockerfile is read.
            return Some(Image::default());
        }
        let from = match node.child("from") {
            Some(from) if from.text().as_deref() == Some("scratch") => Base::Scratch,
            Some(from) => {
                self.places.0.insert(format!("{path}.from"), from.first_place());
                match self.image_ref(from)? {
                    ImageRef::Project(name) => Base::Image(name),
                    ImageRef::Registry(text) => Base::Registry(text),
                }
            }
            None => Base::Scratch,
        };
        let mut steps = Vec::new();
        for child in &node.children {
            if let Some(step) = self.step(child) {
                let step_path = format!("{path}.step{}", steps.len());
                self.places.0.insert(step_path.clone(), child.place.clone());
                if matches!(step, Step::Copy(_)) {
                    for (index, entry) in child.args.iter().enumerate() {
                        self.places.0.insert(format!("{step_path}.source{index}"), entry.place.clone());
                    }
                }
                if let Step::Debian(_) = step {
                    self.places.0.insert(format!("{step_path}.suite"), child.first_place());
                    for entry in child.all("package").flat_map(|package| &package.args) {
                        self.places.0.insert(format!("{step_path}.package.{}", plain(&entry.value)), entry.place.clone());
                    }
                }
                match &step {
                    Step::Env(_) => {
                        for (name, entry) in &child.props {
                            self.places.0.insert(format!("{path}.env.{name}"), entry.place.clone());
                        }
                    }
                    Step::Workdir(_) | Step::User(_) | Step::Shell(_) | Step::Arg(_) => {
                        self.places.0.insert(format!("{path}.{}", child.name), child.place.clone());
                    }
                    _ => {}
                }
                steps.push(step);
            }
        }
        let words = |name: &str| node.child(name).map(Tree::words);
        for name in ["cmd", "entrypoint", "healthcheck", "stop-signal", "expose", "label", "volume"] {
            if let Some(child) = node.child(name) {
                self.places.0.insert(format!("{path}.{name}"), child.place.clone());
            }
        }
        Some(Image {
            from,
            steps,
            cmd: words("cmd"),
            entrypoint: words("entrypoint"),
            expose: self.exposed(node),
            labels: free(node, "label"),
            expose_udp: Vec::new(),
            onbuild: Vec::new(),
            volumes: node.all("volume").flat_map(Tree::words).collect(),
            stop_signal: node.child("stop-signal").and_then(|child| self.signal(child)),
            healthcheck: node.child("healthcheck").and_then(|child| self.health(child)),
        })
    }

    /// An image from a Dockerfile has nothing beside it.
    fn dockerfile(&mut self, node: &Tree, dockerfile: &Tree) {
        if let Some(other) = node.children.iter().find(|child| child.name != "dockerfile") {
            let message = format!("`{}` stands beside `dockerfile`: the image is what its Dockerfile says", other.name);
            let help = "write it into the Dockerfile, or make a second image that starts `from` this one";
            self.sink.push(Diagnostic::error("dockerfile-beside", other.place.clone(), message).help(help));
        }
        let (Some(image), Some(path)) = (node.name(), dockerfile.text()) else { return };
        for (text, place) in
            [(Some(path.clone()), dockerfile.first_place()), (dockerfile.prop_text("context"), dockerfile.prop_place("context"))]
        {
            let outside = |text: &String| text.starts_with('/') || text.split('/').any(|part| part == "..");
            if let Some(text) = text.filter(outside) {
                let message = format!("{text:?} leads out of the project's folder");
                self.sink
                    .push(Diagnostic::error("outside", place, message).help("the project file stands above all that it uses"));
                return;
            }
        }
        let context = dockerfile.prop_text("context").map(|context| context.trim_start_matches("./").to_owned());
        self.dockerfiles.push(Request {
            image,
            path: path.trim_start_matches("./").to_owned(),
            context: context.map(|context| if context == "." { String::new() } else { context }),
            target: dockerfile.prop_text("target"),
            arguments: free(dockerfile, "arg"),
            place: dockerfile.place.clone(),
        });
    }

    pub(super) fn exposed(&mut self, node: &Tree) -> Vec<(u16, u16)> {
        node.all("expose").flat_map(|child| &child.args).filter_map(|entry| grammar::ports(&entry.value).ok()).collect()
    }

    pub(super) fn step(&mut self, node: &Tree) -> Option<Step> {
        Some(match node.name.as_str() {
            "debian" => Step::Debian(self.debian(node)?),
            "copy" => Step::Copy(Copy {
                sources: node.words(),
                to: node.prop_text("to")?,
                from: match node.prop_text("from") {
                    Some(text) if self.images.contains(&text) => Name::parse(&text).ok(),
                    Some(text) => {
                        let near =
                            nearest(&text, self.images.iter().map(String::as_str)).map(|near| format!("write from=\"{near}\""));
                        let message = format!("there is no image \"{text}\" to copy from");
                        self.sink.push(Diagnostic::error("unknown-image", node.prop_place("from"), message).maybe_help(near));
                        return None;
                    }
                    None => None,
                },
                owner: node.prop_text("owner"),
                mode: node.prop("mode").and_then(as_mode),
                exclude: node.all("exclude").flat_map(Tree::words).collect(),
                parents: node.flag("parents").unwrap_or(false),
                ..Copy::default()
            }),
            "run" => {
                let words = node.words();
                let mounts = node.all("mount").filter_map(|mount| self.run_mount(mount)).collect();
                Step::Run(Run { shell: words.len() == 1, words, network: node.flag("network").unwrap_or(false), mounts })
            }
            "env" => Step::Env(node.props.iter().map(|(name, entry)| (name.clone(), plain(&entry.value))).collect()),
            "arg" => Step::Arg(node.props.iter().map(|(name, entry)| (name.clone(), plain(&entry.value))).collect()),
            "workdir" => Step::Workdir(self.absolute(node)?),
            "user" => Step::User(self.user(node)?),
            "shell" => Step::Shell(node.words()),
            _ => return None,
        })
    }

    /// What a command finds while it runs: exactly one of cache, secret, tmpfs, an image.
    fn run_mount(&mut self, node: &Tree) -> Option<RunMount> {
        let to = node.prop_text("to")?;
        if !self.must_be_absolute(&to, &node.prop_place("to")) {
            return None;
        }
        let owner = (0, 0);
        let mut found = Vec::new();
        if let Some(id) = node.prop_text("cache") {
            found.push(RunSource::Cache { id, mode: 0o755, owner, locked: false });
        }
        if let Some(name) = node.prop_text("secret").and_then(|name| Name::parse(&name).ok()) {
            found.push(RunSource::Secret { name, mode: 0o400, owner, required: true });
        }
        if node.flag("tmpfs") == Some(true) {
            found.push(RunSource::Tmpfs { size: node.prop_text("size").and_then(|size| Size::parse(&size).ok()) });
        }
        if let Some(name) = node.prop_text("image").and_then(|name| Name::parse(&name).ok()) {
            found.push(RunSource::Image { name, path: node.prop_text("subpath").unwrap_or_else(|| "/".into()) });
        }
        match <[RunSource; 1]>::try_from(found) {
            Ok([source]) => Some(RunMount { to, read_only: !matches!(source, RunSource::Cache { .. }), source }),
            Err(_) => {
                let message = "a mount of a command is one of cache=, secret=, tmpfs=#true, image=";
                let help = "for example: mount cache=\"pip\" to=\"/root/.cache/pip\"";
                self.sink.push(Diagnostic::error("run-mount", node.place.clone(), message).help(help));
                None
            }
        }
    }

    pub(super) fn debian(&mut self, node: &Tree) -> Option<Debian> {
        let flag = |name: &str| node.child(name).and_then(|child| child.arg(0)).and_then(as_flag);
        for entry in node.all("package").flat_map(|package| &package.args) {
            let Value::Text(text) = &entry.value else { continue };
            let legal = text.len() >= 2
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
            if !legal {
                let (name, rest) = text.split_at(text.find(['=', ':', ' ', '/']).unwrap_or(text.len()));
                let help = if rest.starts_with('=') {
                    format!("write \"{name}\"; the lock pins versions, `stead update` moves them")
                } else {
                    "package names have lowercase letters, digits, `+`, `-` and `.`".to_owned()
                };
                let message = format!("\"{text}\" is not the name of a package");
                self.sink.push(Diagnostic::error("package-name", entry.place.clone(), message).help(help));
            }
        }
        let mut packages: Vec<String> = node.all("package").flat_map(Tree::words).collect();
        packages.sort();
        packages.dedup();
        Some(Debian {
            suite: node.text()?,
            packages,
            essential: flag("essential").unwrap_or(true),
            recommends: flag("recommends").unwrap_or(false),
            components: node.child("component").map_or_else(|| vec!["main".into()], Tree::words),
            mirror: node.prop_text("mirror"),
            key: node.prop_text("key"),
        })
    }
}

//! `image` nodes: their base, their configuration, or the Dockerfile that they are built from instead.
//!
//! Their steps are decoded in `step.rs`.

use super::*;

impl Decoder<'_> {
    pub(super) fn image(&mut self, node: &Tree, path: &NodePath) -> Option<Image> {
        if let Some(dockerfile) = node.child("dockerfile") {
            self.dockerfile(node, dockerfile);
            // A placeholder until the Dockerfile is read.
            return Some(Image::default());
        }
        let from = match node.child("from") {
            Some(from) => {
                self.places.insert(path.clone().node("from"), from.first_place());
                self.base(from)?
            }
            None => Base::Scratch,
        };
        let signed_by = match node.child("from").and_then(|from| from.child("signed-by")) {
            Some(key) => {
                if !matches!(from, Base::Image(ref name) if !self.images.iter().any(|own| own == name.as_str())) {
                    let message = "only images of registries are signed";
                    let help = "remove `signed-by`: everything that an image of the project is built from is locked";
                    self.sink.push(Diagnostic::error("signed-by", key.place.clone(), message).help(help));
                }
                self.places.insert(path.clone().node("signed-by"), key.first_place());
                key.text().and_then(|text| self.inside(&text, &key.first_place()))
            }
            None => None,
        };
        let mut steps = Vec::new();
        for child in &node.children {
            if let Some(step) = self.step(child) {
                self.step_places(child, &step, path, steps.len());
                steps.push(step);
            }
        }
        let words = |name: &str| node.child(name).map(Tree::words);
        for name in ["cmd", "entrypoint", "healthcheck", "stop-signal", "expose", "label", "volume", "author"] {
            if let Some(child) = node.child(name) {
                self.places.insert(path.clone().node(name), child.place.clone());
            }
        }
        Some(Image {
            from,
            signed_by,
            steps,
            cmd: words("cmd"),
            entrypoint: words("entrypoint"),
            expose: exposed(node, "tcp"),
            expose_udp: exposed(node, "udp"),
            expose_sctp: exposed(node, "sctp"),
            labels: free(node, "label"),
            author: node.child("author").and_then(Tree::text),
            onbuild: node.all("onbuild").filter_map(Tree::text).collect(),
            volumes: node.all("volume").flat_map(Tree::words).collect(),
            stop_signal: node.child("stop-signal").and_then(|child| self.signal(child)),
            healthcheck: node.child("healthcheck").and_then(|child| self.health(child)),
            squash: node.first("squash").and_then(as_flag)?,
        })
    }

    /// The base of an image: a name, or an archive.
    fn base(&mut self, node: &Tree) -> Option<Base> {
        match (node.text(), node.prop_text("archive")) {
            (Some(name), None) if name == "scratch" => Some(Base::Scratch),
            (Some(_), None) => self.image_ref(node).map(Base::Image),
            (None, Some(path)) => {
                let path = self.inside(&path, &node.prop_place("archive"))?;
                Some(Base::Outside(Outside::Archive { path, name: node.prop_text("name") }))
            }
            _ => {
                let message = "an image starts from either a name or `archive=`";
                let help = "for example: from \"base\", or from archive=\"images/base.tar\"";
                self.sink.push(Diagnostic::error("from", node.place.clone(), message).help(help));
                None
            }
        }
    }

    /// Checks a path of the project, which must not lead out of its directory.
    pub(super) fn inside(&mut self, text: &str, place: &Location) -> Option<String> {
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            let message = format!("{text:?} leads out of the project's directory");
            let help = "a project uses only files below the directory of its project file";
            self.sink.push(Diagnostic::error("outside", place.clone(), message).help(help));
            return None;
        }
        let text = text.trim_start_matches("./").trim_end_matches('/');
        Some(if text == "." { String::new() } else { text.to_owned() })
    }

    /// Records the places of a step and its parts.
    fn step_places(&mut self, node: &Tree, step: &Step, path: &NodePath, number: usize) {
        let step_path = path.clone().step(number);
        self.places.insert(step_path.clone(), node.place.clone());
        match step {
            Step::Copy(_) | Step::Add(_) => {
                for (index, entry) in node.args.iter().enumerate() {
                    self.places.insert(step_path.clone().source(index), entry.place.clone());
                }
            }
            Step::Debian(_) => {
                self.places.insert(step_path.clone().node("suite"), node.first_place());
                for entry in node.all("package").flat_map(|package| &package.args) {
                    self.places.insert(step_path.clone().named("package", entry.text()), entry.place.clone());
                }
            }
            Step::Env(_) => {
                for (name, entry) in &node.props {
                    self.places.insert(path.clone().named("env", name), entry.place.clone());
                }
            }
            Step::Workdir(_) | Step::User(_) | Step::Shell(_) | Step::Arg(_) => {
                self.places.insert(path.clone().node(node.name.clone()), node.place.clone());
            }
            Step::Run(_) | Step::Folder(_) => {}
        }
    }

    /// Checks that an image from a Dockerfile has no other nodes, and requests the Dockerfile.
    fn dockerfile(&mut self, node: &Tree, dockerfile: &Tree) {
        if let Some(other) = node.children.iter().find(|child| child.name != "dockerfile" && child.is_given()) {
            let message = format!("`{}` cannot be combined with `dockerfile`, which defines the whole image", other.name);
            let help = "write it into the Dockerfile, or make a second image that starts `from` this one";
            self.sink.push(Diagnostic::error("dockerfile-beside", other.place.clone(), message).help(help));
        }
        let (Some(image), Some(path)) = (node.name(), dockerfile.text()) else { return };
        let Some(path) = self.inside(&path, &dockerfile.first_place()) else { return };
        let context = match dockerfile.prop_text("context") {
            None => None,
            Some(text) => match self.inside(&text, &dockerfile.prop_place("context")) {
                None => return,
                inside => inside,
            },
        };
        self.dockerfiles.push(Request {
            image,
            path,
            context,
            target: dockerfile.prop_text("target"),
            arguments: free(dockerfile, "arg"),
            place: dockerfile.place.clone(),
        });
    }
}

pub(super) fn exposed(node: &Tree, protocol: &str) -> Vec<(u16, u16)> {
    let meant = |child: &&Tree| child.prop_text("protocol").as_deref() == Some(protocol);
    let ports = node.all("expose").filter(meant).flat_map(|child| &child.args);
    ports.filter_map(|entry| grammar::ports(&entry.value).ok()).collect()
}

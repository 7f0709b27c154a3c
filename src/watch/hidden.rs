//! What mounts hide: a changed file that none of its containers sees, because something is mounted over it, needs no new image.

use crate::model::Name;
use crate::plan::TreeEntry;
use crate::project::{Container, MountSource, Project, Step};
use std::path::{Component, Path, PathBuf};

/// Whether every container that could see what this copy puts there has something mounted over it.
pub fn is_hidden(project: &Project, image: &Name, step: usize, entry: &TreeEntry) -> bool {
    let Some(steps) = project.images.get(image).map(|image| &image.steps) else { return false };
    let Some(Step::Copy(copy)) = steps.get(step) else { return false };
    // What runs later may make something of it that no mount hides.
    let later = steps[step + 1..].iter().any(|step| match step {
        Step::Run(_) => true,
        Step::Debian(debian) => debian.configure,
        _ => false,
    });
    let is_used = project.images.values().any(|other| other.needs().any(|needed| needed == image));
    let is_mounted = |container: &Container| {
        container.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Image(mounted) if mounted == image))
    };
    let workdir = steps[..step].iter().filter_map(|step| if let Step::Workdir(path) = step { Some(path) } else { None });
    // A path from the working directory of another image is not known here.
    let is_known = copy.to.starts_with('/') || workdir.clone().any(|path| path.starts_with('/'));
    let base = workdir.fold(PathBuf::from("/"), |base, path| base.join(path)).join(&copy.to);
    let to = tidy(&entry.place(&base));
    let mut users =
        project.containers.values().filter(|container| container.image == *image && container.replicas > 0).peekable();
    // What a volume is filled with once is the image's file, so a volume hides nothing for certain.
    let is_covered = |container: &Container| {
        let mounts = container.mounts.iter().filter(|mount| !matches!(mount.source, MountSource::Volume(_)));
        let places = mounts.map(|mount| &mount.to).chain(container.tmpfs.iter().map(|tmpfs| &tmpfs.path));
        places.into_iter().any(|at| to.starts_with(tidy(Path::new(at))))
    };
    is_known
        && !later
        && !is_used
        && !project.containers.values().any(is_mounted)
        && users.peek().is_some()
        && users.all(is_covered)
}

/// A path without `.` and a `/` at its end.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::plan::TreeKind;
    use crate::spec::{Choices, Sources, load};
    use std::ffi::OsString;

    struct File(String);

    impl Sources for File {
        fn read(&self, _: &str) -> Result<String, String> {
            Ok(self.0.clone())
        }
        fn identity(&self, file: &str) -> String {
            file.to_owned()
        }
        fn env(&self, _: &str) -> Option<OsString> {
            None
        }
    }

    fn hidden(image: &str, rest: &str, from: &str, to: &str) -> bool {
        let text = format!("project \"p\"\nimage \"a\" {{ {image} }}\n{rest}");
        let project = load("stead.kdl", &Choices::default(), &File(text)).project.unwrap();
        let kind = TreeKind::File { digest: Digest::of("x"), executable: false };
        let entry = TreeEntry { to: to.into(), from: from.into(), kind, mode: None, whole: false };
        let name = Name::parse("a").unwrap();
        let step = project.images[&name].steps.iter().position(|step| matches!(step, Step::Copy(_))).unwrap();
        is_hidden(&project, &name, step, &entry)
    }

    #[test]
    fn a_file_is_hidden_when_all_its_containers_mount_something_over_it() {
        let copy = "copy \"app/\" to=\"/srv/app\"";
        let bound = "container \"c\" { image \"a\"; mount bind=\"./app\" to=\"/srv/app\" }";
        let file = ("app/main.py", "main.py");
        assert!(hidden(copy, bound, file.0, file.1));
        assert!(hidden("workdir \"/srv\"; copy \"app\" to=\"app\"", bound, file.0, file.1), "from the workdir");
        assert!(hidden("copy \".\" to=\"/srv\"", &bound.replace("/app\" }", "\" }").replace("./app", "."), "x/y", "x/y"));
        assert!(hidden(copy, &bound.replace("./app", "other"), file.0, file.1), "another directory hides it as well");
        assert!(hidden(copy, &bound.replace("/srv/app", "/srv"), file.0, file.1), "so does one above");
        assert!(hidden(copy, "container \"c\" { image \"a\"; tmpfs \"/srv\" }", file.0, file.1), "and one in memory");
        for (image, rest, why) in [
            (copy, "container \"c\" { image \"a\" }".to_owned(), "nothing is bound"),
            (
                copy,
                "volume \"v\"\ncontainer \"c\" { image \"a\"; mount volume=\"v\" to=\"/srv\" }".to_owned(),
                "it may fill the volume",
            ),
            (copy, bound.replace("/srv/app", "/srv/app/deeper"), "only a part is bound"),
            (copy, format!("{bound}\ncontainer \"d\" {{ image \"a\" }}"), "one container does not bind it"),
            (copy, format!("{bound}\nimage \"b\" {{ from \"a\" }}"), "another image has it"),
            ("copy \"app/\" to=\"/srv/app\"; run \"make\"", bound.to_owned(), "a command may use it"),
            (copy, "container \"c\" { image \"a\"; replicas 0; mount bind=\"app\" to=\"/srv/app\" }".to_owned(), "nothing runs"),
        ] {
            assert!(!hidden(image, &rest, file.0, file.1), "{why}");
        }
    }
}

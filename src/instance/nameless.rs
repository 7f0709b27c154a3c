//! Containers, and commands of builds, that reach no name server on this host: no fault of the project file, but nothing outside
//! has a name for them.

use crate::model::{Location, Name};
use crate::network;
use crate::project::{Container, Locations, NetworkMode, NodePath, Project, RunNetwork, Step};
use crate::spec::Diagnostic;

/// Where a file or mount of a container takes the place of the list of servers.
const LIST: &str = "/etc/resolv.conf";

/// A warning for all containers, and one for all images, that reach no name server.
pub fn nameless(project: &Project, places: &Locations) -> Vec<Diagnostic> {
    match network::out_of_reach() {
        Ok(Some(why)) => warnings(project, places, &why),
        // Where the list cannot be read, `up` fails for that reason.
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn warnings(project: &Project, places: &Locations, why: &str) -> Vec<Diagnostic> {
    let containers = project.containers.iter().filter(|(_, container)| asks_the_host(project, container));
    let containers: Vec<(&Name, NodePath)> = containers.map(|(name, _)| (name, NodePath::container(name))).collect();
    let mut images: Vec<(&Name, NodePath)> = Vec::new();
    for (name, image) in &project.images {
        let asks = |step: &Step| matches!(step, Step::Run(run) if run.network == RunNetwork::Own);
        if let Some(index) = image.steps.iter().position(asks) {
            images.push((name, NodePath::image(name).step(index)));
        }
    }
    let kinds = [
        (containers, "container", "write dns \"ADDRESS\" in each, with a server that it reaches"),
        (
            images,
            "commands of the image",
            "add `nameserver ADDRESS` to the host's /etc/resolv.conf, or run them on its network: network=\"host\"",
        ),
    ];
    let some = kinds.into_iter().filter(|(all, ..)| !all.is_empty());
    some.map(|(all, kind, help)| {
        let place = all.first().and_then(|(_, path)| places.of(path)).cloned();
        let place = place.unwrap_or(Location { file: String::new(), line: 1, offset: 0, length: 0 });
        let names = all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let (s, reach) = match (kind, all.len()) {
            ("container", 1) => ("", "reaches"),
            (_, 1) => ("", "reach"),
            _ => ("s", "reach"),
        };
        let message = format!("{kind}{s} {names} {reach} no name server: {why}");
        Diagnostic::warning("no-name-server", place, message).help(help)
    })
    .collect()
}

/// Whether a container is told the host's name servers, and has a way out to them.
fn asks_the_host(project: &Project, container: &Container) -> bool {
    let is_internal = |name: &Name| project.networks.get(name).is_some_and(|network| network.internal);
    let networks = &container.networks;
    let is_out = networks.is_empty() || networks.iter().any(|attached| !is_internal(&attached.network));
    let files = container.configs.iter().chain(&container.secrets).map(|used| used.to.as_str());
    let mut placed = files.chain(container.mounts.iter().map(|mount| mount.to.as_str()));
    container.namespaces.network == NetworkMode::Own && is_out && container.dns.is_empty() && !placed.any(|to| to == LIST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, Choices, Sources};

    struct Text(&'static str);

    impl Sources for Text {
        fn read(&self, _: &str) -> Result<String, String> {
            Ok(self.0.to_owned())
        }

        fn env(&self, _: &str) -> Option<std::ffi::OsString> {
            None
        }
    }

    fn told(text: &'static str) -> Vec<(String, usize)> {
        let loaded = spec::load("stead.kdl", &Choices::default(), &Text(text));
        let project = loaded.project.unwrap_or_else(|_| panic!("{:?}", loaded.diagnostics));
        let found = warnings(&project, &loaded.places, "WHY");
        found.into_iter().map(|one| (one.message, one.place.line)).collect()
    }

    #[test]
    fn who_asks_the_hosts_servers_is_named_once() {
        let text = r#"project "p"
image "i" { debian "bookworm" { package "curl" }; run "make"; }
image "j" { from "i"; run "a"; run "curl x" network=#true; }
network "in" internal=#true
config "list" { content "nameserver 192.0.2.1" }
container "a" { image "i"; }
container "b" { image "i"; network "in" "out"; }
container "inside" { image "i"; network "in"; }
container "own" { image "i"; dns "192.0.2.1" "192.0.2.2"; }
container "hosts" { image "i"; namespace network="host"; }
container "none" { image "i"; namespace network="none"; }
container "written" { image "i"; config "list" to="/etc/resolv.conf"; }
network "out"
"#;
        let wanted = [
            ("containers a, b reach no name server: WHY".to_owned(), 6),
            ("commands of the image j reach no name server: WHY".to_owned(), 3),
        ];
        assert_eq!(told(text), wanted);
        let one = "project \"p\"\nimage \"i\" { }\ncontainer \"a\" { image \"i\"; }";
        assert_eq!(told(one), [("container a reaches no name server: WHY".to_owned(), 3)]);
        assert!(told("project \"p\"\nimage \"i\" { }").is_empty());
    }
}

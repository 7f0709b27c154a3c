//! Scenarios on a simulated host: a project, a lock and facts go in, the plan comes out as text.

use super::address::instance_loopback;
use super::image::StepInputs;
use super::image_volume::volume_of;
use super::observed::StepRecord;
use super::*;
use crate::lock::{Lock, LockedImage, LockedPackage, StepLock, debian_steps, request_key};
use crate::model::{Digest, LayerInfo, Name, Subnet};
use crate::spec::{self, Choices, Loaded, Sources};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const SHOP: &str = r#"
project "shop"
image "base" { debian "bookworm" { package "python3" } }
image "app" {
    from "base"
    copy "app/" to="/srv"
    run "make"
}
network "back" internal=#true
volume "data"
secret "key" file="key"
container "cache" { image "base"; network "back"; mount volume="data" to="/data"; }
container "web" {
    image "app"
    replicas 2
    env LEVEL="info"
    secret "key"
    network "back" "front"
    publish 8080 to=80
    depends-on "cache"
}
network "front"
"#;

/// A host that exists in memory only.
#[derive(Default)]
struct Host {
    text: String,
    env: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
    choices: Choices,
    files: BTreeMap<String, String>,
    results: RefCell<BTreeMap<Digest, StepOutput>>,
    images: RefCell<BTreeMap<Digest, Image>>,
    trees: BTreeMap<(Name, usize), FileTree>,
    listings: BTreeMap<Digest, FileTree>,
    lock: Lock,
    observed: Observed,
}

impl Sources for Host {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.text.clone())
    }

    fn env(&self, name: &str) -> Option<std::ffi::OsString> {
        self.env.get(name).map(Into::into)
    }

    fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        Ok(self.settings.clone())
    }
}

impl Facts for Host {
    fn step(&self, key: &Digest) -> Option<StepOutput> {
        self.results.borrow().get(key).cloned()
    }

    fn image(&self, key: &Digest) -> Option<Image> {
        self.images.borrow().get(key).cloned()
    }

    fn tree(&self, image: &Name, step: usize) -> Result<&FileTree, String> {
        self.trees.get(&(image.clone(), step)).ok_or_else(|| "there is no \"app\" to copy".into())
    }

    fn listing(&self, digest: &Digest) -> Option<FileTree> {
        self.listings.get(digest).cloned()
    }

    fn archive(&self, _: &crate::project::Outside) -> Result<Digest, String> {
        Ok(Digest::of("archive"))
    }

    fn surroundings(
        &self,
        _: &crate::project::Copy,
        _: &str,
        _: &[LayerInfo],
        _: &[LayerInfo],
        _: Option<&FileTree>,
    ) -> Option<Digest> {
        None
    }
}

impl Host {
    fn new(text: &str) -> Self {
        let mut host = Self { text: text.into(), ..Self::default() };
        host.files.insert("app/main.py".into(), "1".into());
        host.observed.instance = "c0ffee00".into();
        host.observed.tag = "beef".into();
        host.observed.firewall = true;
        host.contents("key", "secret");
        host
    }

    fn contents(&mut self, name: &str, text: &str) {
        self.observed.contents.insert(Name::parse(name).unwrap(), Digest::of(text));
    }

    fn load(&mut self) -> Loaded {
        let loaded = spec::load("stead.kdl", &self.choices, self);
        let project = loaded.project.as_ref().expect("a right file");
        let entries = self.files.iter().map(|(path, text)| TreeEntry {
            to: path.trim_start_matches("app/").into(),
            from: path.clone(),
            kind: TreeKind::File { digest: Digest::of(text), executable: false },
            mode: None,
            whole: false,
        });
        let tree = FileTree::from(entries.collect::<Vec<_>>());
        for (name, image) in &project.images {
            for (index, step) in image.steps.iter().enumerate() {
                if matches!(step, crate::project::Step::Copy(_)) {
                    self.trees.insert((name.clone(), index), tree.clone());
                }
            }
        }
        loaded
    }

    /// Locks every step with one package of this version.
    fn resolve(&mut self, version: &str) {
        let project = self.load().project.unwrap();
        self.lock = Lock::default();
        for (key, step) in debian_steps(&project) {
            let package = LockedPackage {
                name: "python3".into(),
                version: version.into(),
                architecture: "amd64".into(),
                sha256: Digest::of(version),
                size: 1,
                path: "pool/p.deb".into(),
                repository: None,
            };
            let suite = self.lock.suites.entry(step.suite.clone()).or_default();
            suite.packages.insert(package.key(), package.clone());
            let locked = StepLock { suite: step.suite.clone(), request: request_key(step), packages: [package.key()].into() };
            self.lock.steps.insert(key, locked);
        }
    }

    /// Builds every image; with `same`, a step's layer depends on nothing but its position.
    fn build(&mut self, same: bool) {
        let project = self.load().project.unwrap();
        for name in project.images.keys() {
            loop {
                match walk(&project, &self.lock, name, self) {
                    Walk::Step(pending) => {
                        let seed = if same { Digest::of(format!("{name}{}", pending.index)) } else { pending.key };
                        let layer = LayerInfo { diff_id: seed, size: 1, files: 1, blob: None };
                        self.results.borrow_mut().insert(pending.key, StepOutput { layer: Some(layer), skipped: Vec::new() });
                    }
                    Walk::Import(import) => self.import(&import),
                    Walk::Assemble(assembly) => {
                        let image =
                            Image { digest: Digest::of_json(&assembly.key), config: assembly.config, layers: assembly.layers };
                        self.images.borrow_mut().insert(assembly.key, image);
                    }
                    Walk::Built(image) => {
                        let mut steps: Vec<StepRecord> =
                            step_records(&project, &self.lock, name, self).into_iter().map(|(_, step)| step).collect();
                        for step in &mut steps {
                            if let StepInputs::Files(digest) = step.inputs {
                                step.listing = Some(digest);
                                self.listings.insert(digest, self.trees.values().next().unwrap().clone());
                            }
                        }
                        self.observed.record.images.insert(
                            name.clone(),
                            ImageRecord {
                                digest: image.digest,
                                steps,
                                settings: settings(&project.images[name], &self.lock),
                                private: BTreeSet::new(),
                                locked: locked_images(&project, &self.lock, name),
                            },
                        );
                        break;
                    }
                    Walk::Blocked(_) => {
                        // The images are in order of their names here, and "app" comes before "base".
                        let base = Name::parse("base").unwrap();
                        assert_ne!(*name, base);
                        let Walk::Step(pending) = walk(&project, &self.lock, &base, self) else {
                            let Walk::Assemble(assembly) = walk(&project, &self.lock, &base, self) else { panic!("stuck") };
                            let image = Image {
                                digest: Digest::of_json(&assembly.key),
                                config: assembly.config,
                                layers: assembly.layers,
                            };
                            self.images.borrow_mut().insert(assembly.key, image);
                            continue;
                        };
                        let seed = if same { Digest::of("base0") } else { pending.key };
                        let layer = LayerInfo { diff_id: seed, size: 1, files: 1, blob: None };
                        self.results.borrow_mut().insert(pending.key, StepOutput { layer: Some(layer), skipped: Vec::new() });
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }

    /// Puts an image from elsewhere into the store.
    fn import(&self, import: &Import) {
        let layer = LayerInfo { diff_id: import.key, size: 1, files: 1, blob: None };
        let digest = import.digest.unwrap_or(import.key);
        let image = Image { digest, config: Config::default(), layers: vec![layer] };
        self.images.borrow_mut().insert(import.key, image);
    }

    /// Pretends that the plan was executed.
    fn converge(&mut self) {
        self.build(false);
        let planned = self.planned();
        assert!(!planned.builds());
        let project = self.load().project.unwrap();
        for (name, one) in &planned.desired {
            let record = ContainerRecord {
                container: one.container.clone(),
                replica: one.replica,
                image_name: one.image_name.to_string(),
                image: one.image.as_ref().unwrap().digest,
                aspects: one.aspects.clone(),
                private: project.private_of(&one.aspects),
                addresses: one.networks.iter().map(|attached| (attached.network.clone(), attached.address)).collect(),
                ports: one.ports.clone(),
                labels: one.spec.labels.clone(),
                web: one.web(),
                job: one.is_job().then_some(JobState::Done),
                in_turns: one.spec.update.is_some(),
                generation: 1,
            };
            self.observed.record.containers.insert(name.clone(), record);
            self.observed.containers.insert(name.clone(), if one.is_job() { Seen::Finished } else { Seen::Running });
        }
        self.observed.bridges = planned.networks.values().map(|network| network.bridge.clone()).collect();
        self.observed.routes = planned.networks.values().map(|network| (network.subnet, network.bridge.clone())).collect();
        self.observed.record.networks = planned.networks;
        let filled = planned.plan.tasks.into_iter().filter_map(|task| match task.action {
            Action::Fill { volume } => Some(volume),
            _ => None,
        });
        self.observed.record.volumes.extend(filled);
    }

    fn planned(&mut self) -> Planned {
        let loaded = self.load();
        plan((&loaded.project.unwrap(), &loaded.places, &self.lock), &self.observed, self, &BTreeSet::new())
            .map_err(|error| error.chain())
            .unwrap()
    }

    fn fails(&mut self) -> String {
        let loaded = self.load();
        plan((&loaded.project.unwrap(), &loaded.places, &self.lock), &self.observed, self, &BTreeSet::new()).unwrap_err().chain()
    }

    /// The plan, with one line for each change.
    fn lines(&mut self) -> String {
        let planned = self.planned();
        let line = |change: &Change| {
            let symbol = serde_json::to_value(change.symbol).unwrap();
            let causes: Vec<String> = change
                .causes
                .iter()
                .map(|cause| match &cause.place {
                    Some(place) => format!("{} ({place})", cause.text),
                    None => cause.text.clone(),
                })
                .collect();
            format!(
                "{} {:?} {} [{}] <- {}",
                symbol.as_str().unwrap(),
                change.object,
                change.name,
                change.detail,
                causes.join("; ")
            )
        };
        planned.plan.changes().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn converged() -> Host {
    let mut host = Host::new(SHOP);
    host.resolve("1");
    host.converge();
    host
}

#[test]
fn from_nothing_everything_is_made() {
    let mut host = Host::new(SHOP);
    insta::assert_snapshot!(host.lines(), @r#"
    + Lock bookworm [resolve python3 for image base] <- not in stead.lock (stead.kdl:3)
    + Image base [build] <- not built yet (stead.kdl:3)
    + Image app [build] <- not built yet (stead.kdl:4)
    + Network back [10.154.135.0/24, internal] <- not there yet (stead.kdl:9)
    + Network front [10.175.228.0/24] <- not there yet (stead.kdl:22)
    + Volume data [] <- not there yet (stead.kdl:10)
    + Container cache-1 [image base] <- not there yet (stead.kdl:12)
    + Container web-1 [image app] <- not there yet (stead.kdl:13)
    + Container web-2 [image app] <- not there yet (stead.kdl:13)
    "#);
}

#[test]
fn a_second_plan_is_empty() {
    assert_eq!(converged().lines(), "");
}

#[test]
fn a_record_tells_the_volumes_that_a_container_mounts() {
    let host = converged();
    let of = |name: &str| host.observed.record.containers[name].volumes();
    assert_eq!(of("cache-1"), BTreeSet::from([Name::parse("data").unwrap()]));
    assert_eq!(of("web-1"), BTreeSet::new());
}

#[test]
fn comments_and_order_change_nothing() {
    let mut host = converged();
    host.text = format!("// hello\n{}", SHOP.replace("volume \"data\"\n", ""))
        .replace("network \"front\"", "volume \"data\"\nnetwork \"front\" // x");
    assert_eq!(host.lines(), "");
}

#[test]
fn an_env_replaces_its_container_alone() {
    let mut host = converged();
    host.text = SHOP.replace("info", "debug");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Container web-1 [replace] <- env.LEVEL "info" → "debug" (stead.kdl:16)
    ~ Container web-2 [replace] <- env.LEVEL "info" → "debug" (stead.kdl:16)
    "#);
}

#[test]
fn a_source_rebuilds_and_concerns_its_users_alone() {
    let mut host = converged();
    host.files.insert("app/main.py".into(), "2".into());
    host.files.insert("app/new.py".into(), "x".into());
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Image app [build] <- app/main.py changed; app/new.py is new
    ~ Container web-1 [if the image changes] <- the image app is rebuilt ← app/main.py changed
    ~ Container web-2 [if the image changes] <- the image app is rebuilt ← app/main.py changed
    "#);
}

#[test]
fn a_setting_of_an_image_is_named_with_its_place() {
    let mut host = converged();
    host.text = SHOP.replace("run \"make\"", "run \"make\"; env A=\"1\"; cmd \"x\"");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Image app [build] <- cmd is new (stead.kdl:7); env.A is new (stead.kdl:7)
    ~ Container web-1 [if the image changes] <- the image app is rebuilt ← cmd is new (stead.kdl:7)
    ~ Container web-2 [if the image changes] <- the image app is rebuilt ← cmd is new (stead.kdl:7)
    "#);
    host.build(false);
    host.converge();
    host.text = host.text.replace("A=\"1\"", "A=\"2\"");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Image app [build] <- env.A "1" → "2" (stead.kdl:7)
    ~ Container web-1 [if the image changes] <- the image app is rebuilt ← env.A "1" → "2" (stead.kdl:7)
    ~ Container web-2 [if the image changes] <- the image app is rebuilt ← env.A "1" → "2" (stead.kdl:7)
    "#);
}

#[test]
fn a_rebuild_that_gives_the_same_bytes_changes_no_container() {
    let mut host = Host::new(SHOP);
    host.resolve("1");
    host.build(true);
    host.converge();
    host.files.insert("app/main.py".into(), "2".into());
    host.build(true);
    assert_eq!(host.lines(), "");
}

#[test]
fn a_package_bump_is_named() {
    let mut host = converged();
    host.resolve("2");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Image base [build] <- stead.lock: python3 1 → 2
    ~ Image app [build] <- the image base is rebuilt ← stead.lock: python3 1 → 2
    ~ Container cache-1 [if the image changes] <- the image base is rebuilt ← stead.lock: python3 1 → 2
    ~ Container web-1 [if the image changes] <- the image app is rebuilt ← the image base is rebuilt ← stead.lock: python3 1 → 2
    ~ Container web-2 [if the image changes] <- the image app is rebuilt ← the image base is rebuilt ← stead.lock: python3 1 → 2
    "#);
}

#[test]
fn a_reference_that_was_updated_is_named_also_where_its_image_is_there_already() {
    const REFERENCE: &str = "a.example/x:1";
    let mut host = Host::new(
        "project \"p\"\nimage \"main\" { from \"a.example/x:1\"; env A=\"1\"; }\n\
         image \"top\" { from \"main\"; env B=\"1\"; }\ncontainer \"c\" { image \"top\"; }\n",
    );
    let (old, new) = (Digest::of("old"), Digest::of("new"));
    host.lock.images.insert(REFERENCE.into(), LockedImage::here(old));
    host.converge();
    assert_eq!(host.lines(), "");
    host.lock.images.insert(REFERENCE.into(), LockedImage::here(new));
    let cause = format!("stead.lock: {REFERENCE} sha256:{}… → sha256:{}…", old.short(12), new.short(12));
    let lines = host.lines();
    assert!(lines.starts_with(&format!("~ Image {REFERENCE} [pull] <- {cause}")), "{lines}");
    assert!(lines.lines().count() == 4 && lines.lines().all(|line| line.contains(&cause)), "{lines}");
    // Another project has pulled it: nothing has to be made before the images that start from it.
    let project = host.load().project.unwrap();
    let Walk::Import(import) = walk(&project, &host.lock, &Name::of_reference(REFERENCE), &host) else { panic!("it is there") };
    host.import(&import);
    let lines = host.lines();
    assert!(lines.starts_with(&format!("~ Image main [build] <- {cause}")), "{lines}");
    assert!(lines.lines().count() == 3 && lines.lines().all(|line| line.contains(&cause)), "{lines}");
    // The record of an older stead knows the digest of the image itself.
    host.observed.record.images.values_mut().for_each(|record| record.locked.clear());
    host.images.borrow_mut().remove(&import.key);
    let lines = host.lines();
    assert!(lines.lines().all(|line| line.contains(&cause)), "{lines}");
}

#[test]
fn a_secret_restarts_exactly_its_users() {
    let mut host = converged();
    host.contents("key", "other");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Container web-1 [restart] <- secret.key changed (stead.kdl:17)
    ~ Container web-2 [restart] <- secret.key changed (stead.kdl:17)
    "#);
    let plan = serde_json::to_string(&host.planned().plan).unwrap();
    assert!(!plan.contains(&Digest::of("other").hex()[..16]), "a plan contains nothing of a secret");
}

#[test]
fn fewer_replicas_and_removed_containers_go() {
    let mut host = converged();
    host.text = SHOP
        .replace("replicas 2", "replicas 1")
        .replace("container \"cache\" { image \"base\"; network \"back\"; mount volume=\"data\" to=\"/data\"; }", "")
        .replace("depends-on \"cache\"", "");
    insta::assert_snapshot!(host.lines(), @r#"
    - Container cache-1 [] <- no longer in the project file
    - Container web-2 [] <- fewer replicas are wanted (stead.kdl:15)
    "#);
}

#[test]
fn what_died_is_started_and_what_finished_is_left() {
    let mut host = converged();
    host.observed.containers.insert("web-2".into(), Seen::Down(Down::Ended(3)));
    host.observed.containers.insert("cache-1".into(), Seen::Finished);
    assert_eq!(host.lines(), "~ Container web-2 [start] <- its command ended with exit status 3");
}

#[test]
fn a_flushed_firewall_and_a_lost_bridge_are_made_again() {
    let mut host = converged();
    host.observed.firewall = false;
    assert_eq!(
        host.lines(),
        "~ Firewall firewall [] <- the host's packet filter changed since the last `up`, or that `up` was interrupted"
    );
    host.observed.bridges.clear();
    assert!(host.lines().starts_with("+ Network back"), "{}", host.lines());
}

#[test]
fn addresses_are_planned_and_stay() {
    let mut host = converged();
    let before = host.planned().desired["web-2"].networks.clone();
    host.text = SHOP.replace("replicas 2", "replicas 3");
    assert_eq!(host.lines(), "+ Container web-3 [image app] <- replicas 2 → 3 (stead.kdl:15)");
    let after = host.planned();
    assert_eq!(after.desired["web-2"].networks, before);
    // If a VPN takes the subnet, the network moves.
    let subnet = before[0].record.subnet;
    host.observed.routes.push((Subnet::new(subnet.host(0), 16), "tun0".into()));
    let moved = host.planned().desired["web-2"].networks[0].record.subnet;
    assert!(!moved.overlaps(&Subnet::new(subnet.host(0), 16)));
}

#[test]
fn a_network_is_as_large_as_its_containers_need() {
    let mut host = converged();
    let subnet = |host: &mut Host| host.planned().desired["web-1"].networks[0].record.subnet;
    let before = subnet(&mut host);
    host.text = SHOP.replace("replicas 2", "replicas 252");
    assert_eq!((subnet(&mut host), before.prefix()), (before, 24), "with the gateway and `cache`, 254 addresses are enough");
    for (replicas, prefix) in [(253, 23), (1000, 22)] {
        host.text = SHOP.replace("replicas 2", &format!("replicas {replicas}"));
        assert_eq!(subnet(&mut host).prefix(), prefix, "{replicas}");
    }
}

/// A value that was once private stays so: the one on record is not shown when the next one comes from the project file.
#[test]
fn values_from_outside_are_never_shown() {
    let text = format!("param \"pw\" default=\"fromfile\" env=\"PW\"\n{}", SHOP.replace("LEVEL=\"info\"", "LEVEL=\"${pw}\""));
    let changes = [
        (("hunter2!", ""), ("other-one", "")),
        (("hunter2!", ""), ("", "")),
        (("", ""), ("hunter2!", "")),
        (("", "hunter2!"), ("", "")),
        (("x", ""), ("y", "")),
    ];
    for (before, after) in changes {
        let mut host = Host::new(&text);
        let give = |host: &mut Host, (env, set): (&str, &str)| {
            host.env = [("PW".to_owned(), env.to_owned())].into_iter().filter(|(_, value)| !value.is_empty()).collect();
            host.choices.set = [("pw".to_owned(), set.to_owned())].into_iter().filter(|(_, value)| !value.is_empty()).collect();
        };
        give(&mut host, before);
        host.resolve("1");
        host.converge();
        give(&mut host, after);
        let lines = host.lines();
        assert!(lines.contains("env.LEVEL changed"), "{before:?} {after:?}: {lines}");
    }
    let mut host = Host::new(&SHOP.replace("LEVEL=", "API_TOKEN="));
    host.resolve("1");
    host.converge();
    host.text = host.text.replace("info", "warn");
    assert!(host.lines().contains("env.API_TOKEN changed"), "{}", host.lines());
}

#[test]
fn what_an_image_declares_as_data_gets_a_volume_of_each_replica() {
    let mut host =
        Host::new(&SHOP.replace("run \"make\"", "run \"make\"; volume \"/srv/data\" \"/var/lib/x\" \"/a-b\" \"/proc\""));
    host.text = host.text.replace("publish 8080", "mount volume=\"data\" to=\"/srv\"; publish 8080");
    host.resolve("1");
    let lines = host.lines();
    let own = volume_of("web-1", "/var/lib/x");
    let volume = format!(
        "+ Volume {own} [/var/lib/x of web-1] <- the image of web-1 keeps data in /var/lib/x, and nothing is mounted there \
         (stead.kdl:14)"
    );
    assert!(lines.contains(&volume) && lines.contains("+ Volume web-2-var-lib-x"), "{lines}");
    assert!(!lines.contains("/srv/data of") && !lines.contains("/proc"), "a mount above keeps it: {lines}");
    let order: Vec<usize> = ["+ Volume web-1-var", "+ Container web-1"].iter().map(|text| lines.find(text).unwrap()).collect();
    assert!(order[0] < order[1], "{lines}");
    host.converge();
    assert!(host.planned().desired["web-1"].kept["/a-b"].as_str().starts_with("web-1-a-b-"), "names are unique");
    let volumes = host.observed.record.containers["web-1"].volumes();
    assert!(volumes.contains(&own) && volumes.contains("data"), "{volumes:?}");
    host.observed.record.volumes.extend(volumes);
    let second = host.observed.record.containers["web-2"].volumes();
    host.observed.record.volumes.extend(second);
    assert_eq!(host.lines(), "");
    // Replaced, it finds its volume again.
    host.text = host.text.replace("info", "warn");
    let lines = host.lines();
    assert!(!lines.contains("Volume") && lines.contains("web-1 [replace]"), "{lines}");
    host.text = host.text.replace("warn", "info");
    // One that was up before images' data was kept is replaced once.
    let record = host.observed.record.containers.get_mut("web-1").unwrap();
    record.aspects.remove("image.volume./var/lib/x");
    let lines = host.lines();
    assert!(lines.contains("web-1 [replace] <- what its image keeps in /var/lib/x gets a volume"), "{lines}");
    // A volume of the project cannot have its name, whatever is in it by now.
    let text = host.text.clone();
    host.text.push_str(&format!("volume \"{own}\"\n"));
    let loaded = host.load();
    let project = loaded.project.unwrap();
    let found = plan((&project, &loaded.places, &host.lock), &host.observed, &host, &BTreeSet::new());
    let why = found.unwrap_err().chain();
    assert!(why.contains(&format!("\"{own}\" is the one for /var/lib/x of web-1")), "{why}");
    host.text = text;
    // What runs once keeps nothing.
    let cache = "container \"cache\" { image \"base\"; network \"back\"; mount volume=\"data\" to=\"/data\"; }";
    assert!(host.text.contains(cache));
    host.text = host.text.replace(cache, "job \"cache\" { image \"app\"; cmd \"make\"; }");
    let planned = host.planned();
    let job = &planned.desired["cache-1"];
    assert!(job.kept.is_empty() && job.passing.contains("/var/lib/x") && !job.passing.contains("/proc"), "{:?}", job.passing);
}

#[test]
fn the_volumes_of_images_that_are_not_built_do_not_replace_a_container() {
    let mut host = Host::new(&SHOP.replace("run \"make\"", "run \"make\"; volume \"/var/lib/x\""));
    host.resolve("1");
    host.converge();
    let volumes: Vec<Name> = host.observed.record.containers.values().flat_map(ContainerRecord::volumes).collect();
    host.observed.record.volumes.extend(volumes);
    // Its record has a volume that came from a base, which nobody knows while the base is not there.
    let record = host.observed.record.containers.get_mut("web-1").unwrap();
    record.aspects.insert("image.volume./base".into(), "x".into());
    host.results.borrow_mut().clear();
    host.images.borrow_mut().clear();
    assert_eq!(host.planned().deeds["web-1"], Deed::Start(How::FreshIfImageChanges));
}

#[test]
fn lost_data_is_told_apart() {
    let mut host = converged();
    host.observed.written = ["web-1", "web-2", "cache-1"].map(str::to_owned).into();
    let drifted = Drifted { files: 2, digest: Digest::of("drift") };
    host.text = SHOP.replace("info", "warn").replace("replicas 2", "replicas 1");
    host.observed.drift.insert("web-1".into(), drifted);
    let losses = host.planned().plan.losses;
    let told: Vec<String> = losses.iter().map(|loss| format!("{:?} {}: {}", loss.what, loss.of, loss.text)).collect();
    assert_eq!(
        told,
        [
            "Drift web-1: 2 files that `watch` has synced into it, and that its image does not have (it is replaced)",
            "Written web-1: the files that it wrote outside of its volumes (it is replaced)",
            "Written web-2: the files that it wrote outside of its volumes (it is removed)",
        ],
        "cache-1 goes on"
    );
    host.text = SHOP.to_owned();
    host.observed.drift.clear();
    assert!(host.planned().plan.losses.is_empty());
    // A restart keeps the root.
    host.observed.containers.insert("web-1".into(), Seen::Down(Down::Ended(1)));
    assert!(host.planned().plan.losses.is_empty());
}

#[test]
fn long_values_are_cut_around_their_difference() {
    let config = "/usr/bin/prometheus --config.file=/etc/prometheus/";
    let mut host = Host::new(&SHOP.replace("info", &format!("{config}one.yml")));
    host.resolve("1");
    host.converge();
    host.text = host.text.replace("one.yml", "two.yml");
    let lines = host.lines();
    assert!(lines.contains("env.LEVEL \"…/prometheus/one.yml\" → \"…/prometheus/two.yml\""), "{lines}");
}

#[test]
fn a_fixed_subnet_that_a_route_has_is_refused() {
    let mut host = Host::new(&SHOP.replace("network \"front\"\n", "network \"front\" subnet=\"10.9.8.0/24\"\n"));
    host.resolve("1");
    host.observed.routes.push((Subnet::parse("10.9.0.0/16").unwrap(), "tun0".into()));
    let text = host.fails();
    assert!(text.contains("stead.kdl:22") && text.contains("10.9.0.0/16") && text.contains("tun0"), "{text}");
}

#[test]
fn a_port_of_a_sister_instance_moves_to_own_loopback_and_a_strangers_is_refused() {
    let mut host = Host::new(SHOP);
    host.resolve("1");
    let taken = |project: &str| TakenPort {
        address: [127, 0, 0, 1].into(),
        port: 8080,
        protocol: crate::project::Protocol::Tcp,
        project: project.into(),
        folder: "/other".into(),
    };
    host.observed.taken.ports = vec![taken("shop")];
    let address = host.planned().desired["web-1"].ports[0].address;
    assert_eq!(address, instance_loopback("c0ffee00"));
    assert!(address.is_loopback() && address.octets()[1] >= 64);
    host.observed.taken.ports = vec![taken("blog")];
    assert!(host.fails().contains("taken by the project \"blog\""));
}

#[test]
fn a_missing_source_is_told_with_its_place() {
    let mut host = Host::new(SHOP);
    host.resolve("1");
    host.build(false);
    host.trees.clear();
    host.files.clear();
    let loaded = spec::load("stead.kdl", &Choices::default(), &host);
    let error =
        plan((&loaded.project.unwrap(), &loaded.places, &host.lock), &host.observed, &host, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.to_string(), "stead.kdl:6: there is no \"app\" to copy");
}

#[test]
fn the_first_releases_record_is_read() {
    let first = r#"{"project":"old","folder":"/p","file":"stead.kdl","networks":{"default":{"bridge":"br-st1","subnet":"10.163.34.0/24",
        "gateway":"10.163.34.1","internal":false,"mtu":1500,"external":false}},"containers":{"c-1":{"container":"c","replica":1,
        "image_name":"b","image":"sha256:bd1141c4ecfb314ad15606626c58f9230351cadbf1394b195e49bd3c14875fc5","aspects":{"init":"false"},
        "addresses":{"default":"10.163.34.2"},"ports":[{"address":"127.0.0.1","port":18999,"protocol":"tcp","to":80}],"generation":1}},
        "images":{"b":{"digest":"sha256:bd1141c4ecfb314ad15606626c58f9230351cadbf1394b195e49bd3c14875fc5","steps":[]}},
        "generation":0,"volumes":[],"serial":3}"#;
    let record: InstanceRecord = serde_json::from_str(first).unwrap();
    assert_eq!((record.serial, record.containers["c-1"].generation), (3, 1));
}

#[test]
fn what_steps_reach_beyond_their_sandbox_is_marked() {
    let text = "project \"p\"\nimage \"base\" { }\nimage \"app\" { from \"base\"; copy \"/x\" from=\"base\" to=\"/x\"; run \"curl example\" network=#true; \
                run \"mount x\" privileged=#true; add git=\"git@host:x\" commit=\"0123456789abcdef0123456789abcdef01234567\" to=\"/\"; }\n\
                container \"c\" { image \"app\"; }";
    let plan = Host::new(text).planned().plan;
    let app = plan.changes().find(|change| change.name == "app").unwrap();
    let told: Vec<&str> = app.trust.iter().map(|cause| cause.text.as_str()).collect();
    assert_eq!(
        told,
        [
            "reaches the network while it is built: curl example",
            "is privileged while it is built, nothing masked and no filter: mount x",
            "is fetched with your ssh keys: git@host:x"
        ]
    );
    assert_eq!(app.trust[0].place.as_ref().map(|place| place.line), Some(3));
    let base = plan.changes().find(|change| change.name == "base").unwrap();
    assert!(base.trust.is_empty());
}

/// The exact identity of a container: if it changes, the next release replaces all containers of all users.
#[test]
fn the_identity_of_a_container_stays_as_it_is() {
    let mut host = Host::new(include_str!("testdata/identity.kdl"));
    host.contents("s", "secret");
    host.contents("c", "text");
    host.resolve("1");
    host.build(false);
    let planned = host.planned();
    let lines = planned.desired.iter().flat_map(|(name, one)| {
        one.aspects.iter().filter(|(path, _)| *path != "image").map(move |(path, value)| format!("{name} {path} {value}\n"))
    });
    let found: String = lines.collect();
    let wanted = include_str!("testdata/identity.txt");
    assert!(found == wanted, "if this is intended and worth it, write it into src/plan/testdata/identity.txt:\n{found}");
}

#[test]
fn the_plan_is_a_graph_in_which_nothing_ends_before_all_is_prepared() {
    let mut host = converged();
    host.text = SHOP.replace("info", "debug").replace("run \"make\"", "run \"make all\"");
    host.observed.containers.insert("cache-1".into(), Seen::Down(Down::Lost));
    let plan = host.planned().plan;
    let line = |task: &Task| {
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        format!("{} <- {} | {}", task.name, names(&task.after), names(&task.whatever)).trim_end_matches([' ', '|']).to_owned()
    };
    insta::assert_snapshot!(plan.tasks.iter().map(line).collect::<Vec<_>>().join("\n"), @"
    build app <-
    prepare <- build app
    connect <- end cache-1, end web-1, end web-2, prepare
    fill data <- connect
    record <- connect, fill data
    admit <- record
    await cache-1 started <- start cache-1
    start cache-1 <- admit
    start web-1 <- admit, await cache-1 started
    start web-2 <- admit, await cache-1 started
    end cache-1 <- prepare | end web-1, end web-2
    end web-1 <- prepare
    end web-2 <- prepare
    publish <- admit | start cache-1, start web-1, start web-2
    settle cache-1 <- start cache-1 | publish
    settle web-1 <- start web-1 | publish
    settle web-2 <- start web-2 | publish
    ");
    assert_eq!(serde_json::from_value::<Plan>(serde_json::to_value(&plan).unwrap()).unwrap(), plan);
}

#[test]
fn what_is_locked_for_other_platforms_only_is_resolved() {
    let mut host = Host::new(
        "project \"p\"\nimage \"r\" { from \"docker.io/library/r:1\"; }\ncontainer \"c\" { image \"r\"; network \"n\"; }\nnetwork \"n\"",
    );
    let elsewhere = crate::lock::LockedImage { platforms: [("linux/other".to_owned(), Digest::of("r"))].into(), signed_by: None };
    host.lock.images.insert("docker.io/library/r:1".into(), elsewhere);
    let lines = host.lines();
    assert!(
        lines.starts_with("~ Lock docker.io/library/r:1 [resolve which image that is] <- locked for other platforms only"),
        "{lines}"
    );
    assert_eq!(host.planned().plan.tasks[0].action, Action::Resolve);
}

const JOBS: &str = r#"
project "p"
image "base" { debian "bookworm" { package "python3" } }
volume "data"
container "db" { image "base"; mount volume="data" to="/data"; }
job "migrate" { image "base"; cmd "migrate"; inputs "migrations/"; depends-on "db"; mount volume="data" to="/data"; }
container "web" { image "base"; depends-on "migrate"; }
"#;

impl Host {
    /// The files of the inputs of the job, each with its content.
    fn inputs(&mut self, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Digest::of(text).short(16))).collect();
        self.observed.inputs.insert(Name::parse("migrate").unwrap(), files);
    }

    fn born(&mut self, when: &str) {
        self.observed.births.insert(Name::parse("data").unwrap(), when.to_owned());
    }
}

fn with_a_job_done() -> Host {
    let mut host = Host::new(JOBS);
    host.resolve("1");
    host.inputs(&[("migrations/001.sql", "1"), ("migrations/002.sql", "2")]);
    host.born("yesterday");
    host.converge();
    host
}

#[test]
fn a_job_runs_before_what_depends_on_it() {
    let mut host = Host::new(JOBS);
    host.resolve("1");
    host.build(false);
    let plan = host.planned().plan;
    let change = plan.changes().find(|change| change.name == "migrate-1").unwrap();
    let line = change.causes[0].place.as_ref().map(|place| place.line);
    assert_eq!((change.symbol, change.object, change.detail.as_str(), line), (Symbol::Create, Object::Job, "run", Some(6)));
    let after = |name: &str| plan.tasks.iter().find(|task| task.name == name).unwrap().after.clone();
    assert!(after("start migrate-1").contains("await db-1 started"));
    assert!(after("await migrate-1 completed").contains("start migrate-1"));
    assert!(after("start web-1").contains("await migrate-1 completed"));
    assert!(after("settle migrate-1").contains("start migrate-1"));
}

#[test]
fn a_job_that_is_done_runs_again_only_for_another_input() {
    let mut host = with_a_job_done();
    assert_eq!(host.lines(), "");
    host.text = JOBS.replace("cmd \"migrate\";", "cmd \"migrate\"; timeout \"5s\";");
    assert_eq!(host.lines(), "", "how long it may take changes no result");
    host.text = JOBS.replace("cmd \"migrate\"", "cmd \"migrate\" \"all\"");
    assert_eq!(host.lines(), "~ Job migrate-1 [run] <- cmd \"migrate\" → \"migrate all\" (stead.kdl:6)");
    host.text = JOBS.to_owned();
    host.inputs(&[("migrations/002.sql", "other"), ("migrations/003.sql", "3")]);
    assert_eq!(
        host.lines(),
        "~ Job migrate-1 [run] <- inputs: migrations/001.sql is gone, migrations/002.sql changed, migrations/003.sql is new \
         (stead.kdl:6)"
    );
    assert_eq!(host.planned().deeds["migrate-1"], Deed::Start(How::Fresh));
    host.inputs(&[("a", "1"), ("b", "1")]);
    assert!(host.lines().contains("inputs: a is new, b is new, migrations/001.sql is gone, and 1 more"), "{}", host.lines());
}

#[test]
fn a_job_runs_again_for_another_volume_and_after_a_failure() {
    let mut host = with_a_job_done();
    host.born("today");
    assert_eq!(host.lines(), "~ Job migrate-1 [run] <- volume data is another one than when it ran (stead.kdl:6)");
    host.born("yesterday");
    for (seen, cause) in [
        (Seen::Down(Down::Ended(3)), "its command ended with exit status 3"),
        (Seen::Down(Down::Stopped), "somebody stopped it"),
        (Seen::Down(Down::TimedOut(crate::model::Duration(5000))), "it timed out after 5s"),
        (Seen::Down(Down::Lost), "it was not done"),
    ] {
        host.observed.containers.insert("migrate-1".into(), seen);
        assert_eq!(host.lines(), format!("~ Job migrate-1 [run] <- {cause}"));
        assert_eq!(host.planned().deeds["migrate-1"], Deed::Start(How::Fresh));
    }
    host.observed.containers.insert("migrate-1".into(), Seen::Running);
    assert_eq!(host.lines(), "");
}

#[test]
fn what_was_not_started_says_which_of_its_dependencies_failed() {
    let mut host = Host::new(&format!("{JOBS}container \"last\" {{ image \"base\"; depends-on \"web\"; }}\n"));
    host.resolve("1");
    host.converge();
    for name in ["web-1", "last-1"] {
        host.observed.containers.insert(name.into(), Seen::Down(Down::Lost));
    }
    host.observed.containers.insert("migrate-1".into(), Seen::Down(Down::Ended(3)));
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Container last-1 [start] <- it depends on web-1, which was not started ← it depends on migrate-1, which ended with exit status 3 (stead.kdl:7)
    ~ Job migrate-1 [run] <- its command ended with exit status 3
    ~ Container web-1 [start] <- it depends on migrate-1, which ended with exit status 3 (stead.kdl:7)
    "#);
    host.observed.containers.insert("migrate-1".into(), Seen::Down(Down::TimedOut(crate::model::Duration(60_000))));
    assert!(host.lines().contains("web-1 [start] <- it depends on migrate-1, which timed out after 1m"), "{}", host.lines());
    // Once the job is done, it is only that it does not run.
    host.observed.containers.insert("migrate-1".into(), Seen::Finished);
    assert!(host.lines().contains("web-1 [start] <- it is not running"), "{}", host.lines());
}

#[test]
fn a_job_whose_inputs_change_while_it_runs_runs_again() {
    let mut host = with_a_job_done();
    host.observed.containers.insert("migrate-1".into(), Seen::Running);
    host.inputs(&[("migrations/001.sql", "1"), ("migrations/002.sql", "saved meanwhile")]);
    assert_eq!(host.lines(), "~ Job migrate-1 [run] <- inputs: migrations/002.sql changed (stead.kdl:6)");
    // It is over by now, with what it was started with.
    host.observed.containers.insert("migrate-1".into(), Seen::Finished);
    assert_eq!(host.planned().deeds["migrate-1"], Deed::Start(How::Fresh));
}

#[test]
fn the_record_of_a_job_says_how_far_it_is_and_that_of_a_container_does_not() {
    let record = with_a_job_done().observed.record;
    let value = serde_json::to_value(&record).unwrap();
    assert_eq!(value["containers"]["migrate-1"]["job"], "done");
    assert!(value["containers"]["web-1"].get("job").is_none());
    assert_eq!(serde_json::from_value::<InstanceRecord>(value).unwrap(), record);
}

const TURNS: &str = r#"
project "shop"
image "base" { debian "bookworm" { package "python3" } }
container "web" {
    image "base"
    replicas 2
    env LEVEL="info"
    publish 8080 to=80
    healthcheck { tcp 80 }
    update { order "start-first"; }
}
container "proxy" { image "base"; depends-on "web"; }
"#;

fn in_turns(text: &str) -> Host {
    let mut host = Host::new(text);
    host.resolve("1");
    host.converge();
    host
}

/// What each task that is about a replica waits for.
fn order(planned: &Planned) -> BTreeMap<String, String> {
    let of_replica = |name: &str| ["end ", "start ", "retire ", "settle "].iter().any(|verb| name.starts_with(verb));
    let tasks = planned.plan.tasks.iter().filter(|task| of_replica(&task.name));
    let waits = |task: &Task| {
        let all = task.after.iter().chain(&task.whatever).filter(|name| of_replica(name));
        all.cloned().collect::<Vec<_>>().join(", ")
    };
    tasks.map(|task| (task.name.clone(), waits(task))).collect()
}

#[test]
fn a_further_replica_serves_while_others_are_replaced_one_after_the_other() {
    let mut host = in_turns(TURNS);
    host.text = TURNS.replace("info", "debug");
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Container web-1 [replace] <- env.LEVEL "info" → "debug" (stead.kdl:7)
    ~ Container web-2 [replace] <- env.LEVEL "info" → "debug" (stead.kdl:7)
    + Container web-3 [stands in] <- it serves while the others are replaced, then ends (stead.kdl:10)
    "#);
    let planned = host.planned();
    let order = order(&planned);
    for (task, waits) in [
        ("start web-3", ""),
        ("settle web-3", "start web-3"),
        ("end web-1", "settle web-3"),
        ("start web-1", "end web-1"),
        ("settle web-1", "start web-1"),
        ("end web-2", "settle web-1"),
        ("start web-2", "end web-2"),
        ("settle web-2", "start web-2"),
        ("retire web-3", "settle web-1, settle web-2, settle web-3"),
        ("settle proxy-1", ""),
    ] {
        assert_eq!(order[task], waits, "{task}");
    }
    let address = |name: &str| planned.desired[name].networks[0].address;
    assert!(address("web-3") > address("web-2") && address("web-3") != address("proxy-1"), "it has an address of its own");
    assert_eq!(planned.desired["web-3"].ports, planned.desired["web-1"].ports);
}

#[test]
fn one_replica_has_a_stand_in_too_and_nothing_is_planned_for_those_that_stay() {
    let text = TURNS.replace("replicas 2", "replicas 1");
    let mut host = in_turns(&text);
    assert_eq!(host.lines(), "");
    assert!(!host.planned().desired.contains_key("web-2"));
    host.text = text.replace("info", "debug");
    let order = order(&host.planned());
    assert_eq!((order["end web-1"].as_str(), order["retire web-2"].as_str()), ("settle web-2", "settle web-1, settle web-2"));
}

#[test]
fn as_many_as_are_wanted_are_replaced_at_once() {
    let text = TURNS.replace("replicas 2", "replicas 5").replace("\"start-first\";", "\"start-first\"; parallel 2;");
    let mut host = in_turns(&text);
    host.text = text.replace("info", "debug");
    let order = order(&host.planned());
    assert_eq!(
        (order["end web-1"].as_str(), order["end web-2"].as_str()),
        ("settle web-6, settle web-7", "settle web-6, settle web-7")
    );
    assert_eq!(order["end web-3"], "settle web-1, settle web-2");
    assert_eq!(order["end web-5"], "settle web-3, settle web-4");
    assert!(!order.contains_key("start web-8"));
}

#[test]
fn stop_first_in_turns_starts_nothing_before() {
    let text = TURNS.replace("order \"start-first\";", "parallel 1;");
    let mut host = in_turns(&text);
    host.text = text.replace("info", "debug");
    let order = order(&host.planned());
    assert_eq!((order["end web-1"].as_str(), order["end web-2"].as_str()), ("", "settle web-1"));
    assert!(!order.contains_key("start web-3"));
}

#[test]
fn what_starts_in_an_empty_place_serves_while_others_are_replaced() {
    let mut host = in_turns(TURNS);
    host.text = TURNS.replace("info", "debug");
    host.observed.containers.insert("web-2".into(), Seen::Down(Down::Ended(1)));
    let down = order(&host.planned());
    assert!(!down.contains_key("start web-3"), "{down:?}");
    assert_eq!((down["end web-1"].as_str(), down["start web-2"].as_str()), ("settle web-2", ""));
}

#[test]
fn a_stand_in_that_was_left_serves_again_and_an_old_one_goes_last() {
    let mut host = in_turns(&TURNS.replace("replicas 2", "replicas 3"));
    // web-3 is as it is wanted, and its number is no longer: it serves while web-1 is replaced.
    host.text = TURNS.into();
    host.observed.drift.insert("web-1".into(), Drifted { files: 1, digest: Digest::of("drift") });
    let again = order(&host.planned());
    assert!(!again.contains_key("start web-3") && !again.contains_key("start web-4"), "{again:?}");
    assert_eq!((again["end web-1"].as_str(), again["retire web-3"].as_str()), ("settle web-3", "settle web-1, settle web-3"));
    // It is another one than is wanted now: it goes on until all are replaced, and a new one stands in.
    host.text = TURNS.replace("info", "debug");
    let other = order(&host.planned());
    assert_eq!(other["end web-1"], "settle web-4");
    assert!(other.contains_key("retire web-3") && other.contains_key("retire web-4"), "{other:?}");
    // Nothing is replaced: it ends when the others have come up.
    host.text = TURNS.into();
    host.observed.drift.clear();
    assert_eq!(order(&host.planned())["retire web-3"], "settle web-1, settle web-2");
    // What it wrote goes with it, and that is told.
    host.observed.written = ["web-1", "web-3"].map(str::to_owned).into();
    let losses = host.planned().plan.losses;
    assert!(matches!(losses.as_slice(), [lost] if lost.of == "web-3" && lost.text.contains("it is removed")), "{losses:?}");
}

#[test]
fn a_network_that_changes_ends_its_containers_all_at_once() {
    let text = format!("{TURNS}network \"default\" mtu=1400\n");
    let mut host = in_turns(TURNS);
    host.text = text.replace("info", "debug");
    let order = order(&host.planned());
    assert!(!order.contains_key("start web-3") && !order["end web-1"].contains("settle"), "{order:?}");
}

#[test]
fn nobody_stands_in_if_an_image_turns_out_to_be_the_same() {
    let mut host = in_turns(TURNS);
    let before = std::mem::take(host.results.get_mut());
    let planned = host.planned();
    assert!(planned.builds() && planned.deeds.contains_key("web-3"), "{:?}", planned.deeds);
    *host.results.get_mut() = before;
    let project = host.load();
    let built = host.planned().built;
    let (_, deeds) = settle((&project.project.unwrap(), &project.places), &host.observed, &planned, &built).unwrap();
    assert_eq!(deeds, BTreeMap::new());
}

/// What comes of the plan.
fn foreseen(host: &mut Host) -> Outlook {
    let planned = host.planned();
    let loaded = host.load();
    let (project, observed) = (loaded.project.unwrap(), host.observed.clone());
    let known = Known { project: &project, places: &loaded.places, lock: &host.lock, observed: &observed, facts: &*host };
    outlook(known, &planned, 7)
}

#[test]
fn a_plan_tells_what_is_cached_who_is_down_and_which_generation_it_makes() {
    let mut host = converged();
    assert_eq!(foreseen(&mut host).generation, None, "it changes nothing");
    host.files.insert("app/main.py".into(), "2".into());
    for step in &mut host.observed.record.images.get_mut("app").unwrap().steps {
        step.millis = Some(1500);
    }
    host.observed.drift.insert("web-1".into(), Drifted { files: 2, digest: Digest::of("drift") });
    let seen = foreseen(&mut host);
    assert_eq!(seen.generation, Some(7));
    let images: Vec<_> =
        seen.images.iter().map(|one| (one.name.as_str(), one.how, one.cached, one.steps, one.bytes, one.millis)).collect();
    assert_eq!(images, [("app", Making::Build, 0, 2, 1, Some(3000)), ("base", Making::Cached, 1, 1, 1, None)]);
    assert_eq!(seen.images[1].used_by, ["container cache", "image app"]);
    assert_eq!(seen.containers.len(), 1);
    let web = &seen.containers[0];
    assert_eq!((web.name.as_str(), web.ports[0].port, &web.drift), ("web", 8080, &BTreeMap::from([("web-1".to_owned(), 2)])));
    assert_eq!(seen.downtime, [["web-1", "web-2"]]);
}

#[test]
fn a_plan_tells_in_which_order_containers_are_down() {
    let mut host = in_turns(TURNS);
    host.text = TURNS.replace("info", "debug");
    let seen = foreseen(&mut host);
    assert_eq!(seen.downtime, [vec!["web-1"], vec!["web-2"], vec!["web-3"]]);
    assert_eq!(seen.containers[0].used_by.keys().map(Name::as_str).collect::<Vec<_>>(), ["proxy"]);
}

#[test]
fn an_image_has_what_its_base_has_unless_it_says_otherwise() {
    use super::image::Config;
    use super::images::{configure, settings};
    let base = Config { author: Some("Jo".into()), expose: vec![(80, 80), (443, 443)], ..Config::default() };
    let image = |author: Option<&str>, expose: Vec<(u16, u16)>| crate::project::Image {
        author: author.map(str::to_owned),
        expose_udp: expose.clone(),
        expose,
        ..crate::project::Image::default()
    };
    let above = configure(&image(None, vec![(81, 90)]), base.clone());
    assert_eq!(
        (above.author.as_deref(), above.expose, above.expose_udp),
        (Some("Jo"), vec![(80, 90), (443, 443)], vec![(81, 90)])
    );
    let all = configure(&image(Some("Me"), vec![(1, 65535)]), base);
    assert_eq!((all.author.as_deref(), all.expose), (Some("Me"), vec![(1, 65535)]));
    // What is compared to name a cause is as short as what was written.
    let said = settings(&image(Some("Me"), vec![(80, 80), (1, 65535)]), &Lock::default());
    assert_eq!((said["author"].as_str(), said["expose"].as_str(), said["expose.udp"].as_str()), ("Me", "1-65535", "1-65535"));
}

#[test]
fn a_mount_that_hides_what_changed_is_named() {
    let shop = |mount: &str, to: &str| {
        let text = SHOP.replace("to=\"/srv\"", &format!("to=\"{to}\""));
        text.replace("    secret \"key\"\n    network", &format!("    secret \"key\"\n    {mount}\n    network"))
    };
    let told = |mount: &str, to: &str| {
        let mut host = Host::new(&shop(mount, to));
        host.resolve("1");
        host.converge();
        host.files.insert("app/main.py".into(), "2".into());
        let lines = host.lines();
        let line = lines.lines().find(|line| line.contains("Container web-1")).unwrap().to_owned();
        assert!(line.contains("if the image changes") && line.contains("app/main.py changed"), "{line}");
        line.split("; ").nth(1).map(|said| said.split(" here").next().unwrap().to_owned())
    };
    let covered = |at: &str| Some(format!("app/main.py is covered by the mount at {at}"));
    assert_eq!(told("mount bind=\"app\" to=\"/srv\"", "/srv"), covered("/srv"));
    assert_eq!(told("mount bind=\"app\" to=\"/srv\"", "/srv/deep/"), covered("/srv"));
    assert_eq!(told("tmpfs \"/srv/main.py\"", "/srv/"), covered("/srv/main.py"));
    // Another directory, one that only begins alike, and none.
    assert_eq!(told("mount bind=\"app\" to=\"/srv/other\"", "/srv"), None);
    assert_eq!(told("mount bind=\"app\" to=\"/sr\"", "/srv"), None);
    assert_eq!(told("", "/srv"), None);
}

#[test]
fn nobody_stands_in_for_a_replica_that_keeps_what_its_image_declares_as_data() {
    let text = TURNS.replace("package \"python3\" } }", "package \"python3\" }; volume \"/var/lib/x\" \"/cache\"; }");
    let refused = |host: &mut Host| {
        let loaded = host.load();
        let project = loaded.project.unwrap();
        let found = plan((&project, &loaded.places, &host.lock), &host.observed, &*host, &BTreeSet::new());
        found.unwrap_err().chain()
    };
    let mut host = Host::new(&text);
    host.resolve("1");
    let told = "container web: \"start-first\" needs a further replica, and what that would write to /cache, /var/lib/x, which the \
                image declares as data, would be lost when it ends";
    let why = refused(&mut host);
    assert!(why.contains(told), "{why}");
    // In turns, each replica finds its own volume again; and what is mounted there is shared by all.
    host.text = text.replace("start-first", "stop-first");
    assert!(!host.planned().desired["web-1"].kept.is_empty());
    let mounts = "mount volume=\"x\" to=\"/var/lib\"; tmpfs \"/cache\"; healthcheck";
    host.text = text.replace("    healthcheck", mounts) + "volume \"x\"\n";
    assert!(host.planned().desired["web-1"].kept.is_empty());
    // What an image from elsewhere declares is known once it is there, before anything has been ended.
    let mut host = in_turns(TURNS);
    host.text = TURNS.replace("info", "debug");
    let mut built = host.planned().built;
    let before = std::mem::take(host.results.get_mut());
    let planned = host.planned();
    assert!(planned.builds() && planned.deeds.contains_key("web-3"), "{:?}", planned.deeds);
    *host.results.get_mut() = before;
    for image in built.values_mut() {
        image.config.volumes.push("/late".into());
    }
    let loaded = host.load();
    let project = loaded.project.unwrap();
    let why = settle((&project, &loaded.places), &host.observed, &planned, &built).unwrap_err().chain();
    assert!(why.contains("what that would write to /late"), "{why}");
}

const SEEDED: &str = r#"
project "p"
image "base" { debian "bookworm" { package "python3" } }
volume "db" { seed from="job:migrate"; }
job "migrate" { image "base"; cmd "load"; inputs "migrations/"; mount volume="db" to="/data"; }
container "web" { image "base"; mount volume="db" to="/data"; }
"#;

fn seeded() -> Host {
    let mut host = Host::new(SEEDED);
    host.resolve("1");
    host.inputs(&[("migrations/001.sql", "1")]);
    host.build(false);
    host
}

impl Host {
    /// The name of the snapshot that would be the seed.
    fn seed(&mut self) -> String {
        self.planned().desired["migrate-1"].seed.as_ref().unwrap().name().unwrap()
    }

    fn keeps(&mut self, name: &str, elsewhere: Option<&str>) {
        let elsewhere = elsewhere.map(|folder| ("another".to_owned(), folder.to_owned()));
        let kept = KeptSeed { name: name.to_owned(), elsewhere };
        self.observed.seeds.entry(Name::parse("db").unwrap()).or_default().push(kept);
    }
}

#[test]
fn a_volume_is_filled_by_its_job_before_anything_else_has_it() {
    let mut host = seeded();
    let lines = host.lines();
    let lines: Vec<&str> = lines.lines().filter(|line| !line.contains("Network")).collect();
    assert_eq!(
        lines,
        [
            "+ Volume db [filled by job migrate] <- not there yet (stead.kdl:4)",
            "+ Job migrate-1 [run] <- not there yet (stead.kdl:5)",
            "+ Container web-1 [image base] <- not there yet (stead.kdl:6)",
        ]
    );
    let plan = host.planned().plan;
    let after = |name: &str| plan.tasks.iter().find(|task| task.name == name).unwrap().after.clone();
    assert!(after("seed db").contains("await migrate-1 completed"));
    assert!(after("start web-1").contains("seed db") && after("start web-1").contains("await migrate-1 completed"));
    assert!(!after("start migrate-1").contains("seed db"));
    host.converge();
    assert_eq!(host.lines(), "");
    // Once it is whole, nothing makes the job run again: that would replace what has been written since.
    host.inputs(&[("migrations/001.sql", "2")]);
    host.observed.births.insert(Name::parse("db").unwrap(), "later".into());
    host.observed.containers.insert("migrate-1".into(), Seen::Down(Down::Lost));
    assert_eq!(host.lines(), "");
    host.observed.record.containers.remove("migrate-1");
    assert_eq!(host.lines(), "", "so it is for a volume that somebody imported");
    host.observed.record.volumes.clear();
    assert!(host.lines().contains("+ Job migrate-1 [run]"), "{}", host.lines());
}

#[test]
fn a_volume_that_is_not_filled_to_its_end_is_filled_anew() {
    let mut host = seeded();
    host.converge();
    let db = Name::parse("db").unwrap();
    host.observed.record.seeding.insert(db.clone());
    let record = host.observed.record.containers.get_mut("migrate-1").unwrap();
    record.job = Some(JobState::Begun);
    host.observed.containers.insert("migrate-1".into(), Seen::Running);
    // The job goes on, and then its result is kept.
    let lines = host.lines();
    assert_eq!(lines, "~ Volume db [its seed is kept] <- the job migrate has not filled it to the end (stead.kdl:4)");
    let plan = host.planned().plan;
    assert!(
        plan.tasks.iter().any(|task| task.name == "seed db") && !plan.tasks.iter().any(|task| task.name == "start migrate-1")
    );
    host.observed.containers.insert("migrate-1".into(), Seen::Down(Down::Ended(3)));
    insta::assert_snapshot!(host.lines(), @r#"
    ~ Volume db [filled by job migrate] <- the job migrate has not filled it to the end (stead.kdl:4)
    ~ Job migrate-1 [run] <- its command ended with exit status 3
    "#);
    host.observed.record.seeding.clear();
    host.observed.record.volumes.remove(&db);
    assert!(host.lines().contains("+ Volume db [filled by job migrate] <- not there yet"), "{}", host.lines());
}

#[test]
fn a_seed_that_is_kept_is_used_again_and_in_another_directory_only_if_all_is_the_same() {
    let mut host = seeded();
    let name = host.seed();
    host.keeps(&name, None);
    let lines = host.lines();
    assert!(lines.contains("+ Volume db [as job migrate has filled it before] <- not there yet"), "{lines}");
    assert!(lines.contains("+ Job migrate-1 [its result is kept]"), "{lines}");
    // What else there is does not matter here, and the job's inputs do.
    host.text =
        SEEDED.replace("image \"base\"; mount volume=\"db\" to=\"/data\"; }", "image \"base\"; mount volume=\"db\" to=\"/x\"; }");
    assert!(host.lines().contains("its result is kept"), "{}", host.lines());
    host.text = SEEDED.to_owned();
    host.inputs(&[("migrations/001.sql", "2")]);
    assert!(host.lines().contains("+ Job migrate-1 [run]"), "{}", host.lines());
    host.inputs(&[("migrations/001.sql", "1")]);
    // In another directory.
    host.observed.seeds.clear();
    host.keeps(&name, Some("/other"));
    host.observed.instance = "fee1dead".into();
    let lines = host.lines();
    assert!(lines.contains("[its result is kept]") && lines.contains("/other has the same seed (stead.kdl:4)"), "{lines}");
    let changes = [
        // Another container that the job could reach.
        ("container \"web\" { image", "container \"web\" { env A=\"1\"; image"),
        // Other content that nobody declared, or that another container or volume gives.
        (
            "mount volume=\"db\" to=\"/data\"; }\ncontainer",
            "mount volume=\"db\" to=\"/data\"; mount bind=\"fixtures\" to=\"/f\"; }\ncontainer",
        ),
        ("cmd \"load\";", "cmd \"load\"; depends-on \"other\";"),
        // Another project.
        ("project \"p\"", "project \"q\""),
    ];
    for (from, to) in changes {
        assert!(SEEDED.contains(from), "{from}");
        host.text = SEEDED.replace(from, to);
        if to.contains("other") {
            host.text += "container \"other\" { image \"base\"; }\n";
        }
        assert!(host.lines().contains("+ Job migrate-1 [run]"), "{to}: {}", host.lines());
    }
    // What is bound to a directory is never used by another, even under the same name.
    host.text = SEEDED.replace(
        "mount volume=\"db\" to=\"/data\"; }\ncontainer",
        "mount volume=\"db\" to=\"/data\"; mount bind=\"f\" to=\"/f\"; }\ncontainer",
    );
    let bound = host.seed();
    assert!(bound.ends_with("-here"), "{bound}");
    host.keeps(&bound, Some("/other"));
    assert!(host.lines().contains("+ Job migrate-1 [run]"));
    // A mount of declared inputs is not.
    host.text = host.text.replace("bind=\"f\"", "bind=\"./migrations/x\"");
    assert!(!host.seed().ends_with("-here"));
}

#[test]
fn a_plan_says_which_seed_it_uses() {
    let mut host = seeded();
    let wants = |host: &mut Host| host.planned().plan.changes().find(|change| change.name == "db").unwrap().wants;
    let without = wants(&mut host);
    let name = host.seed();
    host.keeps(&name, None);
    assert_ne!(wants(&mut host), without);
}

#[test]
fn those_that_stand_in_wait_for_the_seed_and_have_no_say_in_it() {
    let update = "update { order \"start-first\"; };";
    let mut host = seeded();
    let name = host.seed();
    let before = SEEDED.replace("container \"web\" {", &format!("container \"web\" {{ {update}"));
    host.text = before.clone();
    assert_eq!(host.seed(), name, "whether web could have a stand-in");
    // Web runs without the volume, and gets it.
    host.text = before.replace("base\"; mount volume=\"db\" to=\"/data\"; }\n", "base\"; }\n");
    assert_ne!(host.text, before);
    host.text = host
        .text
        .replace("job \"migrate\"", "job \"idle\"")
        .replace("volume \"db\" { seed from=\"job:migrate\"; }", "volume \"db\"");
    host.converge();
    host.observed.record.volumes.clear();
    host.text = before;
    let planned = host.planned();
    let after = |name: &str| planned.plan.tasks.iter().find(|task| task.name == name).unwrap().after.clone();
    assert!(after("start web-2").contains("seed db"), "{:?}", after("start web-2"));
    let end = after("end web-1");
    assert!(end.contains("settle web-2") && end.contains("seed db"), "it goes on until then: {end:?}");
}

#[test]
fn what_a_profile_added_is_removed_with_that_cause() {
    let text =
        format!("{SHOP}profile \"ci\" {{ network \"lab\"; container \"probe\" {{ image \"base\"; network \"lab\"; }} }}\n");
    let mut host = Host::new(&text);
    host.choices.profiles = vec!["ci".into()];
    host.resolve("1");
    host.converge();
    assert_eq!(host.lines(), "");
    host.choices.profiles.clear();
    let lines = host.lines();
    for line in [
        "- Network lab [] <- added by profile ci, which is not chosen now (stead.kdl:23)",
        "- Container probe-1 [] <- added by profile ci, which is not chosen now (stead.kdl:23)",
    ] {
        assert!(lines.contains(line), "{line}\n{lines}");
    }
    assert_eq!(lines.lines().count(), 2, "{lines}");
    // Without the profile, it is gone from the file.
    host.text = SHOP.to_owned();
    assert!(host.lines().contains("- Container probe-1 [] <- no longer in the project file"), "{}", host.lines());
}

#[test]
fn values_of_the_env_file_are_told_and_not_shown() {
    let text = format!("param \"pw\" env=\"PW\" default=\"x\"\n{}", SHOP.replace("LEVEL=\"info\"", "LEVEL=\"${pw}\""));
    let mut host = Host::new(&text);
    host.settings = [("PW".to_owned(), "hunter2!".to_owned())].into();
    host.resolve("1");
    host.converge();
    host.settings = [("PW".to_owned(), "another!".to_owned())].into();
    let planned = host.planned();
    let told: Vec<&str> = planned.plan.trust.iter().map(|mark| mark.text.as_str()).collect();
    assert_eq!(told, ["reads the variable PW of `.env`"]);
    let lines = host.lines();
    assert!(lines.contains("env.LEVEL changed") && !lines.contains("another"), "{lines}");
}

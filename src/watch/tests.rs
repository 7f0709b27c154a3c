//! Sessions without containers: what is seen, and what is to be brought up for it.

use super::events::Events;
use super::mirror::{Mirror, Now};
use super::read::Reading;
use super::{Happened, Next, Session};
use crate::build::{ScanCache, Scanner};
use crate::instance::{self, Chosen, Instance, LoadedProject, Options, Progress, Reporter};
use crate::spec::Choices;
use crate::store::Home;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Whether a test runs in a user namespace that has only so much of something of inotify's; if not, it is run again in one.
fn is_confined(test: &str, what: &str, most: u32) -> bool {
    if std::env::var_os("STEAD_CONFINED").is_some() {
        return true;
    }
    let script = format!("echo {most} > /proc/sys/user/{what} && exec \"$0\" --exact watch::tests::{test} --nocapture");
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &script]).arg(own).env("STEAD_CONFINED", "1");
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("unshare failed") {
        println!("skipped: no user namespace can be made");
    } else {
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    false
}

#[test]
fn what_the_kernel_has_no_watches_for_is_looked_at_every_second() {
    if !is_confined("what_the_kernel_has_no_watches_for_is_looked_at_every_second", "max_inotify_watches", 3) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut events = Events::new(folder.path(), &folder.path().join("told/events")).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    events.also(PathBuf::new());
    events.also("a".into());
    assert_eq!(events.newly_blind(), None);
    events.also("b".into());
    events.also("c".into());
    let why = events.newly_blind().unwrap();
    assert!(why.contains("(fs.inotify.max_user_watches is "), "{why}");
    assert!(why.contains("`sysctl fs.inotify.max_user_watches=1048576` gives it room"), "{why}");
    assert_eq!(events.newly_blind(), None, "it is told once");
    let begun = Instant::now();
    let batch = events.wait().unwrap();
    assert!(batch.everything.is_some() && batch.containers && !batch.asked);
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    events.asker().ask();
    let begun = Instant::now();
    assert!(events.wait().unwrap().asked);
    assert!(begun.elapsed() < Duration::from_millis(500), "who asks does not wait: {:?}", begun.elapsed());
}

#[test]
fn without_any_inotify_files_are_watched_too() {
    if !is_confined("without_any_inotify_files_are_watched_too", "max_inotify_instances", 0) {
        return;
    }
    let mut place = Place::new();
    let told = place.begin();
    let notes = told.iter().filter(|one| matches!(one, Happened::Note(why) if why.contains("fs.inotify.max_user_instances")));
    assert_eq!(notes.count(), 1, "{told:?}");
    place.write("app/a", "2");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
}

/// A project in which a change of a copied file means a build, and its session.
struct Place {
    folder: TempDir,
    options: Options,
    session: Session,
}

const PROJECT: &str = r#"project "p"
image "base" { debian "bookworm" { package "busybox-static" } }
image "made" { from "base"; copy "app" to="/srv/app"; run "true" }
container "c" { image "made"; cmd "x"; watch { rebuild "other"; } }
"#;

/// Shows nothing.
struct Nobody;

impl Reporter for Nobody {
    fn report(&self, _: Progress) {}
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (home, project) = (Home::find(Some(&folder.path().join("root"))), folder.path().join("project"));
        std::fs::create_dir_all(project.join("app")).unwrap();
        std::fs::write(project.join("stead.kdl"), PROJECT).unwrap();
        for path in ["app/a", "app/b", "other"] {
            std::fs::write(project.join(path), "1").unwrap();
        }
        let instance = Instance::new(&home, &project, "stead.kdl");
        let session = Session::begin(&instance).unwrap();
        let (file, chosen, choices) = ("stead.kdl".into(), Chosen::ByFolder, Choices::default());
        let options = Options { home, folder: instance.folder, file, chosen, choices, checkout: None };
        Self { folder, options, session }
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.folder.path().join("project").join(path), text).unwrap();
    }

    fn load(&self) -> LoadedProject {
        instance::load(&self.options, false).unwrap()
    }

    /// What an `up` reads that begins now.
    fn read(&self) -> Reading {
        let loaded = self.load();
        let scanner = Scanner::scan(&self.options.folder, &loaded.project, ScanCache::default);
        let reading = Reading::of(&self.options.folder);
        reading.beside(&Nobody).report(Progress::Scanned(Arc::new(scanner)));
        reading
    }

    /// Follows the first `up`, of everything; returns what was told.
    fn begin(&mut self) -> Vec<Happened> {
        // What was written just now counts as changed while it was loaded.
        std::thread::sleep(Duration::from_millis(20));
        let since = SystemTime::now();
        assert!(matches!(self.session.next().unwrap(), Next::Converge { only, .. } if only.is_empty()));
        let told = self.session.aim(&self.load(), &self.options, since).unwrap();
        let reading = self.read();
        assert!(self.session.settle(true, Some(reading)).unwrap().is_empty());
        told
    }

    /// Lets the session take what there is; returns the paths for which something is to be brought up, if it is.
    fn wanted(&mut self) -> Option<Vec<PathBuf>> {
        std::thread::sleep(Duration::from_millis(150));
        let mut found = None;
        for _ in 0..3 {
            self.session.asker().wake();
            match self.session.next().unwrap() {
                Next::Converge { changed, .. } => assert!(found.replace(changed).is_none(), "one at a time"),
                Next::Did(told) => panic!("{told:?}"),
                Next::Woken => {}
            }
        }
        found
    }

    fn settle(&mut self, is_up: bool, reading: &Reading) -> Option<Vec<PathBuf>> {
        assert!(self.session.settle(is_up, Some(reading.clone())).unwrap().is_empty());
        self.wanted()
    }
}

#[test]
fn what_comes_while_an_up_runs_is_brought_up_once_more_only_if_it_was_not_read() {
    let mut place = Place::new();
    place.begin();
    assert_eq!(place.wanted(), None);
    place.write("app/a", "2");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    // It is saved again before it is read.
    place.write("app/a", "3");
    assert_eq!(place.wanted(), None, "nothing else begins meanwhile");
    let reading = place.read();
    assert_eq!(place.settle(true, &reading), None, "it was read as it is");

    place.write("app/a", "4");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    let reading = place.read();
    place.write("app/a", "5");
    assert_eq!(place.wanted(), None);
    place.write("app/a", "6");
    std::fs::remove_file(place.folder.path().join("project/app/b")).unwrap();
    assert_eq!(place.wanted(), None);
    assert_eq!(place.settle(true, &reading), Some(vec!["app/a".into(), "app/b".into()]), "once for all of it");
    let reading = place.read();
    assert_eq!(place.settle(true, &reading), None);

    place.write("app/a", "7");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    let reading = place.read();
    place.write("app/a", "8");
    assert_eq!(place.wanted(), None);
    place.write("app/a", "7");
    assert_eq!(place.wanted(), None);
    assert_eq!(place.settle(true, &reading), None, "it is again as it was read");
}

#[test]
fn what_failed_is_tried_again_only_for_another_content() {
    let mut place = Place::new();
    place.begin();
    assert!(place.session.is_whole());
    place.write("app/a", "2");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    let reading = place.read();
    assert_eq!(place.settle(false, &reading), None);
    assert!(!place.session.is_whole());
    place.write("app/a", "2");
    assert_eq!(place.wanted(), None, "it is the same");
    place.write("app/a", "3");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    let reading = place.read();
    assert_eq!(place.settle(true, &reading), None);
    assert!(place.session.is_whole());
}

#[test]
fn a_project_that_cannot_be_loaded_is_watched_until_it_can() {
    let mut place = Place::new();
    place.begin();
    place.write("stead.kdl", "nonsense {");
    assert_eq!(place.wanted(), Some(vec!["stead.kdl".into()]));
    assert!(instance::load(&place.options, false).is_err());
    assert!(place.session.aim_at_files(&place.options).unwrap().is_empty());
    assert!(place.session.settle(false, None).unwrap().is_empty());
    assert!(!place.session.is_whole() && place.wanted().is_none());
    // What was known is not forgotten, and everything is brought up for whatever changes.
    place.write("app/a", "2");
    assert_eq!(place.wanted(), Some(vec!["app/a".into()]));
    place.write("stead.kdl", PROJECT);
    assert_eq!(place.wanted(), None);
    assert!(place.session.settle(false, None).unwrap().is_empty());
    assert_eq!(place.wanted(), Some(vec!["stead.kdl".into()]));
}

#[test]
fn what_is_known_outlives_another_definition_and_what_is_gone_meanwhile_is_found() {
    let mut place = Place::new();
    place.begin();
    place.write("stead.kdl", &PROJECT.replace("rebuild \"other\"", "rebuild \"other\"; rebuild \"third\""));
    assert_eq!(place.wanted(), Some(vec!["stead.kdl".into()]));
    // Both before the other files are listed.
    std::fs::remove_file(place.folder.path().join("project/app/b")).unwrap();
    place.write("app/new", "1");
    let since = SystemTime::now();
    let told = place.session.aim(&place.load(), &place.options, since).unwrap();
    assert!(matches!(&told[..], [Happened::Note(why)] if why.contains("rebuild \"third\"")), "{told:?}");
    assert_eq!(place.wanted(), None);
    let reading = place.read();
    assert_eq!(place.settle(true, &reading), None, "it has read both");
    for (path, text) in [("app/a", "1"), ("other", "1")] {
        place.write(path, text);
        assert_eq!(place.wanted(), None, "{path} is as it was");
    }
    place.write("third", "1");
    assert_eq!(place.wanted(), Some(vec!["third".into()]));
}

#[test]
fn a_mirror_that_is_listed_anew_finds_what_went_and_what_came() {
    let mut place = Place::new();
    place.begin();
    let flows = {
        let loaded = place.load();
        super::flows::Flows::of(&loaded.project, &loaded.places, &place.options.folder)
    };
    let folder = &place.options.folder;
    let mut before = Mirror::begin(folder, &flows, &mut |_| {}).unwrap();
    let all = |mirror: &mut Mirror| -> BTreeSet<(PathBuf, bool)> {
        mirror.look_at_all(&flows).into_iter().map(|change| (change.path, change.now == Now::Gone)).collect()
    };
    all(&mut before);
    assert_eq!(all(&mut before), BTreeSet::new());
    std::fs::remove_file(folder.join("app/b")).unwrap();
    std::fs::write(folder.join("app/new"), "1").unwrap();
    let mut after = Mirror::begin(folder, &flows, &mut |_| {}).unwrap();
    after.remember(&before, &flows);
    assert_eq!(all(&mut after), [("app/b".into(), true), ("app/new".into(), false)].into());
}

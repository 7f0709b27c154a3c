//! What is to be brought up, what is being brought up, and what could not be.

use super::Next;
use super::chores::Chore;
use super::mirror::Change;
use crate::model::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

/// An `up` that runs beside a session.
#[derive(Debug, Default)]
pub struct Up {
    /// The containers that it brings up; all if there are none.
    pub only: BTreeSet<Name>,
    /// What has changed meanwhile.
    pub during: BTreeMap<PathBuf, Change>,
    /// What is to follow in replicas that it was to replace, if their process is still the same when it is over.
    pub postponed: BTreeMap<(String, Chore), i32>,
}

/// What an `up` is wanted for.
#[derive(Debug)]
pub struct Wanted {
    pub changed: BTreeSet<PathBuf>,
    /// The containers that it is to bring up.
    pub only: BTreeSet<Name>,
    /// Whether it is to bring up everything.
    pub everything: bool,
    pub since: Instant,
}

/// What could not be brought up, and was not since.
#[derive(Debug, Default)]
struct Failed {
    everything: bool,
    names: BTreeSet<Name>,
}

/// One `up` after the other.
#[derive(Debug)]
pub struct Agenda {
    pub up: Option<Up>,
    wanted: Option<Wanted>,
    failed: Failed,
}

impl Agenda {
    /// First, everything is to be brought up.
    pub fn new() -> Self {
        let mut agenda = Self { up: None, wanted: None, failed: Failed::default() };
        agenda.want(Wanted { changed: BTreeSet::new(), only: BTreeSet::new(), everything: true, since: Instant::now() });
        agenda
    }

    /// Wants an `up`, if for anything, with whatever it is wanted for already.
    pub fn want(&mut self, more: Wanted) {
        match &mut self.wanted {
            _ if !more.everything && more.only.is_empty() => {}
            Some(wanted) => {
                wanted.changed.extend(more.changed);
                wanted.only.extend(more.only);
                wanted.everything |= more.everything;
            }
            None => self.wanted = Some(more),
        }
    }

    /// Begins what is wanted, unless something is under way.
    pub fn due(&mut self) -> Option<Next> {
        let Wanted { changed, only, everything, since } = self.wanted.take_if(|_| self.up.is_none())?;
        // What failed as a whole is tried again as a whole: nobody knows what of it is not there.
        let only = if everything || self.failed.everything { BTreeSet::new() } else { only };
        self.up = Some(Up { only: only.clone(), ..Up::default() });
        Some(Next::Converge { changed: changed.into_iter().collect(), only, since })
    }

    /// Notes whether everything came up that the `up` was to bring up, and returns it.
    pub fn over(&mut self, is_up: bool) -> Option<Up> {
        let up = self.up.take()?;
        self.failed.note(is_up, &up.only);
        Some(up)
    }

    /// Whether everything that was to be brought up was.
    pub fn is_whole(&self) -> bool {
        !self.failed.everything && self.failed.names.is_empty()
    }

    /// Whether a container is to be brought up next.
    pub fn has(&self, name: &Name) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.everything || wanted.only.contains(name))
    }
}

impl Failed {
    /// Notes how an `up` of these containers, or of all if there are none, has ended.
    fn note(&mut self, is_up: bool, only: &BTreeSet<Name>) {
        match (is_up, only.is_empty()) {
            (true, true) => *self = Self::default(),
            (true, false) => self.names.retain(|name| !only.contains(name)),
            (false, true) => self.everything = true,
            (false, false) => self.names.extend(only.iter().cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| Name::of_reference(name)).collect()
    }

    /// Wants an `up` of these containers, or of everything if there are none, for a path.
    fn want(agenda: &mut Agenda, path: &str, only: &[&str]) {
        let (changed, everything) = ([PathBuf::from(path)].into(), only.is_empty());
        agenda.want(Wanted { changed, only: names(only), everything, since: Instant::now() });
    }

    /// The containers and the paths of the `up` that is due.
    fn due(agenda: &mut Agenda) -> Option<(BTreeSet<Name>, Vec<PathBuf>)> {
        match agenda.due() {
            Some(Next::Converge { changed, only, .. }) => Some((only, changed)),
            _ => None,
        }
    }

    #[test]
    fn what_is_wanted_while_something_is_under_way_is_one_more() {
        let mut agenda = Agenda::new();
        assert_eq!(due(&mut agenda), Some((names(&[]), vec![])));
        want(&mut agenda, "x", &["a"]);
        want(&mut agenda, "y", &["b"]);
        assert_eq!(due(&mut agenda), None, "one at a time");
        assert!(agenda.over(true).is_some());
        assert_eq!(due(&mut agenda), Some((names(&["a", "b"]), vec!["x".into(), "y".into()])));
        assert!(agenda.over(true).is_some() && agenda.over(true).is_none());
        agenda.want(Wanted { changed: BTreeSet::new(), only: names(&[]), everything: false, since: Instant::now() });
        assert_eq!(due(&mut agenda), None, "nothing was wanted");
        want(&mut agenda, "x", &["a"]);
        want(&mut agenda, "stead.kdl", &[]);
        assert_eq!(due(&mut agenda).unwrap().0, names(&[]), "everything is more than some");
    }

    #[test]
    fn what_failed_is_over_only_when_it_has_come_up() {
        let mut agenda = Agenda::new();
        due(&mut agenda);
        agenda.over(true);
        for (only, is_up, is_whole) in
            [(&["a", "b"][..], false, false), (&["b", "c"], true, false), (&["a"], true, true), (&["a"], false, false)]
        {
            want(&mut agenda, "x", only);
            due(&mut agenda);
            agenda.over(is_up);
            assert_eq!(agenda.is_whole(), is_whole, "{only:?}");
        }
        want(&mut agenda, "x", &[]);
        due(&mut agenda);
        agenda.over(false);
        want(&mut agenda, "x", &["a"]);
        assert_eq!(due(&mut agenda).unwrap().0, names(&[]), "nobody knows what else is not there");
        agenda.over(true);
        assert!(agenda.is_whole());
    }
}

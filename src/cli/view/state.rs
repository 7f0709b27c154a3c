//! What a view knows, and how news and keys change it. Nothing here draws, reads or waits.

use super::super::ui::{Style, Text};
use crate::engine::Answer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many lines of logs are kept.
const LINES: usize = 5000;
/// How many events are kept.
const EVENTS: usize = 20;
/// How many syncs the percentiles are about.
const SYNCS: usize = 1000;
/// How many readings are kept of each container: as many as a row shows.
pub const HISTORY: usize = 8;

/// Something that is new.
#[derive(Debug)]
pub enum News {
    /// The environment is being brought up.
    Converging,
    /// It is up.
    Converged,
    /// It could not be brought up.
    Failed(Text),
    /// Something else has failed.
    Trouble(Text),
    /// Files have changed, so that the environment is brought up again.
    Changed(Text),
    Watching {
        files: usize,
        directories: usize,
    },
    Did {
        what: Text,
        took: Duration,
        sync: bool,
    },
    Said(Text),
    /// What something does from now on; nothing when it is done.
    AtWork {
        name: String,
        what: Option<Text>,
    },
    Rows(Vec<Row>),
    Readings(Vec<Reading>),
    Logged(Vec<Entry>),
}

/// A container as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub name: String,
    pub state: (Text, Option<Style>),
    pub health: (Text, Option<Style>),
    pub ports: Text,
    /// The web page that it serves.
    pub url: Option<String>,
}

/// What a container uses.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    pub name: String,
    /// In percent of one processor.
    pub cpu: f64,
    /// In bytes.
    pub memory: u64,
}

/// The last readings of a container, oldest first.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Usage {
    pub cpu: VecDeque<f64>,
    pub memory: VecDeque<u64>,
}

/// A line of a log.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub name: String,
    pub style: Style,
    pub text: Text,
}

/// Something that was done, or said.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub what: Text,
    pub took: Option<Duration>,
}

/// What failed, and still matters.
#[derive(Clone, PartialEq, Debug)]
pub struct Trouble {
    pub lines: Vec<Text>,
    /// Whether the environment could not be brought up: only when it is, this is over.
    pub of_build: bool,
}

/// What the session does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Building,
    Watching { files: usize, directories: usize },
}

/// What keys mean.
#[derive(Clone, PartialEq, Debug)]
pub enum Mode {
    Normal,
    /// A filter is typed.
    Filter,
    /// The view is about to be left.
    Quit,
    /// All keys are explained.
    Help,
    /// A question is open.
    Asked {
        lines: Vec<Text>,
        question: Text,
    },
}

/// What somebody wants who pressed a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    Restart(String),
    Shell(String),
    Open(String),
    Rebuild,
    Answer(Answer),
    Leave,
    Down,
}

/// Everything that a view shows.
pub struct State {
    pub project: Text,
    pub color: bool,
    pub phase: Phase,
    /// What is at work: its name, and what it does.
    pub works: Vec<(String, Text)>,
    /// What was said since the environment began to be brought up.
    pub said: Vec<Text>,
    /// The last change that was followed.
    pub last: Option<Event>,
    /// That, what was before, and what was only said; the newest first.
    pub events: VecDeque<Event>,
    pub trouble: Option<Trouble>,
    pub syncs: usize,
    /// The time that half of the syncs took at most, and the one that 99 of 100 took at most.
    pub percentiles: Option<(Duration, Duration)>,
    times: VecDeque<Duration>,
    pub rows: Vec<Row>,
    pub selected: usize,
    pub usage: BTreeMap<String, Usage>,
    logs: VecDeque<Entry>,
    /// The container whose logs are shown; all if there is none.
    pub only: Option<String>,
    pub filter: String,
    /// How many lines of the logs are below what is shown.
    pub back: usize,
    pub mode: Mode,
    pub status: Option<Text>,
}

impl State {
    /// A view of a project of which nothing is known yet.
    pub fn new(project: &str, color: bool) -> Self {
        Self {
            project: Text::line(project),
            color,
            phase: Phase::Building,
            works: Vec::new(),
            said: Vec::new(),
            last: None,
            events: VecDeque::new(),
            trouble: None,
            syncs: 0,
            percentiles: None,
            times: VecDeque::new(),
            rows: Vec::new(),
            selected: 0,
            usage: BTreeMap::new(),
            logs: VecDeque::new(),
            only: None,
            filter: String::new(),
            back: 0,
            mode: Mode::Normal,
            status: None,
        }
    }

    /// Takes news; returns whether something else is to be seen now.
    pub fn take(&mut self, news: News) -> bool {
        match news {
            News::Converging => {
                self.phase = Phase::Building;
                self.works.clear();
                self.said.clear();
            }
            News::Converged => {
                self.trouble = None;
                self.said.clear();
                self.works.clear();
            }
            News::Failed(text) => {
                // What was said on the way belongs to it: findings in the project's files, the last words of a container.
                let said = std::mem::take(&mut self.said);
                let lines = said.iter().chain([&text]).flat_map(Text::lines).collect();
                self.trouble = Some(Trouble { lines, of_build: true });
                self.works.clear();
            }
            News::Trouble(text) => self.fail(text),
            News::Changed(what) => self.note(Event { what, took: None }),
            News::Watching { files, directories } => {
                let phase = Phase::Watching { files, directories };
                return std::mem::replace(&mut self.phase, phase) != phase;
            }
            News::Did { what, took, sync } => self.did(what, took, sync),
            News::Said(text) => self.say(text),
            News::AtWork { name, what } => return self.work(name, what),
            News::Rows(rows) => return self.list(rows),
            News::Readings(readings) => return self.read(readings),
            News::Logged(entries) => return self.log(entries),
        }
        true
    }

    fn fail(&mut self, text: Text) {
        let lines = text.lines();
        match &mut self.trouble {
            // A build that failed still matters.
            Some(trouble) if trouble.of_build => trouble.lines.extend(lines),
            trouble => *trouble = Some(Trouble { lines, of_build: false }),
        }
    }

    fn did(&mut self, what: Text, took: Duration, sync: bool) {
        let event = Event { what, took: Some(took) };
        self.note(event.clone());
        self.last = Some(event);
        if self.trouble.as_ref().is_some_and(|trouble| !trouble.of_build) {
            self.trouble = None;
        }
        if sync {
            self.syncs += 1;
            push(&mut self.times, took, SYNCS);
            let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
            sorted.sort_unstable();
            self.percentiles = percentile(&sorted, 50).zip(percentile(&sorted, 99));
        }
    }

    fn note(&mut self, event: Event) {
        self.events.push_front(event);
        self.events.truncate(EVENTS);
    }

    fn say(&mut self, text: Text) {
        if self.phase == Phase::Building {
            self.said.push(text.clone());
        }
        // What has more lines is a report: it is shown if something fails.
        if let [line] = text.lines().as_slice() {
            self.note(Event { what: line.clone(), took: None });
        }
    }

    fn work(&mut self, name: String, what: Option<Text>) -> bool {
        let known = self.works.iter().position(|(known, _)| *known == name);
        match (known, what) {
            (Some(at), Some(what)) if self.works[at].1 == what => return false,
            (Some(at), Some(what)) => self.works[at].1 = what,
            (Some(at), None) => drop(self.works.remove(at)),
            (None, Some(what)) => self.works.push((name, what)),
            (None, None) => return false,
        }
        true
    }

    fn list(&mut self, rows: Vec<Row>) -> bool {
        if rows == self.rows {
            return false;
        }
        let selected = self.rows.get(self.selected).map(|row| row.name.clone());
        let found = rows.iter().position(|row| Some(&row.name) == selected.as_ref());
        self.selected = found.unwrap_or_else(|| self.selected.min(rows.len().saturating_sub(1)));
        self.rows = rows;
        true
    }

    fn read(&mut self, readings: Vec<Reading>) -> bool {
        let mut usage = BTreeMap::new();
        for Reading { name, cpu, memory } in readings {
            let mut one = self.usage.get(&name).cloned().unwrap_or_default();
            // What would look the same is the same: then nothing needs to be drawn.
            push(&mut one.cpu, (cpu * 10.0).round() / 10.0, HISTORY);
            push(&mut one.memory, memory, HISTORY);
            usage.insert(name, one);
        }
        let is_new = usage != self.usage;
        self.usage = usage;
        is_new
    }

    fn log(&mut self, entries: Vec<Entry>) -> bool {
        let new = entries.iter().filter(|entry| self.takes(entry)).count();
        if self.back > 0 {
            self.back += new;
        }
        self.logs.extend(entries);
        let more = self.logs.len().saturating_sub(LINES);
        self.logs.drain(..more);
        self.back = self.back.min(self.logs.len().saturating_sub(1));
        new > 0
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.only.as_ref().is_none_or(|only| *only == entry.name) && entry.text.contains(&self.filter)
    }

    /// The lines of the logs that fit into some rows, oldest first.
    pub fn lines(&self, rows: usize) -> Vec<&Entry> {
        let mut found: Vec<&Entry> =
            self.logs.iter().rev().filter(|entry| self.takes(entry)).skip(self.back).take(rows).collect();
        found.reverse();
        found
    }

    /// What was before the last change, or was only said; the newest first.
    pub fn before(&self) -> impl Iterator<Item = &Event> {
        let last = self.events.iter().position(|event| Some(event) == self.last.as_ref());
        self.events.iter().enumerate().filter(move |(at, _)| Some(*at) != last).map(|(_, event)| event)
    }

    /// Shows earlier lines of the logs, so many rows of which are seen at once.
    pub fn scroll_up(&mut self, lines: usize, page: usize) {
        let all = self.logs.iter().filter(|entry| self.takes(entry)).count();
        self.back = (self.back + lines).min(all.saturating_sub(page));
    }

    /// Shows later lines of the logs.
    pub fn scroll_down(&mut self, lines: usize) {
        self.back = self.back.saturating_sub(lines);
    }

    /// Selects a container.
    pub fn select(&mut self, row: usize) {
        self.selected = row.min(self.rows.len().saturating_sub(1));
        if let (Some(only), Some(row)) = (&mut self.only, self.rows.get(self.selected)) {
            only.clone_from(&row.name);
            self.back = 0;
        }
    }

    /// Follows a click on a container, or on something else: a second click is as the key for its logs.
    pub fn click(&mut self, row: Option<usize>) {
        if self.mode == Mode::Help {
            self.mode = Mode::Normal;
        } else if let Some(row) = row {
            if row == self.selected {
                self.show_only(self.only.is_none());
            }
            self.select(row);
        }
    }

    /// Shows the logs of the selected container only, or of all.
    fn show_only(&mut self, one: bool) {
        self.only = self.rows.get(self.selected).filter(|_| one).map(|row| row.name.clone());
        self.back = 0;
    }

    /// Asks a question.
    pub fn ask(&mut self, lines: Vec<Text>, question: &str) {
        self.mode = Mode::Asked { lines, question: Text::line(question) };
    }

    /// Follows a key; so many rows of the logs are seen at once.
    pub fn key(&mut self, key: KeyEvent, page: usize) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        self.status = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Leave);
        }
        match self.mode {
            Mode::Normal => self.normal(key.code, page),
            Mode::Filter => {
                self.typed(key.code);
                None
            }
            Mode::Help => {
                self.mode = Mode::Normal;
                None
            }
            Mode::Quit => {
                self.mode = Mode::Normal;
                match key.code {
                    KeyCode::Enter | KeyCode::Char('q') => Some(Wish::Leave),
                    KeyCode::Char('d') => Some(Wish::Down),
                    _ => None,
                }
            }
            Mode::Asked { .. } => {
                self.mode = Mode::Normal;
                let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
                Some(Wish::Answer(if yes { Answer::Yes } else { Answer::No }))
            }
        }
    }

    fn normal(&mut self, code: KeyCode, page: usize) -> Option<Wish> {
        let chosen = self.rows.get(self.selected);
        let name = chosen.map(|row| row.name.clone());
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1),
            KeyCode::Enter => self.show_only(self.only.is_none()),
            KeyCode::Esc => {
                self.show_only(false);
                self.filter.clear();
            }
            KeyCode::PageUp => self.scroll_up(page.max(1), page),
            KeyCode::PageDown => self.scroll_down(page.max(1)),
            KeyCode::End => self.back = 0,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('r') => return name.map(Wish::Restart),
            KeyCode::Char('s') => return name.map(Wish::Shell),
            KeyCode::Char('o') => match chosen.and_then(|row| row.url.clone()) {
                Some(url) => return Some(Wish::Open(url)),
                None => self.status = chosen.map(no_page),
            },
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('b') => return Some(Wish::Rebuild),
            KeyCode::Char('q') => self.mode = Mode::Quit,
            _ => {}
        }
        None
    }

    fn typed(&mut self, code: KeyCode) {
        self.back = 0;
        match code {
            KeyCode::Enter => self.mode = Mode::Normal,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Normal;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }
}

/// Why there is nothing to open.
fn no_page(row: &Row) -> Text {
    let name = Text::line(&row.name);
    if row.ports.is_empty() {
        return name + " has no published port; `publish` in the project file gives it one";
    }
    name + " serves no web page that is known of, at " + row.ports.clone()
}

fn push<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    all.push_back(one);
    while all.len() > most {
        all.pop_front();
    }
}

/// The value that so many of a hundred sorted ones do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        let url = (name == "web-1").then(|| "http://127.0.0.1:8080/".to_owned());
        Row { name: name.into(), state: ("up".into(), None), health: ("-".into(), None), ports: "".into(), url }
    }

    fn entry(name: &str, text: &str) -> Entry {
        Entry { name: name.into(), style: Style::Cyan, text: text.into() }
    }

    fn press(state: &mut State, code: KeyCode) -> Option<Wish> {
        state.key(KeyEvent::new(code, KeyModifiers::NONE), 3)
    }

    fn of(texts: &[&str]) -> Vec<Text> {
        texts.iter().map(|text| Text::from(*text)).collect()
    }

    fn texts(state: &State, rows: usize) -> Vec<Text> {
        state.lines(rows).into_iter().map(|entry| entry.text.clone()).collect()
    }

    #[test]
    fn what_failed_is_seen_until_the_next_success() {
        let mut state = State::new("p", false);
        let did = |sync| News::Did { what: "a → web-1".into(), took: Duration::from_millis(2), sync };
        state.take(News::Converging);
        state.take(News::Said("one\ntwo".into()));
        state.take(News::Failed("error: three\n".into()));
        let lines = |state: &State| state.trouble.as_ref().map(|trouble| trouble.lines.clone());
        assert_eq!(lines(&state), Some(vec!["one".into(), "two".into(), "error: three".into()]));
        state.take(did(true));
        assert!(lines(&state).is_some(), "a sync does not mend a build");
        state.take(News::Converging);
        assert!(lines(&state).is_some());
        state.take(News::Converged);
        assert_eq!(lines(&state), None);
        state.take(News::Trouble("error: four".into()));
        assert_eq!(lines(&state), Some(vec!["error: four".into()]));
        state.take(did(false));
        assert_eq!((lines(&state), state.syncs), (None, 1));
    }

    #[test]
    fn percentiles_are_those_of_the_session() {
        let mut state = State::new("p", false);
        for millis in (1..=100).rev() {
            state.take(News::Did { what: "x".into(), took: Duration::from_millis(millis), sync: true });
        }
        assert_eq!(state.percentiles, Some((Duration::from_millis(50), Duration::from_millis(99))));
        assert_eq!((state.syncs, state.events.len()), (100, EVENTS));
    }

    #[test]
    fn logs_follow_their_end_unless_somebody_reads() {
        let mut state = State::new("p", false);
        state.take(News::Logged((0..10).map(|number| entry("a", &number.to_string())).collect()));
        assert_eq!(texts(&state, 3), of(&["7", "8", "9"]));
        press(&mut state, KeyCode::PageUp);
        assert_eq!(texts(&state, 3), of(&["4", "5", "6"]));
        state.take(News::Logged(vec![entry("a", "10")]));
        assert_eq!(texts(&state, 3), of(&["4", "5", "6"]));
        press(&mut state, KeyCode::End);
        assert_eq!(texts(&state, 1), of(&["10"]));
        state.scroll_up(1000, 3);
        assert_eq!(texts(&state, 3), of(&["0", "1", "2"]));
    }

    #[test]
    fn logs_are_those_of_one_container_and_of_a_filter() {
        let mut state = State::new("p", false);
        state.take(News::Rows(vec![row("db-1"), row("web-1")]));
        state.take(News::Logged(vec![entry("db-1", "Ready"), entry("web-1", "ready"), entry("web-1", "GET /")]));
        assert_eq!(texts(&state, 9).len(), 3);
        press(&mut state, KeyCode::Char('j'));
        press(&mut state, KeyCode::Enter);
        assert_eq!(texts(&state, 9), of(&["ready", "GET /"]));
        press(&mut state, KeyCode::Up);
        assert_eq!(texts(&state, 9), of(&["Ready"]), "the one that is selected");
        press(&mut state, KeyCode::Enter);
        for code in [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Backspace, KeyCode::Char('R'), KeyCode::Enter] {
            assert_eq!(press(&mut state, code), None);
        }
        assert_eq!((state.mode.clone(), texts(&state, 9)), (Mode::Normal, of(&["Ready", "ready"])));
        assert!(!state.take(News::Logged(vec![entry("web-1", "POST /")])), "nothing else is to be seen");
        press(&mut state, KeyCode::Esc);
        assert_eq!(texts(&state, 9).len(), 4);
    }

    #[test]
    fn keys_say_what_somebody_wants() {
        let mut state = State::new("p", false);
        assert_eq!(press(&mut state, KeyCode::Char('r')), None);
        state.take(News::Rows(vec![row("db-1"), row("web-1")]));
        assert_eq!(press(&mut state, KeyCode::Char('r')), Some(Wish::Restart("db-1".into())));
        assert_eq!(press(&mut state, KeyCode::Char('o')), None);
        assert_eq!(state.status, Some("db-1 has no published port; `publish` in the project file gives it one".into()));
        state.take(News::Rows(vec![Row { ports: ":5432".into(), ..row("db-1") }, row("web-1")]));
        assert_eq!(press(&mut state, KeyCode::Char('o')), None);
        assert_eq!(state.status, Some("db-1 serves no web page that is known of, at :5432".into()));
        press(&mut state, KeyCode::Down);
        assert_eq!(press(&mut state, KeyCode::Char('s')), Some(Wish::Shell("web-1".into())));
        assert_eq!(press(&mut state, KeyCode::Char('o')), Some(Wish::Open("http://127.0.0.1:8080/".into())));
        state.take(News::Rows(vec![row("a-1"), row("db-1"), row("web-1")]));
        assert_eq!(state.selected, 2, "the same one is selected");
        assert_eq!(press(&mut state, KeyCode::Char('q')), None);
        assert_eq!(press(&mut state, KeyCode::Char('x')), None);
        assert_eq!(press(&mut state, KeyCode::Char('b')), Some(Wish::Rebuild));
        press(&mut state, KeyCode::Char('q'));
        assert_eq!(press(&mut state, KeyCode::Char('d')), Some(Wish::Down));
        press(&mut state, KeyCode::Char('q'));
        assert_eq!(press(&mut state, KeyCode::Enter), Some(Wish::Leave));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(interrupt, 3), Some(Wish::Leave));
        state.ask(vec!["a".into()], "Allow?");
        assert_eq!(press(&mut state, KeyCode::Enter), Some(Wish::Answer(Answer::No)));
        state.ask(vec!["a".into()], "Allow?");
        assert_eq!(press(&mut state, KeyCode::Char('y')), Some(Wish::Answer(Answer::Yes)));
    }

    #[test]
    fn help_is_closed_by_any_key_which_does_nothing_else() {
        let mut state = State::new("p", false);
        state.take(News::Rows(vec![row("a-1")]));
        for code in [KeyCode::Char('?'), KeyCode::Char('q'), KeyCode::Char('r'), KeyCode::Esc] {
            assert_eq!(press(&mut state, KeyCode::Char('?')), None);
            assert_eq!(state.mode, Mode::Help);
            assert_eq!((press(&mut state, code), state.mode.clone()), (None, Mode::Normal), "{code:?}");
        }
        press(&mut state, KeyCode::Char('?'));
        state.click(Some(0));
        assert_eq!((state.mode.clone(), state.only.clone()), (Mode::Normal, None));
        press(&mut state, KeyCode::Char('?'));
        state.ask(vec!["a".into()], "Allow?");
        assert_eq!(press(&mut state, KeyCode::Char('y')), Some(Wish::Answer(Answer::Yes)), "a question comes first");
    }

    #[test]
    fn clicks_select_and_then_show_the_logs_of_one() {
        let mut state = State::new("p", false);
        state.take(News::Rows(vec![row("a-1"), row("b-1")]));
        state.click(Some(1));
        assert_eq!((state.selected, state.only.clone()), (1, None));
        state.click(Some(1));
        assert_eq!(state.only.as_deref(), Some("b-1"));
        state.click(Some(0));
        assert_eq!((state.selected, state.only.as_deref()), (0, Some("a-1")), "the one that is selected");
        state.click(None);
        state.click(Some(0));
        assert_eq!((state.selected, state.only.clone()), (0, None));
    }

    #[test]
    fn nothing_is_drawn_when_nothing_has_changed() {
        let mut state = State::new("p", false);
        assert!(state.take(News::Rows(vec![row("a-1")])) && !state.take(News::Rows(vec![row("a-1")])));
        let reading = || News::Readings(vec![Reading { name: "a-1".into(), cpu: 0.04, memory: 4096 }]);
        for _ in 0..HISTORY {
            state.take(reading());
        }
        assert!(!state.take(reading()));
        assert!(state.take(News::Readings(Vec::new())));
        let at_work = || News::AtWork { name: "web".into(), what: Some("sleep …".into()) };
        assert!(state.take(at_work()) && !state.take(at_work()));
        assert!(state.take(News::AtWork { name: "web".into(), what: None }));
    }
}

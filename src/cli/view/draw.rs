//! How a view looks: what is known, in a size, as cells of a terminal. It reads nothing and decides nothing.

use super::super::ui::{Style, Text};
use super::keys::{KEYS, footer};
use super::state::{HISTORY, Mode, Phase, Row, State};
use crate::model::Size;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::widgets::{Block, Clear, Widget};
use std::collections::VecDeque;
use std::time::Duration;

/// The columns of the table.
const HEADINGS: [&str; 8] = ["NAME", "STATE", "HEALTH", "", "CPU", "", "MEMORY", "PORTS"];
/// The columns whose cells end below each other.
const RIGHT: [usize; 2] = [4, 6];
/// The columns that are left out where there is no room, the first one first.
const EXPENDABLE: [usize; 5] = [5, 3, 2, 6, 4];
/// The space between two columns.
const GAP: usize = 2;
/// The bars of a small diagram.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Less than this percentage of a processor is a low bar, whatever else there is.
const IDLE: f64 = 10.0;
/// The widest name before lines of logs.
const NAMES: usize = 16;

/// Where everything is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    pub top: Rect,
    /// The containers, below the headings.
    pub table: Rect,
    pub last: Rect,
    pub events: Rect,
    /// What failed, or a question.
    pub trouble: Rect,
    pub title: Rect,
    pub logs: Rect,
    pub keys: Rect,
}

/// Where everything is in an area: what matters less gets what is left.
pub fn places(state: &State, area: Rect) -> Places {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    // The top, the headings, the last change, the title of the logs, and the keys.
    let free = area.height.saturating_sub(5);
    let table = rows(state.rows.len().max(1)).min((free / 3).max(1));
    let wanted = match (&state.mode, &state.trouble) {
        (Mode::Asked { lines, .. }, _) => wrapped(lines, area.width).len() + 1,
        (_, Some(trouble)) => wrapped(&trouble.lines, area.width).len() + 1,
        _ => 0,
    };
    let trouble = rows(wanted).min(free.saturating_sub(table) * 2 / 3);
    let events = if area.height < 20 || trouble > 0 { 0 } else { rows(state.before().count()).min(3) };
    let logs = free.saturating_sub(table).saturating_sub(trouble).saturating_sub(events);
    let mut y = area.y;
    let mut next = |height: u16| {
        let place = Rect::new(area.x, y, area.width, height).intersection(area);
        y = y.saturating_add(height);
        place
    };
    let (top, _headings, table) = (next(1), next(1), next(table));
    let (last, events, trouble, title, logs, keys) = (next(1), next(events), next(trouble), next(1), next(logs), next(1));
    Places { top, table, last, events, trouble, title, logs, keys }
}

/// The container in a row of the terminal.
pub fn row_at(state: &State, area: Rect, row: u16) -> Option<usize> {
    let table = places(state, area).table;
    let inside = row.checked_sub(table.y).filter(|inside| *inside < table.height)?;
    Some(first(state, table) + usize::from(inside)).filter(|at| *at < state.rows.len())
}

/// The first container that is shown.
fn first(state: &State, table: Rect) -> usize {
    (state.selected + 1).saturating_sub(usize::from(table.height))
}

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame) {
    let area = frame.area();
    let places = places(state, area);
    let mut paper = Paper { buffer: frame.buffer_mut(), color: state.color };
    top(state, places.top, &mut paper);
    table(state, places.table, &mut paper);
    happened(state, places, &mut paper);
    trouble(state, places.trouble, &mut paper);
    logs(state, places, &mut paper);
    keys(state, places.keys, &mut paper);
    if state.mode == Mode::Help {
        help(Rect { height: area.height.saturating_sub(1), ..area }, &mut paper);
    }
}

/// What is drawn on.
struct Paper<'a> {
    buffer: &'a mut Buffer,
    color: bool,
}

impl Paper<'_> {
    /// Writes a text inside of a place, and returns the column after it.
    fn put(&mut self, place: Rect, x: u16, y: u16, text: &Text, look: Look) -> u16 {
        if !place.contains(Position { x, y }) {
            return x;
        }
        self.buffer.set_span(x, y, &text.span(look), place.right() - x).0
    }

    /// Writes parts one after the other.
    fn line(&mut self, place: Rect, parts: &[(Text, Option<Style>)]) {
        let mut x = place.x;
        for (text, style) in parts {
            x = self.put(place, x, place.y, text, self.look(*style));
        }
    }

    /// A style as the terminal shows it. Without colours, everything says the same.
    fn look(&self, style: Option<Style>) -> Look {
        let look = Look::new();
        let Some(style) = style else { return look };
        match style {
            Style::Bold => look.add_modifier(Modifier::BOLD),
            _ if !self.color => look,
            Style::Dim => look.add_modifier(Modifier::DIM),
            Style::Good => look.fg(Color::Green),
            Style::Change => look.fg(Color::Yellow),
            Style::Bad => look.fg(Color::Red),
            Style::Trust => look.fg(Color::Magenta).add_modifier(Modifier::BOLD),
            Style::Cyan => look.fg(Color::Cyan),
            Style::Blue => look.fg(Color::Blue),
            Style::Magenta => look.fg(Color::Magenta),
        }
    }
}

/// A time as it is shown.
fn time(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1000.0;
    if millis < 1000.0 { format!("{millis:.1} ms") } else { format!("{:.1} s", millis / 1000.0) }
}

fn top(state: &State, place: Rect, paper: &mut Paper) {
    let mut parts = vec![(state.project.clone(), Some(Style::Bold)), ("  ".into(), None)];
    if state.trouble.is_some() {
        parts.extend([("error".into(), Some(Style::Bad)), ("  ".into(), None)]);
    }
    match (state.phase, state.works.as_slice()) {
        (Phase::Watching { files, directories }, _) => {
            parts.push((format!("watching {files} files in {directories} directories").into(), Some(Style::Good)));
        }
        (Phase::Building, []) => parts.push(("bringing up …".into(), Some(Style::Change))),
        (Phase::Building, [(name, what), rest @ ..]) => {
            let name = if name.is_empty() { Text::default() } else { Text::line(name) + ": " };
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            parts.push((name + what.clone() + more, Some(Style::Change)));
        }
    }
    if let Some((half, most)) = state.percentiles {
        let text = format!("{} synced, p50 {}, p99 {}", state.syncs, time(half), time(most));
        parts.extend([("  ".into(), None), (text.into(), Some(Style::Dim))]);
    }
    paper.line(place, &parts);
}

/// The cells of a container.
fn cells(state: &State, row: &Row) -> [(Text, Option<Style>); HEADINGS.len()] {
    let usage = state.usage.get(&row.name).cloned().unwrap_or_default();
    let most = usage.cpu.iter().copied().fold(IDLE, f64::max);
    let cpu = usage.cpu.back().map(|cpu| format!("{cpu:.1} %"));
    #[expect(clippy::cast_precision_loss, reason = "it is the height of a bar")]
    let memory: VecDeque<f64> = usage.memory.iter().map(|bytes| *bytes as f64).collect();
    let full = memory.iter().copied().fold(1.0, f64::max) * 1.25;
    [
        (Text::line(&row.name), Some(Style::Bold)),
        row.state.clone(),
        row.health.clone(),
        (bars(&usage.cpu, most).into(), Some(Style::Cyan)),
        (cpu.unwrap_or_default().into(), None),
        (bars(&memory, full).into(), Some(Style::Magenta)),
        (usage.memory.back().map(|bytes| size(*bytes)).unwrap_or_default().into(), None),
        (row.ports.clone(), None),
    ]
}

/// A size in whole units, which changes less often than its digits.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => Size(bytes).to_string(),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// A small diagram; nothing if there are no values.
fn bars(values: &VecDeque<f64>, most: f64) -> String {
    if values.is_empty() {
        return String::new();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is the number of a bar, which is bounded")]
    let bar = |value: &f64| BARS[((value / most * 7.0).round().clamp(0.0, 7.0) as usize).min(BARS.len() - 1)];
    let shown: String = values.iter().map(bar).collect();
    format!("{}{shown}", " ".repeat(HISTORY.saturating_sub(values.len())))
}

fn table(state: &State, place: Rect, paper: &mut Paper) {
    if place.is_empty() {
        return;
    }
    let all: Vec<_> = state.rows.iter().map(|row| cells(state, row)).collect();
    let width = |column: usize| {
        let cells = all.iter().map(|cells| cells[column].0.width()).max().unwrap_or(0);
        cells.max(if all.is_empty() { 0 } else { HEADINGS[column].len() })
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let room = usize::from(place.width).saturating_sub(GAP);
    let mut kept: Vec<usize> = (0..HEADINGS.len()).filter(|column| widths[*column] > 0).collect();
    for column in EXPENDABLE {
        if kept.iter().map(|column| widths[*column] + GAP).sum::<usize>() > room + GAP {
            kept.retain(|other| *other != column);
        }
    }
    if all.is_empty() {
        paper.line(place, &[("  no containers yet".into(), Some(Style::Dim))]);
        return;
    }
    // The headings are above the place of the containers.
    let above = Rect { y: place.y.saturating_sub(1), height: 1, ..place };
    write(above, &HEADINGS.map(|heading| (heading.into(), Some(Style::Dim))), &kept, &widths, paper);
    let first = first(state, place);
    for (y, (at, cells)) in (place.top()..place.bottom()).zip(all.iter().enumerate().skip(first)) {
        let line = Rect { y, height: 1, ..place };
        write(line, cells, &kept, &widths, paper);
        if at == state.selected {
            paper.put(line, line.x, y, &"▸".into(), Look::new());
            paper.buffer.set_style(line, Look::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// Writes those cells of a row that there is room for.
fn write(line: Rect, cells: &[(Text, Option<Style>); HEADINGS.len()], kept: &[usize], widths: &[usize], paper: &mut Paper) {
    let after = |x: u16, columns: usize| x.saturating_add(u16::try_from(columns).unwrap_or(u16::MAX));
    let mut x = after(line.x, GAP);
    for column in kept {
        let ((text, style), width) = (&cells[*column], widths[*column]);
        let at = if RIGHT.contains(column) { after(x, width.saturating_sub(text.width())) } else { x };
        // What is still too long is cut where the line ends.
        let text = text.clone().shortened(usize::from(line.right().saturating_sub(at)));
        let look = paper.look(*style);
        paper.put(line, at, line.y, &text, look);
        x = after(x, width + GAP);
    }
}

fn happened(state: &State, places: Places, paper: &mut Paper) {
    let took = |took: Option<Duration>| -> (Text, Option<Style>) {
        (took.map_or_else(String::new, |took| format!(" ({})", time(took))).into(), Some(Style::Dim))
    };
    match &state.last {
        Some(last) => paper.line(places.last, &[("last: ".into(), Some(Style::Dim)), (last.what.clone(), None), took(last.took)]),
        None => paper.line(places.last, &[("no change yet".into(), Some(Style::Dim))]),
    }
    for (y, event) in (places.events.top()..places.events.bottom()).zip(state.before()) {
        let line = Rect { y, height: 1, ..places.events };
        paper.line(line, &[("      ".into(), None), (event.what.clone(), Some(Style::Dim)), took(event.took)]);
    }
}

/// Lines that are too long, continued on further ones.
fn wrapped(lines: &[Text], width: u16) -> Vec<Text> {
    lines.iter().flat_map(|line| line.clone().wrapped(usize::from(width))).collect()
}

/// A line that says what is below it.
fn title(place: Rect, text: Text, style: Style, paper: &mut Paper) {
    let text = Text::from("─ ") + text + " ";
    let rest = usize::from(place.width).saturating_sub(text.width());
    paper.line(place, &[(text + "─".repeat(rest), Some(style))]);
}

fn trouble(state: &State, place: Rect, paper: &mut Paper) {
    let (what, lines, style) = match (&state.mode, &state.trouble) {
        (Mode::Asked { lines, .. }, _) => ("consent", lines, Style::Trust),
        (_, Some(trouble)) => ("error", &trouble.lines, Style::Bad),
        _ => return,
    };
    if place.is_empty() {
        return;
    }
    title(place, what.into(), style, paper);
    let lines = wrapped(lines, place.width);
    let room = usize::from(place.height) - 1;
    let left = lines.len().saturating_sub(room);
    for (at, (y, line)) in (place.top() + 1..place.bottom()).zip(lines).enumerate() {
        let line = if left > 0 && at + 1 == room { format!("… and {} more lines", left + 1).into() } else { line };
        paper.line(Rect { y, height: 1, ..place }, &[(line, None)]);
    }
}

fn logs(state: &State, places: Places, paper: &mut Paper) {
    let whose = state.only.as_ref().map_or_else(|| "logs of all containers".into(), |name| format!("logs of {name}"));
    let filter = if state.filter.is_empty() { String::new() } else { format!(" with \"{}\"", state.filter) };
    let back = if state.back == 0 { String::new() } else { format!(", {} lines below", state.back) };
    title(places.title, Text::line(&format!("{whose}{filter}{back}")), Style::Dim, paper);
    let lines = state.lines(usize::from(places.logs.height));
    let width = lines.iter().map(|entry| Text::line(&entry.name).width()).max().unwrap_or(0).min(NAMES);
    for (y, entry) in (places.logs.top()..places.logs.bottom()).zip(lines) {
        let name = match state.only {
            Some(_) => Text::default(),
            None => {
                let name = Text::line(&entry.name).shortened(width);
                let padding = " ".repeat(width.saturating_sub(name.width()));
                name + padding + " │ "
            }
        };
        let line = Rect { y, height: 1, ..places.logs };
        paper.line(line, &[(name, Some(entry.style)), (entry.text.clone(), None)]);
    }
}

fn keys(state: &State, place: Rect, paper: &mut Paper) {
    let text = match (&state.mode, &state.status) {
        (Mode::Filter, _) => Text::line(&format!("/{}▏ Enter: keep it, Esc: no filter", state.filter)),
        (Mode::Quit, _) => "quit? Enter: containers stay  d: take them down  Esc: go on".into(),
        (Mode::Help, _) => "any key closes the help".into(),
        (Mode::Asked { question, .. }, _) => question.clone() + " [y/N]",
        (Mode::Normal, Some(status)) => status.clone(),
        (Mode::Normal, None) => footer(usize::from(place.width)).into(),
    };
    let style = if state.mode == Mode::Normal && state.status.is_none() { Style::Dim } else { Style::Bold };
    paper.line(place, &[(text, Some(style))]);
}

/// What all keys do, in a box over the rest.
fn help(place: Rect, paper: &mut Paper) {
    let longest = |part: fn(&super::keys::Key) -> &str| KEYS.iter().map(|key| part(key).chars().count()).max().unwrap_or(0);
    let (first, second) = (longest(|key| key.key), longest(|key| key.help));
    let fit = |wanted: usize, most: u16| u16::try_from(wanted).unwrap_or(most).min(most);
    // The frame takes two columns and two rows, and a space is before and after each column.
    let (width, height) = (fit(first + second + 6, place.width), fit(KEYS.len() + 2, place.height));
    let area = Rect::new(place.x + (place.width - width) / 2, place.y + (place.height - height) / 2, width, height);
    Clear.render(area, paper.buffer);
    let block = Block::bordered().title(" keys ");
    let inside = block.inner(area);
    block.render(area, paper.buffer);
    for (y, key) in (inside.top()..inside.bottom()).zip(&KEYS) {
        let padding = " ".repeat(first - key.key.chars().count() + 2);
        let parts = [(" ".into(), None), (key.key.into(), Some(Style::Bold)), (padding.into(), None), (key.help.into(), None)];
        paper.line(Rect { y, height: 1, ..inside }, &parts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Entry, News, Reading};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Cell;

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame)).unwrap();
        let rows = terminal.backend().buffer().content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn state() -> State {
        let mut state = State::new("shop", false);
        let row = |name: &str, health: &str, ports: &str| Row {
            name: name.into(),
            state: ("running 12 s".into(), Some(Style::Good)),
            health: (health.into(), None),
            ports: ports.into(),
            url: None,
        };
        state.take(News::Rows(vec![row("db-1", "healthy", ""), row("web-1", "-", ":8080")]));
        for cpu in [0.0, 50.0, 100.0] {
            let db = Reading { name: "db-1".into(), cpu: cpu / 10.0, memory: 25 << 20 };
            let web = Reading { name: "web-1".into(), cpu, memory: 123 << 20 };
            state.take(News::Readings(vec![db, web]));
        }
        let did = |what: &str, micros| News::Did { what: what.into(), took: Duration::from_micros(micros), sync: true };
        state.take(did("app/a.py → web-1", 1300));
        state.take(News::Said("up (1.2 s)".into()));
        state.take(did("app/main.py → web-1", 1700));
        let entry = |name: &str, text: &str| Entry { name: name.into(), style: Style::Cyan, text: text.into() };
        state.take(News::Logged(vec![entry("db-1", "ready"), entry("web-1", "GET / 200")]));
        state.take(News::Watching { files: 12, directories: 3 });
        state
    }

    #[test]
    fn everything_is_seen_on_a_plain_terminal() {
        insta::assert_snapshot!(screen(&state(), 80, 24), @r#"
        shop  watching 12 files in 3 directories  2 synced, p50 1.3 ms, p99 1.7 ms
          NAME   STATE         HEALTH                 CPU             MEMORY  PORTS
        ▸ db-1   running 12 s  healthy       ▁▅█   10.0 %       ▇▇▇   25 MiB
          web-1  running 12 s  -             ▁▅█  100.0 %       ▇▇▇  123 MiB  :8080
        last: app/main.py → web-1 (1.7 ms)
              up (1.2 s)
              app/a.py → web-1 (1.3 ms)
        ─ logs of all containers ───────────────────────────────────────────────────────
        db-1  │ ready
        web-1 │ GET / 200













        Enter logs  / filter  r restart  s shell  o open  b rebuild  q quit  ? help
        "#);
    }

    #[test]
    fn a_small_terminal_has_what_matters() {
        let mut state = state();
        state.select(1);
        insta::assert_snapshot!(screen(&state, 50, 12), @r#"
        shop  watching 12 files in 3 directories  2 synced
          NAME   STATE             CPU   MEMORY  PORTS
          db-1   running 12 s   10.0 %   25 MiB
        ▸ web-1  running 12 s  100.0 %  123 MiB  :8080
        last: app/main.py → web-1 (1.7 ms)
        ─ logs of all containers ─────────────────────────
        db-1  │ ready
        web-1 │ GET / 200



        r restart  s shell  b rebuild  q quit  ? help
        "#);
    }

    #[test]
    fn what_failed_has_a_place_of_its_own() {
        let mut state = state();
        state.take(News::Converging);
        state.take(News::AtWork { name: "web".into(), what: Some("pip install flask".into()) });
        state.take(News::AtWork { name: "db".into(), what: Some("sleep 1 …".into()) });
        state.take(News::Trouble("error: web: the step failed\n  because: it ended with exit status 1\n".into()));
        state.key(ratatui::crossterm::event::KeyCode::Char('q').into(), 1);
        insta::assert_snapshot!(screen(&state, 60, 14), @r#"
        shop  error  web: pip install flask (and 1 more)  2 synced,
          NAME   STATE         HEALTH       CPU   MEMORY  PORTS
        ▸ db-1   running 12 s  healthy   10.0 %   25 MiB
          web-1  running 12 s  -        100.0 %  123 MiB  :8080
        last: app/main.py → web-1 (1.7 ms)
        ─ error ────────────────────────────────────────────────────
        error: web: the step failed
          because: it ended with exit status 1
        ─ logs of all containers ───────────────────────────────────
        db-1  │ ready
        web-1 │ GET / 200


        quit? Enter: containers stay  d: take them down  Esc: go on
        "#);
    }

    #[test]
    fn help_is_a_box_over_the_rest() {
        let mut state = state();
        state.key(ratatui::crossterm::event::KeyCode::Char('?').into(), 1);
        let shown = screen(&state, 80, 24);
        assert!(shown.lines().all(|line| line.chars().count() <= 80) && shown.ends_with("any key closes the help\n"), "{shown}");
        for key in &KEYS {
            let line = shown.lines().find(|line| line.contains(&format!("│ {} ", key.key)));
            assert!(line.is_some_and(|line| line.contains(key.help)), "{}:\n{shown}", key.key);
        }
        assert!(shown.contains("┌ keys ─") && shown.starts_with("shop  watching "), "{shown}");
    }

    #[test]
    fn any_size_can_be_drawn_in() {
        let mut all = state();
        all.take(News::Trouble("error: x\n".repeat(30).into()));
        let mut asked = state();
        asked.ask(vec!["shop asks".into(); 9], "Allow this?");
        let mut helped = state();
        helped.key(ratatui::crossterm::event::KeyCode::Char('?').into(), 1);
        for (width, height) in (0..30).flat_map(|width| (0..30).map(move |height| (width, height))).filter(|size| size.0 > 0) {
            for state in [&State::new("p", true), &all, &asked, &helped] {
                screen(state, width, height);
                (0..height).for_each(|row| assert!(row_at(state, Rect::new(0, 0, width, height), row) < Some(2)));
            }
        }
        assert_eq!(
            (2..5).map(|row| row_at(&state(), Rect::new(0, 0, 80, 24), row)).collect::<Vec<_>>(),
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn what_containers_write_is_never_obeyed() {
        let mut state = State::new("p", true);
        let text = Text::line("a\u{1b}[2Jb\u{9b}c");
        state.take(News::Logged(vec![Entry { name: "x\u{1b}".into(), style: Style::Cyan, text }]));
        let shown = screen(&state, 60, 12);
        assert!(shown.contains("x\\u{1b} │ a\\u{1b}[2Jb\\u{9b}c"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}']));
    }
}

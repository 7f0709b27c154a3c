//! Reads the logs of containers as they grow. What containers wrote is made harmless here.

use super::super::cells::color;
use super::super::ui::Text;
use super::state::{Entry, News};
use crate::engine::{self, Instance};
use crate::monitor::{Tail, Writes};
use std::collections::BTreeSet;

/// How many lines of each container are shown that are there already.
const BEFORE: usize = 200;
/// How many lines of each container are read before they are shown.
const AT_ONCE: usize = 500;
/// The longest line that is shown, in characters.
const LONGEST: usize = 2000;

/// Follows the logs until nobody wants them any more; `tell` returns whether somebody does.
pub fn follow(instance: &Instance, tell: &dyn Fn(News) -> bool) {
    let all = instance.all_logs();
    let mut sources: Vec<(String, Tail)> = Vec::new();
    let mut writes = Writes::to(vec![all.clone()]);
    let mut is_new = true;
    loop {
        if is_new {
            let known: BTreeSet<String> = sources.iter().map(|(name, _)| name.clone()).collect();
            // A list that cannot be read now is read again when something is written.
            let names = engine::logged(instance, &[]).unwrap_or_default();
            for name in names.into_iter().filter(|name| !known.contains(name)) {
                let folder = instance.logs(&name);
                let mut tail = Tail::new(&folder);
                tail.skip_to_last(BEFORE);
                writes.also(folder);
                sources.push((name, tail));
            }
        }
        let entries = read(&mut sources);
        if entries.is_empty() {
            is_new = writes.wait(None).of(&all);
        } else if !tell(News::Logged(entries)) {
            return;
        }
    }
}

/// The next lines of all containers, oldest first.
fn read(sources: &mut [(String, Tail)]) -> Vec<Entry> {
    let mut found = Vec::new();
    for (name, tail) in sources {
        for line in std::iter::from_fn(|| tail.next_whole()).take(AT_ONCE) {
            let entry = Entry { name: name.clone(), style: color(name), text: harmless(&line.text()) };
            found.push((line.time, entry));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// A line without what colours it. Everything else that a terminal would obey is shown.
fn harmless(line: &str) -> Text {
    let (mut plain, mut rest) = (String::new(), line.trim_end_matches('\r'));
    while let Some(at) = rest.find('\u{1b}') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let skipped = colour(escape).unwrap_or(1);
        if skipped == 1 {
            plain.push('\u{1b}');
        }
        rest = &escape[skipped..];
    }
    plain.push_str(rest);
    Text::line(&plain.replace('\t', "    ")).shortened(LONGEST)
}

/// The length of the escape sequence that a text begins with, if it only sets colours (ECMA-48, 8.3.117).
fn colour(escape: &str) -> Option<usize> {
    let numbers = escape.strip_prefix('\u{1b}')?.strip_prefix('[')?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':'))?;
    (numbers[end..].starts_with('m')).then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_and_what_a_terminal_would_obey_is_shown() {
        assert_eq!(harmless("\u{1b}[1;32mINFO\u{1b}[0m ready\r"), "INFO ready".into());
        assert_eq!(harmless("a\tb"), "a    b".into());
        assert_eq!(harmless("\u{1b}[2Jx\u{1b}]0;t\u{7}\u{9b}1A\u{1b}"), Text::line("\u{1b}[2Jx\u{1b}]0;t\u{7}\u{9b}1A\u{1b}"));
        assert_eq!(harmless("\u{1b}[31"), Text::line("\u{1b}[31"));
        assert_eq!(harmless("\u{1b}[\u{1b}[mm"), Text::line("\u{1b}[m"), "what is left is not obeyed either");
        assert_eq!(harmless(&"x".repeat(1 << 20)).width(), LONGEST);
    }
}

//! What people write who come from other languages: it is told in their words, with what to write here instead.

use super::token::{is_newline, is_space};
use super::{Kind, Scanner, Wrong, quoted};
use crate::model::{Duration, Size};

/// Quotes of other languages and of word processors, each with the one that closes it.
const QUOTES: [(char, char); 7] = [('\'', '\''), ('‘', '’'), ('’', '’'), ('“', '”'), ('”', '”'), ('„', '“'), ('«', '»')];
/// What has a duration, which `5m` is as well as a size.
const TIMES: [&str; 6] = ["interval", "timeout", "stop-grace", "start-period", "start-interval", "time"];
/// The longest text that is repeated in an advice.
const REPEATED: usize = 80;

impl Scanner<'_> {
    /// What is one word in other languages, from a place on.
    fn whole(&self, from: usize) -> &str {
        let rest = &self.text[from..];
        let ends = |c: char| is_space(c) || is_newline(c) || matches!(c, ';' | '{' | '}' | '"');
        rest[..rest.find(ends).unwrap_or(rest.len())].trim_end_matches(',')
    }

    /// The beginning of a node, up to a place.
    fn begun(&self, at: usize) -> &str {
        self.text[..at].rsplit(|c: char| is_newline(c) || matches!(c, ';' | '{' | '}')).next().unwrap_or_default().trim_start()
    }

    fn line_from(&self, at: usize) -> &str {
        let rest = &self.text[at..];
        &rest[..rest.find(is_newline).unwrap_or(rest.len())]
    }

    /// A word with characters that only text in quotes may have.
    pub(super) fn unquoted(&self, from: usize) -> Wrong {
        let whole = self.whole(from);
        if let Some(wrong) = self.ports(from, whole) {
            return wrong;
        }
        if whole.len() > REPEATED {
            return Wrong::new(from, whole.len(), "this must be in quotes");
        }
        Wrong::new(from, whole.len(), format!("`{whole}` must be in quotes")).help(format!("write {}", quoted(whole)))
    }

    /// A word that begins like a number.
    pub(super) fn no_number(&self, from: usize) -> Wrong {
        let whole = self.whole(from);
        if let Some(wrong) = self.ports(from, whole) {
            return wrong;
        }
        if whole.len() > REPEATED {
            return Wrong::new(from, whole.len(), "this is not a number, and text must be in quotes");
        }
        let before = self.begun(from).trim_end_matches([' ', '\t', '=']);
        let word = before.rsplit([' ', '\t']).next().unwrap_or_default();
        let time = Duration::parse(whole).ok().or_else(|| Duration::guess(whole)).map(|time| time.to_string());
        let size = Size::parse(whole).ok().or_else(|| Size::guess(whole)).map(Size::written);
        let meant = if TIMES.contains(&word) { time.or(size) } else { size.or(time) };
        let wrong = Wrong::new(from, whole.len(), format!("`{whole}` is not a number, and text must be in quotes"));
        wrong.help(format!("write {}", quoted(meant.as_deref().unwrap_or(whole))))
    }

    /// Ports as Docker writes them, after `publish` and `expose`.
    fn ports(&self, from: usize, whole: &str) -> Option<Wrong> {
        let node = self.begun(from).trim_end();
        let (ports, protocol) = whole.split_once('/').map_or((whole, None), |(ports, protocol)| (ports, Some(protocol)));
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let port = |text: &str| if text.contains('-') { quoted(text) } else { text.to_owned() };
        let parts: Vec<&str> = ports.split(':').collect();
        let (address, host, to) = match parts.as_slice() {
            [host] => (None, *host, None),
            [host, to] if node == "publish" => (None, *host, Some(*to)),
            [address, host, to] if node == "publish" => (Some(*address), *host, Some(*to)),
            _ => return None,
        };
        if whole.len() > REPEATED || !matches!(node, "publish" | "expose") || !is_port(host) || !to.is_none_or(is_port) {
            return None;
        }
        let to = to.map_or_else(String::new, |to| format!(" to={}", port(to)));
        let address = address.map_or_else(String::new, |address| format!(" address={}", quoted(address)));
        let protocol = protocol.map_or_else(String::new, |protocol| format!(" protocol={}", quoted(protocol)));
        let message = match (to.is_empty(), protocol.is_empty()) {
            (false, _) => "the ports of the host and of the container are written apart",
            (true, false) => "a port and its protocol are written apart",
            (true, true) => "a range of ports must be in quotes",
        };
        let help = format!("write `{node} {}{to}{address}{protocol}`", port(host));
        Some(Wrong::new(from, whole.len(), message).help(help))
    }

    /// Text in quotes that are none here.
    pub(super) fn foreign_quotes(&self) -> Option<Wrong> {
        let first = self.peek()?;
        let (_, close) = QUOTES.iter().find(|(open, _)| *open == first)?;
        // No further than that: there may be many of them on a line.
        let mut near = self.rest().char_indices().skip(1).take(REPEATED).take_while(|(_, c)| !is_newline(*c));
        let (end, _) = near.find(|(_, c)| c == close)?;
        let inside = &self.rest()[first.len_utf8()..end];
        let length = first.len_utf8() + inside.len() + close.len_utf8();
        let wrong = Wrong::new(self.at, length, format!("text is put in double quotes, not in {first}"));
        Some(wrong.help(format!("write {}", quoted(inside))))
    }

    /// A `#` that begins neither a keyword nor a raw string.
    pub(super) fn no_keyword(&self, word: &str) -> Wrong {
        let line = self.line_from(self.at);
        let behind = line[1..].get(word.len()..).unwrap_or_default().trim_start();
        let is_sentence = !behind.is_empty() && !behind.starts_with([';', '{', '}', '"']);
        if word.is_empty() || is_sentence || word.len() > REPEATED || self.begun(self.at).is_empty() {
            let said = line.trim_start_matches('#').trim();
            let wrong = Wrong::new(self.at, 1, "`#` does not begin a comment here");
            let repeated = !said.is_empty() && said.chars().count() <= REPEATED;
            // Whatever stands in a comment is no error of its own.
            let wrong = wrong.kind(Kind::Open);
            return wrong.help(if repeated { format!("write `// {said}`") } else { "a comment begins with `//`".to_owned() });
        }
        let wrong = Wrong::new(self.at, word.len() + 1, format!("there is no keyword `#{word}`")).kind(Kind::Value);
        wrong.help(match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => "write `#true`".to_owned(),
            "false" | "no" | "off" => "write `#false`".to_owned(),
            "null" | "none" | "nil" => "write `#null`".to_owned(),
            _ => format!("a comment begins with `//`; text must be in quotes: {}", quoted(&format!("#{word}"))),
        })
    }

    /// A `=` that has no name of a property before it.
    pub(super) fn equals(&self) -> Wrong {
        let name = self.begun(self.at).trim_end();
        let value = self.line_from(self.at)[1..].trim().trim_end_matches([';', ',', '}']).trim_end();
        let wrong = Wrong::new(self.at, 1, "there is no `=` between a node and its value");
        let single = !name.is_empty() && !name.contains(is_space) && !name.contains('"');
        let plain = !value.is_empty() && !value.starts_with(['[', '{', '=']) && value.chars().count() <= REPEATED;
        if !single || !plain {
            return wrong.help("values have no `=` in front: image \"app\"; a property has one: to=\"/x\"");
        }
        let ready = value.starts_with(['"', '#']) || value.bytes().all(|byte| byte.is_ascii_digit());
        wrong.help(format!("write `{name} {}`", if ready { value.to_owned() } else { quoted(value) }))
    }

    /// A list in brackets.
    pub(super) fn list(&self) -> Wrong {
        let line = self.line_from(self.at);
        let begun = self.begun(self.at).trim_end();
        let end = line.find(']').map(|end| end + 1);
        if begun.is_empty() && end.is_some() {
            let wrong = Wrong::new(self.at, line.trim_end().len(), "this looks like TOML; a project file is KDL");
            return wrong.help("as in: container \"web\" { image \"app\" }");
        }
        let wrong = Wrong::new(self.at, end.unwrap_or(1), "there are no lists in brackets");
        let generic = "give several values, or write the line several times";
        let Some(inside) = end.map(|end| &line[1..end - 1]).filter(|inside| inside.chars().count() <= REPEATED) else {
            return wrong.help(generic);
        };
        let parts: Vec<&str> = if inside.contains(',') { inside.split(',').collect() } else { inside.split(is_space).collect() };
        let unquoted = |part: &str| part.trim().trim_matches(['"', '\'']).to_owned();
        let items: Vec<String> = parts.into_iter().map(unquoted).filter(|part| !part.is_empty()).collect();
        let words: Vec<String> = items.iter().map(|item| quoted(item)).collect();
        let written = match begun.strip_suffix('=') {
            _ if words.is_empty() => return wrong.help(generic),
            None => format!("{begun} {}", words.join(" ")),
            // A variable has one value.
            Some(name) if begun.starts_with("env ") => format!("{name}={}", quoted(&items.join(" "))),
            Some(name) => words.iter().map(|word| format!("{name}={word}")).collect::<Vec<_>>().join("; "),
        };
        wrong.help(format!("write `{written}`"))
    }
}

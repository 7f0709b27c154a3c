//! Patterns of paths, as in Docker's ignore files: Go's `path/filepath.Match` plus `**`.
//!
//! The author of a pattern may be hostile, and others wait for the match. So matching never backtracks more
//! than one step and does not recurse: its time is at most proportional to the product of both lengths.

use std::str::Chars;

/// Matches a path against a pattern that is used once; see [`Pattern`].
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    Pattern::new(pattern).matches(path)
}

/// A pattern of `*` (no slash), `**` (any directories), `?` and `[a-z]`; `?` and classes match one character, however
/// many bytes it has.
#[derive(Clone, Debug)]
pub struct Pattern {
    pieces: Vec<Piece>,
    how: How,
}

/// How a pattern is best matched.
#[derive(Clone, Debug)]
enum How {
    /// The pattern is a literal path.
    Exactly(String),
    /// It has no `**`.
    Plain,
    /// It has one `**`, at this index, and everything before it has a fixed length.
    Once(usize),
    Anyhow,
    /// It has an unterminated class, and matches nothing.
    Never,
}

/// A pattern's smallest parts.
#[derive(Clone, Debug)]
enum Piece {
    One(char),
    /// `?`
    Any,
    /// `[…]`, or `[^…]`: the first and last characters of its ranges.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    /// `*`
    Name,
    /// `**`, with the slash after it.
    Folders,
}

impl Piece {
    /// Whether a piece that matches exactly one character matches this one.
    fn is(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::Any => c != '/',
            Self::Class { ranges, negated } => {
                c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
            Self::Name | Self::Folders => false,
        }
    }

    fn class(text: &str) -> Self {
        let (text, negated) = text.strip_prefix('^').map_or((text, false), |text| (text, true));
        let mut ranges = Vec::new();
        let mut left = text.chars();
        while let Some(first) = left.next() {
            let mut ahead = left.clone();
            match (ahead.next(), ahead.next()) {
                (Some('-'), Some(last)) => {
                    ranges.push((first, last));
                    left = ahead;
                }
                _ => ranges.push((first, first)),
            }
        }
        Self::Class { ranges, negated }
    }
}

impl Pattern {
    /// Parses a pattern.
    pub fn new(pattern: &str) -> Self {
        if !pattern.contains(['*', '?', '[', '\\']) {
            return Self { pieces: Vec::new(), how: How::Exactly(pattern.to_owned()) };
        }
        let Some(pieces) = pieces(pattern) else { return Self { pieces: Vec::new(), how: How::Never } };
        let mut folders = pieces.iter().enumerate().filter(|(_, piece)| matches!(piece, Piece::Folders));
        let how = match (folders.next(), folders.next()) {
            (None, _) => How::Plain,
            (Some((at, _)), None) if !pieces[..at].iter().any(|piece| matches!(piece, Piece::Name)) => How::Once(at),
            _ => How::Anyhow,
        };
        Self { pieces, how }
    }

    /// Whether the pattern matches a path.
    pub fn matches(&self, path: &str) -> bool {
        match &self.how {
            How::Exactly(text) => text == path,
            How::Plain => plain(&self.pieces, path),
            How::Once(at) => once(&self.pieces[..*at], &self.pieces[*at + 1..], path),
            How::Anyhow => with_folders(&self.pieces, path),
            How::Never => false,
        }
    }
}

/// Splits a pattern into pieces; `None` if a class is unterminated, because such a pattern matches nothing.
fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut found = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        found.push(match c {
            '*' => match rest.strip_prefix('*') {
                Some(behind) => {
                    rest = behind.strip_prefix('/').unwrap_or(behind);
                    // Two `**` in a row mean the same as one.
                    if matches!(found.last(), Some(Piece::Folders)) {
                        continue;
                    }
                    Piece::Folders
                }
                None => Piece::Name,
            },
            '?' => Piece::Any,
            '[' => {
                let (class, behind) = rest.split_once(']')?;
                rest = behind;
                Piece::class(class)
            }
            '\\' => match rest.chars().next() {
                Some(escaped) => {
                    rest = &rest[escaped.len_utf8()..];
                    Piece::One(escaped)
                }
                None => Piece::One('\\'),
            },
            c => Piece::One(c),
        });
    }
    Some(found)
}

/// Matches without `**`. Backtracking to the last `*` is enough: whatever an earlier one could take instead,
/// the last could take as well, and neither takes a slash.
fn plain(pieces: &[Piece], path: &str) -> bool {
    let mut left = path.chars();
    let mut at = 0;
    let mut star: Option<(usize, Chars)> = None;
    loop {
        let mut ahead = left.clone();
        match (pieces.get(at), ahead.next()) {
            (Some(Piece::Name), _) => {
                star = Some((at + 1, left.clone()));
                at += 1;
                continue;
            }
            (None, None) => return true,
            (Some(piece), Some(c)) if piece.is(c) => {
                left = ahead;
                at += 1;
                continue;
            }
            _ => {}
        }
        let Some((behind, taken)) = &mut star else { return false };
        match taken.next() {
            None | Some('/') => return false,
            Some(_) => (left, at) = (taken.clone(), *behind),
        }
    }
}

/// Matches with one `**`: what is before it has a fixed length, and what is after it matches right there or after
/// some slash.
fn once(before: &[Piece], behind: &[Piece], path: &str) -> bool {
    let mut left = path.chars();
    if !before.iter().all(|piece| left.next().is_some_and(|c| piece.is(c))) {
        return false;
    }
    let left = left.as_str();
    behind.is_empty() || plain(behind, left) || left.match_indices('/').any(|(at, _)| plain(behind, &left[at + 1..]))
}

/// Matches with any number of `**`: keeps the set of all positions in the pattern that the path so far can have
/// reached, character by character.
fn with_folders(pieces: &[Piece], path: &str) -> bool {
    let mut now = Places::new(pieces.len());
    let mut next = Places::new(pieces.len());
    now.enter(pieces, 0);
    for c in path.chars() {
        next.clear();
        for at in now.list.iter().copied() {
            match pieces.get(at) {
                Some(Piece::Name) if c != '/' => next.enter(pieces, at),
                Some(Piece::Folders) => {
                    next.add(at);
                    if c == '/' {
                        next.enter(pieces, at + 1);
                    }
                }
                Some(piece) if piece.is(c) => next.enter(pieces, at + 1),
                _ => {}
            }
        }
        std::mem::swap(&mut now, &mut next);
        if now.list.is_empty() {
            return false;
        }
    }
    // A final `**` matches the rest of the path.
    let last = pieces.len().checked_sub(1).filter(|last| matches!(pieces[*last], Piece::Folders));
    now.list.iter().any(|at| *at == pieces.len() || Some(*at) == last)
}

/// A set of positions in a pattern.
struct Places {
    list: Vec<usize>,
    there: Vec<bool>,
}

impl Places {
    fn new(pieces: usize) -> Self {
        Self { list: Vec::new(), there: vec![false; pieces + 1] }
    }

    fn clear(&mut self) {
        for at in self.list.drain(..) {
            self.there[at] = false;
        }
    }

    fn add(&mut self, at: usize) {
        if !std::mem::replace(&mut self.there[at], true) {
            self.list.push(at);
        }
    }

    /// Adds a position, and the next ones as long as the piece there can match the empty string.
    fn enter(&mut self, pieces: &[Piece], mut at: usize) {
        loop {
            self.add(at);
            match pieces.get(at) {
                Some(Piece::Name | Piece::Folders) => at += 1,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("*.py", "a.py", true),
            ("*.py", "d/a.py", false),
            ("**/*.py", "a.py", true),
            ("**/*.py", "d/e/a.py", true),
            ("d/**", "d/e/f", true),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("[é-ü]x", "öx", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]", "/", false),
            ("[a", "[a", false),
            ("[a-]", "-", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("**/node_modules", "a/node_modules", true),
            ("**/node_modules", "a/xnode_modules", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("*a**b", "aab", true),
            ("***", "a/b", true),
            ("**/**/a", "x/a", true),
            ("*/*b", "a/ab", true),
            ("*/*b", "a/b/b", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(pattern_matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    /// The original implementation, which backtracks everywhere: it defines what patterns mean.
    fn meant(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) if rest.first() == Some(&b'*') => {
                let rest = rest[1..].strip_prefix(b"/").unwrap_or(&rest[1..]);
                rest.is_empty() || (0..=path.len()).any(|i| (i == 0 || path[i - 1] == b'/') && meant(rest, &path[i..]))
            }
            Some((b'*', rest)) => {
                let end = path.iter().position(|c| *c == b'/').unwrap_or(path.len());
                (0..=end).any(|i| meant(rest, &path[i..]))
            }
            Some((b'?', rest)) => path.first().is_some_and(|c| *c != b'/') && meant(rest, &path[1..]),
            Some((c, rest)) => path.first() == Some(c) && meant(rest, &path[1..]),
        }
    }

    #[test]
    fn all_short_patterns_mean_what_they_meant() {
        let words = |letters: &[u8], longest: usize| {
            let mut all = vec![Vec::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last = last.iter().flat_map(|word| letters.iter().map(move |c| [&word[..], &[*c]].concat())).collect();
                all.extend(last.clone());
            }
            all
        };
        let paths = words(b"ab/", 4);
        for pattern in words(b"a*?/b", 5) {
            for path in &paths {
                let (shown, told) = (std::str::from_utf8(&pattern).unwrap(), std::str::from_utf8(path).unwrap());
                assert_eq!(pattern_matches(shown, told), meant(&pattern, path), "{shown} {told}");
            }
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let name = "a".repeat(4000);
        assert!(!pattern_matches("*a*a*a*a*a*a*a*a*a*a*ab", &name));
        assert!(!pattern_matches("**a**a**a**a**a**a**ab", &name));
        assert!(pattern_matches(&"*".repeat(1 << 20), "a/b"));
        assert!(pattern_matches(&"**/".repeat(1 << 18), "a/b"));
        assert!(!pattern_matches(&"?".repeat(1 << 20), "a"));
        let deep = "a/".repeat(2000);
        assert!(!pattern_matches(&format!("{}b", "**/a*/".repeat(600)), &deep));
    }
}

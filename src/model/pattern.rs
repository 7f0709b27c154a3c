//! Patterns of paths, as in Docker's ignore files: Go's `path/filepath.Match` plus `**` (moby/patternmatcher).
//!
//! The author of a pattern may be hostile, and others wait for the match. So matching never backtracks more
//! than one step and does not recurse: its time is at most proportional to the product of both lengths.

use std::str::Chars;

/// Matches a path against a pattern that is used once; see [`Pattern`].
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    Pattern::new(pattern).matches(path)
}

/// A pattern of `*` (no slash), `**` (any directories), `?` (no slash) and `[a-z]`; `?` and classes match one character,
/// however many bytes it has. A class may match a slash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    pieces: Vec<Piece>,
    how: How,
    /// What every path that matches begins and ends with: most paths are told apart by that.
    head: String,
    tail: String,
}

/// How a pattern is best matched.
#[derive(Clone, PartialEq, Eq, Debug)]
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
#[derive(Clone, PartialEq, Eq, Debug)]
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
            Self::Class { ranges, negated } => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated,
            Self::Name | Self::Folders => false,
        }
    }

    /// Parses a class behind its `[`, and returns it with what follows it; `None` if it is not a class of Go's.
    fn class(text: &str) -> Option<(Self, &str)> {
        let (text, negated) = text.strip_prefix('^').map_or((text, false), |text| (text, true));
        let mut ranges = Vec::new();
        let mut left = text.chars();
        loop {
            let mut ahead = left.clone();
            if ahead.next() == Some(']') && !ranges.is_empty() {
                return Some((Self::Class { ranges, negated }, ahead.as_str()));
            }
            let first = in_class(&mut left)?;
            let mut ahead = left.clone();
            let last = if ahead.next() == Some('-') {
                left = ahead;
                in_class(&mut left)?
            } else {
                first
            };
            ranges.push((first, last));
        }
    }
}

/// One character of a class, which `\` may stand in front of.
fn in_class(left: &mut Chars) -> Option<char> {
    match left.next()? {
        '-' | ']' => None,
        '\\' => left.next(),
        c => Some(c),
    }
}

impl Pattern {
    /// Parses a pattern. One that is not well formed matches nothing; see [`Pattern::parse`].
    pub fn new(pattern: &str) -> Self {
        let never = Self { pieces: Vec::new(), how: How::Never, head: String::new(), tail: String::new() };
        Self::parse(pattern).unwrap_or(never)
    }

    /// Parses a pattern. It returns `None` for what Go calls a bad pattern: a class that is empty, has no end, or has `-` in a
    /// place where it means nothing, and a `\\` at the end.
    pub fn parse(pattern: &str) -> Option<Self> {
        if !pattern.contains(['*', '?', '[', '\\']) {
            let how = How::Exactly(pattern.to_owned());
            return Some(Self { pieces: Vec::new(), how, head: String::new(), tail: String::new() });
        }
        let pieces = pieces(pattern)?;
        let mut folders = pieces.iter().enumerate().filter(|(_, piece)| matches!(piece, Piece::Folders));
        // What a `*` leaves to a class may be a slash, and then the last `*` cannot take what an earlier one could.
        let slashes = pieces.iter().any(|piece| matches!(piece, Piece::Class { .. }) && piece.is('/'));
        let how = match (folders.next(), folders.next()) {
            _ if slashes => How::Anyhow,
            (None, _) => How::Plain,
            (Some((at, _)), None) if !pieces[..at].iter().any(|piece| matches!(piece, Piece::Name)) => How::Once(at),
            _ => How::Anyhow,
        };
        let letter = |piece: &Piece| if let Piece::One(letter) = piece { Some(*letter) } else { None };
        let head = pieces.iter().map_while(letter).collect();
        let tail: Vec<char> = pieces.iter().rev().map_while(letter).collect();
        Some(Self { how, head, tail: tail.into_iter().rev().collect(), pieces })
    }

    /// The path, if the pattern matches only one.
    pub fn literal(&self) -> Option<&str> {
        if let How::Exactly(path) = &self.how { Some(path) } else { None }
    }

    /// The last byte of every path that matches, if they have one in common.
    pub fn last_byte(&self) -> Option<u8> {
        self.tail.as_bytes().last().copied()
    }

    /// Whether the pattern matches a path.
    pub fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&self.head) || !path.ends_with(&self.tail) {
            return false;
        }
        match &self.how {
            How::Exactly(text) => text == path,
            How::Plain => plain(&self.pieces, path),
            How::Once(at) => once(&self.pieces[..*at], &self.pieces[*at + 1..], path),
            How::Anyhow => with_folders(&self.pieces, path),
            How::Never => false,
        }
    }
}

/// Splits a pattern into pieces; `None` if it is not well formed.
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
                let (class, behind) = Piece::class(rest)?;
                rest = behind;
                class
            }
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                Piece::One(escaped)
            }
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
            ("[^a]", "/", true),
            ("*[^x]*c", "a/bc", true),
            ("[a", "[a", false),
            ("[a-]", "-", false),
            ("[\\]a]b", "]b", true),
            ("[a\\-c]", "b", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
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

    /// The facts of moby/patternmatcher's own table.
    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        let yes = "** file; ** file/; **/ file; **/ file/; ** /; **/ /; ** dir/file; **/ dir/file; ** dir/file/; **/ dir/file/; \
                   **/** dir/file; **/** dir/file/; dir/** dir/file; dir/** dir/file/; dir/** dir/dir2/file; \
                   dir/** dir/dir2/file/; **/dir dir; **/dir2/* dir/dir2/file; \
                   **/dir2/** dir/dir2/dir3/file; **/dir2/** dir/dir2/dir3/file/; **file file; **file dir/file; \
                   **/file dir/file; **file dir/dir/file; **/file dir/dir/file; **/file* dir/dir/file; \
                   **/file* dir/dir/file.txt; **/file*txt dir/dir/file.txt; **/file*.txt dir/dir/file.txt; \
                   **/file*.txt* dir/dir/file.txt; **/**/*.txt dir/dir/file.txt; **/*.txt file.txt; **/**/*.txt file.txt; \
                   a**/*.txt a/file.txt; a**/*.txt a/dir/file.txt; a**/*.txt a/dir/dir/file.txt; a/*.txt a/file.txt; \
                   a/*.txt** a/file.txt; a[b-d]e ace; a[^b-d]e aze; .* .foo; abc.def abc.def; abc?def abcZdef; a\\\\ a\\; \
                   **/foo/bar foo/bar; **/foo/bar dir/foo/bar; **/foo/bar dir/dir2/foo/bar; abc/** abc/def; \
                   abc/** abc/def/ghi; **/.foo .foo; a(b)c/def a(b)c/def; a.|)$(}+{bc a.|)$(}+{bc; \
                   dist/*.whl dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl";
        let no = "**/**/*.txt2 dir/dir/file.txt; a/*.txt a/dir/file.txt; a[b-d]e ae; a[b-d]e aae; .* foo; abc.def abcdef; \
                  abc.def abcZdef; abc?def abcdef; abc/** abc; **/.foo bar.foo; a(b)c/def a(b)c/xyz";
        for (table, wanted) in [(yes, true), (no, false)] {
            for (pattern, path) in table.split("; ").map(|pair| pair.split_once(' ').unwrap()) {
                assert_eq!(Pattern::parse(pattern).unwrap().matches(path), wanted, "{pattern} {path}");
            }
        }
        for bad in ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[]", "[\\", "a\\"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
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

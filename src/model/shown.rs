//! Shows untrusted file names in messages: no longer than a line, and without control characters.

use std::path::Path;

/// How many characters of a name are shown.
const SHOWN: usize = 80;

/// A path of an archive or a repository, for a message.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut characters = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut line: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_line_at_most() {
        assert_eq!(shown(Path::new("etc/passwd")), "etc/passwd");
        assert_eq!(shown(Path::new("a\u{1b}[2J\nb")), "a\u{fffd}[2J\u{fffd}b");
        let long = shown(Path::new(&"é".repeat(5000)));
        assert_eq!((long.chars().count(), long.ends_with('…')), (81, true));
    }
}

//! The keys of a view, as they are told in its last line and in its help. What they do is in [`state`](super::state).

/// A key and what it does: in the last line, and in the help.
pub struct Key {
    pub key: &'static str,
    /// The words of the last line; none if it has no place there.
    pub word: &'static str,
    pub help: &'static str,
    /// The least important one is left out first where there is no room.
    rank: u8,
}

const fn key(key: &'static str, word: &'static str, rank: u8, help: &'static str) -> Key {
    Key { key, word, help, rank }
}

/// All keys, in the order in which they are told.
pub const KEYS: [Key; 13] = [
    key("↑↓", "select", 8, "select a container (also k and j)"),
    key("Enter", "logs", 7, "only the logs of that container, or all again"),
    key("/", "filter", 6, "only lines of the logs with some words in them"),
    key("Esc", "", 9, "all logs again, without a filter"),
    key("PgUp PgDn", "", 9, "earlier and later lines of the logs; End: the last"),
    key("r", "restart", 2, "restart the container"),
    key("s", "shell", 3, "a shell in it; the view comes back when it ends"),
    key("o", "open", 5, "open its web page in the browser"),
    key("b", "rebuild", 4, "build what has changed, and bring everything up"),
    key("q", "quit", 0, "leave, and say whether the containers stay up"),
    key("Ctrl-C", "", 9, "leave at once; the containers stay up"),
    key("mouse", "", 9, "a click selects, a second shows its logs; wheel: logs"),
    key("?", "help", 1, "this help"),
];

/// The last line: as many keys as there is room for.
pub fn footer(width: usize) -> String {
    let text = |key: &Key| format!("{} {}", key.key, key.word);
    let mut ranked: Vec<&Key> = KEYS.iter().filter(|key| !key.word.is_empty()).collect();
    ranked.sort_by_key(|key| key.rank);
    let mut left = width + 2;
    let fits = |key: &&Key| {
        let length = text(key).chars().count() + 2;
        let fits = length <= left;
        left = left.saturating_sub(length);
        fits
    };
    let least = ranked.into_iter().take_while(fits).map(|key| key.rank).max();
    let told = KEYS.iter().filter(|key| !key.word.is_empty() && Some(key.rank) <= least);
    told.map(text).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_keys_that_there_is_room_for() {
        assert_eq!(footer(100), "↑↓ select  Enter logs  / filter  r restart  s shell  o open  b rebuild  q quit  ? help");
        assert_eq!(footer(80), "Enter logs  / filter  r restart  s shell  o open  b rebuild  q quit  ? help");
        assert_eq!(footer(50), "r restart  s shell  b rebuild  q quit  ? help");
        assert_eq!((footer(14), footer(13), footer(0)), ("q quit  ? help".into(), "q quit".into(), String::new()));
        (0..120).for_each(|width| assert!(footer(width).chars().count() <= width));
    }
}

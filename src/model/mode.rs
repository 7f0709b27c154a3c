//! Permissions as users write them: an octal number, or the symbols of chmod(1).

use serde::{Deserialize, Serialize};

/// Permissions for files and directories.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mode {
    Exact(u32),
    /// Symbols such as `u=rwX,go-w`; they change the permissions that a file already has.
    Symbols(String),
}

impl Mode {
    /// Parses octal digits or symbols.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Exact).ok_or_else(|| format!("{text} is not octal, from 0 to 7777"));
        }
        match symbols(text, 0, false) {
            Some(_) => Ok(Self::Symbols(text.to_owned())),
            None => Err(format!("{text:?} is neither octal nor symbols as in u=rwX,go=rX")),
        }
    }

    /// The new permissions of a file or directory that had `mode`.
    #[must_use]
    pub fn apply(&self, mode: u32, folder: bool) -> u32 {
        match self {
            Self::Exact(exact) => *exact,
            Self::Symbols(text) => symbols(text, mode, folder).unwrap_or(mode),
        }
    }
}

/// Applies clauses such as `u+x` (POSIX chmod, "Grammar"); `None` if the text does not follow that grammar.
fn symbols(text: &str, mut mode: u32, folder: bool) -> Option<u32> {
    for clause in text.split(',') {
        let split = clause.find(['+', '-', '='])?;
        let (who, mut actions) = clause.split_at(split);
        let mut whom = 0;
        for c in who.chars() {
            whom |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        let whom = if who.is_empty() { 0o7777 } else { whom };
        while !actions.is_empty() {
            let operator = actions.chars().next()?;
            let rest = &actions[1..];
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let bits = bits(&rest[..end], mode, folder)? & whom;
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                // As in chmod(1), the set-user-ID and set-group-ID bits of directories stay unless they are named.
                _ => mode & !(whom & if folder { 0o1777 } else { 0o7777 }) | bits,
            };
            actions = &rest[end..];
        }
    }
    Some(mode)
}

fn bits(letters: &str, mode: u32, folder: bool) -> Option<u32> {
    let mut found = 0;
    for c in letters.chars() {
        found |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if folder || mode & 0o111 != 0 => 0o111,
            'X' => 0,
            's' => 0o6000,
            't' => 0o1000,
            'u' => (mode >> 6 & 7) * 0o111,
            'g' => (mode >> 3 & 7) * 0o111,
            'o' => (mode & 7) * 0o111,
            _ => return None,
        };
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_chmod_does() {
        for (text, mode, folder, wanted) in [
            ("0640", 0o755, false, 0o640),
            ("4755", 0o644, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x,o-r", 0o644, false, 0o751),
            ("+x", 0o644, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("o+t", 0o777, true, 0o1777),
            ("go=", 0o777, false, 0o700),
            ("u-x+r", 0o300, false, 0o600),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(mode, folder), wanted, "{text} on {mode:o}");
        }
        for text in ["", "8", "99999", "z+x", "u", "u+q", "u=rwx;"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}

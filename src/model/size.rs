//! Amounts of bytes as the language writes them: `"256MiB"`, `"1GiB"`, `"4096B"`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Size {
    /// A size in mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Parses a whole number and a unit.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        if let (None, Some(meant)) = (factor, Self::guess(text)) {
            return Err(format!("a size is a whole number with a unit such as MiB; write \"{}\"", meant.written()));
        }
        let number: u64 = digits.parse().map_err(|_| "a size starts with a whole number, as in \"256MiB\"".to_owned())?;
        match factor {
            Some(factor) => number.checked_mul(factor).map(Self).ok_or_else(|| "this size is too large".into()),
            None if unit.is_empty() => Err(format!("a size needs a unit, as in \"{digits}MiB\"")),
            None => Err(format!("`{unit}` is not a unit of size; write B, KiB, MiB, GiB or TiB, as in \"256MiB\"")),
        }
    }
}

impl Size {
    /// The size that somebody means who writes one as in Docker: `512m`, `1.5g`, `64 MB`.
    pub fn guess(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let unit = meant(unit.trim_start())?;
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)?;
        super::duration::multiple(number, factor).map(Self)
    }

    /// The size as the language writes it, exactly.
    pub fn written(self) -> String {
        let units = UNITS[..5].iter().rev();
        let fitting = units.into_iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        fitting.map_or_else(|| format!("{}B", self.0), |(name, factor)| format!("{}{name}", self.0 / factor))
    }
}

/// The unit that people mean when they write one as in Docker.
fn meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "b" => Some("B"),
        "k" | "kb" | "ki" | "kib" => Some("KiB"),
        "m" | "mb" | "mi" | "mib" => Some("MiB"),
        "g" | "gb" | "gi" | "gib" => Some("GiB"),
        "t" | "tb" | "ti" | "tib" => Some("TiB"),
        _ => None,
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                let tenths = (u128::from(self.0) * 10 + u128::from(factor) / 2) / u128::from(factor);
                return if tenths % 10 == 0 {
                    write!(f, "{} {unit}", tenths / 10)
                } else {
                    write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_guessed_and_written_as_it_is_here() {
        for (text, want) in [
            ("512m", "512MiB"),
            ("1.5g", "1536MiB"),
            ("64 MB", "64MiB"),
            ("0.5KiB", "512B"),
            ("1024k", "1MiB"),
            ("7b", "7B"),
            ("0g", "0B"),
        ] {
            let guess = Size::guess(text).unwrap();
            assert_eq!(guess.written(), want, "{text}");
            assert_eq!(Size::parse(want), Ok(guess));
            assert!(Size::parse(text).unwrap_err().ends_with(&format!("write \"{want}\"")), "{text}");
        }
        for text in ["", "512", "m", "0.1g", "1x", "99999999999g", "1.5.5g"] {
            assert_eq!(Size::guess(text), None, "{text}");
        }
    }
}

//! Durations as the language writes them: `"500ms"`, `"2s"`, `"5m"`, `"1h"`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Duration(pub u64);

impl Duration {
    /// A duration of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Parses a whole number and one of the units `ms s m h`.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err("a duration needs a unit: ms, s, m or h, as in \"30s\"".into()),
            _ if let Some(meant) = Self::guess(text) => {
                return Err(format!("a duration is one whole number with one unit; write \"{meant}\""));
            }
            other => return Err(format!("`{other}` is not a unit of time; write ms, s, m or h, as in \"30s\"")),
        };
        let number: u64 = digits.parse().map_err(|_| "a duration starts with a whole number, as in \"30s\"".to_owned())?;
        number.checked_mul(factor).map(Self).ok_or_else(|| "this duration is too long".into())
    }
}

impl Duration {
    /// The duration that somebody means who writes one as in other languages: `1m30s`, `1.5h`, `2 min`, `1d`.
    pub fn guess(text: &str) -> Option<Self> {
        let (mut rest, mut sum) = (text.trim(), 0u64);
        while !rest.is_empty() {
            let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
            let behind = behind.trim_start();
            let (unit, behind) = behind.split_at(behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len()));
            let factor = match unit.to_ascii_lowercase().as_str() {
                "ms" | "msec" | "millisecond" | "milliseconds" => 1,
                "s" | "sec" | "secs" | "second" | "seconds" => 1000,
                "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
                "d" | "day" | "days" => 86_400_000,
                _ => return None,
            };
            sum = sum.checked_add(multiple(number, factor)?)?;
            rest = behind.trim_start_matches([' ', ',']);
        }
        (!text.trim().is_empty()).then_some(Self(sum))
    }
}

/// A number that may have a fraction, times a factor, if that is a whole number.
pub fn multiple(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let tenths = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
    (part % tenths == 0).then(|| whole.checked_add(part / tenths)).flatten()
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.0)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_guessed_and_written_as_it_is_here() {
        for (text, want) in [
            ("1m30s", "90s"),
            ("1h 30m", "90m"),
            ("1.5h", "90m"),
            ("90 seconds", "90s"),
            ("5min", "5m"),
            ("0.25s", "250ms"),
            ("1d", "24h"),
            ("2 hours, 1 minute", "121m"),
        ] {
            let guess = Duration::guess(text).unwrap();
            assert_eq!(guess.to_string(), want, "{text}");
            assert_eq!(Duration::parse(want), Ok(guess));
            assert!(Duration::parse(text).unwrap_err().ends_with(&format!("write \"{want}\"")), "{text}");
        }
        for text in ["", "30", "s", "1x", "1.2345ms", "1..5s", "99999999999999999999s", "9999999999999999d", "-1s", "1s-"] {
            assert_eq!(Duration::guess(text), None, "{text}");
        }
    }
}

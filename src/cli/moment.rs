//! Points in time as people type them: how long ago, a date, or seconds since 1970.

use crate::model::{Duration, Error, Result};
use crate::monitor::now_ms;

/// Milliseconds since 1970 of `10m` (that long ago), `2026-08-01T12:00:00Z`, `2026-08-01`, or seconds.
///
/// # Errors
/// Fails on any other text.
pub fn parse(option: &str, text: &str) -> Result<u64> {
    let wrong = || {
        Error::new(format!("--{option} {text}: not a time"))
            .hint("write how long ago, as in 10m or 2h, or a date, as in 2026-08-01T12:00:00Z")
            .usage()
    };
    if let Ok(span) = Duration::parse(text) {
        return Ok(now_ms().saturating_sub(span.0));
    }
    if let Some((whole, part)) = text.split_once('.').or(Some((text, "")))
        && let Ok(seconds) = whole.parse::<u64>()
    {
        let millis: u64 = format!("{part:0<3}").get(..3).and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        return Ok(seconds * 1000 + millis);
    }
    crate::model::parse_time(text).ok_or_else(wrong)
}

/// Formats a time as in log lines, so that both can be compared as text.
pub fn stamp(millis: u64) -> String {
    let mut text = crate::model::time_text(i64::try_from(millis / 1000).unwrap_or(0));
    text.pop();
    format!("{text}.{:03}000000Z", millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        assert_eq!(parse("since", "1700000000").unwrap(), 1_700_000_000_000);
        assert_eq!(parse("since", "1700000000.5").unwrap(), 1_700_000_000_500);
        assert_eq!(parse("since", "2023-11-14T22:13:20Z").unwrap(), 1_700_000_000_000);
        assert_eq!(parse("since", "2023-11-15T00:13:20.5+02:00").unwrap(), 1_700_000_000_500);
        assert_eq!(parse("since", "2023-11-14").unwrap(), 1_699_920_000_000);
        assert_eq!(stamp(1_700_000_000_500), "2023-11-14T22:13:20.500000000Z");
        let then = parse("since", "10m").unwrap();
        let ago = now_ms() - then;
        assert!((600_000..601_000).contains(&ago));
        assert!(parse("since", "yesterday").is_err() && parse("since", "2023-13-01").is_err());
        assert!(parse("since", "1.aaé").is_err() && parse("since", "1.5é").is_err());
    }
}

//! Moments as people type them: a time ago, a date, or seconds since 1970.

use crate::model::{Fault, Outcome, Span};
use crate::monitor::now_ms;

/// Milliseconds since 1970 of `10m` (that long ago), `2026-08-01T12:00:00Z`, `2026-08-01`, or seconds.
///
/// # Errors
/// Text that is none of them.
pub fn parse(option: &str, text: &str) -> Outcome<u64> {
    let wrong = || {
        Fault::new(format!("--{option} {text}: this is no time"))
            .hint("write how long ago, as in 10m or 2h, or a date, as in 2026-08-01T12:00:00Z")
            .exit(2)
    };
    if let Ok(span) = Span::parse(text) {
        return Ok(now_ms().saturating_sub(span.0));
    }
    if let Some((whole, part)) = text.split_once('.').or(Some((text, "")))
        && let Ok(seconds) = whole.parse::<u64>()
    {
        let millis: u64 = format!("{part:0<3}")[..3].parse().map_err(|_| wrong())?;
        return Ok(seconds * 1000 + millis);
    }
    date(text).ok_or_else(wrong)
}

/// RFC 3339 in UTC or with an offset; the time may be left out.
fn date(text: &str) -> Option<u64> {
    let (day, rest) = (text.get(..10)?, text.get(10..)?);
    let mut parts = day.split('-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of a date in the Gregorian calendar, years from March on.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1 - 719_468;
    let mut millis = days * 86_400_000;
    let rest = rest.trim_start_matches(['T', 't', ' ']);
    let at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(at);
    let factors = [3_600_000.0, 60_000.0, 1000.0];
    for (part, factor) in clock.split(':').filter(|part| !part.is_empty()).zip(factors) {
        #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds are meant")]
        let part = (part.parse::<f64>().ok()? * factor) as i64;
        millis += part;
    }
    if let Some((hours, minutes)) = zone.get(1..).and_then(|zone| zone.split_once(':')) {
        let offset = (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?) * 60_000;
        millis -= if zone.starts_with('-') { -offset } else { offset };
    }
    u64::try_from(millis).ok()
}

/// As log lines tell time, so that both can be compared as text.
pub fn stamp(millis: u64) -> String {
    let mut text = crate::image::time_text(i64::try_from(millis / 1000).unwrap_or(0));
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
        let ago = now_ms() - parse("since", "10m").unwrap();
        assert!((600_000..601_000).contains(&ago));
        assert!(parse("since", "yesterday").is_err() && parse("since", "2023-13-01").is_err());
    }
}

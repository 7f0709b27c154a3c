//! Points in time as text: RFC 3339, which this program writes, and RFC 5322, as in release files and HTTP.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;

/// Seconds since 1970 as RFC 3339 in UTC.
pub fn time_text(seconds: i64) -> String {
    let limit = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(limit).to_string()
}

/// Milliseconds since 1970 of RFC 3339 text, in UTC or with an offset; the time of day may be left out.
pub fn parse_time(text: &str) -> Option<u64> {
    // The parser would ignore a time zone name in brackets.
    let text = Some(text).filter(|text| !text.contains('['))?;
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    u64::try_from(moment.as_millisecond()).ok()
}

/// Seconds since 1970 of a date such as `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 9110, 5.6.7, or with an offset as in
/// RFC 5322).
pub fn parse_date(text: &str) -> Option<i64> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if let [.., clock, zone] = words.as_mut_slice() {
        // Archives also write hours without a leading zero, and zone names that RFC 5322 does not know.
        if clock.find(':') == Some(1) {
            clock.insert(0, '0');
        }
        if matches!(zone.as_str(), "UTC" | "Z") {
            "GMT".clone_into(zone);
        }
    }
    let text = words.join(" ");
    // The parser would take any other zone name for UTC (RFC 5322, 4.3).
    let known = text.rsplit(' ').next().is_some_and(|zone| zone == "GMT" || zone.starts_with(['+', '-']));
    DateTimeParser::new().relaxed_weekday(true).parse_timestamp(&text).ok().filter(|_| known).map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EPOCH;

    #[test]
    fn moments_are_written_and_read() {
        for (seconds, text) in [
            (EPOCH, "2025-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (0, "1970-01-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(time_text(seconds), text);
            assert_eq!(parse_time(text), Some(u64::try_from(seconds).unwrap() * 1000));
        }
        assert!(time_text(i64::MAX).starts_with("9999-12-"));
        for (text, millis) in [
            ("2023-11-14", 1_699_920_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000),
            ("2023-11-14 22:13:20.5Z", 1_700_000_000_500),
            ("2023-11-15T00:13:20.5+02:00", 1_700_000_000_500),
        ] {
            assert_eq!(parse_time(text), Some(millis), "{text}");
        }
        for wrong in [
            "",
            "soon",
            "2026-02-29",
            "2026-02-31",
            "2026-13-01",
            "2026-01-00",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:61:00Z",
            "2026-01-01T00:00:00+25:00x",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00[Europe/Berlin]",
            "2026-01-01T",
            "99999-01-01",
            "9999999999-",
            "2025-01-01T1e300:0:0Z",
            "2025-01-01T00:00:00+9223372036854775807:0",
            "2025-01-01TNaN:0:0Z",
            "é",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(parse_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse_date("Thu, 01 Jan 1970 02:00:00 +0200"), Some(0));
        assert_eq!(parse_date("Thu,  1 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_date("Tue, 29 Mar 2016 9:05:03 UTC"), Some(1_459_242_303));
        assert_eq!(parse_date("Mon, 29 Mar 2016 09:05:03 Z"), Some(1_459_242_303), "the weekday is not checked");
        for wrong in [
            "",
            "soon",
            "2026-07-11",
            "Sat, 11 Jul 2026 10:16:37",
            "Sat, 11 Jul 2026 10:16:37 CEST",
            "Sat, 32 Jul 2026 10:16:37 UTC",
            "Tue, 31 Feb 2026 10:16:37 UTC",
            "Sat, 0 Jul 2026 10:16:37 UTC",
            "Sat, 11 Juli 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 24:16:37 UTC",
            "Sat, 11 Jul -2026 10:16:37 UTC",
            "Sat, 11 Jul 99999999 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 UTC more",
            "Sat, 11 Jul 2026 10:16:37 +02ä0",
        ] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }
}

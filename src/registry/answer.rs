//! What a registry answers, beyond what was asked for: faults in its words, limits, times to wait.

use crate::model::{Context, Fault, Outcome, parse_date};
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// The longest that a short answer may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a registry says is wrong (distribution-spec, "Error Codes").
pub async fn said(host: &str, answer: Response) -> Fault {
    let status = answer.status();
    let text = limited(answer, 64 << 10).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let first = &value["errors"][0];
    let words: Vec<&str> =
        [first["code"].as_str(), first["message"].as_str(), value["details"].as_str()].into_iter().flatten().collect();
    if words.is_empty() {
        Fault::new(format!("{host} answered {status}"))
    } else {
        Fault::new(format!("{host} answered {status}: {}", words.join(", ")))
    }
}

/// The body of an answer that must not be long.
///
/// # Errors
/// One that is longer, or cut off.
pub async fn limited(mut answer: Response, limit: usize) -> Outcome<Vec<u8>> {
    let too_long = || Fault::new(format!("the answer has more than {limit} bytes"));
    if answer.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    let read = async {
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(reqwest::Error::without_url).doing(|| "the answer was cut off".into())?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(too_long());
            }
        }
        Ok(bytes)
    };
    let late = || Fault::new(format!("the answer took longer than {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(late()))
}

/// How long a registry asks to wait (RFC 9110, 10.2.3): seconds, or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(parse_date(text)?.try_into().ok()?))?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Before a repetition: longer each time, and never for all at the same moment.
pub fn pause(attempt: u32) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    Duration::from_millis(u64::from(attempt).saturating_pow(2).saturating_mul(200))
        .mul_f64(0.5 + f64::from(nanos % 1000) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
    }

    #[test]
    fn each_pause_is_longer() {
        assert!(pause(1) < Duration::from_millis(310) && pause(4) > Duration::from_millis(1500));
    }
}

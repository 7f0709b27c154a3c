//! Helpers for answers of registries: error messages, and limits of size and time.

use crate::model::{Context, Error, Result};
use reqwest::Response;
use std::time::Duration;

/// How long it may take to read a short answer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Makes an error from a registry's own error answer (distribution-spec, "Error Codes").
pub async fn said(host: &str, answer: Response) -> Error {
    let status = answer.status();
    let text = limited(answer, 64 << 10).await.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let first = &value["errors"][0];
    let words: Vec<&str> =
        [first["code"].as_str(), first["message"].as_str(), value["details"].as_str()].into_iter().flatten().collect();
    if words.is_empty() {
        Error::new(format!("{host} answered {status}"))
    } else {
        Error::new(format!("{host} answered {status}: {}", words.join(", ")))
    }
}

/// Reads the body of an answer that must not be long.
///
/// # Errors
/// Fails when it is longer than the limit, is cut off, or takes too long.
pub async fn limited(mut answer: Response, limit: usize) -> Result<Vec<u8>> {
    let too_long = || Error::new(format!("the answer has more than {limit} bytes"));
    if answer.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    let read = async {
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(reqwest::Error::without_url).context(|| "the answer was cut off".into())?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(too_long());
            }
        }
        Ok(bytes)
    };
    let late = || Error::new(format!("the answer took longer than {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(late()))
}

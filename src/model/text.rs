//! Files that must be text.

/// The text of a file, without a leading byte order mark.
///
/// # Errors
/// A sentence that names the file and the line with the first byte that is not UTF-8.
pub fn text_of(file: &str, mut bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{file}:{line}: this is not UTF-8; save the file as UTF-8")
    })
}

/// What is wrong, and the advice on a second line, if there is any.
pub fn with_advice(why: &str) -> (&str, Option<&str>) {
    why.split_once('\n').map_or((why, None), |(why, advice)| (why, Some(advice)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        assert_eq!(text_of("x", b"\xef\xbb\xbfa".to_vec()).unwrap(), "a");
        assert!(text_of("x", b"a\nb\xe9\n".to_vec()).unwrap_err().starts_with("x:2: "));
    }
}

//! URIs of files, and paths.

use lsp_types::Uri;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The path of a URI. A text that has no file yet has one that is not absolute: the URI itself.
pub fn path_of(uri: &Uri) -> PathBuf {
    let text = uri.as_str();
    let Some(rest) = text.strip_prefix("file://") else { return PathBuf::from(text) };
    let path = rest.find('/').map_or(rest, |at| &rest[at..]);
    let (mut bytes, mut left) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [byte, after @ ..] = left {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match digit(0).zip(digit(1)).filter(|_| *byte == b'%').and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                left = &after[2..];
            }
            None => {
                bytes.push(*byte);
                left = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The URI of a path.
pub fn uri_of(path: &Path) -> Option<Uri> {
    let mut out = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) || !path.is_absolute() && *byte == b':';
        if plain { out.push(char::from(*byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    Uri::from_str(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_uris_are_turned_into_each_other() {
        for (path, uri) in [("/a b/é%.kdl", "file:///a%20b/%C3%A9%25.kdl"), ("/x/stead.kdl", "file:///x/stead.kdl")] {
            assert_eq!(uri_of(Path::new(path)).unwrap().as_str(), uri);
            assert_eq!(path_of(&Uri::from_str(uri).unwrap()), Path::new(path));
        }
        assert_eq!(path_of(&Uri::from_str("file://host/x").unwrap()), Path::new("/x"));
        let untitled = Uri::from_str("untitled:Untitled-1").unwrap();
        assert!(!path_of(&untitled).is_absolute());
        assert_eq!(uri_of(&path_of(&untitled)).unwrap(), untitled);
    }
}

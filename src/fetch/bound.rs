//! Limits for the length of files: a transfer that exceeds its limit is stopped at that point, not afterwards.

use crate::model::{Context, Error, Result, Size};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How long a file may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// The length that a trusted source says.
    Exactly { size: u64, says: &'static str },
    /// A limit beyond what anybody would need.
    AtMost(u64),
}

impl Bound {
    /// The greatest length.
    pub fn most(self) -> u64 {
        match self {
            Self::Exactly { size, .. } | Self::AtMost(size) => size,
        }
    }

    /// Checks a length: that of the whole file, or of what has arrived so far.
    ///
    /// # Errors
    /// Fails when the length is wrong; the error has both lengths, and the source of the right one.
    pub fn check(self, what: &str, length: u64, whole: Whole) -> Result<()> {
        match self {
            Self::Exactly { size, says } if length > size || whole == Whole::Yes && length < size => {
                let more = if whole == Whole::Yes { "" } else { " or more" };
                Err(Error::new(format!("{what} is not what {says} says: {length} bytes{more} instead of {size}"))
                    .hint("the mirror is damaged or malicious; try again, or name another with `mirror`"))
            }
            Self::AtMost(most) if length > most => {
                let more = if whole == Whole::Yes { "" } else { " or more" };
                Err(Error::new(format!("{what} has {length} bytes{more}, but at most {most} ({}) are accepted", Size(most)))
                    .hint("this is probably not the right file; check the address"))
            }
            _ => Ok(()),
        }
    }

    /// Reads a whole stream.
    ///
    /// # Errors
    /// Fails when reading fails, or when the stream is longer than it may be.
    pub fn read(self, what: &str, from: impl Read) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        from.take(self.most().saturating_add(1)).read_to_end(&mut bytes).context(|| format!("cannot read {what}"))?;
        self.check(what, bytes.len() as u64, Whole::No)?;
        Ok(bytes)
    }
}

/// Whether a length is that of the whole file, or of what has arrived so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whole {
    Yes,
    No,
}

/// Opens a file, if it exists, and returns its length, too. A FIFO or device in its place cannot block us, and is not opened.
///
/// # Errors
/// Fails when it is not a regular file or cannot be opened.
pub fn open_file(path: &Path) -> Result<Option<(File, u64)>> {
    use nix::libc::{O_NOCTTY, O_NONBLOCK};
    let failed = || format!("cannot read {}", path.display());
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(failed),
    };
    let no_file = || Err(Error::new(format!("{} is not a file", path.display())));
    if !metadata.is_file() {
        return no_file();
    }
    let file = File::options().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path).context(failed)?;
    // Another file may have replaced it since the check.
    let metadata = file.metadata().context(failed)?;
    if metadata.is_file() { Ok(Some((file, metadata.len()))) } else { no_file() }
}

/// Reads a whole file, if it exists, up to a limit.
///
/// # Errors
/// Fails when it is not a regular file, has a wrong length, or cannot be read.
pub fn read_file(path: &Path, bound: Bound) -> Result<Option<Vec<u8>>> {
    let Some((file, length)) = open_file(path)? else { return Ok(None) };
    let what = path.display().to_string();
    bound.check(&what, length, Whole::Yes)?;
    bound.read(&what, file).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_it_may_be_is_cut_off() {
        let exactly = Bound::Exactly { size: 10, says: "the lock" };
        assert!(exactly.check("x", 10, Whole::Yes).is_ok() && exactly.check("x", 3, Whole::No).is_ok());
        for (length, whole) in [(11, Whole::No), (11, Whole::Yes), (9, Whole::Yes)] {
            let told = exactly.check("http://m/x", length, whole).unwrap_err().chain();
            assert!(told.starts_with("http://m/x is not what the lock says") && told.contains("instead of 10"), "{told}");
        }
        let told = Bound::AtMost(1 << 20).read("x", std::io::repeat(0)).unwrap_err().chain();
        assert!(told.contains("1048577 bytes or more") && told.contains("1048576"), "{told}");
    }

    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::fs::write(at("file"), "12345").unwrap();
        for name in ["fifo", "zero", "."] {
            assert!(read_file(&at(name), Bound::AtMost(9)).unwrap_err().chain().contains("is not a file"), "{name}");
        }
        assert_eq!(read_file(&at("none"), Bound::AtMost(9)).unwrap(), None);
        assert_eq!(read_file(&at("file"), Bound::AtMost(5)).unwrap().unwrap(), b"12345");
        assert!(read_file(&at("file"), Bound::AtMost(4)).unwrap_err().chain().contains("5 bytes"));
    }
}

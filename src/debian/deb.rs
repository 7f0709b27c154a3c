//! The format of packages (deb(5)): an ar archive with a control archive and an archive of the files, read as streams.

use super::inflate::inflate;
use crate::image::{Entries, Kind};
use crate::model::bounds::debian as limits;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What a package's control archive holds.
#[derive(Clone, Debug, Default)]
pub struct Control {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The paths in the package, as dpkg lists them.
    pub paths: Vec<String>,
}

/// Reads a package of this size: passes the content of its control archive to `control`, then its files as one plain tar to
/// `data`.
///
/// # Errors
/// Fails when the package is damaged, has another size, or unpacks to more than it may, and when `control` or `data` fails.
pub fn read(
    path: &Path,
    size: u64,
    control: &mut dyn FnMut(Control) -> io::Result<()>,
    data: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != size {
        return Err(damaged(&format!("it has {length} bytes, but {size} are locked")));
    }
    let mut ar = Ar::new(file)?;
    control(ar.control()?)?;
    while let Some((name, member)) = ar.next()? {
        let Some(ending) = name.strip_prefix("data.tar") else { continue };
        // The stream ends with an error when it gives more than this.
        let most = limits::unpacked(size);
        let mut plain = Cut { inner: inflate(ending, member)?, left: most, most };
        return data(&mut plain);
    }
    Err(damaged("no files"))
}

/// Reads the content of a package's control archive.
///
/// # Errors
/// Fails when the package is damaged.
pub fn control(path: &Path) -> io::Result<Control> {
    Ar::new(File::open(path)?)?.control()
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("it is damaged: {what}"))
}

/// Reads an ar archive, member by member.
struct Ar {
    file: BufReader<File>,
    /// How many bytes are left of the current member, with its padding.
    left: u64,
    members: usize,
}

impl Ar {
    fn new(file: File) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(128 << 10, file);
        let mut magic = [0; 8];
        file.read_exact(&mut magic).map_err(|_| damaged("not an ar archive"))?;
        if &magic != b"!<arch>\n" {
            return Err(damaged("not an ar archive"));
        }
        Ok(Self { file, left: 0, members: 0 })
    }

    /// The next member: its name and its bytes.
    fn next(&mut self) -> io::Result<Option<(String, Member<'_>)>> {
        let skipped = io::copy(&mut (&mut self.file).take(self.left), &mut io::sink())?;
        if skipped < self.left {
            // The last member's padding may be missing.
            return if self.left == 1 { Ok(None) } else { Err(damaged("cut off")) };
        }
        let mut header = Vec::with_capacity(60);
        (&mut self.file).take(60).read_to_end(&mut header)?;
        if header.len() < 60 {
            return Ok(None);
        }
        self.members += 1;
        if self.members > limits::MEMBERS {
            return Err(damaged(&format!("it has more than {} members", limits::MEMBERS)));
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 = text(48..58).trim().parse().map_err(|_| damaged("a bad length"))?;
        self.left = size.checked_next_multiple_of(2).ok_or_else(|| damaged("a bad length"))?;
        Ok(Some((name, Member { ar: self, size })))
    }

    /// Reads the control archive, which comes before the files.
    fn control(&mut self) -> io::Result<Control> {
        while let Some((name, member)) = self.next()? {
            if name.starts_with("data.tar") {
                break;
            }
            if let Some(ending) = name.strip_prefix("control.tar") {
                return read_control(inflate(ending, member)?);
            }
        }
        Err(damaged("no control data"))
    }
}

/// A member's bytes.
struct Member<'a> {
    ar: &'a mut Ar,
    size: u64,
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.ar.file.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(damaged("cut off"));
        }
        self.size -= length as u64;
        self.ar.left -= length as u64;
        Ok(length)
    }
}

/// Reads the files of a control archive.
fn read_control(data: impl Read) -> io::Result<Control> {
    let mut files = BTreeMap::new();
    let most = limits::CONTROL;
    let mut entries = Entries::new(Cut { inner: data, left: most, most });
    while let Some(entry) = entries.next_entry()? {
        let name = entry.path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (Some(name), Kind::File) = (name, entry.kind) {
            let mut content = Vec::new();
            entries.read_to_end(&mut content)?;
            files.insert(name, content);
        }
    }
    Ok(Control { files, paths: Vec::new() })
}

/// A stream that fails when it gives more bytes than it may.
struct Cut<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Cut<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} bytes, as packages made to fill disks do", self.most))
        })?;
        Ok(length)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Makes a tar of these entries.
    pub fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut data = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(nix::unistd::geteuid().as_raw().into());
            header.set_gid(nix::unistd::getegid().as_raw().into());
            header.set_mtime(1);
            if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
                header.set_device_major(1).unwrap();
                header.set_device_minor(5).unwrap();
            }
            if *kind == tar::EntryType::Symlink {
                header.set_size(0);
                data.append_link(&mut header, path, content).unwrap();
            } else {
                header.set_size(content.len() as u64);
                data.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        }
        data.into_inner().unwrap()
    }

    fn xz(plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new(plain, 1).read_to_end(&mut packed).unwrap();
        packed
    }

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = b"!<arch>\n".to_vec();
        for (name, bytes) in members {
            out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len()).as_bytes());
            out.extend(*bytes);
            out.resize(out.len().next_multiple_of(2), b'\n');
        }
        out
    }

    /// Makes a package from these two archives.
    pub fn deb(control: &[u8], data: &[u8]) -> Vec<u8> {
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &xz(control)), ("data.tar.xz/", &xz(data))])
    }

    fn run(bytes: &[u8], size: u64) -> Result<(Vec<String>, u64), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut names, mut length) = (Vec::new(), 0);
        let read = read(
            file.path(),
            size,
            &mut |control| {
                names.extend(control.files.into_keys());
                Ok(())
            },
            &mut |data| {
                length = io::copy(data, &mut io::sink())?;
                Ok(())
            },
        );
        read.map(|()| (names, length)).map_err(|error| error.to_string())
    }

    #[test]
    fn packages_are_read_and_damaged_ones_are_told() {
        let text = "Package: app\n";
        let control = tar(&[("./control", tar::EntryType::Regular, text), ("./postinst", tar::EntryType::Regular, "x")]);
        let data = tar(&[("./x", tar::EntryType::Regular, "content")]);
        let good = deb(&control, &data);
        let size = good.len() as u64;
        assert_eq!(run(&good, size).unwrap(), (vec!["control".to_owned(), "postinst".to_owned()], data.len() as u64));
        let refused = |bytes: &[u8], told: &str| {
            let why = run(bytes, bytes.len() as u64).unwrap_err();
            assert!(why.contains(told), "expected {told:?}: {why}");
        };
        assert!(run(&good, size - 1).unwrap_err().contains(&format!("it has {size} bytes, but {} are locked", size - 1)));
        refused(&good[..good.len() / 2], "it is damaged");
        refused(b"!<arch>\n", "no control data");
        refused(b"PK", "not an ar archive");
        refused(&ar(&[("debian-binary", b"2.0\n"), ("data.tar", &data), ("control.tar", &control)]), "no control data");
        refused(&ar(&[("control.tar", &control)]), "no files");
        refused(&ar(&[("x", &b""[..]); limits::MEMBERS + 1]), "more than 16 members");
        refused(&ar(&[("control.tar.lzma", b"x")]), "which is not supported");
        let mut wrong = ar(&[("control.tar", &control)]);
        wrong[8 + 48..8 + 58].copy_from_slice(b"99999999x ");
        refused(&wrong, "a bad length");
        wrong[8 + 48..8 + 58].copy_from_slice(b"9999999999");
        refused(&wrong, "cut off");
    }

    #[test]
    fn control_archives_are_small() {
        let zeros = "\0".repeat(usize::try_from(limits::CONTROL).unwrap());
        let control = tar(&[("./md5sums", tar::EntryType::Regular, &zeros)]);
        let bytes = deb(&control, &tar(&[]));
        assert!(run(&bytes, bytes.len() as u64).unwrap_err().contains("unpacks to more than"));
    }
}

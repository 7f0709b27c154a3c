//! The names of the packages that an index in the store lists, for those who choose one. Nothing is fetched.

use super::inflate::inflate;
use crate::lock::IndexLock;
use crate::model::bounds::debian as limits;
use crate::store::Store;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// The first bytes of a file of each format, with the ending that its name would have.
const FORMATS: [(&[u8], &str); 3] = [(b"\xfd7zXZ", ".xz"), (b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst")];

/// The names and versions of the packages of an index; `None` if the index is not in the store. It is read as a stream:
/// the index of a whole suite is 50 MB of text.
///
/// # Errors
/// Fails when the index cannot be read.
pub fn listed(store: &Store, index: &IndexLock) -> io::Result<Option<Vec<(String, String)>>> {
    let mut file = match File::open(store.download_path(&index.packages)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut start = [0; 6];
    let length = file.read(&mut start)?;
    let start = &start[..length];
    let ending = FORMATS.iter().find(|(magic, _)| start.starts_with(magic)).map_or("", |(_, ending)| ending);
    let whole = io::Cursor::new(start.to_vec()).chain(file);
    names(BufReader::new(inflate(ending, whole)?.take(limits::INDEX))).map(Some)
}

/// Takes the names and versions from an index.
fn names(mut text: impl BufRead) -> io::Result<Vec<(String, String)>> {
    let (mut found, mut line, mut name) = (Vec::new(), Vec::new(), None);
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let field = |wanted: &str| {
            let value = line.strip_prefix(wanted.as_bytes())?;
            Some(String::from_utf8_lossy(value).trim().to_owned())
        };
        if let Some(value) = field("Package:") {
            name = Some(value);
        } else if let Some(version) = field("Version:") {
            found.extend(name.take().map(|name| (name, version)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn names_are_read_from_an_index_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let text = "Package: nginx\nArchitecture: amd64\nVersion: 1.22-1\nDescription: a server\n\nPackage: odd\n\nPackage: zsh\nVersion: 5\n";
        let index = IndexLock { release: Digest::of("r"), packages: Digest::of(text), date: None };
        assert!(listed(&store, &index).unwrap().is_none(), "it is not there");
        std::fs::create_dir_all(folder.path().join("downloads")).unwrap();
        let want = [("nginx".to_owned(), "1.22-1".to_owned()), ("zsh".to_owned(), "5".to_owned())];
        std::fs::write(store.download_path(&index.packages), text).unwrap();
        assert_eq!(listed(&store, &index).unwrap().unwrap(), want);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        std::fs::write(store.download_path(&index.packages), packed.finish().unwrap()).unwrap();
        assert_eq!(listed(&store, &index).unwrap().unwrap(), want);
    }
}

//! Archives that different readers read differently, and how this reader reads them.

use super::*;

fn header(kind: u8, name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = kind;
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
        set(&mut header, 1);
    }
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

fn add(archive: &mut Vec<u8>, kind: u8, name: &str, content: &[u8]) {
    archive.extend(header(kind, name, content.len() as u64).as_bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn all(archive: &[u8]) -> io::Result<Vec<(PathBuf, u64, Vec<u8>)>> {
    let mut entries = Entries::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        let mut content = Vec::new();
        entries.read_to_end(&mut content)?;
        found.push((entry.path, entry.size, content));
    }
    Ok(found)
}

fn with_records(records: &[u8]) -> io::Result<Vec<(PathBuf, u64, Vec<u8>)>> {
    let mut archive = Vec::new();
    add(&mut archive, b'x', "r", records);
    add(&mut archive, b'0', "file", b"content");
    add(&mut archive, b'0', "next", b"");
    all(&archive)
}

#[test]
fn a_size_is_a_record_and_nothing_in_another() {
    let plain = with_records(b"9 size=3\n").unwrap();
    assert_eq!((plain[0].1, &plain[0].2[..]), (3, &b"con"[..]));
    // A value may hold anything, including newlines and text that looks like another record.
    for other in [&b"25 comment=x size=700000\n"[..], b"29 comment=x\n9 size=70000000\n", b"20 x size=700000000\n"] {
        let found = with_records(other).unwrap();
        assert_eq!((found.len(), found[0].1), (2, 7), "{}", String::from_utf8_lossy(other));
    }
    assert_eq!(with_records(b"9 size=3\n8 size=\n").unwrap()[0].1, 7, "an empty one takes it back");
    for damaged in [
        &b"8 size=3\n"[..],
        b"11 size=3\n",
        b"9 size=x\n",
        b"9 size=-\n",
        b" 9 size=3\n",
        b"5 =3\n\n",
        b"+9 size=3\n",
        b"99 size=3\n",
    ] {
        assert!(with_records(damaged).is_err(), "{}", String::from_utf8_lossy(damaged));
    }
    assert!(with_records(b"29 size=18446744073709551615\n").is_err());
    assert!(with_records(b"22 GNU.sparse.major=1\n").is_err());
}

#[test]
fn names_are_bounded_before_they_are_read() {
    let mut archive = header(b'L', "n", 700 << 20).as_bytes().to_vec();
    archive.resize(1 << 20, b'n');
    let failed = all(&archive).unwrap_err().to_string();
    assert!(failed.contains("entry 1: a name or record in it has 734003200 bytes"), "{failed}");
    let long = format!("{} path={}\n", 5006 + 5, "p".repeat(5000));
    let failed = with_records(long.as_bytes()).unwrap_err().to_string();
    assert!(failed.contains("entry 1: a path in it has 5000 bytes") && failed.len() < 200, "{failed}");
    let name = "long/".repeat(300);
    let mut archive = Vec::new();
    add(&mut archive, b'L', "n", format!("{name}\0").as_bytes());
    add(&mut archive, b'0', "short", b"x");
    assert_eq!(all(&archive).unwrap()[0].0, Path::new(&name));
    let mut archive = Vec::new();
    add(&mut archive, b'L', "n", b"one");
    assert!(all(&archive).is_err(), "a name of nothing");
    add(&mut archive, b'L', "n", b"two");
    assert!(all(&archive).is_err(), "two names");
}

#[test]
fn sizes_near_the_end_of_numbers_are_refused() {
    for size in [u64::MAX, u64::MAX - 511, i64::MAX as u64] {
        assert!(all(header(b'0', "big", size).as_bytes()).is_err());
        let mut twice = header(b'0', "big", size).as_bytes().to_vec();
        add(&mut twice, b'0', "next", b"");
        assert!(
            Entries::seeking(io::Cursor::new(twice)).next_entry().is_ok_and(|entry| entry.is_some()) || size > i64::MAX as u64
        );
    }
}

#[test]
fn links_and_folders_have_no_content() {
    let mut archive = header(b'1', "link", 1000).as_bytes().to_vec();
    add(&mut archive, b'0', "file", b"x");
    assert_eq!(all(&archive).unwrap().len(), 2);
}

#[test]
fn sparse_files_tell_their_real_size() {
    let mut sparse = header(b'S', "s", 4);
    if let Some(gnu) = sparse.as_gnu_mut() {
        gnu.set_real_size(1 << 40);
        gnu.sparse[0].set_offset(1024);
        gnu.sparse[0].set_length(4);
    }
    sparse.set_cksum();
    let mut archive = sparse.as_bytes().to_vec();
    archive.extend([b'x'; 512]);
    let mut entries = Entries::new(&archive[..]);
    let entry = entries.next_entry().unwrap().unwrap();
    assert_eq!((entry.size, &entry.parts[..]), (1 << 40, &[(1024, 4)][..]));
    if let Some(gnu) = sparse.as_gnu_mut() {
        gnu.sparse[0].set_length(5);
    }
    sparse.set_cksum();
    assert!(all(sparse.as_bytes()).is_err());
}

/// All forms in which GNU tar writes files with holes, as the first entry and with more parts than fit into one block of a map.
#[test]
fn sparse_files_of_every_form_are_read() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("s")).unwrap();
    file.set_len(40 << 20).unwrap();
    for part in 0..100u64 {
        file.write_all_at(format!("part {part}").as_bytes(), part * 300_000 + 5).unwrap();
    }
    let wanted = std::fs::read(folder.path().join("s")).unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let tar =
            std::process::Command::new("tar").args(["-cS"]).args(form).arg("-C").arg(folder.path()).arg("s").output().unwrap();
        assert!(tar.status.success() && tar.stdout.len() < 4 << 20, "{form:?}: {} bytes", tar.stdout.len());
        let mut entries = Entries::new(tar.stdout.as_slice());
        let entry = entries.next_entry().unwrap().unwrap();
        assert_eq!((entry.kind, entry.path.to_str(), entry.size), (Kind::Sparse, Some("s"), 40 << 20), "{form:?}");
        let mut content = vec![0; wanted.len()];
        for (at, length) in &entry.parts {
            entries.read_exact(&mut content[*at as usize..(at + length) as usize]).unwrap();
        }
        assert!(content == wanted, "{form:?}");
        assert!(entries.next_entry().unwrap().is_none(), "{form:?}");
    }
}

//! Tests with packs that git made, with damaged packs, and with packs that were made to fill memory.

use super::super::object::id;
use super::*;
use std::path::Path;
use std::process::{Command, Stdio};

fn run(folder: &Path, script: &str) -> Vec<u8> {
    let mut command = Command::new("sh");
    for (name, value) in [("NAME", "a"), ("EMAIL", "a@b")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.args(["-euc", script]).current_dir(folder).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn index(bytes: &[u8]) -> io::Result<Pack> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Pack::index(file)
}

/// Makes a history of a file that changes a little each time: all but one of its versions are deltas.
fn history(folder: &Path) -> Vec<Vec<u8>> {
    run(
        folder,
        "git init -q; seq 3000 > file; git add file; git commit -qm m
        for i in $(seq 60); do sed -i \"$((i * 40))s/.*/changed $i/\" file; git commit -qam m; done",
    );
    let pack = |options: &str| run(folder, &format!("git rev-list --objects --all | git pack-objects -q --stdout {options}"));
    vec![pack("--delta-base-offset"), pack(""), pack("--window=0")]
}

#[test]
fn objects_are_what_git_says_however_they_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in history(folder.path()) {
        let mut pack = index(&bytes).unwrap();
        let all = run(folder.path(), "git cat-file --batch-check='%(objectname) %(objecttype)' --batch-all-objects");
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.lines().count(), pack.places.len());
        for line in all.lines() {
            let (name, kind) = line.split_once(' ').unwrap();
            let wanted =
                [Kind::Commit, Kind::Tree, Kind::Blob].into_iter().find(|known| format!("{known:?}").to_lowercase() == kind);
            let content = pack.get(&id(name).unwrap(), wanted.unwrap()).unwrap();
            assert_eq!(*content, *run(folder.path(), &format!("git cat-file {kind} {name}")), "{line}");
        }
    }
}

#[test]
fn a_damaged_pack_is_refused_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let packs = history(folder.path());
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for round in 0..1500 {
        let mut bytes = packs[round % 2].clone();
        match round % 3 {
            0 => bytes.truncate(random(bytes.len())),
            _ => (0..=round % 5).for_each(|_| {
                let at = random(bytes.len());
                bytes[at] ^= 1 << random(8);
            }),
        }
        if let Ok(mut pack) = index(&bytes) {
            pack.ids().iter().for_each(|id| drop(pack.get(id, Kind::Blob)));
        }
    }
    for (base, delta) in [
        (&b"abc"[..], &b"\x03\x03\x90\x04"[..]),
        (b"abc", b"\x03\x03\0"),
        (b"abc", b"\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ] {
        assert_eq!(apply(base, delta), None);
    }
    assert_eq!(apply(b"abc", b"\x03\x04\x90\x03\x01d").as_deref(), Some(&b"abcd"[..]));
}

/// Adds an object to a pack: its kind, its base, its content.
fn object(pack: &mut Vec<u8>, kind: u8, base: &[u8], content: &[u8]) {
    let mut size = content.len() as u64;
    let mut byte = kind << 4 | u8::try_from(size & 15).unwrap();
    size >>= 4;
    while size > 0 {
        pack.push(byte | 128);
        byte = u8::try_from(size & 127).unwrap();
        size >>= 7;
    }
    pack.push(byte);
    pack.extend(base);
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(content).unwrap();
    pack.extend(out.finish().unwrap());
}

fn begin(count: u32) -> Vec<u8> {
    [&b"PACK\0\0\0\x02"[..], &count.to_be_bytes()].concat()
}

fn name(content: &[u8]) -> Id {
    let mut name = Name::new(Kind::Blob, content.len() as u64);
    name.write_all(content).unwrap();
    name.finish().unwrap()
}

/// Makes a delta between contents of up to 127 bytes that copies nothing from its base.
fn delta(base: &[u8], made: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    [&[length(base), length(made), length(made)][..], made].concat()
}

#[test]
fn what_waits_for_its_base_is_made_once_in_any_order() {
    let contents: Vec<Vec<u8>> = (0..3000).map(|number| format!("content {number}").into_bytes()).collect();
    let mut pack = begin(3000);
    // The base of each is the one before it in the list, which comes later in the pack.
    for pair in contents.windows(2).rev() {
        object(&mut pack, 7, &name(&pair[0]), &delta(&pair[0], &pair[1]));
    }
    object(&mut pack, 3, &[], &contents[0]);
    let begun = std::time::Instant::now();
    let mut found = index(&pack).unwrap();
    assert!(begun.elapsed().as_secs() < 5);
    assert_eq!(*found.get(&name(&contents[2999]), Kind::Blob).unwrap(), contents[2999][..]);
}

#[test]
fn packs_made_to_fill_memory_are_refused() {
    // An object that is stored whole, and is far larger than what was sent.
    let mut pack = begin(1);
    object(&mut pack, 3, &[], &vec![0; 600 << 20]);
    assert!(index(&pack).err().unwrap().to_string().contains("times its size"));
    // A base of 20 MiB, and a delta of a few bytes that makes it twice as long.
    let base = vec![0; 20 << 20];
    let mut doubled = Vec::new();
    for size in [base.len(), 2 * base.len()] {
        doubled.extend(
            [size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21].map(|byte| u8::try_from(byte).unwrap()),
        );
    }
    for _ in 0..3 {
        // Each copies 0xffffff bytes from offset 0.
        doubled.extend([0xf0, 0xff, 0xff, 0xff]);
    }
    let mut pack = begin(2);
    object(&mut pack, 3, &[], &base);
    object(&mut pack, 7, &name(&base), &doubled);
    assert!(index(&pack).err().unwrap().to_string().contains("too long"));
    // A chain that is far too long.
    let contents: Vec<Vec<u8>> = (0..6000).map(|number| format!("content {number}").into_bytes()).collect();
    let mut pack = begin(6000);
    object(&mut pack, 3, &[], &contents[0]);
    for pair in contents.windows(2) {
        object(&mut pack, 7, &name(&pair[0]), &delta(&pair[0], &pair[1]));
    }
    let mut found = index(&pack).unwrap();
    found.kept.clear();
    assert!(found.get(&name(&contents[5999]), Kind::Blob).unwrap_err().to_string().contains("the chain of deltas"));
}

//! The canonical tar, and what is read of it again.

use super::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn sample(root: &Path, order: &[&str]) {
    for name in order {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::hard_link(root.join("b/x"), root.join("a-link")).unwrap();
    std::os::unix::fs::symlink("b/x", root.join("s")).unwrap();
}

#[test]
fn order_of_creation_and_place_do_not_matter() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    sample(one.path(), &["b/x", "c", &long]);
    sample(two.path(), &[&long, "c", "b/x"]);
    // The permissions of both roots come from `tempdir`, and are the same.
    assert_eq!(digest(one.path()), digest(two.path()));
    fs::write(two.path().join("c"), "d").unwrap();
    assert_ne!(digest(one.path()), digest(two.path()));
}

#[test]
fn the_tar_is_one_that_others_read() {
    let tree = tempfile::tempdir().unwrap();
    sample(tree.path(), &["b/x", &format!("{}/{}", "d".repeat(90), "f".repeat(90))]);
    digest(tree.path());
    let mut bytes = Vec::new();
    write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<(String, tar::EntryType)> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().entry_type()))
        .collect();
    assert_eq!(names[0].0, "./");
    assert_eq!(names[1], ("a-link".into(), EntryType::Regular));
    assert!(names.contains(&("b/x".into(), EntryType::Link)));
    assert!(names.iter().any(|(name, _)| name.len() > 170));
}

#[test]
fn what_many_threads_read_stands_in_order() {
    let tree = tempfile::tempdir().unwrap();
    let text = |number: usize| format!("{number}").repeat(if number == 77 { 2 << 20 } else { number });
    for number in 0..300 {
        fs::write(tree.path().join(format!("{number:03}")), text(number)).unwrap();
    }
    let mut bytes = Vec::new();
    assert_eq!(write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap(), 301);
    let mut archive = tar::Archive::new(&bytes[..]);
    for (number, entry) in archive.entries().unwrap().skip(1).enumerate() {
        let mut entry = entry.unwrap();
        let mut found = String::new();
        entry.read_to_string(&mut found).unwrap();
        assert_eq!((entry.path().unwrap().display().to_string(), found), (format!("{number:03}"), text(number)));
    }
    fs::write(tree.path().join(".wh.150"), "").unwrap();
    let failed = write_tar(&Tree::open(tree.path()).unwrap(), &mut Vec::new()).unwrap_err();
    assert!(failed.to_string().contains("/.wh.150"), "{failed}");
}

#[test]
fn names_of_one_file_far_apart_are_one_file_of_one_time() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    for number in 0..300 {
        fs::write(at(&format!("{number:03}")), "x").unwrap();
    }
    fs::hard_link(at("000"), at("zzz")).unwrap();
    let info = digest_tree(&Tree::open(tree.path()).unwrap(), 1000).unwrap();
    // Times that were too late were set meanwhile; the second tar has the same ones.
    assert_eq!(fs::metadata(at("zzz")).unwrap().mtime(), 1000);
    let mut bytes = Vec::new();
    write_tar(&Tree::open(tree.path()).unwrap(), &mut bytes).unwrap();
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (info.diff_id, info.size));
    let mut archive = tar::Archive::new(&bytes[..]);
    let last = archive.entries().unwrap().last().unwrap().unwrap();
    assert_eq!(last.link_name().unwrap().unwrap().as_ref(), Path::new("000"));
    assert_eq!(last.header().mtime().unwrap(), 1000);
}

/// A tree of files of 64 KiB, some in directories, with a link among them.
fn large(root: &Path) {
    for number in 0..300_u32 {
        let folder = root.join(format!("d{}", number / 100));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number:03}")), number.to_string().repeat(20_000)).unwrap();
    }
    std::os::unix::fs::symlink("d0/000", root.join("c")).unwrap();
}

/// What the files of [`large`] hold, as whoever copied them knows.
fn known(root: &Path) -> impl Fn(&Path) -> Option<(Digest, u32)> {
    let root = root.to_owned();
    move |path| Some((Digest::of(fs::read(root.join(path)).ok()?), fs::metadata(root.join(path)).ok()?.mode()))
}

fn after(
    root: &Path,
    earlier: &Checkpoints,
    known: &(impl Fn(&Path) -> Option<(Digest, u32)> + Sync),
) -> (LayerInfo, Checkpoints) {
    digest_tree_after(&Tree::open(root).unwrap(), crate::model::EPOCH, earlier, known).unwrap()
}

#[test]
fn a_tree_that_begins_as_an_earlier_one_has_the_digest_that_it_has_anyway() {
    let tree = tempfile::tempdir().unwrap();
    let (root, at) = (tree.path(), |name: &str| tree.path().join(name));
    large(root);
    let mut earlier = Checkpoints::default();
    let mut check = |what: &str| {
        let (found, checkpoints) = after(root, &earlier, &known(root));
        let plain = digest_tree(&Tree::open(root).unwrap(), crate::model::EPOCH).unwrap();
        assert_eq!((found.diff_id, found.size, found.files), (plain.diff_id, plain.size, plain.files), "{what}");
        // What is kept goes through a file.
        earlier = serde_json::from_slice(&serde_json::to_vec(&checkpoints).unwrap()).unwrap();
    };
    check("a new tree");
    check("the same tree");
    fs::write(at("d2/250"), "less").unwrap();
    check("a late file is another one");
    fs::write(at("d2/251x"), "new").unwrap();
    check("a file more");
    fs::remove_file(at("d1/150")).unwrap();
    check("a file less");
    fs::set_permissions(at("d2"), fs::Permissions::from_mode(0o700)).unwrap();
    check("a directory with other permissions");
    fs::set_permissions(at("d2/299"), fs::Permissions::from_mode(0o755)).unwrap();
    check("a file with other permissions");
    fs::hard_link(at("d0/000"), at("d2/a")).unwrap();
    check("a further name of the first file");
    fs::remove_file(at("c")).unwrap();
    std::os::unix::fs::symlink("d0/001", at("c")).unwrap();
    check("another link at the front");
    fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
    check("the root itself");
    fs::remove_dir_all(at("d1")).unwrap();
    fs::remove_dir_all(at("d2")).unwrap();
    check("much less");
}

#[test]
fn what_is_the_same_is_not_read_and_what_is_damaged_is_not_used() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    large(root);
    let contents = known(root);
    let all: HashMap<PathBuf, (Digest, u32)> = walk(&Tree::open(root).unwrap())
        .unwrap()
        .into_iter()
        .filter_map(|entry| contents(&entry.path).map(|content| (entry.path, content)))
        .collect();
    let told = |path: &Path| all.get(path).copied();
    let (whole, checkpoints) = after(root, &Checkpoints::default(), &told);
    // Only a test can know a content that is not there.
    fs::write(root.join("d0/000"), "0".repeat(20_000).replace('0', "1")).unwrap();
    assert_eq!(after(root, &checkpoints, &told).0.diff_id, whole.diff_id, "the first file was read");
    assert_ne!(after(root, &Checkpoints::default(), &told).0.diff_id, whole.diff_id);
    assert_ne!(after(root, &checkpoints, &|_: &Path| None).0.diff_id, whole.diff_id, "what is not known is read");
    let text = serde_json::to_string(&checkpoints).unwrap();
    let at = text.find("\"hasher\":\"").unwrap() + 10;
    let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    let damaged = serde_json::from_str(&format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    assert_ne!(after(root, &damaged, &told).0.diff_id, whole.diff_id, "a damaged state counts as none");
}

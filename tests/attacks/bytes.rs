//! Hostile bytes: archives, images, repositories and user lists that are made to fill the disk or the memory, or to be
//! read as something else.

use crate::ground::{SLEEP, ground, is_root};
use crate::world::{World, stead};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much memory the program may use while it refuses a bomb, and how much it may leave on the disk.
const MEMORY: u64 = 256 << 20;
const DISK: u64 = 300 << 20;
/// The program is killed when it has written this much to the disk.
const MOST_DISK: u64 = 2 << 30;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar header, followed by content that is padded to whole blocks.
fn entry(kind: u8, name: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = kind;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A tar entry for a sparse file of this size, of which only the last byte is stored.
fn sparse(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..4].copy_from_slice(b"disk");
    header.as_mut_bytes()[156] = b'S';
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
        set(&mut header, 1);
    }
    header.set_mode(0o644);
    header.set_size(1);
    if let Some(gnu) = header.as_gnu_mut() {
        // Twelve octal digits end at 64 GiB, so this is base 256, as GNU tar writes it.
        gnu.realsize.copy_from_slice(&base_256(size));
        gnu.sparse[0].offset.copy_from_slice(&base_256(size - 1));
        gnu.sparse[0].numbytes.copy_from_slice(&base_256(1));
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend([b'x'; 512]);
    out
}

fn base_256(number: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[0] = 0x80;
    field[4..].copy_from_slice(&number.to_be_bytes());
    field
}

fn gzip(write: impl FnOnce(&mut dyn Write)) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write(&mut out);
    out.finish().unwrap()
}

/// Writes an OCI layout with one layer into a directory; the manifest may lie about the layer's length.
fn layout(folder: &Path, layer: &[u8], diff_id: &str, announced: u64, more: &serde_json::Value) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        format!("sha256:{}", hex(bytes))
    };
    let mut config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    });
    config["config"] = more.clone();
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(&config), "size": config.len() },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": put(layer), "size": announced,
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": put(&manifest), "size": manifest.len(),
        }],
    });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A command's exit code, its errors, and its peak memory.
struct Held {
    code: i32,
    err: String,
    memory: u64,
}

/// Runs the program for at most 100 seconds, with limits on memory and file sizes; the kernel counts the peak memory.
fn held(world: &World, words: &[&str]) -> Held {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 6000000; ulimit -f 2500000; exec \"$0\" \"$@\""]);
    command.arg(stead()).args(words).current_dir(&world.folder);
    command.env("STEAD_ROOT", &world.root).env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut err = Vec::new();
        pipe.read_to_end(&mut err).unwrap();
        String::from_utf8_lossy(&err).into_owned()
    });
    let patience = Duration::from_secs(std::env::var("STEAD_ATTACK_SECONDS").map_or(100, |text| text.parse().unwrap()));
    let (begun, mut memory, mut ticks) = (Instant::now(), 0, 0u64);
    let code = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
        memory = memory.max(peak.unwrap_or(0) << 10);
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        // A bomb that works must not fill this machine's disk.
        if begun.elapsed() > patience || (ticks % 250 == 249 && on_disk(&world.root) > MOST_DISK) {
            child.kill().unwrap();
        }
        ticks += 1;
        std::thread::sleep(Duration::from_millis(2));
    };
    Held { code, err: reader.join().unwrap(), memory }
}

/// A world with a store of its own, instead of the one that tests share.
fn alone(name: &str, project: &str) -> World {
    let world = World::bare(&format!("attack-bytes-{name}"), project);
    fs::remove_file(world.root.join("store")).unwrap();
    world
}

/// The number of bytes that a directory takes on the disk.
fn on_disk(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // While the program runs, files appear and disappear.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += on_disk(&entry.path());
        }
    }
    sum
}

/// Measures what is left on the disk, then removes the store, because a successful attack leaves a lot.
fn emptied(world: &World) -> u64 {
    let left = on_disk(&world.root);
    let _ = fs::remove_dir_all(world.root.join("store"));
    left
}

/// Loads an image with this layer; it must be refused for its size, and use little memory and disk space.
fn is_cut_off(name: &str, layer: &[u8], announced: u64, says: &[&str]) {
    if !is_root() {
        return;
    }
    let world = alone(name, "project \"bytes\"\n");
    let diff_id = if layer.starts_with(&[0x1f, 0x8b]) { "0".repeat(64) } else { hex(layer) };
    layout(&world.folder.join("layout"), layer, &diff_id, announced, &serde_json::json!({}));
    let found = held(&world, &["load", "-i", "layout"]);
    let left = emptied(&world);
    assert_eq!(found.code, 1, "{}", found.err);
    assert!(says.iter().any(|says| found.err.contains(says)), "{name}: {}", found.err);
    assert!(found.err.len() < 4000, "{} bytes of error", found.err.len());
    assert!(found.memory < MEMORY, "{name}: {} MiB of memory", found.memory >> 20);
    assert!(left < DISK, "{name}: {} MiB are left on the disk", left >> 20);
}

#[test]
fn a_sparse_file_of_a_layer_is_as_long_as_its_holes_whatever_the_manifest_says() {
    let layer = sparse(5 << 30);
    is_cut_off("sparse", &layer, layer.len() as u64, &["times its size"]);
    // The layer has one kilobyte; the manifest claims a terabyte.
    is_cut_off("sparse-false", &layer, 1 << 40, &["times its size", "what came has 1024 bytes"]);
}

#[test]
fn a_sparse_file_below_the_floor_takes_no_disk() {
    if !is_root() {
        return;
    }
    let world = alone("hole", "project \"bytes\"\n");
    let layer = sparse(900 << 20);
    layout(&world.folder.join("layout"), &layer, &hex(&layer), layer.len() as u64, &serde_json::json!({}));
    let found = held(&world, &["load", "-i", "layout"]);
    let left = emptied(&world);
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(left < 100 << 20, "its holes are on the disk");
}

#[test]
fn zeros_that_compress_well_fill_no_disk() {
    let layer = gzip(|out| {
        out.write_all(&entry(b'0', "zeros", 1200 << 20, &[])).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..1200).for_each(|_| out.write_all(&zeros).unwrap());
    });
    is_cut_off("zeros", &layer, layer.len() as u64, &["fill disks"]);
    is_cut_off("zeros-false", &layer, 1 << 40, &["fill disks", "digest"]);
}

#[test]
fn a_size_inside_another_record_moves_no_entry() {
    // A second reader would see the content of a file where the first one sees a name of 300 MB.
    let layer = gzip(|out| {
        let record = b"30 comment=x size=99999999999\n";
        out.write_all(&entry(b'x', "r", record.len() as u64, record)).unwrap();
        out.write_all(&entry(b'0', "short", 0, &[])).unwrap();
        out.write_all(&entry(b'L', "n", 300 << 20, &[])).unwrap();
        let name = vec![b'n'; 1 << 20];
        (0..300).for_each(|_| out.write_all(&name).unwrap());
        out.write_all(&entry(b'0', "f", 0, &[])).unwrap();
    });
    is_cut_off("pax", &layer, layer.len() as u64, &["a name or record in it has 314572800 bytes"]);
}

#[test]
fn a_size_near_the_end_of_numbers_moves_no_entry() {
    let mut layer = entry(b'x', "r", 29, b"29 size=18446744073709551615\n");
    layer.extend(entry(b'0', "f", 0, &[]));
    layer.extend(entry(b'0', "g", 0, &[]));
    layer.extend([0; 1024]);
    is_cut_off("wrap", &layer, layer.len() as u64, &["a size is too large"]);
}

#[test]
fn many_long_paths_cost_no_memory() {
    let layer = gzip(|out| {
        let folder = "folder-with-a-long-name/".repeat(150);
        for number in 0..20_000 {
            let name = format!("{folder}{number:07}\0");
            out.write_all(&entry(b'L', "n", name.len() as u64, name.as_bytes())).unwrap();
            out.write_all(&entry(b'0', "f", 0, &[])).unwrap();
        }
    });
    is_cut_off("paths", &layer, layer.len() as u64, &["its paths come to more"]);
}

#[test]
fn a_path_that_no_kernel_takes_is_refused_with_its_number() {
    let mut layer = entry(b'0', "first", 0, &[]);
    let path = "p".repeat(5000);
    let record = format!("5011 path={path}\n");
    layer.extend(entry(b'x', "r", record.len() as u64, record.as_bytes()));
    layer.extend(entry(b'0', "f", 0, &[]));
    layer.extend([0; 1024]);
    is_cut_off("path", &layer, layer.len() as u64, &["entry 2: a path in it has 5000 bytes"]);
}

/// Appends a git object to a pack, in the form that packs use, and returns its ID.
fn object(pack: &mut Vec<u8>, kind: (u8, &str), content: &[u8]) -> [u8; 20] {
    let mut size = content.len();
    let mut byte = kind.0 << 4 | u8::try_from(size & 15).unwrap();
    size >>= 4;
    while size > 0 {
        pack.push(byte | 128);
        byte = u8::try_from(size & 127).unwrap();
        size >>= 7;
    }
    pack.push(byte);
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(content).unwrap();
    pack.extend(out.finish().unwrap());
    use sha1_checked::Digest;
    let mut hasher = sha1_checked::Sha1::new();
    hasher.update(format!("{} {}\0", kind.1, content.len()));
    hasher.update(content);
    hasher.finalize().into()
}

/// A pack with a commit whose tree names one tree many times, which does the same, and so on, down to a file.
fn tree_of_trees(wide: usize, deep: usize, file: &[u8]) -> (Vec<u8>, String) {
    let mut pack = Vec::new();
    let mut named = object(&mut pack, (3, "blob"), file);
    let mut mode = "100644";
    for _ in 0..deep {
        let tree: Vec<u8> = (0..wide).flat_map(|at| [format!("{mode} {at:04}\0").as_bytes(), &named].concat()).collect();
        named = object(&mut pack, (2, "tree"), &tree);
        mode = "40000";
    }
    let tree: String = named.iter().map(|byte| format!("{byte:02x}")).collect();
    let commit = format!("tree {tree}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nm\n");
    let commit = object(&mut pack, (1, "commit"), commit.as_bytes());
    let count = u32::try_from(deep + 2).unwrap();
    let whole = [&b"PACK\0\0\0\x02"[..], &count.to_be_bytes(), &pack].concat();
    (whole, commit.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A server that has one commit, and sends its pack to every client that fetches (gitprotocol-v2).
fn git_server(pack: Vec<u8>, commit: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/bomb.git", listener.local_addr().unwrap());
    let line = |text: &[u8]| [format!("{:04x}", text.len() + 4).as_bytes(), text].concat();
    let refs = [line(format!("{commit} refs/heads/main\n").as_bytes()), b"0000".to_vec()].concat();
    let greeting = [
        line(b"# service=git-upload-pack\n"),
        b"0000".to_vec(),
        line(b"version 2\n"),
        line(b"ls-refs\n"),
        line(b"fetch=shallow\n"),
        b"0000".to_vec(),
    ]
    .concat();
    let mut answer = line(b"packfile\n");
    for piece in pack.chunks(60_000) {
        answer.extend(line(&[&[1], piece].concat()));
    }
    answer.extend(b"0000");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).unwrap() < 3 {
                    break;
                }
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (kind, bytes) = if first.starts_with("GET") {
                ("advertisement", &greeting)
            } else if String::from_utf8_lossy(&body).contains("ls-refs") {
                ("result", &refs)
            } else {
                ("result", &answer)
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-git-upload-pack-{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                bytes.len()
            );
            // A client that has seen enough closes the connection.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes));
        }
    });
    address
}

fn git_is_cut_off(name: &str, (pack, commit): (Vec<u8>, String), says: &str) {
    if !is_root() {
        return;
    }
    assert!(pack.len() < 1 << 20);
    let address = git_server(pack, &commit);
    let project = format!("project \"bytes\"\nimage \"a\" {{ add git=\"{address}\" commit=\"{commit}\" to=\"/\" }}\n");
    let world = alone(name, &project);
    let found = held(&world, &["build", "a"]);
    let left = emptied(&world);
    assert_ne!(found.code, 0, "{}", found.err);
    assert!(found.err.contains(says), "{name}: {}", found.err);
    assert!(found.memory < MEMORY, "{name}: {} MiB of memory", found.memory >> 20);
    assert!(left < DISK, "{name}: {} MiB are left on the disk", left >> 20);
}

#[test]
fn a_tree_of_trees_is_cut_off_by_its_bytes() {
    // A file of 200 KB, more than ten thousand times.
    let noise: Vec<u8> = (0..50_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    git_is_cut_off("git-bytes", tree_of_trees(60, 3, &noise), "times its size");
}

#[test]
fn a_tree_of_trees_is_cut_off_by_its_entries() {
    git_is_cut_off("git-entries", tree_of_trees(100, 4, b"x"), "entries");
}

#[test]
fn numbers_of_a_health_check_do_not_end_the_monitor() {
    if !is_root() {
        return;
    }
    let world = ground("bytes-health", &[], "container \"a\" { image \"box\"; cmd \"sleep\" \"1000\" }\n");
    // This world needs a store of its own, instead of the one that tests share.
    fs::remove_file(world.root.join("store")).unwrap();
    let check = serde_json::json!({
        "Test": ["CMD", "false"], "Interval": 18_446_744_073_709_551_615u64, "Timeout": 9_223_372_036_854_775_807u64,
        "Retries": 4_294_967_295u64, "StartPeriod": 18_446_744_073_709_551_615u64,
    });
    world.ok(&["build", "box"]);
    world.ok(&["save", "box", "-o", "box.tar"]);
    assert!(
        Command::new("sh")
            .args(["-c", "mkdir layout && tar -xf box.tar -C layout"])
            .current_dir(&world.folder)
            .status()
            .unwrap()
            .success()
    );
    rewrite(&world.folder.join("layout"), &check);
    world.write(
        "stead.kdl",
        &format!("project \"bytes-health\"\nimage \"wild\" {{ from archive=\"layout\" }}\ncontainer \"a\" {{ image \"wild\"; {SLEEP} }}\n"),
    );
    // The first health check runs at once and fails; `up` waits for one that succeeds.
    let mut up = world.spawn(&["up"]);
    std::thread::sleep(Duration::from_secs(3));
    let ended = up.try_wait().unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    assert_eq!(ended, None, "nobody had to wait: the monitor is gone");
    let found = world.container("a-1");
    assert_eq!(found["state"], "running", "{found}");
    world.ok(&["exec", "-T", "a", "true"]);
}

/// Adds a health check to the image of a layout.
fn rewrite(layout: &Path, check: &serde_json::Value) {
    let read = |digest: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap())
            .unwrap()
    };
    let put = |value: &serde_json::Value| {
        let bytes = value.to_string().into_bytes();
        fs::write(layout.join("blobs/sha256").join(hex(&bytes)), &bytes).unwrap();
        (format!("sha256:{}", hex(&bytes)), bytes.len())
    };
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut manifest = read(index["manifests"][0]["digest"].as_str().unwrap());
    let mut config = read(manifest["config"]["digest"].as_str().unwrap());
    config["config"]["Healthcheck"] = check.clone();
    let (digest, size) = put(&config);
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = put(&manifest);
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = size.into();
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn a_byte_that_is_no_text_takes_nobodys_group() {
    if !is_root() {
        return;
    }
    let world = ground(
        "bytes-users",
        &[],
        "container \"a\" { image \"box\"; user \"1500\"; cmd \"sleep\" \"1000\"; stop-grace \"50ms\" }\n",
    );
    let passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1500:1501:Jos\xe9:/tmp:/bin/sh\nshort:x:1600:1601\n";
    fs::write(world.folder.join("box/etc/passwd"), passwd).unwrap();
    fs::write(world.folder.join("box/etc/group"), b"root:x:0:\n\xe9t\xe9:x:1700:app\nmail:x:8:app\n").unwrap();
    world.ok(&["up"]);
    assert_eq!(world.exec("a", "id -G"), "1501 8 1700");
    for (user, wanted) in [("app", "1501 8 1700"), ("app:", "1501 8 1700"), ("short", "1601"), ("1600", "1601")] {
        assert_eq!(world.ok(&["exec", "-T", "--user", user, "a", "id", "-G"]).trim(), wanted, "{user}");
    }
}

#[test]
fn a_user_list_that_cannot_be_read_is_not_an_empty_one() {
    if !is_root() {
        return;
    }
    let world = ground("bytes-fifo", &[], "container \"a\" { image \"box\"; cmd \"sleep\" \"1000\"; stop-grace \"50ms\" }\n");
    world.ok(&["up"]);
    for make in
        ["mkfifo /etc/passwd", "mkdir /etc/passwd", "ln -s passwd /etc/passwd", "dd if=/dev/zero of=/etc/passwd bs=1M count=5"]
    {
        world.ok(&["exec", "-T", "a", "sh", "-c", &format!("rm -rf /etc/passwd; {make} 2>/dev/null")]);
        let failed = world.fails(&["exec", "-T", "--user", "1500", "a", "true"]).err;
        assert!(failed.contains("etc/passwd"), "{make}: {failed}");
        // A new container has the image's own user list again.
        world.ok(&["down"]);
        world.ok(&["up"]);
    }
}

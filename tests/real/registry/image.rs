//! Images to put into registries.

use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use stead::tested::model::Digest;

/// Makes an image in this directory, as an OCI layout whose only name is `latest`, and returns the directory. Each
/// layer has the given number of incompressible bytes, spread over four files. The first layer also has the program
/// `/bin/hello`, the only one that the image can run. The same layers always make the same image.
pub fn image(folder: &Path, layers: &[usize]) -> PathBuf {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let store = |kind: &str, content: &[u8]| {
        let digest = Digest::of(content).hex();
        fs::write(folder.join("blobs/sha256").join(&digest), content).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": content.len()})
    };
    let (mut descriptors, mut identities, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (number, length) in layers.iter().enumerate() {
        let layer = layer(number, *length);
        let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&layer).unwrap();
        descriptors.push(store("layer.v1.tar+gzip", &encoder.finish().unwrap()));
        identities.push(format!("sha256:{}", Digest::of(&layer).hex()));
        history.push(json!({"created": "1970-01-01T00:00:00Z", "created_by": format!("layer {number}")}));
    }
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"]},
        "rootfs": {"type": "layers", "diff_ids": identities}, "history": history,
    });
    let config = store("config.v1+json", config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors});
    let mut manifest = store("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
    fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
    folder.to_owned()
}

/// The tar archive of a layer.
fn layer(number: usize, length: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).unwrap();
    };
    if number == 0 {
        add("bin/", 0o755, b"");
        add("bin/hello", 0o755, &hello());
    }
    add("data/", 0o755, b"");
    add(&format!("data/{number}/"), 0o755, b"");
    for part in 0..4 {
        let share = length * (part + 1) / 4 - length * part / 4;
        add(&format!("data/{number}/{part}"), 0o644, &noise(share, (number * 4 + part + 1) as u64));
    }
    archive.into_inner().unwrap()
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    // A small seed would make many zeros at first.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A static program for Linux on amd64 that prints `hello`.
fn hello() -> Vec<u8> {
    let code = [
        &[0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0][..],          // write to 1
        &[0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba, 6, 0, 0, 0], // the text after the code, six bytes
        &[0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff],       // exit with 0
        &[0x0f, 0x05],
        b"hello\n",
    ]
    .concat();
    let base: u64 = 0x40_0000;
    let size = (120 + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    // The entry point, the offset of the program headers, and no section headers.
    [base + 120, 64, 0].iter().for_each(|value: &u64| file.extend(value.to_le_bytes()));
    // Flags; sizes of headers; one program header.
    [0_u16, 0, 64, 56, 1, 0, 0, 0].iter().for_each(|value| file.extend(value.to_le_bytes()));
    // The whole file is loaded, readable and executable.
    [1_u32, 5].iter().for_each(|value| file.extend(value.to_le_bytes()));
    [0, base, base, size, size, 0x1000].iter().for_each(|value: &u64| file.extend(value.to_le_bytes()));
    file.extend(code);
    file
}

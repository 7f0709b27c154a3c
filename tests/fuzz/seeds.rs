//! The initial inputs: files of this repository, and archives, packs, images and messages that are made here.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;

/// The content of all files below a directory whose names end in `ending`.
pub fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ending, &mut found);
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.extend(fs::read(&path));
        }
    }
}

/// Texts as inputs.
pub fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The Dockerfiles of the test cases: the text after `=== NAME` and before `---`.
pub fn dockerfiles() -> Vec<Vec<u8>> {
    let all = files("tests/dockerfiles", ".txt");
    let cases = all.iter().flat_map(|file| {
        let text = String::from_utf8_lossy(file).into_owned();
        let cases: Vec<String> = text.split("=== ").skip(1).map(str::to_owned).collect();
        cases
    });
    cases
        .map(|case| case.split_once('\n').map_or("", |(_, rest)| rest).split("\n---\n").next().unwrap_or_default().into())
        .map(|text: String| text.into_bytes())
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar entry, with its content in whole blocks.
pub fn entry(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = if name.len().is_multiple_of(2) { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    let raw = header.as_mut_bytes();
    raw[..name.len()].copy_from_slice(name.as_bytes());
    raw[156] = kind;
    raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(33);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A tar entry for a sparse file with two parts.
fn sparse() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..6].copy_from_slice(b"sparse");
    header.as_mut_bytes()[156] = b'S';
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime, tar::Header::set_size] {
        set(&mut header, 516);
    }
    header.set_mode(0o644);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_real_size(70_000);
        gnu.set_is_extended(true);
        gnu.sparse[0].set_offset(0);
        gnu.sparse[0].set_length(512);
    }
    header.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(65_536);
    more.sparse_mut()[0].set_length(4);
    [header.as_bytes(), more.as_bytes(), &[7; 1024][..]].concat()
}

/// A PAX record.
pub fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// Archives with entries of every kind.
pub fn tars() -> Vec<Vec<u8>> {
    let records = [
        record("path", "pax/a name that is longer than it"),
        record("size", "4"),
        record("uid", "70000"),
        record("mtime", "12.5"),
        record("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}\0\u{4}\0\0"),
        record("comment", "x\n9 size=3"),
    ]
    .concat();
    let long = "long/".repeat(40);
    let plain = [
        entry(b'5', "./", "", b""),
        entry(b'5', "etc/", "", b""),
        entry(b'0', "etc/passwd", "", b"root:x:0:0::/:/bin/sh\n"),
        entry(b'2', "bin", "usr/bin", b""),
        entry(b'0', "bin/sh", "", b"#!"),
        entry(b'1', "etc/shadow", "etc/passwd", b""),
        entry(b'6', "pipe", "", b""),
        entry(b'3', "null", "", b""),
        vec![0; 1024],
    ];
    let whiteouts = [
        entry(b'0', "etc/.wh.gone", "", b""),
        entry(b'0', "var/.wh..wh..opq", "", b""),
        entry(b'5', "var/", "", b""),
        entry(b'0', ".wh..wh.plnk", "", b""),
        vec![0; 1024],
    ];
    let extended = [
        entry(b'x', "PaxHeader", "", records.as_bytes()),
        entry(b'0', "short", "", b"text"),
        entry(b'g', "global", "", record("comment", "0123456789abcdef").as_bytes()),
        entry(b'L', "././@LongLink", "", format!("{long}name\0").as_bytes()),
        entry(b'K', "././@LongLink", "", format!("{long}link\0").as_bytes()),
        entry(b'2', "x", "y", b""),
        sparse(),
        entry(b'0', "last", "", &[b'z'; 2000]),
        vec![0; 1024],
    ];
    vec![
        plain.concat(),
        whiteouts.concat(),
        extended.concat(),
        gzip(&plain.concat()),
        zstd::encode_all(&extended.concat()[..], 1).unwrap(),
    ]
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Corrects the checksum of every tar header, wherever it is; most headers would be refused otherwise.
pub fn repair_sums(bytes: &mut [u8]) {
    let marks: Vec<usize> = bytes.windows(5).enumerate().filter(|(_, five)| *five == b"ustar").map(|(at, _)| at).collect();
    for at in marks {
        let Some(start) = at.checked_sub(257) else { continue };
        let Some(block) = bytes.get_mut(start..start + 512) else { continue };
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

/// Manifests, indexes and configurations of images.
pub fn images() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", hex(b"layer"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":32654,"urls":[],"annotations":{{"dev.cosignproject.cosign/signature":"MEUCIQ=="}}}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7143,"platform":{{"architecture":"amd64","os":"linux","variant":"v2"}},"annotations":{{"org.opencontainers.image.ref.name":"a:1"}}}},{{"digest":"{digest}","size":1,"platform":{{"architecture":"arm64","os":"linux"}}}}]}}"#
    );
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2025-01-01T00:00:00Z","config":{{"User":"1000:0","ExposedPorts":{{"80/tcp":{{}},"53/udp":{{}}}},"Env":["PATH=/bin","A="],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{{"/data":{{}}}},"WorkingDir":"/w","Labels":{{"a":"b"}},"StopSignal":"SIGRTMIN+3","Shell":["/bin/sh","-c"],"OnBuild":["RUN x"],"Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Timeout":1,"Retries":3,"StartPeriod":0,"StartInterval":5}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[]}}"#
    );
    let first = r#"{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[],"history":[],"signatures":[]}"#;
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"a/b"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    texts(&[&manifest, &index, &config, first, &payload])
}

/// An OCI layout and what `docker save` writes, each in a tar.
pub fn archives() -> Vec<Vec<u8>> {
    let layer = entry(b'0', "file", "", b"text");
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"diff_ids":["sha256:{}"]}}}}"#, hex(&layer));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{}","size":{}}}]}}"#,
        hex(config.as_bytes()),
        config.len(),
        hex(&layer),
        layer.len()
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{}}}]}}"#,
        hex(manifest.as_bytes()),
        manifest.len()
    );
    let blob = |bytes: &[u8]| entry(b'L', "././@LongLink", "", format!("blobs/sha256/{}\0", hex(bytes)).as_bytes());
    let layout = [
        entry(b'0', "oci-layout", "", br#"{"imageLayoutVersion":"1.0.0"}"#),
        entry(b'0', "index.json", "", index.as_bytes()),
        blob(manifest.as_bytes()),
        entry(b'0', "m", "", manifest.as_bytes()),
        blob(config.as_bytes()),
        entry(b'0', "c", "", config.as_bytes()),
        blob(&layer),
        entry(b'0', "l", "", &layer),
        vec![0; 1024],
    ];
    let docker = [
        entry(b'0', "config.json", "", config.as_bytes()),
        entry(b'0', "layer.tar", "", &layer),
        entry(b'2', "0/layer.tar", "../layer.tar", b""),
        entry(b'0', "manifest.json", "", br#"[{"Config":"config.json","RepoTags":["a/b:1","b:2"],"Layers":["0/layer.tar"]}]"#),
        vec![0; 1024],
    ];
    vec![layout.concat(), docker.concat(), gzip(&layout.concat())]
}

/// A bundle: a label, an image's layout, files of a project and results of steps.
pub fn bundles() -> Vec<Vec<u8>> {
    let label = br#"{"version":1,"project":"p","file":"stead.kdl","images":{},"secrets":["token"]}"#;
    let result = format!("stead/results-2/{}", hex(b"step"));
    let whole = [
        entry(b'0', "stead/bundle.json", "", label),
        entry(b'0', "index.json", "", br#"{"schemaVersion":2,"manifests":[]}"#),
        entry(b'0', &result, "", b"{}"),
        entry(b'5', "stead/project/folder/", "", b""),
        entry(b'0', "stead/project/stead.kdl", "", b"project \"p\"\n"),
        entry(b'2', "stead/project/folder/link", "../stead.kdl", b""),
        vec![0; 1024],
    ];
    vec![whole.concat()]
}

/// A Debian package: an ar archive with two tars.
pub fn debs() -> Vec<Vec<u8>> {
    let control = b"Package: a\nVersion: 1.0-1\nArchitecture: amd64\nEssential: yes\nDepends: b (>= 1) | c, d:any\nPre-Depends: e\nProvides: f (= 2)\n";
    let control = [entry(b'0', "./control", "", control), entry(b'0', "./conffiles", "", b"/etc/a\n"), vec![0; 1024]].concat();
    let data =
        [entry(b'5', "./usr/", "", b""), entry(b'0', "./usr/a", "", b"x"), entry(b'2', "./lib", "usr/lib", b""), vec![0; 1024]];
    let member = |name: &str, content: &[u8]| {
        let mut out = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).into_bytes();
        out.extend(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
        out
    };
    let whole = |ending: &str, control: &[u8], data: &[u8]| {
        let names = [format!("control.tar{ending}"), format!("data.tar{ending}")];
        [b"!<arch>\n".to_vec(), member("debian-binary", b"2.0\n"), member(&names[0], control), member(&names[1], data)].concat()
    };
    vec![whole("", &control, &data.concat()), whole(".gz", &gzip(&control), &gzip(&data.concat()))]
}

/// Makes a pack. Each object is given as a byte for its kind, two for its length, and its content, in which `@` and a
/// digit stand for the ID of an earlier object (and `#` for its hex form). So mutations change what is inside, not only
/// the compression.
pub fn pack(objects: &[u8]) -> Vec<u8> {
    use sha1_checked::Digest;
    let (mut rest, mut body, mut names, mut places, mut count) = (objects, Vec::new(), Vec::<[u8; 20]>::new(), Vec::new(), 0u32);
    while let [kind, high, low, after @ ..] = rest {
        let (content, further) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(after.len()));
        rest = further;
        let mut whole = Vec::new();
        let mut characters = content.iter();
        while let Some(byte) = characters.next() {
            match (byte, characters.as_slice().first().and_then(|next| names.get(usize::from(next.wrapping_sub(b'0'))))) {
                (b'@', Some(name)) => {
                    characters.next();
                    whole.extend(name);
                }
                (b'#', Some(name)) => {
                    characters.next();
                    whole.extend(name.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
                }
                _ => whole.push(*byte),
            }
        }
        let (number, word) = [(3, "blob"), (2, "tree"), (1, "commit"), (4, "tag"), (6, ""), (7, "")][usize::from(*kind) % 6];
        let at = body.len() as u64 + 12;
        let mut size = whole.len();
        let mut byte = number << 4 | u8::try_from(size & 15).unwrap();
        size >>= 4;
        while size > 0 {
            body.push(byte | 128);
            byte = u8::try_from(size & 127).unwrap();
            size >>= 7;
        }
        body.push(byte);
        match number {
            6 => {
                let back = places.last().map_or(1, |place: &u64| at - place);
                if back >= 128 {
                    body.push(u8::try_from((back >> 7).saturating_sub(1) & 127).unwrap() | 128);
                }
                body.push(u8::try_from(back & 127).unwrap());
            }
            7 => body.extend(names.first().copied().unwrap_or_default()),
            _ => {}
        }
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&whole).unwrap();
        body.extend(out.finish().unwrap());
        if !word.is_empty() {
            let mut hasher = sha1_checked::Sha1::new();
            hasher.update(format!("{word} {}\0", whole.len()));
            hasher.update(&whole);
            names.push(hasher.finalize().into());
        }
        places.push(at);
        count += 1;
    }
    [&b"PACK\0\0\0\x02"[..], &count.to_be_bytes(), &body].concat()
}

/// Objects as [`pack`] takes them.
pub fn objects() -> Vec<Vec<u8>> {
    let object = |kind: u8, content: &[u8]| [&[kind], &u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat();
    let commit = |tree: &str| {
        format!(
            "tree {tree}\nparent 0123456789012345678901234567890123456789\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nm\n"
        )
    };
    let modules = b"[submodule \"a\"]\n\tpath = lib/a\n\turl = \"../a.git\" # why\n";
    let simple = [
        object(0, b"a file that is a base"),
        object(0, modules),
        object(1, b"100644 .gitmodules\0@1100644 a\0@0120000 l\0@0"),
        object(1, b"40000 dir\0@2100755 x\0@0160000 lib\0@0"),
        object(2, commit("#3").as_bytes()),
    ];
    let deltas = [
        object(0, b"a file that is a base"),
        object(5, b"\x15\x05\x90\x05"),
        object(4, b"\x05\x04\x90\x03\x01d"),
        object(1, b"100644 a\0@0"),
        object(2, commit("#1").as_bytes()),
        object(3, b"object #0\ntype blob\ntag t\n"),
    ];
    vec![simple.concat(), deltas.concat()]
}

/// Messages signed in clear text; their signatures are taken from keys, so nobody made them for these messages.
pub fn signed(keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let text = "Suite: stable\nCodename: bookworm\nDate: Sat, 10 Jun 2023 08:53:33 UTC\nValid-Until: Sat, 17 Jun 2033 08:53:33 UTC\nAcquire-By-Hash: yes\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n";
    let armored = |packets: &[u8]| {
        let lines: Vec<String> =
            base64(packets).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n", lines.join("\n"))
    };
    // The end of a key is its own signature, which has the right form.
    let packets = keys.iter().map(|key| key.get(key.len().saturating_sub(600)..).unwrap_or_default().to_vec());
    packets
        .map(|packets| format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}{}", armored(&packets)).into_bytes())
        .collect()
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Public keys of three kinds, valid only in form.
pub fn keys() -> Vec<Vec<u8>> {
    let pem = |der: &[u8]| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(der)).into_bytes();
    let curve = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";
    let edwards = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let rsa = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00";
    vec![
        pem(&[&curve[..], &[0x5a; 64]].concat()),
        pem(&[&edwards[..], &[0x5a; 32]].concat()),
        pem(&[&rsa[..], &[0x5b; 256], b"\x02\x03\x01\x00\x01"].concat()),
    ]
}

/// Sigstore bundles.
pub fn sigstore() -> Vec<Vec<u8>> {
    let statement = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"","digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
        hex(b"layer")
    );
    let bundle = format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{}},"dsseEnvelope":{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":"{}","keyid":""}}]}}}}"#,
        base64(statement.as_bytes()),
        base64(&[0x30; 70])
    );
    texts(&[&bundle])
}

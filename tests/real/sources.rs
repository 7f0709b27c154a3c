//! What images are made of besides the project's own files: archives, the web, other images, other tools' images.

use crate::world::{World, is_root, skip};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Files = Vec<(String, Vec<u8>)>;

/// A web server with a few files, which counts the requests.
struct Web {
    address: String,
    files: Arc<Mutex<Files>>,
    asked: Arc<AtomicUsize>,
}

impl Web {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web =
            Self { address: format!("http://{}", listener.local_addr().unwrap()), files: Arc::default(), asked: Arc::default() };
        let (files, asked) = (web.files.clone(), web.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut first = String::new();
                reader.read_line(&mut first).unwrap();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                asked.fetch_add(1, Ordering::Relaxed);
                let found = files.lock().unwrap().iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.clone());
                let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&body);
            }
        });
        web
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let mut files = self.files.lock().unwrap();
        files.retain(|(name, _)| name != path);
        files.push((path.to_owned(), bytes.to_vec()));
    }
}

fn sha256(bytes: &[u8]) -> String {
    stead::tested::model::Digest::of(bytes).hex()
}

/// A gzipped tar of the files that a script makes.
fn archive(folder: &Path, script: &str) -> Vec<u8> {
    let place = folder.join("archive-in-the-making");
    fs::create_dir_all(&place).unwrap();
    let script = format!("umask 022; {script}; tar --owner=7 --group=8 --mtime=@1000 -czf ../made.tar.gz *");
    assert!(Command::new("sh").args(["-c", &script]).current_dir(&place).status().unwrap().success());
    fs::remove_dir_all(&place).unwrap();
    fs::read(folder.join("made.tar.gz")).unwrap()
}

fn shell(world: &World, image: &str, script: &str) -> String {
    world.ok(&["run", "-T", image, "sh", "-c", script]).trim().to_owned()
}

#[test]
fn what_the_web_gives_is_checked_and_unpacked() {
    if !is_root() {
        return;
    }
    let web = Web::new();
    let world = World::new("web", "");
    // The bytes are new in every run, because the shared store would have them already.
    let own = web.address.clone();
    let script = format!(
        "mkdir -p tool/bin bin && printf '#!/bin/sh\\necho runs' > tool/bin/run && chmod 755 tool/bin/run && echo {own} > bin/extra"
    );
    let packed = archive(&world.folder, &script);
    web.put("/tool.tar.gz", &packed);
    web.put("/plain.txt", own.as_bytes());
    let (digest, plain) = (sha256(&packed), sha256(own.as_bytes()));
    let image = format!(
        "image \"made\" {{\n    from \"base\"\n    add \"{0}/tool.tar.gz\" to=\"/opt/\" sha256=\"{digest}\" unpack=#true\n    \
         add \"{0}/tool.tar.gz\" to=\"/\" sha256=\"{digest}\" unpack=#true owner=\"www-data\"\n    \
         add \"{0}/plain.txt\" to=\"/etc/\" sha256=\"{plain}\" mode=\"u=rw,go=\"\n}}\n",
        web.address
    );
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    world.write("stead.kdl", &format!("{text}{image}"));
    world.ok(&["build", "made"]);
    assert_eq!(
        shell(&world, "made", "/opt/tool/bin/run; stat -c '%u:%g' /opt/tool/bin/run; stat -c '%a %U' /etc/plain.txt"),
        "runs\n7:8\n600 root"
    );
    // Links of the image below are followed: /bin stays a link.
    assert_eq!(shell(&world, "made", "readlink /bin; stat -c %U /usr/bin/extra"), "usr/bin\nwww-data");
    // When everything is in the store, nothing is fetched again.
    let before = web.asked.load(Ordering::Relaxed);
    assert_eq!(before, 2);
    world.ok(&["build", "made", "--offline"]);
    world.edit("mode=\"u=rw,go=\"", "mode=\"0644\"");
    world.ok(&["build", "made", "--offline"]);
    assert_eq!(web.asked.load(Ordering::Relaxed), before);
    // The bytes do not have the given digest, and then the file is missing.
    web.put("/other.txt", b"other\n");
    world.edit("/plain.txt\" to=\"/etc/\"", "/other.txt\" to=\"/etc/\"");
    world.edit(&plain, &sha256(b"what was meant\n"));
    let failed = world.fails(&["build", "made"]).err;
    assert!(failed.contains("stead.kdl:") && failed.contains(&sha256(b"other\n")) && failed.contains("not"), "{failed}");
    world.edit("/other.txt", "/none.txt");
    assert!(world.fails(&["build", "made"]).err.contains("is not there"));
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new("hostile", "image \"a\" { from \"base\"; copy \"x.tar.gz\" to=\"/opt/\" unpack=#true; }\n");
    let outside = world.root.join("outside");
    fs::create_dir_all(&outside).unwrap();
    let python = |body: &str| {
        let script = format!(
            "import tarfile, io\nt = tarfile.open('x.tar.gz', 'w:gz')\ndef add(name, kind=tarfile.REGTYPE, link='', data=b'x', **more):\n    \
             i = tarfile.TarInfo(name); i.type = kind; i.linkname = link; i.size = len(data) if kind == tarfile.REGTYPE else 0\n    \
             for k, v in more.items(): setattr(i, k, v)\n    t.addfile(i, io.BytesIO(data) if kind == tarfile.REGTYPE else None)\n{body}\nt.close()\n"
        );
        assert!(Command::new("python3").args(["-c", &script]).current_dir(&world.folder).status().unwrap().success());
    };
    let to = outside.display().to_string();
    for (body, says) in [
        ("add('../../escape')".to_owned(), "leads out"),
        ("add('dev', tarfile.CHRTYPE, devmajor=1, devminor=3)".to_owned(), "device"),
        ("add('disk', tarfile.BLKTYPE, devmajor=8, devminor=0)".to_owned(), "device"),
        ("add('h', tarfile.LNKTYPE, '../../../../etc/passwd')".to_owned(), "leads out"),
        (format!("add('l', tarfile.SYMTYPE, '{to}')\nadd('h', tarfile.LNKTYPE, 'l/file')"), "links to"),
    ] {
        python(&body);
        fs::write(outside.join("file"), "host").unwrap();
        let failed = world.fails(&["build", "a"]).err;
        assert!(failed.contains(says) && failed.contains("stead.kdl:") && failed.contains("x.tar.gz"), "{body}: {failed}");
    }
    // A sparse file with huge holes, and a name that would fill the memory.
    python(
        "i = tarfile.TarInfo('s'); i.size = 0\nb = bytearray(i.tobuf(tarfile.GNU_FORMAT)); b[156:157] = b'S'; b[483:495] = b'%011o\\0' % (7 << 30)\nb[386:398] = b'%011o\\0' % (7 << 30); b[398:410] = b'%011o\\0' % 0\nb[148:156] = b'        '; b[148:156] = b'%06o\\0 ' % sum(b)\nt.fileobj.write(bytes(b))",
    );
    let failed = world.fails(&["build", "a"]).err;
    assert!(failed.contains("times its size"), "{failed}");
    python(
        "i = tarfile.TarInfo('n'); i.type = b'L'; i.size = 2 << 30\nt.fileobj.write(i.tobuf(tarfile.GNU_FORMAT))\nfor n in range(2048): t.fileobj.write(b'n' * (1 << 20))",
    );
    let refused = world.run(&["build", "a"]);
    assert!(refused.code == 0 || refused.err.contains("a name or record in it"), "{}", refused.err);
    // A link that leads out is followed inside the tree, and an absolute name ends up inside.
    python(&format!("add('l', tarfile.SYMTYPE, '{to}')\nadd('l/new')\nadd('/abs/file')"));
    let _ = world.run(&["build", "a"]);
    assert!(!outside.join("new").exists() && !Path::new("/abs/file").exists());
    // A small archive that unpacks to more than a gigabyte.
    let bomb = "head -c 1200M /dev/zero | gzip -9 > x.tar.gz.body; python3 - <<'P'\nimport tarfile, gzip, zlib, struct\n\
                i = tarfile.TarInfo('big'); i.size = 5 << 30\nopen('x.tar.gz', 'wb').write(gzip.compress(i.tobuf()) + open('x.tar.gz.body', 'rb').read())\nP\nrm x.tar.gz.body";
    assert!(Command::new("sh").args(["-c", bomb]).current_dir(&world.folder).status().unwrap().success());
    let failed = world.fails(&["build", "a"]).err;
    assert!(failed.contains("times its size"), "{failed}");
    let left = fs::read_dir(world.root.join("store/tmp")).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0, "staging directories are left");
}

#[test]
fn urls_of_dockerfiles_are_locked() {
    if !is_root() {
        return;
    }
    let web = Web::new();
    web.put("/a.txt", b"one\n");
    let world = World::new("locked-urls", "image \"app\" { dockerfile \"Dockerfile\" }\n");
    world.write("Dockerfile", &format!("FROM base\nADD {}/a.txt /a.txt\n", web.address));
    assert!(world.fails(&["build", "app", "--frozen"]).err.contains("does not say what"));
    assert!(world.ok(&["plan", "--json"]).contains("tasks"));
    world.ok(&["build", "app"]);
    assert_eq!(shell(&world, "app", "cat /a.txt; stat -c %a /a.txt"), "one\n600");
    let lock = fs::read_to_string(world.folder.join("stead.lock")).unwrap();
    assert!(lock.contains(&format!("is=\"{}\"", sha256(b"one\n"))), "{lock}");
    // What the URL returns now does not matter until the user asks for it.
    web.put("/a.txt", b"two\n");
    world.ok(&["build", "app"]);
    assert_eq!(shell(&world, "app", "cat /a.txt"), "one");
    let told = world.ok(&["update", &format!("{}/a.txt", web.address)]);
    assert!(told.contains("→"), "{told}");
    world.ok(&["build", "app"]);
    assert_eq!(shell(&world, "app", "cat /a.txt"), "two");
}

/// A new machine has no CA certificates: what needs none works there, and what needs them says what is missing.
#[test]
fn a_busy_server_is_asked_again_and_no_certificates_are_needed_for_plain_http() {
    if !is_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            // A TLS request is not text, so errors are ignored.
            let _ = BufReader::new(stream.try_clone().unwrap()).read_until(b'\n', &mut Vec::new());
            let answer = match number {
                0 => "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                1 => "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere",
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let world = World::new("busy", "image \"app\" { dockerfile \"Dockerfile\" }\n");
    let bare = |args: &[&str]| {
        let mut command = world.command(args);
        let output = command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    world.write("Dockerfile", &format!("FROM base\nADD http://{address}/busy /file\n"));
    world.ok(&["build", "base"]);
    let (ok, told) = bare(&["build", "app"]);
    assert!(ok, "{told}");
    assert_eq!(shell(&world, "app", "cat /file"), "here");
    // A server that speaks no TLS is told apart from a machine without CA certificates.
    world.write("Dockerfile", &format!("FROM base\nADD https://{address}/busy /file\n"));
    let (ok, told) = bare(&["build", "app"]);
    assert!(!ok && told.contains("it speaks no TLS"), "{told}");
}

#[test]
fn images_of_other_tools_are_taken_in_and_given_back() {
    if !is_root() {
        return;
    }
    if ["buildah", "skopeo", "umoci"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        skip("buildah, skopeo or umoci is not installed");
        return;
    }
    let world = World::new("archives", "image \"plain\" { from \"base\"; copy \"old\" to=\"/opt/\"; }\n");
    world.write("old/gone", "1");
    world.write("old/kept", "1");
    world.ok(&["build", "plain"]);
    world.ok(&["save", "plain", "-o", "plain.tar"]);
    // buildah adds a layer that deletes and replaces files, compressed. The next run finds its storage here, because a
    // run that was killed leaves a mount in it.
    let storage = world.folder.with_file_name("buildah");
    let clean = format!("umount -R {0}/root/overlay 2>/dev/null; rm -rf {0}", storage.display());
    let clean = || Command::new("sh").args(["-c", &clean]).status().unwrap();
    clean();
    let script = format!(
        "set -e; b='buildah --root {0}/root --runroot {0}/run --storage-driver overlay'; c=$($b from oci-archive:plain.tar); m=$($b mount $c); \
         rm $m/opt/gone; echo new > $m/opt/new; chown 33:33 $m/opt/new; ln $m/opt/new $m/opt/twin; $b umount $c >/dev/null; \
         $b config --env FROM=buildah --cmd 'cat /opt/new' --workingdir /opt --onbuild 'RUN echo triggered > /triggered' $c; \
         $b commit -q --format oci $c oci-archive:theirs.tar:theirs:1; $b commit -q --format docker $c docker-archive:docker.tar:x/theirs:2; \
         $b rm $c >/dev/null; mkdir layout; skopeo copy -q oci-archive:theirs.tar oci:layout:theirs",
        storage.display()
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(&world.folder).output().unwrap();
    clean();
    assert!(made.status.success(), "{made:?}");
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let more = "image \"oci\" { from archive=\"theirs.tar\" }\nimage \"docker\" { from archive=\"docker.tar\" name=\"theirs:2\" }\n\
                image \"folder\" { from archive=\"layout\"; env MORE=\"yes\"; copy \"old/kept\" to=\"/opt/again\"; }\n\
                image \"upon\" { dockerfile \"Dockerfile\" }\nimage \"stored\" { from \"archives/plain\"; env S=\"1\"; }\n";
    world.write("stead.kdl", &format!("{text}{more}"));
    world.write("Dockerfile", "FROM docker\nENV SEEN=$FROM\nRUN pwd > /where\n");
    world.ok(&["build"]);
    let look = "ls /opt | tr '\\n' ' '; cat /opt/new; stat -c '%u %h' /opt/twin; echo $FROM $MORE; pwd";
    assert_eq!(shell(&world, "oci", look), "kept new twin new\n33 2\nbuildah\n/opt");
    assert_eq!(shell(&world, "docker", look), "kept new twin new\n33 2\nbuildah\n/opt");
    assert_eq!(shell(&world, "folder", look), "again kept new twin new\n33 2\nbuildah yes\n/opt");
    assert_eq!(world.ok(&["run", "-T", "oci"]), "new\n");
    // A Dockerfile that starts from the image knows its environment and runs its triggers (ONBUILD).
    assert_eq!(shell(&world, "upon", "cat /triggered /where; echo $SEEN"), "triggered\n/opt\nbuildah");
    assert_eq!(shell(&world, "stored", "echo $S; cat /opt/gone"), "1\n1");
    // An image that was imported and not changed is saved to the same bytes.
    let digest = |archive: &str| {
        let out = Command::new("skopeo")
            .args(["inspect", "--format", "{{.Digest}}", archive])
            .current_dir(&world.folder)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    world.ok(&["save", "oci", "-o", "back.tar"]);
    assert_eq!(digest("oci-archive:back.tar"), digest("oci-archive:theirs.tar"));
    // An image that was built on it is complete for others.
    world.ok(&["save", "folder", "-o", "folder.tar"]);
    let unpacked = "mkdir out && tar -xf folder.tar -C out && umoci unpack --image out:folder bundle && cat bundle/rootfs/opt/again && test ! -e bundle/rootfs/opt/gone";
    let unpacked = Command::new("sh").args(["-c", unpacked]).current_dir(&world.folder).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    // Bad input.
    for (from, says) in [
        ("archive=\"theirs.ta\"", "\"theirs.tar\" is there"),
        ("archive=\"theirs.tar\" name=\"their\"", "it holds no image \"their\""),
        ("archive=\"old\"", "not an OCI layout"),
        ("archive=\"Dockerfile\"", "is not an image archive"),
        ("\"archives/plan\"", "perhaps \"archives/plain\""),
    ] {
        world.write("bad.kdl", &format!("project \"bad\"\nimage \"a\" {{ from {from} }}\n"));
        let failed = world.fails(&["-f", "bad.kdl", "build"]).err;
        assert!(failed.contains(says), "{from}: {failed}");
    }
    let bytes = fs::read(world.folder.join("theirs.tar")).unwrap();
    let middle = bytes.len() / 2;
    for (name, bytes) in [
        ("cut.tar", bytes[..middle].to_vec()),
        ("flipped.tar", [&bytes[..middle], &[bytes[middle] ^ 1], &bytes[middle + 1..]].concat()),
    ] {
        fs::write(world.folder.join(name), bytes).unwrap();
        world.write("bad.kdl", &format!("project \"bad\"\nimage \"a\" {{ from archive=\"{name}\" }}\n"));
        // The shared store has the layers already; in a store of its own, they must be read.
        let own = world.root.join(name);
        let ran = world.command(&["-f", "bad.kdl", "build"]).env("STEAD_ROOT", &own).output().unwrap();
        assert!(!ran.status.success(), "{name}");
        assert_eq!(fs::read_dir(own.join("store/images")).map_or(0, Iterator::count), 0, "{name}: the store is untouched");
    }
}

#[test]
fn repositories_are_added_at_their_commit() {
    if !is_root() {
        return;
    }
    let world = World::new("repositories", "");
    let script = "git init -q -b main src && cd src && git config user.email a@b && git config user.name a && mkdir sub && echo one > sub/file && \
                  echo '#!/bin/sh' > run && chmod +x run && git add -A && git commit -qm 1 && git clone -q --bare . ../served.git && git rev-parse HEAD";
    let made = Command::new("sh").args(["-c", script]).current_dir(&world.folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let commit = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let address = crate::git::serve(&world.folder, true);
    let text = fs::read_to_string(world.folder.join("stead.kdl")).unwrap();
    let more = format!(
        "image \"at\" {{ from \"base\"; add git=\"{address}/served.git\" commit=\"{commit}\" folder=\"sub\" to=\"/src\" owner=\"33:33\"; label commit=\"{commit}\"; }}\n\
         image \"branch\" {{ dockerfile \"Dockerfile\" }}\n"
    );
    world.write("stead.kdl", &format!("{text}{more}"));
    world.write("Dockerfile", &format!("FROM base\nADD --keep-git-dir {address}/served.git#main /src/\n"));
    world.ok(&["build", "at", "branch"]);
    assert_eq!(shell(&world, "at", "ls /src; stat -c %u /src/file"), "file\n33");
    assert_eq!(
        shell(&world, "branch", "ls -A /src; cat /src/.git/HEAD; stat -c %a /src/run"),
        format!(".git\nrun\nsub\n{commit}\n755")
    );
    assert!(fs::read_to_string(world.folder.join("stead.lock")).unwrap().contains(&commit));
    let made_of = format!("\"uri\":\"git+{address}/served.git@{commit}\"");
    for image in ["at", "branch"] {
        let statement: String = world.ok(&["image", "provenance", image]).split_whitespace().collect();
        assert!(statement.contains(&made_of) && statement.contains(&format!("\"gitCommit\":\"{commit}\"")), "{statement}");
    }
}

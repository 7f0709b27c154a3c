//! The parsers: what each is given, and which function it calls. Each answers in words; new words mean a new behaviour.

use crate::seeds;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stead::tested::model::{Budget, Digest, Duration, Error, Floor, GitRepository, Mode, Name, Reference, Size, Subnet};
use stead::tested::spec::{Choices, Loaded, Sources};
use stead::tested::{build, debian, engine, git, image, lock, monitor, registry, runtime, spec, store};

/// Parses an input, and returns the answer in words.
type Run = Box<dyn Fn(&[u8]) -> String>;

pub struct Target {
    pub name: &'static str,
    pub seeds: Vec<Vec<u8>>,
    pub words: &'static [&'static str],
    /// Repairs checksums after a mutation, where the input would be refused at once otherwise.
    pub repair: fn(&mut [u8]),
    pub run: Run,
}

pub fn target(
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    run: impl Fn(&[u8]) -> String + 'static,
) -> Target {
    Target { name, seeds, words, repair: |_| {}, run: Box::new(run) }
}

fn tars(
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    run: impl Fn(&[u8]) -> String + 'static,
) -> Target {
    Target { repair: seeds::repair_sums, ..target(name, seeds, words, run) }
}

/// An outcome, in words.
pub fn said<T>(outcome: Result<T, Error>) -> String {
    outcome.map_or_else(|error| error.chain(), |_| "good".into())
}

/// A text's format has that format, and what is changed in a text can be read again.
fn formatted(text: &str) -> String {
    let Some(new) = spec::format(text) else { return "refused".into() };
    assert_eq!(spec::format(&new).as_ref(), Some(&new));
    let texts = BTreeMap::from([("stead.kdl".to_owned(), text.to_owned())]);
    let set = ["web.replicas", "c.env.A", "a.label.b", "app.workdir", "web.limits.pids"].map(|path| {
        let changed = spec::set(&texts, path, &["3".to_owned()]);
        changed.is_ok_and(|edit| {
            assert!(spec::format(&edit.text).is_some(), "{path}: {}", edit.text);
            edit.text != text
        })
    });
    format!("good {} {set:?}", new == text)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const KDL: &[&str] = &[
    "image ",
    "container ",
    "volume ",
    "network ",
    "include ",
    "param ",
    "profile ",
    "when ",
    "from ",
    "copy ",
    "run ",
    "add ",
    "debian ",
    "mount ",
    "publish ",
    "healthcheck ",
    "replicas ",
    "restart ",
    "on ",
    "exec ",
    "env ",
    "#true",
    "#null",
    "/-",
    "/*",
    "*/",
    "${A}",
    "\"\"\"",
    "#\"",
    "(u8)",
    "=",
    "{",
    "}",
    ";",
    "\\\n",
    "\u{feff}",
    "5m",
    "64MiB",
    "**/",
    "[!a-z]",
];
const DOCKERFILE: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ARG ",
    "ENV ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "SHELL ",
    "<<EOF\n",
    "EOF\n",
    "# escape=`\n",
    "# syntax=",
    "--mount=type=cache,target=/x",
    "--from=",
    "--chown=",
    "${A:-",
    "${A:+",
    "${A#*",
    "${A//",
    "}",
    "\\\n",
    "[\"",
    "\"]",
    "$$",
];
const TAR: &[&str] = &[
    "ustar",
    "ustar  \0",
    "../",
    "/",
    ".wh.",
    ".wh..wh..opq",
    "9 size=3\n",
    "30 size=18446744073709551615\n",
    "path=",
    "linkpath=",
    "GNU.sparse.major=1\n",
    "SCHILY.xattr.security.capability=",
    "L",
    "K",
    "x",
    "g",
    "S",
    "00000000000\0",
    "77777777777\0",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "null",
    "true",
    ":",
    ",",
    "\"size\":",
    "\"digest\":\"sha256:",
    "\"layers\":",
    "\"manifests\":",
    "\"config\":",
    "\"Healthcheck\":",
    "\"annotations\":",
    "\"platform\":",
    "\\u0000",
    "\\ud800",
    "1e308",
    "-0",
    "\"mediaType\":",
];
const GIT: &[&str] =
    &["100644 ", "40000 ", "120000 ", "160000 ", "\0@0", "\0@1", "tree #0\n", ".git", "..", "/", ".gitmodules", "\x0a\x0a\x0a"];
const CONTROL: &[&str] = &[
    "Package: ",
    "Version: ",
    "Depends: ",
    "Provides: ",
    "Conflicts: ",
    "Breaks: ",
    "Filename: ",
    "SHA256: ",
    "Size: ",
    "\n ",
    "\n\n",
    " | ",
    " (>= ",
    " (<< ",
    ":any",
    "1:",
    "~",
    "+b1",
    "Essential: yes\n",
    "Architecture: amd64\n",
];
const PGP: &[&str] = &[
    "-----BEGIN PGP SIGNED MESSAGE-----\n",
    "-----BEGIN PGP SIGNATURE-----\n",
    "Hash: SHA256\n",
    "\n\n",
    "- ",
    "=",
    "-----END PGP SIGNATURE-----\n",
];
const PROFILE: &[&str] = &[
    "\"defaultAction\":",
    "\"SCMP_ACT_ERRNO\"",
    "\"SCMP_ACT_ALLOW\"",
    "\"SCMP_ACT_NOTIFY\"",
    "\"syscalls\":",
    "\"names\":",
    "\"args\":",
    "\"SCMP_CMP_MASKED_EQ\"",
    "\"archMap\":",
    "\"includes\":",
    "\"caps\":",
    "\"CAP_SYS_ADMIN\"",
    "\"errnoRet\":",
    "\"SCMP_ARCH_X86_64\"",
];

/// A project in one text; every other file that it asks for has the text `other`, a Dockerfile or the project itself.
struct Texts<'t> {
    project: &'t str,
    other: &'t str,
}

impl Sources for Texts<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        match path {
            "stead.kdl" => Ok(self.project.to_owned()),
            "nowhere" => Err("it is not there".into()),
            _ => Ok(self.other.to_owned()),
        }
    }

    fn env(&self, name: &str) -> Option<std::ffi::OsString> {
        (name.len() < 4).then(|| "value".into())
    }
}

fn load(project: &str, other: &str) -> Loaded {
    spec::load("stead.kdl", &Choices::default(), &Texts { project, other })
}

fn findings(loaded: &Loaded) -> String {
    let kdl = loaded.project.as_ref().map_or(0, |project| spec::kdl(&project.images).len());
    let json = serde_json::to_vec(loaded.project.as_ref().unwrap_or_else(|partial| partial)).unwrap().len();
    let words: Vec<String> = loaded.diagnostics.iter().take(3).map(|found| format!("{found:?}")).collect();
    format!("{} {}", words.join(" "), if kdl + json > 4 { "good" } else { "" })
}

/// Makes an empty directory for one input.
fn fresh(folder: &Path) -> PathBuf {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    folder.to_owned()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Less than the program allows for an archive; another test checks the real limits.
const FLOOR: Floor = Floor { bytes: 4 << 20, entries: 2000, names: 1 << 20 };

/// All parsers of untrusted bytes.
pub fn all(scratch: &Path) -> Vec<Target> {
    let mut all = languages(scratch);
    all.extend(archives(scratch));
    all.extend(packages(scratch));
    all.extend(messages(scratch));
    all.extend(crate::records::all(scratch));
    all
}

fn languages(scratch: &Path) -> Vec<Target> {
    // Every file of these projects has the same text, so paths grow with each include.
    let nested = seeds::texts(&["include \"d/-/-/-/b.kdl\"\nvolume \"v\"\n", "include \"../a.kdl\"\ninclude \"./b/c.kdl\"\n"]);
    let projects = [seeds::files("tests/broken", ".kdl"), seeds::files("examples", ".kdl"), nested].concat();
    let locks = seeds::files("examples", "stead.lock");
    // Long lock files would only make each run slow.
    let locks = locks.into_iter().map(|lock| lock.into_iter().take(3000).collect()).collect();
    let context = scratch.join("context");
    fs::create_dir_all(context.join("dir/deep")).unwrap();
    for name in ["a.txt", "b.md", "dir/one.txt", "dir/deep/three"] {
        fs::write(context.join(name), name).unwrap();
    }
    let copies = load("project \"p\"\nimage \"a\" { copy \".\" to=\"/\" }\n", "").project.unwrap();
    vec![
        target("format", projects.clone(), KDL, |bytes| formatted(&text(bytes))),
        target("project", projects, KDL, |bytes| findings(&load(&text(bytes), &text(bytes)))),
        target("lock", locks, KDL, |bytes| match lock::parse(&text(bytes)) {
            Ok(found) => format!("good {}", lock::write(&found).len() > 100),
            Err(error) => error.message,
        }),
        target("dockerfile", seeds::dockerfiles(), DOCKERFILE, |bytes| {
            findings(&load("project \"p\"\nimage \"a\" { dockerfile \"Dockerfile\" { arg A=\"1\" } }\n", &text(bytes)))
        }),
        target(
            "ignore",
            seeds::texts(&["*.txt\n!a.txt\n# c\n/dir/**\n", "**/deep\n[a-c]*\n\\!x\n", "**/**/**/*a*a*a*a*b\n"]),
            &["**/", "*", "!", "?", "[a-", "]", "\\", "/", "\n", "#", "\u{feff}"],
            move |bytes| {
                fs::write(context.join(".dockerignore"), bytes).unwrap();
                let scanner = build::Scanner::scan(&context, &copies, build::ScanCache::default);
                match scanner.tree(&Name::parse("a").unwrap(), 0) {
                    Ok(tree) => format!("good {}", "x".repeat(tree.entries.len())),
                    Err(why) => why.to_owned(),
                }
            },
        ),
        target(
            "pattern",
            seeds::texts(&["**/*.md\na/b/c.md", "[!a-z]?*\nxyz", "*a*a*a*a*a*b\naaaaaaaaaaaaaaaaaaaa"]),
            &["**/", "*", "?", "[", "]", "!"],
            |bytes| {
                let text = text(bytes);
                let (pattern, path) = text.split_once('\n').unwrap_or((&text, &text));
                let (pattern, path): (String, String) = (pattern.chars().take(2000).collect(), path.chars().take(2000).collect());
                format!("good {}", stead::tested::model::pattern_matches(&pattern, &path))
            },
        ),
        target(
            "values",
            seeds::texts(&[
                "rghcr.io:5000/a/b:tag@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "s256MiB",
                "d90s",
                "mu=rwX,go-w+s",
                "n10.20.30.0/24",
                "ggit@github.com:o/r.git",
                "ghttps://u:p@h.org:8443/a.git",
                "aweb-1",
                "t2025-01-01T10:00:00.5+02:00",
                "pSIGRTMIN+3",
                "cCAP_NET_RAW",
            ]),
            &["sha256:", "@", "/", ":", "18446744073709551615", "h", "KiB", "../", "ssh://", "ext::", "+", "0x"],
            |bytes| values(&text(bytes)),
        ),
    ]
}

/// Parses a small value; its first letter selects the kind.
fn values(text: &str) -> String {
    let mut characters = text.chars();
    let kind = characters.next();
    let rest = characters.as_str();
    let told = |outcome: Result<String, String>| outcome.unwrap_or_else(|why| why);
    match kind {
        Some('r') => {
            told(Reference::parse(rest, "docker.io").map(|found| format!("good {} {}", found.name().len(), found.wanted().len())))
        }
        Some('s') => told(Size::parse(rest).map(|size| format!("good {size}"))),
        Some('d') => told(Duration::parse(rest).map(|span| format!("good {span} {:?}", std::time::Duration::from(span)))),
        Some('m') => {
            told(Mode::parse(rest).map(|mode| format!("good {} {}", mode.apply(0o644, false), mode.apply(0o7777, true))))
        }
        Some('n') => told(Subnet::parse(rest).map(|net| format!("good {} {} {net}", net.host(u32::MAX), net.hosts()))),
        Some('g') => {
            let (place, module) = rest.split_once('\n').unwrap_or((rest, "../x.git"));
            told(
                GitRepository::parse(place)
                    .map_err(|why| why.message)
                    .map(|place| format!("good {:?} {}", place.submodule(module).is_ok(), place.shown())),
            )
        }
        Some('a') => told(Name::parse(rest).map(|name| format!("good {name}"))),
        Some('t') => format!("time {:?}", stead::tested::model::parse_time(rest).is_some()),
        Some('c') => format!("capability {:?}", stead::tested::model::capability::number(rest)),
        _ => format!("signal {:?} {:?}", stead::tested::model::signal_number(rest).is_some(), Digest::parse(rest).is_some()),
    }
}

fn archives(scratch: &Path) -> Vec<Target> {
    let (tree, listing, layout, bundle) =
        (scratch.join("tree"), scratch.join("listing"), scratch.join("layout.tar"), scratch.join("bundle"));
    fs::create_dir_all(&bundle).unwrap();
    let (packs, objects) = (scratch.join("packs"), scratch.join("objects"));
    let unpack = move |bytes: &[u8], root: &Path, whiteouts: bool| {
        let root = fresh(root);
        let rules = image::Rules { latest: 1 << 30, owner: None, whiteouts, rootfs: whiteouts, folder_times: true };
        let budget = Arc::new(Budget::new(FLOOR));
        let write = || {
            let mut tree = image::Tree::new(&root, rules, budget.clone())?;
            let count = tree.write_listing(image::budgeted(bytes, &budget)?)?.len();
            tree.finish().map(|()| count)
        };
        match write() {
            Ok(count) => format!(
                "good {} {}",
                count > 0,
                image::digest_tree(&stead::tested::sys::Tree::open(&root).unwrap(), 1 << 30)
                    .map_or_else(|error| error.to_string(), |_| String::new())
            ),
            Err(error) => error.to_string(),
        }
    };
    vec![
        tars("tar to layer", seeds::tars(), TAR, move |bytes| unpack(bytes, &tree, true)),
        tars("tar to directory", seeds::tars(), TAR, move |bytes| unpack(bytes, &listing, false)),
        target(
            "pax records",
            seeds::texts(&[
                &seeds::record("path", "a/b"),
                &[seeds::record("size", "3"), seeds::record("mtime", "-1.5")].concat(),
                "25 comment=x size=700000\n",
            ]),
            TAR,
            |bytes| {
                let bytes = &bytes[..bytes.len().min(60_000)];
                let whole =
                    [seeds::entry(b'x', "r", "", bytes), seeds::entry(b'0', "f", "", b"text"), seeds::entry(b'0', "g", "", b"")]
                        .concat();
                let mut entries = image::Entries::new(&whole[..]);
                let mut sum = 0;
                loop {
                    match entries.next_entry() {
                        Ok(Some(entry)) => {
                            // Whatever the records say, an entry's content is as long as its size, or it is an error.
                            let mut content = Vec::new();
                            let read = entries.read_to_end(&mut content);
                            assert!(read.is_err() || content.len() as u64 == entry.size);
                            sum += content.len();
                        }
                        Ok(None) => return format!("good {}", sum > 4),
                        Err(error) => return error.to_string(),
                    }
                }
            },
        ),
        target("manifest", seeds::images(), JSON, |bytes| {
            let digest = Digest::of(b"x");
            let all = [
                said(image::Manifest::read(bytes)),
                said(image::for_platform(bytes)),
                said(image::parse(bytes)),
                said(image::signatures(bytes)),
                said(image::check_payload(bytes, &digest)),
                said(image::may_be_bundles(bytes)),
            ];
            format!(
                "{} {} {}",
                all.join(" ").chars().filter(|c| !c.is_ascii_digit()).take(400).collect::<String>(),
                image::platforms(bytes).len(),
                image::bundles_in(bytes).len()
            )
        }),
        tars("image archive", seeds::archives(), JSON, move |bytes| {
            fs::write(&layout, bytes).unwrap();
            let archive = match image::Archive::open(&layout) {
                Ok(archive) => archive,
                Err(error) => return error.chain().replace(&layout.display().to_string(), ""),
            };
            let names = archive.names().map_or(0, |names| names.len());
            let found = archive.image(None).and_then(|image| image.config());
            format!("{names} {}", said(found).replace(&layout.display().to_string(), ""))
        }),
        tars("bundle", seeds::bundles(), JSON, move |bytes| {
            let home = fresh(&bundle.join("home"));
            let path = bundle.join("a.stead");
            fs::write(&path, bytes).unwrap();
            let is = engine::is_bundle(&path);
            let home = store::Home::find(Some(&home));
            format!("{is} {}", said(engine::unbundle(&home, &path)).replace(&bundle.display().to_string(), ""))
        }),
        target("git pack", seeds::objects().iter().map(|objects| seeds::pack(objects)).collect(), GIT, move |bytes| {
            said(git::check_out_pack(file(bytes), &fresh(&packs)))
        }),
        target("git objects", seeds::objects(), GIT, move |bytes| {
            said(git::check_out_pack(file(&seeds::pack(bytes)), &fresh(&objects)))
        }),
        target(
            "git lines",
            seeds::texts(&[
                "000dversion 20000",
                "001e# service=git-upload-pack\n0000",
                "0008ERR no0000",
                "ffff",
                "0004000400040000",
            ]),
            &["0000", "0001", "0004", "ffff", "ERR "],
            |bytes| said(git::read_lines(bytes)),
        ),
    ]
}

fn packages(scratch: &Path) -> Vec<Target> {
    let (deb, root) = (scratch.join("a.deb"), scratch.join("deb"));
    let key = scratch.join("key.gpg");
    let keys: Vec<Vec<u8>> = seeds::files("src/debian/keys", ".gpg").into_iter().take(3).collect();
    let shipped = debian::Keyring::shipped().unwrap();
    let stanza = "Package: a\nVersion: 1:2.0~rc1-1+b2\nArchitecture: amd64\nDepends: b (>= 1.0) | c, d:any (<< 3)\nProvides: e (= 2)\nConflicts: f\nFilename: pool/a.deb\nSize: 10\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n";
    let other = stanza.replace("Package: a", "Package: b").replace("Depends: b", "Depends: a");
    vec![
        tars("deb", seeds::debs(), CONTROL, move |bytes| {
            fs::write(&deb, bytes).unwrap();
            let root = fresh(&root);
            let package = lock::LockedPackage {
                name: "a".into(),
                version: "1".into(),
                architecture: "amd64".into(),
                sha256: Digest::of(bytes),
                size: bytes.len() as u64,
                path: "pool/a.deb".into(),
                repository: None,
            };
            let needs = debian::needs(&deb).map_or_else(|error| error.chain(), |needs| needs.name.len().to_string());
            let unpacked = debian::unpack_for_dpkg(&[&package], std::slice::from_ref(&deb), &root, 1);
            format!("{} {needs}", said(unpacked)).replace(&root.display().to_string(), "").replace(&deb.display().to_string(), "")
        }),
        target("packages", vec![stanza.as_bytes().to_vec(), format!("{stanza}{other}").into_bytes()], CONTROL, |bytes| {
            let text = text(bytes);
            let found = lock::packages(&text, "amd64");
            let versions: Vec<&str> = found.iter().map(|package| package.version.as_str()).collect();
            let order = versions.iter().max_by(|one, other| lock::compare(one, other)).map_or(0, |version| version.len());
            let universe = lock::Universe::new(found);
            let wanted = ["a".to_owned()];
            let none = BTreeMap::new();
            let request = lock::Request { packages: &wanted, essential: true, recommends: false, keep: &none, pins: &none };
            let solved = universe.solve(&request).map(|found| found.len());
            format!("{solved:?} {} {}", order > 0, lock::relations(&text).len().min(9))
        }),
        target(
            "versions",
            seeds::texts(&["1:2.0-1\n2.0~rc1", "18446744073709551616:1\n0", "1.0+b1\n1.0"]),
            &["~", ":", "-", "+", "."],
            |bytes| {
                let text = text(bytes);
                let (one, other) = text.split_once('\n').unwrap_or((&text, ""));
                assert_eq!(lock::compare(one, other), lock::compare(other, one).reverse());
                format!("{:?}", lock::compare(one, other))
            },
        ),
        target("clearsigned", seeds::signed(&keys), PGP, move |bytes| {
            let place = stead::tested::fetch::Origin::parse("https://example.org/debian", Path::new("/"));
            let archive = debian::Archive { place, suite: "bookworm".into(), need: debian::Need::Required };
            said(debian::Release::verify(&archive, bytes, &shipped, debian::Moment::Now(1_700_000_000)))
        }),
        target("openpgp keys", keys, PGP, move |bytes| {
            fs::write(&key, bytes).unwrap();
            said(debian::Keyring::file(key.parent().unwrap(), Path::new("key.gpg"))).replace(&key.display().to_string(), "")
        }),
        target(
            "elf",
            vec![fs::read("/proc/self/exe").unwrap().into_iter().take(4096).collect()],
            &["\x7fELF\u{2}\u{1}"],
            |bytes| format!("{:?}", debian::soname(&file(bytes)).is_some()),
        ),
    ]
}

fn messages(scratch: &Path) -> Vec<Target> {
    let (filters, logs, run) = (fresh(&scratch.join("filters")), fresh(&scratch.join("logs")), fresh(&scratch.join("run")));
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["read","clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}],"includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{}}]}"#;
    let status = r#"{"state":"running","health":"healthy","health_output":"","pid":1,"monitor":2,"restarts":0,"started_at":1,"finished_at":null,"exit_code":null,"error":null,"out_of_memory":false,"stopped":false,"boot":"b"}"#;
    let request = r#"{"op":"stop","signal":15,"grace":500}"#;
    let exec = r#"{"op":"exec","spec":{"process":{"args":["sh"],"env":{},"user":"","tty":false},"size":null}}"#;
    let line = "2025-01-01T00:00:00.000000000Z stdout F text\n2025-01-01T00:00:01.000000000Z stderr P part\n2025-01-01T00:00:01.000000000Z stderr F end\n";
    vec![
        target("sigstore bundle", seeds::sigstore(), JSON, {
            let key = seeds::keys().iter().find_map(|key| image::PublicKey::parse(&text(key)).ok()).unwrap();
            move |bytes| image::check_bundle(bytes, &key, &Digest::of(b"x")).map_or_else(|error| error.chain(), |claim| format!("{claim:?}"))
        }),
        target("public key", seeds::keys(), &["-----BEGIN PUBLIC KEY-----\n", "-----END PUBLIC KEY-----", "MFkw", "=", "\n"], |bytes| {
            match image::PublicKey::parse(&text(bytes)) {
                Ok(key) => format!("good {}", key.verifies(b"text", bytes)),
                Err(error) => error.chain(),
            }
        }),
        target(
            "http answers",
            seeds::texts(&[
                "Bearer realm=\"https://a.org/token\",service=\"a\",scope=\"repository:a/b:pull\"",
                "Basic realm=x, Bearer realm=\"y\\\"z\"", "120", "Wed, 21 Oct 2026 07:28:00 GMT", "</v2/a/tags/list?n=5&last=b>; rel=\"next\"", "bytes 0-9/10",
            ]),
            &["Bearer ", "realm=", "\"", "\\", ",", "<", ">; rel=\"next\"", "bytes ", "-", "GMT", "18446744073709551615"],
            |bytes| {
                let text = text(bytes);
                let mut headers = reqwest::header::HeaderMap::new();
                let value = reqwest::header::HeaderValue::from_bytes(bytes);
                let wait = value.ok().and_then(|value| {
                    headers.insert("retry-after", value);
                    registry::retry_after(&headers)
                });
                let asked = reqwest::Url::parse("https://a.org/v2/").unwrap();
                let challenges = registry::challenges(&text);
                let realm = challenges.iter().filter_map(|one| one.value("realm")).count();
                format!("{} {} {:?} {:?} {:?}", "x".repeat(challenges.len().min(20)), "y".repeat(realm.min(9)), wait.is_some(), registry::next_page(&text, &asked).is_some(), registry::starts_at(&text).is_some())
            },
        ),
        target("seccomp profile", seeds::texts(&[profile]), PROFILE, move |bytes| {
            match runtime::seccomp::Profile::parse(&text(bytes), 0) {
                Ok(profile) => {
                    let filter = runtime::seccomp::compile(&profile);
                    // An instruction of a filter has eight bytes, and the kernel takes 4096 of them.
                    format!("good {} {} {:?}", filter.len() % 8, profile.notifies(), runtime::seccomp::keep(&filters, Some(&text(bytes)), 0).is_ok())
                }
                Err(why) => why,
            }
        }),
        target(
            "users",
            vec![b"root:x:0:0:root:/root:/bin/sh\napp:x:1500:1500:Jos\xe9:/home/app:\nshort:x:1600:1600\n\x01root:x:0:\naudio:x:29:app\n\x01app:audio".to_vec()],
            &[":x:", "0:0", "app", "\n", "4294967295", "4294967296", "\x01", ",", "+"],
            |bytes| {
                let mut parts = bytes.splitn(3, |byte| *byte == 1);
                let (passwd, group, user) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or(b"app"));
                runtime::identity_in(passwd, group, &text(user), &["audio".into()]).map_or_else(|error| error.to_string(), |found| format!("good {:?}", found.groups.len().min(5)))
            },
        ),
        target("monitor messages", seeds::texts(&[request, exec, status, r#"{"op":"wait"}"#, r#"{"started":true,"exit":3}"#]), &["\"op\":", "\"exec\"", "\"limits\"", "null", "{", "["], move |bytes| {
            let asked = serde_json::from_slice::<monitor::Request>(bytes).map_or_else(|error| error.to_string(), |_| "good".into());
            fs::write(run.join("status.json"), bytes).unwrap();
            fs::write(run.join("spec.json"), bytes).unwrap();
            let folder = monitor::Folder::at(&run);
            format!("{asked} {:?} {:?}", folder.status().is_some(), folder.spec().is_ok_and(|spec| spec.is_some()))
        }),
        target("log lines", seeds::texts(&[line, "", "2025-01-01T00:00:00Z stdout"]), &["stdout ", "stderr ", " F ", " P ", "\n", "Z", "2025-01-01T00:00:00.000000000Z"], move |bytes| {
            fs::create_dir_all(logs.join("1")).unwrap();
            fs::write(logs.join("1/1.log"), bytes).unwrap();
            let mut tail = monitor::Tail::new(&logs);
            let mut count = 0;
            while tail.next_line().is_some() {
                count += 1;
            }
            let mut last = monitor::Tail::new(&logs);
            last.skip_to_last(3);
            format!("good {} {}", "x".repeat(count.min(20)), monitor::last_lines(&logs, 0, 2).len())
        }),
    ]
}

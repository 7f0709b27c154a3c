//! Dockerfiles, built by us and by buildah: the same files, the same configuration.

use crate::world::{World, is_root, skip};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A buildah with a storage of its own.
struct Buildah {
    folder: PathBuf,
}

impl Buildah {
    fn run(&self, args: &[&str]) -> Output {
        let at = |name: &str| self.folder.join(name).display().to_string();
        Command::new("buildah")
            .args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "overlay"])
            .args(args)
            .output()
            .unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "buildah {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        self.run(&["rm", "--all"]);
        let script = format!(
            "umount {0}/merged-* 2>/dev/null; umount -R {0}/root/overlay 2>/dev/null; rm -rf {0} /var/tmp/buildah-cache",
            self.folder.display()
        );
        let _ = Command::new("sh").args(["-c", &script]).status();
    }
}

/// The cases of the data files, by name.
fn cases() -> Vec<(String, String)> {
    let texts = [
        include_str!("../dockerfiles/cases.txt"),
        include_str!("../dockerfiles/more.txt"),
        include_str!("../dockerfiles/buildkit.txt"),
    ];
    let cases = texts.into_iter().flat_map(|text| text.split("=== ").skip(1)).filter_map(|case| case.split_once('\n'));
    cases.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn context(world: &World) {
    for (path, mode) in [
        ("a.txt", 0o644),
        ("b.md", 0o644),
        ("run.sh", 0o755),
        ("private", 0o600),
        ("dir/one.txt", 0o644),
        ("dir/two.md", 0o664),
        ("dir/deep/three.txt", 0o644),
    ] {
        let text = if path == "run.sh" { "#!/bin/sh\necho ran\n".to_owned() } else { format!("this is {path}\n") };
        world.write(&format!("ctx/{path}"), &text);
        fs::set_permissions(world.folder.join("ctx").join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("a.txt", world.folder.join("ctx/link")).unwrap();
    fs::create_dir(world.folder.join("ctx/empty")).unwrap();
    world.write("ctx/not-archive.tar.gz", "this is no archive\n");
    let script = "umask 022; mkdir -p t/app/bin t/app/etc t/data/y && cd t && printf '#!/bin/sh\\necho tool\\n' > app/bin/tool && chmod 755 app/bin/tool && \
                  echo conf > app/etc/conf && ln -s etc/conf app/link && echo x > data/x.txt && echo z > data/y/z.txt && \
                  tar --owner=1000 --group=1000 --mtime=@1000000000 -czf ../ctx/app.tar.gz app && \
                  for kind in plain.tar: data.tar.xz:-J data.tar.bz2:-j data.tar.zst:--zstd; do \
                  tar --owner=0 --group=0 --mtime=@1000000000 ${kind#*:} -cf ../ctx/${kind%%:*} data; done && rm -r ../t";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&world.folder).status().unwrap().success());
    world.write("token", "s3cret");
}

/// All paths of a tree with kind, mode, owner, and size or target; files outside /usr also with their digest.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let script = "find . -mindepth 1 \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run \\) -prune -o -printf '%P\\t%y %m %U:%G %l ' -a \\( -type f -printf '%s' -o -true \\) -printf '\\n'; \
                  find . -path ./usr -prune -o -type f -links -9 -exec sha256sum {} +";
    let out = Command::new("sh").args(["-c", script]).current_dir(root).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((path, rest)) = line.split_once('\t') {
            found.insert(path.to_owned(), rest.trim().to_owned());
        } else if let Some((digest, path)) = line.split_once("  ./") {
            found.insert(format!("{path} (content)"), digest.to_owned());
        }
    }
    found
}

/// The parts of a configuration that matter, in the same form for both tools.
fn normal(config: &serde_json::Value) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    for key in ["Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "StopSignal", "Healthcheck", "OnBuild"] {
        let value = &config[key];
        let mut value = value.clone();
        if let Some(health) = value.as_object_mut().filter(|_| key == "Healthcheck") {
            // One tool writes these defaults, and the other leaves them out.
            health.retain(|name, _| !name.starts_with("Start"));
            // The tools write the same test in two ways.
            let words: Vec<String> = serde_json::from_value(health["Test"].clone()).unwrap_or_default();
            if let [kind, shell, flag, line] = words.as_slice()
                && (kind.as_str(), shell.as_str(), flag.as_str()) == ("CMD", "/bin/sh", "-c")
            {
                health.insert("Test".into(), serde_json::json!(["CMD-SHELL", line]));
            }
        }
        let empty = value.is_null()
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_str() == Some("")
            || value.as_array().is_some_and(Vec::is_empty);
        let root = key == "WorkingDir" && value == "/";
        if !empty && !root {
            found.insert(key, value.to_string());
        }
    }
    let mut env: Vec<&str> = config["Env"].as_array().into_iter().flatten().filter_map(|pair| pair.as_str()).collect();
    // Docker's PATH applies whether it is written or not.
    env.retain(|pair| *pair != "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    env.sort_unstable();
    found.insert("Env", format!("{env:?}"));
    let labels: BTreeMap<String, String> = config["Labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.starts_with("io.buildah"))
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect();
    found.insert("Labels", format!("{labels:?}"));
    found
}

#[test]
fn dockerfiles_build_as_buildah_builds_them() {
    if !is_root() {
        return;
    }
    if Command::new("buildah").arg("--version").output().is_err() {
        skip("buildah is not installed");
        return;
    }
    // Buildah takes a second for each case, so this compares every fourth one with it, in CI every second one.
    let step = if std::env::var_os("CI").is_some() { 2 } else { 4 };
    let cases = cases().into_iter().enumerate();
    let cases = cases.filter(|(number, (_, text))| number % step == 0 || text.starts_with("#="));
    let cases: Vec<(String, String)> = cases.map(|(_, case)| case).collect();
    let images: String = cases
        .iter()
        .map(|(name, _)| format!("image \"x-{name}\" {{ dockerfile \"cases/{name}/Dockerfile\" context=\"ctx\" }}\n"))
        .collect();
    let world = World::new("dockerfiles", &format!("secret \"token\" file=\"token\"\n{images}"));
    context(&world);
    for (name, text) in &cases {
        world.write(&format!("cases/{name}/Dockerfile"), text);
    }
    let told = world.ok(&["build"]);
    let built: BTreeMap<&str, &str> = told.lines().filter_map(|line| line.split_once(' ')).collect();
    let buildah = Buildah { folder: PathBuf::from(format!("/tmp/stead-buildah-{}", std::process::id())) };
    fs::create_dir_all(&buildah.folder).unwrap();
    let layers = |image: &str| -> Vec<PathBuf> {
        let manifest = blob(&world, built[image]);
        manifest["layers"].as_array().unwrap().iter().map(|layer| layer_of(&world, layer["digest"].as_str().unwrap())).collect()
    };
    let base = layers("base");
    let container = buildah.ok(&["from", "scratch"]);
    let mounted = buildah.ok(&["mount", &container]);
    assert!(Command::new("cp").args(["-a", &format!("{}/.", base[0].display()), &mounted]).status().unwrap().success());
    buildah.ok(&["umount", &container]);
    buildah.ok(&["commit", "-q", &container, "localhost/base"]);
    let before = listing(&base[0]);
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let compare = |name: &str, text: &str| -> Vec<String> {
        let ours = ours(&buildah.folder, name, layers(&format!("x-{name}")), text);
        let (ours, alone) = match ours {
            Ok(ours) => ours,
            Err(wrong) => return wrong,
        };
        if alone {
            return Vec::new();
        }
        let (theirs, inspected) = match theirs(&buildah, &world, name) {
            Ok(theirs) => theirs,
            Err(why) => return vec![why],
        };
        let mut wrong = Vec::new();
        let paths = ours.keys().chain(theirs.keys()).collect::<std::collections::BTreeSet<_>>();
        for path in paths {
            let (our, their) = (ours.get(path), theirs.get(path));
            let told = |one: Option<&String>| one.cloned().unwrap_or_else(|| "nothing".into());
            if our != their && !expected(path, before.get(path), our, their) {
                wrong.push(format!("{name}: {path}: ours {}, buildah's {}", told(our), told(their)));
            }
        }
        let manifest = blob(&world, built[format!("x-{name}").as_str()]);
        let config = blob(&world, manifest["config"]["digest"].as_str().unwrap());
        let (our, their) = (normal(&config["config"]), normal(&inspected["Docker"]["config"]));
        if our != their {
            wrong.push(format!("{name}: ours {our:?}\n    buildah's {their:?}"));
        }
        wrong
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, text)) = cases.get(number) else { return };
                    wrong.lock().unwrap().extend(compare(name, text));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

type Listing = BTreeMap<String, String>;

/// The files that we built for a case, and whether buildah cannot build it; or the files that are not as expected.
fn ours(folder: &Path, name: &str, mut layers: Vec<PathBuf>, text: &str) -> Result<(Listing, bool), Vec<String>> {
    let (merged, empty) = (folder.join(format!("merged-{name}")), folder.join("empty"));
    fs::create_dir_all(&merged).unwrap();
    fs::create_dir_all(&empty).unwrap();
    layers.reverse();
    // The kernel refuses a layer that is given twice; the upper one hides the lower one.
    let mut seen = std::collections::BTreeSet::new();
    layers.retain(|layer| seen.insert(layer.clone()));
    // A single lower directory does not make an overlay.
    layers.push(empty);
    let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let mount = ["-t", "overlay", "-o", &format!("lowerdir={}", lower.join(":")), "x", merged.to_str().unwrap()];
    assert!(Command::new("mount").args(mount).status().unwrap().success(), "{mount:?}");
    let found = listing(&merged);
    let lines = text.lines().filter_map(|line| line.strip_prefix("#= ")?.split_once(' '));
    let wanted: Vec<(&str, &str)> = lines.collect();
    let held = |path: &str| fs::read_to_string(merged.join(path.trim_start_matches('/'))).unwrap_or_default();
    let lacks =
        wanted.iter().map(|(path, wanted)| (path, held(path), wanted)).filter(|(_, held, wanted)| held.trim_end() != **wanted);
    let wrong: Vec<String> = lacks.map(|(path, held, _)| format!("{name}: {path} holds {held:?}")).collect();
    assert!(Command::new("umount").arg(&merged).status().unwrap().success());
    fs::remove_dir(&merged).unwrap();
    if wrong.is_empty() { Ok((found, !wanted.is_empty())) } else { Err(wrong) }
}

/// The files that buildah built for a case, and the image's configuration.
fn theirs(buildah: &Buildah, world: &World, name: &str) -> Result<(Listing, serde_json::Value), String> {
    let tag = format!("localhost/x-{name}");
    let args = ["bud", "-q", "--isolation", "chroot", "--layers=false", "--pull-never", "--format", "docker", "--secret"];
    let at = |path: &str| world.folder.join(path).display().to_string();
    let (secret, file, context) = (format!("id=token,src={}", at("token")), at(&format!("cases/{name}/Dockerfile")), at("ctx"));
    let build = || buildah.run(&[&args[..], &[&secret, "-f", &file, "-t", &tag, &context]].concat());
    let mut made = build();
    // buildah cannot always seal the copy of itself in memory at the first try.
    if String::from_utf8_lossy(&made.stderr).contains("sealing memfd") {
        made = build();
    }
    if !made.status.success() {
        return Err(format!("{name}: buildah refuses it: {}", String::from_utf8_lossy(&made.stderr).trim()));
    }
    let container = buildah.ok(&["from", "--pull-never", &tag]);
    let files = listing(Path::new(&buildah.ok(&["mount", &container])));
    let inspected = serde_json::from_str(&buildah.ok(&["inspect", "--type", "image", &tag])).unwrap();
    buildah.ok(&["rm", &container]);
    Ok((files, inspected))
}

/// Differences that only buildah causes.
fn expected(path: &str, before: Option<&String>, ours: Option<&String>, theirs: Option<&String>) -> bool {
    // buildah leaves the files that it mounts over, and makes the directories of volumes.
    let mounted = ["etc/hosts", "etc/resolv.conf", "etc/hostname"].iter().any(|own| path.starts_with(own)) && ours == before;
    let volume =
        ["data", "x", "one", "two"].contains(&path) && ours.is_none() && theirs.is_some_and(|found| found == "d 755 0:0");
    mounted || volume
}

fn blob(world: &World, digest: &str) -> serde_json::Value {
    let path = world.root.join("store/blobs").join(digest.trim_start_matches("sha256:"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn layer_of(world: &World, digest: &str) -> PathBuf {
    world.root.join("store/layers").join(digest.trim_start_matches("sha256:"))
}

#[test]
fn umoci_and_diffoscope_see_no_difference() {
    if !is_root() {
        return;
    }
    if ["buildah", "umoci", "diffoscope"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        skip("buildah, umoci or diffoscope is not installed");
        return;
    }
    let world = World::new("diffoscope", "image \"app\" { dockerfile \"ctx/Dockerfile\" context=\"ctx\" }\n");
    context(&world);
    let text = "FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nCOPY busybox /bin/sh\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n\
                WORKDIR /srv\nCOPY --chown=7:8 dir dir\nADD app.tar.gz /opt/\nRUN /bin/busybox ln -s dir/one.txt link && /bin/busybox rm dir/two.md && /bin/busybox mkdir -p a/b\n\
                RUN --mount=type=cache,target=/c /bin/busybox cp dir/one.txt a/b/\nENV X=1\nCMD [\"/bin/sh\"]\n";
    world.write("ctx/Dockerfile", text);
    let told = world.ok(&["build", "base"]);
    let base = blob(&world, told.trim().rsplit(' ').next().unwrap());
    let layer = layer_of(&world, base["layers"][0]["digest"].as_str().unwrap());
    fs::copy(layer.join("usr/bin/busybox"), world.folder.join("ctx/busybox")).unwrap();
    fs::set_permissions(world.folder.join("ctx/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    world.ok(&["build", "app"]);
    world.ok(&["save", "app", "-o", "ours.tar"]);
    let buildah = Buildah { folder: PathBuf::from(format!("/tmp/stead-diffoscope-{}", std::process::id())) };
    fs::create_dir_all(&buildah.folder).unwrap();
    let at = |path: &str| world.folder.join(path).display().to_string();
    buildah.ok(&[
        "bud",
        "-q",
        "--isolation",
        "chroot",
        "--format",
        "oci",
        "-f",
        &at("ctx/Dockerfile"),
        "-t",
        "localhost/x",
        &at("ctx"),
    ]);
    buildah.ok(&["push", "-q", "localhost/x", &format!("oci-archive:{}:app", at("theirs.tar"))]);
    // buildah leaves the files that it mounts over.
    let script = "set -e; for w in ours theirs; do mkdir $w; tar -xf $w.tar -C $w; umoci unpack --image $w:app $w.bundle; rmdir $w.bundle/rootfs/proc $w.bundle/rootfs/sys $w.bundle/rootfs/dev $w.bundle/rootfs/run 2>/dev/null || true; done; \
                  cd theirs.bundle/rootfs/etc && rm hosts hostname resolv.conf && cd ../../.. && rmdir theirs.bundle/rootfs/etc; test ! -e ours.bundle/rootfs/etc; \
                  diffoscope --no-progress --exclude-directory-metadata=yes ours.bundle/rootfs theirs.bundle/rootfs";
    let compared = Command::new("sh").args(["-c", script]).current_dir(&world.folder).output().unwrap();
    assert!(
        compared.status.success(),
        "{}{}",
        String::from_utf8_lossy(&compared.stdout),
        String::from_utf8_lossy(&compared.stderr)
    );
}

#[test]
fn a_linked_copy_does_not_look_at_what_is_below_it() {
    if !is_root() {
        return;
    }
    let world = World::new("linked", "image \"app\" { dockerfile \"ctx/Dockerfile\" context=\"ctx\" }\n");
    context(&world);
    let text = "FROM base\nRUN mkdir -p /srv/conf/d /srv/into /srv/twin /opt/real /opt/tar && echo old > /srv/conf/d/old && ln -s /opt/real /srv/link && ln -s /opt/tar /srv/tar\n\
                COPY --link a.txt /srv/conf\nCOPY --link --from=0 /etc/passwd /srv/twin\nCOPY --link a.txt /srv/link/\nADD --link app.tar.gz /srv/tar\n\
                COPY a.txt /srv/into\nCOPY --link --chmod=600 b.md /srv/into\nCOPY --link --chown=www-data dir /srv/owned/\n\
                RUN test -f /srv/conf && test -f /srv/twin\n";
    world.write("ctx/Dockerfile", &text.replacen("FROM base\n", "FROM base\nFROM base\n", 1));
    world.ok(&["build", "app"]);
    let said = |script: &str| world.ok(&["run", "-T", "app", "sh", "-c", script]);
    // A file takes the place of a directory, and directories that of links.
    assert_eq!(said("cat /srv/conf; head -c 4 /srv/twin"), "this is a.txt\nroot");
    assert_eq!(said("cat /srv/link/a.txt; test ! -L /srv/link; echo $?; ls /opt/real"), "this is a.txt\n0\n");
    assert_eq!(said("cat /srv/tar/app/etc/conf; test ! -L /srv/tar; echo $?; ls /opt/tar"), "conf\n0\n");
    // Without it, and with permissions, which make BuildKit look, too, a file goes into a directory.
    assert_eq!(said("cat /srv/into/a.txt; stat -c %a /srv/into/b.md"), "this is a.txt\n600\n");
    assert_eq!(said("stat -c %U /srv/owned/one.txt"), "www-data\n");
    // What `convert` prints means the same.
    let nodes = world.ok(&["convert", "dockerfile", "ctx/Dockerfile", "--context", "ctx"]);
    assert!(nodes.contains("copy \"a.txt\" to=\"/srv/conf\"") && nodes.contains("link=#true"), "{nodes}");
}

#[test]
fn the_maintainer_is_the_author_and_is_inherited() {
    if !is_root() {
        return;
    }
    let nodes = "image \"app\" { dockerfile \"Dockerfile\" }\nimage \"above\" { from \"app\"; label a=\"b\"; }\nimage \"own\" { from \"app\"; author \"Me\"; }\n";
    let world = World::new("maintainer", nodes);
    world.write("Dockerfile", "FROM base AS one\nMAINTAINER Jo <jo@example.org>\nFROM one\nENV A=1\n");
    world.ok(&["build"]);
    for (image, author) in [("app", "Jo <jo@example.org>"), ("above", "Jo <jo@example.org>"), ("own", "Me")] {
        let found: serde_json::Value = serde_json::from_str(&world.ok(&["image", "inspect", image])).unwrap();
        assert_eq!((&found["config"]["author"], found["config"]["config"]["Labels"].get("maintainer")), (&author.into(), None));
    }
    let converted = world.ok(&["convert", "dockerfile", "Dockerfile"]);
    assert!(converted.contains("author \"Jo <jo@example.org>\""), "{converted}");
}

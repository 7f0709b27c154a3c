//! The common setup of the attacks: a world whose image `box` is a static busybox with small static programs.

use crate::world::{World, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// The last nodes of a container that only has to run.
pub const SLEEP: &str = r#"stop-grace "50ms"; cmd "sleep" "1000""#;

/// A world that declares `image "box"`: busybox, and these programs from `tools/` in its `/bin`.
pub fn ground(name: &str, tools: &[&str], project: &str) -> World {
    let text = format!("project \"{name}\"\nimage \"box\" {{ copy \"box/\" to=\"/\"; env PATH=\"/bin\"; }}\n{project}");
    let world = World::bare(&format!("attack-{name}"), &text);
    let bin = world.folder.join("box/bin");
    for folder in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(world.folder.join("box").join(folder)).unwrap();
    }
    world.write("box/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n");
    world.write("box/etc/group", "root:x:0:\nnobody:x:65534:\n");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| fs::exists(path).unwrap()).expect("busybox-static");
    fs::copy(busybox, bin.join("busybox")).unwrap();
    let list = Command::new(busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    for tool in tools {
        fs::copy(self::tool(tool), bin.join(tool)).unwrap();
    }
    world
}

/// A static program made from `tools/NAME.c`; `STEAD_ATTACK_TOOLS` names a directory with ready-made ones.
pub fn tool(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("STEAD_ATTACK_TOOLS") {
        return PathBuf::from(folder).join(name);
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/tools").join(format!("{name}.c"));
    let made = scratch().join("tools").join(name);
    fs::create_dir_all(made.parent().unwrap()).unwrap();
    let fresh = || Some(fs::metadata(&made).ok()?.modified().ok()? >= fs::metadata(&source).ok()?.modified().ok()?);
    if fresh() != Some(true) {
        let part = made.with_extension(std::process::id().to_string());
        let done = Command::new("gcc").args(["-static", "-O1", "-Wall", "-o"]).args([&part, &source]).status().unwrap();
        assert!(done.success(), "{name}.c does not compile");
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(part, &made).unwrap();
    }
    made
}

/// A directory of the host beside the project that no container may touch, with one file that only root can read.
pub fn canary(world: &World) -> PathBuf {
    let folder = world.folder.with_file_name("canary");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("secret"), "the host's secret").unwrap();
    fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Lists everything below a directory: kind, mode, owner, size, digest of the content. If two listings are equal,
/// nothing was touched in between.
pub fn listing(folder: &std::path::Path) -> String {
    let script = "find . -printf '%p %y %m %U:%G %s %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum";
    let out = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// How often a race is tried. `STEAD_ATTACK_TRIES` gives a slow machine fewer tries, of the same kind.
pub fn tries() -> usize {
    std::env::var("STEAD_ATTACK_TRIES").ok().map_or(60, |text| text.parse().unwrap())
}

/// Whether attacks that need root can run.
pub fn is_root() -> bool {
    crate::world::is_root()
}

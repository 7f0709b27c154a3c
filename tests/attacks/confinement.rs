//! The OCI runtime: what a configuration asks for is applied or refused, never ignored silently.

use crate::ground::{ground, is_root, tries};
use crate::world::{World, stead};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A bundle with the world's image; `change` edits its configuration.
fn bundle(world: &World, change: impl Fn(&mut serde_json::Value)) -> PathBuf {
    let folder = world.folder.with_file_name("bundle");
    if !folder.exists() {
        fs::create_dir_all(folder.join("rootfs")).unwrap();
        crate::world::copy_folder(&world.folder.join("box/etc"), &folder.join("rootfs/etc"));
        assert!(
            Command::new("cp")
                .args(["-a"])
                .arg(world.folder.join("box/bin"))
                .arg(folder.join("rootfs/"))
                .status()
                .unwrap()
                .success()
        );
    }
    let _ = fs::remove_file(folder.join("config.json"));
    assert!(Command::new(stead()).args(["oci", "spec", "--bundle"]).arg(&folder).status().unwrap().success());
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["env"] = serde_json::json!(["PATH=/bin"]);
    change(&mut config);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

fn run(world: &World, bundle: &PathBuf) -> Output {
    let root = world.folder.with_file_name("oci");
    Command::new(stead()).args(["oci", "--root"]).arg(root).args(["run", "--bundle"]).arg(bundle).arg("attack").output().unwrap()
}

#[test]
fn labels_are_applied_or_refused() {
    if !is_root() {
        return;
    }
    let world = ground("labels", &[], "");
    let active = |path: &str, word: &str| fs::read_to_string(path).is_ok_and(|text| text.starts_with(word));
    let apparmor = active("/sys/module/apparmor/parameters/enabled", "Y");
    let selinux = fs::exists("/sys/fs/selinux/enforce").unwrap();
    let say = serde_json::json!(["sh", "-c", "echo RAN"]);
    for (place, key, label, known) in [
        ("process", "apparmorProfile", "docker-default", false),
        ("process", "selinuxLabel", "system_u:system_r:container_t:s0:c1,c2", selinux),
        ("linux", "mountLabel", "system_u:object_r:container_file_t:s0:c1,c2", selinux),
    ] {
        let bundle = bundle(&world, |config| {
            config["process"]["args"] = say.clone();
            config[place][key] = label.into();
        });
        let output = run(&world, &bundle);
        let errors = String::from_utf8_lossy(&output.stderr);
        if known {
            continue;
        }
        assert!(!output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("RAN"), "{key}: {output:?}");
        assert!(errors.contains(key) || apparmor && errors.contains("AppArmor"), "{key}: {errors}");
    }
    // Without a label, or with `unconfined`, the container runs.
    let bundle = bundle(&world, |config| {
        config["process"]["args"] = say.clone();
        config["process"]["apparmorProfile"] = "unconfined".into();
    });
    assert!(String::from_utf8_lossy(&run(&world, &bundle).stdout).contains("RAN"));
}

#[test]
fn interfaces_that_a_profile_does_not_name_end_the_process() {
    if !is_root() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let world = ground("interfaces", &["socketcall"], "");
    let attack = |architectures: serde_json::Value| {
        let bundle = bundle(&world, |config| {
            config["process"]["args"] = serde_json::json!(["socketcall"]);
            config["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures,
                "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]});
        });
        String::from_utf8_lossy(&run(&world, &bundle).stdout).into_owned()
    };
    // With i386's system call numbers, the profile's own rules would not apply.
    assert_eq!(attack(serde_json::json!(["SCMP_ARCH_X86_64"])), "");
    assert_eq!(attack(serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])).lines().count(), 2);
}

#[test]
fn the_kernels_folders_of_a_bundle_are_no_links() {
    if !is_root() {
        return;
    }
    let world = ground("bundle-links", &[], "");
    for name in ["proc", "sys", "dev"] {
        let bundle = bundle(&world, |config| config["process"]["args"] = serde_json::json!(["sh", "-c", "echo RAN"]));
        let place = bundle.join("rootfs").join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(bundle.join("rootfs/tmp/elsewhere")).unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", &place).unwrap();
        let output = run(&world, &bundle);
        assert!(String::from_utf8_lossy(&output.stderr).contains("ordinary directory"), "{name}: {output:?}");
        fs::remove_file(&place).unwrap();
    }
}

/// Callers take "does not exist" to mean that the container has ended, so they would forget a running one.
#[test]
fn a_container_whose_state_is_damaged_does_exist() {
    if !is_root() {
        return;
    }
    let world = ground("damaged-state", &[], "");
    let bundle = bundle(&world, |config| config["process"]["args"] = serde_json::json!(["sleep", "1000"]));
    let root = world.folder.with_file_name("oci");
    let oci = |words: &[&str]| {
        let mut command = Command::new(stead());
        command.args(["oci", "--root"]).arg(&root).args(words).stdin(std::process::Stdio::null());
        // The started container keeps these streams open.
        let file = fs::File::create(world.folder.join("said")).unwrap();
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        (status.success(), fs::read_to_string(world.folder.join("said")).unwrap())
    };
    let made = oci(&["create", "--bundle", bundle.to_str().unwrap(), "damaged"]);
    assert!(made.0, "{}", made.1);
    let state = root.join("damaged/state.json");
    // If the test fails below, the container must not keep running.
    let pid = fs::read(&state)
        .map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["content"]["pid"].clone())
        .unwrap();
    let _end = Ending(pid.as_i64().unwrap());
    let whole = fs::read(&state).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}"] {
        fs::write(&state, damaged).unwrap();
        let (done, said) = oci(&["list"]);
        assert!(done && said.contains("warning: ") && said.contains("state.json is damaged"), "{said}");
        for words in [&["state", "damaged"][..], &["kill", "damaged", "KILL"], &["delete", "--force", "damaged"]] {
            let (done, said) = oci(words);
            assert!(!done && said.contains("damaged") && !said.contains("does not exist"), "{words:?}: {said}");
        }
        assert!(state.exists());
    }
    // A container ID cannot lead out of the runtime's directory either.
    let bystander = world.folder.with_file_name("bystander");
    fs::create_dir_all(&bystander).unwrap();
    for words in [&["delete", "../bystander"][..], &["delete", "--force", "../bystander"], &["delete", "."], &["state", ".."]] {
        let (done, said) = oci(words);
        assert!(!done && said.contains("invalid container ID"), "{words:?}: {said}");
    }
    assert!(bystander.exists() && state.exists());
    fs::write(&state, &whole).unwrap();
    let (done, said) = oci(&["delete", "--force", "damaged"]);
    assert!(done, "{said}");
    assert!(oci(&["state", "damaged"]).1.contains("does not exist"));
}

/// Kills a process when the test ends.
struct Ending(i64);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).status();
    }
}

/// The directory that a tmpfs covers and copies may be a volume that another container has, too.
#[test]
fn a_tmpfs_copies_nothing_behind_a_link() {
    if !is_root() {
        return;
    }
    let world = ground("copy-up", &[], "");
    let secret = world.folder.with_file_name("secret");
    fs::write(&secret, "SECRET").unwrap();
    let shared = world.folder.with_file_name("shared");
    fs::create_dir_all(&shared).unwrap();
    let bundle = bundle(&world, |config| {
        config["process"]["args"] = serde_json::json!(["sh", "-c", "cat /vol/*; echo RAN"]);
        config["mounts"].as_array_mut().unwrap().extend([
            serde_json::json!({"destination": "/vol", "type": "bind", "source": shared, "options": ["rbind"]}),
            serde_json::json!({"destination": "/vol", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"]}),
        ]);
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // This replaces files by links and links by files, as fast as possible.
            for round in 0usize.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                for number in 0..40 {
                    let (place, aside) = (shared.join(format!("f{number}")), shared.join("aside"));
                    let _ = fs::remove_file(&aside);
                    if (round + number) % 2 == 0 {
                        std::os::unix::fs::symlink(&secret, &aside).unwrap();
                    } else {
                        fs::write(&aside, "plain").unwrap();
                    }
                    fs::rename(&aside, &place).unwrap();
                }
            }
        });
        let said: String = (0..tries()).map(|_| String::from_utf8_lossy(&run(&world, &bundle).stdout).into_owned()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!said.contains("SECRET"), "a file of the host was copied");
    });
    // A file that does not change is copied.
    for entry in fs::read_dir(&shared).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    fs::write(shared.join("file"), "plain ").unwrap();
    assert_eq!(String::from_utf8_lossy(&run(&world, &bundle).stdout), "plain RAN\n");
}

/// Found in a review of how missing fields are handled: a bundle without `process.capabilities` used to get all of them.
#[test]
fn what_is_said_of_no_capability_has_none() {
    if !is_root() {
        return;
    }
    let world = ground("no-capabilities", &[], "");
    let bundle = bundle(&world, |config| {
        config["process"]["args"] = serde_json::json!(["sh", "-c", "grep ^Cap /proc/self/status"]);
        config["process"].as_object_mut().unwrap().remove("capabilities");
    });
    let output = run(&world, &bundle);
    let sets: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(sets.len(), 5, "{output:?}");
    assert!(sets.iter().all(|set| set.ends_with(":\t0000000000000000")), "{sets:?}");
}

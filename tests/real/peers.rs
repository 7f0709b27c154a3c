//! Other container tools, each with directories of its own.

use crate::world::{eventually, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Arguments for podman: it keeps everything below a directory, uses cgroupfs, and calls this program as its runtime.
pub fn podman(folder: &Path, program: &Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    ["--root", &at("root"), "--runroot", &at("run"), "--tmpdir", &at("tmp"), "--storage-driver", "overlay"]
        .into_iter()
        .map(str::to_owned)
        .chain(["--cgroup-manager".into(), "cgroupfs".into(), "--runtime".into(), program.display().to_string()])
        .collect()
}

/// A dockerd without networks, ended with all its containers when it is dropped.
pub struct Dockerd {
    folder: PathBuf,
    pub socket: String,
    daemon: Child,
}

impl Dockerd {
    /// Starts it; returns `None` where it is not installed.
    pub fn start(folder: &Path, more: &[&str]) -> Option<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        let socket = format!("unix://{}", folder.join("socket").display());
        let daemon = Command::new("dockerd")
            .args(["-H", &socket, "--bridge", "none", "--iptables=false", "--ip6tables=false", "--data-root"])
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .args(more)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn();
        let Ok(daemon) = daemon else {
            skip("dockerd is not installed");
            return None;
        };
        let found = Self { folder: folder.to_owned(), socket, daemon };
        eventually("dockerd answers", || found.run(&["version"]).status.success());
        Some(found)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Command::new("docker").args(["-H", &self.socket]).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command, fails the test unless it succeeds, and returns its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let log = || fs::read_to_string(self.folder.join("log")).unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}\n{}", log());
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.run(&["ps", "-aq"]).stdout).lines() {
            let _ = self.run(&["rm", "-f", id]);
        }
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

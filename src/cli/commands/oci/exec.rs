//! `stead oci exec`: runs another process in a container.

use super::run::{arrived, attend, connect};
use crate::model::{Context, Error, Result};
use crate::oci::{self, Container, Execution};
use oci_spec::runtime::{Capability, Process};
use serde_json::json;
use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[arg(long)]
    console_socket: Option<PathBuf>,
    #[arg(long)]
    cwd: Option<PathBuf>,
    #[arg(short, long)]
    env: Vec<String>,
    #[arg(short, long)]
    tty: bool,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(short = 'g', long)]
    additional_gids: Vec<u32>,
    /// A JSON file with the process, as in the OCI runtime specification.
    #[arg(short, long)]
    process: Option<PathBuf>,
    #[arg(short, long)]
    detach: bool,
    #[arg(long)]
    pid_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    process_label: Option<String>,
    #[arg(long, hide = true)]
    apparmor: Option<String>,
    #[arg(long)]
    no_new_privs: bool,
    #[arg(short, long)]
    cap: Vec<String>,
    #[arg(long, default_value_t = 0)]
    preserve_fds: u32,
    /// Allow a paused container: the new process is paused like the others.
    #[arg(long)]
    ignore_paused: bool,
    /// Run the process in a cgroup below the container's: [CONTROLLERS:]PATH.
    #[arg(long)]
    cgroup: Vec<String>,
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the process, and waits for it unless it is detached.
pub fn run(arguments: &Arguments, root: &Path) -> Result<u8> {
    let container = Container::load(root, &arguments.id)?;
    let process = wanted(arguments, &container)?;
    let (near, console) = match &arguments.console_socket {
        Some(path) => (None, Some(connect(path)?)),
        None if process.terminal() == Some(true) && !arguments.detach => {
            let (near, far) = UnixStream::pair().context(|| "cannot make a socket".into())?;
            (Some(near), Some(far))
        }
        None => (None, None),
    };
    let execution = Execution {
        process,
        console,
        pid_file: arguments.pid_file.clone(),
        preserve: arguments.preserve_fds,
        paused_too: arguments.ignore_paused,
        below: arguments.cgroup.clone(),
    };
    let pid = oci::exec(&container, execution)?;
    if arguments.detach { Ok(0) } else { attend(pid, near.as_ref().map(arrived).transpose()?) }
}

/// The process from the file, or the container's own with another command; the other arguments are applied to it.
fn wanted(arguments: &Arguments, container: &Container) -> Result<Process> {
    let mut wanted = match &arguments.process {
        Some(path) => read(path)?,
        None => {
            let mut base = container.spec()?.process().clone().unwrap_or_default();
            if arguments.args.is_empty() {
                return Err(Error::new("the command to execute was expected"));
            }
            base.set_args(Some(arguments.args.clone()));
            base.set_terminal(Some(arguments.tty));
            base
        }
    };
    if let Some(cwd) = &arguments.cwd {
        wanted.set_cwd(cwd.clone());
    }
    if !arguments.env.is_empty() {
        let mut all = wanted.env().clone().unwrap_or_default();
        all.retain(|pair| !arguments.env.iter().any(|new| new.split('=').next() == pair.split('=').next()));
        all.extend(arguments.env.iter().cloned());
        wanted.set_env(Some(all));
    }
    if let Some(text) = &arguments.user {
        let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        // Only numbers are accepted; they are never looked up as names (CVE-2026-30892).
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| Error::new(format!("{text:?} is not the number of a user or group")));
        let mut user = wanted.user().clone();
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
        wanted.set_user(user);
    }
    if !arguments.additional_gids.is_empty() {
        let mut user = wanted.user().clone();
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(&arguments.additional_gids);
        user.set_additional_gids(Some(all));
        wanted.set_user(user);
    }
    if arguments.no_new_privs {
        wanted.set_no_new_privileges(Some(true));
    }
    if !arguments.cap.is_empty() {
        let mut sets = wanted.capabilities().clone().unwrap_or_default();
        for name in &arguments.cap {
            let one: Capability =
                name.trim_start_matches("CAP_").parse().map_err(|_| Error::new(format!("{name:?} is not a capability")))?;
            let with = |set: &Option<HashSet<Capability>>| {
                let mut set = set.clone().unwrap_or_default();
                set.insert(one);
                Some(set)
            };
            let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            sets.set_bounding(bounding);
            sets.set_effective(effective);
            sets.set_permitted(permitted);
        }
        wanted.set_capabilities(Some(sets));
    }
    Ok(wanted)
}

/// Reads a process that is written as in the OCI runtime specification.
fn read(path: &Path) -> Result<Process> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    let wrong = || format!("{} does not describe a process", path.display());
    let mut value: serde_json::Value = serde_json::from_str(&text).context(wrong)?;
    oci::rename_flags(&mut value);
    // The default is root, as in runc.
    if value.get("user").is_none() {
        value["user"] = json!({ "uid": 0, "gid": 0 });
    }
    serde_json::from_value(value).context(wrong)
}

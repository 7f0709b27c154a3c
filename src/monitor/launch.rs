//! How a monitor is started: its parent passes it the container's contents and ports, and waits for its first reply.

use super::control::{self, Reply};
use super::files::Folder;
use super::life::Monitor;
use crate::model::{Context, Error, Result};
use crate::runtime;
use crate::sys;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starts a monitor for a prepared directory and waits until its container runs. `title` is what the list of processes
/// shows for it.
///
/// `contents` are those of secrets and configs; `ports` are the sockets that hold published ports. Returns what failed
/// although the container runs: start hooks.
///
/// # Errors
/// Says why the container could not be started.
pub fn launch(folder: &Folder, title: &str, contents: &[Vec<u8>], ports: &[RawFd]) -> Result<Vec<String>> {
    let (near, far) = UnixStream::pair().context(|| "cannot make a socket".into())?;
    let mut child = Command::new(sys::own_program().context(|| "cannot protect this program's file".into())?)
        .arg0("stead")
        .args(["monitor", title])
        .current_dir(folder.path())
        .env_clear()
        .stdin(OwnedFd::from(far))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context(|| "cannot start a monitor".into())?;
    let handed = hand_over(&near, contents, ports);
    let mut answer = String::new();
    let _ = (&near).read_to_string(&mut answer);
    let reply: Option<Reply> = serde_json::from_str(&answer).ok();
    match (handed, reply) {
        (Ok(()), Some(Reply { error: None, warnings, .. })) => Ok(warnings),
        (_, Some(Reply { error: Some(error), exit, .. })) => {
            let _ = child.wait();
            Err(Error::new(error).status(u8::try_from(exit.unwrap_or(1)).unwrap_or(1)))
        }
        (Err(error), _) => Err(Error::caused("cannot hand the container to its monitor", error)),
        (Ok(()), None) => {
            let _ = child.wait();
            Err(Error::new("the container's monitor ended before its container started"))
        }
    }
}

/// Sends the ports in groups, then each content with its length, then an end mark.
fn hand_over(stream: &UnixStream, contents: &[Vec<u8>], ports: &[RawFd]) -> io::Result<()> {
    for some in ports.chunks(32) {
        sys::send_with(stream, b"P", some)?;
    }
    for content in contents {
        sys::send_with(stream, b"C", &[])?;
        (&mut &*stream).write_all(&(content.len() as u64).to_le_bytes())?;
        (&mut &*stream).write_all(content)?;
    }
    sys::send_with(stream, b".", &[]).map(drop)
}

type Given = (Vec<OwnedFd>, Vec<Vec<u8>>);

fn receive_over(stream: &UnixStream) -> io::Result<Given> {
    let (mut ports, mut contents) = (Vec::new(), Vec::new());
    loop {
        let mut kind = [0];
        let (length, fds) = sys::receive_with(stream, &mut kind)?;
        ports.extend(fds);
        match (length, kind[0]) {
            (1, b'P') => {}
            (1, b'C') => {
                let mut size = [0; 8];
                (&mut &*stream).read_exact(&mut size)?;
                let mut content = vec![0; usize::try_from(u64::from_le_bytes(size)).unwrap_or(0)];
                (&mut &*stream).read_exact(&mut content)?;
                contents.push(content);
            }
            (1, b'.') => return Ok((ports, contents)),
            _ => return Err(io::Error::other("the other side is gone")),
        }
    }
}

/// The monitor's own `main`. The container's directory is its working directory, and standard input is connected to its
/// parent.
///
/// # Errors
/// Says why the container could not be started. The parent has been told, too.
pub fn main() -> Result<()> {
    sys::set_name(c"stead-monitor");
    runtime::start_anew().context(|| "cannot let go of the caller".into())?;
    // A process in the container whose parent outside was killed becomes a child of this one, and is reaped by it.
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from).context(|| "cannot become a subreaper".into())?;
    let folder = Folder::at(std::env::current_dir().context(|| "the container's directory is gone".into())?);
    #[expect(unsafe_code, reason = "this process may take standard input")]
    // SAFETY: the parent has placed the line there, and nothing else here owns it.
    let line = unsafe { sys::take_descriptor(0) };
    let parent = UnixStream::from(
        line.context(|| "a monitor is started by `stead up`".into())?
            .try_clone()
            .context(|| "cannot keep the connection to the parent".into())?,
    );
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context(|| "cannot open /dev/null".into())?;
    #[expect(unsafe_code, reason = "standard input was released above")]
    // SAFETY: its owner was duplicated and dropped, so nothing owns it.
    let placed = unsafe { sys::place_descriptor(&null, 0) };
    placed.context(|| "cannot replace standard input".into())?;
    // A process that checks whether this container is alive holds the lock for a moment.
    let mut lock = None;
    for _ in 0..20 {
        lock = sys::Lock::attempt(&folder.join("lock")).context(|| "cannot lock the container's directory".into())?;
        if lock.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Some(_lock) = lock else {
        let _ = control::send(
            &parent,
            &Reply { error: Some("this container has a monitor already".into()), ..Reply::default() },
            &[],
        );
        return Err(Error::new("this container has a monitor already"));
    };
    let begun = receive_over(&parent)
        .context(|| "cannot receive what the container needs".into())
        .and_then(|(ports, contents)| Monitor::begin(folder, ports, contents));
    match begun {
        Ok(mut monitor) => {
            monitor.begun_by(parent);
            monitor.stay()
        }
        Err(error) => {
            let reply = Reply { error: Some(error.chain()), exit: Some(i32::from(error.code())), ..Reply::default() };
            let _ = control::send(&parent, &reply, &[]);
            Err(error)
        }
    }
}

//! Git's protocol over ssh: runs the host's `ssh`, with its keys, agent and known hosts (gitprotocol-pack,
//! "SSH Transport").
//!
//! As in git, `GIT_SSH_COMMAND` is run instead of `ssh` if it is set. The program must not ask on the terminal:
//! whatever it would ask becomes an error.

use super::line::{self, Version};
use crate::model::{Context, Error, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

/// ssh must not ask questions or forward anything of this machine, and gives up on a silent server after a minute.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "RequestTTY=no",
    "SendEnv=GIT_PROTOCOL",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
];
/// How many bytes of ssh's error output are kept.
const MOST_SAID: u64 = 64 << 10;

/// A repository behind ssh.
pub struct Line {
    login: String,
    port: Option<u16>,
    path: String,
    shown: String,
    session: Session,
    /// Whether the session was used for a request already: each session serves only one.
    asked: bool,
}

impl Line {
    /// Logs in to a host.
    ///
    /// # Errors
    /// Fails when ssh cannot be started.
    pub fn open(login: &str, port: Option<u16>, path: &str, shown: &str) -> Result<Self> {
        let session = Session::start(login, port, path)?;
        Ok(Self { login: login.into(), port, path: path.into(), shown: shown.into(), session, asked: false })
    }
}

impl line::Line for Line {
    fn greeting(&mut self) -> Result<&mut dyn Read> {
        match self.session.stdout.fill_buf() {
            Ok([]) | Err(_) => Err(self.session.refusal(&self.shown, &self.login)),
            Ok(_) => Ok(&mut self.session),
        }
    }

    fn ask(&mut self, request: &str, _: Version) -> Result<&mut dyn Read> {
        if self.asked {
            self.session = Session::start(&self.login, self.port, &self.path)?;
            let shown = self.shown.clone();
            line::lines(self.greeting()?, &shown)?;
        }
        self.asked = true;
        let sent = self.session.stdin.write_all(request.as_bytes()).and_then(|()| self.session.stdin.flush());
        sent.context(|| format!("cannot ask {}", self.shown))?;
        Ok(&mut self.session)
    }
}

/// One running `ssh`.
struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
}

impl Session {
    fn start(login: &str, port: Option<u16>, path: &str) -> Result<Self> {
        let mut command = match std::env::var_os("GIT_SSH_COMMAND").filter(|command| !command.is_empty()) {
            // A shell parses the user's command, as in git.
            Some(own) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg({
                    let mut line = own;
                    line.push(" \"$@\"");
                    line
                });
                shell.arg("ssh");
                shell
            }
            None => Command::new("ssh"),
        };
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        // The shell of the remote host parses the path.
        let quoted = path.replace('\'', "'\\''").replace('!', "'\\!'");
        command.args(["--", login, &format!("git-upload-pack '{quoted}'")]).env("GIT_PROTOCOL", "version=2");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let error = Error::caused("cannot start ssh", error);
            if missing { error.hint("install it (Debian: openssh-client), or write https://…") } else { error }
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new("ssh has no pipes"));
        };
        let stderr = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut stderr = stderr;
            // Anything beyond the limit is read and dropped, so that ssh never blocks on a full pipe.
            let _ = stderr.by_ref().take(MOST_SAID).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&said).trim().to_owned()
        });
        Ok(Self { child, stdin, stdout: BufReader::new(stdout), stderr: Some(stderr) })
    }

    /// Ends ssh, and returns the errors that it or the remote program printed.
    fn said(&mut self) -> String {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default()
    }

    fn refusal(&mut self, shown: &str, login: &str) -> Error {
        let status = self.child.wait();
        let said = self.said();
        let last = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        let error = match status.ok().and_then(|status| status.code()) {
            // 255 means that ssh itself failed (ssh(1), "EXIT STATUS").
            Some(255) => Error::new(format!("cannot reach {shown}: {last}")),
            _ => Error::new(format!("{shown}: {last}")),
        };
        if said.contains("Host key verification failed") {
            error.hint(format!("this machine does not know that host: type `ssh {login}` once, and say yes if its key is right"))
        } else if said.contains("Permission denied") {
            error.hint("the host does not know your key, or no ssh agent offers it: `ssh-add`; under sudo: `sudo -E`")
        } else {
            error
        }
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            let said = self.said();
            if !said.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, said));
            }
        }
        Ok(read)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A flush packet ends the protocol.
        let _ = self.stdin.write_all(b"0000");
        self.said();
    }
}

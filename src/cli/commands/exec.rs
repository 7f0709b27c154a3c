use super::super::Context;
use super::super::relay::{DETACH_KEYS, Keys, relay};
use super::super::streams;
use crate::engine::{self, Exec};
use crate::model::Result;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// Runs a command in a running container; its exit status becomes this command's.
///
/// Example: stead exec web sh
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Do not give the command a terminal, even if this is one.
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Run the command as this user.
    #[arg(short, long)]
    user: Option<String>,
    /// Run the command in this working directory.
    #[arg(short, long)]
    workdir: Option<OsString>,
    /// Accepted for compatibility with Docker: a terminal is the default if there is one.
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Set an environment variable; without a value, pass on this process's own; may be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// The keys that detach and leave the command running.
    #[arg(long, default_value = DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// The container or replica.
    container: String,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let wanted = !arguments.no_tty || arguments.tty || arguments.interactive;
    let tty = wanted && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let wish = Exec {
        command: &arguments.command,
        user: arguments.user.as_deref(),
        workdir: arguments.workdir.as_deref(),
        env: &variables(&arguments.env),
        terminal: tty.then(|| crate::sys::window_size(std::io::stdout())),
    };
    if !tty {
        let (given, relays) = streams::own()?;
        let remote = engine::exec(&instance, &arguments.container, &wish, &given.each_ref().map(AsRawFd::as_raw_fd))?;
        drop(given);
        let relaying = relays.begin();
        let status = remote.wait();
        relaying.finish();
        return Ok(u8::try_from(status?).unwrap_or(1));
    }
    let remote = engine::exec(&instance, &arguments.container, &wish, &[])?;
    if let Some(terminal) = &remote.terminal {
        let keys = Keys::parse(&arguments.detach_keys)?;
        if !relay(terminal, terminal, None, &keys)? {
            return Ok(0);
        }
    }
    Ok(u8::try_from(remote.wait()?).unwrap_or(1))
}

/// Parses variables. A name alone stands for this process's own value, if it has one, as in Docker. Of several with one name the
/// last counts.
pub fn variables(given: &[OsString]) -> Vec<(OsString, OsString)> {
    let mut found: Vec<(OsString, OsString)> = Vec::new();
    for pair in given {
        let bytes = pair.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(end) => (OsStr::from_bytes(&bytes[..end]), Some(OsStr::from_bytes(&bytes[end + 1..]).to_owned())),
            None => (pair.as_os_str(), std::env::var_os(pair)),
        };
        let Some(value) = value else { continue };
        found.retain(|(known, _)| known != name);
        found.push((name.to_owned(), value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_bytes_and_the_last_of_a_name_counts() {
        let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let parsed = |pairs: &[&[u8]]| variables(&pairs.iter().map(|pair| os(pair)).collect::<Vec<_>>());
        assert_eq!(parsed(&[b"A=\xff=b", b"B="]), [(os(b"A"), os(b"\xff=b")), (os(b"B"), os(b""))]);
        assert_eq!(parsed(&[b"A=\xff", b"B=2", b"A=1"]), [(os(b"B"), os(b"2")), (os(b"A"), os(b"1"))]);
        assert!(parsed(&[b"\xff\xfe_NOT_SET_ANYWHERE"]).is_empty());
    }
}

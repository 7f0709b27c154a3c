//! Terminals: pseudo-terminals, raw mode, window sizes.

use super::check;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a new pseudo-terminal of the devpts instance mounted at a directory, and returns its master and its slave.
///
/// The slave is opened through the master (`TIOCGPTPEER`), never by a path (CVE-2025-52565).
///
/// # Errors
/// Fails when `ptmx` cannot be opened or `ioctl(2)` fails.
pub fn open_terminal(devpts: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let master =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open(devpts.join("ptmx"))?;
    let unlock: libc::c_int = 0;
    // SAFETY: the argument points to a live integer.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlock)) }))?;
    // SAFETY: the flags are passed by value.
    let slave = check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    }))?;
    // SAFETY: TIOCGPTPEER returned this descriptor and nothing else owns it.
    Ok((master.into(), unsafe { OwnedFd::from_raw_fd(slave as i32) }))
}

/// A terminal in raw mode. Dropping it restores the previous mode.
pub struct RawTerminal {
    terminal: File,
    before: Termios,
}

impl RawTerminal {
    /// Switches a terminal to raw mode.
    ///
    /// # Errors
    /// Fails when `tcgetattr(3)` or `tcsetattr(3)` fails: with `ENOTTY` if it is not a terminal.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = File::from(terminal.as_fd().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Makes a terminal the controlling terminal of this session.
///
/// # Errors
/// Fails when `ioctl(2)` fails.
pub fn take_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(libc::c_long::from(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// The rows and columns of a terminal.
pub fn window_size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the argument points to a live winsize.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, std::ptr::from_mut(&mut size)) };
    (result == 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Sets the rows and columns of a terminal.
pub fn set_window_size(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the argument points to a live winsize. If the terminal is gone, it needs no size.
    unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
}

/// Makes a terminal write newlines unchanged, without adding carriage returns.
pub fn plain_newlines(terminal: &OwnedFd) {
    use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
    if let Ok(mut modes) = tcgetattr(terminal) {
        modes.output_flags.remove(OutputFlags::ONLCR);
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &modes);
    }
}

/// Turns off the echo of standard input until it is dropped.
#[derive(Debug)]
pub struct Silence(Termios);

impl Silence {
    /// Turns off the echo of standard input.
    ///
    /// # Errors
    /// Fails when standard input is not a terminal.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(nix::sys::termios::LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

/// Discards what was typed but not read yet.
pub fn forget_typed(terminal: impl AsFd) {
    let _ = nix::sys::termios::tcflush(terminal, nix::sys::termios::FlushArg::TCIFLUSH);
}

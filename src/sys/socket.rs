//! Unix sockets: addresses longer than the kernel's limit, and descriptors as messages.

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at a name in a folder; the path may be longer than the 107 bytes of a socket address.
///
/// # Errors
/// Those of opening the folder and of `bind(2)`.
pub fn listen_in(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Connects to a name in a folder.
///
/// # Errors
/// Those of opening the folder and of `connect(2)`.
pub fn connect_in(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Sends bytes with descriptors.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send_with(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes, with up to 32 descriptors; no bytes means that the other side is gone.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub fn receive_with(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 32]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel made these descriptors for this process just now.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// A socket bound to an IPv4 address that keeps others off it, and shares it only with its like.
///
/// It never listens: `SO_REUSEPORT` without `SO_REUSEADDR` makes any foreign bind fail with
/// `EADDRINUSE` (socket(7)).
///
/// # Errors
/// Those of `socket(2)` and `bind(2)`.
pub fn hold_port(address: std::net::SocketAddrV4, udp: bool, share: bool) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
    let kind = if udp { SockType::Datagram } else { SockType::Stream };
    let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if share {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(fd)
}

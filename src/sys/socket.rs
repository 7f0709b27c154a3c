//! Unix sockets: addresses longer than the kernel's limit, and descriptors as messages.

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at a name in a directory; the path may be longer than the 107 bytes of a socket address.
///
/// # Errors
/// Those of opening the directory and of `bind(2)`.
pub fn listen_in(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Connects to a name in a directory.
///
/// # Errors
/// Those of opening the directory and of `connect(2)`.
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

/// A socket bound to an IPv4 address that keeps everybody else off it, and never accepts: without a
/// rule that leads elsewhere a connection is refused.
///
/// It shares with nobody: no `SO_REUSEPORT`, which any other process of the same user could have, too.
///
/// # Errors
/// Those of `socket(2)` and `bind(2)`: `EADDRINUSE` when anybody has the port.
pub fn hold_port(address: std::net::SocketAddrV4, udp: bool) -> io::Result<OwnedFd> {
    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    let kind = if udp { SockType::Datagram } else { SockType::Stream };
    let open = || socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None);
    let fd = open()?;
    match bind(fd.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) => Ok(fd),
        Err(Errno::EADDRINUSE) if !udp => bind_over_remains(open()?, address),
        Err(error) => Err(error.into()),
    }
}

/// Binds where only connections of a server that has ended are left (TIME-WAIT).
///
/// `SO_REUSEADDR` passes over those, but also shares with each socket that has it and does not listen.
/// So it listens for a moment, which the kernel allows to one alone, and then takes the option away.
fn bind_over_remains(fd: OwnedFd, address: std::net::SocketAddrV4) -> io::Result<OwnedFd> {
    use nix::sys::socket::{Backlog, Shutdown, SockaddrIn, bind, listen, setsockopt, shutdown, sockopt};
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    listen(&fd, Backlog::new(0)?)?;
    setsockopt(&fd, sockopt::ReuseAddr, &false)?;
    // The port stays bound, because it was asked for by number.
    shutdown(fd.as_raw_fd(), Shutdown::Read)?;
    Ok(fd)
}

/// The IPv4 address that a socket is bound to, and whether it is a UDP socket.
///
/// # Errors
/// Those of `getsockname(2)`; a socket of another family.
pub fn bound_to(fd: &OwnedFd) -> io::Result<(std::net::SocketAddrV4, bool)> {
    use nix::sys::socket::{SockType, SockaddrIn, getsockname, getsockopt, sockopt};
    let address: SockaddrIn = getsockname(fd.as_raw_fd())?;
    Ok((address.into(), getsockopt(fd, sockopt::SockType)? == SockType::Datagram))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};

    fn shared(address: SocketAddrV4) -> io::Result<OwnedFd> {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
        };
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::ReusePort, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
        listen(&fd, Backlog::new(1)?)?;
        Ok(fd)
    }

    fn free() -> SocketAddrV4 {
        match TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(_) => unreachable!("an IPv4 address was bound"),
        }
    }

    #[test]
    fn a_held_port_is_shared_with_nobody_and_refuses() {
        let address = free();
        let held = hold_port(address, false).unwrap();
        assert_eq!(bound_to(&held).unwrap(), (address, false));
        assert!(hold_port(address, false).is_err() && shared(address).is_err() && TcpListener::bind(address).is_err());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        let other = shared(address).unwrap();
        assert_eq!(hold_port(address, false).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE), "a stranger that would share");
        drop(other);
        let udp = hold_port(address, true).unwrap();
        assert!(UdpSocket::bind(address).is_err() && bound_to(&udp).unwrap().1);
    }

    #[test]
    fn what_an_ended_server_left_is_passed_over_and_nobody_shares_then_either() {
        // The standard library's listener has SO_REUSEADDR.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!("an IPv4 address was bound") };
        let mut client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Who closes first keeps the connection in TIME-WAIT.
        server.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(io::Read::read(&mut client, &mut [0; 8]).unwrap(), 0);
        drop((client, server, listener));
        let held = hold_port(address, false).unwrap();
        assert!(shared(address).is_err() && TcpListener::bind(address).is_err() && hold_port(address, false).is_err());
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        assert!(TcpListener::bind(address).is_ok());
    }
}

//! Sockets: Unix sockets with paths longer than the kernel's limit, passing file descriptors, and held ports.

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at a name in a directory. The path may be longer than the 107 bytes of a socket address.
///
/// # Errors
/// Fails when the directory cannot be opened or `bind(2)` fails.
pub fn listen_in(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Connects to a name in a directory.
///
/// # Errors
/// Fails when the directory cannot be opened or `connect(2)` fails.
pub fn connect_in(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Sends bytes together with file descriptors.
///
/// # Errors
/// Fails when `sendmsg(2)` fails.
pub fn send_with(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes, with up to 32 file descriptors. If it receives no bytes, the other side has closed the socket.
///
/// # Errors
/// Fails when `recvmsg(2)` fails.
pub fn receive_with(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 32]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just created these descriptors for this process.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Binds a socket to an IPv4 address so that nothing else can use it. The socket never accepts: without a
/// firewall rule that leads elsewhere a connection is refused.
///
/// The port is not shared: it does not set `SO_REUSEPORT`, which any other process of the same user could set, too.
///
/// # Errors
/// Fails when `socket(2)` or `bind(2)` fails: with `EADDRINUSE` when the port is in use.
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

/// Binds a port on which only connections of an earlier server are left (in TIME-WAIT).
///
/// `SO_REUSEADDR` ignores those, but it also shares the port with every other socket that has the option and does not
/// listen. So the socket listens for a moment, which the kernel allows only one socket to do, and then clears the option.
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
/// Fails when `getsockname(2)` fails or the socket has another address family.
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
        // The side that closes first keeps the connection in TIME-WAIT.
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

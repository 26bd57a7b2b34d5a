//! TCP sockets as BGP needs them: MD5 signatures, TTL limits, bound to an address.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use bird_core::Connect;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A socket ready to connect, not yet connected.
pub(crate) fn outgoing(connect: &Connect) -> io::Result<(Socket, SockAddr)> {
    let socket = Socket::new(domain(connect.remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(password) = &connect.password {
        set_md5(socket.as_raw_fd(), connect.remote, password)?;
    }
    set_ttl(&socket, connect.remote, connect.ttl, connect.min_ttl)?;
    if let Some(name) = &connect.interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    if let Some(local) = connect.local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    Ok((socket, SocketAddr::new(connect.remote, connect.port).into()))
}

/// A listening socket.
pub(crate) fn listening(address: IpAddr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(address, port).into())?;
    socket.listen(128)?;
    Ok(socket)
}

fn domain(address: IpAddr) -> Domain {
    if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

/// Limits how far packets go, and from how far they may come (RFC 5082).
pub(crate) fn set_ttl(socket: &Socket, peer: IpAddr, ttl: u8, min_ttl: Option<u8>) -> io::Result<()> {
    let minimum = libc::c_int::from(min_ttl.unwrap_or(0));
    if peer.is_ipv4() {
        socket.set_ttl_v4(u32::from(ttl))?;
        if min_ttl.is_some() {
            set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, &minimum)?;
        }
    } else {
        socket.set_unicast_hops_v6(u32::from(ttl))?;
        if min_ttl.is_some() {
            set_option(socket.as_raw_fd(), libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &minimum)?;
        }
    }
    Ok(())
}

/// Not in the libc crate; from linux/in6.h.
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: libc::c_int,
    key: [u8; 80],
}

/// Signs segments from and to a neighbour (RFC 2385); an empty password stops that.
pub(crate) fn set_md5(fd: RawFd, peer: IpAddr, password: &str) -> io::Result<()> {
    let mut key = [0u8; 80];
    let bytes = password.as_bytes();
    let Some(room) = key.get_mut(..bytes.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "password is longer than 80 bytes"));
    };
    room.copy_from_slice(bytes);
    let address = SockAddr::from(SocketAddr::new(peer, 0)).as_storage_bytes();
    let signature = TcpMd5Sig {
        address,
        flags: 0,
        prefix_len: 0,
        key_len: u16::try_from(bytes.len()).unwrap_or(0),
        ifindex: 0,
        key,
    };
    match set_option(fd, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature) {
        // Removing a key that is not there.
        Err(e) if bytes.is_empty() && e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

trait AsStorage {
    fn as_storage_bytes(&self) -> libc::sockaddr_storage;
}

impl AsStorage for SockAddr {
    fn as_storage_bytes(&self) -> libc::sockaddr_storage {
        // SAFETY: all zeros is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let len = usize::try_from(self.len()).unwrap_or(0).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: `self.as_ptr()` is valid for `self.len()` bytes, `storage` for its size, `len` is within both, and
        // the two do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.as_ptr().cast::<u8>(), (&raw mut storage).cast::<u8>(), len);
        }
        storage
    }
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is valid for reads of `len` bytes while the call lasts, and the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

//! An interface's MTU, asked of the kernel in the process's own network namespace (`/sys` may show another's).

#![allow(unsafe_code)]

use std::os::fd::AsRawFd as _;

/// The MTU in bytes; `None` where there is no such interface.
#[must_use]
pub fn mtu_of(name: &str) -> Option<u32> {
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("[::]:0")).ok()?;
    // SAFETY: ifreq is plain data, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.as_bytes();
    // One byte stays zero: the name's end.
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the socket is open for the whole call, and SIOCGIFMTU reads the name from and writes the MTU to this
    // ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result != 0 {
        return None;
    }
    // SAFETY: after SIOCGIFMTU succeeded the kernel has written this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).ok()
}

//! Traffic between namespaces: UDP echo, made by threads that live in them.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

/// A socket that belongs to a namespace, whichever thread uses it.
fn socket_in(ns: &str, address: IpAddr, port: u16) -> UdpSocket {
    let path = format!("/run/netns/{ns}");
    std::thread::spawn(move || {
        let file = File::open(path).expect("the namespace exists");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        let socket = UdpSocket::bind((address, port)).expect("the address is on an interface");
        // Who reads may be kept waiting for seconds on a busy machine, and those who send go on.
        setsockopt(&socket, RcvBufForce, &(16 << 20)).expect("root may have a large buffer");
        socket
    })
    .join()
    .expect("the socket is made")
}

/// Answers every packet to an address with itself, as long as the test runs.
pub fn echo(ns: &str, address: IpAddr) {
    let socket = socket_in(ns, address, 7);
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
}

/// Whether a packet comes back, in a minute. Neighbours may have to be found first.
pub fn reaches(ns: &str, from: IpAddr, to: IpAddr) -> bool {
    let socket = socket_in(ns, from, 0);
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout can be set");
    (0..60).any(|_| {
        let sent = socket.send_to(b"x", SocketAddr::new(to, 7));
        sent.is_ok() && socket.recv_from(&mut [0; 8]).is_ok()
    })
}

/// Sends a packet every 10 ms for a while; the thread ends with (sent, lost).
pub fn flow(ns: &str, from: IpAddr, to: IpAddr, time: Duration) -> JoinHandle<(u32, u32)> {
    let socket = socket_in(ns, from, 0);
    std::thread::spawn(move || {
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout can be set");
        let (start, mut sent, mut received) = (Instant::now(), 0u32, 0u32);
        let mut buffer = [0u8; 64];
        loop {
            // A send may fail for want of a route: then the packet is lost.
            let _ = socket.send_to(&sent.to_be_bytes(), SocketAddr::new(to, 7));
            sent += 1;
            // What was kept waiting catches up a little at a time: a burst would overflow buffers.
            let next =
                (start + Duration::from_millis(10) * sent).max(Instant::now() + Duration::from_millis(5));
            while Instant::now() < next {
                received += u32::from(socket.recv_from(&mut buffer).is_ok());
            }
            if start.elapsed() >= time {
                break;
            }
        }
        let end = Instant::now() + Duration::from_secs(60);
        while received < sent && Instant::now() < end {
            received += u32::from(socket.recv_from(&mut buffer).is_ok());
        }
        (sent, sent - received)
    })
}

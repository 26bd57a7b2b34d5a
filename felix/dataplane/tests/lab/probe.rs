//! Packets from one namespace to another: ICMP, TCP, UDP.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;

/// How long an answer is waited for, the first time and the second, in pauses of [`PAUSE`]. Pauses are counted, not time:
/// where the machine does not come to run this process, or another one's threads, for a while, the wait is longer.
const WAITS: [u32; 2] = [30, 150];
const PAUSE: Duration = Duration::from_millis(10);

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket that sends echo requests.
pub struct Pinger {
    socket: Socket,
    to: IpAddr,
    id: u16,
    seq: u16,
}

impl Pinger {
    /// Opens it in the calling thread's namespace.
    pub fn new(to: IpAddr) -> Self {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("raw socket");
        socket.set_nonblocking(true).expect("nonblocking");
        super::roomy(&socket);
        Self { socket, to, id: rand::random(), seq: 0 }
    }

    /// One request; true where the answer came in time.
    pub fn ping(&mut self, wait: Duration) -> bool {
        if !self.send() {
            return false;
        }
        let until = Instant::now() + wait;
        loop {
            if self.answered() {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Sends one request; false where the kernel does not take it.
    fn send(&mut self) -> bool {
        self.seq = self.seq.wrapping_add(1);
        let request = if self.to.is_ipv4() { 8_u8 } else { 128 };
        let mut packet = vec![request, 0, 0, 0];
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&self.seq.to_be_bytes());
        packet.extend_from_slice(b"calico");
        if self.to.is_ipv4() {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send_to(&packet, &SocketAddr::new(self.to, 0).into()).is_ok()
    }

    /// Whether the answer to the last request is among what has come.
    fn answered(&mut self) -> bool {
        let reply = if self.to.is_ipv4() { 0_u8 } else { 129 };
        let mut buf = [MaybeUninit::<u8>::uninit(); 1500];
        while let Ok((n, from)) = self.socket.recv_from(&mut buf) {
            // A raw socket hears the replies to every ping of its namespace; ids are too few to tell them apart.
            if from.as_socket().map(|a| a.ip()) != Some(self.to) {
                continue;
            }
            #[allow(unsafe_code)]
            // SAFETY: recv wrote the first n bytes.
            let bytes: Vec<u8> = buf[..n].iter().map(|b| unsafe { b.assume_init() }).collect();
            let body = if self.to.is_ipv4() { bytes.get(20..).unwrap_or(&[]) } else { &bytes[..] };
            if body.first() == Some(&reply)
                && body.get(4..6) == Some(&self.id.to_be_bytes()[..])
                && body.get(6..8) == Some(&self.seq.to_be_bytes()[..])
            {
                return true;
            }
        }
        false
    }
}

/// A server that answers TCP and UDP on a port until it is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(ns: &Namespace, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for any in ["0.0.0.0", "::"] {
            let addr = SocketAddr::new(any.parse().unwrap(), port);
            let halt = stop.clone();
            let (ready, started) = std::sync::mpsc::channel();
            threads.push(ns.inside(move || {
                let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
                if addr.is_ipv6() {
                    socket.set_only_v6(true).unwrap();
                }
                socket.bind(&addr.into()).unwrap();
                socket.listen(64).unwrap();
                socket.set_nonblocking(true).unwrap();
                let listener: TcpListener = socket.into();
                let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None).unwrap();
                if addr.is_ipv6() {
                    socket.set_only_v6(true).unwrap();
                }
                socket.bind(&addr.into()).unwrap();
                socket.set_nonblocking(true).unwrap();
                let udp: UdpSocket = socket.into();
                ready.send(()).unwrap();
                let mut buf = [0; 64];
                while !halt.load(Ordering::Relaxed) {
                    if let Ok((mut s, _)) = listener.accept() {
                        let _ = s.write_all(b"x");
                    }
                    while let Ok((n, from)) = udp.recv_from(&mut buf) {
                        let _ = udp.send_to(&buf[..n], from);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            }));
            started.recv().unwrap();
        }
        Self { stop, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for t in self.threads.drain(..) {
            let _ = t.join();
        }
    }
}

/// Sends, and looks for the answer again and again; a second time, and longer: what a busy machine loses is sent again,
/// what is denied stays denied.
fn patient<P: FnMut() -> Option<bool>>(
    send: impl Fn() -> Option<P> + Send + 'static,
    ns: &Namespace,
) -> JoinHandle<bool> {
    ns.inside(move || {
        WAITS.into_iter().any(|pauses| {
            let Some(mut answer) = send() else { return false };
            for _ in 0..pauses {
                if let Some(answered) = answer() {
                    return answered;
                }
                std::thread::sleep(PAUSE);
            }
            answer() == Some(true)
        })
    })
}

/// What a read of a nonblocking socket says: an answer, an end without one, or nothing yet.
fn read(result: std::io::Result<usize>) -> Option<bool> {
    match result {
        Ok(n) => Some(n > 0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => None,
        Err(_) => Some(false),
    }
}

fn start_ping(ns: &Namespace, to: IpAddr) -> JoinHandle<bool> {
    let send = move || {
        let mut pinger = Pinger::new(to);
        let sent = pinger.send();
        sent.then_some(move || pinger.answered().then_some(true))
    };
    patient(send, ns)
}

fn start_tcp(ns: &Namespace, to: IpAddr, port: u16) -> JoinHandle<bool> {
    let send = move || {
        let to = SocketAddr::new(to, port);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // A refusal that comes at once is told by the first read.
        let begun = socket.connect(&to.into());
        let mut stream: TcpStream = socket.into();
        let under_way = |e: &std::io::Error| e.raw_os_error() == Some(nix::libc::EINPROGRESS);
        (begun.is_ok() || begun.is_err_and(|e| under_way(&e))).then_some(move || read(stream.read(&mut [0])))
    };
    patient(send, ns)
}

fn start_udp(ns: &Namespace, to: IpAddr, port: u16) -> JoinHandle<bool> {
    let send = move || {
        // A source port that no earlier probe had: the kernel still knows that one's flow as established.
        static NEXT: AtomicU16 = AtomicU16::new(20_000);
        let port_here = NEXT.fetch_add(1, Ordering::Relaxed);
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let s = UdpSocket::bind(SocketAddr::new(any.parse().unwrap(), port_here)).unwrap();
        s.set_nonblocking(true).unwrap();
        let sent = s.send_to(b"x", SocketAddr::new(to, port)).is_ok();
        sent.then_some(move || read(s.recv_from(&mut [0; 8]).map(|(n, _)| n)))
    };
    patient(send, ns)
}

pub fn ping(ns: &Namespace, to: IpAddr) -> bool {
    start_ping(ns, to).join().unwrap()
}

pub fn tcp(ns: &Namespace, to: IpAddr, port: u16) -> bool {
    start_tcp(ns, to, port).join().unwrap()
}

pub fn udp(ns: &Namespace, to: IpAddr, port: u16) -> bool {
    start_udp(ns, to, port).join().unwrap()
}

/// What gets through of ICMP, TCP and UDP, over both families alike. All are tried at the same time.
#[track_caller]
pub fn passes(from: &Namespace, v4: IpAddr, v6: IpAddr, port: u16) -> BTreeSet<&'static str> {
    let start = |to| {
        [
            ("icmp", start_ping(from, to)),
            ("tcp", start_tcp(from, to, port)),
            ("udp", start_udp(from, to, port)),
        ]
    };
    let [v4, v6] = [v4, v6].map(start).map(|probes| {
        let passed = probes.into_iter().filter_map(|(name, probe)| probe.join().unwrap().then_some(name));
        passed.collect::<BTreeSet<_>>()
    });
    assert_eq!(v4, v6, "IPv4 and IPv6");
    v4
}

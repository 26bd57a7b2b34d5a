//! The machines of every world, each a namespace, and packets between them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use felix_oracle::world::{End, PODS, PORTS, Packet, Traffic};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Namespace, Pod, run};

/// UDP whose checksum may cover a part.
const UDP_LITE: Protocol = Protocol::UDPLITE;

/// A node with pods, and a machine outside. Removed when the value goes.
pub struct Machines {
    answering: Vec<Answering>,
    pods: Vec<Pod>,
    outside: Namespace,
    pub host: Namespace,
    port: Cell<u16>,
    /// The kernel speaks it; later ones have it no more.
    pub udp_lite: bool,
}

impl Machines {
    pub fn new() -> Self {
        let host = Namespace::host();
        let outside = Namespace::new();
        run(&format!(
            "ip link add up1 netns {host} type veth peer name eth0 netns {outside} && \
             ip -n {host} link set up1 master up0 && ip -n {host} link set up1 up",
            host = host.0,
            outside = outside.0,
        ));
        host.must(
            "ip addr add fd00:31::1/64 dev up0 nodad && ip -6 route add default via fd00:31::fe && \
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        );
        // With it connection tracking takes UDP-Lite that comes over a veth pair for invalid, and Felix drops that.
        host.must("sysctl -qw net.netfilter.nf_conntrack_checksum=0");
        outside.must(
            "ip addr add 172.31.0.254/24 dev eth0 && ip addr add fd00:31::fe/64 dev eth0 nodad && \
             ip link set eth0 up && ip route add 10.65.0.0/24 via 172.31.0.1 && \
             ip -6 route add fd00:65::/64 via fd00:31::1",
        );
        // A host endpoint that denies everything denies neighbour discovery too, which is none of the packets judged.
        neighbour(&host, "up0", &outside, "eth0", [End::Node, End::Outside]);
        neighbour(&outside, "eth0", &host, "up0", [End::Outside, End::Node]);
        let pods: Vec<Pod> = (0..PODS).map(|n| Pod::new(&host, u8::try_from(n).unwrap() + 2)).collect();
        let udp_lite = Socket::new(Domain::IPV4, Type::DGRAM, Some(UDP_LITE)).is_ok();
        let port = Cell::new(20_000);
        let mut machines = Self { answering: Vec::new(), pods, outside, host, port, udp_lite };
        let answering = End::all().map(|e| Answering::start(machines.namespace(e), udp_lite)).collect();
        machines.answering = answering;
        machines
    }

    fn namespace(&self, end: End) -> &Namespace {
        match end {
            End::Pod(n) => &self.pods[n].ns,
            End::Node => &self.host,
            End::Outside => &self.outside,
        }
    }

    /// A source port that no earlier probe had for long: the kernel still knows that one's flow.
    pub fn next_port(&self) -> u16 {
        let port = self.port.get();
        // A step that visits every port, and low ones as often as high ones.
        self.port.set(20_000 + (port - 20_000 + 10_007) % 40_000);
        port
    }

    /// Sends all packets at once and says which were answered in time.
    pub fn send(&self, packets: &[Packet], wait_ms: u64) -> Vec<bool> {
        let mut by_end: BTreeMap<End, Vec<(usize, Packet)>> = BTreeMap::new();
        for (n, packet) in packets.iter().enumerate() {
            by_end.entry(packet.from).or_default().push((n, *packet));
        }
        let threads: Vec<_> = by_end
            .into_iter()
            .map(|(end, packets)| {
                self.namespace(end).inside(move || probe(&packets, Duration::from_millis(wait_ms)))
            })
            .collect();
        let mut answered = vec![false; packets.len()];
        for thread in threads {
            for n in thread.join().expect("a probe") {
                answered[n] = true;
            }
        }
        answered
    }
}

/// Tells one machine the other's link address for good.
fn neighbour(here: &Namespace, device: &str, there: &Namespace, far: &str, ends: [End; 2]) {
    let mac = there.must(&format!("cat /sys/class/net/{far}/address"));
    for v4 in [true, false] {
        let addr = ends[1].address(v4);
        here.must(&format!("ip neigh replace {addr} lladdr {} dev {device} nud permanent", mac.trim()));
    }
}

/// Answers TCP, UDP and, if so, UDP-Lite on every port until it is dropped.
struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Answering {
    fn start(ns: &Namespace, udp_lite: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let halt = stop.clone();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = ns.inside(move || {
            let sockets: Vec<Socket> = [true, false]
                .into_iter()
                .flat_map(|v4| {
                    let lite = udp_lite.then_some((Type::DGRAM, Some(UDP_LITE)));
                    let kinds = [(Type::STREAM, None), (Type::DGRAM, None)].into_iter().chain(lite);
                    kinds.flat_map(move |(t, protocol)| PORTS.map(|p| open(v4, t, protocol, p)))
                })
                .collect();
            for s in sockets.iter().filter(|s| s.r#type().ok() == Some(Type::STREAM)) {
                s.listen(256).expect("listen");
            }
            ready.send(()).expect("ready");
            while !halt.load(Ordering::Relaxed) {
                answer(&sockets);
            }
        });
        started.recv().expect("the answering machine");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn any(v4: bool) -> IpAddr {
    if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }
}

fn open(v4: bool, kind: Type, protocol: Option<Protocol>, port: u16) -> Socket {
    let socket = Socket::new(if v4 { Domain::IPV4 } else { Domain::IPV6 }, kind, protocol).expect("socket");
    if !v4 {
        socket.set_only_v6(true).expect("IPv6 alone");
    }
    socket.set_reuse_address(true).expect("reuse");
    socket.bind(&SocketAddr::new(any(v4), port).into()).expect("bind");
    socket.set_nonblocking(true).expect("nonblocking");
    socket
}

/// Waits a little and answers what came. A connection is answered by the kernel already.
fn answer(sockets: &[Socket]) {
    let mut polled: Vec<PollFd<'_>> =
        sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut polled, PollTimeout::from(100u8));
    for socket in sockets {
        if socket.r#type().ok() == Some(Type::STREAM) {
            while socket.accept().is_ok() {}
            continue;
        }
        let mut buf = [MaybeUninit::<u8>::uninit(); 8];
        while let Ok((_, from)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(b"x", &from);
        }
    }
}

/// One packet under way.
struct Sent {
    number: usize,
    socket: Socket,
    traffic: Traffic,
    /// The identifier of an echo request.
    echo: Option<u16>,
}

/// Sends from the calling thread's namespace. Returns the numbers of those that were answered.
fn probe(packets: &[(usize, Packet)], wait: Duration) -> Vec<usize> {
    let mut waiting: Vec<Sent> = packets.iter().filter_map(|(n, p)| start(*n, p)).collect();
    let mut answered = Vec::new();
    let until = Instant::now() + wait;
    while !waiting.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let mut polled: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|s| {
                let connecting = matches!(s.traffic, Traffic::Tcp(_));
                let flags = if connecting { PollFlags::POLLOUT } else { PollFlags::POLLIN };
                PollFd::new(s.socket.as_fd(), flags)
            })
            .collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut polled, timeout);
        let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap_or(false)).collect();
        let mut index = 0;
        waiting.retain(|s| {
            let ready = ready[index];
            index += 1;
            match ready.then(|| finished(s)).flatten() {
                Some(true) => answered.push(s.number),
                Some(false) => {}
                None => return true,
            }
            false
        });
    }
    answered
}

/// Sends the first packet. None where the kernel refuses at once, or where it is of a protocol that is not sent.
fn start(number: usize, p: &Packet) -> Option<Sent> {
    let (v4, to) = (p.v4, p.to.address(p.v4));
    let (socket, port) = match p.traffic {
        Traffic::Tcp(port) => (open(v4, Type::STREAM, None, p.source_port), port),
        Traffic::Udp(port) => (open(v4, Type::DGRAM, None, p.source_port), port),
        Traffic::UdpLite(port) => (open(v4, Type::DGRAM, Some(UDP_LITE), p.source_port), port),
        Traffic::Sctp(_) => return None,
        Traffic::Ping => {
            let (domain, protocol) =
                if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
            let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("raw socket");
            socket.set_nonblocking(true).expect("nonblocking");
            (socket, 0)
        }
    };
    match socket.connect(&SocketAddr::new(to, port).into()) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
        Err(_) => return None,
    }
    match p.traffic {
        Traffic::Tcp(_) | Traffic::Sctp(_) => {}
        Traffic::Udp(_) | Traffic::UdpLite(_) => drop(socket.send(b"x")),
        Traffic::Ping => drop(socket.send(&echo(v4, p.source_port))),
    }
    let echo = (p.traffic == Traffic::Ping).then_some(p.source_port);
    Some(Sent { number, socket, traffic: p.traffic, echo })
}

/// An echo request. The source port is its identifier: the kernel tells flows apart by it.
fn echo(v4: bool, id: u16) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    if v4 {
        let mut sum: u32 = packet.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from(sum & 0xffff).unwrap_or(0);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Whether a socket that is ready has its answer, an error, or somebody else's packet.
fn finished(sent: &Sent) -> Option<bool> {
    if matches!(sent.traffic, Traffic::Tcp(_)) {
        return Some(sent.socket.take_error().ok().flatten().is_none() && sent.socket.peer_addr().is_ok());
    }
    let mut buf = [0; 128];
    match (&sent.socket).read(&mut buf) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(false),
        Ok(_) if sent.echo.is_none() => Some(true),
        // A raw socket hears every ICMP message from its peer; an IPv4 one with the IP header before it.
        Ok(n) => {
            let message = if buf[0] >> 4 == 4 { buf.get(20..n) } else { buf.get(..n) };
            let reply = message.is_some_and(|m| {
                matches!(m.first(), Some(0 | 129))
                    && m.get(4..6) == sent.echo.map(u16::to_be_bytes).as_ref().map(|b| &b[..])
            });
            reply.then_some(true)
        }
    }
}

//! A flood of packets while rules with lists of networks and ports are replaced: none that is allowed is lost, none that
//! is denied gets through. The kernel's own windows (docs/adr/0006) are a few packets in a hundred thousand: a probe
//! that sends one a millisecond does not see them.
//!
//! `CALICO_PROBE_COMMITS`: how many changes (default 300).

mod lab;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_message::{
    Action, IpSetDelta, IpSetId, IpSetKind, IpSetMember, IpSetUpdate, Message, PortRange, Rule,
};
use ipnet::IpNet;
use lab::{Felix, Namespace, Pod, allow, policy, profile, ready, roomy, tier};
use libcalico_api::num_or_string::Protocol;

const PORT: u16 = 8080;
/// Packets on their way at a time: few enough for every queue.
const WINDOW: u64 = 64;
/// After so long a packet is lost.
const LOST: Duration = Duration::from_secs(20);

/// Sends back every datagram.
fn echo(ns: &Namespace, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let stop = stop.clone();
    let (ready, started) = std::sync::mpsc::channel();
    let thread = ns.inside(move || {
        let socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        roomy(&socket);
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        ready.send(()).unwrap();
        let mut buf = [0; 16];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((n, from)) = socket.recv_from(&mut buf) {
                let _ = socket.send_to(&buf[..n], from);
            }
        }
    });
    started.recv().unwrap();
    thread
}

/// How many were sent, and how many came back.
type Flooded = (u64, u64);

/// Sends as fast as answers come. `answered`: answers are expected.
fn flood(
    ns: &Namespace,
    to: IpAddr,
    answered: bool,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<Flooded> {
    let stop = stop.clone();
    ns.inside(move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        socket.connect(SocketAddr::new(to, PORT)).unwrap();
        let pause = if answered { Duration::from_millis(20) } else { Duration::from_micros(200) };
        socket.set_read_timeout(Some(pause)).unwrap();
        let (mut sent, mut back) = (0_u64, 0_u64);
        // Answered in order: one path, one queue. What is behind the last answer is on its way, or lost.
        let (mut seen, mut last_answer) = (0_u64, Instant::now());
        let mut buf = [0; 16];
        loop {
            let ending = stop.load(Ordering::Relaxed);
            while !ending && sent - seen < WINDOW {
                if socket.send(&(sent + 1).to_be_bytes()).is_ok() {
                    sent += 1;
                }
            }
            if let Ok(8) = socket.recv(&mut buf) {
                back += 1;
                let number = u64::from_be_bytes(*buf.first_chunk().unwrap());
                (seen, last_answer) = (seen.max(number), Instant::now());
            }
            if !answered || last_answer.elapsed() > LOST {
                (seen, last_answer) = (sent, Instant::now());
            }
            if ending && seen == sent {
                return (sent, back);
            }
        }
    })
}

fn random_nets(n: u32) -> impl Iterator<Item = IpNet> {
    (0..n).map(|_| {
        let [_, a, b, c] = rand::random::<[u8; 4]>();
        let len = rand::random_range(20..=32);
        IpNet::new([172, 16 | (a & 15), b, c].into(), len).unwrap().trunc()
    })
}

/// UDP of one source to one port, and of and to random others.
fn udp(action: Action, source: Option<IpAddr>) -> Rule {
    let mut rule = Rule { action, protocol: Some(Protocol::Number(17)), ..Rule::default() };
    rule.src.nets = random_nets(rand::random_range(2..9)).collect();
    rule.src.nets.extend(source.map(IpNet::from));
    rule.dst.ports = (0..rand::random_range(2..9))
        .map(|_| {
            let first = rand::random_range(10_000..60_000);
            PortRange { first, last: first + rand::random_range(0..200) }
        })
        .collect();
    rule.dst.ports.push(PortRange { first: PORT, last: PORT });
    rule
}

#[test]
fn no_packet_of_a_flood_is_lost_or_leaks_while_lists_in_rules_are_replaced() {
    if !ready() {
        return;
    }
    let commits: u32 = std::env::var("CALICO_PROBE_COMMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let host = Namespace::host();
    // Every packet meets policy: none belongs to a connection that is known.
    host.must(
        "nft add table ip probe && nft add chain ip probe pre '{ type filter hook prerouting priority -301; }' \
         && nft add rule ip probe pre notrack",
    );
    let (a, b, c) = (Pod::new(&host, 2), Pod::new(&host, 3), Pod::new(&host, 4));
    let felix = Felix::start(&host, Config::default());
    let id: IpSetId = "s:friends".into();
    let net = |n: IpNet| IpSetMember::Net(n);
    let rules = |round: u32| {
        let mut friends = allow();
        friends.src.ip_sets = vec![id.clone()];
        let allowed = if round % 4 == 3 { friends } else { udp(Action::Allow, Some(a.v4)) };
        // Denied before everything is allowed: a list that is empty for a moment would leak.
        vec![
            policy("open", vec![udp(Action::Deny, None), allowed], vec![]),
            policy("closed", vec![udp(Action::Deny, Some(a.v4)), allow()], vec![]),
        ]
    };
    let set = IpSetUpdate { id: id.clone(), kind: IpSetKind::Net, members: vec![net(a.v4.into())] };
    let mut messages = rules(0);
    messages.extend([
        Message::IpSetUpdate(set),
        profile("open", vec![allow()], vec![allow()]),
        a.endpoint(vec![], &["open"]),
        b.endpoint(vec![tier(&["open"], &[])], &["open"]),
        c.endpoint(vec![tier(&["closed"], &[])], &["open"]),
        Message::InSync,
    ]);
    felix.apply(messages);
    let stop = Arc::new(AtomicBool::new(false));
    let (end_echo, echoes) = (Arc::new(AtomicBool::new(false)), [&b, &c]);
    let echoes = echoes.map(|pod| echo(&pod.ns, &end_echo));
    let allowed = flood(&a.ns, b.v4, true, &stop);
    let denied = flood(&a.ns, c.v4, false, &stop);
    let mut guests: Vec<IpSetMember> = Vec::new();
    for round in 0..commits {
        let mut messages = rules(round);
        // Beside the one that counts, members come and go.
        let (removed, added) = (guests, random_nets(3).map(net).collect::<Vec<_>>());
        guests = added.clone();
        messages.push(Message::IpSetDelta(IpSetDelta { id: id.clone(), added, removed }));
        felix.apply(messages);
    }
    stop.store(true, Ordering::Relaxed);
    let ((sent, back), (tried, leaked)) = (allowed.join().unwrap(), denied.join().unwrap());
    end_echo.store(true, Ordering::Relaxed);
    echoes.into_iter().for_each(|t| t.join().unwrap());
    eprintln!("{commits} commits: {} of {sent} lost, {leaked} of {tried} leaked", sent - back);
    assert!(sent > 300 && tried > 300, "{sent} {tried}");
    assert_eq!((sent - back, leaked), (0, 0), "lost of {sent}, leaked of {tried}");
    // Lists go with the rules that looked into them.
    felix.apply(vec![policy("open", vec![], vec![]), policy("closed", vec![], vec![])]);
    let left = host.must("nft list sets ip; nft list sets ip6");
    assert!(!left.contains("cali4l-") && !left.contains("cali6l-"), "{left}");
}

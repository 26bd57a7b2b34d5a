//! Engines joined in memory, with a clock of their own: the transport and the kernel as in-memory twins.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bird_core::cli::{Request, parse};
use bird_core::config::{self, Source};
use bird_core::{
    Action, ConnId, Engine, Event, Interface, InterfaceAddress, KernelChange, KernelRoute, Options, Time,
    Timer,
};
use ipnet::IpNet;

/// Time a packet takes, in microseconds.
const LATENCY: u64 = 1000;

type Key = (IpNet, u32);

pub struct Node {
    pub engine: Option<Engine>,
    pub kernel: BTreeMap<Key, KernelRoute>,
    /// Every change of the kernel, in words.
    pub changes: Vec<String>,
    pub actions: usize,
    timers: HashMap<Timer, Time>,
    listening: bool,
    number: u8,
    /// Packets to and from this node wait.
    deaf: bool,
}

pub struct Sim {
    pub now: Time,
    pub nodes: Vec<Node>,
    queue: BTreeSet<(Time, u64)>,
    events: HashMap<u64, (usize, Event)>,
    sequence: u64,
    /// Both ends of every connection.
    peers: HashMap<(usize, ConnId), (usize, ConnId)>,
    next_accepted: u64,
    /// Packets of deaf nodes: TCP sends them again once they get through.
    held: Vec<(usize, Event)>,
}

fn interfaces(number: u8) -> Vec<Interface> {
    let address = |net: String| InterfaceAddress { net: net.parse().expect("an address"), peer: None };
    vec![Interface {
        index: 2,
        name: "eth0".into(),
        admin_up: true,
        link_up: true,
        loopback: false,
        broadcast: true,
        point_to_point: false,
        multicast: true,
        mtu_bytes: 1500,
        master: None,
        addresses: vec![address(format!("10.99.0.{number}/24")), address(format!("fd99::{number}/64"))],
    }]
}

pub fn parsed(text: &str) -> config::Config {
    config::parse(&Source::from_text("bird.cfg", text)).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

impl Sim {
    /// Nodes numbered from 1, with addresses 10.99.0.N and fd99::N, all on one link.
    pub fn new(count: u8) -> Self {
        let node = |number| Node {
            engine: None,
            kernel: BTreeMap::new(),
            changes: Vec::new(),
            actions: 0,
            timers: HashMap::new(),
            listening: false,
            number,
            deaf: false,
        };
        Self {
            now: Time(1_000_000_000_000_000),
            nodes: (1..=count).map(node).collect(),
            queue: BTreeSet::new(),
            events: HashMap::new(),
            sequence: 0,
            peers: HashMap::new(),
            next_accepted: ConnId::ACCEPTED,
            held: Vec::new(),
        }
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    fn later(&mut self, node: usize, micros: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((Time(self.now.0 + micros), self.sequence));
        self.events.insert(self.sequence, (node, event));
    }

    pub fn start(&mut self, number: usize, text: &str) {
        self.start_with(number, text, false);
    }

    pub fn start_with(&mut self, number: usize, text: &str, recover: bool) {
        let options = Options { recover, utc_offset_secs: 0, hostname: "node".into() };
        self.nodes[number - 1].engine = Some(Engine::new(parsed(text), options, self.now));
        self.feed(number, Event::Start);
    }

    pub fn configure(&mut self, number: usize, text: &str) {
        parsed(text);
        self.feed(number, Event::Configure { source: Source::from_text("bird.cfg", text), soft: false });
    }

    /// As SIGKILL: connections close, the kernel stays.
    pub fn kill(&mut self, number: usize) {
        let index = number - 1;
        self.nodes[index].engine = None;
        self.nodes[index].timers.clear();
        self.nodes[index].listening = false;
        // What was on its way to the dead one does not reach its successor.
        self.events.retain(|_, (node, _)| *node != index);
        self.held.retain(|(node, _)| *node != index);
        let ends: Vec<_> =
            self.peers.iter().filter(|(end, _)| end.0 == index).map(|(a, b)| (*a, *b)).collect();
        for (mine, theirs) in ends {
            self.peers.remove(&mine);
            self.peers.remove(&theirs);
            self.later(
                theirs.0,
                LATENCY,
                Event::Closed { conn: theirs.1, reason: "Connection closed".into() },
            );
        }
    }

    /// An UPDATE with this body reaches a node on each of its connections.
    pub fn garbage(&mut self, number: usize, body: &[u8]) {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).expect("short").to_be_bytes());
        message.push(2);
        message.extend(body);
        let mut conns: Vec<ConnId> =
            self.peers.keys().filter(|(n, _)| *n == number - 1).map(|(_, c)| *c).collect();
        conns.sort();
        for conn in conns {
            self.feed(number, Event::Received { conn, message: message.clone() });
        }
    }

    pub fn feed(&mut self, number: usize, event: Event) {
        let index = number - 1;
        let now = self.now;
        let Some(engine) = self.nodes[index].engine.as_mut() else { return };
        for action in engine.step(now, event) {
            self.nodes[index].actions += 1;
            self.act(index, action);
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Listen(_) => self.nodes[index].listening = true,
            Action::Connect(conn, connect) => self.connect(index, conn, connect.remote, connect.local),
            Action::Tune(..) => {}
            Action::Send(conn, data) => {
                if let Some(&(peer, other)) = self.peers.get(&(index, conn)) {
                    let event = Event::Received { conn: other, message: data.to_vec() };
                    if self.nodes[peer].deaf || self.nodes[index].deaf {
                        self.held.push((peer, event));
                    } else {
                        self.later(peer, LATENCY, event);
                    }
                }
            }
            Action::NotifyWritable(conn) => self.later(index, 10, Event::Writable { conn }),
            Action::Close(conn) => {
                if let Some((peer, other)) = self.peers.remove(&(index, conn)) {
                    self.peers.remove(&(peer, other));
                    let reason = "Connection closed".into();
                    self.later(peer, LATENCY + 1, Event::Closed { conn: other, reason });
                }
            }
            Action::SetTimer(timer, at) => {
                self.nodes[index].timers.insert(timer, at);
            }
            Action::ClearTimer(timer) => {
                self.nodes[index].timers.remove(&timer);
            }
            Action::ScanInterfaces => {
                let all = interfaces(self.nodes[index].number);
                self.later(index, 0, Event::Interfaces(all));
            }
            Action::ScanKernel { table, ipv6 } => {
                let routes = self.nodes[index].kernel.values();
                let routes = routes.filter(|r| r.prefix.addr().is_ipv6() == ipv6).cloned().collect();
                self.later(index, 0, Event::KernelRoutes { table, ipv6, routes });
            }
            Action::Kernel { changes, .. } => {
                for change in changes {
                    self.kernel(index, change);
                }
            }
            Action::Exit => self.kill(index + 1),
        }
    }

    fn kernel(&mut self, index: usize, change: KernelChange) {
        let node = &mut self.nodes[index];
        match change {
            KernelChange::Add(r) => {
                node.changes.push(format!("add {}", r.prefix));
                assert!(node.kernel.insert((r.prefix, r.metric), r).is_none(), "added what was there");
            }
            KernelChange::Replace(r) => {
                node.changes.push(format!("replace {}", r.prefix));
                assert!(node.kernel.insert((r.prefix, r.metric), r).is_some(), "replaced what was not there");
            }
            KernelChange::Delete(r) => {
                node.changes.push(format!("delete {}", r.prefix));
                node.kernel.remove(&(r.prefix, r.metric));
            }
        }
    }

    fn connect(&mut self, index: usize, conn: ConnId, remote: IpAddr, local: Option<IpAddr>) {
        let number = match remote {
            IpAddr::V4(a) => usize::from(a.octets()[3]),
            IpAddr::V6(a) => usize::from(a.segments()[7]),
        };
        let local = local.unwrap_or_else(|| match remote {
            IpAddr::V4(_) => IpAddr::from([10, 99, 0, self.nodes[index].number]),
            IpAddr::V6(_) => format!("fd99::{}", self.nodes[index].number).parse().expect("an address"),
        });
        let answers = self.nodes.get(number - 1).is_some_and(|n| n.listening && !n.deaf);
        if !answers {
            self.later(index, LATENCY, Event::Closed { conn, reason: "Connection refused".into() });
            return;
        }
        let other = ConnId(self.next_accepted);
        self.next_accepted += 1;
        self.peers.insert((index, conn), (number - 1, other));
        self.peers.insert((number - 1, other), (index, conn));
        self.later(
            number - 1,
            LATENCY,
            Event::Incoming { conn: other, local: remote, port: 179, remote: local },
        );
        self.later(index, LATENCY, Event::Connected { conn, local });
    }

    /// Cuts a node off, or lets packets through again.
    pub fn set_deaf(&mut self, number: usize, deaf: bool) {
        self.nodes[number - 1].deaf = deaf;
        if self.nodes.iter().all(|n| !n.deaf) {
            for (node, event) in std::mem::take(&mut self.held) {
                self.later(node, LATENCY, event);
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, secs: u64) {
        let end = self.now.plus_secs(secs);
        loop {
            let packet = self.queue.first().copied();
            let timer = self
                .nodes
                .iter()
                .enumerate()
                .flat_map(|(i, n)| n.timers.iter().map(move |(t, at)| (*at, i, *t)))
                .min();
            match (packet, timer) {
                (Some((at, id)), timer) if at <= end && timer.is_none_or(|(t, ..)| at <= t) => {
                    self.queue.remove(&(at, id));
                    self.now = self.now.max(at);
                    if let Some((node, event)) = self.events.remove(&id) {
                        self.feed(node + 1, event);
                    }
                }
                (_, Some((at, node, timer))) if at <= end => {
                    self.now = self.now.max(at);
                    self.nodes[node].timers.remove(&timer);
                    self.feed(node + 1, Event::Timer(timer));
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// The answer to a command of the control socket.
    pub fn ask(&self, number: usize, command: &str) -> String {
        let request: Request = parse(command).unwrap_or_else(|r| panic!("{}", r.encode()));
        let engine = self.node(number).engine.as_ref().expect("the node runs");
        engine.answer(self.now, &request).expect("a command that only looks").encode()
    }

    pub fn established(&self, number: usize) -> usize {
        self.ask(number, "show protocols").matches("Established").count()
    }

    /// Our routes in a node's kernel, in words.
    pub fn routes(&self, number: usize) -> Vec<String> {
        let node = self.node(number);
        let ours = node.kernel.values().filter(|r| r.protocol == bird_core::KERNEL_PROTOCOL);
        ours.map(|r| match &r.dest {
            bird_core::KernelDest::Unicast(hops) => {
                let hops: Vec<String> =
                    hops.iter().map(|h| h.gateway.map_or("link".into(), |g| g.to_string())).collect();
                format!("{} via {}", r.prefix, hops.join(" "))
            }
            other => format!("{} {}", r.prefix, format!("{other:?}").to_lowercase()),
        })
        .collect()
    }
}

/// Everything but sessions.
pub fn base(number: usize) -> String {
    format!(
        "router id 10.99.0.{number};
        protocol device {{}}
        protocol direct {{ ipv4; ipv6; }}
        protocol kernel {{ learn; persist; graceful restart; merge paths on; metric 0; scan time 2;
          ipv4 {{ import all; export all; }}; }}
        protocol static {{ ipv4; route 10.65.{number}.0/26 blackhole; }}
        template bgp t {{ local as 64512; multihop; graceful restart; connect delay time 1; connect retry time 2;
          error wait time 1,2; hold time 9; }}\n"
    )
}

/// A session from one node to another.
pub fn session(from: usize, to: usize, options: &str) -> String {
    format!(
        "protocol bgp to{to} from t {{ neighbor 10.99.0.{to} as 64512; source address 10.99.0.{from}; {options}
          ipv4 {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; }}; }}\n"
    )
}

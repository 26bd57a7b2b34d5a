//! A world: one node with a few pods, a machine outside, and everything that policy is made of.
//!
//! Addresses are given by place, so that a test can build the same machines once and try many worlds on them: pod `n`
//! has `10.65.0.(2+n)` and `fd00:65::(2+n)`, the node `172.31.0.1` and `fd00:31::1`, the machine outside
//! `172.31.0.254` and `fd00:31::fe`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use crate::selector::{Labels, Selector};

/// The node's name.
pub const NODE: &str = "host";
/// The node's interface towards the machine outside.
pub const UPLINK: &str = "up0";
/// Pods of a world.
pub const PODS: usize = 3;
/// The namespaces, by number.
pub const NAMESPACES: [&str; 2] = ["red", "blue"];
/// The service accounts of every namespace, by number.
pub const ACCOUNTS: [&str; 2] = ["alice", "bob"];
/// Ports on which everyone answers TCP and UDP; none is a failsafe port.
pub const PORTS: [u16; 2] = [7001, 7002];

/// An end of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Pod(usize),
    Node,
    Outside,
}

impl End {
    /// Every end.
    pub fn all() -> impl Iterator<Item = End> {
        (0..PODS).map(End::Pod).chain([End::Node, End::Outside])
    }

    /// The end's address of a family.
    #[must_use]
    pub fn address(self, v4: bool) -> IpAddr {
        let (net, host) = match self {
            Self::Pod(n) => (65, u8::try_from(n).unwrap_or(0) + 2),
            Self::Node => (31, 1),
            Self::Outside => (31, 254),
        };
        match (v4, net) {
            (true, 65) => IpAddr::V4(Ipv4Addr::new(10, 65, 0, host)),
            (true, _) => IpAddr::V4(Ipv4Addr::new(172, 31, 0, host)),
            (false, 65) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x65, 0, 0, 0, 0, 0, u16::from(host))),
            (false, _) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, u16::from(host))),
        }
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    Tcp(u16),
    Udp(u16),
    /// An echo request.
    Ping,
}

impl Traffic {
    /// What is tried between two ends.
    pub fn all() -> impl Iterator<Item = Traffic> {
        PORTS.into_iter().flat_map(|p| [Self::Tcp(p), Self::Udp(p)]).chain([Self::Ping])
    }
}

/// A connection's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub from: End,
    pub to: End,
    pub v4: bool,
    pub traffic: Traffic,
    /// Between 20,000 and 59,999, so that rules can tell source ports apart without a probe choosing one.
    pub source_port: u16,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Of [`NAMESPACES`].
    pub namespaces: [Namespace; 2],
    /// Labels of each account in each namespace, of [`ACCOUNTS`].
    pub accounts: [[Labels; 2]; 2],
    pub pods: Vec<Pod>,
    pub profiles: Vec<Profile>,
    pub sets: Vec<Set>,
    /// The default tier stands in every world besides these.
    pub tiers: Vec<Tier>,
    pub policies: Vec<Policy>,
    /// The node's own endpoint, on [`UPLINK`].
    pub host: Option<Host>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub labels: Labels,
    /// Its profile allows everything; else it has no rules.
    pub open: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: usize,
    pub account: usize,
    pub labels: Labels,
    pub ports: Vec<NamedPort>,
    /// A profile of [`World::profiles`], before those of namespace and account.
    pub profile: Option<usize>,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub tcp: bool,
    pub port: u16,
}

/// A profile that pods and the node may have, besides those of namespaces and accounts.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub labels: Labels,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

/// A `NetworkSet` or, without a namespace, a `GlobalNetworkSet`.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub namespace: Option<usize>,
    pub labels: Labels,
    pub nets: Vec<IpNet>,
}

/// A tier besides the default one.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    pub name: String,
    pub order: Option<f64>,
    /// What happens at its end: pass rather than deny.
    pub pass: bool,
}

/// The node's host endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub labels: Labels,
    /// Found by its address rather than by the interface's name.
    pub by_address: bool,
    /// A profile of [`World::profiles`].
    pub profile: Option<usize>,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyUse {
    Normal,
    /// Normal, and for packets that the node forwards.
    Forward,
    /// Before destination NAT. Ingress alone.
    PreDnat,
}

/// A policy of any of Calico's kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub name: String,
    /// `NetworkPolicy` rather than `GlobalNetworkPolicy`.
    pub namespace: Option<usize>,
    /// Counted and reported, not enforced.
    pub staged: bool,
    /// Of [`World::tiers`]; none: the default tier.
    pub tier: Option<usize>,
    pub order: Option<f64>,
    pub selector: Selector,
    /// Only endpoints in namespaces with such labels. For policies without a namespace.
    pub namespace_selector: Option<Selector>,
    /// Only pods of accounts with such labels.
    pub account_selector: Option<Selector>,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
    pub purpose: PolicyUse,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    Pass,
    Log,
}

/// A protocol, as a rule writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Number(u8),
}

impl Protocol {
    /// IANA number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Number(n) => n,
        }
    }
}

/// ICMP type and, where given, code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    pub icmp_type: u8,
    pub code: Option<u8>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub action: Action,
    pub ip_version: Option<u8>,
    pub protocol: Option<Protocol>,
    pub not_protocol: Option<Protocol>,
    pub icmp: Option<Icmp>,
    pub not_icmp: Option<Icmp>,
    pub source: Side,
    pub destination: Side,
}

/// A port as a rule writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    Range(u16, u16),
    Named(String),
}

/// Which namespaces a side is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSelector {
    /// What is in no namespace.
    Global,
    Labels(Selector),
}

/// One side of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    pub nets: Vec<IpNet>,
    pub not_nets: Vec<IpNet>,
    pub selector: Option<Selector>,
    pub not_selector: Option<Selector>,
    pub namespace_selector: Option<NamespaceSelector>,
    pub account_names: Vec<usize>,
    pub account_selector: Option<Selector>,
    pub ports: Vec<Port>,
    pub not_ports: Vec<Port>,
}

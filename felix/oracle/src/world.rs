//! A world: one node with a few pods, a machine outside, and everything that policy is made of.
//!
//! Addresses are given by place, so that a test can build the same machines once and try many worlds on them: pod `n`
//! has `10.65.0.(2+n)` and `fd00:65::(2+n)`, the node `172.31.0.1` and `fd00:31::1`, the machine outside
//! `172.31.0.254` and `fd00:31::fe`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

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
/// Ports on which everyone answers TCP, UDP and UDP-Lite.
pub const PORTS: [u16; 3] = [7001, 7002, FAILSAFE];
/// The source port of the packets that `calicoctl policy explain` thinks of. Pods may give it a name.
pub const SOURCE_PORT: u16 = 54_321;
/// At the node's endpoint no policy closes this port: inwards of TCP from [`failsafe_net`], outwards of UDP.
pub const FAILSAFE: u16 = 7003;
/// A node besides [`NODE`], of which policy knows endpoints.
pub const OTHER_NODE: &str = "elsewhere";

/// Number of the profile that is there unwritten and allows everything, in [`Profiles::own`].
pub const DEFAULT_ALLOW: usize = 99;

/// Whom the inward failsafe port is for: the machine outside, by its IPv4 address alone.
#[must_use]
pub fn failsafe_net() -> IpNet {
    Ipv4Net::from(Ipv4Addr::new(172, 31, 0, 254)).into()
}

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
    UdpLite(u16),
    /// No packet of it is sent: few kernels speak it. What evaluators answer is judged.
    Sctp(u16),
    /// An echo request.
    Ping,
}

impl Traffic {
    /// What is tried between two ends.
    pub fn all() -> impl Iterator<Item = Traffic> {
        let [first, second, failsafe] = PORTS;
        let tcp = PORTS.into_iter().map(Self::Tcp);
        let udp = [first, failsafe].into_iter().map(Self::Udp);
        tcp.chain(udp).chain([Self::Sctp(second), Self::UdpLite(failsafe), Self::Ping])
    }
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    /// IANA number.
    #[must_use]
    pub fn number(self) -> u8 {
        Protocol::from(self).number()
    }
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
            Transport::Sctp => Self::Sctp,
        }
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
    /// Endpoints of [`OTHER_NODE`], which have the address of an end too.
    pub remotes: Vec<Remote>,
    pub services: Vec<Service>,
    /// The default tier and Kubernetes' stand in every world besides these.
    pub tiers: Vec<Tier>,
    pub policies: Vec<Policy>,
    pub kubernetes: Vec<KubernetesPolicy>,
    pub cluster: Vec<ClusterPolicy>,
    /// The node's own endpoint, on [`UPLINK`] at least where no other is.
    pub host: Option<Host>,
    /// Another endpoint of the node besides that one.
    pub beside: Option<Host>,
    /// The machine outside, as an endpoint of [`OTHER_NODE`].
    pub outside: Option<Host>,
}

impl World {
    /// The node's endpoints by name: that of [`UPLINK`] first. Those found by an interface's name or addresses go before
    /// wildcard ones; of several the first by name has the interface.
    #[must_use]
    pub fn hosts(&self) -> Vec<(&'static str, &Host)> {
        let named = [("beside", &self.beside), ("uplink", &self.host)];
        let mut all: Vec<_> = named.into_iter().filter_map(|(n, h)| h.as_ref().map(|h| (n, h))).collect();
        all.sort_by_key(|(_, h)| h.interface == Interface::Any);
        all
    }

    /// True where packets to the end's address are its own: of pods of this node with one address the first by name has
    /// them.
    #[must_use]
    pub fn owns_its_address(&self, end: End) -> bool {
        let End::Pod(n) = end else { return true };
        let name = |n: usize| self.pods.get(n).map(|p| (NAMESPACES[p.namespace], n));
        let rivals = (0..self.pods.len()).filter(|r| self.pods[*r].also == Some(n));
        rivals.into_iter().all(|rival| name(n) < name(rival))
    }
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
    pub profiles: Profiles,
    /// It has the address of this pod too, besides its own. Not said of pods of another node.
    pub also: Option<usize>,
}

/// Which profiles an endpoint names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    /// Of [`World::profiles`] and [`DEFAULT_ALLOW`], in this order. One that is not there denies.
    pub own: Vec<usize>,
    /// Said of pods alone.
    pub membership: Membership,
}

/// Where a pod names the profiles of its namespace and its account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    #[default]
    BehindOwn,
    BeforeOwn,
    /// Nowhere: it has their labels and rules no more. It stays in its namespace.
    Nowhere,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub transport: Transport,
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
    /// Policies name it, and it is not there. They come last then, and it denies.
    pub missing: bool,
}

/// A pod of another node with the addresses of ends of this world. Without one it is not networked yet, or no longer.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    pub pod: Pod,
    pub at: Vec<End>,
}

/// A service of Kubernetes, as its EndpointSlices tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub namespace: usize,
    pub backends: Vec<End>,
    /// With the backends' port.
    pub ports: Vec<(Transport, u16)>,
    /// Its backends are not ready. They are its backends all the same.
    pub unready: bool,
    /// Each backend is told of in a slice of its own.
    pub apart: bool,
}

/// How a host endpoint is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By its name, [`UPLINK`].
    Named,
    /// By the addresses that it is expected to have.
    Addressed,
    /// It is for every interface that is no workload's: `*`.
    Any,
}

/// The node's host endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub labels: Labels,
    pub interface: Interface,
    /// It says which addresses it has; else no selector finds it at the other end. Always where these find it.
    pub addresses: bool,
    pub ports: Vec<NamedPort>,
    pub profiles: Profiles,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyUse {
    Normal,
    /// Normal, and for packets that the node forwards.
    Forward,
    /// Before destination NAT. Ingress alone.
    PreDnat,
    /// Without connection tracking, for packets that the node forwards too.
    Untracked,
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
    /// False: `types` is left to be what the API says it is then, and so are a selector of all and the default tier.
    pub types_given: bool,
    /// It has a hint for performance, which changes no verdict.
    pub hint: bool,
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
    UdpLite,
    Sctp,
    Number(u8),
    /// Its number, written as text.
    Digits(u8),
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
            Self::UdpLite => 136,
            Self::Sctp => 132,
            Self::Number(n) | Self::Digits(n) => n,
        }
    }
}

/// ICMP type and, where given, code. Without either every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    pub icmp_type: Option<u8>,
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
    /// It is about requests of HTTP, which no dataplane here looks at: it never matches. Of allowing ingress alone.
    pub http: bool,
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
    /// The one of this number: what a policy of Kubernetes means that names none. No rule of Calico's says it.
    Number(usize),
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
    /// Of [`World::services`]; then nothing else is said of this side. One that is not there has no backends.
    pub service: Option<usize>,
    pub ports: Vec<Port>,
    pub not_ports: Vec<Port>,
    /// Pods alone, no network sets and hosts: what Kubernetes' policies mean. No rule of Calico's says it.
    pub pods_only: bool,
}

/// A label selector of Kubernetes: all of these must hold, which are `Is`, `In`, `NotIn`, `Has` or `HasNot`.
pub type LabelSelector = Vec<Selector>;

/// `NetworkPolicy` of Kubernetes or, staged, `StagedKubernetesNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesPolicy {
    pub name: String,
    pub namespace: usize,
    pub staged: bool,
    pub pods: LabelSelector,
    /// False: `policyTypes` is left to be what Kubernetes says it is then.
    pub types_given: bool,
    pub ingress: Option<Vec<KubernetesRule>>,
    pub egress: Option<Vec<KubernetesRule>>,
}

/// A rule of a `NetworkPolicy` of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesRule {
    /// None: everyone.
    pub peers: Vec<KubernetesPeer>,
    /// None: everything.
    pub ports: Vec<KubernetesPort>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq)]
pub enum KubernetesPeer {
    /// Pods, of the policy's namespace where no namespaces are named. One of the two is given.
    Pods { namespaces: Option<LabelSelector>, pods: Option<LabelSelector> },
    /// A network, and what of it is left out.
    Block(IpNet, Vec<IpNet>),
}

/// A port of a `NetworkPolicy` of Kubernetes; none is all of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesPort {
    pub transport: Transport,
    pub port: Option<Port>,
}

/// `ClusterNetworkPolicy`: before (`Admin`) or after (`Baseline`) the policies of namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPolicy {
    pub name: String,
    pub admin: bool,
    pub priority: i32,
    pub subject: ClusterPods,
    pub ingress: Vec<ClusterRule>,
    pub egress: Vec<ClusterRule>,
}

/// Pods of a `ClusterNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPods {
    pub namespaces: LabelSelector,
    /// None: written as all pods of the namespaces.
    pub pods: Option<LabelSelector>,
}

/// A rule of a `ClusterNetworkPolicy`. Its action is Allow (written Accept), Deny or Pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRule {
    pub action: Action,
    pub peers: Vec<ClusterPeer>,
    /// None: everything.
    pub ports: Vec<ClusterPort>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterPeer {
    Pods(ClusterPods),
    /// Egress alone.
    Networks(Vec<IpNet>),
}

/// A protocol with or without ports, or a named port of any protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterPort {
    Of(Transport, Option<Port>),
    Named(String),
}

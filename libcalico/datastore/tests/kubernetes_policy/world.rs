//! Random small worlds: namespaces, pods, policies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub type Labels = BTreeMap<&'static str, &'static str>;

pub const NAMESPACES: [&str; 2] = ["red", "blue"];

#[derive(Clone, Debug)]
pub struct LabelSelector {
    pub labels: Labels,
    /// Label, operator, values.
    pub expressions: Vec<(&'static str, &'static str, Vec<&'static str>)>,
}

#[derive(Clone, Debug)]
pub enum Peer {
    Selectors { pods: Option<LabelSelector>, namespaces: Option<LabelSelector> },
    Block { cidr: &'static str, except: Vec<&'static str> },
}

#[derive(Clone, Debug)]
pub enum PolicyPort {
    All,
    Number(u16),
    Range(u16, u16),
    Named(&'static str),
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub peers: Vec<Peer>,
    pub ports: Vec<(Option<&'static str>, PolicyPort)>,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub namespace: usize,
    pub pods: LabelSelector,
    pub types: Option<Vec<&'static str>>,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: usize,
    pub labels: Labels,
    pub address: u8,
    /// Name, protocol, number.
    pub ports: Vec<(&'static str, &'static str, u16)>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub namespaces: Vec<Labels>,
    pub pods: Vec<Pod>,
    pub policies: Vec<Policy>,
    pub cluster_policies: Vec<ClusterPolicy>,
}

/// A ClusterNetworkPolicy.
#[derive(Clone, Debug)]
pub struct ClusterPolicy {
    pub admin: bool,
    pub priority: i32,
    pub namespaces: LabelSelector,
    pub pods: Option<LabelSelector>,
    pub ingress: Vec<ClusterRule>,
    pub egress: Vec<ClusterRule>,
}

#[derive(Clone, Debug)]
pub struct ClusterRule {
    pub action: &'static str,
    pub peers: Vec<ClusterPeer>,
    pub ports: Vec<ClusterPort>,
}

#[derive(Clone, Debug)]
pub enum ClusterPeer {
    Pods { namespaces: LabelSelector, pods: Option<LabelSelector> },
    Networks(Vec<&'static str>),
}

#[derive(Clone, Debug)]
pub enum ClusterPort {
    All(&'static str),
    Number(&'static str, u16),
    Range(&'static str, u16, u16),
    Named(&'static str),
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub pod: Option<usize>,
    pub ip: Ipv4Addr,
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(vec!["a", "b"]), select(vec!["x", "y"]), 0..3)
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let expression = prop_oneof![
        (
            select(vec!["a", "b"]),
            select(vec!["In", "NotIn"]),
            prop_oneof![Just(vec!["x"]), Just(vec!["y"]), Just(vec!["x", "y"])]
        ),
        (select(vec!["a", "b"]), select(vec!["Exists", "DoesNotExist"]), Just(vec![])),
    ];
    let one_label = btree_map(select(vec!["a", "b"]), select(vec!["x", "y"]), 0..2);
    (one_label, vec(expression, 0..2)).prop_map(|(labels, expressions)| LabelSelector { labels, expressions })
}

fn peer() -> impl Strategy<Value = Peer> {
    let blocks = prop_oneof![
        Just(("10.0.0.0/24", vec![])),
        Just(("10.0.0.0/24", vec!["10.0.0.0/30", "10.0.0.6/32"])),
        Just(("192.0.2.0/24", vec![])),
        Just(("0.0.0.0/0", vec!["10.0.0.4/30"])),
    ];
    prop_oneof![
        2 => (option::of(selector()), option::of(selector()))
            .prop_filter("a peer says something", |(p, n)| p.is_some() || n.is_some())
            .prop_map(|(pods, namespaces)| Peer::Selectors { pods, namespaces }),
        1 => blocks.prop_map(|(cidr, except)| Peer::Block { cidr, except }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let port = prop_oneof![
        1 => Just(PolicyPort::All),
        3 => select(vec![79u16, 80, 81]).prop_map(PolicyPort::Number),
        1 => Just(PolicyPort::Range(80, 90)),
        1 => select(vec!["web", "dns"]).prop_map(PolicyPort::Named),
    ];
    let ports = vec((select(vec![None, Some("TCP"), Some("UDP")]), port), 0..3);
    (vec(peer(), 0..3), ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn policy() -> impl Strategy<Value = Policy> {
    let types = prop_oneof![
        Just(None),
        Just(Some(vec!["Ingress"])),
        Just(Some(vec!["Egress"])),
        Just(Some(vec!["Ingress", "Egress"])),
    ];
    (0..2usize, selector(), types, vec(rule(), 0..3), vec(rule(), 0..3)).prop_map(
        |(namespace, pods, types, ingress, egress)| Policy { namespace, pods, types, ingress, egress },
    )
}

pub fn world() -> impl Strategy<Value = World> {
    let ports = prop_oneof![
        Just(vec![]),
        Just(vec![("web", "TCP", 80)]),
        Just(vec![("web", "TCP", 81), ("dns", "UDP", 80)]),
    ];
    let pods = vec((0..2usize, labels(), ports), 1..5).prop_map(|pods| {
        let address = 1u8..;
        let made = pods.into_iter().zip(address);
        made.map(|((namespace, labels, ports), address)| Pod { namespace, labels, address, ports }).collect()
    });
    (vec(labels(), 2), pods, vec(policy(), 0..4), vec(cluster_policy(), 0..4)).prop_map(
        |(namespaces, pods, policies, cluster_policies)| World {
            namespaces,
            pods,
            policies,
            cluster_policies,
        },
    )
}

fn cluster_rule(egress: bool) -> impl Strategy<Value = ClusterRule> {
    let pods = (selector(), option::of(selector()))
        .prop_map(|(namespaces, pods)| ClusterPeer::Pods { namespaces, pods });
    let networks = prop_oneof![
        Just(vec!["0.0.0.0/0"]),
        Just(vec!["10.0.0.0/30", "192.0.2.0/24"]),
        Just(vec!["10.0.0.2/32", "fd00::/8"]),
    ];
    let peer = if egress {
        prop_oneof![2 => pods, 1 => networks.prop_map(ClusterPeer::Networks)].boxed()
    } else {
        pods.boxed()
    };
    let protocol = || select(vec!["tcp", "udp"]);
    let port = prop_oneof![
        1 => protocol().prop_map(ClusterPort::All),
        3 => (protocol(), select(vec![79u16, 80, 81])).prop_map(|(p, n)| ClusterPort::Number(p, n)),
        1 => protocol().prop_map(|p| ClusterPort::Range(p, 80, 90)),
        1 => select(vec!["web", "dns"]).prop_map(ClusterPort::Named),
    ];
    (select(vec!["Accept", "Deny", "Pass"]), vec(peer, 1..3), vec(port, 0..3))
        .prop_map(|(action, peers, ports)| ClusterRule { action, peers, ports })
}

fn cluster_policy() -> impl Strategy<Value = ClusterPolicy> {
    let rules = (vec(cluster_rule(false), 0..3), vec(cluster_rule(true), 0..3));
    (any::<bool>(), 0..3i32, selector(), option::of(selector()), rules).prop_map(
        |(admin, priority, namespaces, pods, (ingress, egress))| ClusterPolicy {
            admin,
            priority,
            namespaces,
            pods,
            ingress,
            egress,
        },
    )
}

impl World {
    pub fn ends(&self) -> Vec<End> {
        let pod = |(i, p): (usize, &Pod)| End { pod: Some(i), ip: Ipv4Addr::new(10, 0, 0, p.address) };
        let mut ends: Vec<End> = self.pods.iter().enumerate().map(pod).collect();
        ends.push(End { pod: None, ip: Ipv4Addr::new(192, 0, 2, 9) });
        ends
    }
}

pub fn intern(protocol: &str) -> &'static str {
    if protocol == "TCP" { "TCP" } else { "UDP" }
}

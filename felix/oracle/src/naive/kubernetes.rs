//! Kubernetes' own policies in the world's words, as Kubernetes' documentation gives their meaning.
//!
//! - Policies add up: what one of them allows is allowed. Where any applies to a pod in a direction, the rest is
//!   denied. As policies of the default tier (order 1,000) whose rules allow they do just that.
//! - `policyTypes` that are left out are Ingress, and Egress where there are rules for it.
//! - Peers are pods; those that name no namespaces are of the policy's namespace. A port without a protocol is TCP's.
//! - `ClusterNetworkPolicy` of tier Admin goes before, of tier Baseline after the others, by priority. What no rule of
//!   theirs matches goes on.
//!
//! One thing is upstream's, not the documentation's: a peer of a `ClusterNetworkPolicy` that names namespaces alone
//! means their network sets too.

use ipnet::IpNet;

use super::{Place, Subject};
use crate::world::{
    Action, ClusterPeer, ClusterPods, ClusterPolicy, ClusterPort, ClusterRule, KubernetesPeer,
    KubernetesPolicy, KubernetesRule, LabelSelector, NamespaceSelector, Policy, PolicyUse, Port, Protocol,
    Rule, Selector, Side,
};

/// A `NetworkPolicy` of Kubernetes.
pub fn policy(p: &KubernetesPolicy) -> Subject {
    let rules = |list: &Option<Vec<KubernetesRule>>, ingress: bool| {
        list.as_ref().map(|list| list.iter().flat_map(|r| allows(r, p.namespace, ingress)).collect())
    };
    let mut ingress = rules(&p.ingress, true);
    let egress = rules(&p.egress, false);
    if !p.types_given {
        ingress = ingress.or(Some(Vec::new()));
    }
    let egress = egress.filter(|list: &Vec<Rule>| p.types_given || !list.is_empty());
    Subject {
        place: Place::Default,
        kind: "NetworkPolicy",
        pods_only: true,
        policy: Policy {
            name: format!("knp.default.{}", p.name),
            namespace: Some(p.namespace),
            staged: p.staged,
            tier: None,
            order: Some(1000.0),
            selector: all_of(&p.pods),
            namespace_selector: None,
            account_selector: None,
            types_given: true,
            hint: false,
            ingress,
            egress,
            purpose: PolicyUse::Normal,
        },
    }
}

/// A `ClusterNetworkPolicy`.
pub fn cluster(p: &ClusterPolicy) -> Subject {
    let rules = |list: &[ClusterRule], ingress: bool| {
        let all: Vec<Rule> = list.iter().flat_map(|r| decides(r, ingress)).collect();
        (!all.is_empty()).then_some(all)
    };
    Subject {
        place: if p.admin { Place::Admin } else { Place::Baseline },
        kind: "KubernetesClusterNetworkPolicy",
        pods_only: true,
        policy: Policy {
            name: p.name.clone(),
            namespace: None,
            staged: false,
            tier: None,
            order: Some(f64::from(p.priority)),
            selector: p.subject.pods.as_ref().map_or(Selector::All, all_of),
            namespace_selector: Some(all_of(&p.subject.namespaces)),
            account_selector: None,
            types_given: true,
            hint: false,
            ingress: rules(&p.ingress, true),
            egress: rules(&p.egress, false),
            purpose: PolicyUse::Normal,
        },
    }
}

fn all_of(terms: &LabelSelector) -> Selector {
    terms.iter().cloned().fold(Selector::All, |a, b| Selector::And(a.into(), b.into()))
}

fn rule(action: Action, protocol: Option<Protocol>, peer: Side, ports: Vec<Port>, ingress: bool) -> Rule {
    let (source, destination) = if ingress {
        (peer, Side { ports, ..Side::default() })
    } else {
        (Side::default(), Side { ports, ..peer })
    };
    Rule {
        action,
        ip_version: None,
        protocol,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        http: false,
        source,
        destination,
    }
}

fn allows(r: &KubernetesRule, namespace: usize, ingress: bool) -> Vec<Rule> {
    let everyone = vec![Side::default()];
    let peers =
        if r.peers.is_empty() { everyone } else { r.peers.iter().map(|p| peer(p, namespace)).collect() };
    let mut ports: Vec<(Option<Protocol>, Vec<Port>)> =
        r.ports.iter().map(|p| (Some(p.transport.into()), p.port.iter().cloned().collect())).collect();
    if ports.is_empty() {
        ports.push((None, Vec::new()));
    }
    every(&peers, &ports, Action::Allow, ingress)
}

fn every(
    peers: &[Side],
    ports: &[(Option<Protocol>, Vec<Port>)],
    action: Action,
    ingress: bool,
) -> Vec<Rule> {
    let of = |peer: &Side| {
        let peer = peer.clone();
        ports.iter().map(move |(protocol, p)| rule(action, *protocol, peer.clone(), p.clone(), ingress))
    };
    peers.iter().flat_map(of).collect()
}

fn peer(p: &KubernetesPeer, namespace: usize) -> Side {
    match p {
        KubernetesPeer::Block(net, except) => {
            Side { nets: vec![*net], not_nets: except.clone(), ..Side::default() }
        }
        KubernetesPeer::Pods { namespaces, pods } => Side {
            selector: Some(pods.as_ref().map_or(Selector::All, all_of)),
            namespace_selector: Some(match namespaces {
                Some(terms) => NamespaceSelector::Labels(all_of(terms)),
                None => NamespaceSelector::Number(namespace),
            }),
            pods_only: true,
            ..Side::default()
        },
    }
}

fn decides(r: &ClusterRule, ingress: bool) -> Vec<Rule> {
    let pods = |p: &ClusterPods| Side {
        selector: p.pods.as_ref().map(all_of),
        namespace_selector: Some(NamespaceSelector::Labels(all_of(&p.namespaces))),
        pods_only: p.pods.is_some(),
        ..Side::default()
    };
    let nets = |nets: &[IpNet]| Side { nets: nets.to_vec(), ..Side::default() };
    let peers: Vec<Side> = r
        .peers
        .iter()
        .map(|p| match p {
            ClusterPeer::Pods(p) => pods(p),
            ClusterPeer::Networks(list) => nets(list),
        })
        .collect();
    let mut ports = Vec::new();
    for p in &r.ports {
        ports.push(match p {
            ClusterPort::Of(transport, p) => (Some((*transport).into()), p.iter().cloned().collect()),
            ClusterPort::Named(name) => (None, vec![Port::Named(name.clone())]),
        });
    }
    if ports.is_empty() {
        ports.push((None, Vec::new()));
    }
    every(&peers, &ports, r.action, ingress)
}

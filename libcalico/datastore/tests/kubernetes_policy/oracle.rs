//! The oracle: what Kubernetes' documentation says of NetworkPolicy, and of ClusterNetworkPolicy around it. It knows
//! nothing of Calico.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/>,
//! <https://network-policy-api.sigs.k8s.io/>

use std::net::Ipv4Addr;

use crate::world::*;

/// A connection's first packet.
#[derive(Clone, Copy)]
struct Packet<'a> {
    from: End,
    to: End,
    protocol: &'a str,
    port: u16,
}

fn selects(s: &LabelSelector, labels: &Labels) -> bool {
    s.labels.iter().all(|(k, v)| labels.get(k) == Some(v))
        && s.expressions.iter().all(|(key, operator, values)| match (*operator, labels.get(key)) {
            ("In", Some(v)) => values.contains(v),
            ("NotIn", Some(v)) => !values.contains(v),
            ("In", None) | ("Exists", None) | ("DoesNotExist", Some(_)) => false,
            _ => true,
        })
}

fn within(cidr: &str, ip: Ipv4Addr) -> bool {
    cidr.parse::<ipnet::Ipv4Net>().unwrap().contains(&ip)
}

fn is_peer(w: &World, policy: &Policy, peer: &Peer, end: End) -> bool {
    match peer {
        Peer::Block { cidr, except } => within(cidr, end.ip) && !except.iter().any(|e| within(e, end.ip)),
        Peer::Selectors { pods, namespaces } => {
            let Some(pod) = end.pod.map(|i| &w.pods[i]) else { return false };
            let namespace = match namespaces {
                None => pod.namespace == policy.namespace,
                Some(s) => selects(s, &w.namespaces[pod.namespace]),
            };
            namespace && pods.as_ref().is_none_or(|s| selects(s, &pod.labels))
        }
    }
}

fn is_port(w: &World, port: &(Option<&str>, PolicyPort), to: End, protocol: &str, number: u16) -> bool {
    if port.0.unwrap_or("TCP") != protocol {
        return false;
    }
    match port.1 {
        PolicyPort::All => true,
        PolicyPort::Number(n) => n == number,
        PolicyPort::Range(a, b) => (a..=b).contains(&number),
        PolicyPort::Named(name) => {
            to.pod.is_some_and(|i| w.pods[i].ports.contains(&(name, intern(protocol), number)))
        }
    }
}

/// What NetworkPolicies say of one direction, for the pod at `own`; none where none applies to it.
fn namespaced(w: &World, kind: &str, own: usize, packet: Packet<'_>) -> Option<bool> {
    let Packet { from, to, protocol, port } = packet;
    let peer = if kind == "Ingress" { from } else { to };
    let pod = &w.pods[own];
    let mut isolated = false;
    for p in &w.policies {
        let types = match &p.types {
            Some(t) => t.clone(),
            None if p.egress.is_empty() => vec!["Ingress"],
            None => vec!["Ingress", "Egress"],
        };
        if p.namespace != pod.namespace || !selects(&p.pods, &pod.labels) || !types.contains(&kind) {
            continue;
        }
        isolated = true;
        let rules = if kind == "Ingress" { &p.ingress } else { &p.egress };
        let allows = |r: &Rule| {
            (r.peers.is_empty() || r.peers.iter().any(|x| is_peer(w, p, x, peer)))
                && (r.ports.is_empty() || r.ports.iter().any(|x| is_port(w, x, to, protocol, port)))
        };
        if rules.iter().any(allows) {
            return Some(true);
        }
    }
    isolated.then_some(false)
}

fn is_cluster_peer(w: &World, peer: &ClusterPeer, end: End) -> bool {
    match peer {
        ClusterPeer::Networks(nets) => nets.iter().any(|n| n.contains('.') && within(n, end.ip)),
        ClusterPeer::Pods { namespaces, pods } => end.pod.map(|i| &w.pods[i]).is_some_and(|pod| {
            selects(namespaces, &w.namespaces[pod.namespace])
                && pods.as_ref().is_none_or(|s| selects(s, &pod.labels))
        }),
    }
}

fn is_cluster_port(w: &World, wanted: &ClusterPort, to: End, protocol: &str, number: u16) -> bool {
    let same = |p: &str| p.eq_ignore_ascii_case(protocol);
    match wanted {
        ClusterPort::All(p) => same(p),
        ClusterPort::Number(p, n) => same(p) && *n == number,
        ClusterPort::Range(p, a, b) => same(p) && (*a..=*b).contains(&number),
        ClusterPort::Named(name) => {
            to.pod.is_some_and(|i| w.pods[i].ports.contains(&(name, intern(protocol), number)))
        }
    }
}

/// What the ClusterNetworkPolicies of a tier say: the first rule that matches, policies by priority. None where it is
/// passed on, or no rule matches.
fn of_cluster(w: &World, admin: bool, kind: &str, own: usize, packet: Packet<'_>) -> Option<bool> {
    let Packet { from, to, protocol, port } = packet;
    let (pod, peer) = (&w.pods[own], if kind == "Ingress" { from } else { to });
    let mut policies: Vec<(usize, &ClusterPolicy)> =
        w.cluster_policies.iter().enumerate().filter(|(_, p)| p.admin == admin).collect();
    policies.sort_by_key(|(i, p)| (p.priority, *i));
    for (_, p) in policies {
        if !selects(&p.namespaces, &w.namespaces[pod.namespace])
            || p.pods.as_ref().is_some_and(|s| !selects(s, &pod.labels))
        {
            continue;
        }
        for r in if kind == "Ingress" { &p.ingress } else { &p.egress } {
            let matches = r.peers.iter().any(|x| is_cluster_peer(w, x, peer))
                && (r.ports.is_empty() || r.ports.iter().any(|x| is_cluster_port(w, x, to, protocol, port)));
            match (matches, r.action) {
                (false, _) => {}
                (true, "Accept") => return Some(true),
                (true, "Deny") => return Some(false),
                (true, _) => return None,
            }
        }
    }
    None
}

/// One direction, for the pod at `own`: administrators first, then namespaces, then the baseline, then everything.
fn direction(w: &World, kind: &str, own: usize, packet: Packet<'_>) -> bool {
    of_cluster(w, true, kind, own, packet)
        .or_else(|| namespaced(w, kind, own, packet))
        .or_else(|| of_cluster(w, false, kind, own, packet))
        .unwrap_or(true)
}

pub fn allows(w: &World, from: End, to: End, protocol: &str, port: u16) -> bool {
    let packet = Packet { from, to, protocol, port };
    from.pod.is_none_or(|own| direction(w, "Egress", own, packet))
        && to.pod.is_none_or(|own| direction(w, "Ingress", own, packet))
}

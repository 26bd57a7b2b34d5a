//! Random policies of Kubernetes' own kinds. Each is one that its API server takes.

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{key, net, port_name, transport, value};
use crate::world::{
    Action, ClusterPeer, ClusterPods, ClusterPolicy, ClusterPort, ClusterRule, KubernetesPeer,
    KubernetesPolicy, KubernetesPort, KubernetesRule, LabelSelector, PORTS, Port, Selector,
};

fn terms() -> impl Strategy<Value = LabelSelector> {
    let term = prop_oneof![
        3 => (key(), value()).prop_map(|(k, v)| Selector::Is(k, v)),
        1 => (key(), vec(value(), 1..3)).prop_map(|(k, v)| Selector::In(k, v)),
        1 => (key(), vec(value(), 1..3)).prop_map(|(k, v)| Selector::NotIn(k, v)),
        1 => key().prop_map(Selector::Has),
        1 => key().prop_map(Selector::HasNot),
    ];
    prop_oneof![1 => Just(Vec::new()).boxed(), 1 => vec(term, 1..3).boxed()]
}

fn number() -> impl Strategy<Value = Port> {
    prop_oneof![
        3 => select(PORTS.to_vec()).prop_map(Port::Number),
        1 => (7000u16..7004, 1u16..4).prop_map(|(p, n)| Port::Range(p, p + n)),
    ]
}

fn port() -> impl Strategy<Value = KubernetesPort> {
    let port = prop_oneof![2 => number(), 1 => port_name().prop_map(Port::Named)];
    (transport(), of(port)).prop_map(|(transport, port)| KubernetesPort { transport, port })
}

/// A network and parts of it.
fn block() -> impl Strategy<Value = KubernetesPeer> {
    any::<bool>().prop_flat_map(|v4| (net(v4), vec(net(v4), 0..5))).prop_map(|(all, parts)| {
        let within = |part: &IpNet| all.contains(part) && part.prefix_len() > all.prefix_len();
        KubernetesPeer::Block(all, parts.into_iter().filter(within).collect())
    })
}

fn peer() -> impl Strategy<Value = KubernetesPeer> {
    prop_oneof![
        1 => terms().prop_map(|p| KubernetesPeer::Pods { namespaces: None, pods: Some(p) }),
        1 => terms().prop_map(|n| KubernetesPeer::Pods { namespaces: Some(n), pods: None }),
        1 => (terms(), terms())
            .prop_map(|(n, p)| KubernetesPeer::Pods { namespaces: Some(n), pods: Some(p) }),
        2 => block(),
    ]
}

fn rules() -> impl Strategy<Value = Option<Vec<KubernetesRule>>> {
    let rule =
        (vec(peer(), 0..3), vec(port(), 0..3)).prop_map(|(peers, ports)| KubernetesRule { peers, ports });
    of(vec(rule, 0..3))
}

/// A `NetworkPolicy` without a name.
pub fn policy() -> impl Strategy<Value = KubernetesPolicy> {
    let staged = prop_oneof![9 => Just(false), 1 => Just(true)];
    (0usize..2, staged, terms(), any::<bool>(), rules(), rules()).prop_map(
        |(namespace, staged, pods, types_given, mut ingress, egress)| {
            if types_given && ingress.is_none() && egress.is_none() {
                ingress = Some(Vec::new());
            }
            KubernetesPolicy { name: String::new(), namespace, staged, pods, types_given, ingress, egress }
        },
    )
}

fn pods() -> impl Strategy<Value = ClusterPods> {
    (terms(), of(terms())).prop_map(|(namespaces, pods)| ClusterPods { namespaces, pods })
}

fn cluster_rules(egress: bool) -> impl Strategy<Value = Vec<ClusterRule>> {
    let networks = vec(any::<bool>().prop_flat_map(net), 1..4).prop_map(ClusterPeer::Networks);
    let peer = if egress {
        prop_oneof![1 => pods().prop_map(ClusterPeer::Pods), 1 => networks].boxed()
    } else {
        pods().prop_map(ClusterPeer::Pods).boxed()
    };
    let port = prop_oneof![
        2 => (transport(), of(number())).prop_map(|(transport, port)| ClusterPort::Of(transport, port)),
        1 => port_name().prop_map(ClusterPort::Named),
    ];
    let action = select(vec![Action::Allow, Action::Deny, Action::Pass]);
    let rule = (action, vec(peer, 1..3), vec(port, 0..3)).prop_map(|(action, peers, ports)| ClusterRule {
        action,
        peers,
        ports,
    });
    vec(rule, 0..4)
}

/// A `ClusterNetworkPolicy` without a name.
pub fn cluster() -> impl Strategy<Value = ClusterPolicy> {
    (any::<bool>(), 0i32..4, pods(), cluster_rules(false), cluster_rules(true)).prop_map(
        |(admin, priority, subject, ingress, egress)| ClusterPolicy {
            name: String::new(),
            admin,
            priority,
            subject,
            ingress,
            egress,
        },
    )
}

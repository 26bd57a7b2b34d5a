//! Small random worlds: objects that share few names, labels and addresses, so that they meet often.

#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;
use std::sync::Arc;

use felix_calc::Config;
use ipnet::{IpNet, Ipv4Net};
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::profile::{Profile, ProfileSpec};
use libcalico_api::{Object, Resource};
use libcalico_model::backend::{
    EndpointPort, HostEndpoint, NetworkSet, Policy, ProfileRules, Rule, Tier, WorkloadEndpoint,
};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, PolicyKind, Revision, Update, Value};
use proptest::prelude::*;
use proptest::sample::select;

pub const LOCAL: &str = "local";

pub type Objects = BTreeMap<Key, Value>;

pub fn config() -> Config {
    Config { hostname: LOCAL.to_owned(), ..Config::default() }
}

pub fn update(key: &Key, value: Option<Value>) -> Update {
    Update { key: key.clone(), value, revision: Revision::default() }
}

pub fn updates(objects: &Objects) -> impl Iterator<Item = Update> + '_ {
    objects.iter().map(|(k, v)| update(k, Some(v.clone())))
}

pub fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

pub fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(name().prop_map(str::to_owned), name().prop_map(str::to_owned), 0..3)
}

pub fn selector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => (name(), name()).prop_map(|(k, v)| format!("{k} == '{v}'")),
        1 => (name(), name()).prop_map(|(k, v)| format!("{k} != '{v}'")),
        2 => name().prop_map(|k| format!("has({k})")),
        1 => (name(), name(), name()).prop_map(|(k, v, w)| format!("{k} in {{'{v}', '{w}'}}")),
        1 => (name(), name()).prop_map(|(k, v)| format!("{k} not in {{'{v}'}}")),
        1 => (name(), name()).prop_map(|(k, v)| format!("{k} starts with '{v}'")),
        1 => Just("all()".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn optional_selector() -> impl Strategy<Value = String> {
    prop_oneof![2 => Just(String::new()), 1 => selector()]
}

pub fn address() -> impl Strategy<Value = Ipv4Net> {
    (0u8..8).prop_map(|n| Ipv4Net::from(std::net::Ipv4Addr::new(10, 0, 0, n)))
}

fn net() -> impl Strategy<Value = IpNet> {
    (0u8..8, 28u8..=32).prop_map(|(n, len)| {
        IpNet::V4(Ipv4Net::new(std::net::Ipv4Addr::new(10, 0, 0, n), len).unwrap().trunc())
    })
}

fn ports() -> impl Strategy<Value = Vec<EndpointPort>> {
    let port = (name(), select(vec!["tcp", "udp"]), 1u16..4).prop_map(|(name, protocol, port)| {
        EndpointPort { name: format!("p{name}"), protocol: Protocol::Name(protocol.to_owned()), port }
    });
    proptest::collection::vec(port, 0..3)
}

fn profile_list() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(name().prop_map(str::to_owned), 0..3).prop_map(|mut v| {
        v.sort_unstable();
        v.dedup();
        v
    })
}

fn workload() -> impl Strategy<Value = (Key, Value)> {
    let key = (select(vec![LOCAL, LOCAL, "far"]), name());
    let value = (labels(), profile_list(), proptest::collection::vec(address(), 0..3), ports());
    (key, value).prop_map(|((host, name), (labels, profile_ids, ipv4_nets, ports))| {
        let key = WorkloadEndpointKey {
            host: host.to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: name.to_owned(),
            endpoint: "eth0".to_owned(),
        };
        let value = WorkloadEndpoint {
            state: "active".to_owned(),
            name: format!("cali{name}"),
            labels,
            profile_ids,
            ipv4_nets,
            ports,
            ..WorkloadEndpoint::default()
        };
        (Key::WorkloadEndpoint(key), Value::WorkloadEndpoint(Arc::new(value)))
    })
}

fn host() -> impl Strategy<Value = (Key, Value)> {
    let parts = (select(vec![LOCAL, "far"]), name(), labels(), profile_list(), address(), ports());
    parts.prop_map(|(host, name, labels, profile_ids, addr, ports)| {
        let value = HostEndpoint {
            name: "eth0".to_owned(),
            expected_ipv4_addrs: vec![addr.addr()],
            labels,
            profile_ids,
            ports,
            ..HostEndpoint::default()
        };
        let key = Key::HostEndpoint { host: host.to_owned(), name: name.to_owned() };
        (key, Value::HostEndpoint(Arc::new(value)))
    })
}

fn network_set() -> impl Strategy<Value = (Key, Value)> {
    (name(), labels(), proptest::collection::vec(net(), 0..4)).prop_map(|(name, labels, nets)| {
        let value = NetworkSet { nets, labels, ..NetworkSet::default() };
        (Key::NetworkSet(name.to_owned()), Value::NetworkSet(Arc::new(value)))
    })
}

fn port_match() -> impl Strategy<Value = Vec<Port>> {
    let port = prop_oneof![
        (1u16..4).prop_map(Port::Number),
        (1u16..4).prop_map(|n| Port::Range(n, n + 1)),
        name().prop_map(|n| Port::Named(format!("p{n}"))),
    ];
    prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(port, 1..3)]
}

pub fn rule() -> impl Strategy<Value = Rule> {
    let protocol = select(vec![None, Some("tcp"), Some("udp")]);
    let action = select(vec!["allow", "deny", "pass", "log", ""]);
    let side = || {
        let nets = prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(net(), 1..3)];
        let not_nets = prop_oneof![5 => Just(Vec::new()), 1 => proptest::collection::vec(net(), 1..2)];
        (optional_selector(), optional_selector(), nets, not_nets, port_match(), port_match())
    };
    let service = prop_oneof![
        6 => Just((None, None)),
        1 => name().prop_map(|s| (Some(s), None)),
        1 => name().prop_map(|s| (None, Some(s))),
    ];
    let parts = (action, protocol, any::<bool>(), side(), side(), service);
    parts.prop_map(|(action, protocol, negated, src, dst, (src_service, dst_service))| {
        let ports = protocol.is_some();
        let of = |ports_given: Vec<Port>| if ports { ports_given } else { Vec::new() };
        let other = negated && protocol.is_none();
        Rule {
            action: action.to_owned(),
            protocol: protocol.map(|p| Protocol::Name(p.to_owned())),
            not_protocol: other.then(|| Protocol::Name("udp".to_owned())),
            src_selector: src.0,
            not_src_selector: src.1,
            src_nets: src.2,
            not_src_nets: src.3,
            src_ports: of(src.4),
            not_src_ports: of(src.5),
            dst_selector: dst.0,
            not_dst_selector: dst.1,
            dst_nets: dst.2,
            not_dst_nets: dst.3,
            dst_ports: of(dst.4),
            not_dst_ports: of(dst.5),
            src_service: src_service.unwrap_or_default().to_owned(),
            src_service_namespace: src_service.map(|_| "ns".to_owned()).unwrap_or_default(),
            dst_service: dst_service.unwrap_or_default().to_owned(),
            dst_service_namespace: dst_service.map(|_| "ns".to_owned()).unwrap_or_default(),
            ..Rule::default()
        }
    })
}

fn order() -> impl Strategy<Value = Option<f64>> {
    select(vec![None, Some(1.0), Some(2.0), Some(f64::NAN), Some(-0.0), Some(0.0)])
}

fn policy() -> impl Strategy<Value = (Key, Value)> {
    let rules = || proptest::collection::vec(rule(), 0..4);
    let kind = select(vec![
        PolicyKind::GlobalNetworkPolicy,
        PolicyKind::NetworkPolicy,
        PolicyKind::StagedGlobalNetworkPolicy,
        PolicyKind::KubernetesNetworkPolicy,
    ]);
    let types = select(vec![vec![], vec!["ingress"], vec!["egress"], vec!["ingress", "egress"]]);
    let flags = select(vec!["", "", "", "untracked", "preDNAT", "forward", "always"]);
    let tier = select(vec!["default", "default", "a", "b", ""]);
    (kind, name(), tier, order(), selector(), rules(), rules(), (types, flags)).prop_map(
        |(kind, name, tier, order, selector, inbound_rules, outbound_rules, (types, flags))| {
            let namespaced = matches!(kind, PolicyKind::NetworkPolicy | PolicyKind::KubernetesNetworkPolicy);
            let namespace = if namespaced { "ns".to_owned() } else { String::new() };
            let hints = (flags == "always").then(|| "AssumeNeededOnEveryNode".to_owned());
            let value = Policy {
                namespace: namespace.clone(),
                tier: tier.to_owned(),
                order,
                selector,
                inbound_rules,
                outbound_rules,
                types: types.into_iter().map(str::to_owned).collect(),
                untracked: flags == "untracked",
                pre_dnat: flags == "preDNAT",
                apply_on_forward: flags == "forward",
                performance_hints: hints.into_iter().collect(),
                ..Policy::default()
            };
            let key = PolicyKey { kind, namespace, name: name.to_owned() };
            (Key::Policy(key), Value::Policy(Arc::new(value)))
        },
    )
}

fn tier() -> impl Strategy<Value = (Key, Value)> {
    (select(vec!["default", "a", "b"]), order(), select(vec![None, Some("Deny"), Some("Pass"), Some("What")]))
        .prop_map(|(name, order, action)| {
            let tier = Tier { order, default_action: action.map(str::to_owned) };
            (Key::Tier(name.to_owned()), Value::Tier(tier))
        })
}

fn profile_rules() -> impl Strategy<Value = (Key, Value)> {
    let rules = || proptest::collection::vec(rule(), 0..3);
    (name(), rules(), rules()).prop_map(|(name, inbound_rules, outbound_rules)| {
        let value = ProfileRules { inbound_rules, outbound_rules };
        (Key::ProfileRules(name.to_owned()), Value::ProfileRules(Arc::new(value)))
    })
}

fn profile() -> impl Strategy<Value = (Key, Value)> {
    (name(), labels()).prop_map(|(name, labels_to_apply)| {
        let mut profile: Profile = Object::default();
        profile.metadata.name = name.to_owned();
        profile.spec = ProfileSpec { labels_to_apply, ..ProfileSpec::default() };
        let key = Key::resource(libcalico_api::Kind::Profile, "", name);
        (key, Resource::from(profile).into())
    })
}

fn slice() -> impl Strategy<Value = (Key, Value)> {
    use libcalico_model::kubernetes::service::{Endpoint, EndpointPort, EndpointSlice, SERVICE_NAME_LABEL};
    let address =
        prop_oneof![5 => address().prop_map(|a| a.addr().to_string()), 1 => Just("pod.example".to_owned())];
    let endpoint = proptest::collection::vec(address, 0..3).prop_map(|addresses| Endpoint { addresses });
    let port =
        (select(vec!["TCP", "UDP", ""]), proptest::option::of(1u16..4)).prop_map(|(protocol, port)| {
            EndpointPort { protocol: protocol.to_owned(), port, ..EndpointPort::default() }
        });
    let lists = (proptest::collection::vec(endpoint, 0..3), proptest::collection::vec(port, 0..3));
    (name(), proptest::option::of(name()), lists).prop_map(|(name, service, (endpoints, ports))| {
        let mut slice = EndpointSlice { endpoints, ports, ..EndpointSlice::default() };
        slice.metadata.namespace = "ns".to_owned();
        slice.metadata.name = name.to_owned();
        slice.metadata.labels =
            service.iter().map(|s| (SERVICE_NAME_LABEL.to_owned(), (*s).to_owned())).collect();
        let key = Key::EndpointSlice { namespace: "ns".to_owned(), name: name.to_owned() };
        (key, Value::EndpointSlice(Arc::new(slice)))
    })
}

fn service() -> impl Strategy<Value = (Key, Value)> {
    use libcalico_model::kubernetes::service::Service;
    (name(), address()).prop_map(|(name, address)| {
        let mut service = Service::default();
        service.metadata.namespace = "ns".to_owned();
        service.metadata.name = name.to_owned();
        service.spec.cluster_ips = vec![address.addr().to_string(), "None".to_owned()];
        let key = Key::Service { namespace: "ns".to_owned(), name: name.to_owned() };
        (key, Value::Service(Arc::new(service)))
    })
}

/// An object of any kind that policy is made of.
pub fn object() -> impl Strategy<Value = (Key, Value)> {
    prop_oneof![
        4 => workload(),
        1 => host(),
        2 => network_set(),
        4 => policy(),
        1 => tier(),
        1 => profile_rules(),
        2 => profile(),
        2 => slice(),
        1 => service(),
    ]
}

/// A world of policy.
pub fn world() -> impl Strategy<Value = Objects> {
    proptest::collection::vec(object(), 0..25).prop_map(|v| v.into_iter().collect())
}

/// One that selects nodes by label; what it sets tells which one is used.
fn felix_configuration() -> impl Strategy<Value = (Key, Value)> {
    use libcalico_api::felix_configuration::FelixConfiguration;
    let created = select(vec![None, Some("2026-01-01T00:00:00Z"), Some("2026-01-02T00:00:00Z")]);
    let selector =
        prop_oneof![4 => selector().prop_map(Some), 1 => Just(Some("a ==".to_owned())), 1 => Just(None)];
    (name(), created, selector).prop_map(|(name, created, node_selector)| {
        let mut object = FelixConfiguration::default();
        object.metadata.name = name.to_owned();
        object.metadata.creation_timestamp = created.map(str::to_owned);
        object.spec.node_selector = node_selector;
        object.spec.log_prefix = Some(name.to_owned());
        let key = Key::resource(libcalico_api::Kind::FelixConfiguration, "", name);
        (key, Resource::from(object).into())
    })
}

fn node() -> impl Strategy<Value = (Key, Value)> {
    use libcalico_api::node::{Node, NodeBgpSpec, NodeSpec};
    let addr = || {
        let text = |n: u8, len: &str| Some(format!("192.168.0.{n}{len}"));
        prop_oneof![
            1 => Just(None),
            3 => (1u8..4, select(vec!["", "/24", "/32"])).prop_map(move |(n, len)| text(n, len)),
            1 => Just(Some("nonsense".to_owned())),
        ]
    };
    let tunnel = || proptest::option::of(address().prop_map(|a| a.addr().to_string()));
    (select(vec![LOCAL, "far", "other"]), any::<bool>(), addr(), tunnel(), tunnel(), labels()).prop_map(
        |(name, has_bgp, ipv4_address, ipv4_ipip_tunnel_addr, ipv4_vxlan_tunnel_addr, labels)| {
            let bgp = NodeBgpSpec { ipv4_address, ipv4_ipip_tunnel_addr, ..NodeBgpSpec::default() };
            let mut node: Node = Object::default();
            node.metadata.name = name.to_owned();
            node.metadata.labels = labels;
            node.spec =
                NodeSpec { bgp: has_bgp.then_some(bgp), ipv4_vxlan_tunnel_addr, ..NodeSpec::default() };
            let key = Key::resource(libcalico_api::Kind::Node, "", name);
            (key, Resource::from(node).into())
        },
    )
}

fn pool() -> impl Strategy<Value = (Key, Value)> {
    let mode = || select(vec!["", "always", "cross-subnet", "odd"]);
    let cidr = select(vec!["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/16"]);
    let uses =
        select(vec![&[][..], &["Workload", "Tunnel"], &["LoadBalancer"], &["LoadBalancer", "Workload"]]);
    (cidr.clone(), cidr, mode(), mode(), any::<bool>(), uses).prop_map(
        |(key, cidr, ipip, vxlan, masquerade, uses)| {
            let pool = libcalico_model::backend::IpPool {
                cidr: cidr.parse().unwrap(),
                ipip_interface: String::new(),
                ipip_mode: ipip.to_owned(),
                vxlan_mode: vxlan.to_owned(),
                masquerade,
                ipam: true,
                disabled: false,
                disable_bgp_export: false,
                assignment_mode: String::new(),
                allowed_uses: uses.iter().map(|u| (*u).to_owned()).collect(),
            };
            (Key::IpPool(key.parse().unwrap()), Value::IpPool(std::sync::Arc::new(pool)))
        },
    )
}

fn block() -> impl Strategy<Value = (Key, Value)> {
    use libcalico_model::ipam::{AllocationAttribute, AllocationBlock};
    let node = || proptest::option::of(select(vec![LOCAL, "far", "other"]));
    let cidr = select(vec!["10.0.0.0/30", "10.0.0.4/30"]);
    (cidr, node(), proptest::collection::vec(node(), 0..5), any::<bool>()).prop_map(
        |(cidr, affinity, owners, deleted)| {
            let attribute = |node: &Option<&str>| AllocationAttribute {
                active_owner_attrs: node.iter().map(|n| ("node".to_owned(), (*n).to_owned())).collect(),
                ..AllocationAttribute::default()
            };
            let block = AllocationBlock {
                cidr: cidr.parse().unwrap(),
                affinity: affinity.map(|n| format!("host:{n}")),
                affinity_claim_time: None,
                strict_affinity: false,
                allocations: (0..owners.len()).map(Some).collect(),
                unallocated: Vec::new(),
                attributes: owners.iter().map(attribute).collect(),
                sequence_number: 0,
                sequence_number_for_allocation: BTreeMap::new(),
                deleted,
                host_affinity: None,
            };
            (Key::Block(cidr.parse().unwrap()), Value::Block(Box::new(block)))
        },
    )
}

fn setting() -> impl Strategy<Value = (Key, Value)> {
    let host = select(vec![LOCAL, "far"]);
    let name = select(vec!["IPv4VXLANTunnelAddr", "VXLANTunnelMACAddr", "LogSeverityScreen"]);
    (proptest::option::of(host), name, select(vec!["10.0.0.1", "10.0.0.2", "", "odd"])).prop_map(
        |(host, name, text)| {
            let name = name.to_owned();
            let key = match host {
                Some(host) => Key::HostConfig { host: host.to_owned(), name },
                None => Key::GlobalConfig(name),
            };
            (key, Value::Text(text.to_owned()))
        },
    )
}

/// An object of any kind that routes and tunnels are made of.
pub fn network_object() -> impl Strategy<Value = (Key, Value)> {
    prop_oneof![3 => node(), 2 => pool(), 3 => block(), 1 => setting(), 2 => workload(), 1 => felix_configuration()]
}

//! What a Kubernetes NetworkPolicy allows is what Felix is told to allow: random small worlds, each connection judged
//! twice. Once by an oracle written from Kubernetes' documentation of NetworkPolicy, which knows nothing of Calico; once
//! by walking the converted objects naively, as Felix does: tiers, selectors, rules, then profiles.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::syncer::{Converter, FelixConverter};
use libcalico_model::kubernetes::{network_policy, pod, profile};
use libcalico_model::{Key, KeyValue, Revision, Value, backend};
use libcalico_selector::Selector;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

type Labels = BTreeMap<&'static str, &'static str>;

const NAMESPACES: [&str; 2] = ["red", "blue"];

#[derive(Clone, Debug)]
struct LabelSelector {
    labels: Labels,
    /// Label, operator, values.
    expressions: Vec<(&'static str, &'static str, Vec<&'static str>)>,
}

#[derive(Clone, Debug)]
enum Peer {
    Selectors { pods: Option<LabelSelector>, namespaces: Option<LabelSelector> },
    Block { cidr: &'static str, except: Vec<&'static str> },
}

#[derive(Clone, Debug)]
enum PolicyPort {
    All,
    Number(u16),
    Range(u16, u16),
    Named(&'static str),
}

#[derive(Clone, Debug)]
struct Rule {
    peers: Vec<Peer>,
    ports: Vec<(Option<&'static str>, PolicyPort)>,
}

#[derive(Clone, Debug)]
struct Policy {
    namespace: usize,
    pods: LabelSelector,
    types: Option<Vec<&'static str>>,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Pod {
    namespace: usize,
    labels: Labels,
    address: u8,
    /// Name, protocol, number.
    ports: Vec<(&'static str, &'static str, u16)>,
}

#[derive(Clone, Debug)]
struct World {
    namespaces: Vec<Labels>,
    pods: Vec<Pod>,
    policies: Vec<Policy>,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    pod: Option<usize>,
    ip: Ipv4Addr,
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

fn world() -> impl Strategy<Value = World> {
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
    (vec(labels(), 2), pods, vec(policy(), 0..4)).prop_map(|(namespaces, pods, policies)| World {
        namespaces,
        pods,
        policies,
    })
}

impl World {
    fn ends(&self) -> Vec<End> {
        let pod = |(i, p): (usize, &Pod)| End { pod: Some(i), ip: Ipv4Addr::new(10, 0, 0, p.address) };
        let mut ends: Vec<End> = self.pods.iter().enumerate().map(pod).collect();
        ends.push(End { pod: None, ip: Ipv4Addr::new(192, 0, 2, 9) });
        ends
    }
}

/// The oracle: https://kubernetes.io/docs/concepts/services-networking/network-policies/
mod kubernetes {
    use super::*;

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
                to.pod.is_some_and(|i| w.pods[i].ports.contains(&(name, super::intern(protocol), number)))
            }
        }
    }

    /// One direction, for the pod at `own`.
    fn direction(w: &World, kind: &str, own: usize, from: End, to: End, protocol: &str, port: u16) -> bool {
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
                return true;
            }
        }
        !isolated
    }

    pub fn allows(w: &World, from: End, to: End, protocol: &str, port: u16) -> bool {
        from.pod.is_none_or(|own| direction(w, "Egress", own, from, to, protocol, port))
            && to.pod.is_none_or(|own| direction(w, "Ingress", own, from, to, protocol, port))
    }
}

fn intern(protocol: &str) -> &'static str {
    if protocol == "TCP" { "TCP" } else { "UDP" }
}

/// The same world as the API server holds it.
mod objects {
    use super::*;

    fn selector(s: &LabelSelector) -> serde_json::Value {
        let expression = |(key, operator, values): &(&str, &str, Vec<&str>)| match values.is_empty() {
            true => json!({ "key": key, "operator": operator }),
            false => json!({ "key": key, "operator": operator, "values": values }),
        };
        let expressions: Vec<_> = s.expressions.iter().map(expression).collect();
        json!({ "matchLabels": s.labels, "matchExpressions": expressions })
    }

    fn peer(p: &Peer) -> serde_json::Value {
        match p {
            Peer::Block { cidr, except } => json!({ "ipBlock": { "cidr": cidr, "except": except } }),
            Peer::Selectors { pods, namespaces } => {
                let mut out = json!({});
                if let Some(s) = pods {
                    out["podSelector"] = selector(s);
                }
                if let Some(s) = namespaces {
                    out["namespaceSelector"] = selector(s);
                }
                out
            }
        }
    }

    fn port((protocol, port): &(Option<&str>, PolicyPort)) -> serde_json::Value {
        let mut out = match port {
            PolicyPort::All => json!({}),
            PolicyPort::Number(n) => json!({ "port": n }),
            PolicyPort::Range(a, b) => json!({ "port": a, "endPort": b }),
            PolicyPort::Named(n) => json!({ "port": n }),
        };
        if let Some(p) = protocol {
            out["protocol"] = json!(p);
        }
        out
    }

    fn rules(rules: &[Rule], side: &str) -> Vec<serde_json::Value> {
        let one = |r: &Rule| {
            let peers: Vec<_> = r.peers.iter().map(peer).collect();
            let ports: Vec<_> = r.ports.iter().map(port).collect();
            json!({ side: peers, "ports": ports })
        };
        rules.iter().map(one).collect()
    }

    pub fn policy(index: usize, p: &Policy) -> String {
        let mut spec = json!({
            "podSelector": selector(&p.pods), "ingress": rules(&p.ingress, "from"), "egress": rules(&p.egress, "to"),
        });
        if let Some(types) = &p.types {
            spec["policyTypes"] = json!(types);
        }
        let meta = json!({ "name": format!("p{index}"), "namespace": NAMESPACES[p.namespace] });
        json!({ "metadata": meta, "spec": spec }).to_string()
    }

    pub fn pod(index: usize, p: &Pod) -> String {
        let port = |(name, protocol, number): &(&str, &str, u16)| json!({ "name": name, "protocol": protocol, "containerPort": number });
        let ports: Vec<_> = p.ports.iter().map(port).collect();
        json!({
            "metadata": { "name": format!("pod-{index}"), "namespace": NAMESPACES[p.namespace], "labels": p.labels },
            "spec": { "nodeName": "n", "containers": [{ "ports": ports }] },
            "status": { "podIP": format!("10.0.0.{}", p.address) },
        })
        .to_string()
    }

    pub fn namespace(index: usize, labels: &Labels) -> String {
        json!({ "metadata": { "name": NAMESPACES[index], "labels": labels } }).to_string()
    }
}

/// What Felix is told, walked naively.
#[derive(Default)]
struct Told {
    policies: Vec<backend::Policy>,
    profiles: BTreeMap<String, backend::ProfileRules>,
    profile_labels: BTreeMap<String, BTreeMap<String, String>>,
    endpoints: Vec<backend::WorkloadEndpoint>,
}

impl Told {
    fn of(w: &World) -> Self {
        let mut told = Self::default();
        for (i, labels) in w.namespaces.iter().enumerate() {
            let p = profile::from_namespace(objects::namespace(i, labels).as_bytes()).unwrap();
            told.profile_labels.insert(p.metadata.name.clone(), p.spec.labels_to_apply.clone());
            told.take(p.into());
        }
        for (i, p) in w.pods.iter().enumerate() {
            told.take(pod::endpoint(objects::pod(i, p).as_bytes()).unwrap().unwrap().into());
        }
        for (i, p) in w.policies.iter().enumerate() {
            let converted = network_policy::convert(objects::policy(i, p).as_bytes()).unwrap();
            assert!(converted.left_out.is_empty(), "{:?}", converted.left_out);
            told.take(converted.policy.into());
        }
        told
    }

    fn take(&mut self, resource: Resource) {
        let key = Key::resource(Kind::NetworkPolicy, "", "any");
        let stored = KeyValue { key, value: resource.into(), revision: Revision::default() };
        for (key, value) in FelixConverter.convert(&stored).unwrap() {
            match (key, value) {
                (_, Value::Policy(p)) => self.policies.push((*p).clone()),
                (Key::ProfileRules(name), Value::ProfileRules(r)) => {
                    self.profiles.insert(name, (*r).clone());
                }
                (_, Value::WorkloadEndpoint(e)) => self.endpoints.push((*e).clone()),
                _ => {}
            }
        }
    }

    fn labels(&self, endpoint: usize) -> BTreeMap<String, String> {
        let e = &self.endpoints[endpoint];
        let mut out = BTreeMap::new();
        for p in &e.profile_ids {
            out.extend(self.profile_labels.get(p).cloned().unwrap_or_default());
        }
        out.extend(e.labels.clone());
        out
    }

    fn selects(&self, selector: &str, end: End) -> bool {
        end.pod.is_some_and(|i| Selector::parse(selector).unwrap().node().matches(&self.labels(i)))
    }

    fn is_side(&self, selector: &str, nets: &[IpNet], not_nets: &[IpNet], end: End) -> bool {
        let within = |n: &IpNet| n.contains(&std::net::IpAddr::V4(end.ip));
        (selector.is_empty() || self.selects(selector, end))
            && (nets.is_empty() || nets.iter().any(within))
            && !not_nets.iter().any(within)
    }

    fn is_port(&self, port: &Port, to: End, protocol: u8, number: u16) -> bool {
        match port {
            Port::Number(n) => *n == number,
            Port::Range(a, b) => (*a..=*b).contains(&number),
            Port::Named(name) => to.pod.is_some_and(|i| {
                self.endpoints[i]
                    .ports
                    .iter()
                    .any(|p| p.name == *name && p.protocol.number() == Some(protocol) && p.port == number)
            }),
        }
    }

    fn matches(&self, r: &backend::Rule, from: End, to: End, protocol: u8, port: u16) -> bool {
        assert!(r.not_protocol.is_none() && r.not_src_selector.is_empty() && r.not_dst_selector.is_empty());
        assert!(r.src_ports.is_empty() && r.not_dst_ports.is_empty() && r.action == "allow");
        r.protocol.as_ref().and_then(Protocol::number).is_none_or(|p| p == protocol)
            && self.is_side(&r.src_selector, &r.src_nets, &r.not_src_nets, from)
            && self.is_side(&r.dst_selector, &r.dst_nets, &r.not_dst_nets, to)
            && (r.dst_ports.is_empty() || r.dst_ports.iter().any(|p| self.is_port(p, to, protocol, port)))
    }

    fn direction(&self, ingress: bool, own: usize, from: End, to: End, protocol: u8, port: u16) -> bool {
        let kind = if ingress { "ingress" } else { "egress" };
        let end = if ingress { to } else { from };
        let mut applies = false;
        for p in &self.policies {
            if !p.types.iter().any(|t| t == kind) || !self.selects(&p.selector, end) {
                continue;
            }
            applies = true;
            let rules = if ingress { &p.inbound_rules } else { &p.outbound_rules };
            if rules.iter().any(|r| self.matches(r, from, to, protocol, port)) {
                return true;
            }
        }
        // The tier's default action; without a policy that applies the profiles decide.
        !applies
            && self.endpoints[own].profile_ids.iter().any(|p| {
                let Some(rules) = self.profiles.get(p) else { return false };
                let rules = if ingress { &rules.inbound_rules } else { &rules.outbound_rules };
                rules.iter().any(|r| self.matches(r, from, to, protocol, port))
            })
    }

    fn allows(&self, from: End, to: End, protocol: u8, port: u16) -> bool {
        from.pod.is_none_or(|own| self.direction(false, own, from, to, protocol, port))
            && to.pod.is_none_or(|own| self.direction(true, own, from, to, protocol, port))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_converted_policy_allows_exactly_what_the_policy_allows(w in world()) {
        let told = Told::of(&w);
        for from in w.ends() {
            for to in w.ends() {
                for (protocol, number) in [("TCP", 6), ("UDP", 17)] {
                    for port in [79, 80, 81, 90, 91] {
                        prop_assert_eq!(
                            told.allows(from, to, number, port),
                            kubernetes::allows(&w, from, to, protocol, port),
                            "{:?} to {:?} {} {}", from, to, protocol, port
                        );
                    }
                }
            }
        }
    }
}

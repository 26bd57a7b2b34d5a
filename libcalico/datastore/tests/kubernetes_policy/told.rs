//! What Felix is told of a world, walked naively as Felix does: tiers, selectors, rules, then profiles.

use std::collections::BTreeMap;

use ipnet::IpNet;
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::syncer::{Converter, FelixConverter};
use libcalico_model::kubernetes::{cluster_network_policy, network_policy, pod, profile};
use libcalico_model::{Key, KeyValue, Revision, Value, backend};
use libcalico_selector::Selector;

use crate::objects;
use crate::world::*;

/// See the module's text. Policies of a tier are in the order of their names.
#[derive(Default)]
pub struct Told {
    policies: Vec<backend::Policy>,
    profiles: BTreeMap<String, backend::ProfileRules>,
    profile_labels: BTreeMap<String, BTreeMap<String, String>>,
    endpoints: Vec<backend::WorkloadEndpoint>,
}

/// Which key most objects stand at does not matter.
fn any() -> Key {
    Key::resource(Kind::NetworkPolicy, "", "any")
}

impl Told {
    pub fn of(w: &World) -> Self {
        let mut told = Self::default();
        for (i, labels) in w.namespaces.iter().enumerate() {
            let p = profile::from_namespace(objects::namespace(i, labels).as_bytes()).unwrap();
            told.profile_labels.insert(p.metadata.name.clone(), p.spec.labels_to_apply.clone());
            told.take(&any(), p.into());
        }
        for (i, p) in w.pods.iter().enumerate() {
            told.take(&any(), pod::endpoint(objects::pod(i, p).as_bytes(), "cali").unwrap().unwrap().into());
        }
        for (i, p) in w.policies.iter().enumerate() {
            let converted = network_policy::convert(objects::policy(i, p).as_bytes()).unwrap();
            assert!(converted.left_out.is_empty(), "{:?}", converted.left_out);
            told.take(&any(), converted.policy.into());
        }
        for (i, p) in w.cluster_policies.iter().enumerate() {
            let converted =
                cluster_network_policy::convert(objects::cluster_policy(i, p).as_bytes()).unwrap();
            assert!(converted.replaced.is_empty(), "{:?}", converted.replaced);
            told.take(&Key::ClusterNetworkPolicy(format!("p{i}")), converted.policy.into());
        }
        told
    }

    fn take(&mut self, key: &Key, resource: Resource) {
        let stored = KeyValue { key: key.clone(), value: resource.into(), revision: Revision::default() };
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
        assert!(r.src_ports.is_empty() && r.not_dst_ports.is_empty());
        r.protocol.as_ref().and_then(Protocol::number).is_none_or(|p| p == protocol)
            && self.is_side(&r.src_selector, &r.src_nets, &r.not_src_nets, from)
            && self.is_side(&r.dst_selector, &r.dst_nets, &r.not_dst_nets, to)
            && (r.dst_ports.is_empty() || r.dst_ports.iter().any(|p| self.is_port(p, to, protocol, port)))
    }

    fn direction<'a>(
        &'a self,
        ingress: bool,
        own: usize,
        from: End,
        to: End,
        protocol: u8,
        port: u16,
    ) -> bool {
        let kind = if ingress { "ingress" } else { "egress" };
        let end = if ingress { to } else { from };
        for (tier, passes) in [("kube-admin", true), ("default", false), ("kube-baseline", true)] {
            let applies = |p: &&backend::Policy| {
                p.tier == tier
                    && (p.types.is_empty() || p.types.iter().any(|t| t == kind))
                    && self.selects(&p.selector, end)
            };
            let mut policies: Vec<&backend::Policy> = self.policies.iter().filter(applies).collect();
            policies.sort_by(|a, b| a.order.partial_cmp(&b.order).unwrap());
            let of = |p: &'a backend::Policy| if ingress { &p.inbound_rules } else { &p.outbound_rules };
            let first =
                policies.iter().flat_map(|p| of(p)).find(|r| self.matches(r, from, to, protocol, port));
            match first.map(|r| r.action.as_str()) {
                Some("allow") => return true,
                Some("deny") => return false,
                Some("pass") => {}
                Some(other) => panic!("{other}"),
                None if policies.is_empty() || passes => {}
                None => return false,
            }
        }
        // Nothing decided: the profiles do.
        self.endpoints[own].profile_ids.iter().any(|p| {
            let Some(rules) = self.profiles.get(p) else { return false };
            let rules = if ingress { &rules.inbound_rules } else { &rules.outbound_rules };
            rules.iter().any(|r| self.matches(r, from, to, protocol, port))
        })
    }

    pub fn allows(&self, from: End, to: End, protocol: u8, port: u16) -> bool {
        from.pod.is_none_or(|own| self.direction(false, own, from, to, protocol, port))
            && to.pod.is_none_or(|own| self.direction(true, own, from, to, protocol, port))
    }
}

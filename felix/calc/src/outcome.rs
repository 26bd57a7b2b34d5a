//! What a calculation is expected to give, in the shape of upstream's calculation states, and the difference between
//! two of them.
//!
//! In comes a [`Mirror`] or JSON, out goes an [`Outcome`] whose lists are in order, and from two of them a list of
//! differences, a line each. Identifiers of sets count, order of lists does not, except where order is the meaning.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::{Encapsulation, IpSetMember, PoolType, Route, TierInfo};
use libcalico_model::PolicyKind;
use libcalico_model::key::PolicyKey;
use serde::{Deserialize, Serialize};

use crate::mirror::Mirror;

/// See the module's text. JSON names are those of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub ipsets: BTreeMap<String, Option<Vec<String>>>,
    pub endpoint_policy_order: BTreeMap<String, Option<Vec<TierOrder>>>,
    pub untracked_endpoint_policy_order: BTreeMap<String, Option<Vec<TierOrder>>>,
    pub prednat_endpoint_policy_order: BTreeMap<String, Option<Vec<TierOrder>>>,
    pub policies: Option<Vec<PolicyName>>,
    pub untracked_policies: Option<Vec<PolicyName>>,
    pub prednat_policies: Option<Vec<PolicyName>>,
    pub profiles: Option<Vec<ProfileName>>,
    pub routes: Option<Vec<RouteText>>,
    pub vteps: Option<Vec<VtepText>>,
    pub encapsulation: EncapsulationText,
    pub host_metadata: BTreeMap<String, MetadataText>,
}

/// Policies of a tier, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TierOrder {
    pub name: String,
    pub ingress_policies: Option<Vec<PolicyName>>,
    pub egress_policies: Option<Vec<PolicyName>>,
}

/// A policy's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyName {
    pub name: String,
    pub namespace: String,
    pub kind: String,
}

/// A profile's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProfileName {
    pub name: String,
}

/// A route as upstream's message has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteText {
    /// Remote workload 1, remote host 2, local workload 4, local host 8, remote tunnel 16, local tunnel 32.
    pub types: u8,
    /// None 0, no encapsulation 1, VXLAN 2, IPIP 3.
    pub ip_pool_type: u8,
    pub dst: String,
    pub dst_node_name: String,
    pub dst_node_ip: String,
    pub same_subnet: bool,
    pub nat_outgoing: bool,
    pub local_workload: bool,
    pub tunnel_type: Option<TunnelText>,
    pub borrowed: bool,
}

/// Which tunnel device has an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelText {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ipip: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vxlan: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wireguard: bool,
}

/// A VTEP as upstream's message has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VtepText {
    pub node: String,
    pub mac: String,
    pub ipv4_addr: String,
    pub parent_device_ip: String,
    pub mac_v6: String,
    pub ipv6_addr: String,
    pub parent_device_ipv6: String,
}

/// Encapsulations in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncapsulationText {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ipip_enabled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vxlan_enabled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vxlan_enabled_v6: bool,
}

/// Addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataText {
    pub hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipv4_addr: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipv6_addr: String,
}

impl From<&PolicyKey> for PolicyName {
    fn from(k: &PolicyKey) -> Self {
        Self { name: k.name.clone(), namespace: k.namespace.clone(), kind: k.kind.name().to_owned() }
    }
}

impl TryFrom<&PolicyName> for PolicyKey {
    type Error = String;
    fn try_from(n: &PolicyName) -> Result<Self, String> {
        let kind = PolicyKind::ALL.into_iter().find(|k| k.name() == n.kind);
        let kind = kind.ok_or_else(|| format!("unknown kind of policy {:?}", n.kind))?;
        Ok(Self { kind, namespace: n.namespace.clone(), name: n.name.clone() })
    }
}

fn order(tiers: &[TierInfo]) -> Option<Vec<TierOrder>> {
    let names =
        |keys: &[Arc<PolicyKey>]| (!keys.is_empty()).then(|| keys.iter().map(|k| (&**k).into()).collect());
    let tier = |t: &TierInfo| TierOrder {
        name: t.name.clone(),
        ingress_policies: names(&t.ingress),
        egress_policies: names(&t.egress),
    };
    Some(tiers.iter().map(tier).collect())
}

fn member(m: &IpSetMember) -> String {
    match m {
        IpSetMember::Net(net) => net.to_string(),
        IpSetMember::IpPort(addr, protocol, port) => {
            let protocol = match protocol {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            };
            format!("{addr},{protocol}:{port}")
        }
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn route(r: &Route) -> RouteText {
    let flags = [
        r.types.remote_workload,
        r.types.remote_host,
        r.types.local_workload,
        r.types.local_host,
        r.types.remote_tunnel,
        r.types.local_tunnel,
    ];
    let tunnel = TunnelText { ipip: r.tunnel.ipip, vxlan: r.tunnel.vxlan, wireguard: r.tunnel.wireguard };
    RouteText {
        types: flags.iter().enumerate().map(|(i, on)| u8::from(*on) << i).sum(),
        ip_pool_type: match r.pool_type {
            PoolType::None => 0,
            PoolType::NoEncap => 1,
            PoolType::Vxlan => 2,
            PoolType::Ipip => 3,
        },
        dst: r.dst.to_string(),
        dst_node_name: r.dst_node_name.clone(),
        dst_node_ip: text(r.dst_node_ip),
        same_subnet: r.same_subnet,
        nat_outgoing: r.nat_outgoing,
        local_workload: r.local_workload,
        tunnel_type: (tunnel != TunnelText::default()).then_some(tunnel),
        borrowed: r.borrowed,
    }
}

impl From<&Mirror> for Outcome {
    fn from(m: &Mirror) -> Self {
        let mut out = Self::default();
        for (id, (_, members)) in &m.ip_sets {
            let members: Vec<String> = members.iter().map(member).collect();
            out.ipsets.insert(id.to_string(), Some(members));
        }
        for (key, w) in &m.workloads {
            let name = format!("{}/{}/{}", key.orchestrator, key.workload, key.endpoint);
            out.endpoint_policy_order.insert(name.clone(), order(&w.tiers));
            for order in [&mut out.untracked_endpoint_policy_order, &mut out.prednat_endpoint_policy_order] {
                order.insert(name.clone(), None);
            }
        }
        for (name, h) in &m.hosts {
            out.endpoint_policy_order.insert(name.clone(), order(&h.tiers));
            out.untracked_endpoint_policy_order.insert(name.clone(), order(&h.untracked_tiers));
            out.prednat_endpoint_policy_order.insert(name.clone(), order(&h.pre_dnat_tiers));
        }
        out.policies = Some(m.policies.keys().map(Into::into).collect());
        let of = |wanted: fn(&felix_message::ActivePolicy) -> bool| {
            Some(m.policies.iter().filter(|(_, p)| wanted(p)).map(|(k, _)| k.into()).collect())
        };
        out.untracked_policies = of(|p| p.untracked);
        out.prednat_policies = of(|p| p.pre_dnat);
        out.profiles = Some(m.profiles.keys().map(|name| ProfileName { name: name.clone() }).collect());
        out.routes = Some(m.routes.values().map(route).collect());
        let vtep = |v: &felix_message::Vtep| VtepText {
            node: v.node.clone(),
            mac: v.mac.clone(),
            ipv4_addr: text(v.ipv4_addr),
            parent_device_ip: text(v.parent_device_ip),
            mac_v6: v.mac_v6.clone(),
            ipv6_addr: text(v.ipv6_addr),
            parent_device_ipv6: text(v.parent_device_ipv6),
        };
        out.vteps = Some(m.vteps.values().map(vtep).collect());
        let Encapsulation { ipip, vxlan, vxlan_v6 } = m.encapsulation;
        out.encapsulation =
            EncapsulationText { ipip_enabled: ipip, vxlan_enabled: vxlan, vxlan_enabled_v6: vxlan_v6 };
        for (host, h) in &m.metadata {
            let text = MetadataText {
                hostname: h.hostname.clone(),
                ipv4_addr: text(h.ipv4_addr),
                ipv6_addr: text(h.ipv6_addr),
            };
            out.host_metadata.insert(host.clone(), text);
        }
        out
    }
}

/// One thing that differs. Absent text: that side does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: String,
    pub expected: Option<String>,
    pub found: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(text) = &self.expected {
            writeln!(f, "- {}: {text}", self.subject)?;
        }
        if let Some(text) = &self.found {
            writeln!(f, "+ {}: {text}", self.subject)?;
        }
        Ok(())
    }
}

impl Outcome {
    /// What differs, by subject.
    #[must_use]
    pub fn diff(expected: &Self, found: &Self) -> Vec<Difference> {
        let (expected, found) = (expected.lines(), found.lines());
        let subjects: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        subjects
            .into_iter()
            .filter(|s| expected.get(*s) != found.get(*s))
            .map(|s| Difference {
                subject: s.clone(),
                expected: expected.get(s).cloned(),
                found: found.get(s).cloned(),
            })
            .collect()
    }

    /// Every fact as a subject and a text.
    fn lines(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (id, members) in &self.ipsets {
            let mut members: Vec<String> = members.clone().unwrap_or_default();
            members.sort_unstable();
            out.insert(format!("ip set {id}"), members.join(" "));
        }
        for (kind, orders) in [
            ("policy order of", &self.endpoint_policy_order),
            ("untracked policy order of", &self.untracked_endpoint_policy_order),
            ("pre-DNAT policy order of", &self.prednat_endpoint_policy_order),
        ] {
            for (name, tiers) in orders {
                out.insert(format!("{kind} {name}"), order_text(tiers.as_deref().unwrap_or_default()));
            }
        }
        for (kind, names) in [
            ("policy", &self.policies),
            ("untracked policy", &self.untracked_policies),
            ("pre-DNAT policy", &self.prednat_policies),
        ] {
            for name in names.iter().flatten() {
                out.insert(format!("{kind} {}", policy_text(name)), "active".to_owned());
            }
        }
        for profile in self.profiles.iter().flatten() {
            out.insert(format!("profile {}", profile.name), "active".to_owned());
        }
        for r in self.routes.iter().flatten() {
            out.insert(format!("route {}", r.dst), format!("{r:?}"));
        }
        for v in self.vteps.iter().flatten() {
            // One address may be written in several ways.
            let addr = v.ipv6_addr.parse::<IpAddr>();
            let vtep = VtepText {
                ipv6_addr: addr.map_or_else(|_| v.ipv6_addr.clone(), |a| a.to_string()),
                ..v.clone()
            };
            out.insert(format!("VTEP {}", v.node), format!("{vtep:?}"));
        }
        out.insert("encapsulation".to_owned(), format!("{:?}", self.encapsulation));
        for (host, m) in &self.host_metadata {
            out.insert(format!("host {host}"), format!("{m:?}"));
        }
        out
    }
}

fn policy_text(p: &PolicyName) -> String {
    format!("{} {}/{}", p.kind, p.namespace, p.name)
}

fn order_text(tiers: &[TierOrder]) -> String {
    let mut out = String::new();
    for tier in tiers {
        let names = |list: &Option<Vec<PolicyName>>| -> String {
            list.iter().flatten().map(policy_text).collect::<Vec<_>>().join(", ")
        };
        let (ingress, egress) = (names(&tier.ingress_policies), names(&tier.egress_policies));
        let _ = write!(out, "{}[in: {ingress}; out: {egress}] ", tier.name);
    }
    out
}

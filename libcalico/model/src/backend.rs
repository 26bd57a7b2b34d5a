//! Values at calculation keys (`/calico/v1/...`): what Felix calculates with. JSON names are upstream's.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libcalico_api::common::null_default;
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::rule::{HttpMatch, RuleMetadata};
use serde::{Deserialize, Serialize};

/// A workload's interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadEndpoint {
    /// `active`, or anything else for an endpoint that has no traffic yet.
    pub state: String,
    /// Host-side interface name.
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub active_instance_id: String,
    /// Container-side MAC address as text; `None` where the workload never had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(deserialize_with = "null_default")]
    pub profile_ids: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub ipv4_nets: Vec<Ipv4Net>,
    #[serde(deserialize_with = "null_default")]
    pub ipv6_nets: Vec<Ipv6Net>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ipv4_nat: Vec<IpNat>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ipv6_nat: Vec<IpNat>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<IpNet>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A host's own interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostEndpoint {
    /// Interface name, `*` for every interface, empty to find it by address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub expected_ipv4_addrs: Vec<std::net::Ipv4Addr>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub expected_ipv6_addrs: Vec<std::net::Ipv6Addr>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub profile_ids: Vec<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// A one-to-one address translation of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNat {
    pub int_ip: std::net::IpAddr,
    pub ext_ip: std::net::IpAddr,
}

/// A named port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A policy of any kind, with its selectors completed by its namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tier: String,
    /// Policies without an order come after all others of the tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub inbound_rules: Vec<Rule>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub outbound_rules: Vec<Rule>,
    pub selector: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untracked: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pre_dnat: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply_on_forward: bool,
    /// `ingress`, `egress`. Empty: both.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<String>,
}

/// Rules of a profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileRules {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub inbound_rules: Vec<Rule>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub outbound_rules: Vec<Rule>,
}

/// One rule. Absent matches match everything; all given matches must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// `allow` (also the empty text), `deny`, `log`, `pass` (also `next-tier`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(rename = "!protocol", skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    #[serde(rename = "!icmp_type", skip_serializing_if = "Option::is_none")]
    pub not_icmp_type: Option<u8>,
    #[serde(rename = "!icmp_code", skip_serializing_if = "Option::is_none")]
    pub not_icmp_code: Option<u8>,
    /// Old form of `src_nets` with one entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_net: Option<IpNet>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub src_nets: Vec<IpNet>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src_selector: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub src_ports: Vec<Port>,
    #[serde(rename = "src_service", skip_serializing_if = "String::is_empty")]
    pub src_service: String,
    #[serde(rename = "src_service_ns", skip_serializing_if = "String::is_empty")]
    pub src_service_namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_net: Option<IpNet>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub dst_nets: Vec<IpNet>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_selector: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub dst_ports: Vec<Port>,
    #[serde(rename = "dst_service", skip_serializing_if = "String::is_empty")]
    pub dst_service: String,
    #[serde(rename = "dst_service_ns", skip_serializing_if = "String::is_empty")]
    pub dst_service_namespace: String,
    #[serde(rename = "!src_net", skip_serializing_if = "Option::is_none")]
    pub not_src_net: Option<IpNet>,
    #[serde(rename = "!src_nets", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_src_nets: Vec<IpNet>,
    #[serde(rename = "!src_selector", skip_serializing_if = "String::is_empty")]
    pub not_src_selector: String,
    #[serde(rename = "!src_ports", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_src_ports: Vec<Port>,
    #[serde(rename = "!dst_net", skip_serializing_if = "Option::is_none")]
    pub not_dst_net: Option<IpNet>,
    #[serde(rename = "!dst_nets", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_dst_nets: Vec<IpNet>,
    #[serde(rename = "!dst_selector", skip_serializing_if = "String::is_empty")]
    pub not_dst_selector: String,
    #[serde(rename = "!dst_ports", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_dst_ports: Vec<Port>,
    /// What the API object said, before namespaces and service accounts were put into the selectors.
    #[serde(rename = "original_src_selector", skip_serializing_if = "String::is_empty")]
    pub original_src_selector: String,
    #[serde(rename = "original_src_namespace_selector", skip_serializing_if = "String::is_empty")]
    pub original_src_namespace_selector: String,
    #[serde(rename = "original_dst_selector", skip_serializing_if = "String::is_empty")]
    pub original_dst_selector: String,
    #[serde(rename = "original_dst_namespace_selector", skip_serializing_if = "String::is_empty")]
    pub original_dst_namespace_selector: String,
    /// Methods and paths. Carried so that a rule with them is never taken for one without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

/// A tier of policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tier {
    /// Tiers without an order come after all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// What happens to a packet that a policy of the tier applies to and no rule matches: `Deny` (default) or `Pass`.
    #[serde(rename = "defaultAction", skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
}

/// An IP pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpPool {
    pub cidr: IpNet,
    /// Tunnel interface, `tunl0` where IPIP is on.
    #[serde(rename = "ipip", default)]
    pub ipip_interface: String,
    /// Empty (never), `always` or `cross-subnet`.
    #[serde(default)]
    pub ipip_mode: String,
    #[serde(default)]
    pub vxlan_mode: String,
    #[serde(default)]
    pub masquerade: bool,
    #[serde(default)]
    pub ipam: bool,
    #[serde(default)]
    pub disabled: bool,
    #[serde(rename = "disableBGPExport", default)]
    pub disable_bgp_export: bool,
    #[serde(default)]
    pub assignment_mode: String,
    /// `Workload`, `Tunnel`, `LoadBalancer`. Empty: the first two.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<String>,
}

/// A set of networks with labels. Namespaced sets carry `projectcalico.org/namespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSet {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<IpNet>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub profile_ids: Vec<String>,
}

/// A node's WireGuard identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wireguard {
    #[serde(rename = "interfaceIPv4Addr", skip_serializing_if = "Option::is_none")]
    pub interface_ipv4_addr: Option<std::net::Ipv4Addr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    #[serde(rename = "interfaceIPv6Addr", skip_serializing_if = "Option::is_none")]
    pub interface_ipv6_addr: Option<std::net::Ipv6Addr>,
    #[serde(rename = "publicKeyV6", skip_serializing_if = "String::is_empty")]
    pub public_key_v6: String,
}

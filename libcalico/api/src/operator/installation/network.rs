//! The part of an Installation about the network of pods: ranges, dataplane, a node's address, and what is wrong with
//! them. What is left out: acting on it.

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use super::words::{
    DATAPLANES, ENCAPSULATIONS, INTERFACE_TYPES, MULTI_INTERFACE, NODE_ADDRESSES, ROUTING_MODES, SWITCH,
    SYSCTLS, WINDOWS_DATAPLANES, word,
};
use crate::common::null_default;
use crate::ip_pool::block_size_bounds;
use crate::validation::{Findings, Path};

/// Most pools of an installation.
pub const MAX_POOLS: usize = 25;

/// The network of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNetwork {
    /// What enforces policy on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_dataplane: Option<String>,
    /// What enforces policy on Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_dataplane: Option<String>,
    /// Whether nodes speak BGP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<String>,
    /// Who programs routes to other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_routing_mode: Option<String>,
    /// Ranges of addresses.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_pools: Vec<Pool>,
    /// MTU of pods, bytes; found out unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// How a node's IPv4 address is found.
    #[serde(rename = "nodeAddressAutodetectionV4", skip_serializing_if = "Option::is_none")]
    pub node_address_autodetection_v4: Option<Autodetection>,
    /// How a node's IPv6 address is found.
    #[serde(rename = "nodeAddressAutodetectionV6", skip_serializing_if = "Option::is_none")]
    pub node_address_autodetection_v6: Option<Autodetection>,
    /// Whether hostPort of pods works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ports: Option<String>,
    /// Whether pods may have several interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_interface_mode: Option<String>,
    /// Whether pods may forward packets.
    #[serde(rename = "containerIPForwarding", skip_serializing_if = "Option::is_none")]
    pub container_ip_forwarding: Option<String>,
    /// Kernel settings within pods.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub sysctl: Vec<Sysctl>,
    /// Longest time for which a pod's start waits for its policy, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_policy_setup_timeout_seconds: Option<i32>,
    /// Interfaces of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_pod_interface_type: Option<String>,
    /// Whether the API server's address is found out for the eBPF dataplane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_network_bootstrap: Option<String>,
    /// Whether the operator ends kube-proxy for the eBPF dataplane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_proxy_management: Option<String>,
}

/// A range of addresses, in the operator's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// Name of the IPPool; made from the range unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// How packets travel between nodes; `IPIP` for IPv4 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
    /// `Enabled` unless given: packets that leave all pools take the node's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<String>,
    /// Nodes that take addresses from the pool; `all()` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Prefix length of blocks; 26 for IPv4, 122 for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<i32>,
    /// True: the pool's routes are not exported by BGP.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "Option::is_none")]
    pub disable_bgp_export: Option<bool>,
    /// True: no new addresses come from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_new_allocations: Option<bool>,
    /// What addresses are given to.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<String>,
    /// `Automatic`, or `Manual`: only pods that name the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
}

impl Pool {
    /// The range's family, where the range can be read.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let text = self.cidr.as_deref()?;
        libcalico_net::cidr::parse_network(text).ok().map(Family::of_net)
    }
}

/// How a node's address is found: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Autodetection {
    /// The first that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_found: Option<bool>,
    /// `NodeInternalIP`: the address that Kubernetes knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Of interfaces that match this expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Of interfaces that do not match this expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_interface: Option<String>,
    /// From which this address or name is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_reach: Option<String>,
    /// Within one of these networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

impl Autodetection {
    fn methods(&self) -> usize {
        let some = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        [
            self.first_found == Some(true),
            self.kubernetes.is_some(),
            some(&self.interface),
            some(&self.skip_interface),
            some(&self.can_reach),
            !self.cidrs.is_empty(),
        ]
        .iter()
        .filter(|set| **set)
        .count()
    }
}

/// A kernel setting within pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Sysctl {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

pub(super) fn check_network(n: &CalicoNetwork, at: &Path<'_>, e: &mut Findings) {
    for (field, value, words) in [
        ("linuxDataplane", &n.linux_dataplane, DATAPLANES),
        ("windowsDataplane", &n.windows_dataplane, WINDOWS_DATAPLANES),
        ("bgp", &n.bgp, SWITCH),
        ("clusterRoutingMode", &n.cluster_routing_mode, ROUTING_MODES),
        ("hostPorts", &n.host_ports, SWITCH),
        ("multiInterfaceMode", &n.multi_interface_mode, MULTI_INTERFACE),
        ("containerIPForwarding", &n.container_ip_forwarding, SWITCH),
        ("linuxPodInterfaceType", &n.linux_pod_interface_type, INTERFACE_TYPES),
        ("bpfNetworkBootstrap", &n.bpf_network_bootstrap, SWITCH),
        ("kubeProxyManagement", &n.kube_proxy_management, SWITCH),
    ] {
        word(e, &at.field(field), value.as_deref(), words);
    }
    // 68 is the least that IPv4 knows (RFC 791).
    e.range_opt(&at.field("mtu"), n.mtu.filter(|m| *m != 0), 68, 65_535);
    let timeout = at.field("linuxPolicySetupTimeoutSeconds");
    e.range_opt(&timeout, n.linux_policy_setup_timeout_seconds, 0, i64::from(i32::MAX));
    let pools = at.field("ipPools");
    e.max_items(&pools, &n.ip_pools, MAX_POOLS);
    for (i, pool) in n.ip_pools.iter().enumerate() {
        check_pool(pool, &pools.index(i), e);
    }
    for (field, found) in [
        ("nodeAddressAutodetectionV4", &n.node_address_autodetection_v4),
        ("nodeAddressAutodetectionV6", &n.node_address_autodetection_v6),
    ] {
        let Some(found) = found else { continue };
        let at = at.field(field);
        e.require(found.methods() <= 1, &at, "", "give one method, not several");
        word(e, &at.field("kubernetes"), found.kubernetes.as_deref(), NODE_ADDRESSES);
        let cidrs = at.field("cidrs");
        for (i, cidr) in found.cidrs.iter().enumerate() {
            e.network(&cidrs.index(i), cidr);
        }
    }
    let sysctl = at.field("sysctl");
    for (i, s) in n.sysctl.iter().enumerate() {
        word(e, &sysctl.index(i).field("key"), Some(&s.key), SYSCTLS);
    }
}

fn check_pool(pool: &Pool, at: &Path<'_>, e: &mut Findings) {
    if let Some(name) = &pool.name {
        e.object_name(&at.field("name"), name);
    }
    let cidr = at.field("cidr");
    let net = match &pool.cidr {
        Some(text) => e.network(&cidr, text),
        None => {
            e.add(&cidr, "", "is needed");
            None
        }
    };
    word(e, &at.field("encapsulation"), pool.encapsulation.as_deref(), ENCAPSULATIONS);
    word(e, &at.field("natOutgoing"), pool.nat_outgoing.as_deref(), SWITCH);
    e.selector_opt(&at.field("nodeSelector"), pool.node_selector.as_deref());
    word(e, &at.field("assignmentMode"), pool.assignment_mode.as_deref(), &["Automatic", "Manual"]);
    let uses = at.field("allowedUses");
    for (i, u) in pool.allowed_uses.iter().enumerate() {
        word(e, &uses.index(i), Some(u), &["Workload", "Tunnel", "LoadBalancer"]);
    }
    let Some(net) = net else { return };
    let family = Family::of_net(net);
    let (min, max) = block_size_bounds(family);
    e.range_opt(&at.field("blockSize"), pool.block_size, i64::from(min), i64::from(max));
    if let Some(size) = pool.block_size {
        let longer = size >= i32::from(net.prefix_len());
        e.require(longer, &at.field("blockSize"), size, "a block cannot be larger than its pool");
    }
    let ipip = pool.encapsulation.as_deref().is_some_and(|t| t.starts_with("IPIP"));
    e.require(
        !(ipip && family == Family::V6),
        &at.field("encapsulation"),
        pool.encapsulation.as_deref().unwrap_or_default(),
        "IPIP carries IPv4 alone; use VXLAN or None",
    );
}

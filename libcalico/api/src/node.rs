//! `Node` of `projectcalico.org/v3`: a machine that runs Felix.

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::Object;
use crate::names::is_mac;
use crate::num_or_string::AsNumber;
use crate::policy::drop_empty;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type Node = Object<NodeSpec, NodeStatus>;

/// What the node's agent and the administrator say of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// BGP addresses; absent on a node without BGP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgpSpec>,
    /// Address of `vxlan.calico`.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv4_vxlan_tunnel_addr: Option<String>,
    /// MAC address of `vxlan.calico`.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr: Option<String>,
    /// Address of `vxlan-v6.calico`.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv6_vxlan_tunnel_addr: Option<String>,
    /// MAC address of `vxlan-v6.calico`.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr_v6: Option<String>,
    /// What orchestrators call the node.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// Addresses of the WireGuard interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguardSpec>,
    /// Addresses that host endpoints and policy may use.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Interfaces and their addresses.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
}

/// BGP addresses and numbers of a node. Addresses are CIDRs: `172.31.0.1/24`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgpSpec {
    /// The node's own AS number; absent means the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// `172.31.0.1/24`
    #[serde(rename = "ipv4Address", skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// `fd00::1/64`
    #[serde(rename = "ipv6Address", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Address of `tunl0`.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv4_ipip_tunnel_addr: Option<String>,
    /// The node reflects routes under this cluster identifier (RFC 4456).
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "Option::is_none")]
    pub route_reflector_cluster_id: Option<String>,
}

/// The orchestrator's name for the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    pub orchestrator: String,
}

/// Addresses of the node's WireGuard interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguardSpec {
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "Option::is_none")]
    pub interface_ipv4_address: Option<String>,
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "Option::is_none")]
    pub interface_ipv6_address: Option<String>,
}

/// An address of the node; `type` is `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    pub address: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
}

/// A host interface and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    pub name: String,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// What Felix reports of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_public_key: Option<String>,
    #[serde(rename = "wireguardPublicKeyV6", skip_serializing_if = "Option::is_none")]
    pub wireguard_public_key_v6: Option<String>,
    #[serde(rename = "podCIDRs", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

impl Checked for Node {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        if let Some(bgp) = &self.spec.bgp {
            bgp.check(&spec.field("bgp"), e);
        }
        for (name, addr, family) in [
            ("ipv4VXLANTunnelAddr", &self.spec.ipv4_vxlan_tunnel_addr, Family::V4),
            ("ipv6VXLANTunnelAddr", &self.spec.ipv6_vxlan_tunnel_addr, Family::V6),
        ] {
            if let Some(text) = addr {
                e.address(&spec.field(name), text, Some(family));
            }
        }
        for (name, mac) in [
            ("vxlanTunnelMACAddr", &self.spec.vxlan_tunnel_mac_addr),
            ("vxlanTunnelMACAddrV6", &self.spec.vxlan_tunnel_mac_addr_v6),
        ] {
            let text = mac.as_deref().unwrap_or_default();
            e.require(text.is_empty() || is_mac(text), &spec.field(name), text, "is not a MAC address");
        }
        if let Some(wg) = &self.spec.wireguard {
            let at = spec.field("wireguard");
            for (name, addr, family) in [
                ("interfaceIPv4Address", &wg.interface_ipv4_address, Family::V4),
                ("interfaceIPv6Address", &wg.interface_ipv6_address, Family::V6),
            ] {
                if let Some(text) = addr {
                    e.address(&at.field(name), text, Some(family));
                }
            }
        }
        for (i, a) in self.spec.addresses.iter().enumerate() {
            e.network_or_address(&spec.field("addresses").index(i).field("address"), &a.address);
        }
        for (i, interface) in self.spec.interfaces.iter().enumerate() {
            for (j, a) in interface.addresses.iter().enumerate() {
                let at = spec.field("interfaces");
                e.network_or_address(&at.index(i).field("addresses").index(j), a);
            }
        }
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        for text in [
            &mut spec.ipv4_vxlan_tunnel_addr,
            &mut spec.ipv6_vxlan_tunnel_addr,
            &mut spec.vxlan_tunnel_mac_addr,
            &mut spec.vxlan_tunnel_mac_addr_v6,
        ] {
            drop_empty(text);
        }
        if let Some(bgp) = &mut spec.bgp {
            for text in [
                &mut bgp.ipv4_address,
                &mut bgp.ipv6_address,
                &mut bgp.ipv4_ipip_tunnel_addr,
                &mut bgp.route_reflector_cluster_id,
            ] {
                drop_empty(text);
            }
        }
        self.status.get_or_insert_default();
    }
}

impl NodeBgpSpec {
    fn check(&self, path: &Path<'_>, e: &mut Findings) {
        e.require(*self != Self::default(), path, "", "is empty: give an address or leave bgp out");
        if let Some(text) = &self.ipv4_address {
            e.address_in_network(&path.field("ipv4Address"), text, Family::V4);
        }
        if let Some(text) = &self.ipv6_address {
            e.address_in_network(&path.field("ipv6Address"), text, Family::V6);
        }
        if let Some(text) = &self.ipv4_ipip_tunnel_addr {
            e.address(&path.field("ipv4IPIPTunnelAddr"), text, Some(Family::V4));
        }
        if let Some(text) = &self.route_reflector_cluster_id {
            let ok = text.parse::<std::net::Ipv4Addr>().is_ok();
            e.require(ok, &path.field("routeReflectorClusterID"), text, "must be written as an IPv4 address");
        }
    }
}

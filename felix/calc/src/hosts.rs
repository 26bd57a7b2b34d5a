//! What is known of every node: addresses for the dataplane, and VXLAN end points.
//!
//! In come Node objects and the tunnel settings that the syncer derives from them; out go, at a flush, host metadata
//! and VTEPs that changed. A node has a VTEP of a family while both its own address and its tunnel address of that
//! family are known. Without a given MAC address a VTEP has the one that every node derives from the node's name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use felix_message::{HostMetadata, Message, Vtep};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libcalico_api::node::{Node, NodeBgpSpec};
use sha1::{Digest, Sha1};

/// A node's addresses, as Node objects say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
    /// Every address of the node itself.
    pub addresses: BTreeSet<IpAddr>,
    pub ipip: Option<IpAddr>,
    pub vxlan: Vec<IpAddr>,
    pub wireguard: Vec<IpAddr>,
    /// The node has BGP settings and all of them are empty: upstream then says nothing of it.
    silent: bool,
    asnumber: Option<u32>,
    labels: BTreeMap<String, String>,
}

impl NodeInfo {
    /// Reads a Node. Addresses that are none count as absent.
    pub fn new(node: &Node) -> Self {
        let bgp = node.spec.bgp.as_ref();
        let v4 = bgp.and_then(|b| b.ipv4_address.as_deref()).and_then(net_v4);
        let v6 = bgp.and_then(|b| b.ipv6_address.as_deref()).and_then(net_v6);
        // A cluster without BGP knows its nodes by what they say of themselves.
        let (v4, v6) = (v4.or_else(|| reported(node, net_v4)), v6.or_else(|| reported(node, net_v6)));
        let others = node.spec.addresses.iter().filter_map(|a| addr(&a.address));
        let wireguard = node.spec.wireguard.as_ref();
        let parsed = |texts: [Option<&str>; 2]| texts.into_iter().flatten().filter_map(addr).collect();
        Self {
            v4,
            v6,
            addresses: v4
                .map(|n| n.addr().into())
                .into_iter()
                .chain(v6.map(|n| n.addr().into()))
                .chain(others)
                .collect(),
            ipip: bgp.and_then(|b| b.ipv4_ipip_tunnel_addr.as_deref()).and_then(addr),
            vxlan: parsed([
                node.spec.ipv4_vxlan_tunnel_addr.as_deref(),
                node.spec.ipv6_vxlan_tunnel_addr.as_deref(),
            ]),
            wireguard: parsed([
                wireguard.and_then(|w| w.interface_ipv4_address.as_deref()),
                wireguard.and_then(|w| w.interface_ipv6_address.as_deref()),
            ]),
            silent: bgp.is_some_and(|b| *b == NodeBgpSpec::default()),
            asnumber: bgp.and_then(|b| b.as_number).map(|n| n.0),
            labels: node.metadata.labels.clone(),
        }
    }

    /// The node's address of the same family as a network.
    pub fn addr_for(&self, net: IpNet) -> Option<IpAddr> {
        match net {
            IpNet::V4(_) => self.v4.map(|n| n.addr().into()),
            IpNet::V6(_) => self.v6.map(|n| n.addr().into()),
        }
    }

    /// The node's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    fn metadata(&self, hostname: &str) -> Option<HostMetadata> {
        (!self.silent).then(|| HostMetadata {
            hostname: hostname.to_owned(),
            ipv4_addr: self.v4,
            ipv6_addr: self.v6,
            asnumber: self.asnumber,
            labels: self.labels.clone(),
        })
    }
}

/// The node's address by its own report: the cluster's own before one that the world knows.
fn reported<T>(node: &Node, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let of =
        |kind: &str| node.spec.addresses.iter().filter(|a| a.type_ == kind).find_map(|a| parse(&a.address));
    of("InternalIP").or_else(|| of("ExternalIP"))
}

fn net_v4(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

fn net_v6(text: &str) -> Option<Ipv6Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv6Addr>().ok().map(Ipv6Net::from))
}

fn addr(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<IpNet>().ok().map(|n| n.addr()))
}

/// Configuration values of a node that say where its tunnels end.
const TUNNEL_SETTINGS: [&str; 4] =
    ["IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr", "VXLANTunnelMACAddr", "VXLANTunnelMACAddrV6"];

/// Tunnel settings of a node.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tunnel {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    mac: Option<String>,
    mac_v6: Option<String>,
}

/// See the module's text.
#[derive(Default)]
pub struct Hosts {
    nodes: BTreeMap<String, NodeInfo>,
    tunnels: BTreeMap<String, Tunnel>,
    stale: BTreeSet<String>,
    sent: BTreeMap<String, HostMetadata>,
    sent_vteps: BTreeMap<String, Vtep>,
}

impl Hosts {
    /// What is known of a node.
    pub fn get(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Sets or removes a node.
    pub fn set_node(&mut self, name: &str, info: Option<NodeInfo>) {
        match info {
            Some(info) => self.nodes.insert(name.to_owned(), info),
            None => self.nodes.remove(name),
        };
        self.stale.insert(name.to_owned());
    }

    /// Takes a node's configuration value; those that are not about tunnels are ignored.
    pub fn set_config(&mut self, host: &str, name: &str, value: Option<&str>) {
        if !TUNNEL_SETTINGS.contains(&name) {
            return;
        }
        let value = value.map(str::trim).filter(|v| !v.is_empty());
        let tunnel = self.tunnels.entry(host.to_owned()).or_default();
        match name {
            "IPv4VXLANTunnelAddr" => tunnel.v4 = value.and_then(|v| v.parse().ok()),
            "IPv6VXLANTunnelAddr" => tunnel.v6 = value.and_then(|v| v.parse().ok()),
            "VXLANTunnelMACAddr" => tunnel.mac = value.map(str::to_owned),
            _ => tunnel.mac_v6 = value.map(str::to_owned),
        }
        self.stale.insert(host.to_owned());
    }

    fn vtep(&self, host: &str) -> Option<Vtep> {
        let (node, tunnel) = (self.nodes.get(host)?, self.tunnels.get(host)?);
        let v4 = node.v4.zip(tunnel.v4);
        let v6 = node.v6.zip(tunnel.v6);
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let mac = |given: &Option<String>, seed: String| given.clone().unwrap_or_else(|| derived_mac(&seed));
        let mut vtep = Vtep { node: host.to_owned(), ..Vtep::default() };
        if let Some((parent, addr)) = v4 {
            vtep.mac = mac(&tunnel.mac, host.to_owned());
            vtep.ipv4_addr = Some(addr);
            vtep.parent_device_ip = Some(parent.addr());
        }
        if let Some((parent, addr)) = v6 {
            vtep.mac_v6 = mac(&tunnel.mac_v6, format!("{host}-v6"));
            vtep.ipv6_addr = Some(addr);
            vtep.parent_device_ipv6 = Some(parent.addr());
        }
        Some(vtep)
    }

    /// Messages for what changed.
    pub fn flush(&mut self, out: &mut Vec<Message>) {
        for host in std::mem::take(&mut self.stale) {
            let metadata = self.nodes.get(&host).and_then(|n| n.metadata(&host));
            if self.sent.get(&host) != metadata.as_ref() {
                out.push(match metadata {
                    Some(m) => {
                        self.sent.insert(host.clone(), m.clone());
                        Message::HostMetadataUpdate(m)
                    }
                    None => {
                        self.sent.remove(&host);
                        Message::HostMetadataRemove(host.clone())
                    }
                });
            }
            let vtep = self.vtep(&host);
            if self.sent_vteps.get(&host) != vtep.as_ref() {
                out.push(match vtep {
                    Some(v) => {
                        self.sent_vteps.insert(host.clone(), v.clone());
                        Message::VtepUpdate(v)
                    }
                    None => {
                        self.sent_vteps.remove(&host);
                        Message::VtepRemove(host.clone())
                    }
                });
            }
            if self
                .tunnels
                .get(&host)
                .is_some_and(|t| t.v4.is_none() && t.v6.is_none() && t.mac.is_none() && t.mac_v6.is_none())
            {
                self.tunnels.remove(&host);
            }
        }
    }
}

/// `66:` and the first five bytes of a SHA-1, as upstream derives it.
fn derived_mac(seed: &str) -> String {
    let digest = Sha1::digest(seed.as_bytes());
    let bytes: Vec<String> = digest.iter().take(5).map(|b| format!("{b:02x}")).collect();
    format!("66:{}", bytes.join(":"))
}

//! `Node` → its BGP address, its tunnels' addresses as host configuration, its WireGuard identity.

use std::net::IpAddr;

use libcalico_api::node::Node;
use libcalico_model::{Key, Value, backend};

use super::{Outputs, parse_address};

pub fn convert(node: &Node) -> Result<Outputs, String> {
    let host = &node.metadata.name;
    let mut out = Vec::new();
    let bgp = node.spec.bgp.as_ref();
    // Without BGP the node's own report of its address is the next best.
    let address = bgp.and_then(|b| b.ipv4_address.as_deref()).or_else(|| {
        node.spec
            .addresses
            .iter()
            .find(|a| a.type_ == "InternalIP" && a.address.parse::<std::net::Ipv4Addr>().is_ok())
            .map(|a| a.address.as_str())
    });
    if let Some(address) = address.filter(|a| !a.is_empty()) {
        let address = parse_address(address).map_err(|e| format!("its address: {e}"))?.to_string();
        out.push((Key::HostIp(host.clone()), Value::Text(address.clone())));
        out.push((config(host, "NodeIP"), Value::Text(address)));
    }
    let spec = &node.spec;
    let addresses = [
        ("IpInIpTunnelAddr", bgp.and_then(|b| b.ipv4_ipip_tunnel_addr.as_deref())),
        ("IPv4VXLANTunnelAddr", spec.ipv4_vxlan_tunnel_addr.as_deref()),
        ("IPv6VXLANTunnelAddr", spec.ipv6_vxlan_tunnel_addr.as_deref()),
    ];
    for (name, address) in addresses {
        let Some(address) = address.filter(|a| !a.is_empty()) else { continue };
        let address = parse_address(address).map_err(|e| format!("{name}: {e}"))?;
        out.push((config(host, name), Value::Text(address.to_string())));
    }
    let macs = [
        ("VXLANTunnelMACAddr", &spec.vxlan_tunnel_mac_addr),
        ("VXLANTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6),
    ];
    for (name, mac) in macs {
        if let Some(mac) = mac.as_ref().filter(|m| !m.is_empty()) {
            out.push((config(host, name), Value::Text(mac.clone())));
        }
    }
    out.extend(wireguard(node)?);
    Ok(out)
}

fn config(host: &str, name: &str) -> Key {
    Key::HostConfig { host: host.to_owned(), name: name.to_owned() }
}

fn wireguard(node: &Node) -> Result<Option<(Key, Value)>, String> {
    let mut w = backend::Wireguard::default();
    if let Some(spec) = &node.spec.wireguard {
        let parse =
            |t: &Option<String>| t.as_deref().filter(|t| !t.is_empty()).map(parse_address).transpose();
        if let Some(IpAddr::V4(a)) = parse(&spec.interface_ipv4_address)? {
            w.interface_ipv4_addr = Some(a);
        }
        if let Some(IpAddr::V6(a)) = parse(&spec.interface_ipv6_address)? {
            w.interface_ipv6_addr = Some(a);
        }
    }
    if let Some(status) = &node.status {
        w.public_key = status.wireguard_public_key.clone().unwrap_or_default();
        w.public_key_v6 = status.wireguard_public_key_v6.clone().unwrap_or_default();
    }
    if w == backend::Wireguard::default() {
        return Ok(None);
    }
    Ok(Some((Key::Wireguard(node.metadata.name.clone()), Value::Wireguard(w))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_becomes_its_addresses() {
        let json = r#"{"metadata":{"name":"node-a"},"spec":{"bgp":{"ipv4Address":"172.31.0.1/24","ipv4IPIPTunnelAddr":"10.65.0.9"},
            "ipv4VXLANTunnelAddr":"10.65.0.1","vxlanTunnelMACAddr":"66:00:00:00:00:01"},
            "status":{"wireguardPublicKey":"key"}}"#;
        let out = convert(&serde_json::from_str(json).unwrap()).unwrap();
        let text: Vec<String> = out
            .iter()
            .map(|(k, v)| format!("{}={}", k.path(), String::from_utf8(v.to_bytes()).unwrap()))
            .collect();
        assert_eq!(
            text,
            [
                "/calico/v1/host/node-a/bird_ip=172.31.0.1",
                "/calico/v1/host/node-a/config/NodeIP=172.31.0.1",
                "/calico/v1/host/node-a/config/IpInIpTunnelAddr=10.65.0.9",
                "/calico/v1/host/node-a/config/IPv4VXLANTunnelAddr=10.65.0.1",
                "/calico/v1/host/node-a/config/VXLANTunnelMACAddr=66:00:00:00:00:01",
                r#"/calico/v1/host/node-a/wireguard={"publicKey":"key"}"#,
            ]
        );
    }
}

//! Kubernetes' Node as Calico's: addresses, tunnel addresses and keys stand in annotations, labels are Kubernetes' own.
//!
//! Always holds: writing a node touches Calico's annotations alone, never a label or a field of Kubernetes. Labels and
//! annotations that only Calico knows are kept as JSON in two annotations of their own.

use std::collections::BTreeMap;

use libcalico_api::ObjectMeta;
use libcalico_api::common::null_default;
use libcalico_api::node::{
    Node, NodeAddress, NodeBgpSpec, NodeInterface, NodeSpec, NodeStatus, NodeWireguardSpec, OrchRef,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{identity, malformed, read};
use crate::ValueError;

/// Before the name of each of Calico's annotations.
const PREFIX: &str = "projectcalico.org/";
/// Labels that Kubernetes does not have, as a JSON object.
const LABELS: &str = "projectcalico.org/labels";
/// Annotations of Calico's node, as a JSON object.
const ANNOTATIONS: &str = "projectcalico.org/annotations";
/// Interfaces as a JSON list.
const INTERFACES: &str = "projectcalico.org/Interfaces";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeNode {
    metadata: ObjectMeta,
    spec: KubeSpec,
    status: KubeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs", deserialize_with = "null_default")]
    pod_cidrs: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeStatus {
    #[serde(deserialize_with = "null_default")]
    addresses: Vec<KubeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// A Kubernetes Node as Calico's.
pub fn from_kubernetes(json: &[u8]) -> Result<Node, ValueError> {
    let node: KubeNode = read("Node", json)?;
    let meta = &node.metadata;
    if meta.name.is_empty() {
        return Err(malformed("Node", "has no name"));
    }
    let note =
        |name: &str| meta.annotations.get(&format!("{PREFIX}{name}")).filter(|v| !v.is_empty()).cloned();
    let bad = |reason: String| malformed(format!("Node {}", meta.name), reason);
    let as_number = note("ASNumber")
        .map(|t| t.parse().map_err(|e: String| bad(format!("annotation {PREFIX}ASNumber: {e}"))))
        .transpose()?;
    let bgp = NodeBgpSpec {
        as_number,
        ipv4_address: note("IPv4Address"),
        ipv6_address: note("IPv6Address"),
        ipv4_ipip_tunnel_addr: note("IPv4IPIPTunnelAddr"),
        route_reflector_cluster_id: note("RouteReflectorClusterID"),
    };
    let wireguard = NodeWireguardSpec {
        interface_ipv4_address: note("IPv4WireguardInterfaceAddr"),
        interface_ipv6_address: note("IPv6WireguardInterfaceAddr"),
    };
    let parsed = |name: &str, e: serde_json::Error| bad(format!("annotation {name}: {e}"));
    let interfaces: Vec<NodeInterface> = match meta.annotations.get(INTERFACES) {
        Some(t) => serde_json::from_str(t).map_err(|e| parsed(INTERFACES, e))?,
        None => Vec::new(),
    };
    let object = |name: &str| -> Result<BTreeMap<String, String>, ValueError> {
        match meta.annotations.get(name) {
            Some(t) => serde_json::from_str(t).map_err(|e| parsed(name, e)),
            None => Ok(BTreeMap::new()),
        }
    };
    let mut labels = object(LABELS)?;
    // Kubernetes' own labels win.
    labels.extend(meta.labels.clone());
    let spec = NodeSpec {
        addresses: addresses(&bgp, &node.status.addresses),
        bgp: Some(bgp).filter(|b| *b != NodeBgpSpec::default()),
        ipv4_vxlan_tunnel_addr: note("IPv4VXLANTunnelAddr"),
        vxlan_tunnel_mac_addr: note("VXLANTunnelMACAddr"),
        ipv6_vxlan_tunnel_addr: note("IPv6VXLANTunnelAddr"),
        vxlan_tunnel_mac_addr_v6: note("VXLANTunnelMACAddrV6"),
        orch_refs: vec![OrchRef { node_name: meta.name.clone(), orchestrator: "k8s".to_owned() }],
        wireguard: Some(wireguard).filter(|w| *w != NodeWireguardSpec::default()),
        interfaces,
    };
    let pod_cidrs = match node.spec.pod_cidrs.is_empty() {
        true => Some(node.spec.pod_cidr).filter(|c| !c.is_empty()).into_iter().collect(),
        false => node.spec.pod_cidrs,
    };
    let status = NodeStatus {
        wireguard_public_key: note("WireguardPublicKey"),
        wireguard_public_key_v6: note("WireguardPublicKeyV6"),
        pod_cidrs,
    };
    let metadata = ObjectMeta { labels, annotations: object(ANNOTATIONS)?, ..identity(meta) };
    Ok(Node { metadata, spec, status: Some(status), ..Node::default() })
}

/// The node's BGP addresses, then what Kubernetes says of it.
fn addresses(bgp: &NodeBgpSpec, kubernetes: &[KubeAddress]) -> Vec<NodeAddress> {
    let own = [&bgp.ipv4_address, &bgp.ipv6_address].into_iter().flatten();
    let own = own.map(|a| NodeAddress { address: a.clone(), type_: "CalicoNodeIP".to_owned() });
    let theirs = kubernetes
        .iter()
        .filter(|a| matches!(a.kind.as_str(), "InternalIP" | "ExternalIP"))
        .map(|a| NodeAddress { address: a.address.clone(), type_: a.kind.clone() });
    own.chain(theirs).collect()
}

/// The merge patch (RFC 7396) that writes Calico's node into Kubernetes'. `current` is what Kubernetes has now: its
/// labels are not repeated.
pub fn patch(node: &Node, current: &[u8]) -> Result<Value, ValueError> {
    let current: KubeNode = read("Node", current)?;
    let mut notes = Map::new();
    let mut set = |name: &str, value: Option<String>| {
        let value = value.filter(|v| !v.is_empty()).map_or(Value::Null, Value::String);
        notes.insert(format!("{PREFIX}{name}"), value);
    };
    let spec = &node.spec;
    let bgp = spec.bgp.clone().unwrap_or_default();
    set("ASNumber", bgp.as_number.map(|n| n.to_string()));
    set("IPv4Address", bgp.ipv4_address);
    set("IPv6Address", bgp.ipv6_address);
    set("IPv4IPIPTunnelAddr", bgp.ipv4_ipip_tunnel_addr);
    set("RouteReflectorClusterID", bgp.route_reflector_cluster_id);
    set("IPv4VXLANTunnelAddr", spec.ipv4_vxlan_tunnel_addr.clone());
    set("VXLANTunnelMACAddr", spec.vxlan_tunnel_mac_addr.clone());
    set("IPv6VXLANTunnelAddr", spec.ipv6_vxlan_tunnel_addr.clone());
    set("VXLANTunnelMACAddrV6", spec.vxlan_tunnel_mac_addr_v6.clone());
    let wireguard = spec.wireguard.clone().unwrap_or_default();
    set("IPv4WireguardInterfaceAddr", wireguard.interface_ipv4_address);
    set("IPv6WireguardInterfaceAddr", wireguard.interface_ipv6_address);
    let status = node.status.clone().unwrap_or_default();
    set("WireguardPublicKey", status.wireguard_public_key);
    set("WireguardPublicKeyV6", status.wireguard_public_key_v6);
    let interfaces = (!spec.interfaces.is_empty()).then(|| json!(spec.interfaces).to_string());
    set("Interfaces", interfaces);
    let theirs = &current.metadata.labels;
    let own: BTreeMap<&String, &String> =
        node.metadata.labels.iter().filter(|(k, _)| !theirs.contains_key(*k)).collect();
    set("labels", (!own.is_empty()).then(|| json!(own).to_string()));
    let own = &node.metadata.annotations;
    set("annotations", (!own.is_empty()).then(|| json!(own).to_string()));
    Ok(json!({ "metadata": { "annotations": notes } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"metadata":{"name":"n1","resourceVersion":"5","uid":"u","labels":{"kubernetes.io/os":"linux"},
        "annotations":{"projectcalico.org/IPv4Address":"172.31.0.1/24","projectcalico.org/IPv6Address":"fd00::1/64",
          "projectcalico.org/ASNumber":"64513","projectcalico.org/RouteReflectorClusterID":"1.2.3.4",
          "projectcalico.org/IPv4IPIPTunnelAddr":"10.0.0.1","projectcalico.org/IPv4VXLANTunnelAddr":"10.0.0.2",
          "projectcalico.org/VXLANTunnelMACAddr":"66:00:00:00:00:01","projectcalico.org/WireguardPublicKey":"key",
          "projectcalico.org/IPv4WireguardInterfaceAddr":"10.0.0.3","projectcalico.org/labels":"{\"rack\":\"r1\"}",
          "volumes.kubernetes.io/x":"true"}},
        "spec":{"podCIDR":"10.65.1.0/24","podCIDRs":["10.65.1.0/24","fd01::/64"]},
        "status":{"addresses":[{"type":"InternalIP","address":"172.31.0.1"},{"type":"Hostname","address":"n1"}]}}"#;

    #[test]
    fn calicos_annotations_become_the_nodes_fields() {
        let n = from_kubernetes(NODE.as_bytes()).unwrap();
        let bgp = n.spec.bgp.clone().unwrap();
        assert_eq!(bgp.ipv4_address.as_deref(), Some("172.31.0.1/24"));
        assert_eq!(bgp.as_number.unwrap().0, 64513);
        assert_eq!(bgp.route_reflector_cluster_id.as_deref(), Some("1.2.3.4"));
        assert_eq!(n.spec.vxlan_tunnel_mac_addr.as_deref(), Some("66:00:00:00:00:01"));
        assert_eq!(n.spec.orch_refs[0].node_name, "n1");
        let kinds: Vec<&str> = n.spec.addresses.iter().map(|a| a.type_.as_str()).collect();
        assert_eq!(kinds, ["CalicoNodeIP", "CalicoNodeIP", "InternalIP"]);
        let status = n.status.unwrap();
        assert_eq!(status.wireguard_public_key.as_deref(), Some("key"));
        assert_eq!(status.pod_cidrs, ["10.65.1.0/24", "fd01::/64"]);
        assert_eq!(
            (n.metadata.labels["rack"].as_str(), n.metadata.labels["kubernetes.io/os"].as_str()),
            ("r1", "linux")
        );
        assert!(n.metadata.annotations.is_empty());
    }

    #[test]
    fn writing_a_node_back_changes_nothing_it_should_not() {
        let n = from_kubernetes(NODE.as_bytes()).unwrap();
        let patch = patch(&n, NODE.as_bytes()).unwrap();
        let notes = patch["metadata"]["annotations"].as_object().unwrap();
        assert!(patch["metadata"].get("labels").is_none());
        assert_eq!(notes["projectcalico.org/labels"], "{\"rack\":\"r1\"}");
        assert_eq!(notes["projectcalico.org/ASNumber"], "64513");
        assert!(!notes.contains_key("volumes.kubernetes.io/x"));
        let mut object: Value = serde_json::from_str(NODE).unwrap();
        for (k, v) in notes {
            match v {
                Value::Null => object["metadata"]["annotations"].as_object_mut().unwrap().remove(k),
                v => object["metadata"]["annotations"].as_object_mut().unwrap().insert(k.clone(), v.clone()),
            };
        }
        assert_eq!(from_kubernetes(object.to_string().as_bytes()).unwrap(), n);
    }

    #[test]
    fn a_node_that_calico_does_not_know_yet_has_kubernetes_fields_alone() {
        let n = from_kubernetes(br#"{"metadata":{"name":"n"},"spec":{"podCIDR":"10.0.0.0/24"}}"#).unwrap();
        assert_eq!((n.spec.bgp, n.spec.wireguard), (None, None));
        assert_eq!(n.status.unwrap().pod_cidrs, ["10.0.0.0/24"]);
        let bad = br#"{"metadata":{"name":"n","annotations":{"projectcalico.org/ASNumber":"many"}}}"#;
        assert!(from_kubernetes(bad).unwrap_err().to_string().contains("ASNumber"));
    }
}

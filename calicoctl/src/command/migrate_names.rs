//! The names that nodes have in Kubernetes, wherever an export names a node.
//!
//! On etcd a node may be called otherwise than Kubernetes calls it (`orchRefs`). An export for the Kubernetes datastore
//! has Kubernetes' names: of the node, of settings for one node (`node.NAME`), and in IPAM's records. Pure.

use std::collections::BTreeMap;

use libcalico_api::Resource;
use libcalico_api::node::Node;
use libcalico_model::ipam::AllocationAttribute;
use libcalico_model::{Key, Value};

/// Beginnings of the handles of nodes' own addresses; the node's name follows.
const NODE_HANDLES: [&str; 5] = [
    "ipip-tunnel-addr-",
    "vxlan-tunnel-addr-",
    "vxlan-v6-tunnel-addr-",
    "wireguard-tunnel-addr-",
    "wireguard-v6-tunnel-addr-",
];

/// Nodes whose names differ: from the datastore's to Kubernetes'.
#[derive(Clone, Debug, Default)]
pub struct NodeNames(BTreeMap<String, String>);

impl NodeNames {
    /// Of the datastore's nodes.
    #[must_use]
    pub fn of(nodes: &[Resource]) -> Self {
        let names = nodes.iter().filter_map(|r| <&Node>::try_from(r).ok()).filter_map(|n| {
            let mut references = n.spec.orch_refs.iter();
            let own = references.find(|r| r.orchestrator == "k8s" && !r.node_name.is_empty())?;
            (own.node_name != n.metadata.name).then(|| (n.metadata.name.clone(), own.node_name.clone()))
        });
        Self(names.collect())
    }

    fn set(&self, name: &mut String) {
        if let Some(new) = self.0.get(name.as_str()) {
            name.clone_from(new);
        }
    }

    fn set_after(&self, prefix: &str, text: &mut String) {
        if let Some(new) = text.strip_prefix(prefix).and_then(|n| self.0.get(n)) {
            *text = format!("{prefix}{new}");
        }
    }

    /// Renames an object that is a node or is about one.
    pub fn resource(&self, resource: &mut Resource) {
        match resource {
            Resource::Node(n) => self.set(&mut n.metadata.name),
            Resource::FelixConfiguration(f) => self.set_after("node.", &mut f.metadata.name),
            Resource::BGPConfiguration(b) => self.set_after("node.", &mut b.metadata.name),
            _ => {}
        }
    }

    /// Renames nodes in a record of IPAM.
    pub fn record(&self, key: &mut Key, value: &mut Value) {
        match key {
            Key::BlockAffinity { host, .. } => self.set(host),
            Key::Handle(id) => self.handle(id),
            _ => {}
        }
        if let Value::Block(block) = value {
            if let Some(affinity) = &mut block.affinity {
                self.set_after("host:", affinity);
            }
            if let Some(host) = &mut block.host_affinity {
                self.set(host);
            }
            block.attributes.iter_mut().for_each(|a| self.attribute(a));
        }
    }

    fn handle(&self, id: &mut String) {
        for prefix in NODE_HANDLES {
            self.set_after(prefix, id);
        }
    }

    fn attribute(&self, a: &mut AllocationAttribute) {
        if let Some(id) = &mut a.handle_id {
            self.handle(id);
        }
        for map in [&mut a.active_owner_attrs, &mut a.alternate_owner_attrs] {
            if let Some(node) = map.get_mut("node") {
                self.set(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcalico_api::Kind;

    #[test]
    fn a_node_has_kubernetes_name_everywhere() {
        let json = br#"{"metadata":{"name":"etcd-1"},"spec":{"orchRefs":[{"nodeName":"kube-1","orchestrator":"k8s"}]}}"#;
        let mut node = Resource::from_json(Kind::Node, json).unwrap();
        let names = NodeNames::of(std::slice::from_ref(&node));
        names.resource(&mut node);
        assert_eq!(node.metadata().name, "kube-1");
        let felix = br#"{"metadata":{"name":"node.etcd-1"},"spec":{}}"#;
        let mut felix = Resource::from_json(Kind::FelixConfiguration, felix).unwrap();
        names.resource(&mut felix);
        assert_eq!(felix.metadata().name, "node.kube-1");
        let mut key: Key = "/calico/ipam/v2/host/etcd-1/ipv4/block/10.65.0.0-26".parse().unwrap();
        let mut value = Value::parse(&key, br#"{"state":"confirmed"}"#).unwrap();
        names.record(&mut key, &mut value);
        assert_eq!(key.path(), "/calico/ipam/v2/host/kube-1/ipv4/block/10.65.0.0-26");
        let mut key: Key = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26".parse().unwrap();
        let block = br#"{"cidr":"10.65.0.0/26","affinity":"host:etcd-1","allocations":[0],"unallocated":[],
            "attributes":[{"handle_id":"vxlan-tunnel-addr-etcd-1","secondary":{"node":"etcd-1"}}]}"#;
        let mut value = Value::parse(&key, block).unwrap();
        names.record(&mut key, &mut value);
        let text = String::from_utf8(value.to_bytes().to_vec()).unwrap();
        assert!(!text.contains("etcd-1") && text.contains("vxlan-tunnel-addr-kube-1"), "{text}");
    }
}

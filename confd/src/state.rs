//! What confd knows of the datastore: the objects that shape `bird.cfg`, folded from syncer events.
//!
//! In come updates in any order and number; out go sorted maps. Always holds: the same set of live keys gives the
//! same state, whatever the history. Left out: every other kind, and other hosts' block affinities.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use libcalico_api::bgp_configuration::BGPConfiguration;
use libcalico_api::bgp_filter::BGPFilter;
use libcalico_api::bgp_peer::BGPPeer;
use libcalico_api::ip_pool::IPPool;
use libcalico_api::node::Node;
use libcalico_api::{Kind, Resource};
use libcalico_model::ipam::AffinityState;
use libcalico_model::{Key, SyncStatus, SyncerEvent, Update, Value};

/// Live objects by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    node_name: String,
    status: SyncStatus,
    nodes: BTreeMap<String, Arc<Resource>>,
    peers: BTreeMap<String, Arc<Resource>>,
    configurations: BTreeMap<String, Arc<Resource>>,
    filters: BTreeMap<String, Arc<Resource>>,
    pools: BTreeMap<String, Arc<Resource>>,
    blocks: BTreeMap<IpNet, AffinityState>,
}

impl State {
    /// Nothing known yet.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self { node_name: node_name.to_owned(), ..Self::default() }
    }

    /// The node whose file is made.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// True once the first snapshot is whole.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.status == SyncStatus::InSync
    }

    /// Takes one event; true where something that matters here changed.
    pub fn apply(&mut self, event: SyncerEvent) -> bool {
        match event {
            SyncerEvent::Status(status) => {
                let changed = self.status != status;
                self.status = status;
                changed
            }
            SyncerEvent::Updates(updates) => {
                updates.into_iter().fold(false, |changed, u| self.update(u) | changed)
            }
        }
    }

    /// Takes one update; true where something changed.
    pub fn update(&mut self, update: Update) -> bool {
        match (update.key, update.value) {
            (Key::Resource(key), value) => {
                let Some(map) = self.map_of(key.kind) else { return false };
                match value {
                    Some(Value::Resource(resource)) => {
                        if map.get(&key.name).is_some_and(|old| old == &resource) {
                            return false;
                        }
                        map.insert(key.name, resource);
                        true
                    }
                    _ => map.remove(&key.name).is_some(),
                }
            }
            (Key::BlockAffinity { affinity_type, host, cidr }, value) => {
                if affinity_type != "host" || host != self.node_name {
                    return false;
                }
                match value {
                    Some(Value::BlockAffinity(affinity)) if !affinity.deleted => {
                        self.blocks.insert(cidr, affinity.state) != Some(affinity.state)
                    }
                    _ => self.blocks.remove(&cidr).is_some(),
                }
            }
            _ => false,
        }
    }

    fn map_of(&mut self, kind: Kind) -> Option<&mut BTreeMap<String, Arc<Resource>>> {
        match kind {
            Kind::Node => Some(&mut self.nodes),
            Kind::BGPPeer => Some(&mut self.peers),
            Kind::BGPConfiguration => Some(&mut self.configurations),
            Kind::BGPFilter => Some(&mut self.filters),
            Kind::IPPool => Some(&mut self.pools),
            _ => None,
        }
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter_map(|r| r.as_ref().try_into().ok())
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).and_then(|r| r.as_ref().try_into().ok())
    }

    /// All explicit peerings, by name.
    pub fn peers(&self) -> impl Iterator<Item = &BGPPeer> {
        self.peers.values().filter_map(|r| r.as_ref().try_into().ok())
    }

    /// The configuration of the whole cluster.
    #[must_use]
    pub fn global_configuration(&self) -> Option<&BGPConfiguration> {
        self.configurations.get("default").and_then(|r| r.as_ref().try_into().ok())
    }

    /// The configuration of one node, which wins over the cluster's field by field.
    #[must_use]
    pub fn node_configuration(&self, node: &str) -> Option<&BGPConfiguration> {
        self.configurations.get(&format!("node.{node}")).and_then(|r| r.as_ref().try_into().ok())
    }

    /// All filters, by name.
    pub fn filters(&self) -> impl Iterator<Item = &BGPFilter> {
        self.filters.values().filter_map(|r| r.as_ref().try_into().ok())
    }

    /// One filter.
    #[must_use]
    pub fn filter(&self, name: &str) -> Option<&BGPFilter> {
        self.filters.get(name).and_then(|r| r.as_ref().try_into().ok())
    }

    /// All pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &IPPool> {
        self.pools.values().filter_map(|r| r.as_ref().try_into().ok())
    }

    /// Blocks that this node holds for certain: neither pending nor about to be released.
    pub fn blocks(&self) -> impl Iterator<Item = IpNet> {
        self.blocks
            .iter()
            .filter(|(_, s)| matches!(s, AffinityState::Confirmed | AffinityState::Unset))
            .map(|(c, _)| *c)
    }
}

//! Blocks and affinities where Kubernetes gives every node its pods' networks (`USE_POD_CIDR`, host-local IPAM).
//!
//! In comes a datastore; out goes the same one, in which [`Scope::Blocks`] and [`Scope::BlockAffinities`] are not IPAM's
//! records but each node's `podCIDRs`: one block with the node's affinity for each. So routes and BGP need not know which
//! IPAM there is. Always holds: everything else passes through; a block's revision is its node's. Left out: single reads
//! and writes of such blocks, which only `calico-ipam` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use libcalico_api::{Kind, Resource};
use libcalico_model::ipam::{AllocationBlock, BlockAffinity};
use libcalico_model::{Key, KeyValue, Revision, Value};
use tokio::sync::mpsc;

use crate::{Datastore, Listing, Result, Scope, WatchEvent, Write};

/// Events between the watch on nodes and the reader.
const BUFFER: usize = 128;

/// A datastore whose blocks are the nodes' pod networks.
pub struct PodCidrs<D> {
    inner: Arc<D>,
}

impl<D: Datastore> PodCidrs<D> {
    /// Puts the nodes' networks in place of the datastore's blocks.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

/// What a scope is made of; none where it passes through.
#[derive(Clone)]
enum Made {
    Blocks,
    /// Of one host or of all.
    Affinities(Option<String>),
}

impl Made {
    fn of(scope: &Scope) -> Option<Self> {
        match scope {
            Scope::Blocks => Some(Self::Blocks),
            Scope::BlockAffinities { host } => Some(Self::Affinities(host.clone())),
            _ => None,
        }
    }

    /// The records of a node.
    fn records_of(&self, node: &KeyValue) -> Vec<KeyValue> {
        let Value::Resource(resource) = &node.value else { return Vec::new() };
        let Resource::Node(n) = &**resource else { return Vec::new() };
        let name = n.name();
        if let Self::Affinities(Some(host)) = self
            && host != name
        {
            return Vec::new();
        }
        let cidrs = n.status.iter().flat_map(|s| &s.pod_cidrs);
        let parsed = cidrs.filter_map(|text| match libcalico_net::cidr::parse_network(text) {
            Ok(cidr) => Some(cidr),
            Err(error) => {
                tracing::warn!(node = name, cidr = text, %error, "the node's pod network cannot be read");
                None
            }
        });
        parsed
            .map(|cidr| {
                let (key, value) = match self {
                    Self::Blocks => (Key::Block(cidr), Value::Block(Box::new(block(name, cidr)))),
                    Self::Affinities(_) => (
                        Key::BlockAffinity { affinity_type: "host".to_owned(), host: name.to_owned(), cidr },
                        Value::BlockAffinity(BlockAffinity::default()),
                    ),
                };
                KeyValue { key, value, revision: node.revision.clone() }
            })
            .collect()
    }
}

/// The whole network is the node's, and which addresses pods have is nobody's concern here.
fn block(node: &str, cidr: libcalico_net::IpNet) -> AllocationBlock {
    AllocationBlock {
        cidr,
        affinity: Some(format!("host:{node}")),
        affinity_claim_time: None,
        strict_affinity: false,
        allocations: Vec::new(),
        unallocated: Vec::new(),
        attributes: Vec::new(),
        sequence_number: 0,
        sequence_number_for_allocation: BTreeMap::new(),
        deleted: false,
        host_affinity: None,
    }
}

/// Which records each node has given: what to take back when it changes or goes.
#[derive(Default)]
struct Given(BTreeMap<Key, BTreeSet<Key>>);

impl Given {
    fn note(&mut self, node: &KeyValue, records: &[KeyValue]) -> BTreeSet<Key> {
        let now: BTreeSet<Key> = records.iter().map(|r| r.key.clone()).collect();
        let before = self.0.insert(node.key.clone(), now.clone()).unwrap_or_default();
        before.difference(&now).cloned().collect()
    }

    /// What an event on nodes means for their records.
    fn events(&mut self, made: &Made, event: WatchEvent) -> Vec<WatchEvent> {
        let deleted = |keys: BTreeSet<Key>, revision: &Revision| {
            keys.into_iter().map(|k| WatchEvent::Deleted(k, revision.clone())).collect::<Vec<_>>()
        };
        match event {
            WatchEvent::Set(_, Ok(node)) => {
                let records = made.records_of(&node);
                let mut events = deleted(self.note(&node, &records), &node.revision);
                events.extend(records.into_iter().map(|r| WatchEvent::Set(r.key.clone(), Ok(r))));
                events
            }
            // A node that cannot be read is none.
            WatchEvent::Set(node, Err(_)) => {
                deleted(self.0.remove(&node).unwrap_or_default(), &Revision::default())
            }
            WatchEvent::Deleted(node, revision) => {
                deleted(self.0.remove(&node).unwrap_or_default(), &revision)
            }
            failed @ WatchEvent::Failed(_) => vec![failed],
        }
    }
}

#[async_trait]
impl<D: Datastore> Datastore for PodCidrs<D> {
    async fn get(&self, key: &Key) -> Result<KeyValue> {
        self.inner.get(key).await
    }

    fn holds(&self, scope: &Scope) -> bool {
        self.inner.holds(scope)
    }

    async fn list(&self, scope: &Scope) -> Result<Listing> {
        let Some(made) = Made::of(scope) else { return self.inner.list(scope).await };
        let nodes = self.inner.list(&Scope::kind(Kind::Node)).await?;
        let mut items: Vec<KeyValue> = nodes.items.iter().flat_map(|n| made.records_of(n)).collect();
        items.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing { items, revision: nodes.revision })
    }

    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.inner.create(key, value).await
    }

    async fn update(&self, kv: KeyValue) -> Result<KeyValue> {
        self.inner.update(kv).await
    }

    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.inner.apply(key, value).await
    }

    async fn delete(&self, key: &Key, revision: Option<&Revision>) -> Result<KeyValue> {
        self.inner.delete(key, revision).await
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        self.inner.write_all(writes).await
    }

    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        let Some(made) = Made::of(scope) else { return self.inner.watch(scope, from).await };
        let nodes = Scope::kind(Kind::Node);
        let mut events = self.inner.watch(&nodes, from).await?;
        // A node that goes is told by name alone. Listed after the watch began, so that none is missed; one that
        // changed in between is told again.
        let mut given = Given::default();
        for node in &self.inner.list(&nodes).await?.items {
            given.note(node, &made.records_of(node));
        }
        let (tx, rx) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                for event in given.events(&made, event) {
                    if tx.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(rx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryDatastore;
    use crate::resources;

    fn node(name: &str, cidrs: &[&str]) -> Resource {
        let json = serde_json::json!({ "metadata": { "name": name }, "status": { "podCIDRs": cidrs } });
        Resource::from_json(Kind::Node, json.to_string().as_bytes()).unwrap()
    }

    async fn next(events: &mut mpsc::Receiver<WatchEvent>) -> String {
        let event = tokio::time::timeout(std::time::Duration::from_secs(60), events.recv()).await;
        match event.unwrap().unwrap() {
            WatchEvent::Set(key, Ok(_)) => format!("+{}", key.path()),
            WatchEvent::Deleted(key, _) => format!("-{}", key.path()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_nodes_pod_networks_are_its_blocks() {
        let store = PodCidrs::new(MemoryDatastore::new());
        resources::create(&store, node("n1", &["10.244.0.0/24", "fd00:1::/64"])).await.unwrap();
        let blocks = store.list(&Scope::Blocks).await.unwrap();
        let paths: Vec<String> = blocks.items.iter().map(|kv| kv.key.path()).collect();
        assert_eq!(paths.len(), 2, "{paths:?}");
        let Value::Block(block) = &blocks.items[0].value else { panic!() };
        assert_eq!(block.affinity.as_deref(), Some("host:n1"));
        let of = |host: &str| Scope::BlockAffinities { host: Some(host.to_owned()) };
        assert_eq!(store.list(&of("n1")).await.unwrap().items.len(), 2);
        assert_eq!(store.list(&of("n2")).await.unwrap().items.len(), 0);
    }

    #[tokio::test]
    async fn blocks_come_and_go_with_their_node() {
        let store = PodCidrs::new(MemoryDatastore::new());
        resources::create(&store, node("n1", &["10.244.0.0/24"])).await.unwrap();
        let from = store.list(&Scope::Blocks).await.unwrap().revision;
        let mut events = store.watch(&Scope::Blocks, &from).await.unwrap();
        resources::create(&store, node("n2", &["10.244.1.0/24"])).await.unwrap();
        assert!(next(&mut events).await.starts_with("+/calico/ipam/v2/assignment/ipv4/block/10.244.1.0-24"));
        resources::delete(&store, Kind::Node, "", "n1", None).await.unwrap();
        assert!(next(&mut events).await.starts_with("-/calico/ipam/v2/assignment/ipv4/block/10.244.0.0-24"));
    }
}

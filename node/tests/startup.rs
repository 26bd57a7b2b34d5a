//! Start-up against a real etcd: several nodes at once, and again.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use calico_node::environment::Environment;
use calico_node::startup::{self, StartupError};
use libcalico_api::ip_pool::IPPool;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::{Datastore, resources};
use libcalico_testing::RealEtcd;

fn environment(node: &str, address: &str, directory: &Path) -> Environment {
    let mut environment = Environment::from_lookup(
        |name| match name {
            "NODENAME" => Some(node.to_owned()),
            "IP" => Some(address.to_owned()),
            "CALICO_IPV4POOL_CIDR" => Some("10.65.0.0/16".to_owned()),
            "CLUSTER_TYPE" => Some("test".to_owned()),
            _ => None,
        },
        None,
    )
    .unwrap();
    environment.nodename_file = directory.join(node).join("nodename");
    environment.mtu_file = directory.join(node).join("mtu");
    environment
}

async fn objects(store: &dyn Datastore) -> BTreeMap<String, Resource> {
    let mut found = BTreeMap::new();
    for kind in Kind::ALL {
        for resource in resources::list(store, *kind, None).await.unwrap().0 {
            found.insert(format!("{kind}/{}", resource.metadata().name), resource);
        }
    }
    found
}

async fn three_at_once(store: &Arc<dyn Datastore>, directory: &Path) {
    let nodes: Vec<_> = [("n1", "10.1.0.1/24"), ("n2", "10.1.0.2/24"), ("n3", "10.1.0.3/24")]
        .map(|(name, address)| {
            let (store, environment) = (Arc::clone(store), environment(name, address, directory));
            tokio::spawn(async move { startup::run(&store, &environment).await })
        })
        .into();
    for node in nodes {
        node.await.unwrap().unwrap();
    }
}

async fn the_cluster_is_whole(store: Arc<dyn Datastore>) {
    let directory = tempfile::tempdir().unwrap();
    three_at_once(&store, directory.path()).await;
    let first = objects(store.as_ref()).await;
    for name in [
        "BGPConfiguration/default",
        "ClusterInformation/default",
        "FelixConfiguration/default",
        "FelixConfiguration/node.n1",
        "FelixConfiguration/node.n3",
        "IPAMConfiguration/default",
        "IPPool/default-ipv4-ippool",
        "Node/n1",
        "Node/n2",
        "Node/n3",
        "Tier/default",
        "Tier/kube-admin",
        "Tier/kube-baseline",
    ] {
        assert!(first.contains_key(name), "{name} is missing among {:?}", first.keys());
    }
    let pool: &IPPool = (&first["IPPool/default-ipv4-ippool"]).try_into().unwrap();
    assert_eq!(pool.spec.cidr.as_deref(), Some("10.65.0.0/16"));
    assert_eq!(pool.spec.nat_outgoing, Some(true));
    assert_eq!(std::fs::read_to_string(directory.path().join("n2/nodename")).unwrap(), "n2");
    let mtu = std::fs::read_to_string(directory.path().join("n2/mtu")).unwrap();
    assert!(mtu.parse::<u32>().is_ok(), "{mtu}");

    // Again: not one object is written, so every revision is the same.
    three_at_once(&store, directory.path()).await;
    assert_eq!(objects(store.as_ref()).await, first);

    let error = startup::run(&store, &environment("n4", "10.1.0.2/24", directory.path())).await.unwrap_err();
    assert!(matches!(&error, StartupError::AddressConflict { other, .. } if other == "n2"), "{error}");
    assert!(!objects(store.as_ref()).await.contains_key("Node/n4"));
}

#[tokio::test]
async fn three_nodes_at_once_make_one_cluster_in_etcd() {
    let Some(etcd) = RealEtcd::start() else { return };
    the_cluster_is_whole(support::store(&etcd).await).await;
}

#[tokio::test]
async fn three_nodes_at_once_make_one_cluster_in_memory() {
    the_cluster_is_whole(Arc::new(MemoryDatastore::new())).await;
}

#[tokio::test]
async fn a_pool_of_the_family_that_stands_is_enough() {
    let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
    let json = br#"{"metadata":{"name":"mine"},"spec":{"cidr":"10.99.0.0/16"}}"#;
    resources::create(store.as_ref(), Resource::from_json(Kind::IPPool, json).unwrap()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    startup::run(&store, &environment("n1", "10.1.0.1/24", directory.path())).await.unwrap();
    assert!(!objects(store.as_ref()).await.contains_key("IPPool/default-ipv4-ippool"));
}

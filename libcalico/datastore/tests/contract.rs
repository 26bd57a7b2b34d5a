//! What every datastore does the same: one list of behaviours, run against memory and a real etcd. `kubernetes` runs it
//! against a real API server.

mod support;

use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::{Datastore, DatastoreError, WatchEvent, Write};
use libcalico_testing::RealEtcd;
use support::config;
use support::contract::{contract, key, malformed, next, scope, set};

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&MemoryDatastore::new(), true).await;
}

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let Some(etcd) = RealEtcd::start() else { return };
    contract(&EtcdDatastore::new(config(&etcd)), true).await;
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_says_so() {
    let memory = MemoryDatastore::new();
    let from = memory.list(&scope()).await.unwrap().revision;
    memory.apply(&key("x"), set("x", "10.0.0.0/8")).await.unwrap();
    memory.compact();
    let mut rx = memory.watch(&scope(), &from).await.unwrap();
    assert!(matches!(next(&mut rx).await, WatchEvent::Failed(DatastoreError::Compacted(_))));
    let Some(etcd) = RealEtcd::start() else { return };
    let store = EtcdDatastore::new(config(&etcd));
    let from = store.list(&scope()).await.unwrap().revision;
    store.apply(&key("x"), set("x", "10.0.0.0/8")).await.unwrap();
    let now = store.apply(&key("x"), set("x", "11.0.0.0/8")).await.unwrap().revision;
    etcd.etcdctl(&["compact", &now.0]);
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Compacted(_))), "{event:?}");
}

#[tokio::test]
async fn a_malformed_object_is_absent_from_listings_and_can_be_deleted() {
    let path = key("bad").path();
    let memory = MemoryDatastore::new();
    memory.put_raw(&path, "{\"spec\":{\"nets\":7}}");
    memory.put_raw("/calico/resources/v3/projectcalico.org/networksets/no-namespace", "{}");
    malformed(&memory).await;
    let Some(etcd) = RealEtcd::start() else { return };
    etcd.etcdctl(&["put", &path, "{\"spec\":{\"nets\":7}}"]);
    etcd.etcdctl(&["put", "/calico/resources/v3/projectcalico.org/networksets/no-namespace", "{}"]);
    malformed(&EtcdDatastore::new(config(&etcd))).await;
}

#[tokio::test]
async fn a_listing_of_several_pages_is_whole() {
    let Some(etcd) = RealEtcd::start() else { return };
    let store = EtcdDatastore::new(config(&etcd));
    for chunk in (0..2_050).collect::<Vec<_>>().chunks(100) {
        let writes = chunk
            .iter()
            .map(|i| Write::Create(key(&format!("n{i:05}")), set(&format!("n{i:05}"), "10.0.0.0/8")))
            .collect();
        store.write_all(writes).await.unwrap();
    }
    let list = store.list(&scope()).await.unwrap();
    assert_eq!(list.items.len(), 2_050);
    assert!(list.items.windows(2).all(|w| w[0].key < w[1].key));
}

//! The list of behaviours that every datastore has.

use std::time::Duration;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, Scope, WatchEvent, Write};
use libcalico_model::ipam::{AffinityState, BlockAffinity};
use libcalico_model::{Key, KeyValue, Revision, Value};
use tokio::sync::mpsc::Receiver;

pub fn key(name: &str) -> Key {
    Key::resource(Kind::NetworkSet, "default", name)
}

pub fn set(name: &str, net: &str) -> Value {
    let json = format!(
        r#"{{"kind":"NetworkSet","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","namespace":"default"}},"spec":{{"nets":["{net}"]}}}}"#
    );
    Resource::from_json(Kind::NetworkSet, json.as_bytes()).unwrap().into()
}

fn net(kv: &KeyValue) -> String {
    match &kv.value {
        Value::Resource(r) => match &**r {
            Resource::NetworkSet(s) => s.spec.nets.join(","),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn version(kv: &KeyValue) -> String {
    match &kv.value {
        Value::Resource(r) => r.metadata().resource_version.clone(),
        other => panic!("{other:?}"),
    }
}

pub async fn next(rx: &mut Receiver<WatchEvent>) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(60), rx.recv())
        .await
        .expect("an event in time")
        .expect("an open watch")
}

pub fn scope() -> Scope {
    Scope::kind(Kind::NetworkSet)
}

async fn create_refuses_an_existing_key(d: &dyn Datastore) {
    let made = d.create(&key("c"), set("c", "10.0.0.0/8")).await.unwrap();
    assert_eq!(version(&made), made.revision.0);
    assert!(matches!(
        d.create(&key("c"), set("c", "10.0.0.0/8")).await,
        Err(DatastoreError::AlreadyExists(_))
    ));
    assert_eq!(d.get(&key("c")).await.unwrap(), made);
}

async fn a_missing_key_is_not_found(d: &dyn Datastore) {
    assert!(matches!(d.get(&key("missing")).await, Err(DatastoreError::NotFound(_))));
    assert!(matches!(d.delete(&key("missing"), None).await, Err(DatastoreError::NotFound(_))));
    let kv =
        KeyValue { key: key("missing"), value: set("missing", "10.0.0.0/8"), revision: Revision("1".into()) };
    assert!(matches!(d.update(kv.clone()).await, Err(DatastoreError::NotFound(_))));
    let blind = KeyValue { revision: Revision::default(), ..kv };
    assert!(matches!(d.update(blind).await, Err(DatastoreError::NotFound(_))));
}

async fn update_compares_the_revision(d: &dyn Datastore) {
    let first = d.create(&key("u"), set("u", "10.0.0.0/8")).await.unwrap();
    let second = d.update(KeyValue { value: set("u", "11.0.0.0/8"), ..first.clone() }).await.unwrap();
    assert_ne!(first.revision, second.revision);
    let stale = d.update(KeyValue { value: set("u", "12.0.0.0/8"), ..first }).await;
    assert!(matches!(stale, Err(DatastoreError::Conflict(_))), "{stale:?}");
    let blind = KeyValue { value: set("u", "13.0.0.0/8"), revision: Revision::default(), key: key("u") };
    d.update(blind).await.unwrap();
    assert_eq!(net(&d.get(&key("u")).await.unwrap()), "13.0.0.0/8");
}

async fn apply_writes_whatever_stands_there(d: &dyn Datastore) {
    d.apply(&key("a"), set("a", "10.0.0.0/8")).await.unwrap();
    let second = d.apply(&key("a"), set("a", "11.0.0.0/8")).await.unwrap();
    assert_eq!(d.get(&key("a")).await.unwrap(), second);
}

async fn delete_returns_what_stood_there(d: &dyn Datastore) {
    let made = d.create(&key("d"), set("d", "10.0.0.0/8")).await.unwrap();
    let wrong = d.delete(&key("d"), Some(&Revision("1".into()))).await;
    assert!(matches!(wrong, Err(DatastoreError::Conflict(_))), "{wrong:?}");
    assert_eq!(d.delete(&key("d"), Some(&made.revision)).await.unwrap(), made);
    assert!(matches!(d.get(&key("d")).await, Err(DatastoreError::NotFound(_))));
}

async fn a_listing_has_its_scope_alone_and_in_order(d: &dyn Datastore) {
    for n in ["l2", "l1", "l3"] {
        d.apply(&key(n), set(n, "10.0.0.0/8")).await.unwrap();
    }
    d.apply(&Key::Handle("h".into()), Value::Handle(libcalico_model::ipam::Handle::default())).await.unwrap();
    let list = d.list(&scope()).await.unwrap();
    let names: Vec<String> = list.items.iter().map(|kv| kv.key.path()).filter(|p| p.contains("/l")).collect();
    assert_eq!(names, [key("l1").path(), key("l2").path(), key("l3").path()]);
    assert_eq!(d.list(&Scope::Handles).await.unwrap().items.len(), 1);
    let other = Scope::Kind { kind: Kind::NetworkSet, namespace: Some("other".into()) };
    assert!(d.list(&other).await.unwrap().items.is_empty());
}

async fn a_batch_is_done_whole_or_not_at_all(d: &dyn Datastore) {
    let kept = d.create(&key("b1"), set("b1", "10.0.0.0/8")).await.unwrap();
    let refused = d
        .write_all(vec![
            Write::Create(key("b2"), set("b2", "10.0.0.0/8")),
            Write::Create(key("b1"), set("b1", "11.0.0.0/8")),
        ])
        .await;
    assert!(matches!(&refused, Err(DatastoreError::AlreadyExists(k)) if *k == key("b1")), "{refused:?}");
    assert!(matches!(d.get(&key("b2")).await, Err(DatastoreError::NotFound(_))));
    let stale = d
        .write_all(vec![
            Write::Create(key("b2"), set("b2", "10.0.0.0/8")),
            Write::Delete(key("b1"), Some(Revision("1".into()))),
        ])
        .await;
    assert!(matches!(&stale, Err(DatastoreError::Conflict(k)) if *k == key("b1")), "{stale:?}");
    let done = d
        .write_all(vec![
            Write::Create(key("b2"), set("b2", "10.0.0.0/8")),
            Write::Update(KeyValue { value: set("b1", "12.0.0.0/8"), ..kept }),
        ])
        .await
        .unwrap();
    assert_eq!(done.len(), 2);
    assert_eq!(net(&d.get(&key("b1")).await.unwrap()), "12.0.0.0/8");
    d.write_all(vec![Write::Delete(key("b1"), Some(done[1].clone())), Write::Delete(key("b2"), None)])
        .await
        .unwrap();
    assert!(d.write_all(Vec::new()).await.unwrap().is_empty());
}

async fn a_watch_reports_what_comes_after_its_listing(d: &dyn Datastore) {
    d.apply(&key("w1"), set("w1", "10.0.0.0/8")).await.unwrap();
    let list = d.list(&scope()).await.unwrap();
    // Before the watch starts, yet after the listing: not lost.
    let w2 = d.apply(&key("w2"), set("w2", "10.0.0.0/8")).await.unwrap();
    let mut rx = d.watch(&scope(), &list.revision).await.unwrap();
    d.apply(&Key::IpamConfig, Value::IpamConfig(libcalico_model::ipam::IpamConfig::default())).await.unwrap();
    let w1 = d.apply(&key("w1"), set("w1", "11.0.0.0/8")).await.unwrap();
    d.delete(&key("w2"), None).await.unwrap();
    match (next(&mut rx).await, next(&mut rx).await, next(&mut rx).await) {
        (WatchEvent::Set(_, Ok(a)), WatchEvent::Set(_, Ok(b)), WatchEvent::Deleted(k, r)) => {
            assert_eq!((a, b, k), (w2, w1, key("w2")));
            assert!(!r.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

async fn affinities_of_hosts_and_of_virtual_owners_are_told_apart(d: &dyn Datastore) {
    let affinity = |kind: &str, owner: &str, third: u8| Key::BlockAffinity {
        affinity_type: kind.to_owned(),
        host: owner.to_owned(),
        cidr: format!("10.9.{third}.0/26").parse().unwrap(),
    };
    let keys = [affinity("host", "n", 1), affinity("host", "n2", 2), affinity("virtual", "n", 3)];
    let pending = BlockAffinity { state: AffinityState::Pending, deleted: false };
    for key in &keys {
        d.create(key, Value::BlockAffinity(pending.clone())).await.unwrap();
    }
    for (scope, expected) in [
        (Scope::BlockAffinities { host: None }, &keys[..2]),
        (Scope::BlockAffinities { host: Some("n".into()) }, &keys[..1]),
        (Scope::VirtualAffinities { owner: None }, &keys[2..]),
        (Scope::VirtualAffinities { owner: Some("n".into()) }, &keys[2..]),
        (Scope::VirtualAffinities { owner: Some("n2".into()) }, &keys[..0]),
    ] {
        let listing = d.list(&scope).await.unwrap();
        let found: Vec<&Key> = listing.items.iter().map(|kv| &kv.key).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{scope:?}");
    }
    for key in &keys {
        d.delete(key, None).await.unwrap();
    }
}

/// Every behaviour, one after the other on one store. Only some stores do batches whole or not at all.
pub async fn contract(d: &dyn Datastore, transactions: bool) {
    create_refuses_an_existing_key(d).await;
    a_missing_key_is_not_found(d).await;
    update_compares_the_revision(d).await;
    apply_writes_whatever_stands_there(d).await;
    delete_returns_what_stood_there(d).await;
    a_listing_has_its_scope_alone_and_in_order(d).await;
    if transactions {
        a_batch_is_done_whole_or_not_at_all(d).await;
    }
    a_watch_reports_what_comes_after_its_listing(d).await;
    affinities_of_hosts_and_of_virtual_owners_are_told_apart(d).await;
}

/// A broken set named `bad` is all there is.
pub async fn malformed(d: &dyn Datastore) {
    assert!(d.list(&scope()).await.unwrap().items.is_empty());
    assert!(matches!(d.get(&key("bad")).await, Err(DatastoreError::Malformed(_))));
    d.delete(&key("bad"), None).await.unwrap();
    assert!(matches!(d.get(&key("bad")).await, Err(DatastoreError::NotFound(_))));
}

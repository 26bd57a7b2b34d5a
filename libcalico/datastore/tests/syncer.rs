//! The syncer against memory and a real etcd: what its reader has in the end equals what the datastore holds, whatever
//! happened in between.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_api::{Kind, Resource};
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::syncer::{PassThrough, Syncer, bgp_syncer, felix_syncer};
use libcalico_datastore::{Datastore, EtcdConfig, Scope};
use libcalico_model::{Key, SyncStatus, SyncerEvent};
use libcalico_testing::{Proxy, RealEtcd};
use support::config;
use tokio::sync::mpsc::Receiver;

/// What a reader of the stream holds.
struct Mirror {
    rx: Receiver<SyncerEvent>,
    state: BTreeMap<String, String>,
    statuses: Vec<SyncStatus>,
    updates: usize,
}

impl Mirror {
    fn new(rx: Receiver<SyncerEvent>) -> Self {
        Self { rx, state: BTreeMap::new(), statuses: Vec::new(), updates: 0 }
    }

    async fn until(&mut self, within: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + within;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = tokio::time::timeout(left, self.rx.recv()).await;
            match event.unwrap_or_else(|_| panic!("not in time: {what}; have {:?}", self.state)).unwrap() {
                SyncerEvent::Status(s) => self.statuses.push(s),
                SyncerEvent::Updates(updates) => {
                    for u in updates {
                        self.updates += 1;
                        match u.value {
                            Some(v) => {
                                let text = String::from_utf8(v.to_bytes()).unwrap();
                                self.state.insert(u.key.path(), text);
                            }
                            None => {
                                self.state.remove(&u.key.path());
                            }
                        }
                    }
                }
            }
        }
    }

    async fn in_sync(&mut self) {
        self.until(Duration::from_secs(60), "in sync", |m| m.statuses.last() == Some(&SyncStatus::InSync))
            .await;
    }

    async fn has(&mut self, path: &str) {
        self.until(Duration::from_secs(60), path, |m| m.state.contains_key(path)).await;
    }

    /// Whether a set has a network.
    fn has_at(&self, name: &str, net: &str) -> bool {
        self.state.get(&format!("{SET}{name}")).is_some_and(|v| v.contains(net))
    }

    /// Nothing more comes.
    async fn quiet(&mut self) {
        let more = tokio::time::timeout(Duration::from_millis(300), self.rx.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

fn key(name: &str) -> Key {
    Key::resource(Kind::GlobalNetworkSet, "", name)
}

async fn put(d: &dyn Datastore, name: &str, net: &str) {
    let json = format!(r#"{{"metadata":{{"name":"{name}","uid":"u-{name}"}},"spec":{{"nets":["{net}"]}}}}"#);
    let r = Resource::from_json(Kind::GlobalNetworkSet, json.as_bytes()).unwrap();
    d.apply(&key(name), r.into()).await.unwrap();
}

async fn put_pool(d: &dyn Datastore, name: &str, nat: bool) {
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","uid":"u-{name}"}},"spec":{{"cidr":"10.0.0.0/16","natOutgoing":{nat}}}}}"#
    );
    let r = Resource::from_json(Kind::IPPool, json.as_bytes()).unwrap();
    d.apply(&Key::resource(Kind::IPPool, "", name), r.into()).await.unwrap();
}

const SET: &str = "/calico/v1/netset/";
const DEFAULT_ALLOW: &str = "/calico/v1/policy/profile/projectcalico-default-allow/rules";

#[tokio::test]
async fn the_first_snapshot_comes_before_in_sync_and_changes_after_it() {
    let store = MemoryDatastore::new();
    put(&store, "a", "10.0.0.0/8").await;
    let mut m = Mirror::new(felix_syncer(Arc::new(store.clone())));
    m.in_sync().await;
    assert_eq!(m.statuses, [SyncStatus::WaitForDatastore, SyncStatus::ResyncInProgress, SyncStatus::InSync]);
    assert!(m.state.contains_key(&format!("{SET}a")) && m.state.contains_key(DEFAULT_ALLOW));
    put(&store, "b", "11.0.0.0/8").await;
    m.has(&format!("{SET}b")).await;
    store.delete(&key("a"), None).await.unwrap();
    m.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&format!("{SET}a"))).await;
}

#[tokio::test]
async fn nothing_is_sent_twice_after_a_break_and_deletions_are_found() {
    let store = MemoryDatastore::new();
    for n in ["a", "b", "c"] {
        put(&store, n, "10.0.0.0/8").await;
    }
    let mut m = Mirror::new(felix_syncer(Arc::new(store.clone())));
    m.in_sync().await;
    let before = m.updates;
    store.set_unreachable(true);
    m.quiet().await;
    store.set_unreachable(false);
    m.quiet().await;
    assert_eq!(m.updates, before);
    // While the watches are away: one is deleted, one changed, one made, and the history forgotten.
    store.set_unreachable(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.set_unreachable(false);
    store.delete(&key("a"), None).await.unwrap();
    put(&store, "b", "12.0.0.0/8").await;
    put(&store, "d", "13.0.0.0/8").await;
    store.compact();
    m.has(&format!("{SET}d")).await;
    m.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&format!("{SET}a"))).await;
    m.until(Duration::from_secs(60), "change", |m| m.has_at("b", "12.0.0.0/8")).await;
    m.quiet().await;
    assert_eq!(m.updates - before, 3);
    assert_eq!(m.statuses.last(), Some(&SyncStatus::InSync));
    assert_eq!(m.statuses.len(), 3, "InSync is never taken back");
}

#[tokio::test]
async fn a_malformed_object_is_an_absent_one() {
    let store = MemoryDatastore::new();
    put(&store, "a", "10.0.0.0/8").await;
    let mut m = Mirror::new(felix_syncer(Arc::new(store.clone())));
    m.has(&format!("{SET}a")).await;
    // Not JSON of its kind, then of its kind but of no use, then well again.
    for bad in [r#"{"spec":{"nets":5}}"#, r#"{"spec":{"nets":["nonsense"]}}"#] {
        store.put_raw(&key("a").path(), bad);
        m.until(Duration::from_secs(60), "absence", |m| !m.state.contains_key(&format!("{SET}a"))).await;
        put(&store, "a", "10.0.0.0/8").await;
        m.has(&format!("{SET}a")).await;
    }
}

#[tokio::test]
async fn of_two_pools_with_one_network_the_first_by_name_counts() {
    let store = MemoryDatastore::new();
    put_pool(&store, "pool-b", true).await;
    let path = "/calico/v1/ipam/v4/pool/10.0.0.0-16";
    let mut m = Mirror::new(felix_syncer(Arc::new(store.clone())));
    m.in_sync().await;
    let nat = |m: &Mirror| m.state.get(path).map(|v| v.contains(r#""masquerade":true"#));
    assert_eq!(nat(&m), Some(true));
    put_pool(&store, "pool-a", false).await;
    m.until(Duration::from_secs(60), "pool-a wins", |m| nat(m) == Some(false)).await;
    put_pool(&store, "pool-b", true).await;
    m.quiet().await;
    store.delete(&Key::resource(Kind::IPPool, "", "pool-a"), None).await.unwrap();
    m.until(Duration::from_secs(60), "pool-b is back", |m| nat(m) == Some(true)).await;
    store.delete(&Key::resource(Kind::IPPool, "", "pool-b"), None).await.unwrap();
    m.until(Duration::from_secs(60), "none left", |m| nat(m).is_none()).await;
}

#[tokio::test]
async fn the_bgp_syncer_hands_on_stored_objects() {
    let store = MemoryDatastore::new();
    put_pool(&store, "pool", true).await;
    let mut m = Mirror::new(bgp_syncer(Arc::new(store.clone()), Some("h")));
    m.in_sync().await;
    assert_eq!(m.state.keys().collect::<Vec<_>>(), ["/calico/resources/v3/projectcalico.org/ippools/pool"]);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_watches() {
    let store = MemoryDatastore::new();
    let rx = Syncer::new(Arc::new(store.clone()), vec![Scope::Handles], PassThrough).start();
    drop(rx);
    store.set_unreachable(true);
    // From some moment on there is no call more.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let calls = store.calls().total();
        tokio::time::sleep(Duration::from_millis(800)).await;
        if store.calls().total() == calls {
            break;
        }
        assert!(Instant::now() < deadline, "calls go on");
    }
}

async fn etcd_pair() -> Option<(RealEtcd, EtcdDatastore)> {
    let etcd = RealEtcd::start()?;
    let store = EtcdDatastore::new(config(&etcd));
    put(&store, "a", "10.0.0.0/8").await;
    put(&store, "b", "10.0.0.0/8").await;
    Some((etcd, store))
}

/// How often it was tried: a try that nobody answered may have been done.
async fn put_when_back(store: &EtcdDatastore, name: &str) -> usize {
    let json = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"nets":["10.0.0.0/8"]}}}}"#);
    let r = Resource::from_json(Kind::GlobalNetworkSet, json.as_bytes()).unwrap();
    let mut tries = 1;
    while store.apply(&key(name), r.clone().into()).await.is_err() {
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tries
}

#[tokio::test]
async fn an_etcd_that_was_killed_and_started_again_is_followed_again() {
    let Some((mut etcd, store)) = etcd_pair().await else { return };
    let mut m = Mirror::new(felix_syncer(Arc::new(EtcdDatastore::new(config(&etcd)))));
    m.in_sync().await;
    let before = m.updates;
    etcd.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    etcd.run();
    let tries = put_when_back(&store, "c").await;
    let start = Instant::now();
    m.has(&format!("{SET}c")).await;
    eprintln!("followed again {:?} after it served", start.elapsed());
    assert!((1..=tries).contains(&(m.updates - before)), "{} updates", m.updates - before);
}

#[tokio::test]
async fn what_changed_and_was_compacted_while_the_syncer_was_cut_off_is_found() {
    let Some((etcd, store)) = etcd_pair().await else { return };
    let proxy = Proxy::start(etcd.port()).await;
    let through = EtcdConfig { endpoints: vec![proxy.endpoint()], ..EtcdConfig::default() };
    let mut m = Mirror::new(felix_syncer(Arc::new(EtcdDatastore::new(through))));
    m.in_sync().await;
    let before = m.updates;
    // A black hole: connections stay open and nothing passes.
    proxy.set_silent(true);
    store.delete(&key("a"), None).await.unwrap();
    put(&store, "b", "11.0.0.0/8").await;
    put(&store, "c", "12.0.0.0/8").await;
    let now = store.list(&Scope::Handles).await.unwrap().revision;
    etcd.etcdctl(&["compact", &now.0]);
    tokio::time::sleep(Duration::from_secs(12)).await;
    let start = Instant::now();
    proxy.set_silent(false);
    m.has(&format!("{SET}c")).await;
    m.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&format!("{SET}a"))).await;
    m.until(Duration::from_secs(60), "change", |m| m.has_at("b", "11.0.0.0/8")).await;
    eprintln!("found after {:?}", start.elapsed());
    assert_eq!(m.updates, before + 3);
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_compared_not_trusted() {
    let Some((etcd, _)) = etcd_pair().await else { return };
    let proxy = Proxy::start(etcd.port()).await;
    let through = EtcdConfig { endpoints: vec![proxy.endpoint()], ..EtcdConfig::default() };
    let mut m = Mirror::new(felix_syncer(Arc::new(EtcdDatastore::new(through))));
    m.in_sync().await;
    // Another, empty cluster at the same address, with other objects at the same revisions.
    let Some(other) = RealEtcd::start() else { return };
    let fresh = EtcdDatastore::new(config(&other));
    for (name, uid) in [("a", "new-a"), ("z", "new-z")] {
        let json =
            format!(r#"{{"metadata":{{"name":"{name}","uid":"{uid}"}},"spec":{{"nets":["99.0.0.0/8"]}}}}"#);
        let r = Resource::from_json(Kind::GlobalNetworkSet, json.as_bytes()).unwrap();
        fresh.apply(&key(name), r.into()).await.unwrap();
    }
    proxy.retarget(other.port());
    m.has(&format!("{SET}z")).await;
    m.until(Duration::from_secs(60), "new a", |m| m.has_at("a", "99.0.0.0/8")).await;
    m.until(Duration::from_secs(60), "no b", |m| !m.state.contains_key(&format!("{SET}b"))).await;
}

#[tokio::test]
async fn what_upstream_stored_becomes_what_felix_calculates_with() {
    let store = MemoryDatastore::new();
    let dump: Vec<&str> =
        include_str!("../../model/tests/data/etcd-dump.txt").lines().filter(|l| !l.is_empty()).collect();
    for pair in dump.chunks(2) {
        store.put_raw(pair[0], pair[1]);
    }
    let mut m = Mirror::new(felix_syncer(Arc::new(store)));
    m.in_sync().await;
    let keys: Vec<&str> = m
        .state
        .keys()
        .map(|k| k.strip_prefix("/calico/v1/").unwrap_or(k))
        .filter(|k| !k.starts_with("config/") && !k.contains("/workload/cni/"))
        .collect();
    let expected = include_str!("data/felix-keys.txt").lines().collect::<Vec<_>>();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/felix-keys.txt");
        std::fs::write(path, keys.join("\n") + "\n").unwrap();
        return;
    }
    assert_eq!(keys, expected);
}

//! Parts that the tests share: a reader of events, a server over memory.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calico_typha::SyncerKind;
use calico_typha::cache::Limits;
use calico_typha::metrics::Metrics;
use calico_typha::server::{self, RunningServer, ServerConfig};
use calico_typha::session::Patience;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::Datastore;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::syncer::{bgp_syncer, felix_syncer};
use libcalico_model::{Key, SyncStatus, SyncerEvent, Value};
use tokio::sync::mpsc::Receiver;

pub fn server_config(port: u16) -> ServerConfig {
    ServerConfig {
        host: "127.0.0.1".into(),
        port,
        tls: None,
        limits: Limits { batch: 100, keep: Duration::from_secs(600), log_bytes: 64 << 20 },
        patience: Patience {
            max_fall_behind: Duration::from_secs(300),
            grace: Duration::from_secs(300),
            ping_interval: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(60),
        },
        handshake_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        max_connections: 10_000,
        max_connections_per_client: 0,
        drop_interval: Duration::from_millis(20),
        shutdown_timeout: Duration::from_secs(2),
        shutdown_drop_interval_max: Duration::from_millis(10),
    }
}

pub async fn serve(config: ServerConfig, store: &MemoryDatastore) -> RunningServer {
    serve_and_count(config, store).await.0
}

/// A server and its figures.
pub async fn serve_and_count(config: ServerConfig, store: &MemoryDatastore) -> (RunningServer, Metrics) {
    let store: Arc<dyn Datastore> = Arc::new(store.clone());
    let sources =
        vec![(SyncerKind::Felix, felix_syncer(store.clone())), (SyncerKind::Bgp, bgp_syncer(store, None))];
    let metrics = Metrics::new(&libcalico_telemetry::new_registry()).unwrap();
    (server::start(config, sources, metrics.clone()).await.unwrap(), metrics)
}

/// What a reader of the stream holds.
pub struct Mirror {
    pub rx: Receiver<SyncerEvent>,
    pub state: BTreeMap<Key, (Value, String)>,
    pub statuses: Vec<SyncStatus>,
    pub updates: usize,
}

impl Mirror {
    pub fn new(rx: Receiver<SyncerEvent>) -> Self {
        Self { rx, state: BTreeMap::new(), statuses: Vec::new(), updates: 0 }
    }

    pub async fn until(&mut self, within: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + within;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = tokio::time::timeout(left, self.rx.recv()).await;
            let event =
                event.unwrap_or_else(|_| panic!("not in time: {what}; have {} keys", self.state.len()));
            match event.unwrap() {
                SyncerEvent::Status(s) => self.statuses.push(s),
                SyncerEvent::Updates(updates) => {
                    for u in updates {
                        self.updates += 1;
                        match u.value {
                            Some(v) => self.state.insert(u.key, (v, u.revision.0)),
                            None => self.state.remove(&u.key),
                        };
                    }
                }
            }
        }
    }

    pub async fn in_sync(&mut self) {
        self.until(Duration::from_secs(60), "in sync", |m| m.statuses.last() == Some(&SyncStatus::InSync))
            .await;
    }

    pub async fn has(&mut self, key: &Key) {
        self.until(Duration::from_secs(60), &key.path(), |m| m.state.contains_key(key)).await;
    }

    pub async fn quiet(&mut self) {
        let more = tokio::time::timeout(Duration::from_millis(300), self.rx.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

pub fn set_key(name: &str) -> Key {
    Key::NetworkSet(name.to_owned())
}

pub fn stored(name: &str) -> Key {
    Key::resource(Kind::GlobalNetworkSet, "", name)
}

pub async fn put(store: &MemoryDatastore, name: &str, net: &str) {
    let json = format!(r#"{{"metadata":{{"name":"{name}","uid":"u-{name}"}},"spec":{{"nets":["{net}"]}}}}"#);
    let r = Resource::from_json(Kind::GlobalNetworkSet, json.as_bytes()).unwrap();
    store.apply(&stored(name), r.into()).await.unwrap();
}

/// Objects of many kinds.
pub async fn fill(store: &MemoryDatastore) {
    for (kind, ns, name, spec) in [
        (Kind::Node, "", "n1", r#"{"bgp":{"ipv4Address":"10.1.0.1/24"},"ipv4VXLANTunnelAddr":"10.65.0.1"}"#),
        (Kind::IPPool, "", "p", r#"{"cidr":"10.65.0.0/16","natOutgoing":true}"#),
        (Kind::BGPPeer, "", "peer", r#"{"peerIP":"10.1.0.9","asNumber":65000}"#),
        (Kind::Tier, "", "default", r#"{"order":1000000}"#),
        (Kind::Profile, "", "prof", r#"{"ingress":[{"action":"Allow"}],"labelsToApply":{"a":"b"}}"#),
        (
            Kind::NetworkPolicy,
            "ns",
            "np",
            r#"{"selector":"all()","ingress":[{"action":"Deny","source":{"selector":"a == 'b'"}}]}"#,
        ),
        (Kind::ClusterInformation, "", "default", r#"{"datastoreReady":true,"clusterGUID":"g"}"#),
        (Kind::FelixConfiguration, "", "default", r#"{"routeRefreshInterval":"1m30s"}"#),
        (
            Kind::WorkloadEndpoint,
            "ns",
            "n1-k8s-pod-eth0",
            r#"{"orchestrator":"k8s","node":"n1","pod":"pod","endpoint":"eth0","interfaceName":"cali1","ipNetworks":["10.65.0.9/32"],"profiles":["prof"]}"#,
        ),
    ] {
        let json = format!(r#"{{"metadata":{{"name":"{name}","namespace":"{ns}"}},"spec":{spec}}}"#);
        let r = Resource::from_json(kind, json.as_bytes()).unwrap();
        store.apply(&Key::resource(kind, ns, name), r.into()).await.unwrap();
    }
    let block = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26";
    store.put_raw(block, r#"{"cidr":"10.65.0.0/26","affinity":"host:n1","allocations":[null],"unallocated":[0],"attributes":[],"sequenceNumber":1795246062308432100,"sequenceNumberForAllocation":{},"deleted":false}"#);
    put(store, "a", "10.0.0.0/8").await;
}

//! How long a syncer needs for a large cluster, from a real etcd: `sync_100k_endpoints_10k_policies`.
//!
//! Writes the objects, then measures from the start of the syncer to its InSync, and this process's memory before and
//! after. `cargo bench -p libcalico-datastore --bench sync -- [ENDPOINTS POLICIES]`. Needs etcd.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_api::{Kind, Resource};
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::syncer::felix_syncer;
use libcalico_datastore::{Datastore, EtcdConfig, Scope, Write};
use libcalico_model::{Key, SyncStatus, SyncerEvent};

/// Below etcd's limit of operations in a transaction.
const CHUNK: usize = 100;

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    // Under `cargo test` it only shows that it runs.
    let full = std::env::args().any(|a| a == "--bench");
    let endpoints = numbers.first().copied().unwrap_or(if full { 100_000 } else { 1_000 });
    let policies = numbers.get(1).copied().unwrap_or(if full { 10_000 } else { 100 });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run(endpoints, policies));
}

async fn run(endpoints: usize, policies: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let Some(_etcd) = start_etcd(dir.path(), port) else {
        eprintln!("skipped: needs etcd (apt install etcd-server)");
        return;
    };
    let config = EtcdConfig { endpoints: vec![format!("http://127.0.0.1:{port}")], ..EtcdConfig::default() };
    let store = EtcdDatastore::new(config);
    let start = Instant::now();
    write(&store, endpoints, endpoint).await;
    write(&store, policies, policy).await;
    println!("wrote {endpoints} endpoints and {policies} policies in {:.1?}", start.elapsed());

    let before = rss_mib();
    let start = Instant::now();
    let listed = store.list(&Scope::kind(Kind::WorkloadEndpoint)).await.expect("a listing").items.len();
    println!("list of {listed} endpoints: {:.2?}", start.elapsed());

    let start = Instant::now();
    let mut events = felix_syncer(Arc::new(store));
    let mut updates = 0;
    loop {
        match events.recv().await.expect("an open stream") {
            SyncerEvent::Updates(u) => updates += u.len(),
            SyncerEvent::Status(SyncStatus::InSync) => break,
            SyncerEvent::Status(_) => {}
        }
    }
    println!(
        "sync_{}k_endpoints_{}k_policies: in sync after {:.2?}, {updates} updates, RSS {before:.0} MiB before, {:.0} MiB after, {:.0} MiB at most",
        endpoints / 1000,
        policies / 1000,
        start.elapsed(),
        rss_mib(),
        peak_mib()
    );
}

async fn write(store: &EtcdDatastore, count: usize, make: fn(usize) -> (Key, Resource)) {
    for first in (0..count).step_by(CHUNK) {
        let writes = (first..count.min(first + CHUNK))
            .map(|i| {
                let (key, resource) = make(i);
                Write::Create(key, resource.into())
            })
            .collect();
        store.write_all(writes).await.expect("written");
    }
}

fn endpoint(i: usize) -> (Key, Resource) {
    let (node, pod) = (i / 100, i);
    let name = format!("node{node}-k8s-pod{pod}-eth0");
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"ns{}","uid":"00000000-0000-4000-8000-{i:012}","labels":{{"app":"app{}","tier":"t{}","projectcalico.org/namespace":"ns{}","projectcalico.org/orchestrator":"k8s"}}}},"spec":{{"orchestrator":"k8s","node":"node{node}","pod":"pod{pod}","endpoint":"eth0","interfaceName":"cali{i:011x}","ipNetworks":["10.{}.{}.{}/32"],"profiles":["kns.ns{}","ksa.ns{}.default"]}}}}"#,
        i % 50,
        i % 200,
        i % 3,
        i % 50,
        i >> 16,
        (i >> 8) & 255,
        i & 255,
        i % 50,
        i % 50
    );
    let key = Key::resource(Kind::WorkloadEndpoint, format!("ns{}", i % 50), name);
    (key, Resource::from_json(Kind::WorkloadEndpoint, json.as_bytes()).expect("an endpoint"))
}

fn policy(i: usize) -> (Key, Resource) {
    let json = format!(
        r#"{{"metadata":{{"name":"np{i}","namespace":"ns{}","uid":"00000000-0000-4000-9000-{i:012}"}},"spec":{{"tier":"default","order":{i},"selector":"app == 'app{}'","types":["Ingress","Egress"],"ingress":[{{"action":"Allow","protocol":"TCP","source":{{"selector":"tier == 't{}'"}},"destination":{{"ports":[80,443]}}}}],"egress":[{{"action":"Allow"}}]}}}}"#,
        i % 50,
        i % 200,
        i % 3
    );
    let key = Key::resource(Kind::NetworkPolicy, format!("ns{}", i % 50), format!("np{i}"));
    (key, Resource::from_json(Kind::NetworkPolicy, json.as_bytes()).expect("a policy"))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn start_etcd(dir: &std::path::Path, port: u16) -> Option<Etcd> {
    let (url, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir)
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let etcd = Etcd(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "etcd did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(etcd)
}

fn status_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib: f64 = status
        .lines()
        .find_map(|l| l.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    kib / 1024.0
}

fn rss_mib() -> f64 {
    status_mib("VmRSS:")
}

fn peak_mib() -> f64 {
    status_mib("VmHWM:")
}

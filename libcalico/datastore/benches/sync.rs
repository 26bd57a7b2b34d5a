//! How long a syncer needs for a large cluster, and how much memory: `sync_100k_endpoints_10k_policies`, from a real etcd
//! and from a real API server, where the endpoints are pods.
//!
//! The objects are put into etcd as their own clients store them. Then a process of its own for each store lists and syncs,
//! so that its peak of memory is the syncer's alone. Reported: the time until InSync, the processor's time of the syncing
//! process, which other work on the machine does not change, and its peak of memory.
//! `cargo bench -p libcalico-datastore --bench sync -- [ENDPOINTS POLICIES] [etcd|kubernetes]`. Needs etcd; for the second
//! store also kube-apiserver (`make k8s`).

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_api::{Kind, Resource};
use libcalico_datastore::syncer::felix_syncer;
use libcalico_datastore::{ClientConfig, Scope, connect};
use libcalico_model::{Key, SyncStatus, SyncerEvent, Value};
use libcalico_testing::{EtcdOptions, RealApiServer, RealEtcd};
use serde_json::json;

/// Below etcd's limit of operations in a transaction.
const CHUNK: usize = 100;
const PER_NODE: usize = 100;
const NAMESPACES: usize = 50;
/// Says to this program that it is the one that syncs.
const SYNCS: &str = "CALICO_BENCH_SYNCS";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if std::env::var_os(SYNCS).is_some() {
        runtime.block_on(measure());
        return;
    }
    let numbers: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    // Under `cargo test` it only shows that it runs.
    let full = arguments.iter().any(|a| a == "--bench");
    let size = Size {
        endpoints: numbers.first().copied().unwrap_or(if full { 100_000 } else { 1_000 }),
        policies: numbers.get(1).copied().unwrap_or(if full { 10_000 } else { 100 }),
    };
    let wanted = |store: &str| {
        let named = arguments.iter().any(|a| ["etcd", "kubernetes"].contains(&a.as_str()));
        !named || arguments.iter().any(|a| a == store)
    };
    let name = format!("sync_{}_endpoints_{}_policies", short(size.endpoints), short(size.policies));
    if wanted("etcd") {
        over_etcd(&runtime, &size, &name);
    }
    if wanted("kubernetes") {
        over_kubernetes(&runtime, &size, &name);
    }
}

struct Size {
    endpoints: usize,
    policies: usize,
}

impl Size {
    fn nodes(&self) -> usize {
        self.endpoints.div_ceil(PER_NODE)
    }
}

fn short(n: usize) -> String {
    if n.is_multiple_of(1000) { format!("{}k", n / 1000) } else { n.to_string() }
}

fn over_etcd(runtime: &tokio::runtime::Runtime, size: &Size, name: &str) {
    let Some(etcd) = RealEtcd::launch(EtcdOptions { durable: true, ..EtcdOptions::default() }) else {
        return;
    };
    let start = Instant::now();
    runtime.block_on(async {
        let mut seed = Seed::new(&etcd).await;
        for i in 0..size.nodes() {
            seed.value(&node(i)).await;
        }
        for i in 0..NAMESPACES {
            seed.value(&profile(i)).await;
        }
        for i in 0..size.endpoints {
            seed.value(&endpoint(i)).await;
        }
        for i in 0..size.policies {
            seed.value(&policy(i)).await;
        }
        seed.flush().await;
    });
    println!(
        "etcd: {} endpoints, {} policies written in {:.1?}",
        size.endpoints,
        size.policies,
        start.elapsed()
    );
    run(&format!("etcd/{name}"), &[("ETCD_ENDPOINTS", &etcd.endpoint())]);
}

fn over_kubernetes(runtime: &tokio::runtime::Runtime, size: &Size, name: &str) {
    let Some(mut server) =
        RealApiServer::launch(EtcdOptions { durable: true, ..EtcdOptions::default() }, &[])
    else {
        return;
    };
    server.kill();
    let start = Instant::now();
    runtime.block_on(async {
        let mut seed = Seed::new(&server.etcd).await;
        for i in 0..size.nodes() {
            seed.object("minions", &kubernetes_node(i)).await;
        }
        for i in 0..NAMESPACES {
            seed.object("namespaces", &namespace(i)).await;
        }
        for i in 0..size.endpoints {
            seed.object("pods", &pod(i)).await;
        }
        for i in 0..size.policies {
            seed.object("projectcalico.org/networkpolicies", &custom_policy(i)).await;
        }
        seed.flush().await;
    });
    println!(
        "kubernetes: {} pods, {} policies written in {:.1?}",
        size.endpoints,
        size.policies,
        start.elapsed()
    );
    let start = Instant::now();
    server.run();
    server.wait_for_kinds();
    println!("kubernetes: the API server serves after {:.1?}", start.elapsed());
    let kubeconfig = server.kubeconfig().display().to_string();
    run(&format!("kubernetes/{name}"), &[("DATASTORE_TYPE", "kubernetes"), ("KUBECONFIG", &kubeconfig)]);
}

/// This program again, with a store in its environment.
fn run(name: &str, environment: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this program");
    let status = Command::new(program)
        .env_remove("ETCD_ENDPOINTS")
        .env(SYNCS, name)
        .envs(environment.iter().copied())
        .status()
        .expect("this program again");
    assert!(status.success(), "{name}: {status}");
}

async fn measure() {
    let name = std::env::var(SYNCS).unwrap_or_default();
    let config = ClientConfig::from_env().expect("a configuration");
    let store = connect(&config).await.expect("a client");
    let before = resident("VmRSS:");
    let (start, worked) = (Instant::now(), processor_time());
    let mut events = felix_syncer(store.clone());
    let mut updates = 0;
    loop {
        match events.recv().await.expect("an open stream") {
            SyncerEvent::Updates(u) => updates += u.len(),
            SyncerEvent::Status(SyncStatus::InSync) => break,
            SyncerEvent::Status(_) => {}
        }
    }
    println!(
        "{name}: in sync after {:.2?} ({:.2?} of the processor), {updates} updates, at most {:.0} MiB ({before:.0} before, {:.0} after)",
        start.elapsed(),
        processor_time() - worked,
        resident("VmHWM:"),
        resident("VmRSS:"),
    );
    drop(events);
    for (what, scope) in
        [("endpoints", Scope::kind(Kind::WorkloadEndpoint)), ("policies", Scope::kind(Kind::NetworkPolicy))]
    {
        let (start, worked) = (Instant::now(), processor_time());
        let listed = store.list(&scope).await.expect("a listing").items.len();
        let worked = processor_time() - worked;
        println!("{name}: list of {listed} {what}: {:.2?} ({worked:.2?} of the processor)", start.elapsed());
    }
    println!("{name}: at most {:.0} MiB with whole listings held", resident("VmHWM:"));
}

/// Writes what a client would have stored, many at once.
struct Seed {
    client: etcd_client::Client,
    puts: Vec<etcd_client::TxnOp>,
}

impl Seed {
    async fn new(etcd: &RealEtcd) -> Self {
        let client = etcd_client::Client::connect([etcd.endpoint()], None).await.expect("etcd");
        Self { client, puts: Vec::new() }
    }

    /// An object of Calico's.
    async fn value(&mut self, (key, resource): &(Key, Resource)) {
        let bytes = Value::Resource(Arc::new(resource.clone())).to_bytes();
        self.put(key.path(), bytes).await;
    }

    /// An object of an API server, which reads JSON too where it would write something else.
    async fn object(&mut self, folder: &str, object: &serde_json::Value) {
        let text = |at: &str| object.pointer(at).and_then(serde_json::Value::as_str).unwrap_or_default();
        let name = match text("/metadata/namespace") {
            "" => text("/metadata/name").to_owned(),
            namespace => format!("{namespace}/{}", text("/metadata/name")),
        };
        self.put(format!("/registry/{folder}/{name}"), object.to_string().into_bytes()).await;
    }

    async fn put(&mut self, key: String, bytes: Vec<u8>) {
        self.puts.push(etcd_client::TxnOp::put(key, bytes, None));
        if self.puts.len() == CHUNK {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        let puts = std::mem::take(&mut self.puts);
        if !puts.is_empty() {
            self.client.txn(etcd_client::Txn::new().and_then(puts)).await.expect("written");
        }
    }
}

fn uid(group: u16, i: usize) -> String {
    format!("00000000-0000-4000-{group:04x}-{i:012}")
}

fn address(i: usize) -> String {
    format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255)
}

fn namespace_name(i: usize) -> String {
    format!("ns{}", i % NAMESPACES)
}

fn stored(kind: Kind, namespace: &str, name: &str, json: &serde_json::Value) -> (Key, Resource) {
    let resource = Resource::from_json(kind, json.to_string().as_bytes()).expect("an object");
    (Key::resource(kind, namespace, name), resource)
}

fn node(i: usize) -> (Key, Resource) {
    let name = format!("node{i}");
    let json = json!({ "metadata": { "name": name, "uid": uid(0x8000, i) },
        "spec": { "bgp": { "ipv4Address": format!("172.16.{}.{}/16", i >> 8, i & 255) },
            "orchRefs": [{ "nodeName": name, "orchestrator": "k8s" }] } });
    stored(Kind::Node, "", &name, &json)
}

fn profile(i: usize) -> (Key, Resource) {
    let name = format!("kns.ns{i}");
    let json = json!({ "metadata": { "name": name, "uid": uid(0x8001, i) },
        "spec": { "ingress": [{ "action": "Allow" }], "egress": [{ "action": "Allow" }],
            "labelsToApply": { "pcns.projectcalico.org/name": format!("ns{i}") } } });
    stored(Kind::Profile, "", &name, &json)
}

fn endpoint(i: usize) -> (Key, Resource) {
    let (node, ns) = (i / PER_NODE, namespace_name(i));
    let name = format!("node{node}-k8s-pod{i}-eth0");
    let json = json!({
        "metadata": { "name": name, "namespace": ns, "uid": uid(0x8002, i), "labels": {
            "app": format!("app{}", i % 200), "tier": format!("t{}", i % 3), "projectcalico.org/namespace": ns,
            "projectcalico.org/orchestrator": "k8s", "projectcalico.org/serviceaccount": "default" } },
        "spec": { "orchestrator": "k8s", "node": format!("node{node}"), "pod": format!("pod{i}"), "endpoint": "eth0",
            "interfaceName": format!("cali{i:011x}"), "ipNetworks": [format!("{}/32", address(i))],
            "profiles": [format!("kns.{ns}"), format!("ksa.{ns}.default")] },
    });
    stored(Kind::WorkloadEndpoint, &ns, &name, &json)
}

fn policy_spec(i: usize) -> serde_json::Value {
    json!({ "tier": "default", "order": i, "selector": format!("app == 'app{}'", i % 200), "types": ["Ingress", "Egress"],
        "ingress": [{ "action": "Allow", "protocol": "TCP", "source": { "selector": format!("tier == 't{}'", i % 3) },
            "destination": { "ports": [80, 443] } }],
        "egress": [{ "action": "Allow" }] })
}

fn policy(i: usize) -> (Key, Resource) {
    let (ns, name) = (namespace_name(i), format!("np{i}"));
    let json = json!({ "metadata": { "name": name, "namespace": ns, "uid": uid(0x8003, i) }, "spec": policy_spec(i) });
    stored(Kind::NetworkPolicy, &ns, &name, &json)
}

/// When everything was made.
const BORN: &str = "2026-01-01T00:00:00Z";

fn kubernetes_node(i: usize) -> serde_json::Value {
    let name = format!("node{i}");
    json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": uid(0x9000, i), "creationTimestamp": BORN,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
            "annotations": { "projectcalico.org/IPv4Address": format!("172.16.{}.{}/16", i >> 8, i & 255) } },
        "spec": {}, "status": { "addresses": [{ "type": "InternalIP", "address": format!("172.16.{}.{}", i >> 8, i & 255) }] } })
}

fn namespace(i: usize) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": format!("ns{i}"), "uid": uid(0x9001, i),
        "creationTimestamp": BORN, "labels": { "kubernetes.io/metadata.name": format!("ns{i}") } },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } })
}

/// As large as a small pod of a Deployment is in the API server.
fn pod(i: usize) -> serde_json::Value {
    let (node, ns, ip) = (i / PER_NODE, namespace_name(i), address(i));
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": BORN });
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod{i}"), "namespace": ns, "uid": uid(0x9002, i), "creationTimestamp": BORN,
            "generateName": format!("app{}-7c5ddbdf54-", i % 200),
            "labels": { "app": format!("app{}", i % 200), "tier": format!("t{}", i % 3), "pod-template-hash": "7c5ddbdf54" },
            "annotations": { "cni.projectcalico.org/podIP": format!("{ip}/32"),
                "cni.projectcalico.org/podIPs": format!("{ip}/32"),
                "cni.projectcalico.org/containerID": format!("{i:064x}") },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-7c5ddbdf54",
                "uid": uid(0x9003, i % 200), "controller": true, "blockOwnerDeletion": true }] },
        "spec": { "nodeName": format!("node{node}"), "serviceAccountName": "default", "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
            "containers": [{ "name": "main", "image": "registry.example/app:1.2.3", "imagePullPolicy": "IfNotPresent",
                "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
                "env": [{ "name": "MODE", "value": "production" }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }] }],
            "volumes": [{ "name": "token", "emptyDir": {} }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": format!("172.16.{}.{}", node >> 8, node & 255),
            "startTime": BORN, "qosClass": "Burstable",
            "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady"), condition("PodScheduled")],
            "containerStatuses": [{ "name": "main", "ready": true, "started": true, "restartCount": 0,
                "image": "registry.example/app:1.2.3", "imageID": "", "containerID": format!("containerd://{i:064x}"),
                "state": { "running": { "startedAt": BORN } } }] } })
}

fn custom_policy(i: usize) -> serde_json::Value {
    json!({ "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": { "name": format!("np{i}"), "namespace": namespace_name(i), "uid": uid(0x9004, i),
            "creationTimestamp": BORN, "generation": 1 },
        "spec": policy_spec(i) })
}

/// A line of this process's state, MiB.
fn resident(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        status.lines().find_map(|l| l.strip_prefix(field)?.split_whitespace().next()?.parse::<f64>().ok());
    line.unwrap_or_default() / 1024.0
}

/// How long this process was on a processor. Linux counts in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

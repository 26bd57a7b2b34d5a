//! Upstream's calicoctl and our client on one datastore: each reads what the other wrote, and what is stored is the same.
//!
//! `PEER=DIR cargo test -p libcalico-datastore --test interop`, where `DIR/calicoctl` is upstream's; without it the tests
//! say that they are skipped. A peer that is older than our API does not know all of our fields: what it says it does not
//! know is left out, and printed.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, KubernetesConfig, KubernetesDatastore, Scope, resources};
use libcalico_model::ipam::{AllocationBlock, Handle};
use libcalico_model::{Key, Value as Stored};
use libcalico_testing::{RealApiServer, RealEtcd};
use serde_json::{Value, json};

/// A peer that says this does not know a field. The field's name follows.
const UNKNOWN_FIELD: &str = "field in document is not recognized or is in the wrong location: ";

/// A field on which the peer's own validation falls over: it takes the number for a list of networks.
const PEER_FALLS_OVER: [&str; 1] = ["bpfExportBufferSizeMB"];

struct Peer {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    directory: tempfile::TempDir,
}

impl Peer {
    fn new(environment: Vec<(&'static str, String)>) -> Option<Self> {
        let Some(directory) = std::env::var_os("PEER") else {
            eprintln!("skipped: PEER=DIR names the directory of upstream's calicoctl");
            return None;
        };
        let program = PathBuf::from(directory).join("calicoctl");
        assert!(program.is_file(), "PEER is set and there is no {}", program.display());
        Some(Self { program, environment, directory: tempfile::tempdir().unwrap() })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let out = Command::new(&self.program)
            .args(arguments)
            .arg("--allow-version-mismatch")
            .env_remove("KUBECONFIG")
            .envs(self.environment.iter().map(|(k, v)| (*k, v)))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stdout) + &text(&out.stderr)) }
    }

    /// Writes an object, without what the peer does not know. What it wrote, or nothing where it refuses all of it.
    fn apply(&self, object: &Value, left_out: &mut BTreeSet<String>) -> Option<Value> {
        let mut object = object.clone();
        // Each round takes something away.
        for _ in 0..100 {
            let path = self.directory.path().join("object.json");
            std::fs::write(&path, object.to_string()).unwrap();
            let Err(said) = self.run(&["apply", "-f", &path.display().to_string()]) else {
                return Some(object);
            };
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let fields = refused_fields(&object, &said);
            if fields.is_empty() {
                left_out.insert(format!("{kind}: {}", said.lines().take(6).collect::<Vec<_>>().join(" ")));
                return None;
            }
            for field in fields {
                remove(&mut object, &field);
                left_out.insert(format!("{kind}.{field}"));
            }
        }
        panic!("the peer takes nothing of {object}");
    }

    fn get(&self, object: &Value) -> Value {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let mut arguments = vec!["get", text("/kind"), text("/metadata/name"), "-o", "json"];
        if !text("/metadata/namespace").is_empty() {
            arguments.extend(["-n", text("/metadata/namespace")]);
        }
        let said = self.run(&arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
        serde_json::from_str(&said).unwrap()
    }
}

/// The fields that the peer does not know, or whose values it does not take: an older one knows fewer.
fn refused_fields(object: &Value, said: &str) -> Vec<String> {
    if let Some(field) = said.split_once(UNKNOWN_FIELD).and_then(|(_, rest)| rest.split_whitespace().next()) {
        return vec![field.to_owned()];
    }
    let spec = object["spec"].as_object().into_iter().flat_map(|s| s.keys());
    if said.contains("goroutine 1") {
        return spec.filter(|k| PEER_FALLS_OVER.contains(&k.as_str())).cloned().collect();
    }
    // A line for each field: `-  spec.field (…)`, `-  Field = 'value' (…)`.
    let lines = said.lines().filter(|l| l.trim_start().starts_with('-'));
    let words: BTreeSet<String> = lines
        .flat_map(|l| l.split(|c: char| !c.is_ascii_alphanumeric()))
        .map(str::to_ascii_lowercase)
        .collect();
    spec.filter(|k| words.contains(&k.to_ascii_lowercase())).cloned().collect()
}

fn remove(value: &mut Value, field: &str) {
    match value {
        Value::Object(map) => {
            map.remove(field);
            map.values_mut().for_each(|v| remove(v, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| remove(v, field)),
        _ => {}
    }
}

/// An object of every kind with every field set.
fn objects(files: &[&str]) -> Vec<Value> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../calicoctl/tests/data");
    let read = |f: &&str| std::fs::read_to_string(format!("{data}/{f}")).unwrap();
    let text = files.iter().map(read).collect::<Vec<_>>().join("\n---\n");
    let documents = text.split("\n---").filter(|d| !d.trim().is_empty());
    documents.map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{e}: {d}"))).collect()
}

fn kind_of(object: &Value) -> Kind {
    Kind::ALL.iter().copied().find(|k| object["kind"] == k.name()).unwrap_or_else(|| panic!("{object}"))
}

fn key_of(object: &Value) -> Key {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    Key::resource(kind_of(object), text("/metadata/namespace"), text("/metadata/name"))
}

/// Where two values differ: the paths, with both sides.
fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            // Older writers say of a rule's end that it has nothing, newer ones say nothing.
            let says = |v: &Value| v.as_object().is_none_or(|o| !o.is_empty());
            let keys: BTreeSet<&String> =
                a.iter().chain(b).filter(|(_, v)| says(v)).map(|(key, _)| key).collect();
            for key in keys {
                differences(&format!("{path}/{key}"), &ours[key], &theirs[key], out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (ours, theirs)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{i}"), ours, theirs, out);
            }
        }
        _ if ours == theirs => {}
        _ => out.push(format!("{path}: {ours} and {theirs}")),
    }
}

/// What each writer and each datastore gives an object of its own.
fn without_identity(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"] {
            metadata.remove(field);
        }
    }
    // A status of nothing and no status are the same.
    if object["status"].as_object().is_some_and(serde_json::Map::is_empty) {
        object.as_object_mut().map(|o| o.remove("status"));
    }
    object
}

/// As the peer would read it, which does not see what an API server filled in that it does not know.
fn json_of(resource: &Resource, left_out: &BTreeSet<String>) -> Value {
    let mut value = without_identity(serde_json::to_value(resource).unwrap());
    let kind = format!("{}.", resource.kind().name());
    for field in left_out.iter().filter_map(|l| l.strip_prefix(&kind)) {
        remove(&mut value, field);
    }
    value
}

/// What the peer wrote is read whole, and written back as it was.
/// What the peer took of the objects, and what it does not know.
async fn ours_reads_what_the_peer_wrote(
    peer: &Peer,
    store: &dyn Datastore,
    objects: &[Value],
) -> (Vec<Value>, BTreeSet<String>) {
    let mut left_out = BTreeSet::new();
    let written: Vec<Value> = objects.iter().filter_map(|o| peer.apply(o, &mut left_out)).collect();
    for what in &left_out {
        eprintln!("the peer does not take {what}");
    }
    // A peer that takes little shows little.
    assert!(written.len() * 5 >= objects.len() * 4, "{} of {} objects", written.len(), objects.len());
    let mut wrong = Vec::new();
    for object in &written {
        let theirs = without_identity(peer.get(object));
        let (kind, name) = (kind_of(object), object["metadata"]["name"].as_str().unwrap_or_default());
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let ours = match resources::get(store, kind, namespace, name).await {
            Ok(r) => json_of(&r, &left_out),
            Err(e) => {
                wrong.push(format!("{object}: {e}"));
                continue;
            }
        };
        if ours != theirs {
            wrong.push(format!("the peer reads {theirs}\nours reads {ours}"));
        }
        // Written back by us it is to the peer what it was.
        let stored = store.get(&key_of(object)).await.unwrap();
        store.update(stored).await.unwrap_or_else(|e| panic!("{object}: {e}"));
        let again = without_identity(peer.get(object));
        if again != theirs {
            wrong.push(format!("the peer reads {theirs}\nand after our write {again}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    (written, left_out)
}

/// What we write the peer reads as it reads its own.
async fn the_peer_reads_what_ours_wrote(peer: &Peer, store: &dyn Datastore, written: &[Value]) {
    let mut wrong = Vec::new();
    for object in written {
        let theirs = without_identity(peer.get(object));
        let (kind, key) = (kind_of(object), key_of(object));
        store.delete(&key, None).await.unwrap_or_else(|e| panic!("{object}: {e}"));
        let resource = Resource::from_json(kind, object.to_string().as_bytes()).unwrap();
        if let Err(e) = resources::create(store, resource).await {
            wrong.push(format!("{object}: {e}"));
            continue;
        }
        let ours = without_identity(peer.get(object));
        if ours != theirs {
            wrong.push(format!("the peer wrote {theirs}\nours wrote {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// An address that we gave away is in use to the peer, and one that the peer releases is free to us.
async fn addresses_are_the_same_to_both(peer: &Peer, store: &dyn Datastore) {
    let pool = json!({ "kind": "IPPool", "apiVersion": "projectcalico.org/v3", "metadata": { "name": "interop" },
        "spec": { "cidr": "10.77.0.0/24", "blockSize": 30 } });
    let resource = Resource::from_json(Kind::IPPool, pool.to_string().as_bytes()).unwrap();
    resources::create(store, resource).await.unwrap();
    let cidr = "10.77.0.0/30".parse().unwrap();
    let block = json!({ "cidr": "10.77.0.0/30", "affinity": "host:node-a", "allocations": [null, 0, null, null],
        "unallocated": [0, 2, 3], "attributes": [{ "handle_id": "interop.h", "secondary": { "pod": "p", "namespace": "n" } }],
        "sequenceNumber": 5, "sequenceNumberForAllocation": { "1": 4 } });
    let block: AllocationBlock = serde_json::from_value(block).unwrap();
    store.create(&Key::Block(cidr), Stored::Block(Box::new(block))).await.unwrap();
    let handle = Key::Handle("interop.h".into());
    let held = Handle { block: [("10.77.0.0/30".to_owned(), 1)].into(), deleted: false };
    store.create(&handle, Stored::Handle(held)).await.unwrap();

    let said = peer.run(&["ipam", "show", "--ip=10.77.0.1"]).unwrap();
    assert!(said.contains("is in use") && said.contains("pod: p"), "{said}");
    let said = peer.run(&["ipam", "show", "--ip=10.77.0.2"]).unwrap();
    assert!(said.contains("is not assigned"), "{said}");
    peer.run(&["ipam", "release", "--ip=10.77.0.1"]).unwrap();
    let kv = store.get(&Key::Block(cidr)).await;
    if let Ok(kv) = kv {
        let Stored::Block(block) = kv.value else { panic!() };
        assert!(block.allocations.iter().all(Option::is_none), "{block:?}");
    }
    assert!(store.get(&handle).await.is_err(), "the peer removes a handle that holds nothing");
    assert_eq!(store.list(&Scope::Handles).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn on_etcd_each_reads_what_the_other_wrote_and_the_bytes_are_the_same() {
    let Some(etcd) = RealEtcd::start() else { return };
    let environment = vec![("DATASTORE_TYPE", "etcdv3".to_owned()), ("ETCD_ENDPOINTS", etcd.endpoint())];
    let Some(peer) = Peer::new(environment) else { return };
    let store: Arc<dyn Datastore> = Arc::new(EtcdDatastore::new(support::config(&etcd)));
    let objects = objects(&["every-field.yaml", "every-field-etcd.yaml"]);
    let (written, unknown) = ours_reads_what_the_peer_wrote(&peer, &*store, &objects).await;
    let bytes = |object: &Value| {
        let said = etcd.etcdctl(&["get", &key_of(object).path(), "--print-value-only"]);
        without_identity(serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said}")))
    };
    // Once more by the peer, because ours wrote them last.
    let mut none = BTreeSet::new();
    let theirs: Vec<Value> = written
        .iter()
        .map(|o| {
            store_free(&peer, o);
            peer.apply(o, &mut none).map(|o| bytes(&o)).unwrap_or_default()
        })
        .collect();
    the_peer_reads_what_ours_wrote(&peer, &*store, &written).await;
    let mut wrong = Vec::new();
    for (object, theirs) in written.iter().zip(theirs) {
        let kind = object["kind"].as_str().unwrap_or_default();
        let mut ours = bytes(object);
        // Defaults of fields that the peer does not know.
        for field in unknown.iter().filter_map(|f| f.strip_prefix(kind)?.strip_prefix('.')) {
            remove(&mut ours, field);
        }
        differences(kind, &ours, &theirs, &mut wrong);
    }
    assert!(wrong.is_empty(), "stored by us and by the peer:\n{}", wrong.join("\n"));
    addresses_are_the_same_to_both(&peer, &*store).await;
}

/// Some objects cannot be deleted by a person; those are written over.
fn store_free(peer: &Peer, object: &Value) {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let mut arguments = vec!["delete", text("/kind"), text("/metadata/name")];
    if !text("/metadata/namespace").is_empty() {
        arguments.extend(["-n", text("/metadata/namespace")]);
    }
    if let Err(said) = peer.run(&arguments) {
        eprintln!("{arguments:?}: {}", said.trim());
    }
}

#[tokio::test]
async fn on_kubernetes_each_reads_what_the_other_wrote() {
    let Some(server) = RealApiServer::start() else { return };
    let kubeconfig = server.kubeconfig().display().to_string();
    let environment = vec![
        ("DATASTORE_TYPE", "kubernetes".to_owned()),
        ("KUBECONFIG", kubeconfig.clone()),
        ("CALICO_API_GROUP", "projectcalico.org/v3".to_owned()),
    ];
    let Some(peer) = Peer::new(environment) else { return };
    let config = KubernetesConfig { kubeconfig: Some(kubeconfig), ..KubernetesConfig::default() };
    let store = KubernetesDatastore::new(config);
    let objects = objects(&["every-field.yaml"]);
    for namespace in
        objects.iter().filter_map(|o| o["metadata"]["namespace"].as_str()).collect::<BTreeSet<_>>()
    {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        // `default` is there.
        let _ = server.raw("POST", "/api/v1/namespaces", Some(&object));
    }
    let (mut written, _) = ours_reads_what_the_peer_wrote(&peer, &store, &objects).await;
    // On Kubernetes the peer writes no status: its controllers do. Ours writes what it is given.
    for object in &mut written {
        object.as_object_mut().map(|o| o.remove("status"));
    }
    the_peer_reads_what_ours_wrote(&peer, &store, &written).await;
    addresses_are_the_same_to_both(&peer, &store).await;
}

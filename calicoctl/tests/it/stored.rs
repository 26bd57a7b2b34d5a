//! What calicoctl writes to etcd against what upstream's clients write for the same objects: the bytes, the order of
//! fields aside.

use serde_json::Value;

use crate::common::{Cluster as _, Etcd, dump};

/// Who made an object and when is each writer's own.
fn without_birth(mut v: Value) -> Value {
    if let Some(meta) = v.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "creationTimestamp"] {
            assert!(meta.remove(field).is_some() || field == "uid", "{field} is missing in {meta:?}");
        }
    }
    v
}

fn raw(etcd: &Etcd, key: &str) -> Value {
    let text = etcd.server.etcdctl(&["get", key, "--print-value-only"]);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{key}: {e}: {text}"))
}

#[test]
fn every_object_of_upstreams_dump_has_the_same_bytes() {
    let Some(etcd) = Etcd::start() else { return };
    let objects: Vec<(String, String)> =
        dump().into_iter().filter(|(k, _)| k.contains("/resources/v3/")).collect();
    assert!(objects.len() > 35, "{}", objects.len());
    let mut documents = Vec::new();
    for (_, value) in &objects {
        let mut v: Value = serde_json::from_str(value).unwrap();
        let meta = v["metadata"].as_object_mut().unwrap();
        for field in ["uid", "creationTimestamp", "generation"] {
            meta.remove(field);
        }
        // What clients add by themselves: calicoctl does, too.
        if let Some(notes) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.remove("projectcalico.org/metadata");
        }
        // Tiers come before their policies.
        let first = v["kind"] == "Tier";
        documents.insert(if first { 0 } else { documents.len() }, v.to_string());
    }
    etcd.ok(&["apply", "-f", "-"], &documents.join("\n---\n"));
    let mut differing = Vec::new();
    for (key, value) in &objects {
        let theirs = without_birth(serde_json::from_str(value).unwrap());
        let ours = without_birth(raw(&etcd, key));
        if theirs != ours {
            differing.push(format!("{key}\n  upstream {theirs}\n  ours     {ours}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_record_of_ipam_has_the_same_bytes() {
    let Some(etcd) = Etcd::start() else { return };
    let records: Vec<(String, String)> =
        dump().into_iter().filter(|(k, _)| k.contains("/ipam/v2/")).collect();
    // Read as values and written again, as any change of a record does.
    etcd.load(&records);
    for (key, value) in &records {
        let theirs: Value = serde_json::from_str(value).unwrap();
        assert_eq!(raw(&etcd, key), theirs, "{key}");
    }
    assert!(records.len() >= 8);
}

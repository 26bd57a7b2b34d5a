//! Every kind with every field set: file → datastore → `get -o yaml` → the same file, letter by letter.
//!
//! The files are as calicoctl prints them; that no field of the reference is missing in them is checked here too.

use std::collections::{BTreeMap, BTreeSet};

use calicoctl::resource_file::{parse_value, split};
use serde_json::Value;

use crate::common::Cluster;

/// Objects that both datastores store as they are.
const EVERY_FIELD: &str = include_str!("../data/every-field.yaml");
/// Kinds for which Kubernetes has objects of its own.
const ETCD_ONLY: &str = include_str!("../data/every-field-etcd.yaml");
const REFERENCE: &str = include_str!("../../../libcalico/api/tests/data/spec-fields.json");
/// Kinds of the reference that calicoctl does not have, as upstream's does not.
const NOT_CALICOCTLS: [&str; 4] = ["BlockAffinity", "ClusterNetworkPolicy", "IPAMBlock", "IPAMHandle"];

/// Fields that the schema has by sharing a type, and that no valid object sets: HTTP is matched on ingress alone, a
/// service is where traffic of an ingress rule comes from or an egress rule goes to.
const NEVER_SET: [&str; 3] =
    ["spec.egress[].http.", "spec.egress[].source.services.", "spec.ingress[].destination.services."];

fn documents(text: &str) -> Vec<&str> {
    split(text).into_iter().map(str::trim_start).collect()
}

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn comes_back(c: &dyn Cluster, documents: &[&str]) {
    for document in documents {
        let v = parse_value(document).unwrap();
        let (kind, name) = (text(&v, "/kind"), text(&v, "/metadata/name"));
        let namespace = text(&v, "/metadata/namespace");
        let mut get = vec!["get", kind, name, "-o", "yaml", "--export"];
        if !namespace.is_empty() {
            get.extend(["-n", namespace]);
        }
        let printed = c.ok(&get, "");
        assert_eq!(printed, **document, "{kind} {name}");
    }
}

pub fn every_field_of_every_kind_survives(c: &dyn Cluster) {
    let mut all = documents(EVERY_FIELD);
    let mut file = EVERY_FIELD.to_owned();
    if !c.kubernetes() {
        all.extend(documents(ETCD_ONLY));
        file = format!("{file}---\n{ETCD_ONLY}");
    }
    // The object that describes the cluster is there before; its file replaces it.
    c.ok(&["apply", "-f", "-"], &file);
    comes_back(c, &all);
    // What was printed is a file again.
    let again = all.join("---\n");
    c.ok(&["replace", "-f", "-"], &again);
    comes_back(c, &all);
    let dir = tempfile::tempdir().unwrap();
    for (i, document) in all.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{i:02}.yaml")), document).unwrap();
    }
    let said = c.ok(&["apply", "-f", dir.path().to_str().unwrap()], "");
    assert_eq!(said, format!("Successfully applied {} resource(s)\n", all.len()));
    comes_back(c, &all);
}

/// The paths of everything that is set, without numbers: `spec.ingress[].action`.
fn paths(at: &str, v: &Value, found: &mut BTreeSet<String>) {
    found.insert(at.to_owned());
    match v {
        Value::Object(map) => map.iter().for_each(|(k, v)| paths(&format!("{at}.{k}"), v, found)),
        Value::Array(items) => items.iter().for_each(|v| paths(&format!("{at}[]"), v, found)),
        _ => {}
    }
}

/// The paths of the reference that nothing set.
fn missing(at: &str, reference: &Value, set: &BTreeSet<String>, found: &mut Vec<String>) {
    match reference {
        Value::Object(map) if map.contains_key("<key>") => {
            let inside = format!("{at}.");
            if !set.iter().any(|p| p.starts_with(&inside)) {
                found.push(at.to_owned());
            }
        }
        Value::Object(map) => map.iter().for_each(|(k, v)| missing(&format!("{at}.{k}"), v, set, found)),
        Value::Array(items) => items.iter().for_each(|v| missing(&format!("{at}[]"), v, set, found)),
        _ if !set.contains(at) => found.push(at.to_owned()),
        _ => {}
    }
}

#[test]
fn no_field_of_the_reference_is_missing_in_the_files() {
    let mut set: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for document in documents(EVERY_FIELD) {
        let v = parse_value(document).unwrap();
        let found = set.entry(text(&v, "/kind").to_owned()).or_default();
        for part in ["spec", "status"] {
            paths(part, &v[part], found);
        }
    }
    let reference: BTreeMap<String, Value> = serde_json::from_str(REFERENCE).unwrap();
    let never = |path: &String| NEVER_SET.iter().any(|n| path.starts_with(n));
    let mut absent = Vec::new();
    for (kind, fields) in reference.iter().filter(|(k, _)| !NOT_CALICOCTLS.contains(&k.as_str())) {
        let none = BTreeSet::new();
        let set = set.get(kind).unwrap_or(&none);
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            missing(part, &fields[part], set, &mut found);
        }
        absent.extend(
            found.into_iter().filter(|p| p.contains('.') && !never(p)).map(|p| format!("{kind} {p}")),
        );
    }
    assert_eq!(absent, [""; 0]);
}

//! Upstream's stored bytes: `data/etcd-dump.txt` has keys and values as upstream v3.34-dev wrote them, a line each in
//! turn. Every one is read and written again with the same meaning.

use libcalico_model::{Key, Value};
use serde_json::Value as Json;

fn dump() -> Vec<(&'static str, &'static str)> {
    let lines: Vec<&str> = include_str!("data/etcd-dump.txt").lines().filter(|l| !l.is_empty()).collect();
    lines.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Without an empty status: upstream writes it for some kinds, and it says nothing.
fn meaning(json: &str) -> Json {
    let mut v: Json = serde_json::from_str(json).unwrap();
    if v.get("status").is_some_and(|s| s == &serde_json::json!({})) {
        v.as_object_mut().unwrap().remove("status");
    }
    numbers_as_floats(&mut v);
    v
}

/// An order of 500 and one of 500.0 are the same.
fn numbers_as_floats(v: &mut Json) {
    match v {
        Json::Number(n) if n.is_f64() || n.as_u64().is_some_and(|n| n < 1 << 50) => *v = n.as_f64().into(),
        Json::Array(items) => items.iter_mut().for_each(numbers_as_floats),
        Json::Object(map) => map.values_mut().for_each(numbers_as_floats),
        _ => {}
    }
}

#[test]
fn what_upstream_stored_is_read_and_written_with_the_same_meaning() {
    let dump = dump();
    assert!(dump.len() > 30);
    for (path, text) in dump {
        let key: Key = path.parse().unwrap();
        assert_eq!(key.path(), path);
        let value = Value::parse(&key, text.as_bytes()).unwrap();
        let written = String::from_utf8(value.to_bytes()).unwrap();
        assert_eq!(meaning(&written), meaning(text), "{path}");
    }
}

#[test]
fn ipams_records_are_the_same_bytes() {
    for (path, text) in dump().into_iter().filter(|(p, _)| p.starts_with("/calico/ipam/")) {
        let value = Value::parse(&path.parse().unwrap(), text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.to_bytes()).unwrap(), text, "{path}");
    }
}

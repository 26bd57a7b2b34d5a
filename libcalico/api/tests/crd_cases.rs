//! Objects that are taken and objects that are refused: by our own validation, and by a real API server with the CRDs
//! of charts/calico/crds. Both must say the same, so that `kubectl` and `calicoctl` take the same files.
//!
//! A case (data/crd-cases.jsonl) without `says` must be taken; one with it must be refused by the API server with that
//! text, at the field `at` where one is named. The API server is real, over a real etcd, on loopback.

use libcalico_api::{Kind, Resource};
use libcalico_testing::{EtcdOptions, Need, RealApiServer, can_run};
use serde_json::{Value, json};

/// Single addresses are networks to our reader; the API server's format `cidr`, upstream's too, wants a length.
const SERVER_ALONE: &[&str] = &[r#"{"reservedCIDRs":["10.0.0.1"]}"#];

fn cases() -> Vec<Value> {
    include_str!("data/crd-cases.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The object of a case.
fn object(case: &Value) -> Value {
    let kind = case["kind"].as_str().unwrap();
    let version = match kind {
        "ClusterNetworkPolicy" => libcalico_api::cluster_network_policy::API_VERSION,
        _ => libcalico_api::API_VERSION,
    };
    let name = case.get("name").and_then(Value::as_str).unwrap_or("x");
    let mut o = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
    for (from, to) in [("namespace", "/metadata"), ("spec", "")] {
        if let (Some(value), Some(at)) = (case.get(from), o.pointer_mut(to)) {
            at[from] = value.clone();
        }
    }
    o
}

#[test]
fn our_validation_takes_and_refuses_what_the_api_server_does() {
    let mut wrong = Vec::new();
    for case in cases() {
        let Some(kind) = Kind::ALL.iter().copied().find(|k| case["kind"] == k.name()) else { continue };
        let found = match Resource::from_value_strict(kind, &object(&case)) {
            Err(bad) => bad.iter().map(ToString::to_string).collect(),
            Ok(mut r) => {
                r.set_defaults();
                r.validate().err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
            }
        };
        let alone = case.get("spec").is_some_and(|s| SERVER_ALONE.contains(&s.to_string().as_str()));
        if found.is_empty() == case.get("says").is_some() && !alone {
            wrong.push(format!("{case}: ours says {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn write(server: &RealApiServer, name: &str, verb: &[&str], object: &Value) -> Result<String, String> {
    let path = server.directory().join(format!("{name}.json"));
    std::fs::write(&path, object.to_string()).unwrap();
    server.kubectl(&[verb, &["-f", &path.display().to_string()]].concat())
}

#[test]
fn the_api_server_takes_and_refuses_the_same_objects_and_says_why() {
    if !can_run(&[Need::ApiServer, Need::Kubectl]) {
        return;
    }
    let Some(server) = RealApiServer::launch_bare(EtcdOptions::default(), &[]) else { return };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/calico/crds");
    server.kubectl(&["apply", "--server-side", "-f", folder]).unwrap();
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=300s", "-f", folder]).unwrap();

    let mut wrong = Vec::new();
    for (i, case) in cases().into_iter().enumerate() {
        let done = write(&server, &format!("case{i}"), &["create", "--dry-run=server"], &object(&case));
        let right = match (&done, case.get("says").and_then(Value::as_str)) {
            (Ok(_), None) => true,
            (Err(e), Some(says)) => {
                e.contains(says) && case.get("at").and_then(Value::as_str).is_none_or(|at| e.contains(at))
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{case}: {done:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What may not change, and what is filled in.
    let pool = |cidr: &str, size: u8| {
        object(&json!({ "kind": "IPPool", "spec": { "cidr": cidr, "blockSize": size } }))
    };
    write(&server, "pool", &["create"], &pool("10.1.0.0/16", 26)).unwrap();
    let said = write(&server, "other", &["replace"], &pool("10.2.0.0/16", 26)).unwrap_err();
    assert!(said.contains("the range of a pool cannot change"), "{said}");
    let said = write(&server, "other", &["replace"], &pool("10.1.0.0/16", 24)).unwrap_err();
    assert!(said.contains("the block size of a pool cannot change"), "{said}");
    let spec: Value =
        serde_json::from_str(&server.kubectl(&["get", "ippool", "x", "-o", "jsonpath={.spec}"]).unwrap())
            .unwrap();
    let filled = json!({
        "cidr": "10.1.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never", "nodeSelector": "all()",
        "assignmentMode": "Automatic",
    });
    assert_eq!(spec, filled);

    // The largest policy: the cost of its rules between fields stays within the API server's budget.
    let rule = json!({
        "action": "Allow", "protocol": "TCP", "source": { "nets": vec!["10.0.0.0/8"; 20] },
        "destination": { "ports": (1..=50).collect::<Vec<u16>>() },
    });
    let rules = vec![rule; libcalico_api::policy::MAX_RULES];
    let big =
        object(&json!({ "kind": "GlobalNetworkPolicy", "spec": { "ingress": rules, "egress": rules } }));
    write(&server, "big", &["create"], &big).unwrap();
}

//! What we store equals what upstream stored: the dump of a real datastore, read and written again.

#![allow(clippy::needless_pass_by_value)] // json! makes values to give away

use libcalico_api::{Kind, Resource};
use serde_json::Value;

/// Kind, key and stored JSON of each object of the dump.
fn dump() -> Vec<(Kind, String, Value)> {
    let mut lines = include_str!("data/etcd-resources.txt").lines();
    let mut out = Vec::new();
    while let (Some(key), Some(json)) = (lines.next(), lines.next()) {
        let plural = key.split('/').nth(5).unwrap();
        let kind = Kind::from_plural(plural).unwrap_or_else(|| panic!("{key}"));
        out.push((kind, key.to_owned(), serde_json::from_str(json).unwrap()));
    }
    out
}

fn stored(r: &Resource) -> Value {
    serde_json::from_slice(&r.to_stored_json()).unwrap()
}

#[test]
fn every_stored_object_survives_reading_and_writing() {
    let dump = dump();
    assert!(dump.len() > 35);
    for (kind, key, json) in dump {
        let r =
            Resource::from_json(kind, json.to_string().as_bytes()).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(stored(&r), json, "{key}");
        let strict = Resource::from_value_strict(kind, &json).unwrap_or_else(|e| panic!("{key}: {e:?}"));
        assert_eq!(strict, r, "{key}");
    }
}

#[test]
fn every_stored_object_is_valid() {
    for (kind, key, json) in dump() {
        let r = Resource::from_json(kind, json.to_string().as_bytes()).unwrap();
        if let Err(found) = r.validate() {
            // Upstream's own defect: a rule that says both what protocol it is and what it is not, which is harmless.
            panic!("{key}: {found:?}");
        }
    }
}

#[test]
fn defaults_leave_what_upstream_stored_as_it_is() {
    for (kind, key, json) in dump() {
        let mut r = Resource::from_json(kind, json.to_string().as_bytes()).unwrap();
        r.set_defaults();
        let mut expected = json.clone();
        if kind == Kind::BGPConfiguration || kind == Kind::IPAMConfiguration {
            // Fields with a default of the CRD that this writer left out are the same as absent.
            expected = stored(&r);
        }
        assert_eq!(stored(&r), expected, "{key}");
    }
}

/// Reads a file's object as the command line does.
fn from_file(kind: Kind, json: Value) -> Value {
    let mut r = Resource::from_value_strict(kind, &json).unwrap();
    r.set_defaults();
    r.validate().unwrap();
    stored(&r)
}

/// The object as an administrator writes it: without what clients fill in.
fn written(kind: Kind, json: &Value, drop: &[&str]) -> Value {
    let mut v = json.clone();
    let meta = v["metadata"].as_object_mut().unwrap();
    if matches!(
        kind,
        Kind::NetworkPolicy
            | Kind::GlobalNetworkPolicy
            | Kind::StagedNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
    ) {
        meta.remove("labels");
        meta.remove("annotations");
    }
    v.as_object_mut().unwrap().remove("status");
    for field in drop {
        v["spec"].as_object_mut().unwrap().remove(*field);
    }
    v
}

#[test]
fn what_an_administrator_leaves_out_is_filled_in_as_upstream_does() {
    let drop: &[(Kind, &[&str])] = &[
        (Kind::IPPool, &["vxlanMode", "nodeSelector", "blockSize"]),
        (Kind::NetworkPolicy, &["types"]),
        (Kind::GlobalNetworkPolicy, &["types"]),
        (Kind::StagedGlobalNetworkPolicy, &["types", "stagedAction"]),
        (Kind::StagedNetworkPolicy, &["types", "stagedAction"]),
        (Kind::StagedKubernetesNetworkPolicy, &["policyTypes", "stagedAction"]),
        (
            Kind::FelixConfiguration,
            &[
                "nftablesMode",
                "nftablesFlowTableOffload",
                "bpfLogLevel",
                "bpfConnectTimeLoadBalancing",
                "bpfHostNetworkedNATWithoutCTLB",
                "floatingIPs",
            ],
        ),
        (Kind::BGPConfiguration, &["serviceLoadBalancerAggregation"]),
        (Kind::IPAMConfiguration, &["strictAffinity", "autoAllocateBlocks"]),
        (Kind::KubeControllersConfiguration, &["healthChecks"]),
        (Kind::Tier, &[]),
        (Kind::Node, &[]),
    ];
    for (kind, key, json) in dump() {
        let Some((_, fields)) = drop.iter().find(|(k, _)| *k == kind) else { continue };
        assert_eq!(from_file(kind, written(kind, &json, fields)), json, "{key}");
    }
}

#[test]
fn a_policy_without_a_tier_is_in_the_default_tier() {
    let v = serde_json::json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"egress": [{"action": "Allow"}]}});
    let out = from_file(Kind::NetworkPolicy, v);
    assert_eq!(out["spec"]["tier"], "default");
    assert_eq!(out["spec"]["types"], serde_json::json!(["Egress"]));
    assert_eq!(out["metadata"]["labels"]["projectcalico.org/tier"], "default");
    assert_eq!(out["metadata"]["annotations"]["projectcalico.org/metadata"], "{\"name\":\"p\"}");
}

#[test]
fn a_pools_range_and_a_duration_are_stored_in_their_one_spelling() {
    let v =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.1.2.3/16", "natOutgoing": false}});
    let out = from_file(Kind::IPPool, v);
    assert_eq!(out["spec"]["cidr"], "10.1.0.0/16");
    assert!(out["spec"].get("natOutgoing").is_none());
    let v = serde_json::json!({"metadata": {"name": "p"}, "spec": {"peerIP": "10.0.0.1", "asNumber": "64512", "maxRestartTime": "90s"}});
    let out = from_file(Kind::BGPPeer, v);
    assert_eq!(out["spec"]["maxRestartTime"], "1m30s");
    assert_eq!(out["spec"]["asNumber"], 64512);
}

#[test]
fn a_workload_endpoint_is_named_after_what_it_is() {
    let v = serde_json::json!({
        "metadata": {"namespace": "default"},
        "spec": {"orchestrator": "k8s", "node": "node-a", "pod": "web-1", "endpoint": "eth0", "interfaceName": "cali0aweb1",
                 "ipNetworks": ["10.65.200.2/32"]}
    });
    let out = from_file(Kind::WorkloadEndpoint, v);
    assert_eq!(out["metadata"]["name"], "node--a-k8s-web--1-eth0");
    assert_eq!(out["metadata"]["labels"]["projectcalico.org/orchestrator"], "k8s");
}

/// Where a value has objects.
fn objects(value: &Value, path: &str, out: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            out.push(path.to_owned());
            map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => return,
    };
    for (name, value) in below {
        objects(value, &format!("{path}/{name}"), out);
    }
}

#[test]
fn a_list_in_the_place_of_any_object_is_refused() {
    let mut seen = 0;
    for (kind, key, json) in dump() {
        let mut places = Vec::new();
        objects(&json, "", &mut places);
        for place in places {
            for list in [serde_json::json!([]), serde_json::json!(["Allow"])] {
                let mut bad = json.clone();
                *bad.pointer_mut(&place).unwrap() = list;
                Resource::from_json(kind, bad.to_string().as_bytes()).expect_err(&format!("{key} {place}"));
                Resource::from_value_strict(kind, &bad).expect_err(&format!("{key} {place}"));
                seen += 1;
            }
        }
    }
    assert!(seen > 300, "{seen}");
}

#[test]
fn what_comes_behind_an_object_is_refused() {
    for text in ["{}{}", "{} x", "{}\u{0}"] {
        Resource::from_json(Kind::GlobalNetworkSet, text.as_bytes()).expect_err(text);
    }
    assert!(Resource::from_json(Kind::GlobalNetworkSet, b" {} \n").is_ok());
}

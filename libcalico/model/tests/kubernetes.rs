//! Readers of the API server's JSON take whatever comes: an error at worst, never a panic.

use libcalico_model::kubernetes::ipam::Record;
use libcalico_model::kubernetes::{ipam, network_policy, node, pod, profile};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read_all(json: &[u8]) {
    let _ = pod::endpoint(json, "cali");
    let _ = pod::key_parts(json);
    let _ = profile::from_namespace(json);
    let _ = profile::from_service_account(json);
    let _ = network_policy::convert(json);
    if let Ok(n) = node::from_kubernetes(json) {
        let _ = node::patch(&n, json);
    }
    let _ = ipam::block(json);
    let _ = ipam::affinity(json);
    let _ = ipam::handle(json);
    let _ = ipam::config(json);
    for record in [Record::Block, Record::Affinity, Record::Handle] {
        let _ = ipam::key_of(record, json);
    }
}

/// Values that a field might have and should not.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:./'-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..3).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn known_fields_with_strange_values_never_panic(
        parts in prop::collection::vec(value(), 12),
        name in "[a-z-]{0,5}",
    ) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = <[Value; 12]>::try_from(parts).unwrap();
        let notes = json!({ "cni.projectcalico.org/podIPs": a, "cni.projectcalico.org/floatingIPs": "[1]",
            "projectcalico.org/ASNumber": "x", "projectcalico.org/labels": "{}" });
        let meta = json!({ "name": name, "namespace": "n", "annotations": notes });
        read_all(json!({ "metadata": meta, "spec": { "nodeName": "h", "containers": b, "cidr": c, "node": "n" } })
            .to_string().as_bytes());
        let meta = json!({ "name": name, "namespace": "n" });
        let rule = json!({ "from": [{ "podSelector": d, "ipBlock": e }], "ports": [{ "port": f, "endPort": g }] });
        read_all(json!({ "metadata": meta, "spec": { "podSelector": h, "ingress": [rule], "egress": i } })
            .to_string().as_bytes());
        read_all(json!({ "metadata": meta, "spec": { "cidr": "10.0.0.0/26", "allocations": j, "block": k,
            "handleID": "x", "deleted": l } }).to_string().as_bytes());
    }

    #[test]
    fn an_endpoints_name_gives_back_its_pod(node in "[a-z][a-z0-9-]{0,10}[a-z0-9]", pod_name in "[a-z][a-z0-9-]{0,10}[a-z0-9]") {
        let json = json!({ "metadata": { "name": pod_name, "namespace": "n" }, "spec": { "nodeName": node } });
        let endpoint = pod::endpoint(json.to_string().as_bytes(), "cali").unwrap().unwrap();
        prop_assert_eq!(pod::pod_of(&endpoint.metadata.name), Some(pod_name));
    }
}

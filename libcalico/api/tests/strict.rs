//! Strict reading: every unknown field is named, with what is allowed in its place.

use libcalico_api::{Kind, Resource};
use proptest::prelude::*;
use serde_json::{Value, json};

fn errors(kind: Kind, v: &Value) -> Vec<String> {
    Resource::from_value_strict(kind, v).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_unknown_field_is_named_with_its_path_and_what_is_allowed() {
    let v = json!({
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n", "lables": {}},
        "spec": {"selector": "all()", "audit": {"x": 1}, "ingress": [{"action": "Allow"}, {"action": "Allow", "sauce": {}}]}
    });
    let found = errors(Kind::NetworkPolicy, &v);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("metadata.lables: unknown field; allowed: annotations, "), "{found:?}");
    assert_eq!(
        found[1],
        "spec.audit: unknown field; allowed: egress, ingress, order, performanceHints, selector, \
         serviceAccountSelector, tier, types"
    );
    assert!(found[2].starts_with("spec.ingress[1].sauce: unknown field; allowed: action, "), "{found:?}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_path() {
    let v = json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16", "blockSize": "26"}});
    assert_eq!(errors(Kind::IPPool, &v), ["spec.blockSize: invalid type: string \"26\", expected i32"]);
    let v = json!({"metadata": {"name": "p"}, "spec": {"ipipMode": "Sometimes"}});
    assert_eq!(
        errors(Kind::IPPool, &v),
        ["spec.ipipMode: \"Sometimes\" must be one of Never, Always, CrossSubnet"]
    );
    let v = json!({"metadata": {"name": "p"}, "spec": {"egress": [{"action": "Allow", "destination": {"ports": [80, "x:y"]}}]}});
    let found = errors(Kind::GlobalNetworkPolicy, &v);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("spec.egress[0].destination.ports[1]: port range \"x:y\""), "{found:?}");
}

#[test]
fn a_list_is_no_object() {
    let v = json!({"metadata": {"name": "p"}, "spec": {"ingress": [{"action": "Allow", "source": []}]}});
    assert_eq!(
        errors(Kind::GlobalNetworkPolicy, &v),
        ["spec.ingress[0].source: must be an object, not a list"]
    );
    let v = json!({"metadata": {"name": "p"}, "spec": {"ingress": [["Allow"]]}});
    assert_eq!(errors(Kind::GlobalNetworkPolicy, &v), ["spec.ingress[0]: must be an object, not a list"]);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/:.0-9]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(
            &["metadata", "spec", "ingress", "source", "nets", "ports", "name", "types", "cidr", "bgp"][..]
        )
        .prop_map(str::to_owned),
        "[a-z]{1,6}",
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics_in_reading_defaults_or_checks(v in value(), i in 0..Kind::ALL.len()) {
        let kind = Kind::ALL[i];
        let _ = Resource::from_value_strict(kind, &v);
        if let Ok(mut r) = Resource::from_json(kind, v.to_string().as_bytes()) {
            let _ = r.validate();
            r.set_defaults();
            let once = r.to_stored_json();
            r.set_defaults();
            prop_assert_eq!(once, r.to_stored_json(), "defaults are filled in once");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), i in 0..Kind::ALL.len()) {
        let _ = Resource::from_json(Kind::ALL[i], &bytes);
    }
}

//! Any text is a selector or an error; what parses prints to text that parses to the same, matches the same labels, and
//! says no more of the labels that it needs than is true.

#![no_main]

use std::collections::BTreeMap;

use libcalico_selector::Selector;
use libcalico_selector::ast::Node;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(selector) = Selector::parse(text) else { return };
    let again = Selector::parse(selector.canonical()).expect("canonical text is a selector");
    // `!(!x)` prints as `!!x`, as upstream prints it, and that is read as `x`.
    if !selector.canonical().contains("!!") {
        assert_eq!(again.canonical(), selector.canonical());
        assert_eq!(again.unique_id(), selector.unique_id());
    }
    let third = Selector::parse(again.canonical()).expect("canonical text is a selector");
    assert_eq!(third.canonical(), again.canonical());
    let mut named = BTreeMap::new();
    name_labels(selector.node(), &mut named);
    let half = named.iter().step_by(2).map(|(k, v)| (k.clone(), v.clone())).collect();
    for labels in [BTreeMap::new(), half, named] {
        let matched = selector.matches(&labels);
        assert_eq!(again.matches(&labels), matched);
        if matched {
            for (key, restriction) in selector.node().restrictions() {
                assert!(restriction.allows(labels.get(key).map(String::as_str)), "{key}: {restriction:?}");
            }
        }
    }
});

/// Labels that the selector speaks of, each with a value that it speaks of.
fn name_labels(node: &Node, labels: &mut BTreeMap<String, String>) {
    let mut put = |key: &str, value: &str| {
        labels.insert(key.to_owned(), value.to_owned());
    };
    match node {
        Node::All | Node::Global => {}
        Node::Has(k) => put(k, ""),
        Node::Eq(k, v)
        | Node::Ne(k, v)
        | Node::Contains(k, v)
        | Node::StartsWith(k, v)
        | Node::EndsWith(k, v) => put(k, v),
        Node::In(k, vs) | Node::NotIn(k, vs) => put(k, vs.first().map_or("", |v| v)),
        Node::Not(n) => name_labels(n, labels),
        Node::And(ns) | Node::Or(ns) => ns.iter().for_each(|n| name_labels(n, labels)),
    }
}

//! The selector language against upstream's results, a naive model, and random text.

use std::collections::BTreeMap;

use libcalico_selector::ast::Node;
use libcalico_selector::{MAX_DEPTH, Selector};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input: String,
    valid: bool,
    #[serde(default)]
    canonical: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    evaluations: Vec<Evaluation>,
}

#[derive(Deserialize)]
struct Evaluation {
    labels: BTreeMap<String, String>,
    #[serde(rename = "match")]
    matches: bool,
}

#[test]
fn every_case_of_upstream_gives_upstreams_result() {
    let cases: Cases = serde_json::from_str(include_str!("selector-cases.json")).unwrap();
    assert!(cases.cases.len() >= 150);
    for c in cases.cases {
        match Selector::parse(&c.input) {
            Ok(s) => {
                assert!(c.valid, "{:?} is accepted", c.input);
                assert_eq!(s.canonical(), c.canonical, "{:?}", c.input);
                assert_eq!(s.unique_id(), c.uid, "{:?}", c.input);
                for e in c.evaluations {
                    assert_eq!(s.matches(&e.labels), e.matches, "{:?} on {:?}", c.input, e.labels);
                }
            }
            Err(e) => assert!(!c.valid, "{:?}: {e}", c.input),
        }
    }
}

#[test]
fn an_error_names_the_place_and_what_would_be_right() {
    let e = Selector::parse("has(a) && b = \"c\"").unwrap_err();
    assert_eq!((e.offset, e.reason), (12, "expected =="));
    assert_eq!(
        e.to_string(),
        "invalid selector at offset 12: expected == before \"= \\\"c\\\"\" (one = is not an operator)"
    );
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    let deep = |n: usize| format!("{}has(a) && has(b){}", "!(".repeat(n), ")".repeat(n));
    assert!(Selector::parse(&deep(340)).is_ok(), "1,024 characters cannot reach the limit");
    assert_eq!(Selector::parse(&deep(MAX_DEPTH)).unwrap_err().reason, "nested too deeply");
    assert!(Selector::parse(&deep(1_000_000)).is_err());
    assert!(Selector::parse(&"(".repeat(1_000_000)).is_err());
    assert!(Selector::parse(&"!".repeat(1_000_000)).is_err());
    let grouped = format!("{}has(a){}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(Selector::parse(&grouped).unwrap().canonical(), "has(a)");
}

#[test]
fn pairs_and_maps_of_labels_match_alike() {
    let s = Selector::parse("a == 'x' && !has(b)").unwrap();
    assert!(s.matches(&[("a", "x")]));
    assert!(!s.matches(&vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), String::new())]));
    assert!(s.matches(&BTreeMap::from([("a".to_owned(), "x".to_owned())])));
    assert_eq!(Selector::parse("  ").unwrap(), Selector::all());
}

#[test]
fn a_negation_of_a_negated_group_prints_as_upstream_prints_it_and_means_the_same() {
    let s = Selector::parse("! (! c != \"d\")").unwrap();
    assert_eq!(s.canonical(), "!!c != \"d\"");
    let again = Selector::parse(s.canonical()).unwrap();
    assert_eq!(again.canonical(), "c != \"d\"");
    for labels in [[("c", "d")], [("c", "e")]] {
        assert_eq!(s.matches(&labels), again.matches(&labels));
    }
}

#[test]
fn restrictions_say_what_a_match_needs() {
    let s =
        Selector::parse("a in {'x','y'} && a != 'x' && has(b) && (c == '1' || c == '2') && !has(d)").unwrap();
    let r = s.node().restrictions();
    assert_eq!(r["a"].one_of.as_deref(), Some(&["x", "y"][..]));
    assert!(r["b"].must_be_present && r["b"].one_of.is_none());
    assert_eq!(r["c"].one_of.as_deref(), Some(&["1", "2"][..]));
    assert!(r["d"].must_be_absent);
}

const KEYS: [&str; 4] = ["a", "b.c/d-e", "in", "has"];
const VALUES: [&str; 6] = ["", "x", "xy", "yx", "\"", "'"];

fn leaf() -> impl Strategy<Value = Node> {
    let key = || prop::sample::select(&KEYS[..]).prop_map(Box::<str>::from);
    let value = || prop::sample::select(&VALUES[..]).prop_map(Box::<str>::from);
    let set = || prop::collection::vec(value(), 0..4);
    prop_oneof![
        Just(Node::All),
        Just(Node::Global),
        key().prop_map(Node::Has),
        (key(), value()).prop_map(|(k, v)| Node::Eq(k, v)),
        (key(), value()).prop_map(|(k, v)| Node::Ne(k, v)),
        (key(), set()).prop_map(|(k, v)| Node::in_set(&k, v)),
        (key(), set()).prop_map(|(k, v)| Node::not_in_set(&k, v)),
        (key(), value()).prop_map(|(k, v)| Node::Contains(k, v)),
        (key(), value()).prop_map(|(k, v)| Node::StartsWith(k, v)),
        (key(), value()).prop_map(|(k, v)| Node::EndsWith(k, v)),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    leaf().prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::Or),
            // Text has no double negation: an even number of `!` vanishes.
            inner.prop_map(|n| if let Node::Not(_) = n { n } else { Node::Not(Box::new(n)) }),
        ]
    })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pair = (prop::sample::select(&KEYS[..]), prop::sample::select(&VALUES[..]));
    prop::collection::btree_map(pair.0.prop_map(str::to_owned), pair.1.prop_map(str::to_owned), 0..4)
}

/// The grammar's meaning, written out without regard to speed.
fn naive(n: &Node, l: &BTreeMap<String, String>) -> bool {
    let value = |k: &str| l.get(k).cloned();
    let eq = |k: &str, v: &str| value(k).as_deref() == Some(v);
    match n {
        Node::All | Node::Global => true,
        Node::Has(k) => l.keys().any(|x| **x == **k),
        Node::Eq(k, v) => eq(k, v),
        Node::Ne(k, v) => !eq(k, v),
        Node::In(k, vs) => vs.iter().any(|v| eq(k, v)),
        Node::NotIn(k, vs) => !vs.iter().any(|v| eq(k, v)),
        Node::Contains(k, p) => value(k).is_some_and(|v| v.matches(&**p).next().is_some()),
        Node::StartsWith(k, p) => value(k).is_some_and(|v| v.get(..p.len()) == Some(p)),
        Node::EndsWith(k, p) => {
            value(k).is_some_and(|v| v.len().checked_sub(p.len()).is_some_and(|i| v.get(i..) == Some(p)))
        }
        Node::Not(x) => !naive(x, l),
        Node::And(xs) => !xs.iter().any(|x| !naive(x, l)),
        Node::Or(xs) => xs.iter().any(|x| naive(x, l)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_back(n in node()) {
        let text = n.to_string();
        let read = Selector::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(read.node(), &n);
        prop_assert_eq!(read.canonical(), text);
    }

    #[test]
    fn matching_agrees_with_the_naive_model(n in node(), l in labels()) {
        let matched = n.matches(&l);
        prop_assert_eq!(matched, naive(&n, &l));
        prop_assert_eq!(Selector::parse(&n.to_string()).unwrap().matches(&l), matched);
    }

    #[test]
    fn restrictions_never_exclude_a_match(n in node(), l in labels()) {
        if n.matches(&l) {
            for (k, r) in n.restrictions() {
                prop_assert!(r.allows(l.get(k).map(String::as_str)), "{} {:?}", k, r);
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,80}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn text_of_the_languages_own_pieces_never_panics(
        parts in prop::collection::vec(prop::sample::select(&[
            "a", " ", "==", "!=", "!", "(", ")", "{", "}", ",", "\"x\"", "'", "&&", "||", "in", "not", "has(", "all()",
            "contains", "starts", "with", "é", "\t", "\n", "global("][..]), 0..20)
    ) {
        let text = parts.concat();
        if let Ok(s) = Selector::parse(&text) {
            let again = Selector::parse(s.canonical()).unwrap();
            prop_assert_eq!(again.matches(&[("a", "x")]), s.matches(&[("a", "x")]));
        }
    }
}

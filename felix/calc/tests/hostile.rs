//! Objects as bad as they can be: what nobody writes by mistake neither stops the calculation nor opens anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::Config;
use felix_calc::explain::{Direction, Packet, workload};
use felix_calc::recording::update;
use felix_calc::replay::Runner;
use felix_message::IpSetMember;
use ipnet::IpNet;
use libcalico_model::backend::{NetworkSet, Policy, Rule, WorkloadEndpoint};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, PolicyKind, Revision, Update, Value};
use proptest::prelude::*;
use serde_json::json;

const LOCAL: &str = "local";

fn set(key: Key, value: Value) -> Update {
    Update { key, value: Some(value), revision: Revision::default() }
}

fn endpoint_key() -> WorkloadEndpointKey {
    WorkloadEndpointKey {
        host: LOCAL.into(),
        orchestrator: "k8s".into(),
        workload: "ns/pod".into(),
        endpoint: "eth0".into(),
    }
}

fn endpoint(labels: BTreeMap<String, String>) -> Update {
    let value = WorkloadEndpoint {
        state: "active".into(),
        name: "cali1".into(),
        labels,
        ipv4_nets: vec!["10.0.0.1/32".parse().unwrap()],
        ..WorkloadEndpoint::default()
    };
    set(Key::WorkloadEndpoint(endpoint_key()), Value::WorkloadEndpoint(Arc::new(value)))
}

fn policy_key(name: &str) -> PolicyKey {
    PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name: name.into() }
}

fn policy(name: &str, policy: Policy) -> Update {
    set(Key::Policy(policy_key(name)), Value::Policy(Arc::new(policy)))
}

fn config() -> Config {
    Config { hostname: LOCAL.into(), ..Config::default() }
}

fn from_outside() -> Packet {
    Packet {
        src: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        protocol: 6,
        src_port: 1000,
        dst_port: 80,
        icmp: None,
    }
}

/// What the endpoint lets in.
fn lets_in(runner: &Runner) -> bool {
    let endpoint = &runner.mirror.workloads[&endpoint_key()];
    workload(&runner.mirror, endpoint, Direction::Ingress, &from_outside()).allowed
}

fn run(updates: Vec<Update>) -> Runner {
    let mut runner = Runner::new(config());
    runner.graph.on_status(libcalico_model::SyncStatus::InSync);
    updates.into_iter().for_each(|u| runner.graph.on_update(u));
    runner.flush().unwrap();
    runner
}

#[test]
fn the_largest_policy_that_the_api_takes_is_calculated() {
    let net = |i: usize| IpNet::from(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + i as u32)));
    let rules: Vec<Rule> = (0..1024)
        .map(|r| Rule {
            action: "deny".into(),
            src_nets: (0..256).map(|n| net(r * 256 + n)).collect(),
            ..Rule::default()
        })
        .collect();
    let largest = Policy { selector: "all()".into(), inbound_rules: rules, ..Policy::default() };
    let runner = run(vec![endpoint(BTreeMap::new()), policy("largest", largest)]);
    assert_eq!(runner.mirror.policies[&policy_key("largest")].inbound.len(), 1024);
    assert!(!lets_in(&runner));
}

#[test]
fn the_longest_selectors_are_read_or_refused_and_refused_policy_opens_nothing() {
    let deep = format!("{}all(){}", "(".repeat(500), ")".repeat(500));
    let too_deep = format!("{}all(){}", "(".repeat(100_000), ")".repeat(100_000));
    let negated = format!("{}has(a)", "!".repeat(100_000));
    let wide = vec!["a == 'b'"; 20_000].join(" || ");
    let values = format!("a in {{{}}}", vec!["'x'"; 50_000].join(", "));
    for selector in [deep, too_deep, negated, wide, values, "a".repeat(1 << 20)] {
        let start = Instant::now();
        let allow = Rule { action: "allow".into(), src_selector: selector.clone(), ..Rule::default() };
        let peers = Policy { selector: "all()".into(), inbound_rules: vec![allow], ..Policy::default() };
        let subject = Policy { selector, inbound_rules: vec![Rule::default()], ..Policy::default() };
        let runner = run(vec![
            endpoint([("a".to_owned(), "c".to_owned())].into()),
            policy("peers", peers),
            policy("subject", subject),
        ]);
        // The subject may match, and then it allows; what is refused must not.
        let applied = runner.mirror.policies.contains_key(&policy_key("subject"));
        assert!(applied || !lets_in(&runner));
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}

#[test]
fn equal_orders_are_told_apart_by_name_whatever_the_order_of_arrival() {
    let one = |action: &str, order| Policy {
        selector: "all()".into(),
        order,
        inbound_rules: vec![Rule { action: action.into(), ..Rule::default() }],
        ..Policy::default()
    };
    for order in [None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(f64::INFINITY), Some(f64::MIN)] {
        let updates = vec![
            policy("b", one("allow", order)),
            policy("a", one("deny", order)),
            endpoint(BTreeMap::new()),
        ];
        let reversed = updates.iter().rev().cloned().collect();
        assert!(!lets_in(&run(updates)) && !lets_in(&run(reversed)), "{order:?}");
    }
}

#[test]
fn two_endpoints_with_one_address_and_nested_networks_leave_one_member() {
    let nets = ["10.0.0.0/8", "10.0.0.0/16", "10.0.0.1/32", "10.0.0.1/32"];
    let sets = (0..4).map(|i| {
        let set_of = NetworkSet {
            nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..NetworkSet::default()
        };
        set(Key::NetworkSet(format!("s{i}")), Value::NetworkSet(Arc::new(set_of)))
    });
    let rule = Rule { action: "deny".into(), src_selector: "has(a)".into(), ..Rule::default() };
    let by_set = Policy { selector: "all()".into(), inbound_rules: vec![rule], ..Policy::default() };
    let mut updates: Vec<Update> = sets.collect();
    updates.push(endpoint([("a".to_owned(), "b".to_owned())].into()));
    updates.push(policy("p", by_set));
    let runner = run(updates);
    let (_, members) = runner.mirror.ip_sets.values().next().unwrap();
    let expected: IpNet = "10.0.0.0/8".parse().unwrap();
    assert_eq!(members.iter().copied().collect::<Vec<_>>(), [IpSetMember::Net(expected)]);
}

/// A rule that says something, with at least one thing that is not understood.
fn broken_rule() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(json!({ "action": "allow", "protocol": "quic" })),
        Just(json!({ "action": "allow", "ip_version": 5 })),
        Just(json!({ "action": "allow", "ip_version": 300 })),
        Just(json!({ "action": "allow", "protocol": 300 })),
        Just(json!({ "action": "accept" })),
        Just(json!({ "action": "allow", "src_selector": "a ==" })),
        Just(json!({ "action": "allow", "!dst_selector": "((" })),
        Just(json!({ "action": "allow", "dst_ports": [80] })),
        Just(json!({ "action": "allow", "protocol": "tcp", "dst_ports": ["9:1"] })),
        Just(json!({ "action": "allow", "protocol": "tcp", "dst_ports": [70_000] })),
        Just(json!({ "action": "allow", "protocol": "icmp", "icmp_code": 1 })),
        Just(json!({ "action": "allow", "src_nets": ["10.0.0.0/40"] })),
        Just(json!({ "action": "allow", "src_nets": "all" })),
        Just(json!({ "action": "allow", "http": { "methods": ["GET"] } })),
        Just(json!({ "action": ["allow"] })),
        Just(json!("allow")),
        Just(json!([])),
        Just(json!(["allow"])),
    ]
}

/// Names with every character that a key can have.
fn any_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ._:@%/~!$&'()*+,;=\\-\\\\\"\u{e9}\u{4e2d}]{1,40}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_policy_with_a_rule_that_is_not_understood_opens_nothing(
        bad in broken_rule(),
        at in 0usize..3,
        staged_deny in any::<bool>(),
    ) {
        let mut rules = vec![json!({ "action": "deny" }), json!({ "action": "deny" })];
        rules.insert(at.min(rules.len()), bad);
        let json = json!({ "selector": "all()", "inbound_rules": rules, "types": ["ingress"] });
        let key = Key::Policy(policy_key("broken")).path();
        let mut updates = vec![endpoint(BTreeMap::new()), update(&key, Some(&json), None).unwrap()];
        if staged_deny {
            let allow = Policy {
                selector: "all()".into(),
                inbound_rules: vec![Rule { action: "allow".into(), ..Rule::default() }],
                ..Policy::default()
            };
            let key = PolicyKey { kind: PolicyKind::StagedGlobalNetworkPolicy, ..policy_key("staged") };
            updates.push(set(Key::Policy(key), Value::Policy(Arc::new(allow))));
        }
        prop_assert!(!lets_in(&run(updates)));
    }

    #[test]
    fn any_name_is_a_name(names in proptest::collection::vec(any_name(), 1..6), labels in any_name()) {
        let deny = || Policy {
            selector: "all()".into(),
            tier: labels.clone(),
            inbound_rules: vec![Rule { action: "deny".into(), ..Rule::default() }],
            ..Policy::default()
        };
        let mut updates = vec![endpoint([(labels.clone(), labels.clone())].into())];
        for name in &names {
            updates.push(policy(name, deny()));
            updates.push(set(Key::Tier(name.clone()), Value::Tier(libcalico_model::backend::Tier::default())));
        }
        // The keys go through their text and back, as recordings and Typha send them.
        for u in &updates {
            prop_assert_eq!(&u.key.path().parse::<Key>().unwrap(), &u.key);
        }
        let runner = run(updates);
        prop_assert!(!lets_in(&runner));
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(runner.mirror.policies.len(), distinct.len());
    }
}

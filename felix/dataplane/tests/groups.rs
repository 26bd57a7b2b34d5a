//! Chains that workloads share: what one more policy changes, and what a packet goes through.

use std::collections::BTreeMap;
use std::sync::Arc;

use felix_dataplane::Config;
use felix_dataplane::driver::TableDriver as _;
use felix_dataplane::driver::memory::{Memory, Tables};
use felix_dataplane::managers::{Managers, Outputs};
use felix_dataplane::rule::{ChainId, Table};
use felix_message::{Action, ActivePolicy, Message, Rule, TierDefaultAction, TierInfo, WorkloadEndpoint};
use libcalico_model::PolicyKind;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use proptest::prelude::*;

/// A dataplane without a kernel.
struct Felix {
    managers: Managers,
    outputs: Outputs,
    driver: Memory,
}

impl Felix {
    fn new() -> Self {
        let config = Arc::new(Config::default());
        Self {
            managers: Managers::new(&config),
            outputs: Outputs::default(),
            driver: Memory::new(config.clone()),
        }
    }

    /// Takes messages; returns the IPv4 chains that were there before and are others now.
    fn apply(&mut self, messages: &[Message]) -> Vec<String> {
        let before = self.driver.tables[0].chains.clone();
        messages.iter().for_each(|m| self.managers.on_message(m, &mut self.outputs));
        self.managers.resolve(&mut self.outputs);
        self.driver.apply(&mut self.outputs.tables).unwrap();
        let now = &self.driver.tables[0].chains;
        before
            .iter()
            .filter(|(id, rules)| now.get(*id) != Some(*rules))
            .map(|(id, _)| id.to_string())
            .collect()
    }
}

fn key(kind: PolicyKind, name: &str) -> PolicyKey {
    PolicyKey { kind, namespace: String::new(), name: name.to_owned() }
}

fn policy(name: &str, selector: &str) -> Message {
    with_rule(name, selector, Action::Allow)
}

fn with_rule(name: &str, selector: &str, action: Action) -> Message {
    let inbound = vec![Rule { action, ..Rule::default() }];
    let p = ActivePolicy { original_selector: selector.to_owned(), inbound, ..ActivePolicy::default() };
    Message::PolicyUpdate(key(PolicyKind::GlobalNetworkPolicy, name), Arc::new(p))
}

fn tier(default_action: TierDefaultAction, policies: &[&str]) -> TierInfo {
    let kind = |name: &str| {
        if name.starts_with("staged") {
            PolicyKind::StagedGlobalNetworkPolicy
        } else {
            PolicyKind::GlobalNetworkPolicy
        }
    };
    let ingress = policies.iter().map(|n| Arc::new(key(kind(n), n))).collect();
    TierInfo { name: "default".to_owned(), default_action, ingress, egress: vec![] }
}

fn workload(n: usize, policies: &[&str]) -> Message {
    let e = WorkloadEndpoint {
        active: true,
        interface_name: format!("cali{n}"),
        ipv4_nets: vec![format!("10.0.{}.{}/32", n / 256, n % 256).parse().unwrap()],
        tiers: vec![tier(TierDefaultAction::Deny, policies)].into(),
        ..WorkloadEndpoint::default()
    };
    let key = WorkloadEndpointKey {
        host: "h".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: format!("default/w{n}"),
        endpoint: "eth0".to_owned(),
    };
    Message::WorkloadEndpointUpdate(key, Arc::new(e))
}

/// Workloads that have policies for all, and each one of its own behind them.
fn workloads(count: usize, common: &[&str]) -> Vec<Message> {
    let own: Vec<String> = (0..count).map(|n| format!("own{n}")).collect();
    let policies = own.iter().map(|name| policy(name, name));
    let endpoints = own.iter().enumerate().map(|(n, own)| {
        let all: Vec<&str> = common.iter().copied().chain([own.as_str()]).collect();
        workload(n, &all)
    });
    common.iter().map(|name| policy(name, "all()")).chain(policies).chain(endpoints).collect()
}

/// Policies that a packet to an interface is shown, in order, where nothing accepts or passes it.
fn shown(tables: &Tables, interface: &str) -> Vec<String> {
    let mut out = Vec::new();
    show(tables, &format!("cali-tw-{interface}"), &mut out);
    out
}

fn show(tables: &Tables, chain: &str, out: &mut Vec<String>) {
    for rule in &tables.chains[&ChainId::new(Table::Filter, chain)] {
        let Some((_, to)) = rule.split_once("jump filter-") else { continue };
        match to.strip_prefix("cali-pi-gnp/") {
            Some(policy) => out.push(policy.to_owned()),
            None => show(tables, to, out),
        }
    }
}

#[test]
fn one_more_policy_for_all_changes_one_chain() {
    let mut felix = Felix::new();
    felix.apply(&workloads(100, &["a"]));
    let changed = felix.apply(&workloads(100, &["a", "b"]));
    assert!(matches!(&changed[..], [one] if one.starts_with("filter-cali-gi-")), "{changed:?}");
    let changed = felix.apply(&workloads(100, &["a", "b", "c"]));
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(shown(&felix.driver.tables[0], "cali7"), ["a", "b", "c", "own7"]);
    let changed = felix.apply(&workloads(100, &["b", "c"]));
    assert_eq!(changed.len(), 2, "the shared one and that of the policy that is gone: {changed:?}");
}

#[test]
fn profiles_are_asked_where_a_policy_passes_a_packet_to_them() {
    let mut felix = Felix::new();
    let endings = |felix: &Felix| -> Vec<Vec<String>> {
        let all = felix.driver.tables[0].chains.iter();
        all.filter(|(id, _)| id.name.starts_with("cali-te-")).map(|(_, rules)| rules.clone()).collect()
    };
    felix.apply(&[policy("a", "all()"), workload(1, &["a"]), workload(2, &["a"]), workload(3, &[])]);
    let [unprotected] = &endings(&felix)[..] else { panic!("one that has no policies") };
    assert_eq!(unprotected, &["drop"], "it has no profiles here");
    let changed = felix.apply(&[with_rule("a", "all()", Action::Pass)]);
    assert_eq!(
        changed,
        ["filter-cali-pi-gnp/a", "filter-cali-tw-cali1", "filter-cali-tw-cali2"],
        "their chains lead to the profiles now"
    );
    assert_eq!(endings(&felix).len(), 2, "one for both of them");
    felix.apply(&[policy("a", "all()"), workload(3, &["a"])]);
    assert_eq!(endings(&felix), Vec::<Vec<String>>::new(), "nobody goes there");
}

#[test]
fn one_that_goes_another_way_leaves_the_others_chain_alone() {
    let mut felix = Felix::new();
    let mut all = workloads(100, &["a", "b"]);
    all.push(policy("between", "has(x)"));
    felix.apply(&all);
    // None of them is the one that the chain is named after.
    for n in [13, 14, 17] {
        let own = format!("own{n}");
        let changed = felix.apply(&[workload(n, &["a", "between", "b", &own])]);
        assert_eq!(changed, [format!("filter-cali-tw-cali{n}")]);
        assert_eq!(shown(&felix.driver.tables[0], &format!("cali{n}")), ["a", "between", "b", own.as_str()]);
    }
    assert_eq!(shown(&felix.driver.tables[0], "cali16"), ["a", "b", "own16"]);
}

#[test]
fn few_do_not_share_a_single_policy() {
    let mut felix = Felix::new();
    felix.apply(&workloads(5, &["a"]));
    let groups = felix.driver.tables[0].chains.keys().filter(|id| id.name.starts_with("cali-g")).count();
    assert_eq!(groups, 0);
    felix.apply(&workloads(5, &["a", "b"]));
    let groups = felix.driver.tables[0].chains.keys().filter(|id| id.name.starts_with("cali-g")).count();
    assert_eq!(groups, 1);
}

#[test]
fn a_policy_that_selects_others_than_before_is_shared_no_longer() {
    let mut felix = Felix::new();
    felix.apply(&workloads(20, &["a", "b", "c"]));
    felix.apply(&[policy("b", "has(x)")]);
    let tables = &felix.driver.tables[0];
    assert_eq!(shown(tables, "cali3"), ["a", "b", "c", "own3"]);
    let runs = tables.chains.keys().filter(|id| id.name.starts_with("cali-gi-")).count();
    assert_eq!(runs, 3, "each has a selector of its own, or comes a second time");
}

/// A world: which policies have which selector, and what each workload has.
fn worlds() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let lists = prop::collection::vec(prop::collection::btree_set(0_u8..8, 0..8), 0..24);
    (
        prop::collection::vec(0_u8..6, 8),
        lists.prop_map(|l| l.into_iter().map(|s| s.into_iter().collect()).collect()),
    )
}

fn messages((selectors, lists): &(Vec<u8>, Vec<Vec<u8>>)) -> Vec<Message> {
    let name = |n: u8| if n == 5 { "staged5".to_owned() } else { format!("p{n}") };
    let policies = (0_u8..).zip(selectors).filter(|(n, _)| *n != 5).map(|(n, s)| {
        // Same selector, other rules.
        let action = if s % 2 == 1 { Action::Pass } else { Action::Allow };
        with_rule(&name(n), &format!("s{}", s / 2), action)
    });
    let endpoints = lists.iter().enumerate().map(|(n, list)| {
        let names: Vec<String> = list.iter().map(|p| name(*p)).collect();
        workload(n, &names.iter().map(String::as_str).collect::<Vec<_>>())
    });
    policies.chain(endpoints).collect()
}

proptest! {
    /// However chains are shared, a packet is shown the policies of its workload, in their order and no others; and
    /// what stands is what would stand had only the end been told.
    #[test]
    fn each_workload_goes_through_its_own_list(worlds in prop::collection::vec(worlds(), 1..5)) {
        let mut felix = Felix::new();
        for (step, world) in worlds.iter().enumerate() {
            felix.apply(&messages(world));
            let tables = &felix.driver.tables[0];
            for (n, list) in world.1.iter().enumerate() {
                let want: Vec<String> = list.iter().filter(|p| **p != 5).map(|p| format!("p{p}")).collect();
                prop_assert_eq!(shown(tables, &format!("cali{n}")), want, "step {}", step);
            }
        }
        let (end, before) = worlds.split_last().unwrap();
        let gone: BTreeMap<usize, ()> =
            before.iter().flat_map(|w| end.1.len()..w.1.len().max(end.1.len())).map(|n| (n, ())).collect();
        let removals: Vec<Message> = gone.keys().map(|n| match workload(*n, &[]) {
            Message::WorkloadEndpointUpdate(key, _) => Message::WorkloadEndpointRemove(key),
            other => other,
        }).collect();
        felix.apply(&removals);
        let mut at_once = Felix::new();
        at_once.apply(&messages(end));
        prop_assert_eq!(&felix.driver.tables, &at_once.driver.tables);
    }
}

//! Hundreds of worlds, with real packets: what the kernel lets pass is what the documentation says.
//!
//! One set of machines in namespaces serves every world; the dataplane goes from one world's rules to the next one's as
//! it would from one state of the datastore to the next. Every pair of ends is tried with TCP and UDP on two ports and
//! an echo request, over both families.
//!
//! `ORACLE_WORLDS` sets how many worlds each backend sees. A world that differs is shrunk in at most `ORACLE_SHRINK`
//! steps (each takes seconds) and printed as YAML.

#[path = "../../dataplane/tests/lab/mod.rs"]
mod lab;
mod machines;

use std::collections::BTreeMap;

use felix_calc::{CalcGraph, Config as CalcConfig};
use felix_dataplane::Config;
use felix_message::Message;
use felix_oracle::naive::{judges, passes};
use felix_oracle::resources::{resources, yaml};
use felix_oracle::strategy::world;
use felix_oracle::world::{End, NODE, Packet, Traffic, World};
use lab::Felix;
use libcalico_datastore::resources::key_of;
use libcalico_datastore::syncer::{Converter as _, FelixConverter};
use libcalico_model::{Key, KeyValue, Revision, SyncStatus, Update, Value};
use machines::Machines;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestError, TestRunner};

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Felix without its processes: the stored objects' conversion, the calculation, the dataplane.
struct Node {
    felix: Felix,
    graph: CalcGraph,
    stored: BTreeMap<Key, Value>,
    machines: Machines,
}

impl Node {
    fn start(config: Config) -> Self {
        let machines = Machines::new();
        let felix = Felix::start(&machines.host, config);
        let mut graph = CalcGraph::new(CalcConfig { hostname: NODE.to_owned(), ..CalcConfig::default() });
        let mut stored = BTreeMap::new();
        for (key, value) in FelixConverter.builtin() {
            graph.on_update(Update {
                key: key.clone(),
                value: Some(value.clone()),
                revision: Revision::default(),
            });
            stored.insert(key, value);
        }
        graph.on_status(SyncStatus::InSync);
        let mut node = Self { felix, graph, stored, machines };
        node.flush();
        node
    }

    fn flush(&mut self) {
        let mut messages: Vec<Message> = Vec::new();
        self.graph.flush(&mut messages);
        if !messages.is_empty() {
            self.felix.apply(messages);
        }
    }

    /// Replaces the stored objects, one change after the other, and waits until the kernel has them.
    fn become_world(&mut self, world: &World) -> TestCaseResult {
        let mut wanted: BTreeMap<Key, Value> = FelixConverter.builtin().into_iter().collect();
        for r in resources(world) {
            let kv = KeyValue { key: key_of(&r), value: r.into(), revision: Revision::default() };
            wanted.extend(FelixConverter.convert(&kv).map_err(TestCaseError::fail)?);
        }
        let gone: Vec<Key> = self.stored.keys().filter(|k| !wanted.contains_key(*k)).cloned().collect();
        for key in gone {
            self.graph.on_update(Update { key, value: None, revision: Revision::default() });
        }
        for (key, value) in &wanted {
            if self.stored.get(key) != Some(value) {
                let (key, value) = (key.clone(), Some(value.clone()));
                self.graph.on_update(Update { key, value, revision: Revision::default() });
            }
        }
        self.stored = wanted;
        self.flush();
        Ok(())
    }

    fn judge(&mut self, world: &World) -> TestCaseResult {
        self.become_world(world)?;
        let mut packets = Vec::new();
        for from in End::all() {
            for to in End::all().filter(|to| judges(from, *to)) {
                for v4 in [true, false] {
                    for traffic in Traffic::all() {
                        let source_port = self.machines.next_port();
                        packets.push(Packet { from, to, v4, traffic, source_port });
                    }
                }
            }
        }
        let mut expected: Vec<(Packet, bool)> = packets.into_iter().map(|p| (p, passes(world, &p))).collect();
        // An answer may be late on a busy machine: what should pass may try again. What should not has no second try.
        for wait_ms in [150, 1_000, 3_000] {
            let tried: Vec<Packet> = expected.iter().map(|(p, _)| *p).collect();
            let seen = self.machines.send(&tried, wait_ms);
            let mut again = Vec::new();
            for ((packet, should), did) in expected.into_iter().zip(seen) {
                prop_assert!(!did || should, "{packet:?} passed and must not\n{}", yaml(world));
                if should && !did {
                    // Whether rules see another source port in the same way is the evaluator's to say.
                    let packet = Packet { source_port: self.machines.next_port(), ..packet };
                    again.push((packet, passes(world, &packet)));
                }
            }
            expected = again;
            if expected.is_empty() {
                return Ok(());
            }
        }
        prop_assert!(
            expected.iter().all(|(_, should)| !should),
            "{:?} did not pass and must\n{}",
            expected,
            yaml(world)
        );
        Ok(())
    }
}

fn judge_worlds(config: Config) {
    let mut node = Node::start(config);
    let cases = ProptestConfig {
        cases: setting("ORACLE_WORLDS", 25),
        max_shrink_iters: setting("ORACLE_SHRINK", 20),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let node = std::cell::RefCell::new(&mut node);
    match TestRunner::new(cases).run(&world(), |w| node.borrow_mut().judge(&w)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("gave up: {reason}"),
    }
}

#[test]
fn the_kernel_decides_as_the_documentation_does_with_nftables() {
    if !lab::ready() {
        return;
    }
    judge_worlds(Config { hostname: NODE.to_owned(), ..Config::default() });
}

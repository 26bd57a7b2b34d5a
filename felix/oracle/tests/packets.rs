//! Worlds with real packets: what the kernel lets pass is what the documentation says and `policy explain` answers.
//!
//! One set of machines in namespaces serves every world of a backend; the dataplane goes from one world's rules to the
//! next one's as it would from one state of the datastore to the next. Every pair of ends is tried with TCP on three
//! ports, UDP on two, UDP-Lite on one (where the kernel has it) and an echo request, over both families; SCTP is left to
//! the evaluators. Half of the worlds deny by rejecting: what is told to the sender then is no answer.
//!
//! `ORACLE_WORLDS` sets how many worlds each backend sees, `ORACLE_SEED` with which they begin. A world that differs is
//! shrunk in at most `ORACLE_SHRINK` steps (each takes seconds) and printed as YAML, with its seed. Hundreds of worlds:
//! `ORACLE_WORLDS=300 cargo test -p felix-oracle --test packets -- --test-threads=1`.

#[allow(dead_code)] // Each test uses its part.
mod judge;
#[path = "../../dataplane/tests/lab/mod.rs"]
mod lab;
mod machines;

use std::collections::BTreeMap;

use calicoctl::policy::decide::Detail;
use felix_calc::{CalcGraph, Config as CalcConfig};
use felix_dataplane::Config;
use felix_dataplane::config::{Backend, DenyAction, EndpointToHostAction, FailsafePort};
use felix_message::Message;
use felix_oracle::naive::Evaluator;
use felix_oracle::resources::stored;
use felix_oracle::world::{FAILSAFE, NODE, Packet, SOURCE_PORT, Traffic, World, failsafe_net};
use judge::{Explain, fail_with_the_simplest, packets, seeds, setting, world_of};
use lab::Felix;
use libcalico_datastore::syncer::{Converter as _, FelixConverter};
use libcalico_model::{Key, Revision, SyncStatus, Update, Value};
use machines::Machines;
use proptest::strategy::ValueTree as _;

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
    fn become_world(&mut self, world: &World) {
        let mut wanted: BTreeMap<Key, Value> = FelixConverter.builtin().into_iter().collect();
        for kv in stored(world) {
            wanted.extend(FelixConverter.convert(&kv).expect("objects that Felix can use"));
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
    }

    fn judge(&mut self, world: &World) -> Result<(), String> {
        self.become_world(world);
        let (naive, mut explain) = (Evaluator::new(world), Explain::new(world));
        let mut expected: Vec<(Packet, bool)> = Vec::new();
        for packet in packets(|| self.machines.next_port()) {
            let first = naive.passes(&packet);
            // `explain` has a source port of its own, of which a rule may think otherwise.
            let alike = first == naive.passes(&Packet { source_port: SOURCE_PORT, ..packet });
            if let Some(answer) = explain.ask(world, &packet, Detail::Verdict).filter(|_| alike)
                && answer.parts.iter().all(|p| p.allowed) != first
            {
                return Err(format!("{packet:?}: explained as {answer:#?}"));
            }
            let sent = match packet.traffic {
                Traffic::Sctp(_) => false,
                Traffic::UdpLite(_) => self.machines.udp_lite,
                _ => true,
            };
            if sent && [packet.from, packet.to].iter().all(|e| world.owns_its_address(*e)) {
                expected.extend(naive.answered(&packet).map(|should| (packet, should)));
            }
        }
        // An answer may be late on a busy machine: what should pass may try again. What should not has no second try.
        for wait_ms in [150, 500, 1_500, 3_000, 15_000] {
            let tried: Vec<Packet> = expected.iter().map(|(p, _)| *p).collect();
            let seen = self.machines.send(&tried, wait_ms);
            let mut again = Vec::new();
            for ((packet, should), did) in expected.into_iter().zip(seen) {
                if did && !should {
                    return Err(format!("{packet:?} passed and must not"));
                }
                if should && !did {
                    // Whether rules see another source port in the same way is the evaluator's to say.
                    let packet = Packet { source_port: self.machines.next_port(), ..packet };
                    again.extend(naive.answered(&packet).map(|should| (packet, should)));
                }
            }
            expected = again;
            if expected.iter().all(|(_, should)| !should) {
                return Ok(());
            }
        }
        let lost: Vec<&Packet> = expected.iter().filter(|(_, should)| *should).map(|(p, _)| p).collect();
        Err(format!("{lost:#?} did not pass and must"))
    }
}

fn judge_worlds(backend: Backend) {
    if !lab::ready() {
        return;
    }
    let port = |protocol, net| vec![FailsafePort { protocol, port: FAILSAFE, net }];
    let seeds: Vec<u64> = seeds(12).collect();
    let (dropped, rejected) = seeds.split_at(seeds.len().div_ceil(2));
    for (filter_deny_action, seeds) in [(DenyAction::Drop, dropped), (DenyAction::Reject, rejected)] {
        if seeds.is_empty() {
            continue;
        }
        let mut node = Node::start(Config {
            hostname: NODE.to_owned(),
            backend,
            failsafe_inbound: port(6, Some(failsafe_net())),
            failsafe_outbound: port(17, None),
            endpoint_to_host_action: EndpointToHostAction::Return,
            filter_deny_action,
            ..Config::default()
        });
        for &seed in seeds {
            let tree = world_of(seed);
            if let Err(reason) = node.judge(&tree.current()) {
                let shrink = setting("ORACLE_SHRINK", 15);
                let reason = format!("{filter_deny_action:?}: {reason}");
                fail_with_the_simplest(seed, tree, reason, shrink, |w| node.judge(w));
            }
        }
    }
}

#[test]
fn nftables_decides_as_the_documentation_does() {
    judge_worlds(Backend::Nftables);
}

#[test]
fn iptables_nft_decides_as_the_documentation_does() {
    judge_worlds(Backend::IptablesNft);
}

#[test]
fn iptables_legacy_decides_as_the_documentation_does() {
    judge_worlds(Backend::IptablesLegacy);
}

//! Thousands of worlds: what `calicoctl policy explain` answers is what the documentation says.
//!
//! `ORACLE_WORLDS` sets how many worlds; a world that differs is shrunk and printed as YAML.

use calicoctl::policy::decide::{self, Detail};
use calicoctl::policy::party::{self, Party};
use calicoctl::policy::world::World as Stored;
use felix_oracle::naive::{judges, passes};
use felix_oracle::resources::{pod_name, resources, yaml};
use felix_oracle::strategy::world;
use felix_oracle::world::{End, NAMESPACES, Packet, Traffic, World};
use libcalico_datastore::resources::key_of;
use libcalico_model::{KeyValue, Revision};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseResult, TestError, TestRunner};

/// The source port of `calicoctl policy explain`.
const SOURCE_PORT: u16 = 54_321;

fn worlds() -> u32 {
    std::env::var("ORACLE_WORLDS").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

fn stored(world: &World) -> Stored {
    let objects = resources(world).into_iter().map(|r| KeyValue {
        key: key_of(&r),
        value: r.into(),
        revision: Revision::default(),
    });
    Stored::new(objects)
}

fn party(stored: &mut Stored, world: &World, end: End, v4: bool) -> Result<Party, TestCaseError> {
    let named = match end {
        End::Pod(n) => party::parse(&format!("{}/{}", NAMESPACES[world.pods[n].namespace], pod_name(n))),
        other => party::parse(&other.address(v4).to_string()),
    };
    named.and_then(|n| party::find(stored, n)).map_err(|e| TestCaseError::fail(e.to_string()))
}

fn compare(world: &World) -> TestCaseResult {
    let mut stored = stored(world);
    prop_assert!(stored.unusable.is_empty(), "{:?}", stored.unusable);
    for from in End::all() {
        for to in End::all().filter(|to| judges(from, *to)) {
            // Left to real packets: what the node sends to its pods, and what it forwards through its own endpoint.
            let pods = [from, to].iter().filter(|e| matches!(e, End::Pod(_))).count();
            if pods == 1 && (from == End::Node || world.host.is_some()) {
                continue;
            }
            for v4 in [true, false] {
                for traffic in Traffic::all() {
                    let packet = Packet { from, to, v4, traffic, source_port: SOURCE_PORT };
                    let asked = match traffic {
                        Traffic::Tcp(port) => party::Traffic { protocol: 6, port: Some(port) },
                        Traffic::Udp(port) => party::Traffic { protocol: 17, port: Some(port) },
                        Traffic::Ping => party::Traffic { protocol: 1, port: None },
                    };
                    let (source, target) =
                        (party(&mut stored, world, from, v4)?, party(&mut stored, world, to, v4)?);
                    let answers = decide::ask(&mut stored, &source, &target, asked, Detail::Verdict)
                        .map_err(|e| TestCaseError::fail(e.to_string()))?;
                    let answer = answers.iter().find(|a| a.from_address.is_ipv4() == v4);
                    let allowed = answer.is_some_and(|a| a.parts.iter().all(|p| p.allowed));
                    prop_assert_eq!(
                        allowed,
                        passes(world, &packet),
                        "{:?}: explained as {:#?}\n{}",
                        packet,
                        answer,
                        yaml(world)
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn explain_decides_as_the_documentation_does() {
    let config = ProptestConfig { cases: worlds(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    match runner.run(&world(), |w| compare(&w)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("gave up: {reason}"),
    }
}

#[test]
fn worlds_are_worth_judging() {
    // A generator that gives only closed or only open worlds would find nothing.
    let mut runner = TestRunner::deterministic();
    let (mut open, mut closed) = (0, 0);
    for _ in 0..50 {
        let w = world().new_tree(&mut runner).expect("a world").current();
        for from in End::all() {
            for to in End::all().filter(|to| judges(from, *to)) {
                let packet = Packet { from, to, v4: true, traffic: Traffic::Tcp(7001), source_port: 30_000 };
                if passes(&w, &packet) { open += 1 } else { closed += 1 }
            }
        }
    }
    assert!(open > 100 && closed > 100, "{open} open, {closed} closed");
}

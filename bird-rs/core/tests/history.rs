//! Whatever happened before, the routes are those of the present state (architecture rule 2).

mod sim;

use bird_core::{Command, Event, ProtoAction};
use proptest::collection::vec;
use proptest::prelude::*;
use sim::{Sim, session};

const NODES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Kill(usize),
    Start(usize),
    Goodbye(usize, bool),
    Blocks(usize, u8),
    Deaf(usize, bool),
    Command(usize, ProtoAction),
    Garbage(usize, Vec<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 1..=NODES;
    let action = prop::sample::select(vec![ProtoAction::Restart, ProtoAction::Reload, ProtoAction::ReloadIn]);
    prop_oneof![
        node.clone().prop_map(Step::Kill),
        node.clone().prop_map(Step::Start),
        (node.clone(), any::<bool>()).prop_map(|(n, g)| Step::Goodbye(n, g)),
        (node.clone(), 0u8..8).prop_map(|(n, b)| Step::Blocks(n, b)),
        (node.clone(), any::<bool>()).prop_map(|(n, d)| Step::Deaf(n, d)),
        (node.clone(), action).prop_map(|(n, a)| Step::Command(n, a)),
        (node, vec(any::<u8>(), 0..60)).prop_map(|(n, b)| Step::Garbage(n, b)),
        (0u64..15).prop_map(Step::Wait),
        (100u64..200).prop_map(Step::Wait),
    ]
}

/// A node with up to three blocks, by the bits of `blocks`, and one that all nodes have.
fn config(number: usize, blocks: u8) -> String {
    let own = (0..3).filter(|bit| blocks >> bit & 1 == 1);
    let routes: String = own.map(|b| format!(" route 10.65.{number}.{}/26 blackhole;", b * 64)).collect();
    let peers: String = (1..=NODES).filter(|p| *p != number).map(|p| session(number, p, "")).collect();
    let base = sim::base(number).replace(
        &format!(" route 10.65.{number}.0/26 blackhole;"),
        &format!("{routes} route 10.70.0.0/24 blackhole;"),
    );
    base + &peers
}

fn apply(sim: &mut Sim, blocks: &mut [u8; NODES], step: Step) {
    let runs = |sim: &Sim, n: usize| sim.node(n).engine.is_some();
    match step {
        Step::Kill(n) => sim.kill(n),
        Step::Start(n) if !runs(sim, n) => sim.start_with(n, &config(n, blocks[n - 1]), n == 1),
        Step::Start(_) => {}
        Step::Goodbye(n, graceful) => sim.feed(n, Event::Shutdown { graceful }),
        Step::Blocks(n, new) => {
            blocks[n - 1] = new;
            if runs(sim, n) {
                sim.configure(n, &config(n, new));
            }
        }
        Step::Deaf(n, deaf) => sim.set_deaf(n, deaf),
        Step::Command(n, action) => sim.feed(n, Event::Command(Command { action, target: "to*".into() })),
        Step::Garbage(n, body) => sim.garbage(n, &body),
        Step::Wait(secs) => sim.run(secs),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_network_ends_in_the_state_of_its_configuration(steps in vec(step(), 0..25)) {
        let mut sim = Sim::new(NODES as u8);
        let mut blocks = [1u8; NODES];
        for n in 1..=NODES {
            sim.start(n, &config(n, 1));
        }
        for step in steps {
            apply(&mut sim, &mut blocks, step);
        }
        for n in 1..=NODES {
            sim.set_deaf(n, false);
            if sim.node(n).engine.is_none() {
                sim.start(n, &config(n, blocks[n - 1]));
            }
        }
        // Longer than any wait: restart time, recovery, hold time.
        sim.run(600);
        for n in 1..=NODES {
            let mut expected = vec!["10.70.0.0/24 blackhole".to_owned()];
            for owner in 1..=NODES {
                for bit in (0..3u8).filter(|bit| blocks[owner - 1] >> bit & 1 == 1) {
                    let prefix = format!("10.65.{owner}.{}/26", bit * 64);
                    let how = if owner == n { "blackhole".to_owned() } else { format!("via 10.99.0.{owner}") };
                    expected.push(format!("{prefix} {how}"));
                }
            }
            expected.sort();
            let mut routes = sim.routes(n);
            routes.sort();
            prop_assert_eq!(routes, expected, "node {}", n);
            prop_assert_eq!(sim.established(n), NODES - 1);
        }
    }
}

//! Thousands of worlds: what `calicoctl policy explain` answers is what the documentation says.
//!
//! `ORACLE_WORLDS` sets how many worlds, `ORACLE_SEED` with which they begin; a world that differs is shrunk and printed
//! as YAML, with its seed.

#[allow(dead_code)] // Each test uses its part.
mod judge;

use calicoctl::policy::decide::Detail;
use felix_oracle::naive::Evaluator;
use felix_oracle::world::{SOURCE_PORT, World};
use judge::{Explain, fail_with_the_simplest, packets, seeds, world_of};
use proptest::strategy::ValueTree as _;

fn compare(world: &World) -> Result<(), String> {
    let (mut explain, naive) = (Explain::new(world), Evaluator::new(world));
    for packet in packets(|| SOURCE_PORT) {
        let Some(answer) = explain.ask(world, &packet, Detail::Verdict) else { continue };
        let allowed = answer.parts.iter().all(|p| p.allowed);
        if allowed != naive.passes(&packet) {
            let answer = explain.ask(world, &packet, Detail::Full);
            return Err(format!("{packet:?}: explained as {answer:#?}"));
        }
    }
    Ok(())
}

#[test]
fn explain_decides_as_the_documentation_does() {
    for seed in seeds(2_500) {
        let tree = world_of(seed);
        if let Err(reason) = compare(&tree.current()) {
            fail_with_the_simplest(seed, tree, reason, 2_000, compare);
        }
    }
}

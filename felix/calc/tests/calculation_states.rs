//! Upstream's calculation states: each state and each sequence gives what upstream's own tests expect, in several
//! orders and batchings, and the incremental result is the one from scratch.

use std::collections::BTreeMap;

use felix_calc::outcome::Outcome;
use felix_calc::replay::{Report, Runner, State, StatesFile, run, run_states, transition};
use libcalico_model::{Key, SyncStatus, Update};

fn file() -> StatesFile {
    serde_json::from_str(include_str!("data/calc-states.json")).unwrap()
}

/// States that need kinds which the datastore model does not have.
const SKIPPED: [&str; 6] = [
    "EndpointSliceActive",
    "EndpointSliceActiveNewIPs",
    "EndpointSliceActiveNewIPs2",
    "EndpointSliceInactive",
    "ep1 local, policy, LM source",
    "ep1 local, policy, LM source (workload-level)",
];

fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report}");
}

#[test]
fn every_state_and_sequence_gives_the_expected_outcome() {
    let report = run_states(&file());
    for (state, reason) in &report.skipped {
        eprintln!("skipped {state:?}: {reason}");
    }
    let skipped: Vec<&str> = report.skipped.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(skipped, SKIPPED);
    assert_clean(&report);
    assert!(report.compared >= 80, "{}", report.compared);
}

#[test]
fn the_whole_file_replays() {
    let report = run(include_str!("data/calc-states.json")).unwrap();
    assert_clean(&report);
}

#[test]
fn a_changed_expectation_is_reported_as_a_difference() {
    let text = include_str!("data/calc-states.json").replace("\"Borrowed\": true", "\"Borrowed\": false");
    let text = text.replace("\"Borrowed\":true", "\"Borrowed\":false");
    let report = run(&text).unwrap();
    assert!(!report.is_clean());
    assert!(report.to_string().contains("route 10.0.1.2/32"), "{report}");
}

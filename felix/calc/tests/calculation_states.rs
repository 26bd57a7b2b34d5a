//! Upstream's calculation states: each state and each sequence gives what upstream's own tests expect, from every
//! state to every other, in several orders and batchings, and the incremental result is the one from scratch.

use std::collections::BTreeMap;

use felix_calc::outcome::Outcome;
use felix_calc::replay::{Report, Runner, StatesFile, run, run_states, transition};
use felix_calc::{Config, RouteSource};
use libcalico_model::{Key, Revision, SyncStatus, Update};

fn file() -> StatesFile {
    serde_json::from_str(include_str!("data/calc-states.json")).unwrap()
}

fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report}");
}

#[test]
fn every_state_and_sequence_gives_the_expected_outcome() {
    let report = run_states(&file());
    assert_eq!(report.skipped, []);
    assert_clean(&report);
    assert!(report.compared >= 80, "{}", report.compared);
}

#[test]
fn the_whole_file_replays() {
    assert_clean(&run(include_str!("data/calc-states.json")).unwrap());
}

#[test]
fn a_changed_expectation_is_reported_as_a_difference() {
    let text = include_str!("data/calc-states.json").replace("\"Borrowed\": true", "\"Borrowed\": false");
    let text = text.replace("\"Borrowed\":true", "\"Borrowed\":false");
    let report = run(&text).unwrap();
    assert!(!report.is_clean());
    assert!(report.to_string().contains("route 10.0.1.2/32"), "{report}");
}

type Objects = BTreeMap<Key, Update>;

/// A state that can be run: its objects and what they must give.
struct Known {
    name: String,
    objects: Objects,
    expected: Outcome,
    source: RouteSource,
}

fn known() -> Vec<Known> {
    let file = file();
    let state = |(name, state): (&String, &felix_calc::replay::State)| {
        let objects = state.updates().ok()?.into_iter().map(|u| (u.key.clone(), u)).collect();
        let source = state.config("").route_source;
        Some(Known { name: name.clone(), objects, expected: state.expected(), source })
    };
    file.states.iter().filter_map(state).collect()
}

/// `local_host` of the file.
const LOCAL_HOST: &str = "localhostname";

fn config(source: RouteSource) -> Config {
    Config { hostname: LOCAL_HOST.to_owned(), route_source: source, ..Config::default() }
}

fn runner(source: RouteSource) -> Runner {
    Runner::new(config(source))
}

fn assert_outcome(runner: &Runner, expected: &Outcome, how: &str) {
    let differences = Outcome::diff(expected, &Outcome::from(&runner.mirror));
    let text: String = differences.iter().map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{how}\n{text}");
}

/// The ways in which one change of the datastore may come: order, batches, repetitions, needless deletions.
#[derive(Clone, Copy, Debug)]
enum Way {
    AtOnce,
    OneByOne,
    Reversed,
    ReversedOneByOne,
    EveryUpdateTwice,
    DeletedInBetween,
    SpuriousDeletions,
    NoFlushInBetween,
}

const WAYS: [Way; 8] = [
    Way::AtOnce,
    Way::OneByOne,
    Way::Reversed,
    Way::ReversedOneByOne,
    Way::EveryUpdateTwice,
    Way::DeletedInBetween,
    Way::SpuriousDeletions,
    Way::NoFlushInBetween,
];

fn deletion(key: &Key) -> Update {
    Update { key: key.clone(), value: None, revision: Revision::default() }
}

/// The updates in batches; a flush follows each.
fn batches(from: &Objects, to: &Objects, way: Way) -> Vec<Vec<Update>> {
    let mut updates = transition(from, to);
    if matches!(way, Way::Reversed | Way::ReversedOneByOne) {
        updates.reverse();
    }
    match way {
        Way::AtOnce | Way::Reversed | Way::NoFlushInBetween => vec![updates],
        Way::OneByOne | Way::ReversedOneByOne => updates.into_iter().map(|u| vec![u]).collect(),
        Way::EveryUpdateTwice => vec![updates.clone(), updates],
        Way::DeletedInBetween => {
            let deletions = updates.iter().map(|u| deletion(&u.key)).collect();
            vec![updates.clone(), deletions, updates]
        }
        Way::SpuriousDeletions => {
            let mut out: Vec<Update> = updates.iter().map(|u| deletion(&u.key)).collect();
            out.extend(updates);
            vec![out]
        }
    }
}

fn go(runner: &mut Runner, from: &Objects, to: &Objects, way: Way, how: &str) {
    for batch in batches(from, to, way) {
        batch.into_iter().for_each(|u| runner.graph.on_update(u));
        if !matches!(way, Way::NoFlushInBetween) {
            runner.flush().unwrap_or_else(|e| panic!("{how}: {e}"));
        }
    }
}

#[test]
fn every_pair_of_states_in_every_way_gives_the_expected_outcome() {
    let states = known();
    let none = Objects::new();
    for a in &states {
        for b in states.iter().filter(|b| b.source == a.source) {
            for way in WAYS {
                let how = format!("{:?} → {:?}, {way:?}", a.name, b.name);
                let mut runner = runner(a.source);
                runner.graph.on_status(SyncStatus::InSync);
                go(&mut runner, &none, &a.objects, Way::AtOnce, &how);
                go(&mut runner, &a.objects, &b.objects, way, &how);
                runner.flush().unwrap_or_else(|e| panic!("{how}: {e}"));
                assert_outcome(&runner, &b.expected, &how);
            }
        }
    }
}

#[test]
fn every_sequence_in_every_way_gives_the_expected_outcome_and_ends_empty() {
    let states = known();
    let find = |name: &String| states.iter().find(|s| s.name == *name);
    for sequence in file().sequences {
        let Some(walk) = sequence.iter().map(find).collect::<Option<Vec<_>>>() else { continue };
        for way in WAYS {
            let how = format!("{sequence:?}, {way:?}");
            let mut runner = runner(walk[0].source);
            runner.graph.on_status(SyncStatus::InSync);
            let none = Objects::new();
            let mut before = &none;
            for state in walk.iter().chain(walk.iter().rev()) {
                go(&mut runner, before, &state.objects, way, &how);
                runner.flush().unwrap_or_else(|e| panic!("{how}: {e}"));
                assert_outcome(&runner, &state.expected, &how);
                before = &state.objects;
            }
            go(&mut runner, before, &none, way, &how);
            runner.flush().unwrap_or_else(|e| panic!("{how}: {e}"));
            assert_outcome(&runner, &Outcome::default(), &how);
            assert_eq!(runner.graph.stats(), felix_calc::Stats::default(), "{how}");
        }
    }
}

#[test]
fn the_incremental_result_is_the_one_from_scratch_message_by_message() {
    let states = known();
    let mut runner = runner(RouteSource::CalicoIpam);
    runner.graph.on_status(SyncStatus::InSync);
    let mut before = Objects::new();
    for state in states.iter().filter(|s| s.source == RouteSource::CalicoIpam) {
        go(&mut runner, &before, &state.objects, Way::OneByOne, &state.name);
        let scratch = Runner::from_scratch(config(state.source), state.objects.values().cloned()).unwrap();
        assert_eq!(runner.mirror, scratch, "{}", state.name);
        before.clone_from(&state.objects);
    }
}

#[test]
fn nothing_is_sent_before_the_datastore_is_in_sync() {
    let state = known().into_iter().find(|s| s.name == "ep1 local, policy").unwrap();
    let mut runner = runner(state.source);
    runner.graph.on_status(SyncStatus::ResyncInProgress);
    state.objects.values().for_each(|u| runner.graph.on_update(u.clone()));
    assert_eq!(runner.flush(), Ok(0));
    runner.graph.on_status(SyncStatus::InSync);
    assert!(runner.flush().unwrap() > 5);
    assert!(runner.mirror.in_sync);
    assert_eq!(runner.flush(), Ok(0));
}

//! Recordings with changes in them, as the fuzz target makes them: whatever they say, messages can be applied in their
//! order, the result is the one from scratch, and no rule lets more through than the datastore's. And what a report
//! says of a file that cannot be compared.

#[path = "../../../fuzz/fuzz_targets/recording/mod.rs"]
mod recording;

use felix_calc::Config;
use felix_calc::outcome::Outcome;
use felix_calc::recording::Event;
use felix_calc::replay::{ReplayError, Report, Runner, run};
use proptest::prelude::*;

const SEEDS: [&str; 6] = [
    include_str!("../../../fuzz/seeds/calc_updates/policy-1.jsonl"),
    include_str!("../../../fuzz/seeds/calc_updates/policy-2.jsonl"),
    include_str!("../../../fuzz/seeds/calc_updates/policy-3.jsonl"),
    include_str!("../../../fuzz/seeds/calc_updates/network-1.jsonl"),
    include_str!("../../../fuzz/seeds/calc_updates/network-2.jsonl"),
    include_str!("../../../fuzz/seeds/calc_updates/sessions.jsonl"),
];

#[test]
fn every_seed_of_the_fuzz_target_replays_clean() {
    for seed in SEEDS {
        let report = run(seed).unwrap();
        assert!(report.is_clean() && report.compared > 0, "{report}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_changed_recording_is_refused_or_sound(
        seed in 0..SEEDS.len(),
        changes in proptest::collection::vec(any::<u32>(), 1..40),
    ) {
        let text = changes.iter().fold(SEEDS[seed].to_owned(), |text, n| recording::mutate(&text, *n));
        if let Ok(report) = run(&text) {
            prop_assert!(report.is_sound(), "{}\n{}", report, text);
        }
    }
}

const ENDPOINT: &str = r#"{"key":"/calico/v1/host/local/workload/k8s/ns%2fp/endpoint/eth0","value":{"state":"active","name":"calip","ipv4_nets":["10.0.0.1/32"],"ipv6_nets":[]}}"#;
const POLICY: &str = r#"{"key":"/calico/v1/policy/GlobalNetworkPolicy//p","value":{"selector":"all()","inbound_rules":[{"action":"allow","protocol":"tcp","src_nets":["10.0.0.0/8"],"dst_ports":[80]}]}}"#;

fn session(hostname: &str, lines: &[&str]) -> String {
    format!(
        "{{\"hostname\":\"{hostname}\"}}\n{}\n{{\"status\":\"in-sync\"}}\n{{\"flush\":true}}\n",
        lines.join("\n")
    )
}

fn clean(text: &str) -> Report {
    let report = run(text).unwrap();
    assert!(report.is_clean(), "{report}");
    report
}

#[test]
fn a_recording_goes_on_with_another_configuration_and_the_datastore_from_its_beginning() {
    // The second Felix is another node's, and the policy has gone meanwhile without anyone telling.
    let both = session("local", &[ENDPOINT, POLICY]) + &session("other", &[ENDPOINT]);
    assert_eq!(clean(&both).compared, 2);
    let three = both + &session("local", &[POLICY]) + "{\"end\":\"full\"}\n";
    assert_eq!(clean(&three).compared, 3);
}

#[test]
fn a_recording_that_never_gets_in_sync_is_no_success() {
    let text = session("local", &[ENDPOINT, POLICY]).replace("in-sync", "resync-in-progress");
    assert!(matches!(run(&text), Err(ReplayError::Shape(why)) if why.contains("in sync")));
    assert!(matches!(run("{\"hostname\":\"local\"}\n"), Err(ReplayError::Shape(_))));
}

#[test]
fn a_datastore_that_takes_back_that_it_is_in_sync_before_anything_was_calculated_is_not() {
    let back = "{\"status\":\"in-sync\"}\n{\"status\":\"resync-in-progress\"}";
    let text = session("local", &[ENDPOINT, POLICY]).replace("{\"status\":\"in-sync\"}", back);
    assert!(matches!(run(&text), Err(ReplayError::Shape(why)) if why.contains("in sync")));
    assert_eq!(clean(&(text + "{\"status\":\"in-sync\"}\n")).compared, 1);
    // Later it changes nothing.
    let text = session("local", &[ENDPOINT, POLICY]) + "{\"status\":\"resync-in-progress\"}\n";
    assert_eq!(clean(&text).compared, 1);
}

#[test]
fn states_that_cannot_be_read_are_named_and_are_no_success() {
    let text = r#"{"local_host":"local","states":{"odd":{"datastore":[{"key":"/nobody/knows","value":{}}]}},"sequences":[["odd"],["absent"]]}"#;
    let report = run(text).unwrap();
    assert!(!report.is_clean() && report.is_sound());
    assert_eq!(report.compared, 0);
    let names: Vec<&str> = report.skipped.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["absent", "odd"]);
    let said = report.to_string();
    assert!(said.contains("skipped \"odd\"") && said.contains("0 compared, 2 skipped"), "{said}");
    assert!(run(r#"{"local_host":"local","states":{},"sequences":[]}"#).is_err());
}

#[test]
fn lists_in_place_of_objects_are_refused() {
    let Event::Update(endpoint) = Event::from_line(ENDPOINT, 1).unwrap() else { panic!("no update") };
    let config = Config { hostname: "local".to_owned(), ..Config::default() };
    let alone = Runner::from_scratch(config, [endpoint]).unwrap();
    let expected = Event::Expected(Box::new(Outcome::from(&alone))).to_line();
    for policy in [
        r#"{"selector":"all()","inbound_rules":[[]]}"#,
        r#"{"selector":"all()","inbound_rules":[{"action":"deny"},["allow"]]}"#,
        r#"["","",1,[],[],"all()"]"#,
    ] {
        let refused = POLICY.split_once("\"value\":").unwrap().0.to_owned() + "\"value\":" + policy + "}";
        let text = session("local", &[ENDPOINT, POLICY, &refused]) + &expected + "\n";
        let report = clean(&text);
        assert_eq!(report.compared, 2, "{policy}");
    }
}

//! Random histories: whatever the order, batching, repetition or needless deletion, the messages can be applied one by
//! one and what stands in the end is what the last objects give from scratch.

mod world;

use std::collections::BTreeMap;

use felix_calc::mirror::Mirror;
use felix_calc::outcome::Outcome;
use felix_calc::recording::Event;
use felix_calc::replay::{Runner, run};
use felix_calc::{Config, RouteSource, Stats};
use libcalico_model::{Key, SyncStatus, Value};
use proptest::prelude::*;
use world::{Objects, config, update, updates};

#[derive(Clone, Debug)]
enum Step {
    Set(Key, Box<Value>),
    Delete(Key),
    Flush,
}

fn step(object: impl Strategy<Value = (Key, Value)> + Clone) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => object.clone().prop_map(|(k, v)| Step::Set(k, Box::new(v))),
        2 => object.prop_map(|(k, _)| Step::Delete(k)),
        2 => Just(Step::Flush),
    ]
}

/// Goes through a history; compares its end with its last objects from scratch, then takes everything away.
fn check(steps: Vec<Step>, in_sync_at: usize, config: &Config) -> Result<(), TestCaseError> {
    let mut runner = Runner::new(config.clone());
    let mut objects: Objects = BTreeMap::new();
    for (i, step) in steps.into_iter().enumerate() {
        if i == in_sync_at {
            runner.graph.on_status(SyncStatus::InSync);
        }
        match step {
            Step::Set(key, value) => {
                runner.graph.on_update(update(&key, Some((*value).clone())));
                objects.insert(key, *value);
            }
            Step::Delete(key) => {
                runner.graph.on_update(update(&key, None));
                objects.remove(&key);
            }
            Step::Flush => {
                runner.flush().map_err(TestCaseError::fail)?;
            }
        }
    }
    runner.graph.on_status(SyncStatus::InSync);
    runner.flush().map_err(TestCaseError::fail)?;
    let scratch = Runner::from_scratch(config.clone(), updates(&objects)).map_err(TestCaseError::fail)?;
    prop_assert_eq!(&runner.mirror, &scratch);
    // Nothing is left to say, and nothing is left behind.
    prop_assert_eq!(runner.flush(), Ok(0));
    for key in objects.keys() {
        runner.graph.on_update(update(key, None));
    }
    runner.flush().map_err(TestCaseError::fail)?;
    prop_assert_eq!(runner.graph.stats(), Stats::default());
    let empty = Mirror { in_sync: true, ..Mirror::default() };
    prop_assert_eq!(&runner.mirror, &empty);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_history_of_policy_ends_where_its_last_objects_lead(
        steps in proptest::collection::vec(step(world::object().boxed()), 0..60),
        in_sync_at in 0usize..20,
    ) {
        check(steps, in_sync_at, &config())?;
    }

    #[test]
    fn any_history_of_the_network_ends_where_its_last_objects_lead(
        steps in proptest::collection::vec(step(world::network_object().boxed()), 0..60),
        in_sync_at in 0usize..20,
        workload_ips in any::<bool>(),
    ) {
        let route_source = if workload_ips { RouteSource::WorkloadIps } else { RouteSource::CalicoIpam };
        check(steps, in_sync_at, &Config { route_source, ..config() })?;
    }

    #[test]
    fn a_recording_replays_into_the_same_outcome(
        steps in proptest::collection::vec(step(world::object().boxed()), 0..30),
    ) {
        let mut runner = Runner::new(config());
        let mut text = vec![Event::Start(config()).to_line(), Event::Status(SyncStatus::InSync).to_line()];
        runner.graph.on_status(SyncStatus::InSync);
        for step in steps {
            let event = match step {
                Step::Set(key, value) => Event::Update(update(&key, Some(*value))),
                Step::Delete(key) => Event::Update(update(&key, None)),
                Step::Flush => Event::Flush,
            };
            if let Event::Update(update) = &event {
                runner.graph.on_update(update.clone());
            }
            text.push(event.to_line());
        }
        runner.flush().map_err(TestCaseError::fail)?;
        text.push(Event::Expected(Box::new(Outcome::from(&runner.mirror))).to_line());
        let report = run(&text.join("\n")).unwrap();
        prop_assert!(report.is_clean(), "{}", report);
        prop_assert_eq!(report.compared, 2);
    }

    #[test]
    fn arbitrary_text_is_replayed_or_refused_but_never_panics(
        text in prop_oneof![any::<String>(), "(\\{\"(key|status|flush|value)\":\"?[a-z/]*\"?\\}\n){0,5}"],
    ) {
        let _ = run(&text);
    }
}

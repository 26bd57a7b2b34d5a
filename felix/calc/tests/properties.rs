//! Random histories: whatever the order, batching, repetition or needless deletion, the messages can be applied one by
//! one and what stands in the end is what the last objects give from scratch.

mod world;

use std::collections::BTreeMap;

use felix_calc::Stats;
use felix_calc::replay::Runner;
use libcalico_model::{Key, SyncStatus, Value};
use proptest::prelude::*;
use world::{Objects, config, update, updates};

#[derive(Clone, Debug)]
enum Step {
    Set(Key, Box<Value>),
    Delete(Key),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => world::object().prop_map(|(k, v)| Step::Set(k, Box::new(v))),
        2 => world::object().prop_map(|(k, _)| Step::Delete(k)),
        2 => Just(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_ends_where_its_last_objects_lead(
        steps in proptest::collection::vec(step(), 0..60),
        in_sync_at in 0usize..20,
    ) {
        let mut runner = Runner::new(config());
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
        let scratch = Runner::from_scratch(config(), updates(&objects)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&runner.mirror, &scratch);
        // Nothing is left to say, and nothing is left behind.
        prop_assert_eq!(runner.flush(), Ok(0));
        for key in objects.keys() {
            runner.graph.on_update(update(key, None));
        }
        runner.flush().map_err(TestCaseError::fail)?;
        prop_assert_eq!(runner.graph.stats(), Stats::default());
    }
}

//! The built command against real datastores. What holds for every datastore is said once and tried on a real etcd and
//! on a real API server.

mod common;
mod configuration;
mod flags;
mod get;
mod host;
mod ipam_cluster;
mod ipam_repair;
mod ipam_show;
mod migrate;
mod node_and_manual;
mod node_status;
mod policy;
mod round_trip;
mod scenarios;
mod stored;
mod write;
mod wrong_files;

use common::{Cluster, Etcd, Kubernetes};

/// Every behaviour by itself on an etcd of its own, and all of them, one after the other, on one API server.
macro_rules! on_both {
    ($($module:ident { $($behaviour:ident,)* })*) => {
        mod on_etcd {
            $(mod $module {
                $(#[test]
                fn $behaviour() {
                    let Some(etcd) = crate::Etcd::start() else { return };
                    crate::$module::$behaviour(&etcd);
                })*
            })*
        }

        /// Their names and themselves.
        const BEHAVIOURS: &[(&str, fn(&dyn Cluster))] = &[
            $($((concat!(stringify!($module), "::", stringify!($behaviour)), $module::$behaviour),)*)*
        ];
    };
}

on_both! {
    scenarios {
        every_object_of_the_founding_documents_is_accepted,
        a_policy_with_an_unknown_field_changes_nothing,
    }
    round_trip {
        every_field_of_every_kind_survives,
    }
    write {
        applying_creates_and_then_updates_and_initialises_the_datastore,
        messages_and_exit_codes_are_upstreams,
        patching_and_labelling_change_one_object,
        one_wrong_document_stops_everything_before_the_first_write,
        rules_between_objects_are_checked,
        what_was_printed_can_be_applied_again_and_changes_nothing,
        the_namespace_comes_from_the_object_or_the_flag,
        a_partial_failure_says_what_was_applied_and_which_document_was_not,
        a_pool_keeps_its_block_size,
        policies_of_kubernetes_are_read_strictly_and_change_nothing,
        a_policy_of_kubernetes_is_shown_in_calicos_form_and_convert_prints_it,
    }
    ipam_cluster {
        what_leaked_is_found_reported_and_released,
        pods_outside_of_ipam_and_addresses_of_two_are_found,
        settings_and_pools_change_as_everywhere,
    }
    policy {
        the_answer_names_what_decides_at_both_ends_and_the_steps,
        without_a_port_the_answer_names_the_ports_it_holds_for,
        pods_that_do_not_exist_yet_and_the_outside_are_judged_too,
        the_matrix_and_json_say_the_same,
        steps_end_with_what_decided,
        a_diff_names_the_pairs_that_would_change_and_writes_nothing,
        host_endpoints_are_judged_with_their_own_stages,
    }
}

#[test]
fn every_behaviour_holds_on_kubernetes() {
    let Some(cluster) = Kubernetes::start() else { return };
    let only = std::env::var("BEHAVIOUR").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, behaviour) in BEHAVIOURS.iter().filter(|(name, _)| name.contains(&only)) {
        cluster.reset();
        let run = std::panic::AssertUnwindSafe(|| behaviour(&cluster));
        if std::panic::catch_unwind(run).is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "on Kubernetes: {}", failed.join(", "));
}

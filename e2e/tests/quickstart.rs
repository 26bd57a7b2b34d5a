//! The quickstart's table, with both pods on one node and on two nodes.

mod common;

use common::{ETCD, can_run, config, up};
use e2e::LabConfig;

#[test]
fn every_row_of_the_quickstart_is_as_expected() {
    if !can_run(&[ETCD]) {
        return;
    }
    let lab = up(LabConfig { nodes: 2, ..config("tq") });
    let report = lab.quickstart(&|line| eprintln!("{line}")).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.passed(), "\n{report}");
    // Five steps; one node, two nodes, outside.
    assert_eq!(report.rows.len(), 15);
    assert!(lab.state().pods().is_empty(), "the quickstart left pods");
    let policies = lab.calicoctl(&["get", "globalnetworkpolicy", "-o", "json"], "").unwrap();
    assert!(!policies.contains("default-deny"), "the quickstart left policies: {policies}");
}

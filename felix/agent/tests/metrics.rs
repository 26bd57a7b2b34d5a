//! Our figures against upstream's list (`upstream/metrics.tsv`: name, type, labels), and which of it is absent, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_felix::metrics::Metrics;
use felix_calc::Stats;
use felix_dataplane::apply::{Outcome, Stats as DataplaneStats};
use felix_dataplane::config::Backend;
use felix_message::Message;
use prometheus::proto::{MetricFamily, MetricType};

/// Names, or how they begin (`…*`), that are not here.
const ABSENT: [(&str, &[&str]); 8] = [
    ("eBPF is not here yet", &["felix_bpf_*"]),
    ("WireGuard is not here yet", &["wireguard_*"]),
    ("flow logs are not here yet", &["felix_collector_*", "felix_nflog_*"]),
    ("flow tables are not here yet", &["felix_nft_flowtable_*"]),
    ("sets change in the transaction of their table", &["felix_nft_set_calls", "felix_nft_set_errors"]),
    ("no log line is dropped, and none fails", &["felix_log_errors", "felix_logs_dropped"]),
    ("a route does not wait for connections to be removed", &["felix_route_table_conntrack_wait_seconds"]),
    (
        "labels are looked up; selectors are not evaluated one by one",
        &[
            "felix_label_index_num_active_selectors",
            "felix_label_index_selector_evals",
            "felix_label_index_strategy_evals",
        ],
    ),
];

/// Figures that only one kind of backend has.
const OF_IPTABLES: [&str; 2] = ["felix_iptables_", "felix_ipset_"];
const OF_NFTABLES: [&str; 1] = ["felix_nft_"];

/// What a Felix serves that has done a little of everything.
fn families(backend: Backend) -> BTreeMap<String, MetricFamily> {
    let m = Metrics::new("n1", backend).unwrap();
    m.update("v3.Node");
    m.status(2);
    m.calculated(Duration::from_millis(1), &[Message::InSync], Stats::default());
    m.applied(&Outcome::default(), &DataplaneStats::default(), Duration::from_millis(1), 1);
    m.registry(true).unwrap().gather().into_iter().map(|f| (f.name().to_owned(), f)).collect()
}

fn absent(name: &str) -> bool {
    ABSENT.iter().flat_map(|(_, names)| names.iter()).any(|n| match n.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *n == name,
    })
}

#[test]
fn a_time_has_upstreams_quantiles() {
    let ours = families(Backend::Nftables);
    let quantiles =
        ours["felix_int_dataplane_apply_time_seconds"].get_metric()[0].get_summary().get_quantile();
    assert_eq!(
        quantiles.iter().map(prometheus::proto::Quantile::quantile).collect::<Vec<_>>(),
        [0.5, 0.9, 0.99]
    );
    assert!((quantiles[0].value() - 0.001).abs() < 0.000_02, "{quantiles:?}");
}

#[test]
fn every_figure_of_upstream_is_served_or_named_as_absent() {
    for (backend, without) in [
        (Backend::Nftables, &OF_IPTABLES[..]),
        (Backend::IptablesNft, &OF_NFTABLES),
        (Backend::IptablesLegacy, &OF_NFTABLES),
    ] {
        let ours = families(backend);
        for line in include_str!("upstream/metrics.tsv").lines() {
            let words: Vec<&str> = line.split('\t').collect();
            let (name, kind, labels) = (words[0], words[1], words[2]);
            let other_backend = without.iter().any(|p| name.starts_with(p));
            let Some(family) = ours.get(name) else {
                assert!(absent(name) || other_backend, "{backend:?}: {name} is missing");
                continue;
            };
            assert!(!absent(name) && !other_backend, "{backend:?}: {name} is there");
            let ours = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                MetricType::SUMMARY => "summary",
                _ => "other",
            };
            assert_eq!(ours, kind, "{name}");
            let of = |m: &prometheus::proto::Metric| -> BTreeSet<String> {
                m.get_label().iter().map(|l| l.name().to_owned()).filter(|l| l != "host").collect()
            };
            let want: BTreeSet<String> =
                labels.split(", ").filter(|l| !l.is_empty()).map(str::to_owned).collect();
            assert_eq!(of(&family.get_metric()[0]), want, "labels of {name}");
        }
    }
}

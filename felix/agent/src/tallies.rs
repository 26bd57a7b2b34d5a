//! What the dataplane counts by itself, under upstream's names.
//!
//! In: [`felix_dataplane::tally`]. Out: families of metrics, read when they are asked for. Always holds: of the backends
//! that are not in use there is no family.

use std::collections::HashMap;

use felix_dataplane::config::Backend;
use felix_dataplane::rule::{Family, Table};
use felix_dataplane::tally::TALLY;
use libcalico_telemetry::Distribution;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

/// Name, help, and what was observed.
type Observed = (&'static str, &'static str, &'static Distribution);

static OBSERVED: [Observed; 5] = [
    ("felix_exec_time_micros", "Microseconds that programs took.", &TALLY.programs),
    ("felix_route_table_resync_seconds", "Seconds that it took to compare all routes.", &TALLY.route_resyncs),
    (
        "felix_route_table_partial_resync_seconds",
        "Seconds that it took to write routes that changed.",
        &TALLY.route_changes,
    ),
    (
        "felix_int_dataplane_iface_msg_batch_size",
        "Notifications of interfaces that were taken at once.",
        &TALLY.interface_events,
    ),
    (
        "felix_int_dataplane_addr_msg_batch_size",
        "Notifications of addresses that were taken at once.",
        &TALLY.address_events,
    ),
];

const LINES: &str = "felix_iptables_lines_executed";

/// The collector.
#[derive(Clone, Debug)]
pub struct Tallies {
    backend: Backend,
    descs: Vec<Desc>,
}

impl Tallies {
    /// For a backend.
    ///
    /// # Errors
    /// None that can happen with these names.
    pub fn new(backend: Backend) -> prometheus::Result<Self> {
        let plain = |name: &str, help: &str| desc(name, help, &[]);
        let mut descs: Vec<Desc> =
            OBSERVED.iter().map(|(name, help, _)| plain(name, help)).collect::<Result<_, _>>()?;
        for (name, help, _) in counts(backend) {
            descs.push(plain(name, help)?);
        }
        if backend != Backend::Nftables {
            descs.push(desc(LINES, LINES_HELP, &["ip_version", "table"])?);
        }
        Ok(Self { backend, descs })
    }
}

const LINES_HELP: &str = "Lines that iptables-restore was given.";

fn desc(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Desc> {
    let labels = labels.iter().map(|l| (*l).to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
}

/// Counters of a backend.
fn counts(backend: Backend) -> Vec<(&'static str, &'static str, u64)> {
    if backend == Backend::Nftables {
        return vec![
            ("felix_nft_calls", "nftables transactions.", TALLY.table_calls.get()),
            ("felix_nft_errors", "nftables transactions that failed.", TALLY.table_errors.get()),
            ("felix_nft_list_errors", "Read-backs of nftables that failed.", TALLY.read_errors.get()),
        ];
    }
    vec![
        ("felix_iptables_restore_calls", "Runs of iptables-restore.", TALLY.table_calls.get()),
        ("felix_iptables_restore_errors", "Runs of iptables-restore that failed.", TALLY.table_errors.get()),
        ("felix_iptables_save_errors", "Read-backs of iptables that failed.", TALLY.read_errors.get()),
        ("felix_ipset_calls", "Batches of changes to IP sets.", TALLY.set_calls.get()),
        ("felix_ipset_errors", "Batches of changes to IP sets that were refused.", TALLY.set_errors.get()),
        ("felix_ipset_lines_executed", "Changes to IP sets.", TALLY.set_lines.get()),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut out = MetricFamily::default();
    out.set_name(name.to_owned());
    out.set_help(help.to_owned());
    out.set_field_type(kind);
    out.set_metric(metrics);
    out
}

fn counter(value: u64, labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric.set_counter(counter);
    metric
}

impl Collector for Tallies {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let observed = OBSERVED.iter().map(|(name, help, observed)| observed.family(name, help));
        let counts = counts(self.backend)
            .into_iter()
            .map(|(name, help, value)| family(name, help, MetricType::COUNTER, vec![counter(value, &[])]));
        let mut out: Vec<MetricFamily> = observed.chain(counts).collect();
        if self.backend != Backend::Nftables {
            let line = |family: Family, table: Table| {
                let version = if family == Family::V4 { "4" } else { "6" };
                let labels = [("ip_version", version), ("table", table.name())];
                counter(TALLY.restore_lines(family, table).get(), &labels)
            };
            let lines = Family::BOTH.into_iter().flat_map(|f| Table::ALL.map(|t| line(f, t)));
            out.push(family(LINES, LINES_HELP, MetricType::COUNTER, lines.collect()));
        }
        out
    }
}

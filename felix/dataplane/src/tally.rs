//! How often this process asked the kernel or a program for something, and how long it took: for metrics.
//!
//! In: what drivers note. Out: numbers that only grow. Always holds: noting costs an addition, and nothing waits. They
//! are the process's, as a scrape's counters are: a dataplane that begins anew goes on counting.

use std::sync::atomic::{AtomicU64, Ordering};

use libcalico_telemetry::Distribution;

use crate::rule::{Family, Table};

/// A number of events.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// So many more.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that is noted.
#[derive(Debug)]
pub struct Tally {
    /// Programs that were run: microseconds of each.
    pub programs: Distribution,
    /// Batches of changes to IP sets, those that were refused, and operations in them.
    pub set_calls: Count,
    pub set_errors: Count,
    pub set_lines: Count,
    /// Transactions of nf_tables, or runs of `iptables-restore`, and those of them that failed.
    pub table_calls: Count,
    pub table_errors: Count,
    /// Lines for `iptables-restore`, by family and table.
    restore_lines: [[Count; Table::ALL.len()]; 2],
    /// Read-backs of tables that failed.
    pub read_errors: Count,
    /// Routes: everything compared, or what changed written; seconds of each.
    pub route_resyncs: Distribution,
    pub route_changes: Distribution,
    /// Notifications of interfaces and of addresses that were taken at once: how many.
    pub interface_events: Distribution,
    pub address_events: Distribution,
}

/// The process's.
pub static TALLY: Tally = Tally {
    programs: Distribution::new(),
    set_calls: Count::new(),
    set_errors: Count::new(),
    set_lines: Count::new(),
    table_calls: Count::new(),
    table_errors: Count::new(),
    restore_lines: [const { [const { Count::new() }; Table::ALL.len()] }; 2],
    read_errors: Count::new(),
    route_resyncs: Distribution::new(),
    route_changes: Distribution::new(),
    interface_events: Distribution::new(),
    address_events: Distribution::new(),
};

impl Tally {
    /// Lines for `iptables-restore` of a family and table.
    #[must_use]
    pub fn restore_lines(&self, family: Family, table: Table) -> &Count {
        &self.restore_lines[family.index()][table.index()]
    }
}

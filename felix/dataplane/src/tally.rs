//! How often this process asked the kernel or a program for something, and how long it took: for metrics.
//!
//! In: what drivers note. Out: numbers that only grow. Always holds: noting costs an addition, and nothing waits. They
//! are the process's, as a scrape's counters are: a dataplane that begins anew goes on counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// A number of events, and a sum over them.
#[derive(Debug, Default)]
pub struct Sum {
    count: Count,
    total: Count,
}

impl Sum {
    const fn new() -> Self {
        Self { count: Count::new(), total: Count::new() }
    }

    /// One more event, of this size.
    pub fn add(&self, size: usize) {
        self.total.add(size);
        self.count.add(1);
    }

    /// One more event, which began then; its size is in microseconds.
    pub fn since(&self, begin: Instant) {
        self.took(begin.elapsed());
    }

    /// One more event, which took so long; its size is in microseconds.
    pub fn took(&self, time: Duration) {
        self.add(usize::try_from(time.as_micros()).unwrap_or(usize::MAX));
    }

    /// Number and sum so far.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (self.count.get(), self.total.get())
    }
}

/// All that is noted.
#[derive(Debug)]
pub struct Tally {
    /// Programs that were run; microseconds.
    pub programs: Sum,
    /// Batches of changes to IP sets, those that were refused, and operations in them.
    pub set_calls: Count,
    pub set_errors: Count,
    pub set_lines: Count,
    /// Lines for `iptables-restore`, by family and table.
    restore_lines: [[Count; Table::ALL.len()]; 2],
    /// Read-backs of tables that failed.
    pub read_errors: Count,
    /// Routes: everything compared, or what changed written; microseconds.
    pub route_resyncs: Sum,
    pub route_changes: Sum,
    /// Notifications of interfaces and of addresses that were taken at once.
    pub interface_events: Sum,
    pub address_events: Sum,
}

/// The process's.
pub static TALLY: Tally = Tally {
    programs: Sum::new(),
    set_calls: Count::new(),
    set_errors: Count::new(),
    set_lines: Count::new(),
    restore_lines: [const { [const { Count::new() }; Table::ALL.len()] }; 2],
    read_errors: Count::new(),
    route_resyncs: Sum::new(),
    route_changes: Sum::new(),
    interface_events: Sum::new(),
    address_events: Sum::new(),
};

impl Tally {
    /// Lines for `iptables-restore` of a family and table.
    #[must_use]
    pub fn restore_lines(&self, family: Family, table: Table) -> &Count {
        &self.restore_lines[family.index()][table.index()]
    }
}

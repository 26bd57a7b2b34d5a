//! Typha's figures under upstream's names.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::cache::Counts;
use crate::kind::SyncerKind;

/// Typha's figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub connections_accepted: IntCounter,
    pub connections_active: IntGauge,
    pub connections_dropped: IntCounter,
    connections_streaming: IntGaugeVec,
    connections_grace_used: IntCounterVec,
    cache_size: IntGaugeVec,
    breadcrumb_seq_number: IntGaugeVec,
    snapshots_generated: IntCounterVec,
    snapshots_reused: IntCounterVec,
    snapshot_raw_bytes: IntGaugeVec,
    updates_total: IntCounterVec,
    updates_skipped: IntCounterVec,
}

impl Metrics {
    /// Registers every figure. Fails where the registry has one of the names already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let c = IntCounter::new(name, help)?;
            registry.register(Box::new(c.clone()))?;
            prometheus::Result::Ok(c)
        };
        let counters = |name: &str, help: &str| {
            let c = IntCounterVec::new(Opts::new(name, help), &["syncer"])?;
            registry.register(Box::new(c.clone()))?;
            prometheus::Result::Ok(c)
        };
        let gauges = |name: &str, help: &str| {
            let g = IntGaugeVec::new(Opts::new(name, help), &["syncer"])?;
            registry.register(Box::new(g.clone()))?;
            prometheus::Result::Ok(g)
        };
        let active = IntGauge::new("typha_connections_active", "Number of open client connections.")?;
        registry.register(Box::new(active.clone()))?;
        Ok(Self {
            connections_accepted: counter("typha_connections_accepted", "Connections accepted over time.")?,
            connections_active: active,
            connections_dropped: counter(
                "typha_connections_dropped",
                "Connections ended by the server: slow, silent, too many or shutting down.",
            )?,
            connections_streaming: gauges(
                "typha_connections_streaming",
                "Clients that are up to date or on their way.",
            )?,
            connections_grace_used: counters(
                "typha_connections_grace_used",
                "New clients that were behind and were given more time.",
            )?,
            cache_size: gauges("typha_cache_size", "Keys in the cache.")?,
            breadcrumb_seq_number: gauges("typha_breadcrumb_seq_number", "Number of the last change.")?,
            snapshots_generated: counters("typha_snapshots_generated", "Snapshots made for new clients.")?,
            snapshots_reused: counters(
                "typha_snapshots_reused",
                "New clients that got a snapshot made before.",
            )?,
            snapshot_raw_bytes: gauges("typha_snapshot_raw_bytes", "Size of the last snapshot.")?,
            updates_total: counters("typha_updates_total", "Updates received from the datastore.")?,
            updates_skipped: counters("typha_updates_skipped", "Updates that changed nothing.")?,
        })
    }

    /// A client of a stream came (1) or went (-1).
    pub fn streaming(&self, kind: SyncerKind, by: i64) {
        self.connections_streaming.with_label_values(&[kind.name()]).add(by);
    }

    /// A new client needed its time of grace.
    pub fn grace_used(&self, kind: SyncerKind) {
        self.connections_grace_used.with_label_values(&[kind.name()]).inc();
    }

    /// What happened in a cache between two looks at it.
    pub fn cache(&self, kind: SyncerKind, keys: usize, seq: u64, before: Counts, now: Counts) {
        let label = &[kind.name()];
        let gauge = |g: &IntGaugeVec, n: u64| {
            g.with_label_values(label).set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        gauge(&self.cache_size, keys as u64);
        gauge(&self.breadcrumb_seq_number, seq);
        gauge(&self.snapshot_raw_bytes, now.snapshot_bytes);
        for (counter, before, now) in [
            (&self.updates_total, before.updates, now.updates),
            (&self.updates_skipped, before.skipped, now.skipped),
            (&self.snapshots_generated, before.snapshots_generated, now.snapshots_generated),
            (&self.snapshots_reused, before.snapshots_reused, now.snapshots_reused),
        ] {
            counter.with_label_values(label).inc_by(now.saturating_sub(before));
        }
    }
}

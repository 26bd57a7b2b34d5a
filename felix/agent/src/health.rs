//! Health of the loops: the calculation, the dataplane's thread, and those that go along with it.
//!
//! In: signs of life and the dataplane's reports. Out: `/liveness` and `/readiness`. Always holds: a loop that hangs is
//! not live after its timeout; ready is said only when the datastore is in sync and the kernel holds what is desired.
//! Left out: the reporter to etcd, whose silence another Felix would not cure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libcalico_telemetry::{HealthAggregator, HealthReport, Reporter};

const CALCULATION: &str = "CalculationGraph";
const DATAPLANE: &str = "InternalDataplaneMainLoop";
/// Longest silence of the calculation.
const CALCULATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest silences of the loops; zero: not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub dataplane: Duration,
    /// By the loop's name, instead of its usual one.
    pub overrides: BTreeMap<String, Duration>,
}

/// Health of this process.
#[derive(Clone, Debug)]
pub struct Health {
    pub aggregator: Arc<HealthAggregator>,
    timeouts: Timeouts,
}

/// Loops that go along with the dataplane, by their names in health reports.
pub const RULE_COUNTERS: &str = "RuleCounters";
/// See [`RULE_COUNTERS`].
pub const FLOW_CUTTER: &str = "FlowCutter";
/// See [`RULE_COUNTERS`].
pub const CONNTRACK_CLEANER: &str = "ConntrackCleaner";
/// See [`RULE_COUNTERS`].
pub const STATUS_FILES: &str = "EndpointStatusFiles";

/// How often a loop that waits gives a sign of life.
pub const BEAT: Duration = Duration::from_secs(5);

/// Watches one loop until it is dropped by a loop that ends. One that panics stays watched, and is not live after its
/// timeout.
#[derive(Debug)]
pub struct Beat {
    aggregator: Arc<HealthAggregator>,
    name: &'static str,
}

impl Beat {
    /// The loop goes round.
    pub fn beat(&self) {
        self.aggregator.report(self.name, HealthReport { live: true, ready: true }, "");
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.aggregator.deregister(self.name);
        }
    }
}

impl Health {
    /// Both loops, not ready yet.
    #[must_use]
    pub fn new(timeouts: &Timeouts) -> Self {
        let aggregator = Arc::new(HealthAggregator::new());
        for (name, usual) in [(CALCULATION, CALCULATION_TIMEOUT), (DATAPLANE, timeouts.dataplane)] {
            let timeout = timeouts.overrides.get(name).copied().unwrap_or(usual);
            let timeout = Some(timeout).filter(|t| !t.is_zero());
            aggregator.register(name, Reporter { live: true, ready: true, timeout });
        }
        Self { aggregator, timeouts: timeouts.clone() }
    }

    /// Longest silence of a loop that goes along with the dataplane. `None`: not watched.
    #[must_use]
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        let timeout = self.timeouts.overrides.get(name).copied().unwrap_or(self.timeouts.dataplane);
        Some(timeout).filter(|t| !t.is_zero())
    }

    /// Watches one more loop: it is not live where it gives no sign of life for as long as the dataplane may.
    #[must_use]
    pub fn watch(&self, name: &'static str) -> Beat {
        let timeout = self.timeout(name);
        self.aggregator.register(name, Reporter { live: true, ready: false, timeout });
        let beat = Beat { aggregator: self.aggregator.clone(), name };
        beat.beat();
        beat
    }

    /// The calculation goes round; `waits_for`: why it has no result.
    pub fn calculation(&self, waits_for: Option<&str>) {
        let report = HealthReport { live: true, ready: waits_for.is_none() };
        self.aggregator.report(CALCULATION, report, waits_for.unwrap_or_default());
    }

    /// The dataplane goes round; `problem`: why it does not hold what it should.
    pub fn dataplane(&self, programmed: bool, problem: Option<&str>) {
        let ready = programmed && problem.is_none();
        let detail = problem.unwrap_or(if programmed { "" } else { "nothing programmed yet" });
        self.aggregator.report(DATAPLANE, HealthReport { live: true, ready }, detail);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_loop_that_goes_along_is_live_while_it_beats_and_forgotten_when_it_ends() {
        let unwatched = [CALCULATION, DATAPLANE].map(|n| (n.to_owned(), Duration::ZERO));
        let health =
            Health::new(&Timeouts { dataplane: Duration::from_secs(90), overrides: unwatched.into() });
        health.calculation(None);
        health.dataplane(true, None);
        let beat = health.watch(RULE_COUNTERS);
        let live =
            |after: u64| health.aggregator.summary_at(Instant::now() + Duration::from_secs(after)).live;
        assert!(live(10) && !live(91));
        beat.beat();
        assert!(live(10));
        drop(beat);
        assert!(live(91) && health.aggregator.summary().ready);
    }

    #[test]
    fn a_loop_that_panics_is_not_forgotten() {
        let unwatched = [CALCULATION, DATAPLANE].map(|n| (n.to_owned(), Duration::ZERO));
        let health =
            Health::new(&Timeouts { dataplane: Duration::from_secs(90), overrides: unwatched.into() });
        let beat = health.watch(FLOW_CUTTER);
        let ended = std::thread::spawn(move || {
            let _beat = beat;
            // Without the message that a panic prints.
            std::panic::resume_unwind(Box::new("a mistake"));
        });
        assert!(ended.join().is_err());
        assert!(!health.aggregator.summary_at(Instant::now() + Duration::from_secs(91)).live);
    }
}

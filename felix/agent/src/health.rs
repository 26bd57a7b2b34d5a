//! Health of the two loops: the calculation and the dataplane's thread.
//!
//! In: signs of life and the dataplane's reports. Out: `/liveness` and `/readiness`. Always holds: a loop that hangs is
//! not live after its timeout; ready is said only when the datastore is in sync and the kernel holds what is desired.

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
        Self { aggregator }
    }

    /// The calculation goes round.
    pub fn calculation(&self, in_sync: bool) {
        let detail = if in_sync { "" } else { "waiting for the datastore" };
        self.aggregator.report(CALCULATION, HealthReport { live: true, ready: in_sync }, detail);
    }

    /// The dataplane goes round; `problem`: why it does not hold what it should.
    pub fn dataplane(&self, programmed: bool, problem: Option<&str>) {
        let ready = programmed && problem.is_none();
        let detail = problem.unwrap_or(if programmed { "" } else { "nothing programmed yet" });
        self.aggregator.report(DATAPLANE, HealthReport { live: true, ready }, detail);
    }
}

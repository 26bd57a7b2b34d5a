//! Health of the two loops: the calculation and the dataplane's thread.
//!
//! In: signs of life and the dataplane's reports. Out: `/liveness` and `/readiness`. Always holds: a loop that hangs is
//! not live after its timeout; ready is said only when the datastore is in sync and the kernel holds what is desired.

use std::sync::Arc;
use std::time::Duration;

use libcalico_telemetry::{HealthAggregator, HealthReport, Reporter};

const CALCULATION: &str = "CalculationGraph";
const DATAPLANE: &str = "InternalDataplaneMainLoop";
/// Longest silence of the calculation.
const CALCULATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Health of this process.
#[derive(Clone, Debug)]
pub struct Health {
    pub aggregator: Arc<HealthAggregator>,
}

impl Health {
    /// Both loops, not ready yet. `watchdog`: longest silence of the dataplane; zero: it is not watched.
    #[must_use]
    pub fn new(watchdog: Duration) -> Self {
        let aggregator = Arc::new(HealthAggregator::new());
        let timeout = |t: Duration| Some(t).filter(|t| !t.is_zero());
        aggregator.register(
            CALCULATION,
            Reporter { live: true, ready: true, timeout: timeout(CALCULATION_TIMEOUT) },
        );
        aggregator.register(DATAPLANE, Reporter { live: true, ready: true, timeout: timeout(watchdog) });
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

//! Whether a process is live and ready, from the reports of its parts.
//!
//! In come registrations (what a part will report, and how often at least) and reports; out goes a summary with
//! upstream's table. Always holds: a part that registered and has not reported, or whose last report is older than its
//! timeout, counts as not live and not ready: a stuck thread cannot look healthy. Left out: serving it ([`crate::http`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a part says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub live: bool,
    pub ready: bool,
}

/// What a part reports at all. What it does not report is not asked of it.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Reports liveness.
    pub live: bool,
    /// Reports readiness.
    pub ready: bool,
    /// Longest time between two reports; `None`: one report holds until the next.
    pub timeout: Option<Duration>,
}

#[derive(Debug)]
struct State {
    reporter: Reporter,
    last: HealthReport,
    detail: String,
    at: Option<Instant>,
}

impl State {
    fn timed_out(&self, now: Instant) -> bool {
        let Some(timeout) = self.reporter.timeout else { return self.at.is_none() };
        self.at.is_none_or(|at| now.saturating_duration_since(at) > timeout)
    }

    fn live(&self, now: Instant) -> bool {
        !self.reporter.live || (self.last.live && !self.timed_out(now))
    }

    fn ready(&self, now: Instant) -> bool {
        !self.reporter.ready || (self.last.ready && !self.timed_out(now))
    }
}

/// Health of the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub live: bool,
    pub ready: bool,
    /// A table with a line for each part.
    pub detail: String,
}

/// Collects reports. Shared between the parts and the server; all calls are short.
#[derive(Debug, Default)]
pub struct HealthAggregator {
    parts: Mutex<BTreeMap<String, State>>,
}

impl HealthAggregator {
    /// Without parts a process is live and ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a part. Until its first report it counts as not live and not ready, as far as it reports either.
    /// A liveness reporter gets its whole timeout for the first report.
    pub fn register(&self, name: &str, reporter: Reporter) {
        // A part that has just started is live: it gets its timeout to say otherwise.
        let at = reporter.timeout.map(|_| Instant::now());
        let last = HealthReport { live: true, ready: false };
        let state = State { reporter, last, detail: String::new(), at };
        self.lock().insert(name.to_owned(), state);
    }

    /// Takes a part out again.
    pub fn deregister(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Reports a part's health. Logs changes alone. Unknown parts are ignored with a warning.
    pub fn report(&self, name: &str, report: HealthReport, detail: &str) {
        let mut parts = self.lock();
        let Some(state) = parts.get_mut(name) else {
            tracing::warn!(reporter = name, "health report of a part that is not registered");
            return;
        };
        if state.last != report || state.detail != detail {
            tracing::info!(
                reporter = name,
                live = report.live,
                ready = report.ready,
                detail,
                "health of a part changed"
            );
        }
        state.last = report;
        detail.clone_into(&mut state.detail);
        state.at = Some(Instant::now());
    }

    /// The health now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary_at(Instant::now())
    }

    /// The health at a time.
    #[must_use]
    pub fn summary_at(&self, now: Instant) -> Summary {
        let parts = self.lock();
        let mut rows = vec![["COMPONENT", "TIMEOUT", "LIVENESS", "READINESS", "DETAIL"].map(str::to_owned)];
        for (name, s) in parts.iter() {
            let word = |asked: bool, ok: bool, word: &str| {
                if !asked {
                    "-".to_owned()
                } else if s.timed_out(now) {
                    if s.at.is_none() { "no report yet".to_owned() } else { "timed out".to_owned() }
                } else {
                    format!("reporting {}{word}", if ok { "" } else { "non-" })
                }
            };
            rows.push([
                name.clone(),
                s.reporter.timeout.map_or_else(|| "-".to_owned(), |t| format!("{t:?}")),
                word(s.reporter.live, s.last.live, "live"),
                word(s.reporter.ready, s.last.ready, "ready"),
                s.detail.replace('\n', " "),
            ]);
        }
        Summary {
            live: parts.values().all(|s| s.live(now)),
            ready: parts.values().all(|s| s.ready(now)),
            detail: table(&rows),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, State>> {
        // A panic elsewhere must not take the health report with it.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Columns as wide as their widest cell, framed as upstream's.
fn table(rows: &[[String; 5]]) -> String {
    let mut width = [0; 5];
    for row in rows {
        for (w, cell) in width.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line: String = width.iter().map(|w| format!("+{}", "-".repeat(w + 2))).collect::<String>() + "+\n";
    let mut out = line.clone();
    for (i, row) in rows.iter().enumerate() {
        for (w, cell) in width.iter().zip(row) {
            // Writing to a String does not fail.
            let _ = write!(out, "| {cell:w$} ");
        }
        out.push_str("|\n");
        if i == 0 {
            out.push_str(&line);
        }
    }
    out + &line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(timeout: Option<Duration>) -> Reporter {
        Reporter { live: true, ready: true, timeout }
    }

    #[test]
    fn a_part_without_a_report_is_not_ready() {
        let h = HealthAggregator::new();
        assert!(h.summary().ready);
        h.register("calc", both(None));
        assert!(!h.summary().ready);
        h.report("calc", HealthReport { live: true, ready: true }, "");
        assert!(h.summary().ready && h.summary().live);
    }

    #[test]
    fn a_report_older_than_its_timeout_is_neither_live_nor_ready() {
        let h = HealthAggregator::new();
        h.register("calc", both(Some(Duration::from_secs(10))));
        assert!(h.summary().live);
        h.report("calc", HealthReport { live: true, ready: true }, "well");
        let later = h.summary_at(Instant::now() + Duration::from_secs(11));
        assert!(!later.live && !later.ready);
        assert!(later.detail.contains("timed out"), "{}", later.detail);
    }

    #[test]
    fn what_a_part_does_not_report_is_not_asked_of_it() {
        let h = HealthAggregator::new();
        h.register("felix", Reporter { live: false, ready: true, timeout: None });
        assert!(h.summary().live);
        assert!(!h.summary().ready);
        h.deregister("felix");
        assert!(h.summary().ready);
    }

    #[test]
    fn the_table_has_a_line_for_each_part() {
        let h = HealthAggregator::new();
        h.register("a", both(None));
        h.report("a", HealthReport { live: true, ready: false }, "starting");
        let expected = "\
+-----------+---------+----------------+---------------------+----------+
| COMPONENT | TIMEOUT | LIVENESS       | READINESS           | DETAIL   |
+-----------+---------+----------------+---------------------+----------+
| a         | -       | reporting live | reporting non-ready | starting |
+-----------+---------+----------------+---------------------+----------+
";
        assert_eq!(h.summary().detail, expected);
    }
}

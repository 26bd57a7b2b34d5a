//! Asking again and again where the answer must never come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Worker;
use crate::kernel::netns;
use crate::probe::{Protocol, Seen, ask};
use crate::{Lab, LabError, Place, Result};

/// Short, so that there are many tries; the kernel sends one SYN in it.
const TRY_LIMIT: Duration = Duration::from_millis(100);

/// A running prober.
pub struct Prober {
    worker: Worker<Result<ProberReport>>,
    /// How often anything but silence was seen so far.
    breaches: Arc<AtomicUsize>,
}

/// What a prober saw.
#[derive(Clone, Debug, Default)]
pub struct ProberReport {
    pub tries: usize,
    /// When anything but silence was seen, after the start, and what.
    pub breaches: Vec<(Duration, Seen)>,
}

impl Prober {
    /// Starts trying TCP and UDP in turn from inside `from`.
    pub fn start(lab: &Lab, from: &Place, to: SocketAddr) -> Self {
        let ns = lab.netns_of(from);
        let breaches = Arc::new(AtomicUsize::new(0));
        let count = breaches.clone();
        Self {
            breaches,
            worker: Worker::start(move |stop| {
                netns::within(&ns, || {
                    let mut report = ProberReport::default();
                    let start = Instant::now();
                    while !stop.load(Ordering::SeqCst) {
                        let protocol = if report.tries % 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
                        let seen = ask(to, protocol, TRY_LIMIT);
                        report.tries += 1;
                        if seen != Seen::TimedOut {
                            report.breaches.push((start.elapsed(), seen));
                            count.store(report.breaches.len(), Ordering::SeqCst);
                        }
                    }
                    Ok(report)
                })
            }),
        }
    }

    /// Whether anything but silence was seen so far.
    #[must_use]
    pub fn breached(&self) -> bool {
        self.breaches.load(Ordering::SeqCst) > 0
    }

    /// Stops and reports.
    pub fn stop(self) -> Result<ProberReport> {
        self.worker.finish().unwrap_or_else(|| {
            Err(LabError::Timeout {
                what: "a prober".to_owned(),
                seconds: 0,
                seen: "stopped twice".to_owned(),
            })
        })
    }
}

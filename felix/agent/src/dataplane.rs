//! The dataplane's thread, and what goes along with it: counters, reporters of status, the cutter of flows.
//!
//! In: messages. Out: the kernel, health, metrics, the board of statuses. Always holds: dropping it ends the thread and
//! waits for it, and ends everything that goes along; rules stay.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use felix_dataplane::conntrack::Busy;
use felix_dataplane::counters::Reader;
use felix_dataplane::status::{Change, Status};
use felix_dataplane::worker::{self, Command, Handle, Missing, Report};
use felix_message::Message;
use libcalico_datastore::etcd::plain::PlainKeys;
use libcalico_model::key::WorkloadEndpointKey;

use crate::config::Config;
use crate::flows::Cutter;
use crate::health::{self, BEAT, Beat, Health};
use crate::metrics::Metrics;
use crate::pipeline::RunError;
use crate::status::Board;
use crate::status::datastore::DatastoreReporter;
use crate::status::files::{self, Files};

/// Time between two readings of rules' counters. Scrapes come less often.
const COUNTERS: Duration = Duration::from_secs(15);
/// Reading takes at most one part in so many of the time.
const COUNTERS_SHARE: u32 = 50;

/// When endpoints were first seen: until they are up for the first time.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// First sight of those that were not up yet.
    waiting: HashMap<WorkloadEndpointKey, Instant>,
    up: HashSet<WorkloadEndpointKey>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The datastore told of a local endpoint, or (`present` false) of its end.
    pub fn seen(&self, key: &WorkloadEndpointKey, present: bool, now: Instant) {
        let mut state = self.lock();
        if !present {
            state.waiting.remove(key);
            state.up.remove(key);
        } else if !state.up.contains(key) {
            state.waiting.entry(key.clone()).or_insert(now);
        }
    }

    /// How long an endpoint that is up now took.
    fn up(&self, key: &WorkloadEndpointKey) -> Option<Duration> {
        let mut state = self.lock();
        state.up.insert(key.clone());
        state.waiting.remove(key).map(|at| at.elapsed())
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct DataplaneThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    cutter: Option<Cutter>,
    reporters: Vec<tokio::task::JoinHandle<()>>,
    /// Where one of them keeps files.
    status_files: Option<PathBuf>,
    /// Dropped to end the reader of counters.
    _counters: Option<Sender<()>>,
}

/// What the thread reports to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub health: Health,
    pub metrics: Metrics,
    pub arrivals: Arrivals,
    /// Start of the process.
    pub started: Instant,
    /// For reports, where the datastore is etcd.
    pub etcd: Option<libcalico_datastore::EtcdConfig>,
}

impl DataplaneThread {
    /// Starts everything in the calling thread's network namespace. Nothing is written before messages say that the
    /// datastore is in sync.
    ///
    /// # Errors
    /// A thread or socket is not to be had.
    pub fn start(config: &Config, around: Surroundings) -> Result<Self, RunError> {
        let (handle, worker) = worker::new(Arc::new(config.dataplane.clone()))?;
        let board = Board::default();
        let health = &around.health;
        let cutter = config
            .cut_flows
            .then(|| Cutter::start(around.metrics.clone(), health.watch(health::FLOW_CUTTER)))
            .transpose();
        let cutter = cutter.map_err(RunError::System)?;
        let counters = config
            .metrics
            .is_some()
            .then(|| {
                let (dataplane, beat) = (&config.dataplane, health.watch(health::RULE_COUNTERS));
                let reader = Reader::new(worker.counted(), dataplane.backend, dataplane.marks)?;
                counters(reader, around.metrics.clone(), beat)
            })
            .transpose();
        let mut reporters = Vec::new();
        if let Some(prefix) = &config.status_files {
            let beat = health.watch(health::STATUS_FILES);
            reporters.push(tokio::spawn(Files::new(prefix).run(board.clone(), beat)));
        }
        if let (Some(etcd), false) = (&around.etcd, config.reports.is_off()) {
            let reporter = DatastoreReporter {
                keys: PlainKeys::new(etcd.clone()),
                reports: config.reports.clone(),
                started: around.started,
            };
            reporters.push(tokio::spawn(reporter.run(board.clone())));
        }
        let cleaner = Watched {
            busy: worker.connections_busy(),
            beat: health.watch(health::CONNTRACK_CLEANER),
            timeout: health.timeout(health::CONNTRACK_CLEANER),
        };
        let seen = Observer {
            cleaner,
            around,
            board,
            cutter: cutter.clone(),
            programmed: AtomicBool::new(false),
            told: AtomicU64::new(0),
            problem: Mutex::new(None),
        };
        let thread = std::thread::Builder::new()
            .name("dataplane".to_owned())
            .spawn(move || worker.run(|report| seen.report(report)));
        Ok(Self {
            handle,
            thread: Some(thread.map_err(RunError::System)?),
            cutter,
            reporters,
            status_files: config.status_files.clone(),
            _counters: counters.map_err(RunError::System)?,
        })
    }

    /// Hands messages over where there is room; gives them back where there is not.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn try_send(&self, command: Command) -> Result<Option<Command>, RunError> {
        self.handle.try_send(command).map_err(|e| RunError::System(std::io::Error::other(e)))
    }

    /// These messages are handed over next.
    pub fn announce(&self, messages: &[Message]) {
        if let Some(cutter) = &self.cutter {
            cutter.sent(messages);
        }
    }

    /// Ends it before another begins with the next configuration: files that it alone kept true go with it.
    pub async fn give_way(mut self, next: &Config) {
        for reporter in self.reporters.drain(..) {
            reporter.abort();
            // It may be at its work still: nothing is written behind our back from here on.
            let _ = reporter.await;
        }
        let files = self.status_files.take();
        drop(self);
        if let Some(prefix) = files.filter(|prefix| Some(prefix) != next.status_files.as_ref()) {
            match files::retire(&prefix) {
                Ok(gone) => {
                    tracing::info!(prefix = %prefix.display(), gone, "files of endpoint status are kept elsewhere now, or nowhere");
                }
                Err(error) => {
                    tracing::warn!(prefix = %prefix.display(), %error, "files of endpoint status that nobody keeps stay");
                }
            }
        }
    }

    /// True where the thread has ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for DataplaneThread {
    fn drop(&mut self) {
        self.reporters.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = self.handle.send(Command::Stop);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// The thread that removes connections: it only works when it is asked to.
struct Watched {
    busy: Busy,
    beat: Beat,
    timeout: Option<Duration>,
}

impl Watched {
    fn look(&self) {
        let hangs = |since: Instant| self.timeout.is_some_and(|t| since.elapsed() > t);
        if !self.busy.since().is_some_and(hangs) {
            self.beat.beat();
        }
    }
}

/// Takes the thread's reports, in that thread.
struct Observer {
    cleaner: Watched,
    around: Surroundings,
    board: Board,
    cutter: Option<Cutter>,
    programmed: AtomicBool,
    /// Messages that the cutter knows to be programmed.
    told: AtomicU64,
    problem: Mutex<Option<String>>,
}

impl Observer {
    fn report(&self, report: Report) {
        let Surroundings { health, metrics, .. } = &self.around;
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Applied { outcome, stats, took, messages, taken, statuses, trouble } => {
                if !self.programmed.swap(true, Ordering::Relaxed) {
                    metrics.first_sync(self.around.started.elapsed());
                    tracing::info!(operations = outcome.tables.operations, ?took, "dataplane is in sync");
                }
                self.arrived(&statuses);
                self.board.apply(statuses);
                // Also where no message came: those of applies that failed are programmed only now.
                if let Some(cutter) = &self.cutter
                    && self.told.swap(taken, Ordering::Relaxed) != taken
                {
                    cutter.programmed(taken);
                }
                metrics.applied(&outcome, &stats, took, messages);
                if let Some(Missing { reason, retry, .. }) = &trouble {
                    tracing::error!(reason, ?retry, "policy is programmed, but something is missing");
                }
                // What single endpoints lack is their status: the node serves all others.
                let whole_node = trouble.filter(|t| !t.confined).map(|t| t.reason);
                if problem.is_some() && whole_node.is_none() {
                    tracing::info!("the dataplane is programmed again");
                }
                *problem = whole_node;
            }
            Report::Failed { reason, retry } => {
                metrics.failed();
                tracing::error!(reason, ?retry, "the dataplane could not be programmed");
                *problem = Some(reason);
            }
            Report::Idle => {}
        }
        health.dataplane(self.programmed.load(Ordering::Relaxed), problem.as_deref());
        self.cleaner.look();
    }

    fn arrived(&self, statuses: &[Change]) {
        for change in statuses {
            if let Change::Workload(key, Some((Status::Up, _))) = change
                && let Some(took) = self.around.arrivals.up(key)
            {
                self.around.metrics.endpoint_up(took);
            }
        }
    }
}

/// Starts the reader of rules' counters.
fn counters(mut reader: Reader, metrics: Metrics, beat: Beat) -> std::io::Result<Sender<()>> {
    let (sender, stop) = channel::<()>();
    std::thread::Builder::new().name("counters".to_owned()).spawn(move || {
        let mut next = Instant::now() + COUNTERS;
        while stop.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
            beat.beat();
            if Instant::now() < next {
                continue;
            }
            let begin = Instant::now();
            match reader.read() {
                Ok(counts) => metrics.rules(counts),
                Err(e) => tracing::warn!(error = %e, "counters of rules cannot be read"),
            }
            next = Instant::now() + COUNTERS.max(begin.elapsed() * COUNTERS_SHARE);
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use felix_dataplane::config::Backend;

    #[test]
    fn what_single_endpoints_lack_leaves_the_node_ready_and_what_the_node_lacks_does_not() {
        let health =
            Health::new(&health::Timeouts { dataplane: Duration::from_secs(90), overrides: [].into() });
        health.calculation(None);
        let observer = Observer {
            cleaner: Watched {
                busy: Busy::default(),
                beat: health.watch(health::CONNTRACK_CLEANER),
                timeout: None,
            },
            around: Surroundings {
                health: health.clone(),
                metrics: Metrics::new("h", Backend::Nftables).unwrap(),
                arrivals: Arrivals::default(),
                started: Instant::now(),
                etcd: None,
            },
            board: Board::default(),
            cutter: None,
            programmed: AtomicBool::new(false),
            told: AtomicU64::new(0),
            problem: Mutex::new(None),
        };
        let ready_after = |confined: Option<bool>| {
            observer.report(Report::Applied {
                outcome: felix_dataplane::apply::Outcome::default(),
                stats: Box::default(),
                took: Duration::ZERO,
                messages: 1,
                taken: 1,
                statuses: vec![],
                trouble: confined.map(|confined| Missing {
                    reason: "something is missing".to_owned(),
                    retry: Duration::ZERO,
                    confined,
                }),
            });
            health.aggregator.summary().ready
        };
        assert!(ready_after(Some(true)), "one pod does not keep a node from its start");
        assert!(!ready_after(Some(false)));
        assert!(ready_after(None));
    }

    #[test]
    fn an_endpoint_is_timed_once_until_it_goes() {
        let key = WorkloadEndpointKey {
            host: "h".to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: "w".to_owned(),
            endpoint: "e".to_owned(),
        };
        let a = Arrivals::default();
        let at = Instant::now();
        a.seen(&key, true, at);
        assert!(a.up(&key).is_some());
        a.seen(&key, true, at);
        assert!(a.up(&key).is_none(), "it was up already");
        a.seen(&key, false, at);
        a.seen(&key, true, at);
        assert!(a.up(&key).is_some());
    }
}

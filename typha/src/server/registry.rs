//! Who is being served, so that some can be let go: when there are too many, when one host has several, at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::kind::SyncerKind;
use crate::metrics::Metrics;

/// Why a client is let go; none while it is wanted.
type Verdict = watch::Sender<Option<&'static str>>;

#[derive(Debug)]
struct Client {
    host: String,
    kind: SyncerKind,
    verdict: Verdict,
}

#[derive(Debug, Default)]
struct State {
    /// By number, so that the oldest comes first.
    clients: BTreeMap<u64, Client>,
    next: u64,
    draining: bool,
}

/// The present clients.
#[derive(Debug)]
pub struct Registry {
    max_per_client: usize,
    metrics: Metrics,
    state: Mutex<State>,
}

/// A client's entry: it leaves the registry when dropped.
pub struct Entry {
    registry: Arc<Registry>,
    number: u64,
    kind: SyncerKind,
    /// Says when and why the client is let go.
    pub verdict: watch::Receiver<Option<&'static str>>,
}

impl Registry {
    pub fn new(max_per_client: usize, metrics: Metrics) -> Self {
        Self { max_per_client, metrics, state: Mutex::new(State::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.lock().clients.len()
    }

    /// From now on nobody is admitted.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Takes in a client. None while shutting down.
    pub fn admit(self: &Arc<Self>, host: &str, kind: SyncerKind) -> Option<Entry> {
        let mut state = self.lock();
        if state.draining {
            return None;
        }
        if self.max_per_client > 0 {
            let same: Vec<u64> = state
                .clients
                .iter()
                .filter(|(_, c)| c.host == host && c.kind == kind && c.verdict.borrow().is_none())
                .map(|(n, _)| *n)
                .collect();
            // The newest connection is the one that the client uses: the older ones are likely dead.
            let excess = (same.len() + 1).saturating_sub(self.max_per_client);
            for number in same.into_iter().take(excess) {
                self.let_go(&state, number, "the same client connected again");
            }
        }
        let number = state.next;
        state.next += 1;
        let (verdict, told) = watch::channel(None);
        state.clients.insert(number, Client { host: host.to_owned(), kind, verdict });
        self.metrics.connections_accepted.inc();
        self.metrics.connections_active.inc();
        self.metrics.streaming(kind, 1);
        Some(Entry { registry: self.clone(), number, kind, verdict: told })
    }

    fn let_go(&self, state: &State, number: u64, reason: &'static str) {
        let Some(client) = state.clients.get(&number) else { return };
        tracing::info!(client = client.host, syncer = %client.kind, reason, "letting a client go");
        self.metrics.connections_dropped.inc();
        client.verdict.send_replace(Some(reason));
    }

    /// Lets go of one client by chance. False where there is none left.
    pub fn drop_one(&self, reason: &'static str) -> bool {
        let state = self.lock();
        let wanted: Vec<u64> =
            state.clients.iter().filter(|(_, c)| c.verdict.borrow().is_none()).map(|(n, _)| *n).collect();
        if wanted.is_empty() {
            return false;
        }
        if let Some(number) = wanted.get(rand::random_range(0..wanted.len())) {
            self.let_go(&state, *number, reason);
        }
        true
    }

    /// Lets clients go, one at a time, while there are more than `max`.
    pub async fn keep_below(self: Arc<Self>, max: usize, interval: Duration) {
        // A timer needs a length.
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            if self.len() > max {
                self.drop_one("this server has too many clients");
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().clients.remove(&self.number);
        self.registry.metrics.connections_active.dec();
        self.registry.metrics.streaming(self.kind, -1);
    }
}

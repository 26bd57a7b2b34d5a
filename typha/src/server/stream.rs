//! A stream shared by its clients: the cache, and a signal that it changed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use libcalico_model::{SyncStatus, SyncerEvent};
use tokio::sync::{mpsc, watch};

use crate::cache::{Cache, Counts, Limits};
use crate::kind::SyncerKind;
use crate::metrics::Metrics;

/// One kind's cache.
#[derive(Debug)]
pub struct Stream {
    pub kind: SyncerKind,
    cache: Mutex<Cache>,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

impl Stream {
    pub fn new(kind: SyncerKind, limits: Limits, metrics: Metrics) -> Self {
        Self { kind, cache: Mutex::new(Cache::new(limits)), changed: watch::Sender::new(0), metrics }
    }

    /// Held for short times only: never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> SyncStatus {
        self.lock().status()
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Feeds the cache from a syncer for as long as it lives.
    pub async fn feed(self: std::sync::Arc<Self>, mut events: mpsc::Receiver<SyncerEvent>) {
        let mut before = Counts::default();
        while let Some(event) = events.recv().await {
            let (keys, seq, counts) = {
                let mut cache = self.lock();
                cache.handle(event, Instant::now());
                (cache.len(), cache.seq(), cache.counts())
            };
            self.metrics.cache(self.kind, keys, seq, before, counts);
            before = counts;
            self.changed.send_replace(seq);
        }
        tracing::error!(syncer = %self.kind, "the datastore's stream ended");
    }
}

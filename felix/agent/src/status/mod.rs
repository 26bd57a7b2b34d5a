//! What others are told of endpoints: the CNI plugin by files, operators of OpenStack by keys in etcd.
//!
//! ```text
//!  dataplane thread ─changes─▶ Board (what holds now) ─┬─▶ files      endpoint-status/ORCHESTRATOR WORKLOAD ENDPOINT
//!                                                      └─▶ datastore  /calico/felix/v1, v2 (etcd alone)
//! ```
//!
//! Always holds: an endpoint is told as up only once its policy stands in the kernel; a reporter that is behind skips what
//! came in between; nothing is written, or removed, before the dataplane was whole for the first time. Left out: what
//! makes an endpoint up (the dataplane says so).

pub mod datastore;
pub mod files;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use felix_dataplane::status::{Change, Status};
use felix_message::WorkloadEndpoint;
use libcalico_model::key::WorkloadEndpointKey;
use tokio::sync::watch;

/// What holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The dataplane was whole once.
    pub whole: bool,
    pub workloads: BTreeMap<WorkloadEndpointKey, (Status, Arc<WorkloadEndpoint>)>,
    pub hosts: BTreeMap<String, Status>,
}

/// Shared by the dataplane's thread, which writes, and the reporters.
#[derive(Clone, Debug)]
pub struct Board {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dataplane is whole, and this changed.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut state = self.lock();
        if state.whole && changes.is_empty() {
            return;
        }
        state.whole = true;
        for change in changes {
            match change {
                Change::Workload(key, Some(status)) => {
                    state.workloads.insert(key, status);
                }
                Change::Workload(key, None) => {
                    state.workloads.remove(&key);
                }
                Change::Host(name, Some(status)) => {
                    state.hosts.insert(name, status);
                }
                Change::Host(name, None) => {
                    state.hosts.remove(&name);
                }
            }
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// What holds now; `None` before the dataplane was whole.
    #[must_use]
    pub fn now(&self) -> Option<State> {
        let state = self.lock();
        state.whole.then(|| state.clone())
    }

    /// Tells of changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

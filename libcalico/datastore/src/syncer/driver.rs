//! The tasks of a syncer: one lists and watches each scope, one feeds the pure core and the reader.
//!
//! Always holds: while the datastore is away one scope at a time asks for it, with growing and jittered pauses of at
//! most [`MAX_PAUSE`], so that the return is seen within a second and a dead datastore is not flooded.

use std::sync::Arc;
use std::time::Duration;

use libcalico_model::SyncerEvent;
use tokio::sync::{Mutex, mpsc};

use super::convert::Converter;
use super::core::{Core, Input};
use crate::{Datastore, DatastoreError, Scope, WatchEvent};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two attempts to reach the datastore.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// Inputs handled before the reader gets what came of them.
const MAX_INPUTS: usize = 128;

/// Shared by the scopes of one syncer: who may ask a datastore that does not answer, and how long the next pause is.
#[derive(Debug)]
pub struct Pace(Mutex<Duration>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(FIRST_PAUSE))
    }
}

/// From a scope's task to the core.
#[derive(Debug)]
pub enum Message {
    Input(usize, Input),
    /// The scope's watch or listing failed. It is tried again.
    Lost(usize, DatastoreError),
}

/// Lists and watches one scope for as long as the core listens.
pub struct Driver {
    pub datastore: Arc<dyn Datastore>,
    pub scope: Scope,
    pub index: usize,
    pub inputs: mpsc::Sender<Message>,
    pub pace: Arc<Pace>,
}

impl Driver {
    pub async fn run(self) {
        while !self.inputs.is_closed() {
            let Some(listing) = self.list().await else { continue };
            let watch = self.datastore.watch(&self.scope, &listing.revision).await;
            if self.send(Input::Listing(listing.items)).await.is_err() {
                return;
            }
            let error = match watch {
                Err(e) => e,
                Ok(events) => match self.follow(events).await {
                    Some(e) => e,
                    None => return,
                },
            };
            if self.inputs.send(Message::Lost(self.index, error)).await.is_err() {
                return;
            }
        }
    }

    /// One attempt. Scopes take turns, so that a pause holds back all of them.
    async fn list(&self) -> Option<crate::Listing> {
        let mut pause = self.pace.0.lock().await;
        match self.datastore.list(&self.scope).await {
            Ok(listing) => {
                *pause = FIRST_PAUSE;
                Some(listing)
            }
            Err(e) => {
                // The core may be gone: the loop sees that.
                let _ = self.inputs.send(Message::Lost(self.index, e)).await;
                tokio::select! {
                    () = tokio::time::sleep(jitter(*pause)) => {}
                    () = self.inputs.closed() => {}
                }
                *pause = (*pause * 2).min(MAX_PAUSE);
                None
            }
        }
    }

    /// Forwards changes. The error that ended the watch, or none where the core is gone.
    async fn follow(&self, mut events: mpsc::Receiver<WatchEvent>) -> Option<DatastoreError> {
        loop {
            let event = tokio::select! {
                e = events.recv() => e,
                () = self.inputs.closed() => return None,
            };
            let input = match event {
                Some(WatchEvent::Set(_, Ok(kv))) => Input::Set(kv),
                Some(WatchEvent::Set(key, Err(_)) | WatchEvent::Deleted(key, _)) => Input::Absent(key),
                Some(WatchEvent::Failed(e)) => return Some(e),
                None => {
                    return Some(DatastoreError::Unreachable {
                        endpoints: "datastore".to_owned(),
                        reason: "the watch ended".to_owned(),
                    });
                }
            };
            if self.send(input).await.is_err() {
                return None;
            }
        }
    }

    async fn send(&self, input: Input) -> Result<(), ()> {
        self.inputs.send(Message::Input(self.index, input)).await.map_err(|_| ())
    }
}

/// Between half of the pause and all of it.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// Feeds the core until the reader goes away.
pub async fn run_core<C: Converter>(
    mut core: Core<C>,
    mut inputs: mpsc::Receiver<Message>,
    out: mpsc::Sender<SyncerEvent>,
) {
    let mut lost: Vec<usize> = Vec::new();
    let mut messages = Vec::with_capacity(MAX_INPUTS);
    loop {
        for event in core.take_events() {
            if let SyncerEvent::Status(status) = &event {
                tracing::info!(?status, "datastore sync status");
            }
            if out.send(event).await.is_err() {
                return;
            }
        }
        messages.clear();
        tokio::select! {
            n = inputs.recv_many(&mut messages, MAX_INPUTS) => if n == 0 { return },
            () = out.closed() => return,
        }
        for message in messages.drain(..) {
            match message {
                Message::Lost(scope, error) => {
                    // One line for an outage, not one for each scope and attempt. What will not pass by itself
                    // (no permission) is said of each scope.
                    let first = !lost.contains(&scope);
                    if matches!(error, DatastoreError::Compacted(_)) {
                        tracing::info!(scope = core.scope(scope), %error, "listing again");
                    } else if lost.is_empty() || (first && !error.retryable()) {
                        tracing::warn!(scope = core.scope(scope), %error, "lost the datastore; trying again");
                    } else {
                        tracing::debug!(scope = core.scope(scope), %error, "the datastore is still away");
                    }
                    if first {
                        lost.push(scope);
                    }
                }
                Message::Input(scope, input) => {
                    if matches!(input, Input::Listing(_)) && !lost.is_empty() {
                        lost.retain(|s| *s != scope);
                        if lost.is_empty() {
                            tracing::info!("the datastore is back");
                        }
                    }
                    core.handle(scope, input);
                }
            }
        }
    }
}

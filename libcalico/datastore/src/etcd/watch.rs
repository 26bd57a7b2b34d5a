//! A watch on a prefix: etcd's stream in, [`WatchEvent`]s out, until the reader goes away or the stream breaks.
//!
//! Always holds: the last event is `Failed` unless the reader left first; a slow reader holds back the stream (HTTP/2
//! flow control), nothing is dropped.

use std::sync::Arc;

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use libcalico_model::{Key, Revision};
use tokio::sync::mpsc;

use super::connection::{Connection, Retry};
use super::error;
use super::revision;
use crate::codec::{self, MalformedLog};
use crate::{DatastoreError, Result, Scope, WatchEvent};

/// Events between the stream and its reader.
const BUFFER: usize = 128;

pub async fn start(
    connection: &Connection,
    scope: Scope,
    from: &Revision,
    malformed: Arc<MalformedLog>,
) -> Result<mpsc::Receiver<WatchEvent>> {
    let after: i64 = if from.is_empty() {
        0
    } else {
        let n: i64 = from.0.parse().map_err(|_| DatastoreError::Configuration {
            what: format!("revision {from}"),
            reason: "is not a number".to_owned(),
        })?;
        n.saturating_add(1)
    };
    let prefix = scope.prefix();
    let stream = connection
        .call(&prefix, Retry::Always, |client| {
            let prefix = prefix.clone();
            let options = WatchOptions::new()
                .with_prefix()
                .with_start_revision(after)
                .with_progress_notify()
                .with_fragment();
            async move {
                client.watch_client().max_decoding_message_size(usize::MAX).watch(prefix, Some(options)).await
            }
        })
        .await?;
    let (tx, rx) = mpsc::channel(BUFFER);
    let reader = Reader { endpoints: connection.endpoints(), scope, from: from.clone(), malformed, tx };
    tokio::spawn(reader.run(stream));
    Ok(rx)
}

struct Reader {
    /// For errors.
    endpoints: String,
    scope: Scope,
    from: Revision,
    malformed: Arc<MalformedLog>,
    tx: mpsc::Sender<WatchEvent>,
}

impl Reader {
    async fn run(self, mut stream: WatchStream) {
        let failure = loop {
            let message = tokio::select! {
                m = stream.message() => m,
                () = self.tx.closed() => return,
            };
            match message {
                Ok(Some(response)) => match self.forward(&response).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(e) => break e,
                },
                Ok(None) => break self.unreachable("the server ended the watch"),
                Err(e) => break error::translate(&self.endpoints, &self.scope.prefix(), &e),
            }
        };
        // The reader may have left meanwhile.
        let _ = self.tx.send(WatchEvent::Failed(failure)).await;
    }

    /// False where the reader left.
    async fn forward(&self, response: &WatchResponse) -> Result<bool> {
        if response.compact_revision() > 0 {
            return Err(DatastoreError::Compacted(self.from.clone()));
        }
        if response.canceled() {
            return Err(match response.cancel_reason() {
                reason if reason.contains("permission denied") => {
                    DatastoreError::Unauthorized(reason.to_owned())
                }
                reason => self.unreachable(reason),
            });
        }
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let Some(event) = self.event(kv) else { continue };
            if self.tx.send(event).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn event(&self, kv: &etcd_client::KeyValue) -> Option<WatchEvent> {
        let path = String::from_utf8_lossy(kv.key());
        let rev = revision(kv.mod_revision());
        let key: Key = match path.parse() {
            Ok(k) => k,
            Err(e) => {
                self.malformed.note(&path, &rev.0, &e);
                return None;
            }
        };
        if !self.scope.contains(&key) {
            return None;
        }
        // A deletion carries the key with version 0; a put's is 1 at least.
        if kv.version() == 0 {
            return Some(WatchEvent::Deleted(key, rev));
        }
        let value = codec::decode(key.clone(), kv.value(), rev.clone());
        if let Err(e) = &value {
            self.malformed.note(&path, &rev.0, e);
        }
        Some(WatchEvent::Set(key, value.map_err(DatastoreError::from)))
    }

    fn unreachable(&self, reason: &str) -> DatastoreError {
        DatastoreError::Unreachable { endpoints: self.endpoints.clone(), reason: reason.to_owned() }
    }
}

//! A watch on a scope: one stream for each of its collections, merged into one channel of [`WatchEvent`]s.
//!
//! Always holds: the last event is `Failed` unless the reader left first; a stream that the server ends in good order, or
//! that breaks, goes on from the last revision seen (bookmarks keep it young) and fails only where that does not work; a
//! slow reader holds back the streams (HTTP/2 flow control), nothing is dropped. A kind that the cluster does not have is
//! an empty collection; its watch asks now and then and ends, to be listed again, when the kind is there. What changes
//! nothing of an object that Calico reads (a pod's conditions, a node's heartbeat) is not told again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::Status;
use libcalico_model::Revision;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Client, EventLines, REQUEST_TIMEOUT, RESUME_TIMEOUT};
use super::error::{ApiError, refusal, unreachable};
use super::place::{self, Collection, Head, HeadMeta, Meaning};
use crate::codec::MalformedLog;
use crate::{DatastoreError, Result, Scope, WatchEvent};

/// Events between the streams and their reader.
const BUFFER: usize = 128;
/// How long a server keeps a stream, seconds; the exact time is drawn, so that not all clients return at once.
const LIFE_SECS: std::ops::Range<u32> = 300..600;
/// A server sends a bookmark each minute at least. One that is silent for so long is given up. Silent connections are
/// noticed much earlier where they can be pinged.
const SILENCE: Duration = Duration::from_secs(100);
/// The revision of a collection whose kind the cluster does not have.
pub const ABSENT: &str = "absent";
/// Between two questions whether the cluster has a kind now, seconds; drawn.
const ABSENT_PAUSE_SECS: std::ops::Range<f64> = 5.0..10.0;
/// A stream that ended earlier than this did not end because its time was up.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Begins to watch a scope.
pub async fn start(
    client: &Arc<Client>,
    scope: Scope,
    from: &Revision,
    malformed: &Arc<MalformedLog>,
) -> Result<mpsc::Receiver<WatchEvent>> {
    let collections = place::collections(&scope);
    let cursors = cursors(from, collections.len())?;
    let (tx, rx) = mpsc::channel(BUFFER);
    let mut streams = Vec::new();
    for (collection, cursor) in collections.into_iter().zip(cursors) {
        let mut stream = Stream {
            client: client.clone(),
            scope: scope.clone(),
            path: collection.path(),
            collection,
            cursor,
            malformed: malformed.clone(),
            told: Told::default(),
            tx: tx.clone(),
        };
        if stream.cursor.is_empty() {
            stream.cursor = stream.now().await?;
        }
        if stream.cursor == ABSENT {
            tokio::spawn(stream.wait_for_kind());
            return Ok(rx);
        }
        match stream.open(REQUEST_TIMEOUT).await {
            Ok(lines) => streams.push((stream, lines)),
            Err(ApiError::Gone) => {
                // The channel is new and has room.
                let _ = tx.try_send(WatchEvent::Failed(DatastoreError::Compacted(from.clone())));
                return Ok(rx);
            }
            Err(e) => return Err(e.in_collection(&stream.path, &from.0)),
        }
    }
    tokio::spawn(run(streams, tx));
    Ok(rx)
}

/// The revision that each collection is watched from: one for each, or one for all.
fn cursors(from: &Revision, count: usize) -> Result<Vec<String>> {
    let parts: Vec<String> = from.0.split('/').map(str::to_owned).collect();
    let cursors = if parts.len() == 1 { vec![from.0.clone(); count] } else { parts };
    let good = |c: &String| c.is_empty() || c == ABSENT || c.parse::<u64>().is_ok();
    if cursors.len() == count && cursors.iter().all(good) {
        return Ok(cursors);
    }
    Err(DatastoreError::Configuration {
        what: format!("revision {from}"),
        reason: format!("is not {count} numbers"),
    })
}

/// The first stream that ends ends all.
async fn run(streams: Vec<(Stream, EventLines)>, tx: mpsc::Sender<WatchEvent>) {
    let running = streams.into_iter().map(|(stream, lines)| Box::pin(stream.run(lines)));
    let failed = tokio::select! {
        (failed, ..) = futures::future::select_all(running) => failed,
        () = tx.closed() => return,
    };
    if let Some(e) = failed {
        // The reader may have left meanwhile.
        let _ = tx.send(WatchEvent::Failed(e)).await;
    }
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What ended a stream.
enum End {
    /// The server's time was up, or the connection broke.
    Again(String),
    Failed(DatastoreError),
    ReaderLeft,
}

struct Stream {
    client: Arc<Client>,
    scope: Scope,
    collection: Collection,
    path: String,
    /// The last revision seen.
    cursor: String,
    malformed: Arc<MalformedLog>,
    told: Told,
    tx: mpsc::Sender<WatchEvent>,
}

/// What the reader was told last of each object that others write often: hashes with a secret of this process, so that
/// nobody can make two values that are taken for one. 16 bytes for each object, for as long as it exists.
#[derive(Default)]
struct Told {
    secret: RandomState,
    last: HashMap<u64, u64>,
}

impl Told {
    /// True where the event says what was said before.
    fn again(&mut self, event: &WatchEvent) -> bool {
        match event {
            WatchEvent::Set(key, Ok(kv)) => {
                // The revision is not part of what is written.
                let value = self.secret.hash_one(kv.value.to_bytes());
                self.last.insert(self.secret.hash_one(key), value) == Some(value)
            }
            WatchEvent::Set(key, Err(_)) | WatchEvent::Deleted(key, _) => {
                self.last.remove(&self.secret.hash_one(key));
                false
            }
            WatchEvent::Failed(_) => false,
        }
    }
}

impl Stream {
    /// Runs until the watch fails; none where the reader left.
    async fn run(mut self, mut lines: EventLines) -> Option<DatastoreError> {
        loop {
            let began = Instant::now();
            let reason = match self.drain(&mut lines).await {
                End::Again(reason) => reason,
                End::Failed(e) => return Some(e),
                End::ReaderLeft => return None,
            };
            if began.elapsed() < SHORTEST_LIFE {
                return Some(unreachable(&self.client.endpoint(), reason));
            }
            tracing::debug!(path = self.path, cursor = self.cursor, reason, "watch goes on");
            lines = match self.open(RESUME_TIMEOUT).await {
                Ok(lines) => lines,
                // The kind was taken from the cluster: listing it again says so.
                Err(ApiError::NotFound(_)) if self.collection.form.optional() => {
                    return Some(DatastoreError::Compacted(Revision(self.cursor)));
                }
                Err(e) => return Some(e.in_collection(&self.path, &self.cursor)),
            };
        }
    }

    async fn open(&self, limit: Duration) -> Result<EventLines, ApiError> {
        let life = rand::random_range(LIFE_SECS);
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={life}&resourceVersion={}",
            self.cursor
        );
        self.client.watch(&format!("{}?{query}", self.path), limit).await
    }

    /// The collection's revision now.
    async fn now(&self) -> Result<String> {
        let text = match self.client.get(&format!("{}?limit=1", self.path)).await {
            Err(ApiError::NotFound(_)) if self.collection.form.optional() => return Ok(ABSENT.to_owned()),
            listing => listing.map_err(|e| e.in_collection(&self.path, ""))?,
        };
        let head = serde_json::from_str::<Head>(&text);
        head.map(|h| h.metadata.resource_version)
            .map_err(|e| DatastoreError::Other { key: self.path.clone(), reason: e.to_string() })
    }

    /// Ends when the cluster has the kind, or cannot be asked.
    async fn wait_for_kind(self) {
        let error = loop {
            let pause = Duration::from_secs_f64(rand::random_range(ABSENT_PAUSE_SECS));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tx.closed() => return,
            }
            match self.now().await {
                Ok(now) if now == ABSENT => {}
                Ok(_) => {
                    tracing::info!(path = self.path, "the cluster has this kind of object now");
                    break DatastoreError::Compacted(Revision(ABSENT.to_owned()));
                }
                Err(e) => break e,
            }
        };
        // The reader may have left meanwhile.
        let _ = self.tx.send(WatchEvent::Failed(error)).await;
    }

    async fn drain(&mut self, lines: &mut EventLines) -> End {
        loop {
            let line = match tokio::time::timeout(SILENCE, lines.next()).await {
                Err(_) => return End::Again(format!("nothing came for {SILENCE:?}")),
                Ok(None) => return End::Again("the server ended the watch".to_owned()),
                Ok(Some(Err(e))) => return End::Again(super::error::chain(&e)),
                Ok(Some(Ok(line))) => line,
            };
            if line.is_empty() {
                continue;
            }
            match self.event(&line) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if self.tx.send(event).await.is_err() {
                        return End::ReaderLeft;
                    }
                }
                Err(e) => return End::Failed(e),
            }
        }
    }

    /// What a line says; none where it is nothing of the scope.
    fn event(&mut self, line: &str) -> Result<Option<WatchEvent>> {
        let other = |reason: String| DatastoreError::Other { key: self.path.clone(), reason };
        let line: Line<'_> = serde_json::from_str(line).map_err(|e| other(format!("watch: {e}")))?;
        let json = line.object.get();
        if line.kind == "ERROR" {
            let status: Status = serde_json::from_str(json).map_err(|e| other(format!("watch: {e}")))?;
            let error = refusal(&self.client.endpoint(), &self.path, &status);
            return Err(error.in_collection(&self.path, &self.cursor));
        }
        let head: Head = serde_json::from_str(json).map_err(|e| other(format!("watch: {e}")))?;
        let event = match line.kind {
            "ADDED" | "MODIFIED" => self.set(&head.metadata, json),
            "DELETED" => self.deleted(&head.metadata, json),
            // A bookmark: a revision and nothing else.
            _ => None,
        };
        self.cursor = head.metadata.resource_version;
        if self.collection.form.busy() && event.as_ref().is_some_and(|e| self.told.again(e)) {
            return Ok(None);
        }
        Ok(event)
    }

    fn set(&self, head: &HeadMeta, json: &str) -> Option<WatchEvent> {
        let revision = Revision(head.resource_version.clone());
        let event =
            match place::read(self.collection.form, head, json.as_bytes(), self.client.interface_prefix()) {
                Meaning::Value(kv) => WatchEvent::Set(kv.key.clone(), Ok(kv)),
                Meaning::Malformed(key, e) => {
                    self.malformed.note(&key.path(), &revision.0, &e);
                    WatchEvent::Set(key, Err(e.into()))
                }
                Meaning::Absent(key) => WatchEvent::Deleted(key, revision),
                Meaning::Nothing => return None,
            };
        Some(event).filter(|e| self.concerns(e))
    }

    fn deleted(&self, head: &HeadMeta, json: &str) -> Option<WatchEvent> {
        let revision = Revision(head.resource_version.clone());
        let key =
            match place::read(self.collection.form, head, json.as_bytes(), self.client.interface_prefix()) {
                Meaning::Value(kv) => kv.key,
                Meaning::Malformed(key, _) | Meaning::Absent(key) => key,
                Meaning::Nothing => return None,
            };
        Some(WatchEvent::Deleted(key, revision)).filter(|e| self.concerns(e))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        match event {
            WatchEvent::Set(key, _) | WatchEvent::Deleted(key, _) => self.scope.contains(key),
            WatchEvent::Failed(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_one_number_for_all_or_one_for_each() {
        let of = |r: &str, n| cursors(&Revision(r.to_owned()), n).ok();
        assert_eq!(of("7", 2), Some(vec!["7".to_owned(), "7".to_owned()]));
        assert_eq!(of("7/9", 2), Some(vec!["7".to_owned(), "9".to_owned()]));
        assert_eq!(of("", 1), Some(vec![String::new()]));
        assert_eq!((of("7/9", 1), of("x", 1), of("7/", 2)), (None, None, Some(vec!["7".into(), "".into()])));
        assert_eq!(of(ABSENT, 1), Some(vec![ABSENT.to_owned()]));
    }
}

//! One stream's contents: what stands in the datastore, and the changes that led there, encoded.
//!
//! In come events of a syncer with the time, out go encoded messages: a snapshot, and after it each change. Pure: no I/O,
//! no clock. Always holds: a snapshot followed by the changes after it is what the datastore held; every message is
//! encoded once, whatever the number of clients; changes are kept for [`Limits::keep`] and at most
//! [`Limits::log_bytes`], and who needs older ones must start again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use calico_proto::typha as proto;
use libcalico_model::{SyncStatus, SyncerEvent, Update};

/// How much is kept and sent at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Updates in one message.
    pub batch: usize,
    /// How long changes are kept for clients that are behind.
    pub keep: Duration,
    /// How many bytes of changes are kept.
    pub log_bytes: usize,
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An encoded `Updates` message with so many updates.
    Updates(Bytes, usize),
    Status(SyncStatus),
}

/// A message with its place in the stream.
#[derive(Clone, Debug)]
pub struct Change {
    pub seq: u64,
    /// When it became known here.
    pub at: Instant,
    pub message: Message,
}

/// Everything at one place in the stream.
#[derive(Debug)]
pub struct Snapshot {
    /// The last change that it contains.
    pub seq: u64,
    pub messages: Vec<Message>,
}

/// What happened to the cache, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub updates: u64,
    /// Updates that changed nothing and were not sent on.
    pub skipped: u64,
    pub snapshots_generated: u64,
    pub snapshots_reused: u64,
    pub snapshot_bytes: u64,
}

/// The contents of one stream.
#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    /// By path: an encoded field `updates` of an `Updates` message. A batch is these bytes one after the other.
    entries: BTreeMap<String, Bytes>,
    entry_bytes: usize,
    log: VecDeque<Change>,
    log_bytes: usize,
    seq: u64,
    status: SyncStatus,
    snapshot: Option<Arc<Snapshot>>,
    counts: Counts,
}

impl Cache {
    /// An empty cache before the first event.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            entry_bytes: 0,
            log: VecDeque::new(),
            log_bytes: 0,
            seq: 0,
            status: SyncStatus::WaitForDatastore,
            snapshot: None,
            counts: Counts::default(),
        }
    }

    /// The place of the last change.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Keys that are present.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How far the syncer is.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        self.status
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes in an event.
    pub fn handle(&mut self, event: SyncerEvent, now: Instant) {
        match event {
            SyncerEvent::Status(status) if status == self.status => {}
            SyncerEvent::Status(status) => {
                self.status = status;
                self.append(Message::Status(status), now);
            }
            SyncerEvent::Updates(updates) => self.updates(&updates, now),
        }
        self.forget(now);
    }

    fn updates(&mut self, updates: &[Update], now: Instant) {
        let mut batch = BytesMut::new();
        let mut count = 0;
        for update in updates {
            self.counts.updates += 1;
            let path = update.key.path();
            let encoded = encode(update, &path);
            if !self.store(path, update.value.is_some().then_some(&encoded)) {
                self.counts.skipped += 1;
                continue;
            }
            batch.extend_from_slice(&encoded);
            count += 1;
            if count >= self.limits.batch {
                self.append(Message::Updates(batch.split().freeze(), count), now);
                count = 0;
            }
        }
        if count > 0 {
            self.append(Message::Updates(batch.freeze(), count), now);
        }
    }

    /// False where nothing changed.
    fn store(&mut self, path: String, encoded: Option<&Bytes>) -> bool {
        let before = match encoded {
            Some(bytes) => {
                if self.entries.get(&path) == Some(bytes) {
                    return false;
                }
                self.entry_bytes += bytes.len();
                self.entries.insert(path, bytes.clone())
            }
            None => match self.entries.remove(&path) {
                None => return false,
                removed => removed,
            },
        };
        self.entry_bytes -= before.map_or(0, |b| b.len());
        true
    }

    fn append(&mut self, message: Message, at: Instant) {
        self.seq += 1;
        self.log_bytes += size(&message);
        self.log.push_back(Change { seq: self.seq, at, message });
    }

    /// Drops changes that are too old or too many. The newest always stays.
    fn forget(&mut self, now: Instant) {
        while self.log.len() > 1 {
            let Some(oldest) = self.log.front() else { return };
            let old = now.saturating_duration_since(oldest.at) > self.limits.keep;
            if !old && self.log_bytes <= self.limits.log_bytes {
                return;
            }
            self.log_bytes -= size(&oldest.message);
            self.log.pop_front();
        }
    }

    /// A snapshot to begin with. The last one is used again while the changes after it are there and few.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(s) = &self.snapshot {
            let after: usize =
                self.log.iter().rev().take_while(|c| c.seq > s.seq).map(|c| size(&c.message)).sum();
            if self.holds(s.seq + 1) && after <= self.entry_bytes / 4 {
                self.counts.snapshots_reused += 1;
                return s.clone();
            }
        }
        let mut messages = Vec::with_capacity(self.entries.len() / self.limits.batch.max(1) + 2);
        // A client learns first that there is more to come.
        let begun = match self.status {
            SyncStatus::InSync => SyncStatus::ResyncInProgress,
            s => s,
        };
        messages.push(Message::Status(begun));
        let mut entries = self.entries.values().peekable();
        while entries.peek().is_some() {
            let mut batch = BytesMut::new();
            let mut count = 0;
            for e in entries.by_ref().take(self.limits.batch.max(1)) {
                batch.extend_from_slice(e);
                count += 1;
            }
            messages.push(Message::Updates(batch.freeze(), count));
        }
        if begun != self.status {
            messages.push(Message::Status(self.status));
        }
        let snapshot = Arc::new(Snapshot { seq: self.seq, messages });
        self.counts.snapshots_generated += 1;
        self.counts.snapshot_bytes = self.entry_bytes as u64;
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// True where the change at this place is kept, or is the next to come.
    fn holds(&self, seq: u64) -> bool {
        seq > self.seq || self.log.front().is_some_and(|c| c.seq <= seq)
    }

    /// The change at a place. `Ok(None)`: it has not happened yet. `Err`: it is no longer kept.
    pub fn change(&self, seq: u64) -> Result<Option<&Change>, Forgotten> {
        if seq > self.seq {
            return Ok(None);
        }
        let first = self.log.front().map_or(seq + 1, |c| c.seq);
        // Changes are numbered without gaps.
        let index = seq.checked_sub(first).ok_or(Forgotten)?;
        usize::try_from(index).ok().and_then(|i| self.log.get(i)).map(Some).ok_or(Forgotten)
    }
}

/// The change is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten;

fn size(message: &Message) -> usize {
    match message {
        Message::Updates(b, _) => b.len(),
        Message::Status(_) => 0,
    }
}

/// One element of `Updates.updates`, with its tag and length.
fn encode(update: &Update, path: &str) -> Bytes {
    let message = proto::Update {
        key: path.to_owned(),
        value: update.value.as_ref().map(|v| v.to_bytes().into()),
        revision: update.revision.0.clone(),
    };
    let mut out = BytesMut::new();
    prost::encoding::message::encode(1, &message, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use libcalico_model::{Key, Revision, Value};
    use prost::Message as _;

    use super::*;

    fn limits() -> Limits {
        Limits { batch: 2, keep: Duration::from_secs(300), log_bytes: 1 << 20 }
    }

    fn update(name: &str, text: Option<&str>) -> Update {
        Update {
            key: Key::GlobalConfig(name.to_owned()),
            value: text.map(|t| Value::Text(t.to_owned())),
            revision: Revision("7".to_owned()),
        }
    }

    fn names(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .flat_map(|m| match m {
                Message::Status(s) => vec![format!("{s:?}")],
                Message::Updates(b, n) => {
                    let u = proto::Updates::decode(b.clone()).unwrap().updates;
                    assert_eq!(u.len(), *n);
                    u.into_iter()
                        .map(|u| {
                            let v = u.value.map(|v| String::from_utf8(v.to_vec()).unwrap());
                            format!("{}={}", u.key.rsplit('/').next().unwrap(), v.unwrap_or("-".to_owned()))
                        })
                        .collect()
                }
            })
            .collect()
    }

    #[test]
    fn a_snapshot_and_the_changes_after_it_are_the_whole() {
        let now = Instant::now();
        let mut c = Cache::new(limits());
        c.handle(SyncerEvent::Status(SyncStatus::ResyncInProgress), now);
        c.handle(
            SyncerEvent::Updates(vec![
                update("b", Some("1")),
                update("a", Some("1")),
                update("c", Some("1")),
            ]),
            now,
        );
        c.handle(SyncerEvent::Status(SyncStatus::InSync), now);
        let s = c.snapshot();
        assert_eq!(names(&s.messages), ["ResyncInProgress", "a=1", "b=1", "c=1", "InSync"]);
        assert_eq!(c.change(s.seq + 1).unwrap().map(|c| c.seq), None);
        c.handle(SyncerEvent::Updates(vec![update("a", None), update("b", Some("2"))]), now);
        let change = c.change(s.seq + 1).unwrap().unwrap().message.clone();
        assert_eq!(names(&[change]), ["a=-", "b=2"]);
    }

    #[test]
    fn what_changes_nothing_is_not_sent_on() {
        let now = Instant::now();
        let mut c = Cache::new(limits());
        c.handle(SyncerEvent::Updates(vec![update("a", Some("1"))]), now);
        let seq = c.seq();
        c.handle(SyncerEvent::Updates(vec![update("a", Some("1")), update("z", None)]), now);
        assert_eq!((c.seq(), c.counts().skipped), (seq, 2));
    }

    #[test]
    fn old_changes_are_forgotten_and_said_to_be() {
        let now = Instant::now();
        let mut c = Cache::new(limits());
        for i in 0..5 {
            let at = now + Duration::from_secs(i * 100);
            c.handle(SyncerEvent::Updates(vec![update("a", Some(&i.to_string()))]), at);
        }
        assert_eq!(c.change(1).map(|_| ()), Err(Forgotten));
        assert!(c.change(2).is_ok());
        let mut small = Cache::new(Limits { log_bytes: 1, ..limits() });
        for i in 0..5 {
            small.handle(SyncerEvent::Updates(vec![update("a", Some(&i.to_string()))]), now);
        }
        assert_eq!(small.change(4).map(|_| ()), Err(Forgotten));
        assert!(small.change(5).unwrap().is_some());
    }

    #[test]
    fn a_snapshot_is_shared_until_much_has_changed() {
        let now = Instant::now();
        let mut c = Cache::new(limits());
        let many = (0..100).map(|i| update(&format!("k{i}"), Some("value"))).collect();
        c.handle(SyncerEvent::Updates(many), now);
        let first = c.snapshot();
        c.handle(SyncerEvent::Updates(vec![update("k1", Some("other"))]), now);
        assert!(Arc::ptr_eq(&first, &c.snapshot()));
        let many = (0..100).map(|i| update(&format!("k{i}"), Some("third"))).collect();
        c.handle(SyncerEvent::Updates(many), now);
        assert!(!Arc::ptr_eq(&first, &c.snapshot()));
        assert_eq!((c.counts().snapshots_generated, c.counts().snapshots_reused), (2, 1));
    }
}

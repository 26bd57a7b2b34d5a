//! The in-memory twin of a datastore: the same compare-and-swap, watch and compaction, for tests.
//!
//! Stores bytes, not objects, so that what is read went through the same encoding as with a real store and tests can
//! put malformed bytes. Faults are asked for by name: [`MemoryDatastore::compact`],
//! [`MemoryDatastore::set_unreachable`], [`MemoryDatastore::fail_next_writes`]. Left out: persistence.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use libcalico_model::{Key, KeyValue, Revision, Value};
use tokio::sync::{mpsc, watch};

use crate::codec::{self, MalformedLog};
use crate::{Datastore, DatastoreError, Listing, Result, Scope, WatchEvent, Write};

/// Events buffered for each watcher, as in the etcd backend.
const WATCH_BUFFER: usize = 128;

/// How often each call was made.
#[derive(Debug, Default)]
pub struct Calls {
    pub get: AtomicU64,
    pub list: AtomicU64,
    pub create: AtomicU64,
    pub update: AtomicU64,
    pub apply: AtomicU64,
    pub delete: AtomicU64,
    pub write_all: AtomicU64,
    pub watch: AtomicU64,
}

impl Calls {
    /// All calls together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.writes()
            + [&self.get, &self.list, &self.watch].iter().map(|c| c.load(Ordering::Relaxed)).sum::<u64>()
    }

    /// Calls that write.
    #[must_use]
    pub fn writes(&self) -> u64 {
        [&self.create, &self.update, &self.apply, &self.delete, &self.write_all]
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum()
    }
}

/// One change in the order of revisions. `None`: deleted.
#[derive(Clone, Debug)]
struct Change {
    revision: u64,
    path: String,
    bytes: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    /// By path: bytes and the revision that wrote them.
    stored: BTreeMap<String, (Vec<u8>, u64)>,
    revision: u64,
    log: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    unreachable: bool,
    /// Raised to end every running watch.
    epoch: u64,
    write_faults: VecDeque<DatastoreError>,
}

/// A datastore in memory. Clones share their contents.
#[derive(Clone, Debug)]
pub struct MemoryDatastore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    calls: Calls,
    malformed: MalformedLog,
}

impl Default for MemoryDatastore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDatastore {
    /// An empty store at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State { revision: 1, ..State::default() }),
                changed: watch::Sender::new(0),
                calls: Calls::default(),
                malformed: MalformedLog::default(),
            }),
        }
    }

    /// How often each call was made.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> Revision {
        revision(self.lock().revision)
    }

    /// Every path with its bytes, as a dump of a real store has them.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().stored.iter().map(|(k, (v, _))| (k.clone(), v.clone())).collect()
    }

    /// Puts bytes at a path without looking at them.
    pub fn put_raw(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let mut state = self.lock();
        state.put(path.to_owned(), bytes.into());
        drop(state);
        self.notify();
    }

    /// Forgets the history: a watch from an earlier revision fails with [`DatastoreError::Compacted`].
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        state.log.clear();
        drop(state);
        self.notify();
    }

    /// From now on every call fails and every watch ends, until it is set back.
    pub fn set_unreachable(&self, unreachable: bool) {
        let mut state = self.lock();
        state.unreachable = unreachable;
        state.epoch += 1;
        drop(state);
        self.notify();
    }

    /// Ends every running watch, as a lost connection does. Calls go on working.
    pub fn break_watches(&self) {
        self.lock().epoch += 1;
        self.notify();
    }

    /// The next writes fail with these errors, one each, without being done.
    pub fn fail_next_writes(&self, errors: impl IntoIterator<Item = DatastoreError>) {
        self.lock().write_faults.extend(errors);
    }

    /// A scope as it was so many writes ago, as a cache that lags behind has it; as far back as the history goes.
    ///
    /// # Errors
    /// The store is set unreachable.
    pub fn list_earlier(&self, scope: &Scope, writes: u64) -> Result<Listing> {
        let state = self.read()?;
        let at = state.revision.saturating_sub(writes).max(state.compacted.max(1));
        let mut stored: BTreeMap<&String, (&[u8], u64)> = BTreeMap::new();
        for change in state.log.iter().filter(|c| c.revision <= at) {
            match &change.bytes {
                Some(bytes) => stored.insert(&change.path, (bytes, change.revision)),
                None => stored.remove(&change.path),
            };
        }
        Ok(self.listing(scope, stored.into_iter().map(|(path, (bytes, r))| (path, bytes, r)), at))
    }

    fn listing<'a>(
        &self,
        scope: &Scope,
        stored: impl Iterator<Item = (&'a String, &'a [u8], u64)>,
        at: u64,
    ) -> Listing {
        let prefix = scope.prefix();
        let mut listing = Listing { items: Vec::new(), revision: revision(at) };
        // In order of their paths.
        let stored = stored.skip_while(|(path, ..)| !path.starts_with(&prefix));
        for (path, bytes, r) in stored.take_while(|(path, ..)| path.starts_with(&prefix)) {
            match decode_in(scope, path, bytes, r) {
                Some(Ok(kv)) => listing.items.push(kv),
                Some(Err(e)) => self.shared.malformed.note(path, &r.to_string(), &e),
                None => {}
            }
        }
        listing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.shared.changed.send_modify(|n| *n += 1);
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The state for a read, or the error of an unreachable store.
    fn read(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.unreachable { Err(unreachable()) } else { Ok(state) }
    }

    /// Does one write atomically and tells the watchers.
    fn write<T>(&self, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.read()?;
        if let Some(e) = state.write_faults.pop_front() {
            return Err(e);
        }
        let result = f(&mut state);
        drop(state);
        self.notify();
        result
    }
}

fn unreachable() -> DatastoreError {
    DatastoreError::Unreachable { endpoints: "memory".to_owned(), reason: "set unreachable".to_owned() }
}

fn revision(n: u64) -> Revision {
    Revision(n.to_string())
}

impl State {
    fn put(&mut self, path: String, bytes: Vec<u8>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        self.log.push_back(Change { revision, path: path.clone(), bytes: Some(bytes.clone()) });
        self.stored.insert(path, (bytes, revision));
        revision
    }

    fn remove(&mut self, path: &str) {
        self.revision += 1;
        self.log.push_back(Change { revision: self.revision, path: path.to_owned(), bytes: None });
        self.stored.remove(path);
    }

    /// The error that a write would meet now.
    fn check(&self, write: &Write) -> Result<()> {
        let at = |key: &Key| self.stored.get(&key.path()).map(|(_, r)| revision(*r));
        match write {
            Write::Create(key, _) if at(key).is_some() => Err(DatastoreError::AlreadyExists(key.clone())),
            Write::Update(kv) if !kv.revision.is_empty() => match at(&kv.key) {
                None => Err(DatastoreError::NotFound(kv.key.clone())),
                Some(r) if r != kv.revision => Err(DatastoreError::Conflict(kv.key.clone())),
                Some(_) => Ok(()),
            },
            Write::Delete(key, want) => match (at(key), want) {
                (None, _) => Err(DatastoreError::NotFound(key.clone())),
                (Some(r), Some(want)) if r != *want => Err(DatastoreError::Conflict(key.clone())),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn perform(&mut self, write: &Write) -> Revision {
        match write {
            Write::Create(key, value) => revision(self.put(key.path(), value.to_bytes())),
            Write::Update(kv) => revision(self.put(kv.key.path(), kv.value.to_bytes())),
            Write::Delete(key, _) => {
                self.remove(&key.path());
                revision(self.revision)
            }
        }
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    fn atomic(&self) -> bool {
        true
    }

    async fn get(&self, key: &Key) -> Result<KeyValue> {
        self.count(&self.shared.calls.get);
        let state = self.read()?;
        let (bytes, r) =
            state.stored.get(&key.path()).ok_or_else(|| DatastoreError::NotFound(key.clone()))?;
        Ok(codec::decode(key.clone(), bytes, revision(*r))?)
    }

    async fn list(&self, scope: &Scope) -> Result<Listing> {
        self.count(&self.shared.calls.list);
        let state = self.read()?;
        let stored = state.stored.range(scope.prefix()..);
        let stored = stored.map(|(path, (bytes, r))| (path, bytes.as_slice(), *r));
        Ok(self.listing(scope, stored, state.revision))
    }

    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.count(&self.shared.calls.create);
        let write = Write::Create(key.clone(), value.clone());
        let revision = self.write(|s| {
            s.check(&write)?;
            Ok(s.perform(&write))
        })?;
        Ok(KeyValue { key: key.clone(), value: codec::stamp(value, &revision), revision })
    }

    async fn update(&self, kv: KeyValue) -> Result<KeyValue> {
        self.count(&self.shared.calls.update);
        let revision = self.write(|s| {
            if !s.stored.contains_key(&kv.key.path()) {
                return Err(DatastoreError::NotFound(kv.key.clone()));
            }
            let write = Write::Update(kv.clone());
            s.check(&write)?;
            Ok(s.perform(&write))
        })?;
        Ok(KeyValue { value: codec::stamp(kv.value, &revision), revision, ..kv })
    }

    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue> {
        self.count(&self.shared.calls.apply);
        let revision = self.write(|s| Ok(revision(s.put(key.path(), value.to_bytes()))))?;
        Ok(KeyValue { key: key.clone(), value: codec::stamp(value, &revision), revision })
    }

    async fn delete(&self, key: &Key, want: Option<&Revision>) -> Result<KeyValue> {
        self.count(&self.shared.calls.delete);
        let (bytes, r) = self.write(|s| {
            let write = Write::Delete(key.clone(), want.cloned());
            s.check(&write)?;
            let previous = s.stored.get(&key.path()).cloned();
            s.perform(&write);
            previous.ok_or_else(|| DatastoreError::NotFound(key.clone()))
        })?;
        Ok(codec::decode_lenient(key.clone(), &bytes, revision(r))?)
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        self.count(&self.shared.calls.write_all);
        self.write(|s| {
            for w in &writes {
                s.check(w)?;
            }
            Ok(writes.iter().map(|w| s.perform(w)).collect())
        })
    }

    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        self.count(&self.shared.calls.watch);
        let state = self.read()?;
        let from = if from.is_empty() {
            state.revision
        } else {
            from.0.parse().map_err(|_| DatastoreError::Configuration {
                what: format!("revision {from}"),
                reason: "is not a number".to_owned(),
            })?
        };
        let epoch = state.epoch;
        drop(state);
        let (tx, rx) = mpsc::channel(WATCH_BUFFER);
        tokio::spawn(follow(self.clone(), scope.clone(), from, epoch, tx));
        Ok(rx)
    }
}

/// Sends a watcher every change after `cursor` until it goes away or the watch breaks.
async fn follow(
    store: MemoryDatastore,
    scope: Scope,
    mut cursor: u64,
    epoch: u64,
    tx: mpsc::Sender<WatchEvent>,
) {
    let mut changed = store.shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let (changes, failure) = {
            let state = store.lock();
            let failure = if state.epoch != epoch {
                Some(unreachable())
            } else if cursor < state.compacted {
                Some(DatastoreError::Compacted(revision(cursor)))
            } else {
                None
            };
            let changes: Vec<Change> =
                state.log.iter().filter(|c| c.revision > cursor).take(WATCH_BUFFER).cloned().collect();
            // At the end of the log the watcher has seen everything, also what is outside its scope.
            if changes.len() < WATCH_BUFFER && failure.is_none() {
                cursor = state.revision;
            }
            (changes, failure)
        };
        if let Some(e) = failure {
            let _ = tx.send(WatchEvent::Failed(e)).await;
            return;
        }
        let full = changes.len() == WATCH_BUFFER;
        for c in changes {
            cursor = cursor.max(c.revision);
            let Some(event) = event(&store, &scope, c) else { continue };
            if tx.send(event).await.is_err() {
                return;
            }
        }
        if full {
            continue;
        }
        tokio::select! {
            r = changed.changed() => if r.is_err() { return },
            () = tx.closed() => return,
        }
    }
}

fn event(store: &MemoryDatastore, scope: &Scope, c: Change) -> Option<WatchEvent> {
    let key: Key = c.path.parse().ok().filter(|k| scope.contains(k))?;
    Some(match c.bytes {
        None => WatchEvent::Deleted(key, revision(c.revision)),
        Some(bytes) => {
            let kv = codec::decode(key.clone(), &bytes, revision(c.revision));
            if let Err(e) = &kv {
                store.shared.malformed.note(&c.path, &c.revision.to_string(), e);
            }
            WatchEvent::Set(key, kv.map_err(DatastoreError::from))
        }
    })
}

fn decode_in(
    scope: &Scope,
    path: &str,
    bytes: &[u8],
    r: u64,
) -> Option<Result<KeyValue, libcalico_model::ValueError>> {
    let key: Key = path.parse().ok().filter(|k| scope.contains(k))?;
    Some(codec::decode(key, bytes, revision(r)))
}

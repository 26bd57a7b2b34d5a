//! The datastore behind one trait: etcd, the Kubernetes API and, for tests, memory. Keys, values and revisions are the model's
//! (`libcalico-model`); what differs between stores stays below [`Datastore`].

mod codec;
pub mod config;
pub mod etcd;
pub mod kubernetes;
pub mod memory;
pub mod pod_cidrs;
pub mod resources;
pub mod scope;
pub mod syncer;

use async_trait::async_trait;
use libcalico_model::{Key, KeyValue, Revision, Value};
use tokio::sync::mpsc;

pub use codec::stamp;
pub use config::{ClientConfig, DatastoreType, EtcdConfig, Pem, connect};
pub use kubernetes::{KubernetesConfig, KubernetesDatastore};
pub use scope::Scope;

/// Why an operation failed. [`DatastoreError::retryable`] tells whether trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    #[error("resource does not exist: {0}")]
    NotFound(Key),
    #[error("resource already exists: {0}")]
    AlreadyExists(Key),
    /// The revision that the writer saw is no longer the stored one.
    #[error("update conflict: {0}: it was changed by someone else; read it again and repeat")]
    Conflict(Key),
    /// What the watch asks for is no longer kept (etcd compaction, Kubernetes 410 Gone): list again.
    #[error("revision {0} is no longer kept by the datastore; list again")]
    Compacted(Revision),
    #[error(
        "datastore unreachable at {endpoints}: {reason}; check that it runs and that the endpoints are right"
    )]
    Unreachable { endpoints: String, reason: String },
    #[error("datastore refused the credentials: {0}")]
    Unauthorized(String),
    /// The stored bytes are not a value of their key.
    #[error("malformed value in the datastore: {0}")]
    Malformed(#[from] libcalico_model::ValueError),
    /// The object breaks rules of the API and was not written.
    #[error("{key} is not valid: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid { key: Box<Key>, reasons: Vec<libcalico_api::validation::Invalid> },
    #[error("{what}: {reason}")]
    Configuration { what: String, reason: String },
    #[error("datastore error on {key}: {reason}")]
    Other { key: String, reason: String },
}

impl DatastoreError {
    /// True where the same call may succeed later without any change by a person.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Compacted(_) | Self::Unreachable { .. })
    }
}

/// Result of a datastore call.
pub type Result<T, E = DatastoreError> = std::result::Result<T, E>;

/// Everything in a scope at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// In key order. Values that cannot be read are left out and logged: a malformed object is an absent one.
    pub items: Vec<KeyValue>,
    /// A watch from here misses nothing and repeats nothing.
    pub revision: Revision,
}

/// One change, as a watch reports it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly every event is a `Set`; boxing it would cost an allocation each
pub enum WatchEvent {
    /// Created or changed. `Err` where the new value is malformed: the object counts as absent.
    Set(Key, Result<KeyValue>),
    Deleted(Key, Revision),
    /// The watch ended; list again. The last event.
    Failed(DatastoreError),
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Fails where the key exists.
    Create(Key, Value),
    /// Fails where the stored revision is not this one. An empty revision overwrites whatever stands there.
    Update(KeyValue),
    /// Fails where the key is absent, or its revision is not the given one.
    Delete(Key, Option<Revision>),
}

/// One read of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// One key, which may be absent.
    Key(Key),
    /// A scope.
    Scope(Scope),
    /// A scope as the store has it at hand: perhaps as it was some time ago. The Kubernetes API answers from its watch
    /// cache, which takes a millisecond; for the present state it waits until its cache has caught up with etcd, tens
    /// of milliseconds. Only for a caller that can tell from other reads whether what it concludes still holds.
    Cached(Scope),
}

/// What a [`Read`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// `None` where the key is absent.
    Key(Option<KeyValue>),
    /// The present state. Also the answer to [`Read::Cached`] where the store has nothing older.
    Scope(Listing),
    /// What [`Read::Cached`] found: a state that the scope had once.
    Cached(Listing),
}

/// A store of the model's keys and values with compare-and-swap.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Reads one key.
    async fn get(&self, key: &Key) -> Result<KeyValue>;

    /// True where objects of the scope can be in this store at all. A syncer does not ask for others.
    fn holds(&self, _scope: &Scope) -> bool {
        true
    }

    /// Reads a scope at one revision.
    async fn list(&self, scope: &Scope) -> Result<Listing>;

    /// Several reads in one round trip where the store can: etcd answers all of them at one revision. A store
    /// without that does them in order. The answers are in the order of the reads, and as many.
    async fn read_many(&self, reads: &[Read]) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(reads.len());
        for read in reads {
            found.push(match read {
                Read::Key(key) => match self.get(key).await {
                    Ok(kv) => Found::Key(Some(kv)),
                    Err(DatastoreError::NotFound(_)) => Found::Key(None),
                    Err(e) => return Err(e),
                },
                Read::Scope(scope) | Read::Cached(scope) => Found::Scope(self.list(scope).await?),
            });
        }
        Ok(found)
    }

    /// True where [`Datastore::write_all`] does all of a batch or none of it. Where it is false a batch that failed may
    /// be done in part, and callers that care write one by one.
    fn atomic(&self) -> bool {
        false
    }

    /// Writes a key that must not exist.
    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue>;

    /// Writes a key whose stored revision must be `kv.revision` ([`DatastoreError::Conflict`] otherwise,
    /// [`DatastoreError::NotFound`] where it is gone). An empty revision overwrites an existing key.
    async fn update(&self, kv: KeyValue) -> Result<KeyValue>;

    /// Writes a key whether or not it exists.
    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue>;

    /// Removes a key and returns what stood there. With a revision: only where it is still the stored one.
    async fn delete(&self, key: &Key, revision: Option<&Revision>) -> Result<KeyValue>;

    /// Several writes in one round trip where the store can: etcd does all or none in one transaction. A store
    /// without transactions does them in order and stops at the first that fails, so callers order them as they
    /// would order single writes. The error names the key that failed.
    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>>;

    /// Reports changes of a scope after `from`. The channel is bounded: a slow reader slows the watch, nothing is
    /// dropped. Dropping the receiver ends the watch.
    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>>;
}

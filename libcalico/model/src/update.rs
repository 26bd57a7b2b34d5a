//! What flows from the datastore to its users.

use crate::key::Key;
use crate::value::{Revision, Value};

/// The state of one key. `None`: the key is absent, or its value is not valid, which is the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub key: Key,
    pub value: Option<Value>,
    /// Datastore revision of the value, empty for a deletion. Never compared except for equality.
    pub revision: Revision,
}

/// How far a syncer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncStatus {
    /// Not connected yet, or the connection was lost before the first snapshot.
    #[default]
    WaitForDatastore,
    /// The first snapshot is on its way.
    ResyncInProgress,
    /// Everything that stood in the datastore at connection time was sent. Never leaves this state: after a lost
    /// connection the syncer compares a new snapshot with what it sent and sends the difference.
    InSync,
}

/// One event of a syncer's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncerEvent {
    Status(SyncStatus),
    Updates(Vec<Update>),
}

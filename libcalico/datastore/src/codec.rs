//! Between stored bytes and typed values: what every store does the same way.
//!
//! In come a path, bytes and a revision, out goes a [`KeyValue`] whose resource carries its revision in
//! `metadata.resourceVersion`. Always holds: what cannot be read is reported once for each revision, by name, and
//! treated as absent by listings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libcalico_api::Resource;
use libcalico_model::{Key, KeyValue, Revision, Value, ValueError};

/// How many malformed objects are remembered as already logged.
const REMEMBERED: usize = 10_000;

/// Reads the value of a key.
pub fn decode(key: Key, bytes: &[u8], revision: Revision) -> Result<KeyValue, ValueError> {
    let value = stamp(Value::parse(&key, bytes)?, &revision);
    Ok(KeyValue { key, value, revision })
}

/// What a deletion returns where the value that stood there is malformed: an empty object of its kind, so that a
/// broken object can be removed like any other.
pub fn decode_lenient(key: Key, bytes: &[u8], revision: Revision) -> Result<KeyValue, ValueError> {
    match decode(key.clone(), bytes, revision.clone()) {
        Err(_) if matches!(key, Key::Resource(_)) => decode(key, b"{}", revision),
        result => result,
    }
}

/// Puts the revision into a resource's metadata.
#[must_use]
pub fn stamp(value: Value, revision: &Revision) -> Value {
    match value {
        Value::Resource(mut r) => {
            let meta = Arc::<Resource>::make_mut(&mut r).metadata_mut();
            meta.resource_version.clone_from(&revision.0);
            Value::Resource(r)
        }
        other => other,
    }
}

/// Logs each malformed object once for each of its revisions.
#[derive(Debug, Default)]
pub struct MalformedLog(Mutex<HashMap<String, String>>);

impl MalformedLog {
    /// Says that what stands at a path is no value of its key, or no key at all.
    pub fn note(&self, path: &str, revision: &str, reason: &dyn std::fmt::Display) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(path).is_some_and(|r| r == revision) {
            return;
        }
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(path.to_owned(), revision.to_owned());
        tracing::warn!(key = path, revision, %reason, "malformed object in the datastore is treated as absent");
    }
}

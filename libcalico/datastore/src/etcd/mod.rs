//! The etcd backend: upstream's keys and JSON, compare-and-swap by `mod_revision`, watches with resumption by revision.
//!
//! In come calls of [`Datastore`], out go etcd v3 requests. Always holds: nothing is dialled before the first call;
//! every call ends within the dialling and request timeouts of its endpoints; a write is sent to a second endpoint only
//! when the first was never reached, so it cannot happen twice. Left out: retrying after a conflict or an outage, which
//! is the caller's decision; leases, because upstream's clients can write with one and give one to nothing.

mod batch;
mod connection;
mod error;
pub mod plain;
mod watch;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use libcalico_model::{Key, KeyValue, Revision, Value};
use tokio::sync::mpsc;

use self::connection::{Connection, Retry};
use crate::codec::{self, MalformedLog};
use crate::config::EtcdConfig;
use crate::{Datastore, DatastoreError, Found, Listing, Read, Result, Scope, WatchEvent, Write};

/// Objects read in the first request of a listing. etcd answers a page of this size well below its message limit.
const PAGE: i64 = 1000;
/// Objects read in one request at most; each page is twice as large as the one before. For every page etcd counts all that
/// is left, so that many small pages of a large scope take long.
const LARGEST_PAGE: i64 = 8000;

/// A listing whose revision is compacted while it is read starts again, so often; the last time in one answer.
const LIST_ATTEMPTS: usize = 3;

/// etcd's default limit of operations in a transaction.
const MAX_TXN_OPS: usize = 128;

/// A client of an etcd cluster.
#[derive(Debug)]
pub struct EtcdDatastore {
    connection: Connection,
    malformed: std::sync::Arc<MalformedLog>,
}

impl EtcdDatastore {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: EtcdConfig) -> Self {
        Self { connection: Connection::new(config), malformed: std::sync::Arc::default() }
    }

    async fn txn(&self, subject: &str, txn: Txn) -> Result<TxnResponse> {
        self.connection
            .call(subject, Retry::NeverReached, |client| {
                let txn = txn.clone();
                async move { client.kv_client().txn(txn).await }
            })
            .await
    }

    /// Compares one key, then does `op`, else reads the key: one round trip that also tells why it failed.
    async fn compare_and(&self, key: &Key, compare: Vec<Compare>, op: TxnOp) -> Result<TxnOutcome> {
        let path = key.path();
        let txn = Txn::new()
            .when(compare)
            .and_then(vec![op])
            .or_else(vec![TxnOp::get(path.clone(), Some(GetOptions::new().with_keys_only()))]);
        let response = self.txn(&path, txn).await?;
        if response.succeeded() {
            Ok(TxnOutcome::Done(response))
        } else {
            Ok(TxnOutcome::Refused { exists: found(&response, 0) })
        }
    }

    async fn list_at_one_revision(&self, scope: &Scope, mut page: i64) -> Result<Listing> {
        let prefix = scope.prefix();
        let end = prefix_end(&prefix);
        let mut start = prefix.clone().into_bytes();
        let mut at: i64 = 0;
        let mut items = Vec::new();
        loop {
            let response = self
                .connection
                .call(&prefix, Retry::Always, |client| {
                    // Revision zero is the newest.
                    let options =
                        GetOptions::new().with_range(end.clone()).with_limit(page).with_revision(at);
                    let start = start.clone();
                    async move {
                        client
                            .kv_client()
                            .max_decoding_message_size(usize::MAX)
                            .get(start, Some(options))
                            .await
                    }
                })
                .await
                .map_err(|e| match e {
                    DatastoreError::Compacted(_) => DatastoreError::Compacted(revision(at)),
                    e => e,
                })?;
            if at == 0 {
                at = response.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            items.reserve(response.kvs().len());
            for kv in response.kvs() {
                items.extend(self.decode_in(scope, kv));
            }
            match response.kvs().last() {
                Some(last) if response.more() => {
                    start = last.key().to_vec();
                    start.push(0);
                    page = (page * 2).min(LARGEST_PAGE);
                }
                _ => return Ok(Listing { items, revision: revision(at) }),
            }
        }
    }

    fn decode_in(&self, scope: &Scope, kv: &etcd_client::KeyValue) -> Option<KeyValue> {
        let path = String::from_utf8_lossy(kv.key());
        let rev = revision(kv.mod_revision());
        let key: Key = match path.parse() {
            Ok(k) => k,
            Err(e) => {
                self.malformed.note(&path, &rev.0, &e);
                return None;
            }
        };
        if !scope.contains(&key) {
            return None;
        }
        match codec::decode(key, kv.value(), rev) {
            Ok(kv) => Some(kv),
            Err(e) => {
                self.malformed.note(&path, &kv.mod_revision().to_string(), &e);
                None
            }
        }
    }
}

enum TxnOutcome {
    Done(TxnResponse),
    Refused { exists: bool },
}

#[async_trait]
impl Datastore for EtcdDatastore {
    fn atomic(&self) -> bool {
        true
    }

    async fn get(&self, key: &Key) -> Result<KeyValue> {
        let path = key.path();
        let response = self
            .connection
            .call(&path, Retry::Always, |client| {
                let path = path.clone();
                async move { client.kv_client().max_decoding_message_size(usize::MAX).get(path, None).await }
            })
            .await?;
        let kv = response.kvs().first().ok_or_else(|| DatastoreError::NotFound(key.clone()))?;
        Ok(codec::decode(key.clone(), kv.value(), revision(kv.mod_revision()))?)
    }

    fn holds(&self, scope: &Scope) -> bool {
        !scope.of_kubernetes()
    }

    async fn list(&self, scope: &Scope) -> Result<Listing> {
        let mut attempt = 1;
        loop {
            // By pages it may never be done where revisions are compacted sooner than this can read. Zero: no limit.
            let page = if attempt < LIST_ATTEMPTS { PAGE } else { 0 };
            match self.list_at_one_revision(scope, page).await {
                // The pages' revision was compacted between two pages: begin again at a newer one.
                Err(DatastoreError::Compacted(_)) if attempt < LIST_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn read_many(&self, reads: &[Read]) -> Result<Vec<Found>> {
        self.read_batch(reads).await
    }

    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue> {
        let path = key.path();
        let absent = vec![Compare::version(path.clone(), CompareOp::Equal, 0)];
        match self.compare_and(key, absent, TxnOp::put(path, value.to_bytes(), None)).await? {
            TxnOutcome::Done(r) => Ok(written(key, value, &r)),
            TxnOutcome::Refused { .. } => Err(DatastoreError::AlreadyExists(key.clone())),
        }
    }

    async fn update(&self, kv: KeyValue) -> Result<KeyValue> {
        let path = kv.key.path();
        let unchanged = if kv.revision.is_empty() {
            Compare::version(path.clone(), CompareOp::Greater, 0)
        } else {
            let Ok(r) = kv.revision.0.parse::<i64>() else {
                return Err(DatastoreError::Conflict(kv.key));
            };
            Compare::mod_revision(path.clone(), CompareOp::Equal, r)
        };
        let put = TxnOp::put(path, kv.value.to_bytes(), None);
        match self.compare_and(&kv.key, vec![unchanged], put).await? {
            TxnOutcome::Done(r) => Ok(written(&kv.key, kv.value, &r)),
            TxnOutcome::Refused { exists: true } => Err(DatastoreError::Conflict(kv.key)),
            TxnOutcome::Refused { exists: false } => Err(DatastoreError::NotFound(kv.key)),
        }
    }

    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue> {
        let path = key.path();
        let put = Txn::new().and_then(vec![TxnOp::put(path.clone(), value.to_bytes(), None)]);
        let response = self.txn(&path, put).await?;
        Ok(written(key, value, &response))
    }

    async fn delete(&self, key: &Key, want: Option<&Revision>) -> Result<KeyValue> {
        let path = key.path();
        let compare = match want.filter(|r| !r.is_empty()) {
            None => Compare::version(path.clone(), CompareOp::Greater, 0),
            Some(r) => {
                let Ok(r) = r.0.parse::<i64>() else { return Err(DatastoreError::Conflict(key.clone())) };
                Compare::mod_revision(path.clone(), CompareOp::Equal, r)
            }
        };
        let delete = TxnOp::delete(path, Some(DeleteOptions::new().with_prev_key()));
        match self.compare_and(key, vec![compare], delete).await? {
            TxnOutcome::Done(r) => {
                let previous = r.op_responses().into_iter().find_map(|op| match op {
                    TxnOpResponse::Delete(mut d) => d.take_prev_kvs().into_iter().next(),
                    _ => None,
                });
                let previous = previous.ok_or_else(|| DatastoreError::NotFound(key.clone()))?;
                let rev = revision(previous.mod_revision());
                Ok(codec::decode_lenient(key.clone(), previous.value(), rev)?)
            }
            TxnOutcome::Refused { exists: true } => Err(DatastoreError::Conflict(key.clone())),
            TxnOutcome::Refused { exists: false } => Err(DatastoreError::NotFound(key.clone())),
        }
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        let Some(first) = writes.first() else { return Ok(Vec::new()) };
        let subject = key_of(first).path();
        if writes.len() > MAX_TXN_OPS {
            return Err(DatastoreError::Other {
                key: subject,
                reason: format!("{} writes in one transaction; etcd takes {MAX_TXN_OPS}", writes.len()),
            });
        }
        let mut compares = Vec::with_capacity(writes.len());
        for w in &writes {
            compares.extend(precondition(w)?);
        }
        let ops: Vec<TxnOp> = writes
            .iter()
            .map(|w| match w {
                Write::Create(k, v) => TxnOp::put(k.path(), v.to_bytes(), None),
                Write::Update(kv) => TxnOp::put(kv.key.path(), kv.value.to_bytes(), None),
                Write::Delete(k, _) => TxnOp::delete(k.path(), None),
            })
            .collect();
        let reads: Vec<TxnOp> = writes
            .iter()
            .map(|w| TxnOp::get(key_of(w).path(), Some(GetOptions::new().with_keys_only())))
            .collect();
        let response = self.txn(&subject, Txn::new().when(compares).and_then(ops).or_else(reads)).await?;
        if response.succeeded() {
            let rev = revision_of(&response);
            return Ok(writes.iter().map(|_| rev.clone()).collect());
        }
        Err(first_refusal(&writes, &response))
    }

    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        watch::start(&self.connection, scope.clone(), from, self.malformed.clone()).await
    }
}

fn key_of(write: &Write) -> &Key {
    match write {
        Write::Create(k, _) | Write::Delete(k, _) => k,
        Write::Update(kv) => &kv.key,
    }
}

/// What must hold for a write of a batch; none for an unconditional one.
fn precondition(write: &Write) -> Result<Option<Compare>> {
    let path = key_of(write).path();
    let at = |r: &Revision| {
        let n: i64 = r.0.parse().map_err(|_| DatastoreError::Conflict(key_of(write).clone()))?;
        Ok(Some(Compare::mod_revision(path.clone(), CompareOp::Equal, n)))
    };
    match write {
        Write::Create(..) => Ok(Some(Compare::version(path, CompareOp::Equal, 0))),
        Write::Update(kv) if kv.revision.is_empty() => Ok(None),
        Write::Update(kv) => at(&kv.revision),
        Write::Delete(_, Some(r)) if !r.is_empty() => at(r),
        Write::Delete(..) => Ok(Some(Compare::version(path, CompareOp::Greater, 0))),
    }
}

/// The error of the first write that could not be done, from the revisions that the refused transaction read.
fn first_refusal(writes: &[Write], response: &TxnResponse) -> DatastoreError {
    let stored: Vec<Option<i64>> = response
        .op_responses()
        .into_iter()
        .map(|op| match op {
            TxnOpResponse::Get(g) => g.kvs().first().map(etcd_client::KeyValue::mod_revision),
            _ => None,
        })
        .collect();
    for (write, stored) in writes.iter().zip(stored) {
        let key = key_of(write).clone();
        let wanted = match write {
            Write::Create(..) => {
                if stored.is_some() {
                    return DatastoreError::AlreadyExists(key);
                }
                continue;
            }
            Write::Update(kv) if kv.revision.is_empty() => continue,
            Write::Update(kv) => Some(&kv.revision),
            Write::Delete(_, r) => r.as_ref().filter(|r| !r.is_empty()),
        };
        match stored {
            None => return DatastoreError::NotFound(key),
            Some(s) if wanted.is_some_and(|w| w.0 != s.to_string()) => return DatastoreError::Conflict(key),
            Some(_) => {}
        }
    }
    // The keys and the comparison are read in one transaction, so this is not reached with a correct server.
    DatastoreError::Other {
        key: writes.first().map(|w| key_of(w).path()).unwrap_or_default(),
        reason: "etcd refused the transaction without a visible reason".to_owned(),
    }
}

fn found(response: &TxnResponse, index: usize) -> bool {
    matches!(response.op_responses().get(index), Some(TxnOpResponse::Get(g)) if !g.kvs().is_empty())
}

fn written(key: &Key, value: Value, response: &TxnResponse) -> KeyValue {
    let revision = revision_of(response);
    KeyValue { key: key.clone(), value: codec::stamp(value, &revision), revision }
}

fn revision_of(response: &TxnResponse) -> Revision {
    revision(response.header().map_or(0, etcd_client::ResponseHeader::revision))
}

fn revision(n: i64) -> Revision {
    Revision(n.to_string())
}

/// The first key after everything that begins with the prefix. Our prefixes are ASCII, so the last byte has a
/// successor.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

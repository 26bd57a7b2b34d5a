//! The Kubernetes backend: custom resources of `projectcalico.org/v3`, and Kubernetes' own objects as Calico's.
//!
//! ```text
//!  Key, Scope ──▶ place ──▶ path ──▶ client ──▶ API server
//!  KeyValue   ◀── place ◀── JSON ◀──────┘ (growing pages, watches with bookmarks)
//! ```
//!
//! In come calls of [`Datastore`], out go requests to the API server. Always holds: an object's revision is its
//! `resourceVersion`, compared by the API server on every write; a listing's is that of each of its collections, joined
//! by slashes; nothing is dialled before the first call, every request ends within its time; a watch that the server ends in
//! good order goes on where it was. Left out: transactions (a batch is done in order and stops at the first failure) and
//! retrying after an outage, which is the caller's decision.

mod client;
mod config;
mod error;
mod labels;
mod place;
mod raw;
mod session;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use libcalico_api::{Kind, Resource};
use libcalico_model::kubernetes::{node, pod};
use libcalico_model::{Key, KeyValue, Revision, Value};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use self::client::{Client, escape};
pub use self::config::KubernetesConfig;
use self::error::ApiError;
use self::place::{Collection, Head, HeadMeta, Meaning, Place};
use crate::codec::{self, MalformedLog};
use crate::{Datastore, DatastoreError, Found, Listing, Read, Result, Scope, WatchEvent, Write};

/// Objects read in the first request of a listing, as Kubernetes' own clients read them.
const FIRST_PAGE: usize = 500;
/// Objects read in one request at most; each page is twice as large as the one before. For every page the server's etcd
/// counts all that is left, so that many small pages of a large collection take long.
const LARGEST_PAGE: usize = 4000;
/// A listing whose revision is forgotten while it is read starts again, so often; the last time in one answer.
const LIST_ATTEMPTS: usize = 3;
/// A write without a stated revision is repeated after a conflict, so often.
const WRITE_ATTEMPTS: usize = 10;
/// Reads of a batch that are under way at one time.
const READS_AT_ONCE: usize = 32;
/// Kinds whose status is written on its own.
const WITH_STATUS: [Kind; 4] =
    [Kind::CalicoNodeStatus, Kind::IPPool, Kind::KubeControllersConfiguration, Kind::Tier];

/// A client of a Kubernetes API server.
#[derive(Debug)]
pub struct KubernetesDatastore {
    client: Arc<Client>,
    malformed: Arc<MalformedLog>,
}

/// How a collection is listed.
#[derive(Clone, Copy)]
struct How<'a> {
    extent: Extent,
    /// Objects with these labels alone.
    labels: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The present state, by pages.
    Pages,
    /// The present state, in one answer.
    Whole,
    /// What the API server's watch cache has, in one answer.
    Cached,
}

/// A page of a listing.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: String,
}

impl KubernetesDatastore {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(config: KubernetesConfig) -> Self {
        Self { client: Arc::new(Client::new(config)), malformed: Arc::default() }
    }

    /// An object of the API server as JSON, by its path; none where there is none. For what Calico's model leaves out
    /// of Kubernetes' own objects, such as the annotations of a namespace.
    pub async fn raw(&self, path: &str) -> Result<Option<String>> {
        match self.client.get(path).await {
            Ok(json) => Ok(Some(json)),
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(e) => Err(e.in_collection(path, "reading")),
        }
    }

    /// What a read of a batch finds.
    async fn find(&self, read: &Read) -> Result<Found> {
        Ok(match read {
            Read::Key(key) => match self.get(key).await {
                Ok(kv) => Found::Key(Some(kv)),
                Err(DatastoreError::NotFound(_)) => Found::Key(None),
                Err(e) => return Err(e),
            },
            Read::Scope(scope) => Found::Scope(self.list(scope).await?),
            Read::Cached(scope) => match self.listing(scope, Extent::Cached).await {
                Ok(listing) => Found::Cached(listing),
                // A server that has only begun to fill its cache asks to come later; its etcd it can ask now.
                Err(error) => {
                    tracing::debug!(?scope, %error, "no listing from the cache, asking for the present state");
                    Found::Scope(self.list(scope).await?)
                }
            },
        })
    }

    async fn listing(&self, scope: &Scope, first: Extent) -> Result<Listing> {
        let mut items = Vec::new();
        let mut revisions = Vec::new();
        for collection in place::collections(scope) {
            revisions.push(self.whole_collection(scope, &collection, first, &mut items).await?);
        }
        items.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing { items, revision: Revision(revisions.join("/")) })
    }

    /// A deletion whose caller knows the revision and does not ask what stood there: one request instead of two.
    async fn delete_known(&self, key: &Key, revision: &Revision) -> Result<Revision> {
        let place = writable(key)?;
        match place.collection.form {
            place::Form::Pod => {
                let patch = json!({ "metadata": {
                    "annotations": pod::released(), "resourceVersion": revision.0,
                } });
                let path = format!("{}/status", place.path());
                self.client.patch(&path, &patch).await.map_err(|e| e.on(key))?;
                return Ok(revision.clone());
            }
            place::Form::Block | place::Form::Affinity | place::Form::Handle => {}
            _ => return Ok(self.delete(key, Some(revision)).await?.revision),
        }
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": { "resourceVersion": revision.0 },
        });
        self.client.delete(&place.path(), &options).await.map_err(|e| e.on(key))?;
        Ok(revision.clone())
    }

    /// The object at a place as the API server sends it.
    async fn object(&self, key: &Key, place: &Place) -> Result<(HeadMeta, String)> {
        let json = self.client.get(&place.path()).await.map_err(|e| e.on(key))?;
        Ok((head(key, &json)?, json))
    }

    /// What an object stands for, where it is what the key asks for.
    fn value(&self, key: &Key, place: &Place, json: &str) -> Result<KeyValue> {
        match place::read(
            place.collection.form,
            &head(key, json)?,
            json.as_bytes(),
            self.client.interface_prefix(),
        ) {
            Meaning::Value(kv) if kv.key == *key => Ok(kv),
            Meaning::Malformed(_, e) => Err(e.into()),
            // A pod on another node than the endpoint's name says, or a record marked as deleted.
            Meaning::Value(_) | Meaning::Absent(_) | Meaning::Nothing => {
                Err(DatastoreError::NotFound(key.clone()))
            }
        }
    }

    /// All objects of a collection at one revision.
    async fn collection(
        &self,
        scope: &Scope,
        collection: &Collection,
        how: How<'_>,
        items: &mut Vec<KeyValue>,
    ) -> Result<String, ApiError> {
        let path = collection.path();
        let (mut token, mut limit) = (String::new(), FIRST_PAGE);
        loop {
            let mut query = Vec::new();
            match how.extent {
                Extent::Pages => query.push(format!("limit={limit}")),
                Extent::Whole => {}
                Extent::Cached => query.push("resourceVersion=0".to_owned()),
            }
            query.extend(how.labels.map(|l| format!("labelSelector={}", escape(l))));
            query.extend((!token.is_empty()).then(|| format!("continue={}", escape(&token))));
            let page_path =
                if query.is_empty() { path.clone() } else { format!("{path}?{}", query.join("&")) };
            let text = self.client.get(&page_path).await?;
            let page: Page<'_> = serde_json::from_str(&text).map_err(|e| {
                ApiError::Datastore(DatastoreError::Other { key: path.clone(), reason: e.to_string() })
            })?;
            for raw in page.items.unwrap_or_default() {
                let Ok(head) = serde_json::from_str::<Head>(raw.get()) else { continue };
                match place::read(
                    collection.form,
                    &head.metadata,
                    raw.get().as_bytes(),
                    self.client.interface_prefix(),
                ) {
                    Meaning::Value(kv) if scope.contains(&kv.key) => items.push(kv),
                    Meaning::Malformed(key, e) => {
                        self.malformed.note(&key.path(), &head.metadata.resource_version, &e);
                    }
                    Meaning::Value(_) | Meaning::Absent(_) | Meaning::Nothing => {}
                }
            }
            limit = (limit * 2).min(LARGEST_PAGE);
            token = page.metadata.token;
            if token.is_empty() {
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn whole_collection(
        &self,
        scope: &Scope,
        collection: &Collection,
        mut extent: Extent,
        items: &mut Vec<KeyValue>,
    ) -> Result<String> {
        let start = items.len();
        let mut attempt = 1;
        let mut labels = labels::selector(scope);
        loop {
            let how = How { extent, labels: labels.as_deref() };
            match self.collection(scope, collection, how, items).await {
                // Nothing has the labels: there is nothing, or it was written before there were labels.
                Ok(_) if labels.is_some() && items.len() == start => labels = None,
                Err(ApiError::NotFound(_)) if collection.form.optional() => {
                    return Ok(watch::ABSENT.to_owned());
                }
                // The pages' revision was forgotten between two pages: begin again at a newer one.
                Err(ApiError::Gone) if attempt < LIST_ATTEMPTS => {
                    attempt += 1;
                    items.truncate(start);
                    // By pages it may never be done where the server forgets sooner than this can read.
                    extent = if attempt < LIST_ATTEMPTS { Extent::Pages } else { Extent::Whole };
                }
                result => return result.map_err(|e| e.in_collection(&collection.path(), "listing")),
            }
        }
    }

    /// Writes an object at a revision that the API server compares.
    async fn replace(&self, key: &Key, place: &Place, value: &Value, revision: &str) -> Result<KeyValue> {
        let mut object = place::write(place, key, value);
        object["metadata"]["resourceVersion"] = json!(revision);
        let stored = self.client.put(&place.path(), &object).await.map_err(|e| e.on(key))?;
        self.finish(key, place, value, stored).await
    }

    /// Writes Calico's annotations of an object that Kubernetes owns.
    async fn annotate(&self, key: &Key, place: &Place, value: &Value, revision: &str) -> Result<KeyValue> {
        let mut patch = match value {
            Value::Resource(r) => match &**r {
                Resource::WorkloadEndpoint(w) => {
                    let mut patch = json!({ "metadata": { "annotations": pod::annotations(w) } });
                    // A pod that was made again under its name meanwhile is another pod.
                    if !w.metadata.uid.is_empty() {
                        patch["metadata"]["uid"] = json!(w.metadata.uid);
                    }
                    patch
                }
                Resource::Node(n) => {
                    let (_, current) = self.object(key, place).await?;
                    node::patch(n, current.as_bytes())?
                }
                other => return Err(refused(key, &format!("is no {}", other.kind()))),
            },
            _ => return Err(refused(key, "is no API object")),
        };
        if !revision.is_empty() {
            patch["metadata"]["resourceVersion"] = json!(revision);
        }
        let path = format!("{}/status", place.path());
        let stored = self.client.patch(&path, &patch).await.map_err(|e| e.on(key))?;
        self.value(key, place, &stored)
    }

    /// The stored value after a write; writes the status too where the kind has one of its own.
    async fn finish(&self, key: &Key, place: &Place, value: &Value, stored: String) -> Result<KeyValue> {
        let kv = self.value(key, place, &stored)?;
        let Key::Resource(r) = key else { return Ok(kv) };
        if !WITH_STATUS.contains(&r.kind) {
            return Ok(kv);
        }
        let object = place::write(place, key, value);
        let wanted = object.get("status").filter(|s| s.as_object().is_some_and(|m| !m.is_empty()));
        let Some(wanted) = wanted else { return Ok(kv) };
        let mut current: serde_json::Value =
            serde_json::from_str(&stored).map_err(|e| refused(key, &e.to_string()))?;
        if current.get("status") == Some(wanted) {
            return Ok(kv);
        }
        current["status"] = wanted.clone();
        match self.client.put(&format!("{}/status", place.path()), &current).await {
            Ok(stored) => self.value(key, place, &stored),
            // The resource's definition has no status of its own: what was written above is all there is.
            Err(ApiError::NotFound(_)) => Ok(kv),
            Err(e) => Err(e.on(key)),
        }
    }

    async fn create_at(&self, key: &Key, place: &Place, value: &Value) -> Result<KeyValue> {
        let object = place::write(place, key, value);
        match self.client.post(&place.collection.path(), &object).await {
            Ok(stored) => self.finish(key, place, value, stored).await,
            // The namespace, or the kind.
            Err(ApiError::NotFound(message)) => Err(refused(key, &message)),
            Err(e) => Err(e.on(key)),
        }
    }

    /// Removes what another client marked as deleted and did not get to remove.
    async fn sweep(&self, key: &Key, place: &Place) -> Result<bool> {
        let (meta, json) = match self.object(key, place).await {
            Ok(found) => found,
            Err(DatastoreError::NotFound(_)) => return Ok(true),
            Err(e) => return Err(e),
        };
        if !matches!(
            place::read(place.collection.form, &meta, json.as_bytes(), self.client.interface_prefix()),
            Meaning::Absent(_)
        ) {
            return Ok(false);
        }
        match self.client.delete(&place.path(), &preconditions(&meta)).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(true),
            Err(e) => Err(e.on(key)),
        }
    }

    async fn delete_once(&self, key: &Key, place: &Place, want: Option<&Revision>) -> Result<KeyValue> {
        let (meta, json) = self.object(key, place).await?;
        let form = place.collection.form;
        let previous = match place::read(form, &meta, json.as_bytes(), self.client.interface_prefix()) {
            Meaning::Value(kv) if kv.key == *key => kv,
            // A broken object can be removed like any other.
            Meaning::Malformed(..) => {
                codec::decode_lenient(key.clone(), b"", Revision(meta.resource_version.clone()))?
            }
            _ => return Err(DatastoreError::NotFound(key.clone())),
        };
        if want.is_some_and(|w| w.0 != meta.resource_version) {
            return Err(DatastoreError::Conflict(key.clone()));
        }
        if form.annotated() {
            if form == place::Form::Node {
                return Err(refused(key, "is a Node of Kubernetes: remove it with kubectl"));
            }
            let patch = json!({ "metadata": {
                "annotations": pod::released(), "uid": meta.uid, "resourceVersion": meta.resource_version,
            } });
            let path = format!("{}/status", place.path());
            self.client.patch(&path, &patch).await.map_err(|e| e.on(key))?;
        } else {
            self.client.delete(&place.path(), &preconditions(&meta)).await.map_err(|e| e.on(key))?;
        }
        Ok(previous)
    }
}

#[async_trait]
impl Datastore for KubernetesDatastore {
    async fn get(&self, key: &Key) -> Result<KeyValue> {
        let place = place::place(key)?;
        let (_, json) = self.object(key, &place).await?;
        self.value(key, &place, &json)
    }

    async fn list(&self, scope: &Scope) -> Result<Listing> {
        self.listing(scope, Extent::Pages).await
    }

    /// All at once over one connection: the answers are not of one revision.
    async fn read_many(&self, reads: &[Read]) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(reads.len());
        for some in reads.chunks(READS_AT_ONCE) {
            found.extend(try_join_all(some.iter().map(|r| self.find(r))).await?);
        }
        Ok(found)
    }

    async fn create(&self, key: &Key, value: Value) -> Result<KeyValue> {
        let place = writable(key)?;
        if place.collection.form.annotated() {
            if place.collection.form == place::Form::Node {
                return match self.object(key, &place).await {
                    Ok(_) => Err(DatastoreError::AlreadyExists(key.clone())),
                    Err(DatastoreError::NotFound(_)) => {
                        Err(refused(key, "is no Node of Kubernetes: the kubelet registers it"))
                    }
                    Err(e) => Err(e),
                };
            }
            // A pod's endpoint comes with the pod. Creating it gives it its addresses.
            return self.annotate(key, &place, &value, "").await;
        }
        match self.create_at(key, &place, &value).await {
            Err(DatastoreError::AlreadyExists(_)) if self.sweep(key, &place).await? => {
                self.create_at(key, &place, &value).await
            }
            result => result,
        }
    }

    async fn update(&self, kv: KeyValue) -> Result<KeyValue> {
        let KeyValue { key, value, revision } = kv;
        let place = writable(&key)?;
        if !revision.is_empty() && revision.0.parse::<u64>().is_err() {
            return Err(DatastoreError::Conflict(key));
        }
        if place.collection.form.annotated() {
            return self.annotate(&key, &place, &value, &revision.0).await;
        }
        if !revision.is_empty() {
            return self.replace(&key, &place, &value, &revision.0).await;
        }
        let mut attempt = 1;
        loop {
            let (meta, _) = self.object(&key, &place).await?;
            match self.replace(&key, &place, &value, &meta.resource_version).await {
                Err(DatastoreError::Conflict(_)) if attempt < WRITE_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn apply(&self, key: &Key, value: Value) -> Result<KeyValue> {
        let mut attempt = 1;
        loop {
            let revision = Revision::default();
            match self.update(KeyValue { key: key.clone(), value: value.clone(), revision }).await {
                Err(DatastoreError::NotFound(_)) => {}
                result => return result,
            }
            match self.create(key, value.clone()).await {
                Err(DatastoreError::AlreadyExists(_)) if attempt < WRITE_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn delete(&self, key: &Key, revision: Option<&Revision>) -> Result<KeyValue> {
        let place = writable(key)?;
        let want = revision.filter(|r| !r.is_empty());
        let mut attempt = 1;
        loop {
            match self.delete_once(key, &place, want).await {
                Err(DatastoreError::Conflict(_)) if want.is_none() && attempt < WRITE_ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        let mut revisions = Vec::with_capacity(writes.len());
        for write in writes {
            revisions.push(match write {
                Write::Create(key, value) => self.create(&key, value).await?.revision,
                Write::Update(kv) if kv.revision.is_empty() => self.apply(&kv.key, kv.value).await?.revision,
                Write::Update(kv) => self.update(kv).await?.revision,
                Write::Delete(key, Some(revision)) if !revision.is_empty() => {
                    self.delete_known(&key, &revision).await?
                }
                Write::Delete(key, _) => self.delete(&key, None).await?.revision,
            });
        }
        Ok(revisions)
    }

    async fn watch(&self, scope: &Scope, from: &Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        watch::start(&self.client, scope.clone(), from, &self.malformed).await
    }
}

fn head(key: &Key, json: &str) -> Result<HeadMeta> {
    match serde_json::from_str::<Head>(json) {
        Ok(head) => Ok(head.metadata),
        Err(e) => Err(refused(key, &e.to_string())),
    }
}

fn preconditions(meta: &HeadMeta) -> serde_json::Value {
    json!({
        "kind": "DeleteOptions", "apiVersion": "v1",
        "preconditions": { "uid": meta.uid, "resourceVersion": meta.resource_version },
    })
}

/// The place of a key that may be written.
fn writable(key: &Key) -> Result<Place> {
    let place = place::place(key).map_err(|e| match e {
        DatastoreError::NotFound(key) => refused(&key, "has no object in Kubernetes that it could stand for"),
        e => e,
    })?;
    match place.collection.form.read_only() {
        Some(reason) => Err(refused(key, reason)),
        None => Ok(place),
    }
}

fn refused(key: &Key, reason: &str) -> DatastoreError {
    DatastoreError::Other { key: key.path(), reason: reason.to_owned() }
}

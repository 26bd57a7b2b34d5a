//! `projectcalico.org/v3` objects in a datastore: what every client of the API does around a read or write.
//!
//! In come typed objects, out go stored ones. Always holds: what is written was completed with its defaults and is
//! valid; `uid` and `creationTimestamp` are given once, on creation, and stay; `metadata.resourceVersion` is the
//! stored revision, and where the caller sets it the write happens only if it still is. Policies are stored with the
//! tier label and the metadata annotation, workload endpoints with the namespace and orchestrator labels that
//! upstream's clients store; the annotation is taken off again on reads. What a newer version wrote into an object
//! stays in it when it is replaced.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use libcalico_api::policy::METADATA_ANNOTATION;
use libcalico_api::{Kind, ObjectMeta, Resource};
use libcalico_model::{Key, KeyValue, Revision, Value};

use crate::{Datastore, DatastoreError, Result, Scope};

/// Writes without a stated revision are repeated after a conflict, so often.
const ATTEMPTS: usize = 10;

/// What [`apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
}

/// The key of an object, by its kind and metadata. Cluster-scoped kinds have no namespace whatever the object says.
#[must_use]
pub fn key_of(resource: &Resource) -> Key {
    let meta = resource.metadata();
    key(resource.kind(), &meta.namespace, &meta.name)
}

fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key::resource(kind, if kind.namespaced() { namespace } else { "" }, name)
}

/// Creates an object. [`DatastoreError::AlreadyExists`] where one of its name exists.
pub async fn create(store: &dyn Datastore, mut resource: Resource) -> Result<Resource> {
    prepare(&mut resource)?;
    birth(resource.metadata_mut());
    let key = key_of(&resource);
    into_resource(store.create(&key, resource.into()).await?)
}

/// Replaces an existing object. Compares `metadata.resourceVersion` where it is set.
pub async fn replace(store: &dyn Datastore, mut resource: Resource) -> Result<Resource> {
    prepare(&mut resource)?;
    let key = key_of(&resource);
    let stated = Revision(resource.metadata().resource_version.clone());
    let mut attempt = 1;
    loop {
        let (identity, current) = identity(store, &key).await?;
        let mut next = resource.clone();
        if let Some(stored) = &identity.stored {
            next.keep_unknown(stored);
        }
        identity.keep(next.metadata_mut());
        let revision = if stated.is_empty() { current } else { stated.clone() };
        match store.update(KeyValue { key: key.clone(), value: next.into(), revision }).await {
            Err(DatastoreError::Conflict(_)) if stated.is_empty() && attempt < ATTEMPTS => attempt += 1,
            result => return into_resource(result?),
        }
    }
}

/// Creates the object, or replaces it where it exists.
pub async fn apply(store: &dyn Datastore, resource: Resource) -> Result<(Resource, Applied)> {
    let mut attempt = 1;
    loop {
        // Most applied objects are new or were written by the same person before: creation is the cheaper question.
        match create(store, resource.clone()).await {
            Err(DatastoreError::AlreadyExists(_)) => {}
            result => return Ok((result?, Applied::Created)),
        }
        match replace(store, resource.clone()).await {
            Err(DatastoreError::NotFound(_)) if attempt < ATTEMPTS => attempt += 1,
            result => return Ok((result?, Applied::Updated)),
        }
    }
}

/// Reads an object.
pub async fn get(store: &dyn Datastore, kind: Kind, namespace: &str, name: &str) -> Result<Resource> {
    into_resource(store.get(&key(kind, namespace, name)).await?)
}

/// Reads all objects of a kind, of one namespace or of all, in the order of their names, with the listing's revision.
pub async fn list(
    store: &dyn Datastore,
    kind: Kind,
    namespace: Option<&str>,
) -> Result<(Vec<Resource>, Revision)> {
    let scope = Scope::Kind { kind, namespace: namespace.filter(|_| kind.namespaced()).map(str::to_owned) };
    let listing = store.list(&scope).await?;
    let items = listing.items.into_iter().map(into_resource).collect::<Result<_>>()?;
    Ok((items, listing.revision))
}

/// Removes an object and returns what stood there. With a revision: only where it is still the stored one.
pub async fn delete(
    store: &dyn Datastore,
    kind: Kind,
    namespace: &str,
    name: &str,
    revision: Option<&Revision>,
) -> Result<Resource> {
    into_resource(store.delete(&key(kind, namespace, name), revision).await?)
}

/// Completes and checks an object as it will be stored.
fn prepare(resource: &mut Resource) -> Result<()> {
    if !resource.kind().namespaced() {
        resource.metadata_mut().namespace.clear();
    }
    resource.set_defaults();
    resource
        .validate()
        .map_err(|reasons| DatastoreError::Invalid { key: Box::new(key_of(resource)), reasons })
}

/// Gives a new object its identity. One that comes with a `uid` (an import from another datastore) keeps it.
fn birth(meta: &mut ObjectMeta) {
    if meta.uid.is_empty() {
        meta.uid = uuid::Uuid::new_v4().to_string();
    }
    if meta.creation_timestamp.is_none() {
        meta.creation_timestamp = Some(Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true));
    }
}

/// What an object keeps for its whole life.
struct Identity {
    uid: String,
    creation_timestamp: Option<String>,
    stored: Option<Arc<Resource>>,
}

impl Identity {
    fn keep(self, meta: &mut ObjectMeta) {
        meta.uid = self.uid;
        meta.creation_timestamp = self.creation_timestamp;
        birth(meta);
    }
}

/// The identity and revision of the stored object. A malformed one can be replaced: it gets a new identity.
async fn identity(store: &dyn Datastore, key: &Key) -> Result<(Identity, Revision)> {
    match store.get(key).await {
        Ok(kv) => {
            let (revision, stored) = (kv.revision.clone(), resource_of(kv)?);
            let meta = stored.metadata();
            let (uid, creation_timestamp) = (meta.uid.clone(), meta.creation_timestamp.clone());
            Ok((Identity { uid, creation_timestamp, stored: Some(stored) }, revision))
        }
        Err(DatastoreError::Malformed(_)) => {
            let nobody = Identity { uid: String::new(), creation_timestamp: None, stored: None };
            Ok((nobody, Revision::default()))
        }
        Err(e) => Err(e),
    }
}

fn into_resource(kv: KeyValue) -> Result<Resource> {
    let mut r = Arc::unwrap_or_clone(resource_of(kv)?);
    r.metadata_mut().annotations.remove(METADATA_ANNOTATION);
    Ok(r)
}

fn resource_of(kv: KeyValue) -> Result<Arc<Resource>> {
    match kv.value {
        Value::Resource(r) => Ok(r),
        _ => Err(DatastoreError::Other { key: kv.key.path(), reason: "is not an API object".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryDatastore;

    fn policy(name: &str, order: u32) -> Resource {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default"}},"spec":{{"order":{order},"selector":"all()"}}}}"#
        );
        Resource::from_json(Kind::NetworkPolicy, json.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn an_object_keeps_its_identity_through_updates() {
        let store = MemoryDatastore::new();
        let made = create(&store, policy("np", 1)).await.unwrap();
        assert_eq!(made.metadata().uid.len(), 36);
        let born = made.metadata().creation_timestamp.clone().unwrap();
        assert!(born.ends_with('Z') && born.len() == 20, "{born}");
        let (second, how) = apply(&store, policy("np", 2)).await.unwrap();
        assert_eq!(how, Applied::Updated);
        assert_eq!(second.metadata().uid, made.metadata().uid);
        assert_eq!(second.metadata().creation_timestamp, Some(born));
        assert_ne!(second.metadata().resource_version, made.metadata().resource_version);
        let stale = replace(&store, made).await;
        assert!(matches!(stale, Err(DatastoreError::Conflict(_))), "{stale:?}");
    }

    #[tokio::test]
    async fn a_policy_is_stored_with_upstreams_label_and_annotation_and_read_without_the_annotation() {
        let store = MemoryDatastore::new();
        create(&store, policy("np", 1)).await.unwrap();
        let path = "/calico/resources/v3/projectcalico.org/networkpolicies/default/np";
        let stored = String::from_utf8(store.dump()[path].clone()).unwrap();
        assert!(stored.contains(r#""labels":{"projectcalico.org/tier":"default"}"#), "{stored}");
        assert!(
            stored.contains(r#""annotations":{"projectcalico.org/metadata":"{\"name\":\"np\"}"}"#),
            "{stored}"
        );
        assert!(!stored.contains("resourceVersion"), "{stored}");
        let read = get(&store, Kind::NetworkPolicy, "default", "np").await.unwrap();
        assert!(read.metadata().annotations.is_empty());
        assert_eq!(read.metadata().resource_version, store.revision().0);
    }

    #[tokio::test]
    async fn what_a_newer_version_wrote_stays_through_replace_and_through_read_and_write() {
        let store = MemoryDatastore::new();
        create(&store, policy("np", 1)).await.unwrap();
        let path = "/calico/resources/v3/projectcalico.org/networkpolicies/default/np";
        let stored = || String::from_utf8(store.dump()[path].clone()).unwrap();
        let newer = stored().replace(r#""order":1"#, r#""order":1,"weight":{"x":[1]}"#);
        store.put_raw(path, newer.as_bytes());
        replace(&store, policy("np", 2)).await.unwrap();
        assert!(
            stored().contains(r#""weight":{"x":[1]}"#) && stored().contains(r#""order":2"#),
            "{}",
            stored()
        );
        let mut read = get(&store, Kind::NetworkPolicy, "default", "np").await.unwrap();
        read.metadata_mut().labels.insert("a".into(), "b".into());
        replace(&store, read).await.unwrap();
        assert!(
            stored().contains(r#""weight":{"x":[1]}"#) && stored().contains(r#""a":"b""#),
            "{}",
            stored()
        );
    }

    #[tokio::test]
    async fn an_invalid_object_is_refused_by_name_and_field() {
        let store = MemoryDatastore::new();
        let bad =
            Resource::from_json(Kind::IPPool, br#"{"metadata":{"name":"p"},"spec":{"cidr":"nonsense"}}"#);
        let error = create(&store, bad.unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("ippools/p") && error.contains("cidr"), "{error}");
        assert_eq!(store.calls().writes(), 0);
    }

    #[tokio::test]
    async fn listing_and_deleting_go_by_kind_and_namespace() {
        let store = MemoryDatastore::new();
        for n in ["b", "a"] {
            create(&store, policy(n, 1)).await.unwrap();
        }
        let (items, _) = list(&store, Kind::NetworkPolicy, Some("default")).await.unwrap();
        assert_eq!(items.iter().map(|r| r.metadata().name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        delete(&store, Kind::NetworkPolicy, "default", "a", None).await.unwrap();
        assert_eq!(list(&store, Kind::NetworkPolicy, None).await.unwrap().0.len(), 1);
    }
}

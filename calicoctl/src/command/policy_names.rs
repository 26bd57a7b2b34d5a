//! `datastore migrate-policy-names`: policies of the default tier under their own names.
//!
//! Before 3.32 upstream stored the policy `web` of the default tier as `default.web` and kept its own name inside. Each
//! such policy is written under its own name first and removed under the old one then, so that it is never absent; a run
//! that was cut short is finished by the next.

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, DatastoreType, Scope};
use libcalico_model::{Key, KeyValue, Value};

use crate::cli::{ConfigArgs, Global};
use crate::rules::tier_of;
use crate::{Error, Result, client};

const KINDS: [Kind; 4] = [
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
];
/// Annotation in which upstream keeps a policy's own name.
const METADATA_ANNOTATION: &str = "projectcalico.org/metadata";

/// Runs the command.
pub async fn run(config: &ConfigArgs, global: &Global) -> Result<()> {
    if client::settings(config, global)?.datastore_type != DatastoreType::EtcdV3 {
        return Err(Error::Usage(
            "policy names are migrated on etcd alone: on Kubernetes kube-controllers does it by itself"
                .to_owned(),
        ));
    }
    let store = client::open(config, global).await?;
    let mut migrated = 0;
    for kind in KINDS {
        for kv in store.list(&Scope::kind(kind)).await?.items {
            if let Some((key, value)) = renamed(&kv) {
                migrate(store.as_ref(), &kv, &key, value).await?;
                migrated += 1;
            }
        }
    }
    println!("Policy name migration complete, migrated {migrated} policies.");
    Ok(())
}

async fn migrate(store: &dyn Datastore, old: &KeyValue, key: &Key, value: Value) -> Result<()> {
    match store.create(key, value).await {
        // A run before this one was cut short.
        Ok(_) | Err(DatastoreError::AlreadyExists(_)) => {}
        Err(e) => return Err(e.into()),
    }
    match store.delete(&old.key, Some(&old.revision)).await {
        Ok(_) | Err(DatastoreError::NotFound(_)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Where a policy belongs, where it does not stand there.
fn renamed(kv: &KeyValue) -> Option<(Key, Value)> {
    let (Key::Resource(key), Value::Resource(stored)) = (&kv.key, &kv.value) else { return None };
    if tier_of(stored).is_some_and(|t| !t.is_empty() && t != "default") {
        return None;
    }
    let name = own_name(stored);
    if name.is_empty() || name == key.name {
        return None;
    }
    let mut resource = Resource::clone(stored);
    let meta = resource.metadata_mut();
    meta.name.clone_from(&name);
    meta.resource_version.clear();
    Some((Key::resource(key.kind, &key.namespace, name), resource.into()))
}

fn own_name(policy: &Resource) -> String {
    let meta = policy.metadata();
    let inside = meta.annotations.get(METADATA_ANNOTATION);
    let inside = inside.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let name = inside.and_then(|v| v.get("name")?.as_str().map(str::to_owned));
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| meta.name.clone())
}

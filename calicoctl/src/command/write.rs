//! What `apply`, `create` and `replace` share: every object of the files is written, each to where it belongs.
//!
//! `apply` and `create` go on after an object that fails, `replace` stops; the report names what was written and, of
//! several documents, which were not. Objects of other groups go to the Kubernetes API, or become Calico's on etcd.

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, KubernetesDatastore, resources};

use crate::cli::{ConfigArgs, Global, InputArgs};
use crate::command::outcome::{Outcome, Verb};
use crate::error::datastore_message;
use crate::foreign::{Foreign, ForeignKind};
use crate::resource_file::{Item, Purpose, load};
use crate::{Result, client, rules};

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Whether or not it exists.
    Apply,
    /// Where it does not exist. With `skip_exists` one that does counts as done.
    Create { skip_exists: bool },
    /// Where it exists.
    Replace,
}

impl How {
    fn verb(self) -> Verb {
        let (past, failed) = match self {
            Self::Apply => ("applied", "failed to apply"),
            Self::Create { .. } => ("created", "failed to create"),
            Self::Replace => ("replaced", "failed to replace"),
        };
        Verb { past, bracketed: true, failed }
    }
}

/// Why an object was not written.
enum Refused {
    Exists(String),
    Other(String),
}

impl From<DatastoreError> for Refused {
    fn from(e: DatastoreError) -> Self {
        let text = datastore_message(&e);
        if matches!(e, DatastoreError::AlreadyExists(_)) { Self::Exists(text) } else { Self::Other(text) }
    }
}

/// Writes everything that the command line names.
pub async fn run(input: &InputArgs, config: &ConfigArgs, global: &Global, how: How) -> Result<()> {
    let loaded = load(input, Purpose::Write)?;
    let stores = client::open_both(config, global).await?;
    if how != How::Replace {
        client::ensure_initialized(stores.calico.as_ref()).await?;
    }
    let mut outcome = Outcome::of(&loaded);
    for file in loaded {
        let name = file.item.label();
        let result = match file.item {
            Item::Calico(r) => one(stores.calico.as_ref(), r, how).await,
            Item::Foreign(f) => match &stores.kubernetes {
                Some(kubernetes) => native(kubernetes, f, how).await,
                None => on_etcd(stores.calico.as_ref(), &f, how).await,
            },
        };
        match result {
            Ok(()) => outcome.done(name),
            Err(Refused::Exists(_)) if how == (How::Create { skip_exists: true }) => outcome.done(name),
            Err(Refused::Exists(e) | Refused::Other(e)) => {
                outcome.failed_at(&file.place, e);
                if how == How::Replace {
                    break;
                }
            }
        }
    }
    println!("{}", outcome.finish(&how.verb())?);
    Ok(())
}

async fn one(store: &dyn Datastore, resource: Resource, how: How) -> Result<(), Refused> {
    if matches!(how, How::Create { .. }) {
        let meta = resource.metadata();
        // What exists is told as such, whatever else is wrong with a second object of its name.
        if let Ok(old) = resources::get(store, resource.kind(), &meta.namespace, &meta.name).await {
            return Err(DatastoreError::AlreadyExists(resources::key_of(&old)).into());
        }
    }
    rules::check_write(store, &resource).await.map_err(Refused::Other)?;
    match how {
        How::Apply => resources::apply(store, resource).await.map(|_| ())?,
        How::Create { .. } => resources::create(store, resource).await.map(|_| ())?,
        How::Replace => resources::replace(store, resource).await.map(|_| ())?,
    }
    Ok(())
}

/// Writes an object of another group to the API server. A revision that the file states is compared.
async fn native(store: &KubernetesDatastore, f: Foreign, how: How) -> Result<(), Refused> {
    let path = f.path(true);
    let label = f.label();
    let stored = store.raw(&path).await?;
    let mut object = f.object.clone();
    match (stored, how) {
        (Some(_), How::Create { .. }) => {
            Err(Refused::Exists(format!("resource already exists: {label} with error: <nil>")))
        }
        (None, How::Replace) => {
            Err(Refused::Other(format!("resource does not exist: {label} with error: <nil>")))
        }
        (None, _) => match store.create_raw(&f.path(false), &object).await? {
            true => Ok(()),
            false => Err(Refused::Other(format!("{label}: was made by someone else just now"))),
        },
        (Some(stored), _) => {
            let stored: serde_json::Value =
                serde_json::from_str(&stored).map_err(|e| Refused::Other(format!("{label}: {e}")))?;
            if let Some(meta) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                let revision = stored["metadata"]["resourceVersion"].clone();
                meta.entry("resourceVersion").or_insert(revision);
            }
            match store.replace_raw(&path, &object).await? {
                true => Ok(()),
                false => Err(Refused::Other(format!("{label}: was deleted by someone else just now"))),
            }
        }
    }
}

/// Writes what an object of another group means as Calico's objects.
async fn on_etcd(store: &dyn Datastore, f: &Foreign, how: How) -> Result<(), Refused> {
    let objects = f.as_calico().map_err(Refused::Other)?;
    let mut written = Vec::new();
    for resource in objects {
        let label = Item::Calico(resource.clone()).label();
        let shared = f.kind == ForeignKind::Installation && resource.kind() == Kind::FelixConfiguration;
        if shared {
            // The cluster's settings have other fields too, which stay.
            let whole = onto_stored(store, resource).await?;
            one(store, whole, How::Apply).await?;
        } else {
            one(store, resource, how).await?;
        }
        written.push(label);
    }
    if f.kind == ForeignKind::Installation {
        eprintln!(
            "Note: no operator acts on etcd. {} is written as {}.",
            f.label(),
            if written.is_empty() { "nothing".to_owned() } else { written.join(", ") }
        );
        let idle = f.without_effect_on_etcd();
        if !idle.is_empty() {
            eprintln!("Note: without an effect on etcd: {}.", idle.join(", "));
        }
    }
    Ok(())
}

/// The stored object with the fields of this one.
async fn onto_stored(store: &dyn Datastore, wanted: Resource) -> Result<Resource, Refused> {
    let (kind, meta) = (wanted.kind(), wanted.metadata());
    let stored = match resources::get(store, kind, &meta.namespace, &meta.name).await {
        Ok(stored) => stored,
        Err(DatastoreError::NotFound(_)) => return Ok(wanted),
        Err(e) => return Err(e.into()),
    };
    let text = |e: serde_json::Error| Refused::Other(e.to_string());
    let mut value = serde_json::to_value(&stored).map_err(text)?;
    let spec = serde_json::to_value(&wanted).map_err(text)?["spec"].take();
    json_patch::merge(&mut value["spec"], &spec);
    let bytes = serde_json::to_vec(&value).map_err(text)?;
    Resource::from_json(kind, &bytes).map_err(|e| Refused::Other(e.to_string()))
}

//! `delete`: removes objects by kind and name, or those that files name.
//!
//! Goes on after an object that fails. A pool gives its blocks back first, so that no node keeps claims on a range
//! that no longer exists.

use std::sync::Arc;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, resources};
use libcalico_ipam::{IpamClient, Owner};
use libcalico_model::kubernetes::network_policy;

use crate::cli::{DeleteArgs, Global};
use crate::client::{self, Stores};
use crate::command::outcome::{Outcome, Verb};
use crate::error::datastore_message;
use crate::foreign::{Foreign, ForeignKind};
use crate::resource_file::{Item, Purpose, load};
use crate::{Result, kinds, rules};

const VERB: Verb = Verb { past: "deleted", bracketed: false, failed: "Failed to delete" };

/// Name of an object that is to go.
enum Target {
    Calico { kind: Kind, namespace: String, name: String },
    Foreign(Foreign),
}

impl Target {
    fn kind(&self) -> &'static str {
        match self {
            Self::Calico { kind, .. } => kind.name(),
            Self::Foreign(f) => f.kind.name(),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Calico { kind, name, .. } => format!("{kind}({name})"),
            Self::Foreign(f) => format!("{}({})", f.kind.name(), f.name),
        }
    }
}

/// Runs the command.
pub async fn run(args: &DeleteArgs, global: &Global) -> Result<()> {
    let targets = targets(args)?;
    let stores = client::open_both(&args.config, global).await?;
    let mut outcome = Outcome::default();
    for t in targets {
        outcome.expect(t.kind());
        match delete(&stores, &t).await {
            Ok(()) => outcome.done(t.label()),
            Err(Failed::Missing(_)) if args.skip_not_exists => outcome.done(t.label()),
            Err(Failed::Missing(e) | Failed::Other(e)) => outcome.failed(e),
        }
    }
    println!("{}", outcome.finish(&VERB)?);
    Ok(())
}

fn targets(args: &DeleteArgs) -> Result<Vec<Target>> {
    let Some(word) = &args.kind else {
        let loaded = load(&args.input, Purpose::Name)?;
        return Ok(loaded.into_iter().map(|l| target_of(l.item)).collect());
    };
    if let Some(kind) = ForeignKind::by_word(word) {
        let (namespace, object) = (String::new(), serde_json::Value::Null);
        let target = |name: &String| {
            Target::Foreign(Foreign {
                kind,
                namespace: namespace.clone(),
                name: name.clone(),
                object: object.clone(),
            })
        };
        return named(kind.name(), &args.names).map(|names| names.iter().map(target).collect());
    }
    let kind = kinds::find(word)?;
    let namespace = match (kind.namespaced(), args.input.namespace.as_str()) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    let target = |name: &String| Target::Calico { kind, namespace: namespace.to_owned(), name: name.clone() };
    named(kind.name(), &args.names).map(|names| names.iter().map(target).collect())
}

fn named<'a>(kind: &str, names: &'a [String]) -> Result<&'a [String]> {
    if names.is_empty() {
        return Err(crate::Error::Usage(format!("give the name of the {kind} to delete")));
    }
    Ok(names)
}

fn target_of(item: Item) -> Target {
    match item {
        Item::Foreign(f) => Target::Foreign(f),
        Item::Calico(mut r) => {
            if r.metadata().name.is_empty() {
                r.set_defaults();
            }
            let meta = r.metadata();
            Target::Calico { kind: r.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
        }
    }
}

enum Failed {
    Missing(String),
    Other(String),
}

impl From<DatastoreError> for Failed {
    fn from(e: DatastoreError) -> Self {
        let text = datastore_message(&e);
        if matches!(e, DatastoreError::NotFound(_)) { Self::Missing(text) } else { Self::Other(text) }
    }
}

async fn delete(stores: &Stores, t: &Target) -> Result<(), Failed> {
    match (t, &stores.kubernetes) {
        (Target::Calico { kind, namespace, name }, _) => {
            delete_calico(&stores.calico, *kind, namespace, name).await
        }
        (Target::Foreign(f), Some(kubernetes)) => match kubernetes.delete_raw(&f.path(true)).await? {
            true => Ok(()),
            false => {
                Err(Failed::Missing(format!("resource does not exist: {} with error: <nil>", f.label())))
            }
        },
        (Target::Foreign(f), None) if f.kind == ForeignKind::NetworkPolicy => {
            let name = format!("{}{}", network_policy::NAME_PREFIX, f.name);
            delete_calico(&stores.calico, Kind::NetworkPolicy, &f.namespace, &name).await
        }
        (Target::Foreign(f), None) if f.kind == ForeignKind::Installation => Err(Failed::Other(format!(
            "{} is no object on etcd: delete the pools that were made of it, `calicoctl delete ippool NAME`",
            f.label()
        ))),
        (Target::Foreign(f), None) => Err(Failed::Missing(format!(
            "resource does not exist: {} belongs to the Kubernetes API and this datastore is etcd",
            f.label()
        ))),
    }
}

async fn delete_calico(
    store: &Arc<dyn Datastore>,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<(), Failed> {
    rules::check_delete(store.as_ref(), kind, name).await.map_err(Failed::Other)?;
    if kind == Kind::IPPool
        && let Resource::IPPool(pool) = resources::get(store.as_ref(), kind, "", name).await?
    {
        return delete_pool(store, *pool).await;
    }
    if kind == Kind::Node {
        resources::get(store.as_ref(), kind, "", name).await?;
        let ipam = IpamClient::new(store.clone());
        let released = ipam.release_all_affinities(&Owner::host(name), false).await;
        released.map_err(|e| Failed::Other(format!("release the blocks of {name}: {e}")))?;
    }
    resources::delete(store.as_ref(), kind, namespace, name, None).await?;
    Ok(())
}

/// Closes the pool for new addresses, gives up its empty blocks, then removes it. What stands in between is a
/// disabled pool, which a second `delete` finishes.
async fn delete_pool(
    store: &Arc<dyn Datastore>,
    mut pool: libcalico_api::ip_pool::IPPool,
) -> Result<(), Failed> {
    let name = pool.metadata.name.clone();
    let range = pool.network();
    if pool.spec.disabled != Some(true) {
        pool.spec.disabled = Some(true);
        resources::replace(store.as_ref(), pool.into()).await?;
    }
    if let Some(range) = range {
        let ipam = IpamClient::new(store.clone());
        let claims = ipam.all_affinities().await.map_err(|e| Failed::Other(e.to_string()))?;
        for (block, host, _) in claims.into_iter().filter(|(block, ..)| range.contains(block)) {
            let released = ipam.release_affinity(&Owner::host(&host), block, false).await;
            released.map_err(|e| Failed::Other(format!("release block {block} of {host}: {e}")))?;
        }
    }
    resources::delete(store.as_ref(), Kind::IPPool, "", &name, None).await?;
    Ok(())
}

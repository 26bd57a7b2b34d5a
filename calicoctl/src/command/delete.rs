//! `delete`: removes objects by kind and name, or those that files name.
//!
//! Goes on after an object that fails. A pool gives its blocks back first, so that no node keeps claims on a range
//! that no longer exists.

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, resources};
use libcalico_ipam::{IpamClient, Owner};

use crate::cli::{DeleteArgs, Global};
use crate::command::outcome::{Outcome, Verb};
use crate::error::datastore_message;
use crate::resource_file::{Purpose, load};
use crate::{Result, client, kinds, rules};

const VERB: Verb = Verb { past: "deleted", bracketed: false, failed: "Failed to delete" };

/// Name of an object that is to go.
struct Target {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Runs the command.
pub async fn run(args: &DeleteArgs, global: &Global) -> Result<()> {
    let targets = targets(args)?;
    let store = client::open(&args.config, global).await?;
    let mut outcome = Outcome::default();
    for t in targets {
        outcome.expect(t.kind);
        let result = match rules::check_delete(store.as_ref(), t.kind, &t.name).await {
            Ok(()) => delete(&store, &t).await,
            Err(refusal) => Err(Failed::Other(refusal)),
        };
        match result {
            Ok(()) => outcome.done(format!("{}({})", t.kind, t.name)),
            Err(Failed::Missing(_)) if args.skip_not_exists => {
                outcome.done(format!("{}({})", t.kind, t.name));
            }
            Err(Failed::Missing(e) | Failed::Other(e)) => outcome.failed(e),
        }
    }
    println!("{}", outcome.finish(&VERB)?);
    Ok(())
}

fn targets(args: &DeleteArgs) -> Result<Vec<Target>> {
    let Some(word) = &args.kind else {
        let loaded = load(&args.input, Purpose::Name)?;
        return Ok(loaded.into_iter().map(|l| target_of(&l.resource)).collect());
    };
    let kind = kinds::find(word)?;
    if args.names.is_empty() {
        return Err(crate::Error::Usage(format!("give the name of the {kind} to delete")));
    }
    let namespace = match (kind.namespaced(), args.input.namespace.as_str()) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    let target = |name: &String| Target { kind, namespace: namespace.to_owned(), name: name.clone() };
    Ok(args.names.iter().map(target).collect())
}

fn target_of(r: &Resource) -> Target {
    let mut named = r.clone();
    if r.metadata().name.is_empty() {
        named.set_defaults();
    }
    let meta = named.metadata();
    Target { kind: r.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
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

async fn delete(store: &std::sync::Arc<dyn Datastore>, t: &Target) -> Result<(), Failed> {
    if t.kind == Kind::IPPool
        && let Resource::IPPool(pool) = resources::get(store.as_ref(), t.kind, "", &t.name).await?
    {
        return delete_pool(store, *pool).await;
    }
    if t.kind == Kind::Node {
        resources::get(store.as_ref(), t.kind, "", &t.name).await?;
        let ipam = IpamClient::new(store.clone());
        let released = ipam.release_all_affinities(&Owner::host(&t.name), false).await;
        released.map_err(|e| Failed::Other(format!("release the blocks of {}: {e}", t.name)))?;
    }
    resources::delete(store.as_ref(), t.kind, &t.namespace, &t.name, None).await?;
    Ok(())
}

/// Closes the pool for new addresses, gives up its empty blocks, then removes it. What stands in between is a
/// disabled pool, which a second `delete` finishes.
async fn delete_pool(
    store: &std::sync::Arc<dyn Datastore>,
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

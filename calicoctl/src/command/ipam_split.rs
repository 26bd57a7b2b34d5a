//! `ipam split`: one pool becomes several of equal size that cover it. Blocks and addresses stay as they are.
//!
//! The datastore must be locked, because in between the pools overlap. All new pools are checked before the first is
//! written; a split that was interrupted leaves the old pool disabled, and repeating the command finishes it.

use std::sync::Arc;

use libcalico_api::ip_pool::IPPool;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, resources};
use libcalico_net::cidr::{IpNet, parse_network};

use crate::cli::{Global, IpamSplitArgs};
use crate::error::datastore_message;
use crate::{Error, Result, client};

/// Longest name of an object in Kubernetes.
const MAX_NAME: usize = 253;
/// More pools than anybody wants; bounds the list in memory.
const MAX_PARTS: usize = 1 << 12;

/// Runs the command.
pub async fn run(args: &IpamSplitArgs, global: &Global) -> Result<()> {
    let number = &args.number;
    let parts: usize = number.parse().map_err(|_| {
        Error::Usage(format!("error reading number to split IP pools into. {number} is not a valid number"))
    })?;
    let store = client::open(&args.config, global).await?;
    if !client::locked(store.as_ref()).await? {
        return Err(Error::Action(
            "datastore is not locked. Run the `calicoctl datastore migrate lock` command in order split the IP pools"
                .to_owned(),
        ));
    }
    let old = find(&store, args).await?;
    let name = old.metadata.name.clone();
    let new = split(&old, parts)?;
    let mut closed = old;
    closed.spec.disabled = Some(true);
    resources::replace(store.as_ref(), closed.into()).await?;
    for pool in &new {
        match resources::create(store.as_ref(), pool.clone().into()).await {
            // Of an interrupted split.
            Ok(_) | Err(DatastoreError::AlreadyExists(_)) => {}
            Err(e) => {
                let hint = format!("IPPool({name}) is disabled; repeat the command");
                return Err(Error::Action(format!("{}; {hint}", datastore_message(&e))));
            }
        }
    }
    resources::delete(store.as_ref(), Kind::IPPool, "", &name, None).await?;
    println!("IP Pool {name} was successfully split into {parts} smaller pools.");
    for pool in &new {
        println!(
            "Created {} with CIDR {}.",
            pool.metadata.name,
            pool.spec.cidr.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

async fn find(store: &Arc<dyn Datastore>, args: &IpamSplitArgs) -> Result<IPPool> {
    if let Some(name) = &args.name {
        return match resources::get(store.as_ref(), Kind::IPPool, "", name).await {
            Ok(Resource::IPPool(pool)) => Ok(*pool),
            Ok(_) => Err(Error::Action(format!("unable to find IP pool with name {name}"))),
            Err(e) => {
                let reason = datastore_message(&e);
                Err(Error::Action(format!("unable to find IP pool with name {name}: {reason}")))
            }
        };
    }
    let text = args.cidr.as_deref().unwrap_or_default();
    let cidr = parse_network(text).map_err(|e| Error::Usage(format!("--cidr: {e}")))?;
    let (pools, _) = resources::list(store.as_ref(), Kind::IPPool, None).await?;
    let found = pools.into_iter().find_map(|r| match r {
        Resource::IPPool(p) if p.network() == Some(cidr) => Some(*p),
        _ => None,
    });
    found.ok_or_else(|| Error::Action(format!("unable to find an IP pool with the CIDR {cidr}")))
}

/// The new pools, complete and checked.
fn split(old: &IPPool, parts: usize) -> Result<Vec<IPPool>> {
    let text = old.spec.cidr.clone().unwrap_or_default();
    let failed = |reason: String| {
        Error::Action(format!("error splitting the CIDR {text} into {parts} CIDRs: {reason}"))
    };
    let cidr = old.network().ok_or_else(|| failed("it is not a CIDR".to_owned()))?;
    let mut pools = Vec::new();
    for (i, net) in subnets(cidr, parts).map_err(failed)?.into_iter().enumerate() {
        let mut pool = IPPool::default();
        pool.metadata.labels = old.metadata.labels.clone();
        pool.metadata.annotations = old.metadata.annotations.clone();
        pool.metadata.name = name(&old.metadata.name, i);
        pool.spec = old.spec.clone();
        pool.spec.cidr = Some(net.to_string());
        pool.spec.disabled = Some(false);
        let mut complete = Resource::from(pool.clone());
        complete.set_defaults();
        complete
            .validate()
            .map_err(|found| failed(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        pools.push(pool);
    }
    Ok(pools)
}

fn name(old: &str, i: usize) -> String {
    let tail = format!("-{i}");
    let room = MAX_NAME.saturating_sub("split-".len() + tail.len());
    let kept: String = old.chars().take(room).collect();
    format!("split-{kept}{tail}")
}

fn subnets(cidr: IpNet, parts: usize) -> Result<Vec<IpNet>, String> {
    if !parts.is_power_of_two() || !(2..=MAX_PARTS).contains(&parts) {
        return Err(format!("{parts} is not a power of 2 from 2 to {MAX_PARTS}"));
    }
    let bits = u8::try_from(parts.trailing_zeros()).unwrap_or(u8::MAX);
    let len = cidr.prefix_len().saturating_add(bits);
    let nets = cidr.subnets(len).map_err(|_| format!("the CIDR {cidr} is too small"))?;
    Ok(nets.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_whole() {
        let nets = |text: &str, n| {
            subnets(text.parse().unwrap(), n).map(|v| v.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(nets("10.0.0.0/8", 2).unwrap(), ["10.0.0.0/9", "10.128.0.0/9"]);
        assert_eq!(nets("fd00::/48", 4).unwrap()[3], "fd00:0:0:c000::/50");
        for n in [0, 1, 3, 1 << 20] {
            assert!(nets("10.0.0.0/8", n).is_err(), "{n}");
        }
        assert!(nets("10.0.0.0/31", 4).is_err());
    }

    #[test]
    fn names_stay_within_the_limit() {
        assert_eq!(name("pool", 3), "split-pool-3");
        assert_eq!(name(&"x".repeat(300), 10).len(), MAX_NAME);
    }
}

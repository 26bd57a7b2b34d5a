//! Rules that an object alone cannot show: they need what stands in the datastore.
//!
//! Checked before a write: a policy's tier exists, pools do not overlap and keep their range, built-in objects
//! stay. Two writers at the same moment may still get past each other, as with upstream.

use libcalico_api::ip_pool::{IPPool, overlapping};
use libcalico_api::tier::BUILT_IN;
use libcalico_api::{Kind, Resource, profile};
use libcalico_datastore::{Datastore, DatastoreError, resources};

use crate::error::datastore_message;

/// Why a write is refused, in words.
pub type Refusal = String;

/// Checks an object that is about to be created or updated.
pub async fn check_write(store: &dyn Datastore, resource: &Resource) -> Result<(), Refusal> {
    match resource {
        Resource::IPPool(pool) => check_pool(store, pool).await,
        Resource::NetworkPolicy(p) => check_tier(store, p.spec.tier.as_deref()).await,
        Resource::GlobalNetworkPolicy(p) => check_tier(store, p.spec.tier.as_deref()).await,
        Resource::StagedNetworkPolicy(p) => check_tier(store, p.spec.tier.as_deref()).await,
        Resource::StagedGlobalNetworkPolicy(p) => check_tier(store, p.spec.tier.as_deref()).await,
        _ => Ok(()),
    }
}

async fn check_tier(store: &dyn Datastore, tier: Option<&str>) -> Result<(), Refusal> {
    let Some(tier) = tier.filter(|t| !t.is_empty() && *t != "default") else { return Ok(()) };
    let found = resources::get(store, Kind::Tier, "", tier).await;
    found.map(|_| ()).map_err(|e| format!("the policy's tier: {}", datastore_message(&e)))
}

async fn check_pool(store: &dyn Datastore, pool: &IPPool) -> Result<(), Refusal> {
    let (stored, _) = resources::list(store, Kind::IPPool, None).await.map_err(|e| datastore_message(&e))?;
    let stored = || stored.iter().filter_map(|r| <&IPPool>::try_from(r).ok());
    if let Some(old) = stored().find(|p| p.metadata.name == pool.metadata.name) {
        let changes = pool.forbidden_changes(old);
        if !changes.is_empty() {
            let reasons: Vec<String> = changes.iter().map(ToString::to_string).collect();
            return Err(reasons.join("; "));
        }
    }
    match overlapping(pool, stored()) {
        Some(other) => Err(format!(
            "IPPool({}): spec.cidr {:?} overlaps with IPPool({}) {:?}",
            pool.metadata.name,
            pool.spec.cidr.as_deref().unwrap_or_default(),
            other.metadata.name,
            other.spec.cidr.as_deref().unwrap_or_default()
        )),
        None => Ok(()),
    }
}

/// Checks an object that is about to be deleted.
pub async fn check_delete(store: &dyn Datastore, kind: Kind, name: &str) -> Result<(), Refusal> {
    match kind {
        Kind::Tier if BUILT_IN.iter().any(|(n, ..)| *n == name) => {
            Err(format!("operation delete is not supported on Tier({name}): it is built in"))
        }
        Kind::Profile if name == profile::DEFAULT_ALLOW => {
            Err(format!("operation delete is not supported on Profile({name}): it is built in"))
        }
        Kind::Tier => check_tier_is_empty(store, name).await,
        _ => Ok(()),
    }
}

async fn check_tier_is_empty(store: &dyn Datastore, tier: &str) -> Result<(), Refusal> {
    for kind in [
        Kind::NetworkPolicy,
        Kind::GlobalNetworkPolicy,
        Kind::StagedNetworkPolicy,
        Kind::StagedGlobalNetworkPolicy,
    ] {
        let (policies, _) =
            resources::list(store, kind, None).await.map_err(|e: DatastoreError| datastore_message(&e))?;
        let inside = policies.iter().find(|p| tier_of(p) == Some(tier));
        if let Some(p) = inside {
            return Err(format!(
                "operation delete is not supported on Tier({tier}): it has policies, the first is {kind} {}",
                p.metadata().name
            ));
        }
    }
    Ok(())
}

/// The tier that a policy names.
#[must_use]
pub fn tier_of(policy: &Resource) -> Option<&str> {
    match policy {
        Resource::NetworkPolicy(p) => p.spec.tier.as_deref(),
        Resource::GlobalNetworkPolicy(p) => p.spec.tier.as_deref(),
        Resource::StagedNetworkPolicy(p) => p.spec.tier.as_deref(),
        Resource::StagedGlobalNetworkPolicy(p) => p.spec.tier.as_deref(),
        _ => None,
    }
}

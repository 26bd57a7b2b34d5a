//! Start-up: the node in the datastore, and what the first node of a cluster leaves there for all.
//!
//! In come an [`Environment`] and a datastore; out go objects in the datastore and files on the host. Decisions are
//! pure ([`node_object`], [`defaults`]); this module reads, writes and repeats.
//!
//! Always holds: running it again changes nothing; nodes that start at once agree, because every write is a creation
//! or compares revisions, and who comes second takes what stands.

pub mod defaults;
pub mod node_object;

use std::sync::Arc;
use std::time::Duration;

use libcalico_api::felix_configuration::FelixConfiguration;
use libcalico_api::ip_pool::{EncapMode, IPPool};
use libcalico_api::node::Node;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, resources};
use libcalico_net::cidr::{Family, parse_network};
use tracing::{info, warn};

use crate::autodetect::{DetectError, interfaces};
use crate::environment::{AddressWish, Backend, Environment};
use crate::files::{self, Encapsulations, FileError};

/// How often a write that lost against another one is repeated.
const ATTEMPTS: usize = 10;
/// How soon an unreachable datastore is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Why start-up failed.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "node {other} already has the address {address}; two nodes cannot share one (DISABLE_NODE_IP_CHECK=true skips this check)"
    )]
    AddressConflict { address: std::net::IpAddr, other: String },
    #[error("no address was given or found, and routing between nodes needs one: set IP or IP6")]
    NoAddress,
    #[error("node {0} is changed by others all the time; giving up")]
    Contended(String),
}

impl StartupError {
    /// True where the datastore was not there, and nothing else was wrong.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Datastore(DatastoreError::Unreachable { .. }))
    }
}

/// Does all of start-up.
pub async fn run(store: &Arc<dyn Datastore>, environment: &Environment) -> Result<(), StartupError> {
    let store = store.as_ref();
    if environment.wait_for_datastore {
        wait_for(store).await?;
    }
    ensure_node(store, environment).await?;
    ensure_pools(store, environment).await?;
    ensure_cluster(store, environment).await?;
    write_files(store, environment).await?;
    info!(node = environment.node_name, "start-up done");
    Ok(())
}

async fn wait_for(store: &dyn Datastore) -> Result<(), StartupError> {
    let mut told = false;
    loop {
        match resources::get(store, Kind::ClusterInformation, "", "default").await {
            Err(error @ DatastoreError::Unreachable { .. }) => {
                if !told {
                    warn!(%error, "waiting for the datastore");
                    told = true;
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(error @ DatastoreError::Unauthorized(_)) => return Err(error.into()),
            _ => return Ok(()),
        }
    }
}

/// Brings the node's object up to date with the host.
pub async fn ensure_node(store: &dyn Datastore, environment: &Environment) -> Result<(), StartupError> {
    for _ in 0..ATTEMPTS {
        let host = interfaces().map_err(DetectError::from)?;
        let (all, _) = resources::list(store, Kind::Node, None).await?;
        let nodes: Vec<&Node> = all.iter().filter_map(|r| r.try_into().ok()).collect();
        let current = nodes.iter().copied().find(|n| n.name() == environment.node_name);
        let wanted = match node_object::plan(current, &nodes, environment, &host) {
            Ok(wanted) => wanted,
            Err(error) => {
                release_addresses(store, current, environment, &error).await;
                return Err(error);
            }
        };
        let Some(wanted) = wanted else { return Ok(()) };
        let bgp = wanted.spec.bgp.clone().unwrap_or_default();
        let written = match current {
            Some(_) => resources::replace(store, wanted.into()).await,
            None => resources::create(store, wanted.into()).await,
        };
        match written {
            Ok(_) => {
                info!(
                    node = environment.node_name,
                    ipv4 = bgp.ipv4_address.as_deref().unwrap_or("none"),
                    ipv6 = bgp.ipv6_address.as_deref().unwrap_or("none"),
                    "node written"
                );
                return Ok(());
            }
            Err(
                DatastoreError::Conflict(_) | DatastoreError::AlreadyExists(_) | DatastoreError::NotFound(_),
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StartupError::Contended(environment.node_name.clone()))
}

/// An address that was detected before and is another's or nobody's now must not stay in the datastore.
async fn release_addresses(
    store: &dyn Datastore,
    current: Option<&Node>,
    environment: &Environment,
    error: &StartupError,
) {
    let Some(current) = current else { return };
    let mut node = current.clone();
    let Some(bgp) = node.spec.bgp.as_mut() else { return };
    let (v4, v6) = match error {
        StartupError::AddressConflict { address, .. } => (address.is_ipv4(), address.is_ipv6()),
        StartupError::Detect(_) => (true, true),
        _ => return,
    };
    if v4 && environment.ip == AddressWish::Autodetect {
        bgp.ipv4_address = None;
    }
    if v6 && environment.ip6 == AddressWish::Autodetect {
        bgp.ipv6_address = None;
    }
    if node.spec.bgp == current.spec.bgp {
        return;
    }
    warn!(node = environment.node_name, "addresses that no longer hold are taken out of the node");
    if let Err(error) = resources::replace(store, node.into()).await {
        warn!(%error, "could not take them out");
    }
}

async fn ensure_pools(store: &dyn Datastore, environment: &Environment) -> Result<(), StartupError> {
    if environment.ipv4_pool.is_none() && environment.ipv6_pool.is_none() {
        return Ok(());
    }
    let (all, _) = resources::list(store, Kind::IPPool, None).await?;
    let present = |family| {
        all.iter()
            .filter_map(|r| <&IPPool>::try_from(r).ok())
            .filter_map(|p| parse_network(p.spec.cidr.as_deref()?).ok())
            .any(|c| Family::of_net(c) == family)
    };
    let host = interfaces().map_err(DetectError::from)?;
    if let Some(wish) = environment.ipv4_pool.as_ref().filter(|_| !present(Family::V4)) {
        create_once(store, defaults::pool(wish, Family::V4, &host)).await?;
    }
    if let Some(wish) = environment.ipv6_pool.as_ref().filter(|_| !present(Family::V6))
        && std::path::Path::new("/proc/sys/net/ipv6").exists()
    {
        create_once(store, defaults::pool(wish, Family::V6, &host)).await?;
    }
    Ok(())
}

async fn ensure_cluster(store: &dyn Datastore, environment: &Environment) -> Result<(), StartupError> {
    ensure(store, Kind::ClusterInformation, "default", |current| {
        defaults::cluster_information(current, environment.cluster_type.as_deref()).map(Resource::from)
    })
    .await?;
    for tier in defaults::tiers() {
        create_once(store, tier.into()).await?;
    }
    ensure(store, Kind::FelixConfiguration, "default", |current| {
        defaults::felix_configuration(current).map(Resource::from)
    })
    .await?;
    let own = format!("node.{}", environment.node_name);
    ensure(store, Kind::FelixConfiguration, &own, |current| {
        defaults::node_felix_configuration(current, &own).map(Resource::from)
    })
    .await?;
    create_once(store, defaults::bgp_configuration().into()).await?;
    create_once(store, defaults::ipam_configuration().into()).await
}

/// Creates an object unless one of its name stands already.
async fn create_once(store: &dyn Datastore, resource: Resource) -> Result<(), StartupError> {
    let (kind, name) = (resource.kind(), resource.metadata().name.clone());
    match resources::get(store, kind, "", &name).await {
        Ok(_) => return Ok(()),
        Err(DatastoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match resources::create(store, resource).await {
        Ok(_) => info!(%kind, name, "created"),
        Err(DatastoreError::AlreadyExists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Creates or completes an object: `complete` says what it should be, or nothing where it is well.
async fn ensure<T>(
    store: &dyn Datastore,
    kind: Kind,
    name: &str,
    complete: impl Fn(Option<&T>) -> Option<Resource>,
) -> Result<(), StartupError>
where
    for<'a> &'a T: TryFrom<&'a Resource>,
{
    for _ in 0..ATTEMPTS {
        let current = match resources::get(store, kind, "", name).await {
            Ok(resource) => Some(resource),
            Err(DatastoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let typed: Option<&T> = current.as_ref().and_then(|r| r.try_into().ok());
        let Some(wanted) = complete(typed) else { return Ok(()) };
        let written = match current {
            Some(_) => resources::replace(store, wanted).await,
            None => resources::create(store, wanted).await,
        };
        match written {
            Ok(_) => {
                info!(%kind, name, "written");
                return Ok(());
            }
            Err(
                DatastoreError::Conflict(_) | DatastoreError::AlreadyExists(_) | DatastoreError::NotFound(_),
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StartupError::Contended(name.to_owned()))
}

async fn write_files(store: &dyn Datastore, environment: &Environment) -> Result<(), StartupError> {
    let (pools, _) = resources::list(store, Kind::IPPool, None).await?;
    let uses = |mode: Option<EncapMode>| mode.is_some_and(|m| m != EncapMode::Never);
    let mut used = Encapsulations::default();
    for pool in pools.iter().filter_map(|r| <&IPPool>::try_from(r).ok()) {
        let v4 = pool.spec.cidr.as_deref().is_some_and(|c| !c.contains(':'));
        used.ipip |= uses(pool.spec.ipip_mode);
        used.vxlan |= v4 && uses(pool.spec.vxlan_mode);
        used.vxlan_v6 |= !v4 && uses(pool.spec.vxlan_mode);
    }
    let mut pattern = None;
    if let Ok(global) = resources::get(store, Kind::FelixConfiguration, "", "default").await
        && let Ok(felix) = <&FelixConfiguration>::try_from(&global)
    {
        used.wireguard =
            felix.spec.wireguard_enabled == Some(true) || felix.spec.wireguard_enabled_v6 == Some(true);
        pattern.clone_from(&felix.spec.mtu_iface_pattern);
    }
    let host = interfaces().map_err(DetectError::from)?;
    let mtu = files::workload_mtu(files::host_mtu(&host, pattern.as_deref()), used);
    files::write(&environment.mtu_file, &mtu.to_string())?;
    // The last: its presence says that the node is ready to be used.
    files::write(&environment.nodename_file, &environment.node_name)?;
    Ok(())
}

/// Looks at the host's addresses from time to time, where they are detected, and keeps the node's object true. Runs
/// until it is dropped.
pub async fn watch_addresses(store: Arc<dyn Datastore>, environment: Environment) {
    if environment.backend == Backend::None {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(environment.poll_interval).await;
        if let Err(error) = ensure_node(store.as_ref(), &environment).await {
            warn!(%error, "the node's addresses could not be brought up to date");
        }
    }
}

//! The datastore as the command line asks for it, and what is done once before writing to it.
//!
//! The order is upstream's: the configuration file named by `--config` where it exists (the usual one may be absent),
//! else the environment. An initialised datastore has a ClusterInformation and the built-in tiers; the first write
//! makes them where they are missing.

use std::path::Path;
use std::sync::Arc;

use libcalico_api::cluster_information::ClusterInformation;
use libcalico_api::tier::{BUILT_IN, Tier};
use libcalico_api::{CALICO_VERSION, Kind, Resource};
use libcalico_datastore::{
    ClientConfig, Datastore, DatastoreError, DatastoreType, KubernetesDatastore, connect, resources,
};

use crate::cli::{ConfigArgs, DEFAULT_CONFIG, Global};
use crate::{Error, Result};

/// A client of the datastore, once the cluster's version was compared with ours.
pub async fn open(config: &ConfigArgs, global: &Global) -> Result<Arc<dyn Datastore>> {
    let store = open_unchecked(config, global).await?;
    if !global.allow_version_mismatch {
        check_version(store.as_ref()).await?;
    }
    Ok(store)
}

/// A client of the datastore, whatever the cluster's version.
pub async fn open_unchecked(config: &ConfigArgs, global: &Global) -> Result<Arc<dyn Datastore>> {
    Ok(connect(&settings(config, global)?).await?)
}

/// The datastore, and the Kubernetes API where that is the datastore.
pub struct Stores {
    pub calico: Arc<dyn Datastore>,
    pub kubernetes: Option<Arc<KubernetesDatastore>>,
}

/// Both, once the cluster's version was compared with ours.
pub async fn open_both(config: &ConfigArgs, global: &Global) -> Result<Stores> {
    let settings = settings(config, global)?;
    let stores = match settings.datastore_type {
        DatastoreType::Kubernetes => {
            let kubernetes = Arc::new(KubernetesDatastore::new(settings.kubernetes));
            Stores { calico: kubernetes.clone(), kubernetes: Some(kubernetes) }
        }
        DatastoreType::EtcdV3 => Stores { calico: connect(&settings).await?, kubernetes: None },
    };
    if !global.allow_version_mismatch {
        check_version(stores.calico.as_ref()).await?;
    }
    Ok(stores)
}

/// Where the datastore is, by the configuration file where there is one, else by the environment.
pub fn settings(config: &ConfigArgs, global: &Global) -> Result<ClientConfig> {
    let path = config.config.as_path();
    let file = (path != Path::new(DEFAULT_CONFIG) || path.exists()).then_some(path);
    let mut settings = ClientConfig::load(file)?;
    if !global.context.is_empty() {
        settings.kubernetes.context = Some(global.context.clone());
    }
    Ok(settings)
}

/// The object that describes the cluster, where the datastore is initialised.
pub async fn cluster_information(store: &dyn Datastore) -> Result<Option<ClusterInformation>> {
    match resources::get(store, Kind::ClusterInformation, "", "default").await {
        Ok(Resource::ClusterInformation(info)) => Ok(Some(*info)),
        Ok(_) | Err(DatastoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// True where the datastore is locked: somebody migrates it, and what is changed takes no effect yet.
pub async fn locked(store: &dyn Datastore) -> Result<bool> {
    Ok(cluster_information(store).await?.is_some_and(|i| i.spec.datastore_ready == Some(false)))
}

async fn check_version(store: &dyn Datastore) -> Result<()> {
    let cluster = cluster_information(store).await?.and_then(|i| i.spec.calico_version).unwrap_or_default();
    // Our own daemons may tell their package's version instead.
    let ours = [release(CALICO_VERSION), release(env!("CARGO_PKG_VERSION"))];
    match release(&cluster) {
        theirs @ Some(_) if !ours.contains(&theirs) => {
            Err(Error::VersionMismatch { client: CALICO_VERSION.to_owned(), cluster })
        }
        _ => Ok(()),
    }
}

/// Major and minor number of `v3.34.0-0.dev-67`. Patch releases work with each other.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Makes ClusterInformation and the built-in tiers where they are missing. Someone else may do so at the same time.
pub async fn ensure_initialized(store: &dyn Datastore) -> Result<()> {
    if cluster_information(store).await?.is_none() {
        let mut info = ClusterInformation::default();
        "default".clone_into(&mut info.metadata.name);
        info.spec.cluster_guid = Some(uuid::Uuid::new_v4().simple().to_string());
        info.spec.calico_version = Some(CALICO_VERSION.to_owned());
        info.spec.datastore_ready = Some(true);
        create_missing(store, info.into()).await?;
    }
    let (tiers, _) = resources::list(store, Kind::Tier, None).await?;
    for (name, order, action) in BUILT_IN {
        if tiers.iter().any(|t| t.metadata().name == name) {
            continue;
        }
        let mut tier = Tier::default();
        name.clone_into(&mut tier.metadata.name);
        tier.spec.order = Some(order);
        tier.spec.default_action = Some(action.to_owned());
        create_missing(store, tier.into()).await?;
    }
    Ok(())
}

async fn create_missing(store: &dyn Datastore, resource: Resource) -> Result<()> {
    match resources::create(store, resource).await {
        Ok(_) | Err(DatastoreError::AlreadyExists(_)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcalico_datastore::memory::MemoryDatastore;

    #[test]
    fn patch_releases_and_development_builds_are_the_same_release() {
        assert_eq!(release("v3.34.0-0.dev-67-g87c15906f2"), release("v3.34.5"));
        assert_ne!(release("v3.33.0"), release("v3.34.0"));
        assert_eq!(release("master"), None);
    }

    #[tokio::test]
    async fn initialising_twice_changes_nothing() {
        let store = MemoryDatastore::new();
        ensure_initialized(&store).await.unwrap();
        let before = store.dump();
        ensure_initialized(&store).await.unwrap();
        assert_eq!(before, store.dump());
        assert_eq!(before.len(), 4);
        let info = cluster_information(&store).await.unwrap().unwrap();
        assert_eq!(info.spec.cluster_guid.unwrap().len(), 32);
    }
}

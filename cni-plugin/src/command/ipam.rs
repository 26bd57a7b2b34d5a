//! `calico-ipam` by itself: addresses for a network plugin other than `calico`.
//!
//! The same addresses under the same handle as `calico` would use; no endpoint, no interface.

use libcalico_datastore::Read;
use libcalico_ipam::{Assigned, IpamClient};

use super::addresses::{ipam_request, with_block_length};
use super::{cluster_key, ready};
use crate::error::{CniError, Code};
use crate::facts;
use crate::request::Request;
use crate::result::{CniResult, IpConfig};
use crate::store;
use crate::wishes::Wishes;
use crate::workload::Workload;

/// Assigns the addresses. Called again for the same container it gives the same ones.
pub async fn add(request: &Request) -> Result<CniResult, CniError> {
    let w = Workload::of(request, &store::node_name(&request.conf)?);
    let stores = store::open(&request.conf).await?;
    let store = &stores.store;
    let found = store.read_many(&[Read::Key(cluster_key())]).await?;
    ready(found.first())?;
    let client = store::ipam(&stores, &w.node);
    let mut w = w;
    if let Some(api) = stores.api.as_deref().filter(|_| w.is_pod()) {
        w.namespace_facts = Some(facts::namespace(api, &w).await?);
    }
    let wanted = ipam_request(request, &w, &Wishes::default())?;
    let mut addresses = client.ips_by_handle(&w.handle(&request.conf.name)).await?;
    if addresses.is_empty() {
        for ip in &request.args.ips {
            match client.assign_ip(&wanted, *ip).await {
                Ok(got) => addresses.extend(got.addresses),
                Err(e) => {
                    let undone = client.release_by_handle(&w.handle(&request.conf.name), Vec::new()).await;
                    let e = CniError::from(e);
                    return Err(undone.err().map_or(e.clone(), |more| e.and(&more.to_string())));
                }
            }
        }
    }
    if addresses.is_empty() {
        addresses = client.assign(&wanted).await?.addresses;
    }
    let ip = |a: &Assigned| IpConfig { interface: None, address: with_block_length(a), gateway: None };
    Ok(CniResult { ips: addresses.iter().map(ip).collect(), ..CniResult::default() })
}

/// Frees the addresses.
pub async fn del(request: &Request) -> Result<(), CniError> {
    let w = Workload::of(request, &store::node_name(&request.conf)?);
    let client = store::ipam(&store::open(&request.conf).await?, &w.node);
    let freed = client.release_by_handle(&w.handle(&request.conf.name), Vec::new()).await?;
    tracing::info!(container = %w.container_id, ?freed, "addresses freed");
    Ok(())
}

/// Says whether the container has addresses.
pub async fn check(request: &Request) -> Result<(), CniError> {
    let w = Workload::of(request, &store::node_name(&request.conf)?);
    let client = IpamClient::new(store::open(&request.conf).await?.store);
    if client.ips_by_handle(&w.handle(&request.conf.name)).await?.is_empty() {
        return Err(CniError::new(Code::CheckFailed, format!("container {} has no address", w.container_id)));
    }
    Ok(())
}

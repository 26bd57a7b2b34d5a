//! GC: what the runtime does not list any more goes.
//!
//! In comes the list of attachments that are still valid (`cni.dev/valid-attachments`), out go the endpoints of this
//! node and network that are not on it, with their interfaces and addresses, and addresses of this network on this
//! node that have no endpoint. Goes on after an error and reports all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, Scope, Write};
use libcalico_ipam::{IpamClient, block};
use libcalico_model::Value;

use super::OWN_IPAM;
use super::add::remove_by_host;
use crate::delegate;
use crate::error::{CniError, Code};
use crate::request::{Command, Request};
use crate::store;
use crate::workload::handle;

/// Serves GC.
pub async fn gc(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let conf = &request.conf;
    if conf.name.is_empty() {
        return Err(CniError::new(Code::InvalidConfig, "the network configuration has no name"));
    }
    let node = store::node_name(conf)?;
    let stores = store::open(conf).await?;
    let store = &stores.store;
    let valid: BTreeSet<&str> = conf.valid_attachments.iter().map(|a| a.container_id.as_str()).collect();
    let own = allocated(&**store, &node, &conf.name).await?;
    let client = IpamClient::new(Arc::clone(store));
    let mut errors = Vec::new();
    let mut done = BTreeSet::new();
    for kv in store.list(&Scope::kind(Kind::WorkloadEndpoint)).await?.items {
        let Value::Resource(r) = &kv.value else { continue };
        let Resource::WorkloadEndpoint(e) = &**r else { continue };
        let id = e.spec.container_id.as_str();
        // Endpoints of other networks have neither addresses nor the profile of this one, and are not ours to remove.
        let of_network = own.contains(id) || e.spec.profiles.contains(&conf.name);
        let ours = e.spec.node == node && of_network;
        if !ours || id.is_empty() || valid.contains(id) {
            continue;
        }
        tracing::info!(endpoint = %e.metadata.name, container = id, "the runtime does not know the container, removing");
        if let Err(e) = remove_by_host(e.spec.interface_name.clone()).await {
            errors.push(e.to_string());
            continue;
        }
        let extra = vec![Write::Delete(kv.key.clone(), Some(kv.revision.clone()))];
        if let Err(e) = client.release_by_handle(&handle(&conf.name, id), extra).await {
            errors.push(e.to_string());
        }
        done.insert(id.to_owned());
    }
    if conf.ipam.type_ == OWN_IPAM {
        for id in own.iter().filter(|id| !valid.contains(id.as_str()) && !done.contains(*id)) {
            tracing::info!(container = %id, "freeing the addresses of a container that the runtime does not know");
            if let Err(e) = client.release_by_handle(&handle(&conf.name, id), Vec::new()).await {
                errors.push(e.to_string());
            }
        }
    }
    if conf.ipam.type_ != OWN_IPAM
        && !conf.ipam.type_.is_empty()
        && let Err(e) = delegate::call(request, stdin, Command::Gc).await
    {
        errors.push(e.to_string());
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(CniError::new(Code::TryAgainLater, format!("{} attachment(s) could not be removed", errors.len()))
        .with_details(errors.join("; ")))
}

/// Containers of the network that have addresses on the node.
async fn allocated(store: &dyn Datastore, node: &str, network: &str) -> Result<BTreeSet<String>, CniError> {
    let prefix = format!("{network}.");
    let mut ids = BTreeSet::new();
    for kv in store.list(&Scope::Blocks).await?.items {
        let Value::Block(b) = &kv.value else { continue };
        for (_, attribute) in block::allocated(b) {
            let here = attribute.active_owner_attrs.get("node").is_some_and(|n| n == node);
            if let Some(id) =
                attribute.handle_id.as_deref().and_then(|h| h.strip_prefix(&prefix)).filter(|_| here)
            {
                ids.insert(id.to_owned());
            }
        }
    }
    Ok(ids)
}

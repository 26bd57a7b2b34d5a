//! GC: what the runtime does not list any more goes.
//!
//! In comes the list of attachments that are still valid (`cni.dev/valid-attachments`), out go the endpoints of this
//! node and network that are not on it, with their interfaces and addresses, and addresses of this network on this
//! node that have no endpoint. Goes on after an error and reports all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, Scope, Write};
use libcalico_ipam::vm::is_vm_handle;
use libcalico_ipam::{IpamClient, block};
use libcalico_model::{Revision, Value};

use super::OWN_IPAM;
use super::add::remove_by_host;
use crate::delegate;
use crate::endpoint;
use crate::error::{CniError, Code};
use crate::facts;
use crate::request::{Command, Request};
use crate::store::{self, Stores};
use crate::workload::{Workload, handle};

/// Serves GC.
pub async fn gc(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let conf = &request.conf;
    if conf.name.is_empty() {
        return Err(CniError::new(Code::InvalidConfig, "the network configuration has no name"));
    }
    let node = store::node_name(conf)?;
    let stores = store::open(conf).await?;
    let own = allocated(&*stores.store, &node, &conf.name).await?;
    let client = IpamClient::new(Arc::clone(&stores.store));
    let valid = conf.valid_attachments.iter().map(|a| a.container_id.as_str()).collect();
    let mut job =
        Job { request, node, client, stores, own, valid, errors: Vec::new(), done: BTreeSet::new() };
    if job.stores.kubernetes {
        job.pods().await;
    } else {
        job.endpoints().await?;
    }
    if conf.ipam.type_ == OWN_IPAM {
        job.addresses().await;
    } else if !conf.ipam.type_.is_empty()
        && let Err(e) = delegate::call(request, &delegate::stdin_for_del(request, stdin)?, Command::Gc).await
    {
        job.errors.push(e.to_string());
    }
    if job.errors.is_empty() {
        return Ok(());
    }
    let msg = format!("{} attachment(s) could not be removed", job.errors.len());
    Err(CniError::new(Code::TryAgainLater, msg).with_details(job.errors.join("; ")))
}

/// What one GC works with.
struct Job<'a> {
    request: &'a Request,
    node: String,
    stores: Stores,
    client: IpamClient,
    own: BTreeMap<String, Owner>,
    valid: BTreeSet<&'a str>,
    errors: Vec<String>,
    /// Containers that are removed.
    done: BTreeSet<String>,
}

/// The pod that a container is of; empty names where it is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owner {
    namespace: String,
    pod: String,
}

impl Job<'_> {
    /// Endpoints of etcd.
    async fn endpoints(&mut self) -> Result<(), CniError> {
        let network = &self.request.conf.name;
        for kv in self.stores.store.list(&Scope::kind(Kind::WorkloadEndpoint)).await?.items {
            let Value::Resource(r) = &kv.value else { continue };
            let Resource::WorkloadEndpoint(e) = &**r else { continue };
            let id = e.spec.container_id.as_str();
            // Endpoints of other networks have neither addresses nor the profile of this one, and are not ours to
            // remove.
            let of_network = self.own.contains_key(id) || e.spec.profiles.contains(network);
            let ours = e.spec.node == self.node && of_network;
            if !ours || id.is_empty() || self.valid.contains(id) {
                continue;
            }
            tracing::info!(endpoint = %e.metadata.name, container = id, "the runtime does not know the container, removing");
            if let Err(e) = remove_by_host(e.spec.interface_name.clone()).await {
                self.errors.push(e.to_string());
                continue;
            }
            let extra = vec![Write::Delete(kv.key.clone(), Some(kv.revision.clone()))];
            if let Err(e) = self.client.release_by_handle(&handle(network, id), extra).await {
                self.errors.push(e.to_string());
            }
            self.done.insert(id.to_owned());
        }
        Ok(())
    }

    /// Where a pod is its endpoint: what its addresses say of the container leads to the pod.
    async fn pods(&mut self) {
        let stale: Vec<(String, Owner)> = self
            .own
            .iter()
            .filter(|(id, o)| !self.valid.contains(id.as_str()) && !o.pod.is_empty())
            .map(|(id, o)| (id.clone(), o.clone()))
            .collect();
        for (id, owner) in stale {
            if let Err(e) = self.pod(&id, &owner).await {
                self.errors.push(e.to_string());
                // Its addresses wait for the next call, as they do in DEL.
                self.done.insert(id);
            }
        }
    }

    async fn pod(&self, id: &str, owner: &Owner) -> Result<(), CniError> {
        let w = Workload::of_pod(&self.node, &owner.namespace, &owner.pod, id);
        // The interface is named after the pod: a later container of it may have it now.
        let kept = self.own.iter().any(|(other, o)| o == owner && self.valid.contains(other.as_str()));
        if !kept {
            remove_by_host(w.veth_name()).await?;
        }
        let Some(api) = self.stores.api.as_deref() else { return Ok(()) };
        let Some(pod) = facts::pod(api, &w).await?.filter(|p| p.has_addresses_of(id)) else { return Ok(()) };
        let revision = Revision(pod.endpoint.metadata.resource_version);
        match self.stores.store.write_all(vec![Write::Delete(endpoint::key(&w), Some(revision))]).await {
            Ok(_) | Err(DatastoreError::NotFound(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Addresses of this network on this node whose container is unknown to the runtime.
    async fn addresses(&mut self) {
        let stale =
            self.own.keys().filter(|id| !self.valid.contains(id.as_str()) && !self.done.contains(*id));
        for id in stale {
            tracing::info!(container = %id, "freeing the addresses of a container that the runtime does not know");
            let freed = self.client.release_by_handle(&handle(&self.request.conf.name, id), Vec::new()).await;
            if let Err(e) = freed {
                self.errors.push(e.to_string());
            }
        }
    }
}

/// Containers of the network that have addresses on the node.
async fn allocated(
    store: &dyn Datastore,
    node: &str,
    network: &str,
) -> Result<BTreeMap<String, Owner>, CniError> {
    let prefix = format!("{network}.");
    let mut ids = BTreeMap::new();
    for kv in store.list(&Scope::Blocks).await?.items {
        let Value::Block(b) = &kv.value else { continue };
        for (_, attribute) in block::allocated(b) {
            let of = |name: &str| attribute.active_owner_attrs.get(name).cloned().unwrap_or_default();
            if of("node") != node {
                continue;
            }
            // Addresses of virtual machines outlive containers.
            if attribute.handle_id.as_deref().is_some_and(|h| is_vm_handle(network, h)) {
                continue;
            }
            if let Some(id) = attribute.handle_id.as_deref().and_then(|h| h.strip_prefix(&prefix)) {
                ids.insert(id.to_owned(), Owner { namespace: of("namespace"), pod: of("pod") });
            }
        }
    }
    Ok(ids)
}

//! DEL: everything of a pod goes. Repeated, or for the unknown, it does nothing and says so by success.
//!
//! Order: first the interface, so that no packet leaves from an address that is free; then, in one batch, addresses,
//! handle and endpoint. The interface is removed while the datastore is read, and also where it cannot be read: the
//! runtime calls again for the rest. An endpoint of a later container under the same pod name is left alone.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use libcalico_datastore::{Datastore, Found, Read, Write};
use libcalico_ipam::{IpamClient, IpamError};
use libcalico_model::Key;

use super::add::{changed, remove_by_host};
use super::{OWN_IPAM, kernel};
use crate::delegate;
use crate::endpoint::{self, StoredEndpoint};
use crate::error::{CniError, Code};
use crate::network::netns::NetNs;
use crate::network::remove;
use crate::plan::pod_mac;
use crate::request::{Command, Request};
use crate::store;
use crate::workload::Workload;

/// Times that DEL reads again when another writer changes the pod's endpoint meanwhile.
const ENDPOINT_CONFLICTS: usize = 10;

/// Serves DEL.
pub async fn del(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let node = store::node_name(&request.conf)?;
    let w = Workload::of(request, &node);
    let mac = pod_mac(&request.container_id, &request.ifname);
    let removing = remove_in(request.netns.clone(), request.ifname.clone(), mac);
    let store = store::open(&request.conf).await?;
    let (removed, known) = tokio::join!(removing, Known::read(&*store, request, &w));
    let removed = removed?;
    let known = known?;
    // The namespace may be gone but not yet dissolved by the kernel, or the interface was made by another plugin of
    // the same names (upstream's) with a MAC of its own: the endpoint, which is this container's, names its host end.
    if let Some(own) = known.own.as_ref().filter(|_| !removed) {
        remove_by_host(own.endpoint.spec.interface_name.clone()).await?;
    }
    release_known(request, stdin, &w, &store, known).await
}

/// Frees addresses and endpoint of the workload, without looking at the kernel. Also the undoing of a failed ADD.
pub(super) async fn release(
    request: &Request,
    stdin: &[u8],
    w: &Workload,
    store: &Arc<dyn Datastore>,
) -> Result<(), CniError> {
    let known = Known::read(&**store, request, w).await?;
    release_known(request, stdin, w, store, known).await
}

async fn release_known(
    request: &Request,
    stdin: &[u8],
    w: &Workload,
    store: &Arc<dyn Datastore>,
    mut known: Known,
) -> Result<(), CniError> {
    if request.conf.ipam.type_ != OWN_IPAM {
        delegate::call(request, stdin, Command::Del).await?;
    }
    let handle = w.handle(&request.conf.name);
    let key = endpoint::key(w);
    let client = IpamClient::new(Arc::clone(store));
    for _ in 0..ENDPOINT_CONFLICTS {
        let extra: Vec<Write> =
            known.own.iter().map(|e| Write::Delete(key.clone(), Some(e.revision.clone()))).collect();
        match client.release_by_handle_from(&handle, known.handle.take(), extra).await {
            Ok(freed) => {
                if known.own.is_some() || !freed.is_empty() {
                    let freed: &[IpAddr] = &freed;
                    tracing::info!(endpoint = %w.endpoint_name(), ?freed, "the pod's network is gone");
                }
                return Ok(());
            }
            Err(IpamError::Datastore(e)) if changed(&e, &key) => {
                known = Known::read(&**store, request, w).await?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(CniError::new(Code::TryAgainLater, "the pod's endpoint is changed by others all the time"))
}

/// What the datastore has of the pod.
struct Known {
    /// The endpoint, where it is this container's.
    own: Option<StoredEndpoint>,
    handle: Option<Found>,
}

impl Known {
    async fn read(store: &dyn Datastore, request: &Request, w: &Workload) -> Result<Self, CniError> {
        let mut reads = vec![Read::Key(endpoint::key(w))];
        if request.conf.ipam.type_ == OWN_IPAM {
            reads.push(Read::Key(Key::Handle(w.handle(&request.conf.name))));
        }
        let mut found = store.read_many(&reads).await?.into_iter();
        let endpoint = match found.next() {
            Some(Found::Key(Some(kv))) => StoredEndpoint::read(&kv),
            _ => None,
        };
        let id = &w.container_id;
        let own = endpoint.filter(|e| e.endpoint.spec.container_id == *id);
        Ok(Self { own, handle: found.next() })
    }
}

/// Removes the pod's interface where the namespace still stands. True where there was one.
async fn remove_in(netns: Option<PathBuf>, ifname: String, mac: [u8; 6]) -> Result<bool, CniError> {
    let Some(path) = netns else { return Ok(false) };
    let done = kernel(move || {
        let ns = match NetNs::open(&path) {
            Err(e) if NetNs::gone(&e) => return Ok(false),
            ns => ns?,
        };
        match remove(&ifname, mac, &ns) {
            Err(e) if NetNs::gone(&e) => Ok(false),
            done => done,
        }
    });
    done.await.map_err(|e| CniError::from(e).and("the interface is still there; DEL can be repeated"))
}

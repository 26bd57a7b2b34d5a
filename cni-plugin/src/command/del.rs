//! DEL: everything of a pod goes. Repeated, or for the unknown, it does nothing and says so by success.
//!
//! Order: first the interface is taken down, so that no packet leaves from an address that is free; then addresses,
//! handle and endpoint go from the datastore while the kernel removes the interface, for which it waits longer than a
//! datastore takes. The interface is removed also where the datastore cannot be reached: the runtime calls again for
//! the rest. An endpoint of a later container under the same pod name is left alone.
//!
//! Round trips with `calico-ipam`: on etcd two reads (endpoint and handle; the blocks that the handle names) and one
//! transaction; on Kubernetes the same reads and three writes in order (pod, block, handle). A DEL that is repeated, as
//! kubelet does two or three times, is the first read alone.

use std::net::IpAddr;
use std::path::PathBuf;

use libcalico_datastore::{Found, Read, Write};
use libcalico_ipam::vm::OwnerChange;
use libcalico_ipam::{IpamClient, IpamError};
use libcalico_model::Key;

use super::add::{changed, remove_by_host};
use super::{OWN_IPAM, kernel};
use crate::delegate;
use crate::endpoint::{self, StoredEndpoint};
use crate::error::{CniError, Code};
use crate::facts;
use crate::machine;
use crate::network::netns::NetNs;
use crate::network::{NetworkError, cut, remove};
use crate::plan::pod_mac;
use crate::request::{Command, Request};
use crate::store::{self, Stores};
use crate::workload::Workload;

/// Times that DEL reads again when another writer changes the pod's endpoint meanwhile.
const ENDPOINT_CONFLICTS: usize = 10;

/// Serves DEL.
pub async fn del(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let node = store::node_name(&request.conf)?;
    let mut w = Workload::of(request, &node);
    let mac = pod_mac(&request.container_id, &request.ifname);
    let in_pod = |work: fn(&str, [u8; 6], &NetNs) -> Result<bool, NetworkError>| {
        in_pod(request.netns.clone(), request.ifname.clone(), mac, work)
    };
    let stores = store::open(&request.conf).await?;
    if stores.kubernetes && !w.is_pod() {
        return Err(super::no_pod());
    }
    let known = async {
        w.machine = machine::of(&stores, &w).await?;
        Known::read(&stores, request, &w).await
    };
    if delegate::by_interface(request) {
        // A lease is given back over the interface.
        free_delegated(request, stdin).await?;
    }
    let (cut, known) = tokio::join!(in_pod(cut), known);
    let known = match known {
        Ok(known) => known,
        Err(e) => return Err(in_pod(remove).await.err().map_or(e.clone(), |more| e.and(&more.to_string()))),
    };
    if cut? {
        let (removed, released) =
            tokio::join!(in_pod(remove), release_known(request, stdin, &w, &stores, known));
        return released.and(removed.map(|_| ()));
    }
    // The namespace may be gone but not yet dissolved by the kernel, or the interface was made by another plugin of
    // the same names (upstream's) with a MAC of its own: the endpoint, which is this container's, names its host end.
    if let Some(own) = &known.own {
        remove_by_host(own.endpoint.spec.interface_name.clone()).await?;
    }
    release_known(request, stdin, &w, &stores, known).await
}

/// Frees addresses and endpoint of the workload, without looking at the kernel. Also the undoing of a failed ADD.
pub(super) async fn release(
    request: &Request,
    stdin: &[u8],
    w: &Workload,
    stores: &Stores,
) -> Result<(), CniError> {
    let known = Known::read(stores, request, w).await?;
    release_known(request, stdin, w, stores, known).await
}

async fn release_known(
    request: &Request,
    stdin: &[u8],
    w: &Workload,
    stores: &Stores,
    mut known: Known,
) -> Result<(), CniError> {
    if request.conf.ipam.type_ != OWN_IPAM {
        free_delegated(request, stdin).await?;
    }
    let handle = w.handle(&request.conf.name);
    let key = endpoint::key(w);
    let client = store::ipam(stores, &w.node);
    for _ in 0..ENDPOINT_CONFLICTS {
        let mut extra: Vec<Write> =
            known.own.iter().map(|e| Write::Delete(key.clone(), Some(e.revision.clone()))).collect();
        // Without transactions the endpoint goes first: nobody else has the address while it says it has.
        if !stores.store.atomic() && !extra.is_empty() {
            match stores.store.write_all(std::mem::take(&mut extra)).await {
                Err(e) if changed(&e, &key) => {
                    known = Known::read(stores, request, w).await?;
                    continue;
                }
                done => done?,
            };
        }
        let freed = match &w.machine {
            Some(m) => leave(&client, &handle, w, m.deleting, extra).await,
            None => client.release_by_handle_from(&handle, known.handle.take(), extra).await,
        };
        match freed {
            Ok(freed) => {
                if known.own.is_some() || !freed.is_empty() {
                    let freed: &[IpAddr] = &freed;
                    tracing::info!(endpoint = %w.endpoint_name(), ?freed, "the pod's network is gone");
                }
                return Ok(());
            }
            Err(IpamError::Datastore(e)) if changed(&e, &key) => {
                known = Known::read(stores, request, w).await?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(CniError::new(Code::TryAgainLater, "the pod's endpoint is changed by others all the time"))
}

/// Lets the other IPAM plugin free what the container has; nothing, where it was freed before.
async fn free_delegated(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let stdin = delegate::stdin_for_del(request, stdin)?;
    delegate::call(request, &stdin, Command::Del).await.map(|_| ())
}

/// A machine's pod goes: its addresses stay the machine's, unless that is being deleted and this was its last pod.
async fn leave(
    client: &IpamClient,
    handle: &str,
    w: &Workload,
    deleting: bool,
    extra: Vec<Write>,
) -> Result<Vec<IpAddr>, IpamError> {
    let left = client.set_owners(handle, &OwnerChange::Gone(machine::tenant(w))).await?;
    if deleting && left.iter().all(|a| !a.owned) {
        return client.release_by_handle(handle, extra).await;
    }
    // Of a handle that does not exist, the caller's own writes alone are done.
    client.release_by_handle_from(handle, None, extra).await
}

/// What the datastore has of the pod.
struct Known {
    /// The endpoint, where it is this container's.
    own: Option<StoredEndpoint>,
    handle: Option<Found>,
}

impl Known {
    async fn read(stores: &Stores, request: &Request, w: &Workload) -> Result<Self, CniError> {
        let mut reads = Vec::new();
        if request.conf.ipam.type_ == OWN_IPAM {
            reads.push(Read::Key(Key::Handle(w.handle(&request.conf.name))));
        }
        if let Some(api) = stores.api.as_deref().filter(|_| stores.kubernetes) {
            let found = async { stores.store.read_many(&reads).await.map_err(CniError::from) };
            let (found, pod) = tokio::try_join!(found, facts::pod(api, w))?;
            let own = pod.filter(|p| p.has_addresses_of(&w.container_id));
            return Ok(Self {
                own: own.as_ref().map(StoredEndpoint::of_pod),
                handle: found.into_iter().next(),
            });
        }
        reads.push(Read::Key(endpoint::key(w)));
        let mut found = stores.store.read_many(&reads).await?;
        let endpoint = match found.pop() {
            Some(Found::Key(Some(kv))) => StoredEndpoint::read(&kv),
            _ => None,
        };
        let own = endpoint.filter(|e| e.endpoint.spec.container_id == w.container_id);
        Ok(Self { own, handle: found.pop() })
    }
}

/// Does something with the pod's interface where the namespace still stands. True where there is one.
async fn in_pod(
    netns: Option<PathBuf>,
    ifname: String,
    mac: [u8; 6],
    work: fn(&str, [u8; 6], &NetNs) -> Result<bool, NetworkError>,
) -> Result<bool, CniError> {
    let Some(path) = netns else { return Ok(false) };
    let done = kernel(move || {
        let ns = match NetNs::open(&path) {
            Err(e) if NetNs::gone(&e) => return Ok(false),
            ns => ns?,
        };
        match work(&ifname, mac, &ns) {
            Err(e) if NetNs::gone(&e) => Ok(false),
            done => done,
        }
    });
    done.await.map_err(|e| CniError::from(e).and("the interface is still there; DEL can be repeated"))
}

//! STATUS: could an ADD succeed now?
//!
//! Asks the datastore the way ADD would, up to the point where it would write: the datastore answers, is not locked,
//! the node is registered, and an address of each wanted family is free.

use std::sync::Arc;

use libcalico_datastore::Read;
use libcalico_ipam::snapshot::Snapshot;
use libcalico_ipam::{IpamClient, Owner};

use super::addresses::ipam_request;
use super::{OWN_IPAM, answer, cluster_key, ready};
use crate::error::{CniError, Code};
use crate::request::Request;
use crate::store;
use crate::wishes::Wishes;
use crate::workload::Workload;

/// Serves STATUS.
pub async fn status(request: &Request) -> Result<(), CniError> {
    probe(request).await.map_err(|e| CniError { code: Code::NotAvailable, ..e })
}

async fn probe(request: &Request) -> Result<(), CniError> {
    let conf = &request.conf;
    let node = store::node_name(conf)?;
    crate::gates::wait_open(&conf.readiness_gates).await?;
    let stores = store::open(conf).await?;
    let store = &stores.store;
    let reads = [
        Read::Key(cluster_key()),
        Read::Key(libcalico_model::Key::resource(libcalico_api::Kind::Node, "", &*node)),
    ];
    let found = store.read_many(&reads).await?;
    ready(answer(&reads, &found, &cluster_key()))?;
    if !matches!(found.get(1), Some(libcalico_datastore::Found::Key(Some(_)))) {
        return Err(libcalico_ipam::IpamError::NodeMissing(node).into());
    }
    // With etcd as datastore an ADD needs the API server too, for the pod.
    if let Some(api) = stores.api.as_deref().filter(|_| !stores.kubernetes) {
        api.raw("/version").await?;
    }
    if conf.ipam.type_ == OWN_IPAM {
        let mut wanted = ipam_request(request, &Workload::of(request, &node), &Wishes::default())?;
        wanted.handle_id = None;
        wanted.namespace_labels = None;
        let snapshot = Snapshot::new(Owner::host(node), None).with_cached_lists();
        IpamClient::new(Arc::clone(store)).could_assign(&wanted, snapshot).await?;
    }
    Ok(())
}

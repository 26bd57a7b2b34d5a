//! Kubernetes objects → Calico's, and back where Calico writes into a Kubernetes object. Pure.
//!
//! - [`pod`]: Pod ↔ `WorkloadEndpoint`: what the network plugin knows of a pod stands in the pod's annotations.
//! - [`node`]: Node ↔ `Node`: Calico's fields stand in annotations.
//! - [`profile`]: Namespace and ServiceAccount → `Profile` (`kns.…`, `ksa.…`).
//! - [`network_policy`]: NetworkPolicy → `NetworkPolicy` (`knp.default.…`).
//! - [`cluster_network_policy`]: ClusterNetworkPolicy → `GlobalNetworkPolicy`.
//! - [`service`]: Service and EndpointSlice, as much of them as Calico uses.
//! - [`qos`]: annotations of a Pod → limits of its endpoint.
//! - [`ipam`]: IPAM's records ↔ their custom resources.
//!
//! In comes the JSON that the API server sends, out go typed objects with `metadata.resourceVersion` filled. Always
//! holds: the result depends on that object alone. Objects are read with small types of our own, since a cluster has
//! hundred thousands of pods and of each a dozen fields matter. Left out: where objects are read and written.

pub mod cluster_network_policy;
pub mod ipam;
mod label_selector;
pub mod network_policy;
pub mod node;
pub mod pod;
pub mod profile;
pub mod qos;
pub mod service;

use libcalico_api::{ObjectMeta, objects};
use serde::de::DeserializeOwned;

use crate::ValueError;

/// Reads the API server's JSON as a type of this module.
pub(crate) fn read<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, ValueError> {
    objects::from_slice(json).map_err(|e| malformed(what, e.to_string()))
}

pub(crate) fn malformed(key: impl Into<String>, reason: impl Into<String>) -> ValueError {
    ValueError::Malformed { key: key.into(), reason: reason.into() }
}

/// What a converted object keeps of the metadata it comes from: who it is, not who wrote its fields.
pub(crate) fn identity(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        generate_name: meta.generate_name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

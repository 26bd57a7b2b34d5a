//! `projectcalico.org/v3`: one file per kind, with its type, defaults, validation and columns.
//!
//! In comes JSON (from files, etcd or the Kubernetes API), out go typed objects. Field names, order and omission
//! of empty values are upstream's. What is left out: where objects are stored (`libcalico-model`).

pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod block_affinity;
pub mod calico_node_status;
pub mod cluster_information;
pub mod cluster_network_policy;
pub mod common;
#[cfg(feature = "schema")]
pub mod crd;
pub mod duration;
pub mod felix_configuration;
pub mod global_network_policy;
pub mod global_network_set;
pub mod host_endpoint;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam_block;
pub mod ipam_configuration;
pub mod ipam_handle;
pub mod kube_controllers_configuration;
pub mod meta;
pub mod names;
pub mod network_policy;
pub mod network_set;
pub mod node;
pub mod num_or_string;
pub mod objects;
pub mod operator;
pub mod policy;
pub mod profile;
pub mod resource;
pub mod rule;
pub mod staged_global_network_policy;
pub mod staged_kubernetes_network_policy;
pub mod staged_network_policy;
pub mod strict;
pub mod tier;
pub mod unknown;
pub mod validation;
pub mod workload_endpoint;

/// The upstream release whose API and stored data this speaks. `ClusterInformation.spec.calicoVersion` begins with it:
/// upstream's calicoctl refuses a cluster whose version, up to the first dash, is not its own.
pub const CALICO_VERSION: &str = "v3.34.0";

pub use meta::{API_VERSION, NoStatus, Object, ObjectMeta};
pub use resource::{Kind, Resource, ResourceError};
pub use strict::UnknownOrBadField;
pub use validation::Invalid;

//! `operator.tigera.io/v1`: how Calico is installed on Kubernetes, as administrators describe it to the operator.
//!
//! In comes JSON, out go typed objects, as with Calico's own kinds. What is left out: acting on them (the operator),
//! and the kinds of upstream's that have no part here yet.

pub mod installation;

/// API version of the kinds.
pub const API_VERSION: &str = "operator.tigera.io/v1";

//! The CNI plugins `calico` and `calico-ipam`: a pod's interface, addresses, routes and endpoint.
//!
//! ```text
//! environment + standard input
//!        │ request::parse (pure)
//!        ▼
//!     Request ── workload (pure: names, labels, profiles) ── plan (pure: interfaces, sysctls, routes)
//!        │                                                        │
//!        ▼                                                        ▼
//!     command::{add,del,check,status,gc} ──▶ datastore       network (netlink, sysctl)
//!        │
//!        ▼
//!     result (pure: JSON of each CNI version) or error::CniError
//! ```
//!
//! Always holds: what is printed is JSON of the version that was asked for; a failed ADD leaves neither address nor
//! endpoint nor interface behind; a killed ADD leaves nothing that DEL does not find. Nothing is locked
//! across a call to the datastore, no child process (other IPAM plugins excepted), no traffic for the pod before Felix
//! opens the endpoint.
//!
//! Left out: policy (Felix).

pub mod command;
pub mod delegate;
pub mod endpoint;
pub mod error;
pub mod facts;
pub mod gates;
pub mod install;
pub mod log;
pub mod machine;
pub mod names;
pub mod netconf;
pub mod network;
pub mod plan;
pub mod policy_wait;
pub mod request;
pub mod result;
pub mod run;
pub mod store;
pub mod version;
pub mod wishes;
pub mod workload;

//! Typha: one watch on the datastore for any number of Felixes and confds.
//!
//! ```text
//!  datastore ──▶ syncer (felix) ──▶ cache ──┬─▶ session ──▶ client 1
//!  datastore ──▶ syncer (bgp)   ──▶ cache   ├─▶ session ──▶ client 2      one encoded stream, shared
//!                                           └─▶ session ──▶ client n
//! ```
//!
//! [`cache`] and [`session`] are pure; [`server`] and [`client`] put them on gRPC. A client's stream is the same as a
//! local syncer's, so that Felix and confd do not care where it comes from. Left out: where Typhas run and how clients
//! find them in Kubernetes.

pub mod cache;
pub mod client;
pub mod config;
pub mod identity;
pub mod kind;
pub mod metrics;
pub mod server;
pub mod session;

pub use kind::SyncerKind;

/// The port that clients expect Typha on.
pub const DEFAULT_PORT: u16 = 5473;

//! Addresses for workloads, tunnels and services: which block a host takes, which address a workload gets.
//!
//! In comes a [`libcalico_datastore::Datastore`], out go assigned addresses. Layers:
//!
//! - pure: [`block`] (the bitmap of one block), [`pool`] (which pools a request may use), [`candidates`] (in which
//!   order a host tries blocks), [`assign`] and [`release`] (from a [`snapshot`] of the datastore to the next step),
//!   [`usage`] (figures for `ipam show`), [`check`] (what does not fit together). No clock, no I/O.
//! - [`turns`]: a queue of a host's processes, so that they do not all write one block at once;
//! - [`records`]: reads what [`check`] compares, more than once where something does not fit;
//! - [`client`]: carries the steps out by compare-and-swap and starts over where someone else was faster.
//!
//! Always holds: an address is in at most one allocation of one block, because a block is one key and each change of
//! it names the revision that it was computed from. What is written is upstream's data, and every intermediate state
//! is one that upstream's clients recognise (affinity pending → block → affinity confirmed), so both may work on one
//! datastore at once. No lock is held across calls to the datastore.
//!
//! Left out: the network configuration of a pod (`cni-plugin`), collection of leaked addresses (`kube-controllers`).

pub mod affinity;
pub mod assign;
pub mod assign_ip;
pub mod block;
pub mod candidates;
pub mod check;
pub mod client;
pub mod error;
pub mod moment;
pub mod owner;
pub mod pool;
pub mod records;
pub mod release;
pub mod snapshot;
pub mod tunnel;
pub mod turns;
pub mod usage;
pub mod vm;

pub use assign::{AssignRequest, Assigned};
pub use client::{Assignment, IpamClient, Released};
pub use error::IpamError;
pub use moment::Moment;
pub use owner::Owner;
pub use usage::{BlockUsage, PoolUsage};

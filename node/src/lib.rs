//! calico-node: makes a machine a node of the cluster and keeps its daemons running.
//!
//! ```text
//!  environment ──▶ startup: autodetect ─▶ Node, pools, defaults ─▶ datastore;  nodename, mtu ─▶ files
//!                     │
//!                     ▼
//!  supervise: calico-felix, confd, bird-rs (restart with backoff, logs, end)   health: one answer for all
//! ```
//!
//! Always holds: start-up can run any number of times, on any number of nodes at once, with the same result; a child
//! is running, or about to be started again; killing calico-node stops its children without changing what is in the
//! kernel.
//!
//! Left out: kubeadm's pod network.

pub mod autodetect;
pub mod cleanup;
pub mod cni;
pub mod condition;
pub mod environment;
pub mod files;
pub mod health;
pub mod startup;
pub mod supervise;

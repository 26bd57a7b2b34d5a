//! The laboratory: whole Calico clusters made of network namespaces on one Linux machine.
//!
//! In: a [`LabConfig`] (how many machines, subnets, Typhas, which encapsulation) and the folder of built binaries.
//! Out: a [`Lab`] with machines, a real etcd, Calico's daemons and pods whose network is made only by the CNI
//! plugin; and ways to look at it: [`Lab::probe`], [`Lab::exec`], [`traffic`].
//!
//! What always holds:
//! - nothing is added to the root network namespace; the switch and router stand in a namespace of their own;
//! - the host's files are untouched: every machine sees private folders through a mount namespace;
//! - whatever a lab made can be removed by [`Lab::down`], also when its maker was killed half way, because
//!   every thing can be found by its name or by the namespace it lives in.
//!
//! Left out: Kubernetes (the lab acts as the orchestrator itself; [`k8s`] is a handle on a real one) and anything that
//! survives a reboot.

pub mod bench;
pub mod bird_control;
pub mod certificates;
pub mod cni;
mod error;
pub mod k8s;
pub mod kernel;
pub mod lab;
pub mod names;
pub mod place;
mod pods;
pub mod probe;
pub mod process;
pub mod quickstart;
mod ready;
pub mod serve;
pub mod state;
pub mod status;
pub mod topology;
pub mod traffic;

pub use error::{LabError, Result};
pub use lab::Lab;
pub use names::PodName;
pub use place::{Output, Place};
pub use pods::{Pod, PodSpec};
pub use probe::{Expect, ProbeReport, Seen, Target};
pub use topology::{Dataplane, Datastore, Encap, LabConfig};

//! The one datastore model: typed keys and values, the updates that travel from the datastore to every component.
//!
//! - [`key::Key`] names everything that is stored or calculated with; its text is upstream's etcd path.
//! - [`value::Value`] is what stands at a key; its JSON is upstream's.
//! - [`Update`] and [`SyncStatus`] are what a syncer, Typha and Felix exchange.
//!
//! Two families of keys stand side by side, as in upstream. *Stored* keys are what is in the datastore
//! (`projectcalico.org/v3` resources and IPAM's records). *Calculation* keys are what the syncer makes of stored
//! resources for Felix (`/calico/v1/...`: endpoints, policies, tiers, pools, host configuration).
//!
//! [`kubernetes`] turns objects of the Kubernetes API into stored ones and back; [`felix_configuration`] gives the
//! texts of Felix's parameters.
//!
//! Left out: where and how things are stored (`libcalico-datastore`).

pub mod backend;
pub mod felix_configuration;
mod felix_parameters;
pub mod ipam;
pub mod key;
pub mod kubernetes;
pub mod update;
pub mod value;

pub use key::{Key, PolicyKind, ResourceKey};
pub use update::{SyncStatus, SyncerEvent, Update};
pub use value::{KeyValue, Revision, Value, ValueError};

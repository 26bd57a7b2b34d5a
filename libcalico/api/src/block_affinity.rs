//! `BlockAffinity` of `projectcalico.org/v3`: the claim of a node on a block of addresses.
//!
//! Written by IPAM where the datastore is the Kubernetes API; in etcd the same record has its own key and form. What
//! is left out: the life of a claim (`libcalico-ipam`).

use serde::{Deserialize, Serialize};

use crate::meta::{NoStatus, Object};

/// The whole object.
pub type BlockAffinity = Object<BlockAffinitySpec, NoStatus>;

/// Which block belongs to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BlockAffinitySpec {
    /// Where the claim is in its life; empty counts as confirmed.
    pub state: BlockAffinityState,
    /// The node, or the virtual owner, that claims the block.
    pub node: String,
    /// `host` or `virtual`: what `node` is the name of; empty counts as `host`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub affinity_type: String,
    /// The block's range.
    pub cidr: String,
    /// True once the claim is given up and about to be removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Life of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum BlockAffinityState {
    #[default]
    #[serde(rename = "")]
    Unset,
    Confirmed,
    Pending,
    PendingDeletion,
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = crate::crd::Table {
    columns: &[
        ("CIDR", "string", ".spec.cidr"),
        ("Node", "string", ".spec.node"),
        ("Type", "string", ".spec.type"),
    ],
    status: false,
    limits: &[&[
        ("spec", &[crate::crd::Set::Required(&["cidr", "node", "state"])]),
        ("spec.cidr", &[crate::crd::Set::Format("cidr")]),
        ("spec.deleted", &[crate::crd::Set::Default("false")]),
    ]],
};

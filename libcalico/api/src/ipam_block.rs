//! `IPAMBlock` of `projectcalico.org/v3`: a block of addresses and who has each.
//!
//! Written by IPAM where the datastore is the Kubernetes API; in etcd the same record has its own key and form. What
//! is left out: taking and giving back addresses (`libcalico-ipam`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};

/// The whole object.
pub type IPAMBlock = Object<IPAMBlockSpec, NoStatus>;

/// A block: its owner, its addresses in order, and what is known of their users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPAMBlockSpec {
    /// The block's range.
    pub cidr: String,
    /// `host:NODE` or `virtual:OWNER` that claims the block; absent once nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// When the block was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// For each address of the block, in order, the index of its entry in `attributes`; null is free.
    #[serde(deserialize_with = "null_default")]
    pub allocations: Vec<Option<i64>>,
    /// Free addresses, as places in the block, the next to be given out first.
    #[serde(deserialize_with = "null_default")]
    pub unallocated: Vec<i64>,
    /// Users of addresses, referred to by `allocations`.
    #[serde(deserialize_with = "null_default")]
    pub attributes: Vec<AllocationAttribute>,
    /// Counts the writes of the block.
    pub sequence_number: u64,
    /// The sequence number at which an address was taken, by its place in the block.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Kept for old readers: other nodes take no address of the block.
    pub strict_affinity: bool,
    /// True once the block is given up and about to be removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Who has one or more addresses of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AllocationAttribute {
    /// The handle of the owner.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// What the owner said of itself: pod, namespace, node, kind of use.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub secondary: BTreeMap<String, String>,
    /// The other owner of the same address while a virtual machine moves.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When the address was given back, while it rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = crate::crd::Table {
    columns: &[
        ("CIDR", "string", ".spec.cidr"),
        ("Affinity", "string", ".spec.affinity"),
        ("ClaimTime", "date", ".spec.affinityClaimTime"),
    ],
    status: false,
    limits: &[&[
        ("spec", &[crate::crd::Set::Required(&["allocations", "attributes", "cidr", "unallocated"])]),
        ("spec.cidr", &[crate::crd::Set::Format("cidr")]),
        ("spec.affinity", &[crate::crd::Set::Pattern(r"^(host|virtual):[a-zA-Z0-9\.\-_]+$")]),
        ("spec.affinityClaimTime", &[crate::crd::Set::Format("date-time")]),
        ("spec.allocations[]", &[crate::crd::Set::Nullable]),
        ("spec.attributes[].releasedAt", &[crate::crd::Set::Format("date-time")]),
        ("spec.sequenceNumber", &[crate::crd::Set::Format("int64"), crate::crd::Set::Default("0")]),
        ("spec.sequenceNumberForAllocation.*", &[crate::crd::Set::Format("int64")]),
    ]],
};

//! IPAM's records as they stand in the datastore: blocks, affinities, handles, configuration. JSON names and
//! meaning are upstream's; decisions about them are `libcalico-ipam`'s.

use std::collections::BTreeMap;

use ipnet::IpNet;
use libcalico_api::common::{EnabledDisabled, null_default};
use serde::{Deserialize, Serialize};

/// A block of addresses and who has each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocationBlock {
    pub cidr: IpNet,
    /// `host:NODE`, `virtual:NAME`, or none for a block without an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// Old field, read only.
    #[serde(rename = "strictAffinity", default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_affinity: bool,
    /// For each ordinal the index into `attributes`, or none where the address is free.
    #[serde(default, deserialize_with = "null_default")]
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals in the order in which they are given out.
    #[serde(default, deserialize_with = "null_default")]
    pub unallocated: Vec<usize>,
    #[serde(default, deserialize_with = "null_default")]
    pub attributes: Vec<AllocationAttribute>,
    #[serde(rename = "sequenceNumber", default)]
    pub sequence_number: u64,
    /// By ordinal (as text): the sequence number at which the address was given out.
    #[serde(rename = "sequenceNumberForAllocation", default, deserialize_with = "null_default")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    #[serde(default)]
    pub deleted: bool,
    /// Set by very old writers instead of `affinity`.
    #[serde(rename = "hostAffinity", default, skip_serializing_if = "Option::is_none")]
    pub host_affinity: Option<String>,
}

/// Who has an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationAttribute {
    /// `None` for an address without a handle.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// `namespace`, `node`, `pod`, `timestamp`, `type` …
    #[serde(
        rename = "secondary",
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub active_owner_attrs: BTreeMap<String, String>,
    #[serde(
        rename = "alternateOwnerAttrs",
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    #[serde(rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
}

/// A host's claim on a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinity {
    pub state: AffinityState,
    pub deleted: bool,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AffinityState {
    /// Written by claims made before states existed; the same as confirmed.
    #[serde(rename = "")]
    Unset,
    #[default]
    #[serde(rename = "confirmed")]
    Confirmed,
    #[serde(rename = "pending")]
    Pending,
    #[serde(rename = "pendingDeletion")]
    PendingDeletion,
}

/// How many addresses of each block a handle has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handle {
    /// By block CIDR.
    #[serde(deserialize_with = "null_default")]
    pub block: BTreeMap<String, u32>,
    pub deleted: bool,
}

/// IPAM's global settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    pub strict_affinity: bool,
    pub auto_allocate_blocks: bool,
    /// 0: no limit.
    #[serde(rename = "maxBlocksPerHost", skip_serializing_if = "is_zero")]
    pub max_blocks_per_host: u32,
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<EnabledDisabled>,
    #[serde(rename = "ipCooldownSeconds", skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<u32>,
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

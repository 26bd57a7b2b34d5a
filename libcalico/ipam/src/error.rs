//! What can go wrong with an assignment or a release, and whether trying again helps.

use std::net::IpAddr;

use libcalico_datastore::DatastoreError;
use libcalico_net::cidr::{Family, IpNet};

/// An IPAM operation that was not done. Nothing was written, unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    #[error("no configured Calico pools for node {node} ({family}): {reason}")]
    NoPools { node: String, family: Family, reason: String },
    #[error("the given pool ({pool}) does not exist, or is not enabled")]
    UnknownPool { pool: String },
    #[error("the given pool ({pool}) is no {family} pool")]
    WrongFamily { pool: String, family: Family },
    #[error(
        "failed to assign {wanted} {family} address(es) on {node}: {available} left ({reason}); add an IP pool, or free addresses"
    )]
    Exhausted { node: String, family: Family, wanted: usize, available: usize, reason: String },
    #[error("node {0} does not exist in the datastore; it is made when calico-node starts on that machine")]
    NodeMissing(String),
    #[error("{0} is not in a configured pool")]
    NotInPool(IpAddr),
    #[error("{ip} is already assigned in block {block}")]
    InUse { ip: IpAddr, block: IpNet },
    #[error("{ip} is in block {block}, which belongs to {owner}, and strictAffinity is set")]
    StrictAffinity { ip: IpAddr, block: IpNet, owner: String },
    #[error("block {block} holds {in_use} address(es); release them first")]
    BlockNotEmpty { block: IpNet, in_use: usize },
    #[error("block {block} belongs to {owner}")]
    NotOwner { block: IpNet, owner: String },
    #[error("block {block} in the datastore is inconsistent: {reason}; `calicoctl ipam check` shows more")]
    MalformedBlock { block: IpNet, reason: String },
    #[error("the owner of {ip} cannot be changed: {reason}")]
    NotTenant { ip: IpAddr, reason: String },
    #[error("{whose}: {reason}")]
    NoAddress { whose: String, reason: String },
    #[error("gave up after {attempts} conflicts with other writers, the last on {key}; try again")]
    Contention { attempts: usize, key: String },
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
}

impl IpamError {
    /// True where the same call may succeed later without any change by a person.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Datastore(e) => e.retryable(),
            Self::Contention { .. } | Self::NodeMissing(_) | Self::Exhausted { .. } => true,
            _ => false,
        }
    }
}

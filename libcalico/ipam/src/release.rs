//! What to write to free addresses.
//!
//! In come blocks and handles as read, out go the writes of one batch. Pure. A block that is empty and belongs to
//! nobody is deleted with its last address; an own block stays with its host. A handle loses what its blocks lost and
//! is deleted with its last entry; an entry whose block has nothing of the handle any more (left by an interrupted
//! assignment) goes too. Blocks come before handles: interrupted in between, the handle still leads to what is left.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_datastore::Write;
use libcalico_model::ipam::{AllocationBlock, Handle};
use libcalico_model::{Key, KeyValue, Value};
use libcalico_net::cidr::IpNet;

use crate::block;
use crate::error::IpamError;
use crate::moment::Moment;
use crate::snapshot::Stored;

/// An address to free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOptions {
    pub addr: IpAddr,
    /// Free it only where it has this handle.
    pub handle: Option<String>,
    /// Free it only where it was given out at this sequence number.
    pub sequence_number: Option<u64>,
}

impl ReleaseOptions {
    /// Whoever has it.
    #[must_use]
    pub fn any(addr: IpAddr) -> Self {
        Self { addr, handle: None, sequence_number: None }
    }
}

/// A block after a release.
#[derive(Debug)]
pub struct BlockRelease {
    /// `None` where nothing was freed.
    pub write: Option<Write>,
    pub freed: Vec<(IpAddr, Option<String>)>,
    /// How many addresses each handle lost.
    pub lost: BTreeMap<String, u32>,
}

/// How long released addresses rest, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// `ipCooldownSeconds`.
    pub seconds: u32,
    pub now: Moment,
}

/// Frees what the options name of a block.
pub fn from_block(
    b: &Stored<AllocationBlock>,
    options: &[ReleaseOptions],
    rest: Rest,
) -> Result<BlockRelease, IpamError> {
    let by_addr: BTreeMap<IpAddr, &ReleaseOptions> = options.iter().map(|o| (o.addr, o)).collect();
    let numbers = b.value.sequence_number_for_allocation.clone();
    let cidr = b.value.cidr;
    release(b, rest, |ip, attribute| {
        let Some(o) = by_addr.get(&ip) else { return false };
        let number = || block::ordinal(cidr, ip).and_then(|n| numbers.get(&n.to_string())).copied();
        o.handle.as_ref().is_none_or(|h| attribute.handle_id.as_ref() == Some(h))
            && o.sequence_number.is_none_or(|n| number().is_none_or(|m| m == n))
    })
}

/// Frees what a handle has of a block.
pub fn handle_from_block(
    b: &Stored<AllocationBlock>,
    handle: &str,
    rest: Rest,
) -> Result<BlockRelease, IpamError> {
    release(b, rest, |_, attribute| attribute.handle_id.as_deref() == Some(handle))
}

fn release(
    b: &Stored<AllocationBlock>,
    rest: Rest,
    select: impl FnMut(IpAddr, &libcalico_model::ipam::AllocationAttribute) -> bool,
) -> Result<BlockRelease, IpamError> {
    let cidr = b.value.cidr;
    block::check(&b.value).map_err(|reason| IpamError::MalformedBlock { block: cidr, reason })?;
    let mut changed = b.value.clone();
    let freed = if rest.seconds == 0 {
        block::release_where(&mut changed, select)
    } else {
        block::cool_where(&mut changed, select, rest.now)
    };
    if !freed.is_empty() {
        block::warm_up(&mut changed, rest.seconds, rest.now);
    }
    let mut lost = BTreeMap::new();
    for handle in freed.iter().filter_map(|(_, h)| h.clone()) {
        *lost.entry(handle).or_insert(0) += 1;
    }
    let write = (!freed.is_empty()).then(|| write_of(changed, b));
    Ok(BlockRelease { write, freed, lost })
}

/// The block with the addresses that have rested long enough free again; `None` where there are none. One that is empty
/// then and belongs to nobody is deleted.
pub fn rested(b: &Stored<AllocationBlock>, rest: Rest) -> Option<Write> {
    let mut changed = b.value.clone();
    if block::check(&changed).is_err() || !block::warm_up(&mut changed, rest.seconds, rest.now) {
        return None;
    }
    Some(write_of(changed, b))
}

fn write_of(mut changed: AllocationBlock, b: &Stored<AllocationBlock>) -> Write {
    let key = Key::Block(b.value.cidr);
    if block::is_empty(&changed) && block::owner_text(&changed).is_none() {
        return Write::Delete(key, Some(b.revision.clone()));
    }
    block::written(&mut changed);
    Write::Update(KeyValue { key, value: Value::Block(Box::new(changed)), revision: b.revision.clone() })
}

/// The handle less what it lost of each block; `u32::MAX` where it has nothing of the block any more. `None` where
/// nothing changes.
#[must_use]
pub fn handle_write(id: &str, handle: &Stored<Handle>, lost: &BTreeMap<IpNet, u32>) -> Option<Write> {
    let mut changed = handle.value.clone();
    for (cidr, lost) in lost {
        let cidr = cidr.to_string();
        match changed.block.get(&cidr).map(|n| n.saturating_sub(*lost)) {
            Some(0) => changed.block.remove(&cidr),
            Some(n) => changed.block.insert(cidr, n),
            None => None,
        };
    }
    let key = Key::Handle(id.to_owned());
    if changed.block.is_empty() {
        Some(Write::Delete(key, Some(handle.revision.clone())))
    } else if changed == handle.value {
        None
    } else {
        Some(Write::Update(KeyValue {
            key,
            value: Value::Handle(changed),
            revision: handle.revision.clone(),
        }))
    }
}

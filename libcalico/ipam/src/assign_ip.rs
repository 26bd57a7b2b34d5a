//! What to do next to give a workload one certain address.
//!
//! In come the request, the address and a [`Snapshot`], out comes one [`Step`], as in [`crate::assign`]. The address
//! must lie in a configured pool that is not disabled. Its block is claimed for the owner where it does not exist yet;
//! a block of another owner is borrowed from unless affinity is strict. Reservations do not count: who names an
//! address means it.

use std::net::IpAddr;

use crate::assign::{AssignRequest, Draft, Plan, Step, basics, held, settled, unconfirmed};
use crate::block;
use crate::error::IpamError;
use crate::moment::Moment;
use crate::snapshot::{Need, Seen, Snapshot};

/// Says what to do next to assign `addr`.
pub fn next(
    request: &AssignRequest,
    addr: IpAddr,
    snapshot: &Snapshot,
    now: Moment,
) -> Result<Step, IpamError> {
    settled(decide(request, addr, snapshot, now), snapshot)
}

fn decide(
    request: &AssignRequest,
    addr: IpAddr,
    snapshot: &Snapshot,
    now: Moment,
) -> Result<Step, IpamError> {
    let needs = basics(snapshot);
    if !needs.is_empty() {
        return Ok(Step::Read(needs));
    }
    match held(request, snapshot) {
        Ok(held) if held.iter().any(|a| a.addr == addr) => {
            let assigned = held.into_iter().filter(|a| a.addr == addr).collect();
            return Ok(Step::Commit(Plan { writes: Vec::new(), assigned }));
        }
        Ok(_) => {}
        Err(needs) => return Ok(Step::Read(needs)),
    }
    let cidr = snapshot
        .pools
        .iter()
        .filter(|p| !p.disabled)
        .find_map(|p| p.block_of(addr))
        .ok_or(IpamError::NotInPool(addr))?;
    let claim = snapshot.affinities().and_then(|a| a.get(&cidr));
    let mut draft = Draft::new(request, now);
    let mut taken = false;
    let rest = snapshot.cooldown_seconds();
    let mut one = |b: &mut _, attribute: &_| {
        block::warm_up(b, rest, now);
        taken = block::assign_one(b, addr, attribute);
        if taken { vec![addr] } else { Vec::new() }
    };
    match (snapshot.block(cidr), claim) {
        (Seen::Unknown, _) => return Ok(Step::Read(vec![Need::Block(cidr)])),
        (Seen::Missing, None) => return Ok(Step::Claim(cidr)),
        (Seen::Missing, Some(claim)) => {
            draft.create(cidr, claim, &mut one);
        }
        (Seen::Present(b), claim) => {
            block::check(&b.value).map_err(|reason| IpamError::MalformedBlock { block: cidr, reason })?;
            let own = block::belongs_to(&b.value, &request.owner);
            match (own, claim, block::owner_text(&b.value)) {
                // Also where nobody owns the block but the claim says that it was ours: it was given up since.
                (false, Some(claim), owner) if owner.is_some() || !unconfirmed(&claim.value) => {
                    return Ok(Step::Unclaim(cidr, claim.revision.clone()));
                }
                (false, None, Some(owner)) if snapshot.config.strict_affinity => {
                    return Err(IpamError::StrictAffinity { ip: addr, block: cidr, owner });
                }
                _ => draft.change(b, claim, &mut one),
            };
        }
    }
    if taken {
        Ok(Step::Commit(draft.plan(snapshot)))
    } else {
        Err(IpamError::InUse { ip: addr, block: cidr })
    }
}

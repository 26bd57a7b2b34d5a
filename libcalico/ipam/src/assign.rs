//! What to do next to give a workload its addresses.
//!
//! In come the request and a [`Snapshot`], out comes one [`Step`]: read something, claim a block, drop a stale claim,
//! or write the result. The caller carries the step out, takes note in the snapshot and asks again. Pure; the order of
//! choice is upstream's:
//!
//! 1. free addresses in blocks that the host already owns;
//! 2. a new block, or one without an owner: first its claim is written as pending, then, in one write, the block with
//!    the addresses already in it and the claim as confirmed;
//! 3. unless affinity is strict, addresses of other hosts' blocks.
//!
//! Always holds: either all that was asked for is assigned, or nothing is. Both families go in one write. A claim
//! that was interrupted at any point is taken up again: a claim without its block makes the block, a claim whose
//! block is another's is dropped, an unconfirmed claim on an own block is confirmed.
//!
//! # Lists from a cache
//!
//! Pools, reservations and claims may be read from the datastore's cache, which may be of any age; block, handle, settings
//! and node are always present ones. From such lists one thing alone is concluded: addresses of a block that itself says
//! that it is the owner's. Everything else (a new block, a claim given up or confirmed, borrowing, every error) is
//! decided again from [`Need::Newest`]. What each staleness does then:
//!
//! | changed since | what happens |
//! |---|---|
//! | claim removed, block gone or another's | the block is not used; its own record says so |
//! | claim removed or pending deletion, block still ours | as if the address had been taken just before: whoever gives up the block writes it at the revision that was read, meets ours, and looks again |
//! | claim added | found with the newest lists where no known block has room; so no block too many is claimed and no limit pronounced |
//! | pool added, enabled, relabelled | found with the newest lists where nothing fits |
//! | pool disabled or removed, reservation added | as if the address had been taken just before the change: it counts from when the API server that answers has heard of it, ordinarily milliseconds later |
//!
//! Several API servers whose caches differ in age change nothing: each list is judged by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::ip_pool::AllowedUse;
use libcalico_datastore::Write;
use libcalico_model::ipam::{AffinityState, AllocationAttribute, AllocationBlock, BlockAffinity, Handle};
use libcalico_model::{Key, KeyValue, Revision, Value};
use libcalico_net::cidr::{Family, IpNet};
use libcalico_net::lpm::LpmMap;

use crate::block;
use crate::candidates::{candidate_blocks, preference};
use crate::error::IpamError;
use crate::moment::Moment;
use crate::owner::Owner;
use crate::pool::{Pool, PoolRequest, select};
use crate::snapshot::{Need, Seen, Snapshot, Stored, usable};

/// A block is looked for among this many places of a pool at most; only a pool with an enormous reservation has more
/// that are of no use.
const MAX_CANDIDATES: usize = 1 << 20;

/// A wish for addresses.
#[derive(Clone, Debug)]
pub struct AssignRequest {
    /// Whose blocks are used: the host of the workload.
    pub owner: Owner,
    pub num_v4: usize,
    pub num_v6: usize,
    /// Name under which the addresses are released together.
    pub handle_id: Option<String>,
    /// `node`, `namespace`, `pod`, `type`; the client adds `timestamp`.
    pub attributes: BTreeMap<String, String>,
    /// Pools by CIDR or name; empty for any that select node and namespace.
    pub pools_v4: Vec<String>,
    pub pools_v6: Vec<String>,
    pub intended_use: AllowedUse,
    /// Labels of the workload's namespace, `None` where it has none.
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Addresses that the handle has already count as given: asked again, after whatever interruption, the answer is
    /// the same. For handles that belong to one workload.
    pub once: bool,
}

impl AssignRequest {
    /// One IPv4 address for a workload on a host, without handle and attributes.
    #[must_use]
    pub fn workload(owner: Owner) -> Self {
        Self {
            owner,
            num_v4: 1,
            num_v6: 0,
            handle_id: None,
            attributes: BTreeMap::new(),
            pools_v4: Vec::new(),
            pools_v6: Vec::new(),
            intended_use: AllowedUse::Workload,
            namespace_labels: None,
            once: false,
        }
    }

    fn families(&self) -> impl Iterator<Item = (Family, usize, &[String])> {
        [(Family::V4, self.num_v4, &*self.pools_v4), (Family::V6, self.num_v6, &*self.pools_v6)]
            .into_iter()
            .filter(|(_, n, _)| *n > 0)
    }
}

/// An assigned address and the block it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assigned {
    pub addr: IpAddr,
    pub block: IpNet,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Not enough is known.
    Read(Vec<Need>),
    /// Write a pending claim on the block.
    Claim(IpNet),
    /// Remove a claim whose block is another's.
    Unclaim(IpNet, Revision),
    /// Write all of this at once: it is the result.
    Commit(Plan),
}

/// A result and what makes it true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which a store without transactions must do them: what a release needs to find (the handle)
    /// before what it releases.
    pub writes: Vec<Write>,
    pub assigned: Vec<Assigned>,
}

/// A claim that is not confirmed yet.
#[must_use]
pub fn pending() -> BlockAffinity {
    BlockAffinity { state: AffinityState::Pending, deleted: false }
}

impl Plan {
    /// True where nothing is written but the handle and blocks that say themselves that they are the owner's.
    fn within_own_blocks(&self, snapshot: &Snapshot) -> bool {
        self.writes.iter().all(|w| match w {
            Write::Update(KeyValue { key: Key::Block(cidr), .. }) => match snapshot.block(*cidr) {
                Seen::Present(b) => block::belongs_to(&b.value, &snapshot.owner),
                _ => false,
            },
            Write::Create(Key::Handle(_), _) | Write::Update(KeyValue { key: Key::Handle(_), .. }) => true,
            _ => false,
        })
    }
}

/// Says what to do next for a request.
pub fn next(request: &AssignRequest, snapshot: &Snapshot, now: Moment) -> Result<Step, IpamError> {
    settled(decide(request, snapshot, now), snapshot)
}

/// Lets a decision stand that holds whatever has become of the lists by now; asks for the newest ones otherwise.
pub(crate) fn settled(step: Result<Step, IpamError>, snapshot: &Snapshot) -> Result<Step, IpamError> {
    if !snapshot.may_be_old() {
        return step;
    }
    match step {
        Ok(Step::Read(mut needs)) => {
            // No own block had room: whatever comes next needs both.
            if needs.contains(&Need::AllBlocks) {
                needs.push(Need::Newest);
            }
            Ok(Step::Read(needs))
        }
        Ok(Step::Commit(plan)) if plan.within_own_blocks(snapshot) => Ok(Step::Commit(plan)),
        _ => Ok(Step::Read(vec![Need::Newest])),
    }
}

fn decide(request: &AssignRequest, snapshot: &Snapshot, now: Moment) -> Result<Step, IpamError> {
    let needs = basics(snapshot);
    if !needs.is_empty() {
        return Ok(Step::Read(needs));
    }
    let held = match held(request, snapshot) {
        Ok(held) => held,
        Err(needs) => return Ok(Step::Read(needs)),
    };
    let empty = BTreeMap::new();
    let node_labels = match &snapshot.node_labels {
        Some(l) => l,
        None if request.owner.is_host() => {
            return Err(IpamError::NodeMissing(request.owner.name().to_owned()));
        }
        None => &empty,
    };
    let mut work = Vec::new();
    let mut needs = Vec::new();
    for (family, wanted, requested) in request.families() {
        let has = held.iter().filter(|a| Family::of(a.addr) == family).count();
        let wanted = wanted.saturating_sub(has);
        if wanted == 0 {
            continue;
        }
        let pools = select(
            &snapshot.pools,
            &PoolRequest {
                node: request.owner.name(),
                node_labels,
                namespace_labels: request.namespace_labels.as_ref(),
                requested,
                intended_use: request.intended_use,
                family,
            },
        )?;
        let own = own_blocks(snapshot, &pools);
        let unknown = own.iter().filter(|c| matches!(snapshot.block(**c), Seen::Unknown));
        needs.extend(unknown.map(|c| Need::Block(*c)));
        work.push(FamilyWork { family, wanted, pools, own, owner: &request.owner, snapshot });
    }
    if !needs.is_empty() {
        return Ok(Step::Read(needs));
    }
    let mut draft = Draft::new(request, now);
    draft.assigned = held;
    for w in &work {
        if let Some(step) = w.fill(&mut draft)? {
            return Ok(step);
        }
    }
    Ok(Step::Commit(draft.plan(snapshot)))
}

/// What must be known before anything can be decided.
pub(crate) fn basics(snapshot: &Snapshot) -> Vec<Need> {
    let mut needs = Vec::new();
    if !snapshot.settings_known() {
        needs.push(Need::Settings);
    }
    if snapshot.affinities().is_none() {
        needs.push(Need::Affinities);
    }
    if matches!(snapshot.handle(), Seen::Unknown) {
        needs.push(Need::Handle);
    }
    needs
}

/// What counts as given: what an attempt before this one wrote, and, where the request says so, what its handle has. Or
/// what must be read to know it.
pub(crate) fn held(request: &AssignRequest, snapshot: &Snapshot) -> Result<Vec<Assigned>, Vec<Need>> {
    let mut all = snapshot.given.clone();
    let (true, Some(id), Seen::Present(handle)) = (request.once, &request.handle_id, snapshot.handle())
    else {
        return Ok(all);
    };
    let cidrs: Vec<IpNet> = handle.value.block.keys().filter_map(|c| c.parse().ok()).collect();
    let unknown = cidrs.iter().filter(|c| matches!(snapshot.block(**c), Seen::Unknown));
    let needs: Vec<Need> = unknown.map(|c| Need::Block(*c)).collect();
    if !needs.is_empty() {
        return Err(needs);
    }
    for cidr in cidrs {
        if let Seen::Present(b) = snapshot.block(cidr) {
            let addresses = block::addresses_of(&b.value, id).into_iter();
            let new = addresses.map(|addr| Assigned { addr, block: cidr }).filter(|a| !all.contains(a));
            all.extend(new.collect::<Vec<_>>());
        }
    }
    Ok(all)
}

/// Blocks in the pools that the owner has a claim on, in whatever state.
fn own_blocks(snapshot: &Snapshot, pools: &[&Pool]) -> Vec<IpNet> {
    let claims = snapshot.affinities().into_iter().flat_map(BTreeMap::keys);
    claims.copied().filter(|c| pools.iter().any(|p| p.holds_block(*c)) && block::size(*c).is_some()).collect()
}

/// One family of a request.
struct FamilyWork<'a> {
    family: Family,
    wanted: usize,
    pools: Vec<&'a Pool>,
    own: Vec<IpNet>,
    owner: &'a Owner,
    snapshot: &'a Snapshot,
}

impl FamilyWork<'_> {
    /// Takes addresses into the draft, or says what has to be done first.
    fn fill(&self, draft: &mut Draft<'_>) -> Result<Option<Step>, IpamError> {
        let mut missing = self.wanted;
        for cidr in &self.own {
            let Some(claim) = self.snapshot.affinities().and_then(|a| a.get(cidr)) else { continue };
            match self.snapshot.block(*cidr) {
                Seen::Unknown => return Ok(Some(Step::Read(vec![Need::Block(*cidr)]))),
                Seen::Missing => missing -= draft.take_new(*cidr, claim, missing, self.snapshot),
                Seen::Present(b) if block::belongs_to(&b.value, self.owner) => {
                    missing -= draft.take_own(b, claim, missing, self.snapshot);
                }
                // A claim whose block has no owner and is being claimed now: the block becomes ours with the write.
                Seen::Present(b) if block::owner_text(&b.value).is_none() && unconfirmed(&claim.value) => {
                    missing -= draft.take_own(b, claim, missing, self.snapshot);
                }
                Seen::Present(_) => return Ok(Some(Step::Unclaim(*cidr, claim.revision.clone()))),
            }
            if missing == 0 {
                return Ok(None);
            }
        }
        let mut reason = "every address of the pools is taken or reserved";
        let limit = self.snapshot.config.max_blocks_per_host as usize;
        if !self.snapshot.config.auto_allocate_blocks {
            reason = "the host's blocks are full and autoAllocateBlocks is off";
        } else if limit > 0 && self.own.len() >= limit {
            reason = "cannot allocate new block due to per host block limit (maxBlocksPerHost)";
        } else {
            if self.snapshot.all_blocks().is_none() {
                return Ok(Some(Step::Read(vec![Need::AllBlocks])));
            }
            if let Some(cidr) = self.candidate() {
                return Ok(Some(Step::Claim(cidr)));
            }
        }
        if self.snapshot.config.strict_affinity {
            if reason.starts_with("every") {
                reason = "every block of the pools has an owner and strictAffinity forbids to borrow";
            }
        } else {
            if self.snapshot.all_blocks().is_none() {
                return Ok(Some(Step::Read(vec![Need::AllBlocks])));
            }
            missing -= self.borrow(draft, missing);
        }
        if missing == 0 {
            return Ok(None);
        }
        Err(IpamError::Exhausted {
            node: self.owner.name().to_owned(),
            family: self.family,
            wanted: self.wanted,
            available: self.wanted - missing,
            reason: reason.to_owned(),
        })
    }

    /// The next block to claim: one that does not exist, or exists without an owner.
    fn candidate(&self) -> Option<IpNet> {
        let mut existing = LpmMap::new();
        for b in self.snapshot.all_blocks()? {
            existing.insert(b.value.cidr, b);
        }
        let reservations = &self.snapshot.reservations;
        self.pools.iter().find_map(|pool| {
            candidate_blocks(pool.cidr, pool.block_len, self.owner.name()).take(MAX_CANDIDATES).find(|cidr| {
                if self.own.contains(cidr) || reservations.iter().any(|r| r.contains(cidr)) {
                    return false;
                }
                match existing.get(*cidr) {
                    Some(b) => {
                        let ownerless =
                            block::owner_text(&b.value).is_none() || block::belongs_to(&b.value, self.owner);
                        ownerless && usable(&b.value) && block::available(&b.value, reservations) > 0
                    }
                    // Blocks of another size may be left of a pool that was made anew: they must not overlap.
                    None => {
                        existing.covering(*cidr).next().is_none()
                            && existing.children(*cidr).next().is_none()
                            && block::available(&block::new_block(*cidr, None, Moment(0)), reservations) > 0
                    }
                }
            })
        })
    }

    /// Takes addresses of blocks that are not the owner's.
    fn borrow(&self, draft: &mut Draft<'_>, missing: usize) -> usize {
        let mut others: Vec<&Stored<AllocationBlock>> = self
            .snapshot
            .all_blocks()
            .into_iter()
            .flatten()
            .filter(|b| !self.own.contains(&b.value.cidr))
            .filter(|b| self.pools.iter().any(|p| p.holds_block(b.value.cidr)))
            .collect();
        others.sort_by_key(|b| preference(b.value.cidr, self.owner.name()));
        let mut taken = 0;
        for b in others {
            if taken == missing {
                break;
            }
            taken += draft.take(b, missing - taken, self.snapshot);
        }
        taken
    }
}

pub(crate) fn unconfirmed(a: &BlockAffinity) -> bool {
    matches!(a.state, AffinityState::Pending | AffinityState::PendingDeletion)
}

/// Changes that are collected for one write.
pub(crate) struct Draft<'a> {
    owner: &'a Owner,
    handle_id: Option<&'a str>,
    attribute: AllocationAttribute,
    now: Moment,
    blocks: Vec<Write>,
    claims: Vec<Write>,
    assigned: Vec<Assigned>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(request: &'a AssignRequest, now: Moment) -> Self {
        let mut attrs = request.attributes.clone();
        attrs.insert("timestamp".to_owned(), now.attribute());
        Self {
            owner: &request.owner,
            handle_id: request.handle_id.as_deref(),
            attribute: AllocationAttribute {
                handle_id: request.handle_id.clone(),
                active_owner_attrs: attrs,
                ..Default::default()
            },
            now,
            blocks: Vec::new(),
            claims: Vec::new(),
            assigned: Vec::new(),
        }
    }

    fn note(&mut self, cidr: IpNet, taken: &[IpAddr]) -> usize {
        self.assigned.extend(taken.iter().map(|addr| Assigned { addr: *addr, block: cidr }));
        taken.len()
    }

    /// Takes up to `n` of a block that stands, whoever owns it.
    fn take(&mut self, b: &Stored<AllocationBlock>, n: usize, snapshot: &Snapshot) -> usize {
        let (rest, now) = (snapshot.cooldown_seconds(), self.now);
        self.change(b, None, |b, attribute| {
            block::warm_up(b, rest, now);
            block::assign_next(b, n, attribute, &snapshot.reservations)
        })
    }

    /// Takes up to `n` of an own block, and confirms the claim on it where that is open.
    fn take_own(
        &mut self,
        b: &Stored<AllocationBlock>,
        claim: &Stored<BlockAffinity>,
        n: usize,
        snapshot: &Snapshot,
    ) -> usize {
        let (rest, now) = (snapshot.cooldown_seconds(), self.now);
        self.change(b, Some(claim), |b, attribute| {
            block::warm_up(b, rest, now);
            block::assign_next(b, n, attribute, &snapshot.reservations)
        })
    }

    /// Makes the block of a claim and takes up to `n` of it.
    fn take_new(
        &mut self,
        cidr: IpNet,
        claim: &Stored<BlockAffinity>,
        n: usize,
        snapshot: &Snapshot,
    ) -> usize {
        self.create(cidr, claim, |b, attribute| block::assign_next(b, n, attribute, &snapshot.reservations))
    }

    /// Changes a block that stands. Nothing is written where nothing is taken.
    pub(crate) fn change(
        &mut self,
        b: &Stored<AllocationBlock>,
        claim: Option<&Stored<BlockAffinity>>,
        take: impl FnOnce(&mut AllocationBlock, &AllocationAttribute) -> Vec<IpAddr>,
    ) -> usize {
        if !usable(&b.value) {
            return 0;
        }
        let mut changed = b.value.clone();
        let taken = take(&mut changed, &self.attribute);
        if taken.is_empty() {
            return 0;
        }
        let cidr = changed.cidr;
        if let Some(claim) = claim {
            let becomes_own = block::owner_text(&changed).is_none();
            if becomes_own {
                changed.affinity = Some(self.owner.affinity());
                changed.affinity_claim_time = Some(self.now.rfc3339());
            }
            if becomes_own || unconfirmed(&claim.value) {
                self.confirm(cidr, claim);
            }
        }
        block::written(&mut changed);
        self.blocks.push(Write::Update(KeyValue {
            key: Key::Block(cidr),
            value: Value::Block(Box::new(changed)),
            revision: b.revision.clone(),
        }));
        self.note(cidr, &taken)
    }

    /// Makes the block of a claim.
    pub(crate) fn create(
        &mut self,
        cidr: IpNet,
        claim: &Stored<BlockAffinity>,
        take: impl FnOnce(&mut AllocationBlock, &AllocationAttribute) -> Vec<IpAddr>,
    ) -> usize {
        let mut new = block::new_block(cidr, Some(self.owner), self.now);
        let taken = take(&mut new, &self.attribute);
        if taken.is_empty() {
            return 0;
        }
        block::written(&mut new);
        self.blocks.push(Write::Create(Key::Block(cidr), Value::Block(Box::new(new))));
        self.confirm(cidr, claim);
        self.note(cidr, &taken)
    }

    /// Writes the claim as confirmed. One that is so already is written too where the block becomes ours with it: another
    /// process of the host may have given it up between the two readings, and then nothing is to be written.
    fn confirm(&mut self, cidr: IpNet, claim: &Stored<BlockAffinity>) {
        self.claims.push(Write::Update(KeyValue {
            key: self.owner.affinity_key(cidr),
            value: Value::BlockAffinity(BlockAffinity { state: AffinityState::Confirmed, deleted: false }),
            revision: claim.revision.clone(),
        }));
    }

    /// Everything as one batch: handle, blocks, claims. The handle counts what each block that is known will have of
    /// it, not what this request adds: an attempt that was interrupted between the two leaves no trace in the count.
    pub(crate) fn plan(self, snapshot: &Snapshot) -> Plan {
        let mut writes = Vec::with_capacity(1 + self.blocks.len() + self.claims.len());
        if let Some(id) = self.handle_id
            && !self.blocks.is_empty()
        {
            let (before, revision) = match snapshot.handle() {
                Seen::Present(h) => (h.value.clone(), Some(h.revision.clone())),
                _ => (Handle::default(), None),
            };
            let handle = self.counts(id, &before, snapshot);
            let key = Key::Handle(id.to_owned());
            let changed = handle != before;
            let value = Value::Handle(handle);
            match revision {
                Some(revision) if changed => writes.push(Write::Update(KeyValue { key, value, revision })),
                Some(_) => {}
                None => writes.push(Write::Create(key, value)),
            }
        }
        writes.extend(self.blocks);
        writes.extend(self.claims);
        Plan { writes, assigned: self.assigned }
    }

    fn counts(&self, id: &str, before: &Handle, snapshot: &Snapshot) -> Handle {
        let has = |cidr: IpNet| match snapshot.block(cidr) {
            Seen::Present(b) => Some(block::addresses_of(&b.value, id)),
            Seen::Missing => Some(Vec::new()),
            Seen::Unknown => None,
        };
        let mut handle = before.clone();
        let touched: BTreeMap<IpNet, Vec<IpAddr>> =
            self.assigned.iter().fold(BTreeMap::new(), |mut all, a| {
                all.entry(a.block).or_default().push(a.addr);
                all
            });
        for (cidr, new) in &touched {
            let old = has(*cidr).unwrap_or_default();
            let count = old.len() + new.iter().filter(|a| !old.contains(a)).count();
            handle.block.insert(cidr.to_string(), u32::try_from(count).unwrap_or(u32::MAX));
        }
        handle.block.retain(|cidr, _| {
            let Ok(cidr) = cidr.parse() else { return true };
            touched.contains_key(&cidr) || has(cidr).is_none_or(|a| !a.is_empty())
        });
        handle
    }
}

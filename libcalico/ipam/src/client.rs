//! IPAM's steps carried out on a datastore.
//!
//! In come requests, out go assigned or freed addresses. The pure modules decide; this one reads, writes by
//! compare-and-swap and, where someone else was faster, forgets what changed and lets them decide again, a bounded
//! number of times with a growing, random pause. No lock is held, in memory or on disk, across a call. A client with
//! [`IpamClient::with_turns`] writes blocks in the order in which the host's processes asked to, and reads a block again
//! where it waited: of forty at once each then writes once, instead of most of them for nothing.
//!
//! Round trips: an assignment from a block that the host owns takes two reads (settings, claims and handle at one
//! revision; then the blocks that the claims name) and one write (handle, blocks and whatever the caller adds). The
//! second read cannot join the first, because only the claims tell which blocks to read and reading all blocks would
//! grow with the cluster. A new block costs one more read and one more write (the pending claim).
//!
//! Lists are taken from the store's cache first ([`Read::Cached`]); what may follow from them is said in
//! [`crate::assign`]. On the Kubernetes API this spares the common assignment the wait for the server's cache to catch up
//! with etcd, up to 100 ms; the one that needs a new block waits for it once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_datastore::{Datastore, DatastoreError, Found, Read, Write};
use libcalico_model::ipam::AllocationBlock;
use libcalico_model::{Key, KeyValue, Value};
use libcalico_net::cidr::IpNet;
use tracing::{debug, info};

use crate::assign::{self, AssignRequest, Assigned, Step, pending};
use crate::assign_ip;
use crate::block;
use crate::error::IpamError;
use crate::moment::Moment;
use crate::release::{self, ReleaseOptions, Rest};
use crate::snapshot::{Need, Snapshot, Stored};
use crate::turns::{Turn, Turns};

/// Conflicts after which a request gives up. Upstream's number.
const MAX_CONFLICTS: usize = 100;
/// Longest pause after a conflict.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Steps without a conflict after which a request gives up: more than any datastore state needs.
const MAX_STEPS: usize = 10_000;

/// What a request was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub addresses: Vec<Assigned>,
    /// Times that the request started over because another writer was faster.
    pub conflicts: usize,
}

/// What a release freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub freed: Vec<IpAddr>,
    /// Addresses that were free already, had another handle, or are in no block.
    pub not_assigned: Vec<IpAddr>,
}

/// Further writes of the caller in the same batch as the addresses' own.
pub type Extra<'a> = &'a (dyn Fn(&[Assigned]) -> Vec<Write> + Send + Sync);

/// IPAM on a datastore.
#[derive(Clone)]
pub struct IpamClient {
    pub(crate) store: Arc<dyn Datastore>,
    turns: Option<Turns>,
}

impl IpamClient {
    /// IPAM on `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Datastore>) -> Self {
        Self { store, turns: None }
    }

    /// Lets writes of blocks wait for those that other processes of the host have begun.
    #[must_use]
    pub fn with_turns(self, turns: Turns) -> Self {
        Self { turns: Some(turns), ..self }
    }

    /// Assigns all the addresses that the request asks for, or none.
    pub async fn assign(&self, request: &AssignRequest) -> Result<Assignment, IpamError> {
        let snapshot = Snapshot::new(request.owner.clone(), request.handle_id.clone()).with_cached_lists();
        self.assign_with(request, snapshot, &|_| Vec::new()).await
    }

    /// As [`Self::assign`], from what the caller has read already and with further writes of its own. `extra` is
    /// called with the addresses, perhaps several times; its writes are done with the last call's, or not at all. A
    /// conflict on one of its keys is the caller's to solve and comes back as the error.
    pub async fn assign_with(
        &self,
        request: &AssignRequest,
        snapshot: Snapshot,
        extra: Extra<'_>,
    ) -> Result<Assignment, IpamError> {
        self.run(snapshot, extra, |s| assign::next(request, s, Moment::now())).await
    }

    /// Assigns one certain address.
    pub async fn assign_ip(&self, request: &AssignRequest, addr: IpAddr) -> Result<Assignment, IpamError> {
        let snapshot = Snapshot::new(request.owner.clone(), request.handle_id.clone()).with_cached_lists();
        self.assign_ip_with(request, addr, snapshot, &|_| Vec::new()).await
    }

    /// As [`Self::assign_ip`], from what the caller has read already and with further writes of its own.
    pub async fn assign_ip_with(
        &self,
        request: &AssignRequest,
        addr: IpAddr,
        snapshot: Snapshot,
        extra: Extra<'_>,
    ) -> Result<Assignment, IpamError> {
        self.run(snapshot, extra, |s| assign_ip::next(request, addr, s, Moment::now())).await
    }

    /// Says whether [`Self::assign`] would succeed now, without writing anything.
    pub async fn could_assign(
        &self,
        request: &AssignRequest,
        mut snapshot: Snapshot,
    ) -> Result<(), IpamError> {
        for _ in 0..MAX_STEPS {
            match assign::next(request, &snapshot, Moment::now())? {
                Step::Read(needs) => self.fill(&mut snapshot, &needs).await?,
                Step::Unclaim(cidr, _) => snapshot.unclaimed(cidr),
                Step::Claim(_) | Step::Commit(_) => return Ok(()),
            }
        }
        Err(Retries::default().given_up())
    }

    async fn run(
        &self,
        mut snapshot: Snapshot,
        extra: Extra<'_>,
        next: impl Fn(&Snapshot) -> Result<Step, IpamError>,
    ) -> Result<Assignment, IpamError> {
        let mut retries = Retries::default();
        let mut turn = None;
        for _ in 0..MAX_STEPS {
            let step = match next(&snapshot)? {
                Step::Read(needs) => {
                    self.fill(&mut snapshot, &needs).await?;
                    continue;
                }
                step => step,
            };
            let outcome = match step {
                Step::Read(_) => continue,
                Step::Claim(cidr) => self.claim(&mut snapshot, cidr).await,
                Step::Unclaim(cidr, revision) => {
                    info!(block = %cidr, owner = %snapshot.owner, "dropping a claim on a block that is another's");
                    let key = snapshot.owner.affinity_key(cidr);
                    let gone = self.store.delete(&key, Some(&revision)).await;
                    gone.map(|_| snapshot.unclaimed(cidr))
                }
                Step::Commit(plan) => {
                    let mut writes = plan.writes;
                    writes.extend(extra(&plan.assigned));
                    match self.commit(writes, &plan.assigned, &mut snapshot, &mut turn).await {
                        Ok(false) => {
                            retries.begin();
                            continue;
                        }
                        Ok(true) => {
                            return Ok(Assignment { addresses: plan.assigned, conflicts: retries.conflicts });
                        }
                        Err(e) => Err(e),
                    }
                }
            };
            if let Err(e) = outcome {
                turn = None;
                retries.after(e, &mut snapshot).await?;
            }
        }
        Err(retries.given_up())
    }

    /// Reads what is needed, in one round trip.
    pub async fn fill(&self, snapshot: &mut Snapshot, needs: &[Need]) -> Result<(), IpamError> {
        let reads = snapshot.reads(needs);
        let found = self.store.read_many(&reads).await?;
        snapshot.absorb(&reads, found);
        Ok(())
    }

    async fn claim(&self, snapshot: &mut Snapshot, cidr: IpNet) -> Result<(), DatastoreError> {
        let key = snapshot.owner.affinity_key(cidr);
        let kv = self.store.create(&key, Value::BlockAffinity(pending())).await?;
        info!(block = %cidr, owner = %snapshot.owner, "claiming a block");
        snapshot.claimed(cidr, pending(), kv.revision);
        Ok(())
    }

    /// Carries out a plan. Where the store does batches in part, one write after the other, and the snapshot learns
    /// of each: after a conflict the next plan goes on from what is done already. False where others wrote first, in their
    /// turn: blocks are to be read again.
    async fn commit(
        &self,
        writes: Vec<Write>,
        assigned: &[Assigned],
        snapshot: &mut Snapshot,
        turn: &mut Option<Turn>,
    ) -> Result<bool, DatastoreError> {
        let blocks: Vec<Key> = writes.iter().filter_map(block_key).cloned().collect();
        if self.store.atomic() {
            if self.others_first(&blocks, snapshot, turn).await {
                return Ok(false);
            }
            self.write(writes).await?;
            return Ok(true);
        }
        let mut left = blocks.len();
        for write in writes {
            let of_block = block_key(&write).is_some();
            // What comes before the blocks needs no turn.
            if of_block && left == blocks.len() && self.others_first(&blocks, snapshot, turn).await {
                return Ok(false);
            }
            let revisions = self.store.write_all(vec![write.clone()]).await?;
            if let Some(revision) = revisions.into_iter().next() {
                snapshot.written(write, revision, assigned);
            }
            left -= usize::from(of_block);
            if left == 0 {
                // Nor does what comes after them.
                *turn = None;
            }
        }
        Ok(true)
    }

    /// Waits for a turn to write the blocks, where there is none yet. True where others had theirs before: the blocks are
    /// forgotten.
    async fn others_first(&self, blocks: &[Key], snapshot: &mut Snapshot, turn: &mut Option<Turn>) -> bool {
        if turn.is_some() || blocks.is_empty() {
            return false;
        }
        *turn = self.turn().await;
        let waited = turn.as_ref().is_some_and(|t| t.waited);
        if waited {
            for key in blocks {
                snapshot.forget(key);
            }
        }
        waited
    }

    async fn turn(&self) -> Option<Turn> {
        match &self.turns {
            Some(turns) => Some(turns.turn().await),
            None => None,
        }
    }

    /// Writes a release. Where it is not all or nothing, the turn ends with the blocks, which come first.
    async fn write_release(&self, mut writes: Vec<Write>, turn: Option<Turn>) -> Result<(), DatastoreError> {
        if !self.store.atomic() && turn.is_some() {
            let blocks = writes.iter().take_while(|w| block_key(w).is_some()).count();
            let rest = writes.split_off(blocks);
            self.write(writes).await?;
            drop(turn);
            return self.write(rest).await;
        }
        self.write(writes).await
    }

    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), DatastoreError> {
        if !writes.is_empty() {
            self.store.write_all(writes).await?;
        }
        Ok(())
    }

    /// Frees everything with the handle, and does the caller's further writes in the same batch. Nothing to free is
    /// no error.
    pub async fn release_by_handle(&self, handle: &str, extra: Vec<Write>) -> Result<Vec<IpAddr>, IpamError> {
        let reads = [Read::Key(Key::Handle(handle.to_owned()))];
        let found = self.store.read_many(&reads).await?;
        self.release_by_handle_from(handle, found.into_iter().next(), extra).await
    }

    /// As [`Self::release_by_handle`], where the caller has read the handle already.
    pub async fn release_by_handle_from(
        &self,
        handle: &str,
        found: Option<Found>,
        extra: Vec<Write>,
    ) -> Result<Vec<IpAddr>, IpamError> {
        let key = Key::Handle(handle.to_owned());
        let mut retries = Retries::default();
        let mut current = handle_of(found);
        let mut known = None;
        loop {
            let Some(stored) = current.take() else {
                match self.write(extra.clone()).await {
                    Ok(()) => return Ok(Vec::new()),
                    Err(e) => return Err(e.into()),
                }
            };
            let cidrs: Vec<IpNet> = stored.value.block.keys().filter_map(|c| c.parse().ok()).collect();
            let turn = self.turn().await;
            retries.begin();
            let (blocks, rest) = match known {
                Some(rest) => (self.blocks(&cidrs).await?, rest),
                None => self.blocks_and_rest(&cidrs).await?,
            };
            known = Some(rest);
            let (mut writes, mut lost, mut freed) = (Vec::new(), BTreeMap::new(), Vec::new());
            for cidr in cidrs {
                lost.insert(cidr, u32::MAX);
                if let Some(b) = blocks.get(&cidr) {
                    let r = release::handle_from_block(b, handle, rest)?;
                    writes.extend(r.write);
                    freed.extend(r.freed.into_iter().map(|(ip, _)| ip));
                }
            }
            writes.extend(release::handle_write(handle, &stored, &lost));
            writes.extend(extra.iter().cloned());
            let Err(e) = self.write_release(writes, turn).await else { return Ok(freed) };
            // Where a block is contended the handle likely stands as it was; if not, its own write tells.
            let of_block = matches!(conflicting(&e), Some(Key::Block(_)));
            retries.after_release(e, &key).await?;
            current = if of_block {
                Some(stored)
            } else {
                handle_of(self.store.read_many(&[Read::Key(key.clone())]).await?.into_iter().next())
            };
        }
    }

    /// Frees addresses, whatever handles they have unless the options say.
    pub async fn release_ips(&self, options: &[ReleaseOptions]) -> Result<Released, IpamError> {
        let mut out = Released::default();
        let pools = self.pools().await?;
        let mut by_block: BTreeMap<IpNet, Vec<ReleaseOptions>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for o in options {
            match pools.iter().find_map(|p| p.block_of(o.addr)) {
                Some(cidr) => by_block.entry(cidr).or_default().push(o.clone()),
                None => homeless.push(o.clone()),
            }
        }
        for (cidr, options) in std::mem::take(&mut by_block) {
            let freed = self.release_from(cidr, &options).await?;
            homeless.extend(options.into_iter().filter(|o| !freed.contains(&o.addr)));
            out.freed.extend(freed);
        }
        // A block may be left of a pool that is gone or had blocks of another size: search them all.
        if !homeless.is_empty() {
            let standing = self.all_block_cidrs().await?;
            for o in homeless {
                match standing.iter().find(|c| c.contains(&o.addr)) {
                    Some(cidr) => by_block.entry(*cidr).or_default().push(o),
                    None => out.not_assigned.push(o.addr),
                }
            }
        }
        for (cidr, options) in by_block {
            let freed = self.release_from(cidr, &options).await?;
            out.not_assigned.extend(options.iter().map(|o| o.addr).filter(|a| !freed.contains(a)));
            out.freed.extend(freed);
        }
        Ok(out)
    }

    async fn all_block_cidrs(&self) -> Result<Vec<IpNet>, IpamError> {
        let blocks = self.store.list(&libcalico_datastore::Scope::Blocks).await?;
        Ok(blocks
            .items
            .iter()
            .filter_map(|kv| if let Key::Block(c) = &kv.key { Some(*c) } else { None })
            .collect())
    }

    async fn release_from(&self, cidr: IpNet, options: &[ReleaseOptions]) -> Result<Vec<IpAddr>, IpamError> {
        let mut retries = Retries::default();
        loop {
            let (blocks, rest) = self.blocks_and_rest(&[cidr]).await?;
            let Some(b) = blocks.get(&cidr) else { return Ok(Vec::new()) };
            let r = release::from_block(b, options, rest)?;
            let handles: Vec<String> = r.lost.keys().cloned().collect();
            let reads: Vec<Read> = handles.iter().map(|h| Read::Key(Key::Handle(h.clone()))).collect();
            let found = if reads.is_empty() { Vec::new() } else { self.store.read_many(&reads).await? };
            let mut writes: Vec<Write> = r.write.into_iter().collect();
            for (id, found) in handles.iter().zip(found) {
                if let (Some(stored), Some(n)) = (handle_of(Some(found)), r.lost.get(id)) {
                    writes.extend(release::handle_write(id, &stored, &BTreeMap::from([(cidr, *n)])));
                }
            }
            match self.write(writes).await {
                Ok(()) => return Ok(r.freed.into_iter().map(|(ip, _)| ip).collect()),
                Err(e) => retries.after_release(e, &Key::Block(cidr)).await?,
            }
        }
    }

    /// Addresses with the handle, by block.
    pub async fn ips_by_handle(&self, handle: &str) -> Result<Vec<Assigned>, IpamError> {
        let found = self.store.read_many(&[Read::Key(Key::Handle(handle.to_owned()))]).await?;
        let Some(stored) = handle_of(found.into_iter().next()) else { return Ok(Vec::new()) };
        let cidrs: Vec<IpNet> = stored.value.block.keys().filter_map(|c| c.parse().ok()).collect();
        let blocks = self.blocks(&cidrs).await?;
        let of = |b: &Stored<AllocationBlock>| {
            let cidr = b.value.cidr;
            block::addresses_of(&b.value, handle).into_iter().map(move |addr| Assigned { addr, block: cidr })
        };
        Ok(blocks.values().flat_map(|b| of(b).collect::<Vec<_>>()).collect())
    }

    /// Frees addresses that have rested for `ipCooldownSeconds`, of every block; returns how many blocks changed.
    /// Assignments do the same to the blocks that they use: this is for blocks that nobody uses.
    pub async fn collect_rested(&self) -> Result<usize, IpamError> {
        let listing = self.store.list(&libcalico_datastore::Scope::Blocks).await?;
        let (_, rest) = self.blocks_and_rest(&[]).await?;
        let mut changed = 0;
        for kv in listing.items {
            let Value::Block(b) = kv.value else { continue };
            let stored = Stored { value: *b, revision: kv.revision };
            let Some(write) = release::rested(&stored, rest) else { continue };
            match self.write(vec![write]).await {
                Ok(()) => changed += 1,
                // Whoever changed the block meanwhile did the same, or the next call does.
                Err(e) if conflicting(&e).is_some() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(changed)
    }

    /// Blocks that exist, of those named, in one round trip.
    pub(crate) async fn blocks(
        &self,
        cidrs: &[IpNet],
    ) -> Result<BTreeMap<IpNet, Stored<AllocationBlock>>, IpamError> {
        if cidrs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reads: Vec<Read> = cidrs.iter().map(|c| Read::Key(Key::Block(*c))).collect();
        Ok(read_blocks(self.store.read_many(&reads).await?))
    }

    /// The same, with how long what is released rests, in one round trip.
    async fn blocks_and_rest(
        &self,
        cidrs: &[IpNet],
    ) -> Result<(BTreeMap<IpNet, Stored<AllocationBlock>>, Rest), IpamError> {
        let mut reads: Vec<Read> = cidrs.iter().map(|c| Read::Key(Key::Block(*c))).collect();
        reads.push(Read::Key(Key::IpamConfig));
        let mut found = self.store.read_many(&reads).await?;
        let seconds = match found.pop() {
            Some(Found::Key(Some(KeyValue { value: Value::IpamConfig(c), .. }))) => c.ip_cooldown_seconds,
            _ => None,
        };
        let rest = Rest { seconds: seconds.unwrap_or_default(), now: Moment::now() };
        Ok((read_blocks(found), rest))
    }

    async fn pools(&self) -> Result<Vec<crate::pool::Pool>, IpamError> {
        let mut s = Snapshot::new(crate::owner::Owner::virtual_owner(""), None);
        self.fill(&mut s, &[Need::Settings]).await?;
        Ok(s.pools)
    }
}

fn read_blocks(found: Vec<Found>) -> BTreeMap<IpNet, Stored<AllocationBlock>> {
    let block = |found| match found {
        Found::Key(Some(KeyValue { value: Value::Block(b), revision, .. })) => {
            Some((b.cidr, Stored { value: *b, revision }))
        }
        _ => None,
    };
    found.into_iter().filter_map(block).collect()
}

fn handle_of(found: Option<Found>) -> Option<Stored<libcalico_model::ipam::Handle>> {
    match found {
        Some(Found::Key(Some(kv))) => match kv.value {
            Value::Handle(value) => Some(Stored { value, revision: kv.revision }),
            _ => None,
        },
        _ => None,
    }
}

/// Counts conflicts and waits between them.
#[derive(Debug)]
pub(crate) struct Retries {
    pub(crate) conflicts: usize,
    last: String,
    /// When the present attempt began.
    began: Instant,
}

impl Default for Retries {
    fn default() -> Self {
        Self { conflicts: 0, last: String::new(), began: Instant::now() }
    }
}

impl Retries {
    /// Lets the request start over after a conflict on one of IPAM's keys; every other error ends it.
    async fn after(&mut self, e: DatastoreError, snapshot: &mut Snapshot) -> Result<(), IpamError> {
        let Some(key) = conflicting(&e).cloned() else { return Err(e.into()) };
        if !snapshot.forget(&key) {
            return Err(e.into());
        }
        // A block that was to be made stands: other hosts are claiming too, and the next candidate of an old list is
        // likely taken as well. One list is cheaper than three writes for each of them.
        if matches!((&e, &key), (DatastoreError::AlreadyExists(_), Key::Block(_))) {
            snapshot.forget_all_blocks();
        }
        self.pause(&key).await
    }

    /// The same for a release, which reads everything anew.
    pub(crate) async fn after_release(&mut self, e: DatastoreError, subject: &Key) -> Result<(), IpamError> {
        match conflicting(&e) {
            Some(Key::Block(_) | Key::Handle(_) | Key::BlockAffinity { .. }) => self.pause(subject).await,
            _ => Err(e.into()),
        }
    }

    /// An attempt begins: what it waited before does not count.
    fn begin(&mut self) {
        self.began = Instant::now();
    }

    async fn pause(&mut self, key: &Key) -> Result<(), IpamError> {
        self.conflicts += 1;
        self.last = key.path();
        if self.conflicts > MAX_CONFLICTS {
            return Err(self.given_up());
        }
        debug!(%key, conflicts = self.conflicts, "another writer was faster, starting over");
        // Of those that write one block, one is served in the time that an attempt takes. Who has lost so many times
        // knows of so many others, and spreads itself over their time: a fixed pause would be too long on a quick
        // datastore and, on a slow one, let all of them meet again. Doubling finds their number in few attempts.
        let times = 1 << self.conflicts.min(5);
        let floor = Duration::from_millis(1 << self.conflicts.min(4));
        let span = self.began.elapsed().saturating_mul(times).clamp(floor, LONGEST_PAUSE);
        let micros = random() % u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        self.begin();
        Ok(())
    }

    fn given_up(&self) -> IpamError {
        IpamError::Contention { attempts: self.conflicts, key: self.last.clone() }
    }
}

/// The block that a write is of.
fn block_key(write: &Write) -> Option<&Key> {
    let key = match write {
        Write::Create(key, _) | Write::Delete(key, _) => key,
        Write::Update(kv) => &kv.key,
    };
    matches!(key, Key::Block(_)).then_some(key)
}

/// The key that another writer created, changed or removed.
fn conflicting(e: &DatastoreError) -> Option<&Key> {
    match e {
        DatastoreError::Conflict(k) | DatastoreError::AlreadyExists(k) | DatastoreError::NotFound(k) => {
            Some(k)
        }
        _ => None,
    }
}

/// Random enough to spread retries: the standard library seeds each hasher from the system.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

//! What is known of the datastore while one request is worked on.
//!
//! In come answers of reads ([`Snapshot::absorb`]), out go typed objects for the pure decisions, which ask for more
//! ([`Need`]) where something is not known. After a conflict the object is forgotten and asked for again; so every
//! decision is a function of the present state alone. A malformed object counts as absent.
//!
//! Lists (pools, reservations, the owner's claims) may at first be as a cache has them ([`Snapshot::with_cached_lists`]):
//! [`Snapshot::may_be_old`] is true until [`Need::Newest`] was answered. Blocks, handle, settings and node never are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Found, Read, Scope, Write};
use libcalico_model::ipam::{AllocationBlock, BlockAffinity, Handle, IpamConfig};
use libcalico_model::{Key, KeyValue, Revision, Value};
use libcalico_net::cidr::{IpNet, parse_network_or_address};

use crate::assign::Assigned;
use crate::block;
use crate::owner::Owner;
use crate::pool::Pool;

/// An object and the revision that it was read at.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    pub value: T,
    pub revision: Revision,
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// Not read yet, or changed since.
    Unknown,
    Missing,
    Present(T),
}

/// Something a decision cannot be made without.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// Pools, reservations, settings and the node.
    Settings,
    /// The owner's claims.
    Affinities,
    /// Pools, reservations and claims as they stand now, where they are known as a cache has them.
    Newest,
    Handle,
    Block(IpNet),
    AllBlocks,
}

/// What is read as a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Pools,
    Reservations,
    Claims,
}

/// The part of the datastore that a request has seen.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub owner: Owner,
    pub handle_id: Option<String>,
    settings_read: bool,
    pub pools: Vec<Pool>,
    pub reservations: Vec<IpNet>,
    pub config: IpamConfig,
    /// `None` where there is no such node.
    pub node_labels: Option<BTreeMap<String, String>>,
    affinities_read: bool,
    affinities: BTreeMap<IpNet, Stored<BlockAffinity>>,
    blocks: BTreeMap<IpNet, Seen<Stored<AllocationBlock>>>,
    all_blocks_read: bool,
    handle: Seen<Stored<Handle>>,
    /// Lists may come from a cache: not any more, once one was not good enough.
    cached_lists: bool,
    /// Which of the lists that are known came from one.
    old: BTreeSet<List>,
    /// Addresses that this request has written already, on a store that does batches in part.
    pub given: Vec<Assigned>,
}

impl Snapshot {
    /// Nothing known yet.
    #[must_use]
    pub fn new(owner: Owner, handle_id: Option<String>) -> Self {
        Self {
            owner,
            handle_id,
            settings_read: false,
            pools: Vec::new(),
            reservations: Vec::new(),
            config: IpamConfig::default(),
            node_labels: None,
            affinities_read: false,
            affinities: BTreeMap::new(),
            blocks: BTreeMap::new(),
            all_blocks_read: false,
            handle: Seen::Unknown,
            cached_lists: false,
            old: BTreeSet::new(),
            given: Vec::new(),
        }
    }

    /// Lets the first lists come from a cache of the datastore. For decisions that look at [`Self::may_be_old`].
    #[must_use]
    pub fn with_cached_lists(self) -> Self {
        Self { cached_lists: true, ..self }
    }

    /// True where a list that is known may have changed before it was read.
    #[must_use]
    pub fn may_be_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// The reads that answer the needs.
    #[must_use]
    pub fn reads(&self, needs: &[Need]) -> Vec<Read> {
        let list = |scope| if self.cached_lists { Read::Cached(scope) } else { Read::Scope(scope) };
        let mut reads = Vec::new();
        for need in needs {
            match need {
                Need::Settings => {
                    reads.push(list(Scope::kind(Kind::IPPool)));
                    reads.push(list(Scope::kind(Kind::IPReservation)));
                    reads.push(Read::Key(Key::IpamConfig));
                    if self.owner.is_host() {
                        reads.push(Read::Key(Key::resource(Kind::Node, "", self.owner.name())));
                    }
                }
                Need::Affinities => reads.push(list(self.claims_scope())),
                Need::Newest => {
                    reads.push(Read::Scope(Scope::kind(Kind::IPPool)));
                    reads.push(Read::Scope(Scope::kind(Kind::IPReservation)));
                    reads.push(Read::Scope(self.claims_scope()));
                }
                Need::Handle => {
                    reads.extend(self.handle_id.clone().map(|h| Read::Key(Key::Handle(h))));
                }
                Need::Block(cidr) => reads.push(Read::Key(Key::Block(*cidr))),
                Need::AllBlocks => reads.push(Read::Scope(Scope::Blocks)),
            }
        }
        reads
    }

    fn claims_scope(&self) -> Scope {
        let name = Some(self.owner.name().to_owned());
        if self.owner.is_host() {
            Scope::BlockAffinities { host: name }
        } else {
            Scope::VirtualAffinities { owner: name }
        }
    }

    /// Takes in the answers to [`Self::reads`].
    pub fn absorb(&mut self, reads: &[Read], found: Vec<Found>) {
        for (read, found) in reads.iter().zip(found) {
            match (read, found) {
                (Read::Key(key), Found::Key(kv)) => self.absorb_key(key, kv),
                (Read::Scope(scope) | Read::Cached(scope), Found::Scope(listing)) => {
                    if let Some(list) = list_of(scope) {
                        self.old.remove(&list);
                    }
                    self.absorb_scope(scope, listing.items);
                }
                (Read::Cached(scope), Found::Cached(listing)) => {
                    self.old.extend(list_of(scope));
                    self.absorb_scope(scope, listing.items);
                }
                _ => {}
            }
        }
    }

    fn absorb_key(&mut self, key: &Key, kv: Option<KeyValue>) {
        match key {
            Key::Block(cidr) => {
                let seen = match kv {
                    Some(KeyValue { value: Value::Block(b), revision, .. }) => {
                        Seen::Present(Stored { value: *b, revision })
                    }
                    _ => Seen::Missing,
                };
                self.blocks.insert(*cidr, seen);
            }
            Key::Handle(_) => {
                self.handle = match kv {
                    Some(KeyValue { value: Value::Handle(value), revision, .. }) => {
                        Seen::Present(Stored { value, revision })
                    }
                    _ => Seen::Missing,
                };
            }
            Key::IpamConfig => {
                self.config = match kv {
                    Some(KeyValue { value: Value::IpamConfig(c), .. }) => c,
                    _ => IpamConfig::default(),
                };
            }
            Key::Resource(r) if r.kind == Kind::Node => {
                self.node_labels = kv.as_ref().and_then(resource).map(|n| n.metadata().labels.clone());
            }
            _ => {}
        }
    }

    fn absorb_scope(&mut self, scope: &Scope, items: Vec<KeyValue>) {
        match scope {
            Scope::Kind { kind: Kind::IPPool, .. } => {
                self.settings_read = true;
                self.pools = items.iter().filter_map(resource).filter_map(|r| read_pool(&r)).collect();
            }
            Scope::Kind { kind: Kind::IPReservation, .. } => {
                self.reservations =
                    items.iter().filter_map(resource).flat_map(|r| read_reservation(&r)).collect();
            }
            Scope::BlockAffinities { .. } | Scope::VirtualAffinities { .. } => {
                self.affinities_read = true;
                self.affinities.clear();
                for kv in items {
                    if let (Key::BlockAffinity { affinity_type, host, cidr }, Value::BlockAffinity(value)) =
                        (kv.key, kv.value)
                        && self.owner.owns_key(&affinity_type, &host)
                    {
                        self.affinities.insert(cidr, Stored { value, revision: kv.revision });
                    }
                }
                self.forget_others_blocks();
            }
            Scope::Blocks => {
                self.all_blocks_read = true;
                self.blocks.clear();
                for kv in items {
                    if let (Key::Block(cidr), Value::Block(b)) = (kv.key, kv.value) {
                        self.blocks.insert(cidr, Seen::Present(Stored { value: *b, revision: kv.revision }));
                    }
                }
            }
            _ => {}
        }
    }

    /// A claim counts for nothing where its block is not ours. But a block that was read before the claim may have become
    /// ours since, by another process of the host: it is read again, or that one's claim would be dropped.
    fn forget_others_blocks(&mut self) {
        for (cidr, seen) in &mut self.blocks {
            let others = matches!(seen, Seen::Present(b) if !block::belongs_to(&b.value, &self.owner));
            if others && self.affinities.contains_key(cidr) {
                *seen = Seen::Unknown;
            }
        }
    }

    /// True where pools, reservations, settings and the node are known.
    #[must_use]
    pub fn settings_known(&self) -> bool {
        self.settings_read
    }

    /// How long a released address rests before it is given out again.
    #[must_use]
    pub fn cooldown_seconds(&self) -> u32 {
        self.config.ip_cooldown_seconds.unwrap_or_default()
    }

    /// The owner's claims, or `None` where they are not known.
    #[must_use]
    pub fn affinities(&self) -> Option<&BTreeMap<IpNet, Stored<BlockAffinity>>> {
        self.affinities_read.then_some(&self.affinities)
    }

    /// A block. One whose contents are inconsistent is present: the caller checks before it changes one.
    #[must_use]
    pub fn block(&self, cidr: IpNet) -> Seen<&Stored<AllocationBlock>> {
        match self.blocks.get(&cidr) {
            Some(Seen::Present(b)) => Seen::Present(b),
            Some(Seen::Missing) => Seen::Missing,
            Some(Seen::Unknown) => Seen::Unknown,
            None if self.all_blocks_read => Seen::Missing,
            None => Seen::Unknown,
        }
    }

    /// Every block, by address, or `None` where they are not all known.
    pub fn all_blocks(&self) -> Option<impl Iterator<Item = &Stored<AllocationBlock>>> {
        self.all_blocks_read.then(|| {
            self.blocks.values().filter_map(|s| if let Seen::Present(b) = s { Some(b) } else { None })
        })
    }

    /// The request's handle.
    #[must_use]
    pub fn handle(&self) -> Seen<&Stored<Handle>> {
        match (&self.handle_id, &self.handle) {
            (None, _) | (_, Seen::Missing) => Seen::Missing,
            (_, Seen::Unknown) => Seen::Unknown,
            (_, Seen::Present(h)) => Seen::Present(h),
        }
    }

    /// Takes note of a write that was just done, the one of a plan that assigns those addresses.
    pub fn written(&mut self, write: Write, revision: Revision, assigned: &[Assigned]) {
        let (key, value) = match write {
            Write::Create(key, value) => (key, Some(value)),
            Write::Update(kv) => (kv.key, Some(kv.value)),
            Write::Delete(key, _) => (key, None),
        };
        if let Key::Block(cidr) = &key {
            let new = assigned.iter().filter(|a| a.block == *cidr && !self.given.contains(a));
            self.given.extend(new.copied().collect::<Vec<_>>());
        }
        match (&key, value) {
            (Key::Block(_) | Key::Handle(_), value) => {
                let kv = value.map(|value| KeyValue { key: key.clone(), value, revision });
                self.absorb_key(&key, kv);
            }
            (Key::BlockAffinity { cidr, .. }, Some(Value::BlockAffinity(a))) => {
                self.claimed(*cidr, a, revision);
            }
            (Key::BlockAffinity { cidr, .. }, None) => self.unclaimed(*cidr),
            _ => {}
        }
    }

    /// Takes note of a claim that was just written.
    pub fn claimed(&mut self, cidr: IpNet, value: BlockAffinity, revision: Revision) {
        self.affinities.insert(cidr, Stored { value, revision });
    }

    /// Takes note of a claim that was just removed.
    pub fn unclaimed(&mut self, cidr: IpNet) {
        self.affinities.remove(&cidr);
    }

    /// The list of all blocks turned out to be old.
    pub fn forget_all_blocks(&mut self) {
        self.all_blocks_read = false;
        self.blocks.clear();
    }

    /// Someone else changed a key. False where it is none that a snapshot holds.
    pub fn forget(&mut self, key: &Key) -> bool {
        match key {
            Key::Block(cidr) => {
                self.blocks.insert(*cidr, Seen::Unknown);
            }
            Key::Handle(_) => self.handle = Seen::Unknown,
            Key::BlockAffinity { .. } => {
                self.affinities_read = false;
                // A cache may not have heard of that change yet.
                self.cached_lists = false;
            }
            _ => return false,
        }
        true
    }
}

fn list_of(scope: &Scope) -> Option<List> {
    match scope {
        Scope::Kind { kind: Kind::IPPool, .. } => Some(List::Pools),
        Scope::Kind { kind: Kind::IPReservation, .. } => Some(List::Reservations),
        Scope::BlockAffinities { .. } | Scope::VirtualAffinities { .. } => Some(List::Claims),
        _ => None,
    }
}

fn resource(kv: &KeyValue) -> Option<Arc<Resource>> {
    if let Value::Resource(r) = &kv.value { Some(Arc::clone(r)) } else { None }
}

/// An invalid pool is as good as absent.
pub(crate) fn read_pool(r: &Resource) -> Option<Pool> {
    let Resource::IPPool(p) = r else { return None };
    Pool::read(p)
        .map_err(|reason| tracing::warn!(pool = %p.metadata.name, %reason, "ignoring an invalid IP pool"))
        .ok()
}

/// Networks and single addresses of an IPReservation; what is neither is left out.
pub(crate) fn read_reservation(r: &Resource) -> Vec<IpNet> {
    let Resource::IPReservation(r) = r else { return Vec::new() };
    r.spec.reserved_cidrs.iter().filter_map(|c| parse_network_or_address(c).ok()).collect()
}

/// True where a block that was read can be worked with.
pub(crate) fn usable(b: &AllocationBlock) -> bool {
    block::check(b)
        .map_err(|reason| tracing::warn!(block = %b.cidr, %reason, "leaving an inconsistent block alone"))
        .is_ok()
}

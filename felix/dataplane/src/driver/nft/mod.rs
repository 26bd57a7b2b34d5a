//! Programs tables with nf_tables: one transaction for everything that changed, both families together.
//!
//! In: [`Desired`]. Out: netlink transactions. Always holds: a transaction is taken whole or not at all, so no packet
//! meets half a change; rules that stand already are not touched (their tags tell); after a refusal everything is read
//! back before the next try; what stands in our table and is not desired goes. Ours is a table by its name, a rule by
//! the tag in its comment.
//!
//! Order within a transaction: sets, chains, rules, dispatch; then what is gone, the other way round. Sets that are new
//! (also those of rules' own lists, [`crate::kernel::nft::list`]) go before it in a transaction of their own: the kernel
//! (6.18) lets a rule look into a new set of intervals a moment before the members are there, though both come in one
//! transaction. Nothing refers to them yet, so that nothing is half done in between.

mod known;
mod plan;
mod uses;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use felix_message::{IpSetKind, IpSetMember};

use crate::config::Config;
use crate::driver::desired::{Desired, DesiredTables};
use crate::driver::{Counts, TableDriver, TableError, Written, members_are_foreign, members_differ};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::batch::{Batch, TransactionError};
use crate::kernel::nft::{GROUP_NFTABLES, NETLINK_NETFILTER, NftFamily, SetType, list, read};
use crate::render::names;
use crate::rule::Family;
use crate::tally::TALLY;
use known::{Known, KnownChain};

/// Longest time that a packet is on its way through the rules.
const ON_ITS_WAY: Duration = Duration::from_millis(10);
/// Name of our tables.
pub const TABLE: &str = "calico";

/// The driver.
#[derive(Debug)]
pub struct NftDriver {
    socket: Netlink,
    monitor: Netlink,
    config: Arc<Config>,
    known: [Known; 2],
    resync: bool,
}

impl NftDriver {
    /// Opens the netlink socket in the calling thread's network namespace. Nothing is read or written yet.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the process may not use it.
    pub fn new(config: Arc<Config>) -> Result<Self, TableError> {
        let refused = |e: std::io::Error| {
            TableError(format!("cannot open a netlink socket for nf_tables: {e}; is CAP_NET_ADMIN there?"))
        };
        let socket = Netlink::open(NETLINK_NETFILTER)
            .and_then(|s| s.with_timeout(config.netlink_timeout))
            .map_err(refused)?;
        let monitor = Netlink::open_monitor(NETLINK_NETFILTER, &[GROUP_NFTABLES]).map_err(refused)?;
        Ok(Self { socket, monitor, config, known: [Known::default(), Known::default()], resync: true })
    }

    fn read_back(&mut self) -> Result<(), TableError> {
        for family in Family::BOTH {
            let nft = NftFamily::from(family);
            let read = |e: std::io::Error| TableError(format!("cannot read back table {TABLE}: {e}"));
            let table = read::table(&mut self.socket, nft, TABLE).map_err(read)?;
            let mut known = Known::default();
            table.sets.into_iter().for_each(|(name, kind)| known.set_set(name, Some(kind)));
            for (name, chain) in table.chains {
                let tags = chain.rules.iter().map(|r| r.tag).collect();
                let handles = Some(chain.rules.iter().map(|r| r.handle).collect());
                known.set_chain(name, Some(KnownChain { hook: chain.hook, tags, handles }));
            }
            let maps: Vec<Arc<str>> = known
                .sets()
                .iter()
                .filter(|(_, kind)| **kind == Some(SetType::Dispatch))
                .map(|(n, _)| n.clone())
                .collect();
            for name in maps {
                let entries = read::dispatch(&mut self.socket, nft, TABLE, &name).map_err(read)?;
                known.maps.insert(name, entries);
            }
            self.known[family.index()] = known;
        }
        Ok(())
    }

    /// Members that differ from what is desired, for every set that stands in the kernel. `None`: something foreign
    /// stands in the set.
    fn member_differences(
        &mut self,
        family: Family,
        tables: &DesiredTables,
    ) -> Result<plan::MemberChanges, TableError> {
        let mut out = plan::MemberChanges::new();
        for (name, set) in tables.sets() {
            let kind = set_type(set.kind());
            let text: Arc<str> = names::set(family, name).into();
            if self.known[family.index()].sets().get(&text) != Some(&Some(kind)) {
                continue;
            }
            let have = read::members(&mut self.socket, family.into(), TABLE, &text, kind)
                .map_err(|e| TableError(format!("cannot read back set {text}: {e}")))?;
            let want = set.effective();
            match have {
                Some(mut have) => {
                    have.sort_unstable();
                    let gone: Vec<IpSetMember> =
                        have.iter().filter(|m| want.binary_search(m).is_err()).copied().collect();
                    let new: Vec<IpSetMember> =
                        want.iter().filter(|m| have.binary_search(m).is_err()).copied().collect();
                    if !gone.is_empty() || !new.is_empty() {
                        out.insert(text, Some((gone, new)));
                    }
                }
                None => {
                    out.insert(text, None);
                }
            }
        }
        Ok(out)
    }

    /// Sets of the kernel, as they were just read back, whose members are not as desired; lists of rules among them.
    fn wrong_members(&mut self, desired: &Desired) -> Result<Vec<String>, TableError> {
        let mut out = Vec::new();
        for family in self.config.families().to_vec() {
            let tables = &desired.families[family.index()];
            for (name, changes) in
                self.member_differences(family, tables)?.into_iter().collect::<BTreeMap<_, _>>()
            {
                out.push(match changes {
                    Some((foreign, missing)) => members_differ(family, &name, missing.len(), foreign.len()),
                    None => members_are_foreign(family, &name),
                });
            }
            let sets = self.known[family.index()].sets();
            let lists = sets.iter().filter_map(|(n, kind)| Some((n.clone(), (*kind)?)));
            let lists: BTreeMap<Arc<str>, SetType> =
                lists.filter(|(n, _)| list::is_list(n, family)).collect();
            for (name, kind) in lists {
                let have = read::list(&mut self.socket, family.into(), TABLE, &name)
                    .map_err(|e| TableError(format!("cannot read back set {name}: {e}")))?;
                if have.is_none_or(|intervals| list::name(family, kind, &intervals) != name) {
                    out.push(format!("IPv{} members of set {name}, a rule's list", family.version()));
                }
            }
        }
        Ok(out)
    }

    fn try_apply(&mut self, desired: &mut Desired) -> Result<Written, TableError> {
        let resynced = self.resync;
        if resynced {
            self.read_back().inspect_err(|_| TALLY.read_errors.add(1))?;
        }
        let mut batch = Batch::new(TABLE, &mut self.socket);
        let mut sets = Batch::new(TABLE, &mut self.socket);
        let mut updates = Vec::new();
        let nothing = Known::default();
        for family in Family::BOTH {
            let tables = &desired.families[family.index()];
            let enabled = self.config.families().contains(&family);
            let members =
                if resynced && enabled { Some(self.member_differences(family, tables)?) } else { None };
            let known = &self.known[family.index()];
            let mut plan = plan::Plan {
                family,
                config: &self.config,
                known,
                nothing: &nothing,
                tables,
                batch: &mut batch,
                new_sets: &mut sets,
                rebuilding: false,
                socket: &mut self.socket,
                updates: plan::Updates::default(),
                wanted_sets: HashMap::new(),
            };
            if enabled {
                plan.build(members)?;
            } else if !known.chains().is_empty() {
                plan.delete_table();
            }
            updates.push(plan.updates);
        }
        let operations = sets.operations() + batch.operations();
        let written = Written { operations, bytes: sets.bytes() + batch.bytes(), resynced, again: None };
        for transaction in [sets, batch] {
            commit(transaction, &mut self.socket)?;
        }
        for (known, update) in self.known.iter_mut().zip(updates) {
            update.into(known);
        }
        self.resync = false;
        for t in &mut desired.families {
            t.changes_done();
        }
        Ok(written)
    }
}

impl TableDriver for NftDriver {
    fn apply(&mut self, desired: &mut Desired) -> Result<Written, TableError> {
        if !self.resync && desired.families.iter().all(|t| t.changes().is_empty()) {
            return Ok(Written::default());
        }
        let result = self.try_apply(desired);
        if result.is_err() {
            self.resync = true;
        }
        result
    }

    fn resync(&mut self) {
        self.resync = true;
    }

    fn counts(&self) -> [Counts; 2] {
        self.known.each_ref().map(Known::counts)
    }

    fn dump(&mut self, desired: &Desired) -> String {
        let believed = self.known.clone();
        let mut out = String::new();
        for (family, known) in Family::BOTH.iter().zip(&believed) {
            let _ = writeln!(out, "table ip{} {TABLE}:", family.version());
            for (name, chain) in known.chains().iter().collect::<BTreeMap<_, _>>() {
                let _ = writeln!(out, "  chain {name}: {} rules", chain.tags.len());
            }
            for (name, kind) in known.sets().iter().collect::<BTreeMap<_, _>>() {
                let _ = writeln!(out, "  set {name}: {kind:?}");
            }
        }
        // What was read is looked at as if it were believed, then the belief comes back: asking changes nothing.
        let members = self.read_back().and_then(|()| self.wrong_members(desired));
        let kernel = std::mem::replace(&mut self.known, believed);
        match members {
            Ok(members) => {
                let mut all = differences(&self.known, &kernel);
                all.extend(members);
                if all.is_empty() {
                    out.push_str("the kernel has what is believed\n");
                }
                all.iter().for_each(|d| {
                    let _ = writeln!(out, "differs: {d}");
                });
            }
            Err(e) => {
                let _ = writeln!(out, "the kernel cannot be read: {e}");
            }
        }
        out
    }

    fn monitor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.monitor.as_fd())
    }

    fn drifted(&mut self) -> bool {
        let own = self.socket.port();
        let mut drift = false;
        let lost = self.monitor.drain(|m| drift |= m.port != own && read::is_about(&m, TABLE));
        drift || lost.is_err()
    }

    fn remove(&mut self) -> Result<bool, TableError> {
        // First no packet enters it any more: one on its way through would find the dispatch maps empty.
        let mut enter = Batch::new(TABLE, &mut self.socket);
        let mut rest = Batch::new(TABLE, &mut self.socket);
        for family in Family::BOTH {
            let nft = NftFamily::from(family);
            let chains = read::chain_names(&mut self.socket, nft)
                .map_err(|e| TableError(format!("cannot list chains: {e}")))?;
            let ours: Vec<_> = chains.into_iter().filter(|c| c.table == TABLE).collect();
            if ours.is_empty() {
                continue;
            }
            tracing::info!(family = family.version(), "nftables' table is removed");
            for chain in ours.iter().filter(|c| c.base) {
                let name: Arc<str> = chain.name.as_str().into();
                enter.flush_chain(nft, &name);
                enter.delete_chain(nft, &name);
            }
            rest.delete_table(nft);
        }
        self.resync = true;
        if enter.operations() > 0 {
            commit(enter, &mut self.socket)?;
            std::thread::sleep(ON_ITS_WAY);
        }
        commit(rest, &mut self.socket)?;
        Ok(true)
    }
}

/// Commits a transaction and counts it; one with nothing in it is none.
fn commit(transaction: Batch, socket: &mut Netlink) -> Result<(), TableError> {
    TALLY.table_calls.add(usize::from(transaction.operations() > 0));
    transaction.commit(socket).map_err(|e: TransactionError| {
        TALLY.table_errors.add(1);
        TableError(e.to_string())
    })
}

/// What is believed beside what was read: chains, kinds of sets, entries of maps.
fn differences(believed: &[Known; 2], kernel: &[Known; 2]) -> Vec<String> {
    let mut out = Vec::new();
    for (family, (b, k)) in Family::BOTH.iter().zip(believed.iter().zip(kernel)) {
        let version = family.version();
        for name in b.chains().keys().chain(k.chains().keys()).collect::<BTreeSet<_>>() {
            let tags = |known: &Known| known.chains().get(name).map(|c| c.tags.clone());
            if tags(b) != tags(k) {
                out.push(format!("IPv{version} chain {name}"));
            }
        }
        for name in b.sets().keys().chain(k.sets().keys()).collect::<BTreeSet<_>>() {
            if b.sets().get(name) != k.sets().get(name) || b.maps.get(name) != k.maps.get(name) {
                out.push(format!("IPv{version} set or map {name}"));
            }
        }
    }
    out
}

/// The kernel's type for a kind of set.
#[must_use]
pub fn set_type(kind: IpSetKind) -> SetType {
    match kind {
        IpSetKind::Ip => SetType::Addr,
        IpSetKind::Net => SetType::Net,
        IpSetKind::IpPort => SetType::AddrPort,
    }
}

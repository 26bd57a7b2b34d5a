//! From what is known and what is desired to one transaction.
//!
//! In: one family's known and desired state. Out: operations in the batch, and how the knowledge changes once they are
//! committed. Always holds: the plan alone changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use felix_message::IpSetMember;

use super::known::{Known, KnownChain};
use super::uses::Uses;
use super::{TABLE, set_type};
use crate::config::Config;
use crate::driver::desired::DesiredTables;
use crate::driver::{TableError, tag};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::batch::{Batch, DispatchElement, Tag};
use crate::kernel::nft::list::{self, List};
use crate::kernel::nft::{NftFamily, SetType, read};
use crate::render::{lower, names, text};
use crate::rule::{ChainId, Family, Hook, HookPoint, Rule, SetName, Table};

/// A workload's chain with at most so many rules is written anew where their handles would have to be read first. What
/// they counted is lost, which nobody asks for: policies' and profiles' chains alone are looked at ([`crate::counters`]).
const WRITTEN_ANEW: usize = 8;

/// For each set: members to remove and to add; `None`: refill it.
pub type MemberChanges = HashMap<Arc<str>, Option<(Vec<IpSetMember>, Vec<IpSetMember>)>>;

/// How the knowledge changes with the commit. `None`: gone.
#[derive(Debug, Default)]
pub struct Updates {
    rebuilt: bool,
    chains: Vec<(Arc<str>, Option<KnownChain>)>,
    sets: Vec<(Arc<str>, Option<SetType>)>,
    maps: Vec<(Arc<str>, Vec<DispatchElement>)>,
    /// Lists of chains that were looked at.
    uses: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// All chains were looked at.
    all_uses: bool,
}

impl Updates {
    pub(super) fn into(self, known: &mut Known) {
        if self.rebuilt {
            *known = Known::default();
        }
        if self.all_uses {
            known.uses = Uses::default();
        }
        for (chain, lists) in self.uses {
            known.uses.set(&chain, lists);
        }
        for (name, chain) in self.chains {
            known.set_chain(name, chain);
        }
        for (name, kind) in self.sets {
            if kind.is_none() {
                known.maps.remove(&name);
            }
            known.set_set(name, kind.map(Some));
        }
        for (name, entries) in self.maps {
            let map = known.maps.entry(name).or_default();
            for e in entries {
                match e.chain {
                    Some(c) => map.insert(e.interface, c),
                    None => map.remove(&e.interface),
                };
            }
        }
    }
}

/// Builds one family's part of a transaction.
pub struct Plan<'a> {
    pub(super) family: Family,
    pub(super) config: &'a Config,
    pub(super) known: &'a Known,
    pub(super) nothing: &'a Known,
    pub(super) tables: &'a DesiredTables,
    pub(super) batch: &'a mut Batch,
    /// Sets that no rule refers to yet: committed first.
    pub(super) new_sets: &'a mut Batch,
    /// The table goes and comes in one transaction: nothing can be done before it.
    pub(super) rebuilding: bool,
    pub(super) socket: &'a mut Netlink,
    pub(super) updates: Updates,
    /// Types of all sets and maps that are wanted, by name; filled where everything is compared.
    pub(super) wanted_sets: HashMap<String, SetType>,
}

struct Rules {
    lowered: Vec<Lowered>,
    hook: Option<Hook>,
}

struct Lowered {
    rule: Rule,
    tag: Tag,
    lists: Vec<List>,
}

impl Rules {
    fn lists(&self) -> impl Iterator<Item = &List> {
        self.lowered.iter().flat_map(|l| &l.lists)
    }
}

/// Chains to look at, by name. `None`: it is to go.
type Chains = BTreeMap<Arc<str>, Option<(ChainId, Rules)>>;

/// What stays until no rule refers to it.
#[derive(Default)]
struct Gone {
    chains: Vec<Arc<str>>,
    sets: Vec<Arc<str>>,
}

impl Plan<'_> {
    fn nft(&self) -> NftFamily {
        self.family.into()
    }

    /// Where new sets go.
    fn early(&mut self) -> &mut Batch {
        if self.rebuilding { self.batch } else { self.new_sets }
    }

    /// Removes the whole table: the family is switched off.
    pub fn delete_table(&mut self) {
        self.batch.delete_table(self.nft());
        self.updates.rebuilt = true;
    }

    /// Plans everything. With `members` (after a read-back) all is compared, else what changed.
    pub fn build(&mut self, members: Option<MemberChanges>) -> Result<(), TableError> {
        let chains = self.look(members.is_some());
        if members.is_some() {
            let sets = self.tables.sets().iter();
            self.wanted_sets = sets.map(|(n, s)| (names::set(self.family, n), set_type(s.kind()))).collect();
            self.wanted_sets.extend(self.tables.maps().keys().map(|id| (id.to_string(), SetType::Dispatch)));
            let lists = chains.values().flatten().flat_map(|(_, rules)| rules.lists());
            self.wanted_sets.extend(lists.map(|l| (l.name.to_string(), l.kind)));
        }
        if members.is_some() && self.must_rebuild() {
            tracing::warn!(
                family = self.family.version(),
                "table has another shape than ours; made anew at once"
            );
            self.delete_table();
            self.rebuilding = true;
            self.known = self.nothing;
            return self.build_parts(&chains, Some(MemberChanges::new()), true);
        }
        let first = members.is_some() && self.known.chains().is_empty();
        self.build_parts(&chains, members, first)
    }

    /// A base chain elsewhere or a set of another type cannot be changed in place.
    fn must_rebuild(&self) -> bool {
        let chain = |(name, known): (&Arc<str>, &KnownChain)| {
            let Some(hook) = chain_id(name).and_then(|id| self.tables.wanted(&id)).map(|c| c.hook) else {
                return known.hook.is_some();
            };
            known.hook != hook.as_ref().map(hook_key)
        };
        let set = |(name, known): (&Arc<str>, &Option<SetType>)| {
            let wanted = self.wanted_set(name);
            wanted.is_some() && wanted != *known
        };
        self.known.chains().iter().any(chain) || self.known.sets().iter().any(set)
    }

    fn wanted_set(&self, name: &str) -> Option<SetType> {
        self.wanted_sets.get(name).copied()
    }

    fn build_parts(
        &mut self,
        chains: &Chains,
        members: Option<MemberChanges>,
        table: bool,
    ) -> Result<(), TableError> {
        if table {
            let nft = self.nft();
            self.early().add_table(nft);
        }
        let all = members.is_some();
        let mut gone = Gone { sets: self.sets(members), ..Gone::default() };
        self.lists(chains, all, &mut gone)?;
        self.chains(chains, &mut gone)?;
        self.maps(all);
        let (nft, known) = (self.nft(), self.known);
        for name in &gone.chains {
            if known.chains().get(name).is_some_and(|c| !c.tags.is_empty()) {
                self.batch.flush_chain(nft, name);
            }
        }
        for name in gone.chains {
            self.batch.delete_chain(nft, &name);
            self.updates.chains.push((name, None));
        }
        for name in gone.sets {
            self.batch.delete_set(nft, &name);
            self.updates.sets.push((name, None));
        }
        Ok(())
    }

    // --- lists

    /// Makes sets for lists that are new, mends those that differ, and finds those that nobody will use.
    fn lists(&mut self, chains: &Chains, all: bool, gone: &mut Gone) -> Result<(), TableError> {
        let nft = self.nft();
        let wanted: BTreeMap<&Arc<str>, &List> =
            chains.values().flatten().flat_map(|(_, rules)| rules.lists()).map(|l| (&l.name, l)).collect();
        for (name, list) in wanted {
            if !self.known.sets().contains_key(name) {
                self.early().add_set(nft, name, list.kind);
                self.early().intervals(nft, list);
                self.updates.sets.push((name.clone(), Some(list.kind)));
            } else if all && self.differs(list)? {
                self.batch.flush_set(nft, name);
                self.batch.intervals(nft, list);
            }
        }
        let uses = chains.iter().map(|(name, chain)| {
            let lists = chain.iter().flat_map(|(_, rules)| rules.lists()).map(|l| l.name.clone());
            (name.clone(), lists.collect())
        });
        self.updates.uses = uses.collect();
        self.updates.all_uses = all;
        // After a read-back they are among the sets that nobody wants.
        if !all {
            gone.sets.extend(self.known.uses.unused_after(&self.updates.uses));
        }
        Ok(())
    }

    /// True where someone changed a list's set.
    fn differs(&mut self, list: &List) -> Result<bool, TableError> {
        let have = read::list(self.socket, self.family.into(), TABLE, &list.name)
            .map_err(|e| TableError(format!("cannot read back set {}: {e}", list.name)))?;
        Ok(have.as_ref() != Some(&list.intervals))
    }

    // --- sets

    /// Adds and changes sets, makes maps; returns the sets that are to go at the end.
    fn sets(&mut self, members: Option<MemberChanges>) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        let all = members.is_some();
        let names: Vec<SetName> = if all {
            let mut all: Vec<_> = self.tables.sets().keys().cloned().collect();
            all.sort();
            all
        } else {
            self.tables.changes().sets.iter().cloned().collect()
        };
        for name in &names {
            let text: Arc<str> = names::set(self.family, name).into();
            let known = self.known.sets().contains_key(&text);
            match (self.tables.sets().get(name), known) {
                (Some(set), false) => {
                    let (kind, members) = (set_type(set.kind()), set.effective());
                    let nft = self.nft();
                    self.early().add_set(nft, &text, kind);
                    self.early().members(nft, &text, kind, true, &members);
                    self.updates.sets.push((text, Some(kind)));
                }
                (Some(_), true) if !all => self.refill(name, &text),
                (Some(_), true) => {}
                (None, true) => gone.push(text),
                (None, false) => {}
            }
        }
        if let Some(members) = members {
            self.differing_members(members);
            gone.extend(self.known.sets().keys().filter(|n| self.wanted_set(n).is_none()).cloned());
            gone.sort();
        } else {
            self.changed_members();
        }
        self.new_maps();
        gone
    }

    fn refill(&mut self, name: &SetName, text: &Arc<str>) {
        let Some(set) = self.tables.sets().get(name) else { return };
        self.batch.flush_set(self.nft(), text);
        self.batch.members(self.nft(), text, set_type(set.kind()), true, &set.effective());
    }

    fn differing_members(&mut self, members: MemberChanges) {
        let by_text: HashMap<String, SetName> =
            self.tables.sets().keys().map(|n| (names::set(self.family, n), n.clone())).collect();
        let mut sorted: Vec<_> = members.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (text, change) in sorted {
            let Some(name) = by_text.get(&*text) else { continue };
            let Some(kind) = self.tables.sets().get(name).map(|s| set_type(s.kind())) else { continue };
            match change {
                Some((gone, new)) => {
                    self.batch.members(self.nft(), &text, kind, false, &gone);
                    self.batch.members(self.nft(), &text, kind, true, &new);
                }
                None => self.refill(name, &text),
            }
        }
    }

    fn changed_members(&mut self) {
        let tables = self.tables;
        for (name, delta) in &tables.changes().members {
            let Some(set) = tables.sets().get(name) else { continue };
            let (text, kind): (Arc<str>, _) = (names::set(self.family, name).into(), set_type(set.kind()));
            for add in [false, true] {
                let part: Vec<_> = delta.iter().filter(|(_, a)| **a == add).map(|(m, _)| *m).collect();
                self.batch.members(self.nft(), &text, kind, add, &part);
            }
        }
    }

    fn new_maps(&mut self) {
        let mut maps: Vec<_> = self.tables.maps().keys().collect();
        maps.sort();
        for id in maps {
            let text: Arc<str> = id.to_string().into();
            if !self.known.sets().contains_key(&text) {
                self.batch.add_set(self.nft(), &text, SetType::Dispatch);
                self.updates.sets.push((text.clone(), Some(SetType::Dispatch)));
                self.updates.maps.push((text, Vec::new()));
            }
        }
    }

    // --- chains

    /// Chains that changed, or all there are and were.
    fn look(&self, all: bool) -> Chains {
        let mut out = Chains::new();
        let changed = if all { self.tables.all_chains() } else { self.tables.changes().chains.clone() };
        for id in changed {
            let name: Arc<str> = id.to_string().into();
            let rules = self.rules(&id).map(|rules| (id, rules));
            if rules.is_some() || self.known.chains().contains_key(&name) {
                out.insert(name, rules);
            }
        }
        if all {
            for name in self.known.chains().keys() {
                out.entry(name.clone()).or_insert(None);
            }
        }
        out
    }

    /// Adds chains and rules, and finds the chains that are to go at the end.
    fn chains(&mut self, chains: &Chains, gone: &mut Gone) -> Result<(), TableError> {
        let nft = self.nft();
        for (name, wanted) in chains {
            let known = self.known.chains().contains_key(name);
            match wanted {
                Some((_, rules)) if !known => self.batch.add_chain(nft, name, rules.hook.as_ref()),
                None if known => gone.chains.push(name.clone()),
                _ => {}
            }
        }
        for (name, wanted) in chains {
            if let Some((id, rules)) = wanted {
                self.chain(name, id, rules)?;
            }
        }
        Ok(())
    }

    /// What a chain holds; `None`: it is not wanted.
    fn rules(&self, id: &ChainId) -> Option<Rules> {
        let chain = self.tables.programmed(id, self.config)?;
        let lowered = lower::programmed(&chain.rules, id.table, &self.config.marks);
        let lowered = lowered.into_iter().map(|rule| Lowered {
            tag: tag(text::rule(&rule, id.table, self.family).as_bytes()),
            lists: list::of_rule(&rule, self.family),
            rule,
        });
        Some(Rules { lowered: lowered.collect(), hook: chain.hook })
    }

    fn chain(&mut self, name: &Arc<str>, id: &ChainId, rules: &Rules) -> Result<(), TableError> {
        let want: Vec<Option<Tag>> = rules.lowered.iter().map(|l| Some(l.tag)).collect();
        let none = KnownChain::default();
        let known = self.known.chains().get(name);
        let have = known.unwrap_or(&none);
        if known.is_some() && have.tags == want {
            return Ok(());
        }
        let anew = have.handles.is_none()
            && have.tags.len().max(want.len()) <= WRITTEN_ANEW
            && names::is_workload_chain(&id.name);
        let prefix = if anew { 0 } else { have.tags.iter().zip(&want).take_while(|(a, b)| a == b).count() };
        let room = if anew { 0 } else { have.tags.len().min(want.len()) - prefix };
        let suffix =
            have.tags.iter().rev().zip(want.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
        let (old_end, new_end) = (have.tags.len() - suffix, want.len() - suffix);
        let nft = self.nft();
        let mut before = None;
        if prefix == 0 && suffix == 0 {
            if !have.tags.is_empty() {
                self.batch.flush_chain(nft, name);
            }
        } else if prefix < old_end || suffix > 0 {
            let handles = self.handles(name, have)?;
            for handle in handles.get(prefix..old_end).unwrap_or(&[]) {
                self.batch.delete_rule(nft, name, *handle);
            }
            before = handles.get(old_end).copied();
        }
        for l in rules.lowered.get(prefix..new_end).unwrap_or(&[]) {
            self.batch.add_rule(self.family, id.table, name, (&l.rule, &l.lists), &l.tag, before);
        }
        let hook = rules.hook.as_ref().map(hook_key);
        self.updates.chains.push((name.clone(), Some(KnownChain { hook, tags: want, handles: None })));
        Ok(())
    }

    /// Handles of a chain's rules, read from the kernel where they are not known.
    fn handles(&mut self, name: &Arc<str>, have: &KnownChain) -> Result<Vec<u64>, TableError> {
        if let Some(handles) = &have.handles {
            return Ok(handles.clone());
        }
        let rules = read::rules(self.socket, self.family.into(), TABLE, name)
            .map_err(|e| TableError(format!("cannot read back chain {name}: {e}")))?;
        if !rules.iter().map(|r| r.tag).eq(have.tags.iter().copied()) {
            return Err(TableError(format!(
                "chain {name} was changed by someone else; everything is read back"
            )));
        }
        Ok(rules.iter().map(|r| r.handle).collect())
    }

    // --- dispatch

    fn maps(&mut self, all: bool) {
        let tables = self.tables;
        let none = HashMap::new();
        let mut maps: Vec<_> = tables.maps().iter().collect();
        maps.sort_by_key(|(id, _)| (*id).clone());
        for (id, entries) in maps {
            let text: Arc<str> = id.to_string().into();
            let have = self.known.maps.get(&text).unwrap_or(&none);
            let interfaces: BTreeSet<Arc<str>> = if all {
                entries.keys().chain(have.keys()).cloned().collect()
            } else {
                tables.changes().maps.get(id).cloned().unwrap_or_default()
            };
            let (mut gone, mut new) = (Vec::new(), Vec::new());
            for interface in interfaces {
                let want = entries.get(&interface).map(|c| format!("{}-{c}", id.table.name()));
                let now = have.get(&interface);
                if want.as_ref() == now {
                    continue;
                }
                if now.is_some() {
                    gone.push(DispatchElement { interface: interface.clone(), chain: None });
                }
                if want.is_some() {
                    new.push(DispatchElement { interface, chain: want });
                }
            }
            self.batch.dispatch(self.nft(), &text, false, &gone);
            self.batch.dispatch(self.nft(), &text, true, &new);
            self.updates.maps.push((text.clone(), gone));
            self.updates.maps.push((text, new));
        }
    }
}

/// The chain that a name in the kernel stands for.
pub fn chain_id(name: &str) -> Option<ChainId> {
    parts(name).map(|(table, rest)| ChainId::new(table, rest))
}

/// Its table, and its name in it.
pub fn parts(name: &str) -> Option<(Table, &str)> {
    Table::ALL.into_iter().find_map(|table| {
        let rest = name.strip_prefix(table.name())?.strip_prefix('-')?;
        Some((table, rest))
    })
}

fn hook_key(h: &Hook) -> (u32, i32) {
    let point = match h.point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    };
    (point, h.priority)
}

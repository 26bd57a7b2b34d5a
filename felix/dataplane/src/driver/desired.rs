//! What is to stand in the kernel's tables: chains, sets and dispatch maps of both families, and what changed.
//!
//! In: whole chains and sets, or deltas of members. Out: the state and the names of what changed since a driver last
//! took the changes. Always holds: setting what stands already changes nothing; a chain counts only while a chain, a
//! dispatch map or the kernel enters it; overlapping networks of a set are reduced to the widest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use felix_message::{IpSetKind, IpSetMember};
use ipnet::IpNet;

use crate::config::Config;
use crate::render::policy::deny;
use crate::rule::{Action, Chain, ChainId, Family, Rule, SetName};

/// Both families.
#[derive(Debug, Default)]
pub struct Desired {
    pub families: [DesiredTables; 2],
}

impl Desired {
    /// One family's state.
    pub fn family(&mut self, family: Family) -> &mut DesiredTables {
        &mut self.families[family.index()]
    }
}

/// One family.
#[derive(Debug, Default)]
pub struct DesiredTables {
    chains: HashMap<ChainId, Arc<Chain>>,
    references: HashMap<ChainId, u32>,
    sets: HashMap<SetName, DesiredSet>,
    maps: HashMap<ChainId, BTreeMap<Arc<str>, Arc<str>>>,
    changes: Changes,
}

/// What changed.
#[derive(Debug, Default)]
pub struct Changes {
    pub chains: BTreeSet<ChainId>,
    /// Sets that came, went or were replaced.
    pub sets: BTreeSet<SetName>,
    /// Members of other sets that came (true) or went.
    pub members: BTreeMap<SetName, BTreeMap<IpSetMember, bool>>,
    /// Interfaces of dispatch maps.
    pub maps: BTreeMap<ChainId, BTreeSet<Arc<str>>>,
}

impl Changes {
    /// True where nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.members.is_empty() && self.maps.is_empty()
    }
}

impl DesiredTables {
    /// Defines a chain.
    pub fn set_chain(&mut self, id: ChainId, chain: Arc<Chain>) {
        if self.chains.get(&id).is_some_and(|old| **old == *chain) {
            return;
        }
        self.refer(&id, &chain, true);
        if let Some(old) = self.chains.insert(id.clone(), chain) {
            self.refer(&id, &old, false);
        }
        self.changes.chains.insert(id);
    }

    /// Takes a chain away.
    pub fn remove_chain(&mut self, id: &ChainId) {
        if let Some(old) = self.chains.remove(id) {
            self.refer(id, &old, false);
            self.changes.chains.insert(id.clone());
        }
    }

    fn refer(&mut self, id: &ChainId, chain: &Chain, add: bool) {
        for rule in &chain.rules {
            if let Action::Jump(to) | Action::Goto(to) = &rule.action {
                self.count(ChainId { table: id.table, name: to.clone() }, add);
            }
        }
    }

    fn count(&mut self, id: ChainId, add: bool) {
        let n = self.references.entry(id.clone()).or_default();
        let before = *n;
        *n = if add { before + 1 } else { before.saturating_sub(1) };
        let now = *n;
        if now == 0 {
            self.references.remove(&id);
        }
        if (before == 0) != (now == 0) {
            self.changes.chains.insert(id);
        }
    }

    /// The chain, where it is to stand in the kernel.
    #[must_use]
    pub fn wanted(&self, id: &ChainId) -> Option<&Arc<Chain>> {
        let chain = self.chains.get(id)?;
        (chain.hook.is_some() || self.references.contains_key(id)).then_some(chain)
    }

    /// The chain as it is to be programmed: where someone jumps to what nobody defined, one that denies.
    #[must_use]
    pub fn programmed(&self, id: &ChainId, config: &Config) -> Option<Arc<Chain>> {
        if let Some(chain) = self.wanted(id) {
            return Some(chain.clone());
        }
        self.references.contains_key(id).then(|| {
            tracing::error!(chain = %id, "chain is referred to and not defined; it drops");
            Arc::new(Chain::new(vec![Rule::always(deny(config))]))
        })
    }

    /// Every chain that is defined or referred to.
    #[must_use]
    pub fn all_chains(&self) -> BTreeSet<ChainId> {
        self.chains.keys().chain(self.references.keys()).cloned().collect()
    }

    /// Sends an interface's packets to a chain, or (`None`) no longer.
    pub fn dispatch(&mut self, map: &ChainId, interface: &Arc<str>, chain: Option<Arc<str>>) {
        let entries = self.maps.entry(map.clone()).or_default();
        let old = match &chain {
            Some(c) if entries.get(interface) == Some(c) => return,
            Some(c) => entries.insert(interface.clone(), c.clone()),
            None => entries.remove(interface),
        };
        if chain.is_none() && old.is_none() {
            return;
        }
        for (name, add) in [(chain, true), (old, false)] {
            if let Some(name) = name {
                self.count(ChainId { table: map.table, name }, add);
            }
        }
        self.changes.maps.entry(map.clone()).or_default().insert(interface.clone());
    }

    /// Makes sure that a dispatch map is there, empty or not.
    pub fn add_map(&mut self, map: &ChainId) {
        if !self.maps.contains_key(map) {
            self.maps.insert(map.clone(), BTreeMap::new());
            self.changes.maps.entry(map.clone()).or_default();
        }
    }

    /// Dispatch maps.
    #[must_use]
    pub fn maps(&self) -> &HashMap<ChainId, BTreeMap<Arc<str>, Arc<str>>> {
        &self.maps
    }

    /// Defines a whole set.
    pub fn set_set(
        &mut self,
        name: &SetName,
        kind: IpSetKind,
        members: impl IntoIterator<Item = IpSetMember>,
    ) {
        let new = DesiredSet::new(kind, members);
        match self.sets.get_mut(name) {
            Some(old) if old.kind == kind => {
                let (added, removed) = (
                    new.members.difference(&old.members).copied().collect::<Vec<_>>(),
                    old.members.difference(&new.members).copied().collect::<Vec<_>>(),
                );
                self.change_set(name, &added, &removed);
            }
            _ => {
                self.sets.insert(name.clone(), new);
                self.changes.members.remove(name);
                self.changes.sets.insert(name.clone());
            }
        }
    }

    /// Changes members of a set. A set that is not there is left alone.
    pub fn change_set(&mut self, name: &SetName, added: &[IpSetMember], removed: &[IpSetMember]) {
        let Some(set) = self.sets.get_mut(name) else { return };
        let mut delta = BTreeMap::new();
        for m in removed {
            set.remove(m, &mut delta);
        }
        for m in added {
            set.insert(m, &mut delta);
        }
        if delta.is_empty() || self.changes.sets.contains(name) {
            return;
        }
        let pending = self.changes.members.entry(name.clone()).or_default();
        for (m, add) in delta {
            // There and back again is no change.
            if pending.get(&m) == Some(&!add) {
                pending.remove(&m);
            } else {
                pending.insert(m, add);
            }
        }
        if pending.is_empty() {
            self.changes.members.remove(name);
        }
    }

    /// Takes a set away.
    pub fn remove_set(&mut self, name: &SetName) {
        if self.sets.remove(name).is_some() {
            self.changes.members.remove(name);
            self.changes.sets.insert(name.clone());
        }
    }

    /// Sets.
    #[must_use]
    pub fn sets(&self) -> &HashMap<SetName, DesiredSet> {
        &self.sets
    }

    /// What changed since [`Self::changes_done`].
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The kernel has everything.
    pub fn changes_done(&mut self) {
        self.changes = Changes::default();
    }
}

/// A set.
#[derive(Debug)]
pub struct DesiredSet {
    kind: IpSetKind,
    members: BTreeSet<IpSetMember>,
    /// How many networks of each length.
    lengths: BTreeMap<u8, usize>,
}

impl DesiredSet {
    fn new(kind: IpSetKind, members: impl IntoIterator<Item = IpSetMember>) -> Self {
        let members: BTreeSet<_> = members.into_iter().map(normal).collect();
        let mut lengths = BTreeMap::new();
        for m in &members {
            if let IpSetMember::Net(n) = m {
                *lengths.entry(n.prefix_len()).or_default() += 1;
            }
        }
        Self { kind, members, lengths }
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> IpSetKind {
        self.kind
    }

    /// How many members there are, those that others cover included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What stands in the kernel: of overlapping networks the widest.
    #[must_use]
    pub fn effective(&self) -> Vec<IpSetMember> {
        let mut out: Vec<IpSetMember> = Vec::with_capacity(self.members.len());
        for m in &self.members {
            // Sorted by address, wide before narrow: whatever covers this one was the last that was taken.
            if let (IpSetMember::Net(n), Some(IpSetMember::Net(last))) = (m, out.last())
                && last.contains(n)
            {
                continue;
            }
            out.push(*m);
        }
        out
    }

    fn covered(&self, net: &IpNet) -> bool {
        self.lengths.range(..net.prefix_len()).any(|(len, _)| {
            IpNet::new(net.addr(), *len)
                .is_ok_and(|wide| self.members.contains(&IpSetMember::Net(wide.trunc())))
        })
    }

    /// The widest networks strictly inside another.
    fn inside(&self, net: &IpNet) -> Vec<IpSetMember> {
        let first = IpSetMember::Net(*net);
        let mut out: Vec<IpSetMember> = Vec::new();
        for m in self.members.range(first..) {
            let IpSetMember::Net(n) = m else { break };
            if n == net {
                continue;
            }
            if !net.contains(n) {
                break;
            }
            if let Some(IpSetMember::Net(last)) = out.last()
                && last.contains(n)
            {
                continue;
            }
            out.push(*m);
        }
        out
    }

    fn insert(&mut self, m: &IpSetMember, delta: &mut BTreeMap<IpSetMember, bool>) {
        let m = normal(*m);
        if !self.members.insert(m) {
            return;
        }
        let IpSetMember::Net(net) = m else {
            note(delta, m, true);
            return;
        };
        *self.lengths.entry(net.prefix_len()).or_default() += 1;
        if self.covered(&net) {
            return;
        }
        for child in self.inside(&net) {
            note(delta, child, false);
        }
        note(delta, m, true);
    }

    fn remove(&mut self, m: &IpSetMember, delta: &mut BTreeMap<IpSetMember, bool>) {
        let m = normal(*m);
        if !self.members.remove(&m) {
            return;
        }
        let IpSetMember::Net(net) = m else {
            note(delta, m, false);
            return;
        };
        if let Some(n) = self.lengths.get_mut(&net.prefix_len()) {
            *n -= 1;
            if *n == 0 {
                self.lengths.remove(&net.prefix_len());
            }
        }
        if self.covered(&net) {
            return;
        }
        note(delta, m, false);
        for child in self.inside(&net) {
            note(delta, child, true);
        }
    }
}

fn note(delta: &mut BTreeMap<IpSetMember, bool>, m: IpSetMember, add: bool) {
    if delta.get(&m) == Some(&!add) {
        delta.remove(&m);
    } else {
        delta.insert(m, add);
    }
}

fn normal(m: IpSetMember) -> IpSetMember {
    match m {
        IpSetMember::Net(n) => IpSetMember::Net(n.trunc()),
        other @ IpSetMember::IpPort(..) => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::Table;

    fn net(text: &str) -> IpSetMember {
        IpSetMember::Net(text.parse().unwrap())
    }

    #[test]
    fn a_chain_counts_while_something_enters_it() {
        let mut t = DesiredTables::default();
        let (a, b) = (ChainId::new(Table::Filter, "a"), ChainId::new(Table::Filter, "b"));
        t.set_chain(b.clone(), Arc::default());
        assert!(t.wanted(&b).is_none());
        t.set_chain(a.clone(), Arc::new(Chain::new(vec![Rule::always(Action::Jump("b".into()))])));
        assert!(t.wanted(&b).is_some());
        t.changes_done();
        t.remove_chain(&a);
        assert!(t.wanted(&b).is_none());
        assert!(t.changes().chains.contains(&b));
    }

    #[test]
    fn setting_what_stands_changes_nothing() {
        let mut t = DesiredTables::default();
        let name = SetName::Own("x");
        t.set_set(&name, IpSetKind::Net, [net("10.0.0.0/8"), net("10.1.0.0/16")]);
        t.changes_done();
        t.set_set(&name, IpSetKind::Net, [net("10.0.0.0/8"), net("10.1.0.0/16")]);
        assert!(t.changes().is_empty());
        t.change_set(&name, &[net("10.1.2.0/24")], &[net("10.1.0.0/16")]);
        assert!(t.changes().is_empty());
    }

    #[test]
    fn taking_the_wide_network_away_brings_the_narrow_ones_back() {
        let mut t = DesiredTables::default();
        let name = SetName::Own("x");
        let all = [net("10.0.0.0/8"), net("10.1.0.0/16"), net("10.1.2.0/24"), net("10.9.0.1/32")];
        t.set_set(&name, IpSetKind::Net, all);
        t.changes_done();
        t.change_set(&name, &[], &[net("10.0.0.0/8")]);
        let delta: Vec<_> = t.changes().members[&name].iter().map(|(m, a)| (*m, *a)).collect();
        assert_eq!(
            delta,
            [(net("10.0.0.0/8"), false), (net("10.1.0.0/16"), true), (net("10.9.0.1/32"), true)]
        );
    }

    proptest! {
        /// The deltas, applied one after the other, give what a look at the whole set gives.
        #[test]
        fn deltas_lead_to_the_effective_set(ops: Vec<(bool, u8, u8)>) {
            let mut t = DesiredTables::default();
            let name = SetName::Own("x");
            t.set_set(&name, IpSetKind::Net, []);
            let mut kernel: BTreeSet<IpSetMember> = BTreeSet::new();
            t.changes_done();
            for (add, addr, len) in ops {
                let n = IpNet::new([10, 0, addr & 7, addr].into(), 20 + len % 13).unwrap();
                let m = [IpSetMember::Net(n)];
                if add { t.change_set(&name, &m, &[]) } else { t.change_set(&name, &[], &m) }
                if addr % 3 == 0 {
                    for (m, add) in t.changes().members.get(&name).into_iter().flatten() {
                        let fits = if *add { kernel.insert(*m) } else { kernel.remove(m) };
                        prop_assert!(fits);
                    }
                    t.changes_done();
                }
            }
            for (m, add) in t.changes().members.get(&name).into_iter().flatten() {
                let fits = if *add { kernel.insert(*m) } else { kernel.remove(m) };
                prop_assert!(fits);
            }
            let want: BTreeSet<_> = t.sets()[&name].effective().into_iter().collect();
            prop_assert_eq!(kernel, want);
        }
    }
}

//! From what is known and what is desired to the input of one `iptables-restore`. Pure.
//!
//! In: one family's known and desired state. Out: text with a section for every table that changes, and how the
//! knowledge changes once it is taken. Always holds: a chain that changes is written whole, others are not named; chains
//! are declared before anything leads to them and removed after nothing does; in the kernel's chains only our own rules
//! are touched. Each section is taken by the kernel at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use super::save::{KernelChain, OwnRule, Saved, Tag};
use super::text::{self, Context};
use super::{dispatch, names};
use crate::config::{ChainInsertMode, Config};
use crate::driver::desired::DesiredTables;
use crate::driver::tag;
use crate::rule::{Action, Chain, ChainId, Family, Rule, Table};

/// What a chain holds, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// Of all its rules. `None`: one is not ours.
    hash: Option<Tag>,
    pub rules: usize,
}

impl Print {
    fn of(tags: &[Option<Tag>]) -> Self {
        let all: Option<Vec<Tag>> = tags.iter().copied().collect();
        Self { hash: all.map(|tags| tag(&tags.concat())), rules: tags.len() }
    }
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTable {
    pub chains: HashMap<Arc<str>, Print>,
    pub kernel: HashMap<Arc<str>, KernelChain>,
}

/// The map that a chain dispatches by, and the chains below it.
type Tree = (ChainId, BTreeSet<Arc<str>>);

/// What is believed to stand in one family's tables.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub tables: BTreeMap<Table, KnownTable>,
    /// Chains that dispatch.
    trees: HashMap<ChainId, Tree>,
}

impl Known {
    /// From a read-back.
    #[must_use]
    pub fn read(saved: Saved) -> Self {
        let table = |(table, saved): (Table, super::save::SavedTable)| {
            let chains = saved.chains.into_iter().map(|(name, tags)| (name, Print::of(&tags))).collect();
            (table, KnownTable { chains, kernel: saved.kernel })
        };
        Self { tables: saved.into_iter().map(table).collect(), trees: HashMap::new() }
    }

    /// True where nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(|t| t.chains.is_empty() && t.kernel.values().all(|k| k.own.is_empty()))
    }

    /// How many chains dispatch.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.trees.len()
    }
}

/// A rule's identity and its text.
type Line = (Tag, String);

#[derive(Debug, Default)]
struct Section {
    write: BTreeMap<Arc<str>, Vec<Line>>,
    gone: BTreeSet<Arc<str>>,
    /// Commands for kernel's chains, and what they hold then.
    kernel: BTreeMap<Arc<str>, (Vec<String>, KernelChain)>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Plan {
    sections: BTreeMap<Table, Section>,
    trees: Vec<(ChainId, Option<Tree>)>,
    /// A rule in a kernel's chain is to go whose words are not known: the plan is not to be carried out.
    pub blind: bool,
}

/// Builds a plan.
#[derive(Debug)]
pub struct Planner<'a> {
    pub family: Family,
    pub config: &'a Config,
    pub known: &'a Known,
    pub tables: &'a DesiredTables,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// With nothing planned yet.
    #[must_use]
    pub fn new(family: Family, config: &'a Config, known: &'a Known, tables: &'a DesiredTables) -> Self {
        Self { family, config, known, tables, plan: Plan::default() }
    }

    /// Compares everything.
    #[must_use]
    pub fn everything(mut self) -> Plan {
        let mut wanted: HashMap<Table, BTreeSet<Arc<str>>> = HashMap::new();
        for id in self.tables.all_chains() {
            for name in self.chain(&id) {
                wanted.entry(id.table).or_default().insert(name);
            }
        }
        for (table, known) in &self.known.tables {
            let none = BTreeSet::new();
            let wanted = wanted.get(table).unwrap_or(&none);
            let gone = known.chains.keys().filter(|n| !wanted.contains(*n)).cloned();
            self.plan.sections.entry(*table).or_default().gone.extend(gone);
            let kernel: Vec<Arc<str>> = known.kernel.keys().cloned().collect();
            for name in kernel {
                if self.tables.wanted(&ChainId::new(*table, name.clone())).is_none() {
                    self.kernel_chain(*table, &name, &[]);
                }
            }
        }
        self.plan
    }

    /// Compares what changed since the kernel last had everything.
    #[must_use]
    pub fn changes(mut self) -> Plan {
        let changes = self.tables.changes();
        let by_map = self.known.trees.iter().filter(|(_, (map, _))| changes.maps.contains_key(map));
        let mut changed: BTreeSet<ChainId> = by_map.map(|(id, _)| id.clone()).collect();
        changed.extend(changes.chains.iter().cloned());
        for id in changed {
            let wanted: BTreeSet<Arc<str>> = self.chain(&id).into_iter().collect();
            let own: Arc<str> = names::chain(&id.name).into();
            let below = self.known.trees.get(&id).map(|(_, below)| below.clone()).unwrap_or_default();
            let Some(known) = self.known.tables.get(&id.table) else { continue };
            let mut gone: BTreeSet<Arc<str>> = below;
            if known.chains.contains_key(&own) {
                gone.insert(own);
            }
            let gone = gone.into_iter().filter(|n| !wanted.contains(n));
            self.plan.sections.entry(id.table).or_default().gone.extend(gone);
        }
        self.plan
    }

    /// Nothing of ours is to stay.
    #[must_use]
    pub fn nothing(mut self) -> Plan {
        for (table, known) in &self.known.tables {
            let section = self.plan.sections.entry(*table).or_default();
            section.gone.extend(known.chains.keys().cloned());
            for name in known.kernel.keys() {
                self.kernel_chain(*table, name, &[]);
            }
        }
        self.plan.trees = self.known.trees.keys().map(|id| (id.clone(), None)).collect();
        self.plan
    }

    /// Plans a chain; returns the names of ours that are wanted for it.
    fn chain(&mut self, id: &ChainId) -> Vec<Arc<str>> {
        let Some(chain) = self.tables.programmed(id, self.config) else {
            if self.known.trees.contains_key(id) {
                self.plan.trees.push((id.clone(), None));
            }
            return Vec::new();
        };
        if chain.hook.is_some() {
            self.kernel_chain(id.table, &id.name, &chain.rules);
            return Vec::new();
        }
        let mut names = Vec::new();
        for (name, rules) in self.rules(id, &chain) {
            let lines: Vec<Line> = rules.into_iter().map(|r| (tag(r.as_bytes()), r)).collect();
            let print = print(&lines);
            let known = self.known.tables.get(&id.table).and_then(|t| t.chains.get(&name));
            if known != Some(&print) {
                self.plan.sections.entry(id.table).or_default().write.insert(name.clone(), lines);
            }
            names.push(name);
        }
        names
    }

    fn context(&self, table: Table) -> Context<'a> {
        Context { table, family: self.family, marks: &self.config.marks }
    }

    /// A chain's rules, and those of the chains below it.
    fn rules(&mut self, id: &ChainId, chain: &Chain) -> Vec<(Arc<str>, Vec<String>)> {
        let cx = self.context(id.table);
        let own: Arc<str> = names::chain(&id.name).into();
        let mut rules = Vec::with_capacity(chain.rules.len());
        let mut below = Vec::new();
        for (n, rule) in chain.rules.iter().enumerate() {
            let (map, option) = match &rule.action {
                Action::DispatchIn(map) => (map, "-i"),
                Action::DispatchOut(map) => (map, "-o"),
                _ => {
                    rules.extend(text::lines(rule, cx));
                    continue;
                }
            };
            let map = ChainId::new(id.table, map.clone());
            let rest = chain.rules.get(n + 1..).unwrap_or(&[]);
            let rest: Vec<String> = rest.iter().flat_map(|r| text::lines(r, cx)).collect();
            let prefix = match &self.config.interface_prefixes[..] {
                [one] => one.as_str(),
                _ => "",
            };
            let none = BTreeMap::new();
            let entries = self.tables.maps().get(&map).unwrap_or(&none);
            let tree = dispatch::Tree { root: &own, option, prefix, rest: &rest };
            let mut parts = Vec::new();
            for (name, part) in dispatch::chains(tree, entries) {
                if name.is_empty() {
                    rules.extend(part);
                } else {
                    parts.push((Arc::<str>::from(name), part));
                }
            }
            let names = parts.iter().map(|(n, _)| n.clone()).collect();
            self.plan.trees.push((id.clone(), Some((map, names))));
            below.extend(parts);
        }
        below.insert(0, (own, rules));
        below
    }

    /// Plans our rules in a kernel's chain: jumps at its head (or end, where so configured), others at its end.
    fn kernel_chain(&mut self, table: Table, name: &Arc<str>, rules: &[Rule]) {
        let cx = self.context(table);
        let jumps = |r: &&Rule| matches!(r.action, Action::Jump(_) | Action::Goto(_));
        let line =
            |r: &Rule| text::lines(r, cx).into_iter().map(|t| (tag(t.as_bytes()), t)).collect::<Vec<_>>();
        let mut first: Vec<Line> = rules.iter().take_while(jumps).flat_map(line).collect();
        let mut last: Vec<Line> = rules.iter().skip_while(jumps).flat_map(line).collect();
        if self.config.chain_insert_mode == ChainInsertMode::Append {
            first.append(&mut last);
            std::mem::swap(&mut first, &mut last);
        }
        let none = KernelChain::default();
        let known = self.known.tables.get(&table).and_then(|t| t.kernel.get(name)).unwrap_or(&none);
        let others = known.rules.saturating_sub(known.own.len());
        let lines = || first.iter().chain(&last);
        let place = |n: usize| if n < first.len() { n } else { n + others };
        let wanted: Vec<(usize, Option<Tag>)> =
            lines().enumerate().map(|(n, (tag, _))| (place(n), Some(*tag))).collect();
        if known.own.iter().map(|o| (o.at, o.tag)).eq(wanted.iter().copied()) {
            return;
        }
        let mut commands = Vec::with_capacity(known.own.len() + wanted.len());
        for own in &known.own {
            let same = || lines().find(|(tag, _)| own.tag == Some(*tag)).map(rule_text);
            match own.text.clone().or_else(same) {
                Some(text) => commands.push(format!("-D {name} {text}")),
                None => self.plan.blind = true,
            }
        }
        commands.extend(first.iter().rev().map(|l| format!("-I {name} {}", rule_text(l))));
        commands.extend(last.iter().map(|l| format!("-A {name} {}", rule_text(l))));
        let own = lines().zip(&wanted);
        let own =
            own.map(|(l, (at, tag))| OwnRule { at: *at, tag: *tag, text: Some(rule_text(l)) }).collect();
        let after = KernelChain { rules: others + wanted.len(), own };
        self.plan.sections.entry(table).or_default().kernel.insert(name.clone(), (commands, after));
    }
}

fn print(lines: &[Line]) -> Print {
    let tags: Vec<Option<Tag>> = lines.iter().map(|(t, _)| Some(*t)).collect();
    Print::of(&tags)
}

fn rule_text((tag, text): &Line) -> String {
    let mut out = String::with_capacity(text.len() + 48);
    push_rule(&mut out, tag, text);
    out
}

fn push_rule(out: &mut String, tag: &Tag, text: &str) {
    out.push_str("-m comment --comment \"cali:");
    out.push_str(&String::from_utf8_lossy(tag));
    out.push('"');
    out.push_str(text);
}

impl Section {
    fn is_empty(&self) -> bool {
        self.write.is_empty() && self.gone.is_empty() && self.kernel.is_empty()
    }

    /// How many commands it has.
    fn operations(&self) -> usize {
        let lines: usize = self.write.values().map(Vec::len).sum();
        let kernel: usize = self.kernel.values().map(|(lines, _)| lines.len()).sum();
        self.write.len() + 2 * self.gone.len() + lines + kernel
    }

    fn write(&self, table: Table, out: &mut String) {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "*{}", table.name());
        // Declared anew is emptied: nothing leads to what goes once all is written.
        for name in self.write.keys().chain(&self.gone) {
            let _ = writeln!(out, ":{name} - [0:0]");
        }
        for (name, lines) in &self.write {
            for (tag, text) in lines {
                let _ = write!(out, "-A {name} ");
                push_rule(out, tag, text);
                out.push('\n');
            }
        }
        for line in self.kernel.values().flat_map(|(lines, _)| lines) {
            out.push_str(line);
            out.push('\n');
        }
        for name in &self.gone {
            let _ = writeln!(out, "-X {name}");
        }
        out.push_str("COMMIT\n");
    }
}

impl Plan {
    /// The input of `iptables-restore --noflush`, and how many commands it has. Empty: nothing changes.
    #[must_use]
    pub fn input(&self) -> (String, usize) {
        let mut out = String::new();
        for (table, section) in &self.sections {
            if !section.is_empty() {
                section.write(*table, &mut out);
            }
        }
        (out, self.operations().map(|(_, n)| n).sum())
    }

    /// How many commands there are for each table.
    pub fn operations(&self) -> impl Iterator<Item = (Table, usize)> {
        self.sections.iter().map(|(table, section)| (*table, section.operations()))
    }

    /// The kernel has taken it.
    pub fn done(self, known: &mut Known) {
        for (table, section) in self.sections {
            let t = known.tables.entry(table).or_default();
            for name in section.gone {
                t.chains.remove(&name);
            }
            for (name, lines) in section.write {
                t.chains.insert(name, print(&lines));
            }
            for (name, (_, after)) in section.kernel {
                t.kernel.insert(name, after);
            }
        }
        for (id, tree) in self.trees {
            match tree {
                Some(tree) => known.trees.insert(id, tree),
                None => known.trees.remove(&id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::{Hook, HookPoint, Match};

    /// What happens to one of a few chains or interfaces.
    #[derive(Clone, Debug)]
    enum Op {
        Chain(u8, Vec<u8>),
        Gone(u8),
        Interface(u8, Option<u8>),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        prop::collection::vec(
            prop_oneof![
                (0_u8..6, prop::collection::vec(0_u8..6, 0..5)).prop_map(|(n, to)| Op::Chain(n, to)),
                (0_u8..6).prop_map(Op::Gone),
                (0_u8..40, prop::option::weighted(0.8, 0_u8..6)).prop_map(|(i, to)| Op::Interface(i, to)),
                (0_u8..40, prop::option::weighted(0.8, 0_u8..6)).prop_map(|(i, to)| Op::Interface(i, to)),
            ],
            0..60,
        )
    }

    fn apply(tables: &mut DesiredTables, op: &Op) {
        let id = |n: &u8| ChainId::new(Table::Filter, format!("cali-pi-{n}"));
        match op {
            Op::Chain(n, to) => {
                let jump =
                    |to: &u8| Rule::when(vec![Match::mark_set(u32::from(*n) + 1)], Action::Jump(id(to).name));
                tables.set_chain(id(n), Arc::new(Chain::new(to.iter().map(jump).collect())));
            }
            Op::Gone(n) => tables.remove_chain(&id(n)),
            Op::Interface(i, to) => {
                let map = ChainId::new(Table::Filter, "cali-from-wl-dispatch");
                let name: Arc<str> = format!("cali{:x}{:x}", i % 7, i).into();
                tables.dispatch(&map, &name, to.map(|to| id(&to).name));
            }
        }
    }

    fn start(tables: &mut DesiredTables) {
        let map = ChainId::new(Table::Filter, "cali-from-wl-dispatch");
        tables.add_map(&map);
        let hook = Hook { kind: "filter", point: HookPoint::Forward, priority: 0 };
        let rules = vec![Rule::always(Action::Jump(map.name.clone())), Rule::always(Action::Accept)];
        tables.set_chain(ChainId::new(Table::Filter, "FORWARD"), Arc::new(Chain { hook: Some(hook), rules }));
        let rules = vec![Rule::always(Action::DispatchIn(map.name.clone())), Rule::always(Action::Drop)];
        tables.set_chain(map, Arc::new(Chain::new(rules)));
    }

    /// With another's rule. No closure: called twice with a constant, Rust 1.95 gives both results one place in memory
    /// where it optimises.
    fn foreign(mut kernel: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
        kernel.insert("FORWARD".to_owned(), vec!["-m other -j OTHER".to_owned()]);
        kernel
    }

    /// What a plan's input leaves in a table, rule by rule: a small `iptables-restore`.
    fn restore(kernel: &mut BTreeMap<String, Vec<String>>, input: &str) {
        for line in input.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                [name, ..] if name.starts_with(':') => {
                    kernel.insert(name[1..].to_owned(), Vec::new());
                }
                ["-A", chain, rule] => kernel.get_mut(chain).expect(line).push(rule.to_owned()),
                ["-I", chain, rule] => kernel.get_mut(chain).expect(line).insert(0, rule.to_owned()),
                ["-D", chain, rule] => {
                    let rules = kernel.get_mut(chain).expect(line);
                    let at = rules.iter().position(|r| r == rule).expect(line);
                    rules.remove(at);
                }
                ["-X", chain] => {
                    assert!(kernel.remove(chain).expect(line).is_empty(), "{line}");
                }
                _ => {}
            }
        }
        for rule in kernel.values().flatten() {
            let to = rule.split(' ').skip_while(|w| *w != "-j" && *w != "-g").nth(1).unwrap();
            assert!(!to.starts_with("cali-") || kernel.contains_key(to), "{rule} leads nowhere");
        }
    }

    proptest! {
        /// Changes step by step leave what everything at once leaves, and a look at it finds nothing to do.
        #[test]
        fn changes_lead_to_what_is_desired(steps in prop::collection::vec(ops(), 1..5), append: bool) {
            let mode = if append { ChainInsertMode::Append } else { ChainInsertMode::Insert };
            let config = Config { chain_insert_mode: mode, ..Config::default() };
            let mut tables = DesiredTables::default();
            start(&mut tables);
            let mut known = Known::default();
            let mut kernel = foreign(BTreeMap::new());
            let forward = KernelChain { rules: 1, own: vec![] };
            let table = KnownTable { kernel: HashMap::from([("FORWARD".into(), forward)]), ..KnownTable::default() };
            known.tables.insert(Table::Filter, table);
            let begin = known.clone();
            let plan = Planner::new(Family::V4, &config, &known, &tables).everything();
            restore(&mut kernel, &plan.input().0);
            plan.done(&mut known);
            tables.changes_done();
            for step in &steps {
                step.iter().for_each(|op| apply(&mut tables, op));
                let plan = Planner::new(Family::V4, &config, &known, &tables).changes();
                restore(&mut kernel, &plan.input().0);
                plan.done(&mut known);
                tables.changes_done();
            }
            let again = Planner::new(Family::V4, &config, &known, &tables).everything();
            prop_assert_eq!(again.input(), (String::new(), 0));
            let mut fresh = foreign(BTreeMap::new());
            restore(&mut fresh, &Planner::new(Family::V4, &config, &begin, &tables).everything().input().0);
            prop_assert_eq!(&kernel, &fresh);
            restore(&mut kernel, &Planner::new(Family::V4, &config, &known, &tables).nothing().input().0);
            prop_assert_eq!(&kernel, &foreign(BTreeMap::new()));
        }
    }
}

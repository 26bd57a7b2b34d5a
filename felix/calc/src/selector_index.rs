//! Many selectors, asked at once: which of them match these labels?
//!
//! In come selectors, out go the users of those that match a [`View`]. A selector is compiled into label ids and
//! filed under one label that a match must have, with its value where the selector names values; labels are then
//! evaluated against what is filed under them alone, not against ten thousand selectors. Equal selectors are compiled
//! and evaluated once. Of several labels to file under, the one with the fewest neighbours is taken, so that what all
//! selectors demand (`projectcalico.org/orchestrator == "k8s"`) does not gather them in one place.
//!
//! Always holds: the result is exactly what evaluating every selector would give.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use libcalico_selector::Selector;
use libcalico_selector::ast::{Node, Restriction};

use crate::labels::{Labels, Pair, Sym, View};

/// A selector with its label names and values as ids, which it holds references to.
enum Expr {
    All,
    Has(Sym),
    Eq(Sym, Sym),
    Ne(Sym, Sym),
    /// Sorted.
    In(Sym, Box<[Sym]>),
    NotIn(Sym, Box<[Sym]>),
    Contains(Sym, Box<str>),
    StartsWith(Sym, Box<str>),
    EndsWith(Sym, Box<str>),
    Not(Box<Expr>),
    And(Box<[Expr]>),
    Or(Box<[Expr]>),
}

impl Expr {
    fn compile(node: &Node, labels: &mut Labels) -> Self {
        let set = |labels: &mut Labels, values: &[Box<str>]| {
            let mut ids: Vec<Sym> = values.iter().map(|v| labels.acquire_text(v)).collect();
            ids.sort_unstable();
            ids.into_boxed_slice()
        };
        match node {
            Node::All | Node::Global => Self::All,
            Node::Has(k) => Self::Has(labels.acquire_text(k)),
            Node::Eq(k, v) => Self::Eq(labels.acquire_text(k), labels.acquire_text(v)),
            Node::Ne(k, v) => Self::Ne(labels.acquire_text(k), labels.acquire_text(v)),
            Node::In(k, vs) => Self::In(labels.acquire_text(k), set(labels, vs)),
            Node::NotIn(k, vs) => Self::NotIn(labels.acquire_text(k), set(labels, vs)),
            Node::Contains(k, part) => Self::Contains(labels.acquire_text(k), part.clone()),
            Node::StartsWith(k, part) => Self::StartsWith(labels.acquire_text(k), part.clone()),
            Node::EndsWith(k, part) => Self::EndsWith(labels.acquire_text(k), part.clone()),
            Node::Not(n) => Self::Not(Box::new(Self::compile(n, labels))),
            Node::And(nodes) => Self::And(nodes.iter().map(|n| Self::compile(n, labels)).collect()),
            Node::Or(nodes) => Self::Or(nodes.iter().map(|n| Self::compile(n, labels)).collect()),
        }
    }

    fn release(&self, labels: &mut Labels) {
        match self {
            Self::All => {}
            Self::Has(k) | Self::Contains(k, _) | Self::StartsWith(k, _) | Self::EndsWith(k, _) => {
                labels.release_text(*k);
            }
            Self::Eq(k, v) | Self::Ne(k, v) => {
                labels.release_text(*k);
                labels.release_text(*v);
            }
            Self::In(k, vs) | Self::NotIn(k, vs) => {
                labels.release_text(*k);
                vs.iter().for_each(|v| labels.release_text(*v));
            }
            Self::Not(n) => n.release(labels),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|n| n.release(labels)),
        }
    }

    fn matches(&self, view: &View<'_>) -> bool {
        let text = |k: &Sym| view.get(*k).map(|v| view.text(v));
        match self {
            Self::All => true,
            Self::Has(k) => view.get(*k).is_some(),
            Self::Eq(k, v) => view.get(*k) == Some(*v),
            Self::Ne(k, v) => view.get(*k) != Some(*v),
            Self::In(k, vs) => view.get(*k).is_some_and(|v| vs.binary_search(&v).is_ok()),
            Self::NotIn(k, vs) => view.get(*k).is_none_or(|v| vs.binary_search(&v).is_err()),
            Self::Contains(k, part) => text(k).is_some_and(|v| v.contains(&**part)),
            Self::StartsWith(k, part) => text(k).is_some_and(|v| v.starts_with(&**part)),
            Self::EndsWith(k, part) => text(k).is_some_and(|v| v.ends_with(&**part)),
            Self::Not(n) => !n.matches(view),
            Self::And(nodes) => nodes.iter().all(|n| n.matches(view)),
            Self::Or(nodes) => nodes.iter().any(|n| n.matches(view)),
        }
    }
}

/// Where a selector is filed.
enum Place {
    /// Under each of these labels: a match has one of them.
    Labels(Box<[Pair]>),
    /// Under a label's name: a match has it.
    Name(Sym),
    /// Nothing can match.
    Nowhere,
    /// It may match anything.
    Anywhere,
}

struct Entry {
    selector: Selector,
    expr: Expr,
    place: Place,
    users: Vec<u32>,
}

/// See the module's text. A user is a number of the caller's.
#[derive(Default)]
pub struct SelectorIndex {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_selector: HashMap<Selector, u32>,
    by_label: HashMap<Pair, Vec<u32>>,
    by_name: HashMap<Sym, Vec<u32>>,
    anywhere: Vec<u32>,
}

impl SelectorIndex {
    /// Adds a user of a selector; gives the selector's number for [`Self::matches`].
    pub fn add(&mut self, selector: &Selector, user: u32, labels: &mut Labels) -> u32 {
        if let Some(&id) = self.by_selector.get(selector) {
            if let Some(entry) = self.entry_mut(id) {
                entry.users.push(user);
            }
            return id;
        }
        let expr = Expr::compile(selector.node(), labels);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        let place = self.file(id, &selector.node().restrictions(), labels);
        self.by_selector.insert(selector.clone(), id);
        self.entries[id as usize] =
            Some(Entry { selector: selector.clone(), expr, place, users: vec![user] });
        id
    }

    /// Takes a user of a selector away.
    pub fn remove(&mut self, id: u32, user: u32, labels: &mut Labels) {
        let Some(entry) = self.entry_mut(id) else { return };
        if let Some(at) = entry.users.iter().position(|&u| u == user) {
            entry.users.swap_remove(at);
        }
        if !entry.users.is_empty() {
            return;
        }
        let Some(entry) = self.entries[id as usize].take() else { return };
        self.by_selector.remove(&entry.selector);
        match &entry.place {
            Place::Labels(pairs) => {
                for pair in pairs {
                    remove_from(&mut self.by_label, pair, id);
                    labels.release_text(pair.0);
                    labels.release_text(pair.1);
                }
            }
            Place::Name(name) => {
                remove_from(&mut self.by_name, name, id);
                labels.release_text(*name);
            }
            Place::Anywhere => self.anywhere.retain(|&e| e != id),
            Place::Nowhere => {}
        }
        entry.expr.release(labels);
        self.free.push(id);
    }

    /// Chooses the label to file under and files.
    fn file(
        &mut self,
        id: u32,
        restrictions: &BTreeMap<&str, Restriction<'_>>,
        labels: &mut Labels,
    ) -> Place {
        let mut best: Option<(usize, &str, Option<&[&str]>)> = None;
        for (&name, r) in restrictions {
            if r.must_be_present && r.must_be_absent || r.one_of.as_ref().is_some_and(Vec::is_empty) {
                return Place::Nowhere;
            }
            if !r.must_be_present {
                continue;
            }
            let sym = labels.acquire_text(name);
            let cost = match &r.one_of {
                Some(values) => values
                    .iter()
                    .map(|v| {
                        let value = labels.acquire_text(v);
                        labels.release_text(value);
                        1 + self.by_label.get(&(sym, value)).map_or(0, Vec::len)
                    })
                    .sum::<usize>(),
                // A name alone is asked by every value of it: only where no value is demanded.
                None => (1 << 20) + self.by_name.get(&sym).map_or(0, Vec::len),
            };
            labels.release_text(sym);
            if best.as_ref().is_none_or(|(c, ..)| cost < *c) {
                best = Some((cost, name, r.one_of.as_deref()));
            }
        }
        match best {
            Some((_, name, Some(values))) => {
                let pairs: Box<[Pair]> =
                    values.iter().map(|v| (labels.acquire_text(name), labels.acquire_text(v))).collect();
                for pair in &pairs {
                    self.by_label.entry(*pair).or_default().push(id);
                }
                Place::Labels(pairs)
            }
            Some((_, name, None)) => {
                let sym = labels.acquire_text(name);
                self.by_name.entry(sym).or_default().push(id);
                Place::Name(sym)
            }
            None => {
                self.anywhere.push(id);
                Place::Anywhere
            }
        }
    }

    fn entry_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    /// True where a selector of the index matches.
    pub fn matches(&self, id: u32, view: &View<'_>) -> bool {
        self.entry(id).is_some_and(|e| e.expr.matches(view))
    }

    /// Users of every selector that matches, sorted.
    pub fn matching(&self, view: &View<'_>) -> Vec<u32> {
        let mut hits: Vec<u32> = Vec::new();
        let mut ask = |ids: &[u32]| {
            hits.extend(ids.iter().filter(|&&id| self.matches(id, view)));
        };
        ask(&self.anywhere);
        for pair in view.pairs() {
            if let Some(ids) = self.by_label.get(&pair) {
                ask(ids);
            }
            if let Some(ids) = self.by_name.get(&pair.0) {
                ask(ids);
            }
        }
        hits.sort_unstable();
        hits.dedup();
        let mut users: Vec<u32> =
            hits.into_iter().filter_map(|id| self.entry(id)).flat_map(|e| &e.users).copied().collect();
        users.sort_unstable();
        users
    }

    /// Items of which every match of a selector is one, sorted and distinct, where they are fewer than so many.
    pub fn candidates(&self, id: u32, labels: &Labels, fewer_than: usize) -> Option<Vec<u32>> {
        let mut out = Vec::new();
        let entry = self.entry(id)?;
        match &entry.place {
            Place::Nowhere => {}
            Place::Anywhere => return None,
            Place::Labels(_) | Place::Name(_) => {
                for pair in rarest(&entry.selector, labels) {
                    if out.len() + labels.count_with(pair, fewer_than) >= fewer_than {
                        return None;
                    }
                    labels.items_with(pair, &mut out);
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        Some(out)
    }

    /// Items whose labels match a selector of the index, sorted and distinct. `view_of` gives an item's view.
    /// Only items that have the rarest of the labels that the selector demands are evaluated.
    pub fn items<'a>(&self, id: u32, labels: &'a Labels, view_of: impl Fn(u32) -> View<'a>) -> Vec<u32> {
        let Some(entry) = self.entry(id) else { return Vec::new() };
        let mut out = Vec::new();
        match &entry.place {
            Place::Nowhere => return out,
            Place::Anywhere => labels.all_items(&mut out),
            Place::Labels(_) | Place::Name(_) => {
                for pair in rarest(&entry.selector, labels) {
                    labels.items_with(pair, &mut out);
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        out.retain(|&item| entry.expr.matches(&view_of(item)));
        out
    }
}

/// Of the labels that a selector demands, the ones that the fewest items have: a match has one of these.
fn rarest(selector: &Selector, labels: &Labels) -> Vec<Pair> {
    let mut best: Option<(usize, Vec<Pair>)> = None;
    for (name, r) in selector.node().restrictions() {
        if !r.must_be_present {
            continue;
        }
        // A text that nobody holds is no item's label.
        let Some(name) = labels.find_text(name) else { return Vec::new() };
        let pairs: Vec<Pair> = match &r.one_of {
            Some(values) => values.iter().filter_map(|v| labels.find_text(v)).map(|v| (name, v)).collect(),
            None => labels.values_of(name).map(|v| (name, v)).collect(),
        };
        let weight = pairs.iter().map(|&p| labels.weight(p)).sum();
        if best.as_ref().is_none_or(|(w, _)| weight < *w) {
            best = Some((weight, pairs));
        }
    }
    best.map(|(_, pairs)| pairs).unwrap_or_default()
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<u32>>, key: &K, id: u32) {
    if let Some(ids) = map.get_mut(key) {
        ids.retain(|&i| i != id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Own = BTreeMap<String, String>;

    fn name() -> impl Strategy<Value = String> {
        proptest::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let leaf = prop_oneof![
            (name(), name()).prop_map(|(k, v)| format!("{k} == '{v}'")),
            (name(), name()).prop_map(|(k, v)| format!("{k} != '{v}'")),
            (name(), name()).prop_map(|(k, v)| format!("{k} in {{'{v}', 'a'}}")),
            name().prop_map(|k| format!("has({k})")),
            (name(), name()).prop_map(|(k, v)| format!("{k} ends with '{v}'")),
        ];
        let tree = leaf.prop_recursive(3, 8, 2, |inner| {
            (inner.clone(), inner, proptest::sample::select(vec!["({}) && ({})", "({}) || !({})"]))
                .prop_map(|(a, b, form)| form.replacen("{}", &a, 1).replacen("{}", &b, 1))
        });
        tree.prop_map(|text| Selector::parse(&text).unwrap())
    }

    fn labels() -> impl Strategy<Value = Own> {
        proptest::collection::btree_map(name(), name(), 0..3)
    }

    proptest! {
        #[test]
        fn it_answers_as_every_selector_evaluated_by_itself(
            selectors in proptest::collection::vec(selector(), 1..12),
            gone in proptest::collection::vec(any::<bool>(), 12),
            items in proptest::collection::vec((labels(), labels()), 0..6),
        ) {
            let (mut store, mut index) = (Labels::default(), SelectorIndex::default());
            let mut ids = Vec::new();
            for (user, selector) in selectors.iter().enumerate() {
                ids.push(index.add(selector, user as u32, &mut store));
            }
            for (user, id) in ids.iter().enumerate().filter(|(u, _)| gone[*u]) {
                index.remove(*id, user as u32, &mut store);
            }
            let live = |user: &u32| !gone[*user as usize];
            let mut views = Vec::new();
            for (n, (own, inherited)) in items.iter().enumerate() {
                let profile = format!("profile-{n}");
                let (p, pairs) = store.stage_profile(&profile, Some(inherited));
                store.commit_profile(p, pairs, true);
                let (set, list) = (store.acquire_set(own), store.acquire_list(&[profile]));
                store.join(n as u32, set, list);
                views.push((set, list));
            }
            let merged = |n: usize| -> Own {
                let (own, inherited) = &items[n];
                inherited.clone().into_iter().chain(own.clone()).collect()
            };
            for (n, &(set, list)) in views.iter().enumerate() {
                let expected: Vec<u32> = (0..selectors.len() as u32)
                    .filter(|u| live(u) && selectors[*u as usize].matches(&merged(n)))
                    .collect();
                prop_assert_eq!(index.matching(&store.view(set, list)), expected);
            }
            for user in (0..selectors.len() as u32).filter(live) {
                let found = index.items(ids[user as usize], &store, |n| {
                    let (set, list) = views[n as usize];
                    store.view(set, list)
                });
                let expected: Vec<u32> = (0..items.len() as u32)
                    .filter(|n| selectors[user as usize].matches(&merged(*n as usize)))
                    .collect();
                prop_assert_eq!(found, expected, "{}", selectors[user as usize]);
            }
        }
    }
}

//! Labels of every endpoint and network set, interned, with inheritance from profiles.
//!
//! In come label maps, profile lists and the labels that profiles apply; out goes, for an item, a [`View`] that
//! answers for a label's value, and for a label and value, which items have it. An item's own label hides one of the
//! same name from its profiles; of several profiles the first named wins (upstream's order).
//!
//! Always holds: an item stands in the member list of exactly its set of own labels and its list of profiles. A text,
//! a set of labels and a list of profiles stand in memory once however many items share them: 250,000 pods cost a few
//! bytes of labels each.
//!
//! Left out: selectors (`selector_index`), and what an item is (`items`).

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use crate::intern::Pool;

/// Id of a text: a label's name or value.
pub type Sym = u32;
/// A label: name and value.
pub type Pair = (Sym, Sym);

/// See the module's text.
#[derive(Default)]
pub struct Labels {
    strings: Pool<Box<str>>,
    /// Sets of own labels, sorted by name id.
    sets: Pool<Box<[Pair]>>,
    set_items: Vec<Vec<u32>>,
    /// Sets that hold a label.
    owners: HashMap<Pair, HashSet<u32>>,
    /// Values that stand at a name, in sets or profiles.
    values: HashMap<Sym, HashSet<Sym>>,
    /// Lists of profiles, in order.
    lists: Pool<Box<[u32]>>,
    list_items: Vec<Vec<u32>>,
    profile_names: Pool<Box<str>>,
    profiles: Vec<Profile>,
    /// Profiles that apply a label.
    appliers: HashMap<Pair, HashSet<u32>>,
}

#[derive(Default)]
struct Profile {
    labels: Box<[Pair]>,
    /// The datastore has it: it holds a reference to its name.
    present: bool,
    /// Lists that name it.
    lists: HashSet<u32>,
}

/// What an item inherits from and has itself.
#[derive(Clone, Copy)]
pub struct View<'a> {
    labels: &'a Labels,
    own: &'a [Pair],
    parents: &'a [u32],
    /// Labels to assume for one profile in place of those it has.
    assumed: Option<(u32, &'a [Pair])>,
}

impl<'a> View<'a> {
    /// The label's value.
    pub fn get(&self, name: Sym) -> Option<Sym> {
        fn value(pairs: &[Pair], name: Sym) -> Option<Sym> {
            pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
        }
        value(self.own, name).or_else(|| self.parents.iter().find_map(|&p| value(self.applied(p), name)))
    }

    fn applied(&self, profile: u32) -> &'a [Pair] {
        match self.assumed {
            Some((p, labels)) if p == profile => labels,
            _ => self.labels.profiles.get(profile as usize).map_or(&[], |p| &p.labels),
        }
    }

    /// Every label, own and inherited, hidden ones too.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.own.iter().chain(self.parents.iter().flat_map(|&p| self.applied(p))).copied()
    }

    /// The text of an id.
    pub fn text(&self, sym: Sym) -> &'a str {
        self.labels.text(sym)
    }
}

impl Labels {
    /// Takes a reference to a text.
    pub fn acquire_text(&mut self, text: &str) -> Sym {
        self.strings.acquire(text, || text.into()).id
    }

    /// The id of a text that somebody holds.
    pub fn find_text(&self, text: &str) -> Option<Sym> {
        self.strings.find(text)
    }

    /// Gives a text's reference back.
    pub fn release_text(&mut self, sym: Sym) {
        self.strings.release(sym);
    }

    /// The text of an id that somebody holds.
    pub fn text(&self, sym: Sym) -> &str {
        self.strings.get(sym).map_or("", |s| s)
    }

    fn acquire_pairs(&mut self, labels: &BTreeMap<String, String>) -> Box<[Pair]> {
        let mut pairs: Vec<Pair> =
            labels.iter().map(|(k, v)| (self.acquire_text(k), self.acquire_text(v))).collect();
        pairs.sort_unstable();
        pairs.into_boxed_slice()
    }

    fn release_pairs(&mut self, pairs: &[Pair]) {
        for &(k, v) in pairs {
            self.strings.release(k);
            self.strings.release(v);
        }
    }

    fn drop_value(&mut self, (k, v): Pair) {
        if self.owners.contains_key(&(k, v)) || self.appliers.contains_key(&(k, v)) {
            return;
        }
        if let Some(values) = self.values.get_mut(&k) {
            values.remove(&v);
            if values.is_empty() {
                self.values.remove(&k);
            }
        }
    }

    /// Takes a reference to a set of own labels.
    pub fn acquire_set(&mut self, labels: &BTreeMap<String, String>) -> u32 {
        let pairs = self.acquire_pairs(labels);
        let got = self.sets.acquire(&*pairs, || pairs.clone());
        if !got.fresh {
            self.release_pairs(&pairs);
            return got.id;
        }
        if self.set_items.len() <= got.id as usize {
            self.set_items.resize_with(got.id as usize + 1, Vec::new);
        }
        for &(k, v) in &pairs {
            self.owners.entry((k, v)).or_default().insert(got.id);
            self.values.entry(k).or_default().insert(v);
        }
        got.id
    }

    /// Gives a reference to a set back.
    pub fn release_set(&mut self, id: u32) {
        let Some(pairs) = self.sets.release(id) else { return };
        for &pair in &pairs {
            remove_from(&mut self.owners, pair, id);
            self.drop_value(pair);
        }
        self.set_items[id as usize] = Vec::new();
        self.release_pairs(&pairs);
    }

    /// Takes a reference to a list of profiles.
    pub fn acquire_list(&mut self, names: &[String]) -> u32 {
        let ids: Box<[u32]> = names.iter().map(|n| self.acquire_profile(n)).collect();
        let got = self.lists.acquire(&*ids, || ids.clone());
        if !got.fresh {
            for &p in &ids {
                self.release_profile(p);
            }
            return got.id;
        }
        if self.list_items.len() <= got.id as usize {
            self.list_items.resize_with(got.id as usize + 1, Vec::new);
        }
        for &p in &ids {
            self.profiles[p as usize].lists.insert(got.id);
        }
        got.id
    }

    /// Gives a reference to a list of profiles back.
    pub fn release_list(&mut self, id: u32) {
        let Some(ids) = self.lists.release(id) else { return };
        self.list_items[id as usize] = Vec::new();
        for &p in &ids {
            self.profiles[p as usize].lists.remove(&id);
            self.release_profile(p);
        }
    }

    fn acquire_profile(&mut self, name: &str) -> u32 {
        let got = self.profile_names.acquire(name, || name.into());
        if self.profiles.len() <= got.id as usize {
            self.profiles.resize_with(got.id as usize + 1, Profile::default);
        }
        got.id
    }

    fn release_profile(&mut self, id: u32) {
        if self.profile_names.release(id).is_some() {
            self.profiles[id as usize] = Profile::default();
        }
    }

    /// Puts an item on its member lists; gives its places there.
    pub fn join(&mut self, item: u32, set: u32, list: u32) -> (u32, u32) {
        let (of_set, of_list) = (&mut self.set_items[set as usize], &mut self.list_items[list as usize]);
        of_set.push(item);
        of_list.push(item);
        (of_set.len() as u32 - 1, of_list.len() as u32 - 1)
    }

    /// Takes an item off its set's member list; the item that moved into its place, if any.
    pub fn leave_set(&mut self, set: u32, place: u32) -> Option<u32> {
        leave(&mut self.set_items[set as usize], place)
    }

    /// Takes an item off its profile list's member list; the item that moved into its place, if any.
    pub fn leave_list(&mut self, list: u32, place: u32) -> Option<u32> {
        leave(&mut self.list_items[list as usize], place)
    }

    /// The labels of an item with this set and list.
    pub fn view(&self, set: u32, list: u32) -> View<'_> {
        View {
            labels: self,
            own: self.sets.get(set).map_or(&[], |p| p),
            parents: self.lists.get(list).map_or(&[], |p| p),
            assumed: None,
        }
    }

    /// The same, as if a profile applied other labels.
    pub fn view_assuming<'a>(&'a self, set: u32, list: u32, profile: u32, labels: &'a [Pair]) -> View<'a> {
        View { assumed: Some((profile, labels)), ..self.view(set, list) }
    }

    /// Prepares new labels of a profile; nothing else changes yet. [`Self::commit_profile`] must follow.
    pub fn stage_profile(
        &mut self,
        name: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> (u32, Box<[Pair]>) {
        let id = self.acquire_profile(name);
        let pairs = labels.map_or_else(Box::default, |l| self.acquire_pairs(l));
        (id, pairs)
    }

    /// The labels that a profile applies now.
    pub fn applied(&self, profile: u32) -> &[Pair] {
        self.profiles.get(profile as usize).map_or(&[], |p| &p.labels)
    }

    /// Items that name a profile.
    pub fn heirs(&self, profile: u32) -> impl Iterator<Item = u32> + '_ {
        let lists = self.profiles.get(profile as usize).map(|p| &p.lists);
        lists.into_iter().flatten().flat_map(|&l| &self.list_items[l as usize]).copied()
    }

    /// Sets the labels that [`Self::stage_profile`] prepared. `present`: the datastore has the profile.
    pub fn commit_profile(&mut self, id: u32, labels: Box<[Pair]>, present: bool) {
        for &pair in &labels {
            self.appliers.entry(pair).or_default().insert(id);
            self.values.entry(pair.0).or_default().insert(pair.1);
        }
        let profile = &mut self.profiles[id as usize];
        let was_present = std::mem::replace(&mut profile.present, present);
        let old = std::mem::replace(&mut profile.labels, labels);
        for &pair in &old {
            if !self.profiles[id as usize].labels.contains(&pair) {
                remove_from(&mut self.appliers, pair, id);
                self.drop_value(pair);
            }
        }
        self.release_pairs(&old);
        // One reference for being there, and the one that staging took.
        if present && !was_present {
            return;
        }
        if was_present && !present {
            self.release_profile(id);
        }
        self.release_profile(id);
    }

    /// Values that stand at a label's name.
    pub fn values_of(&self, name: Sym) -> impl Iterator<Item = Sym> + '_ {
        self.values.get(&name).into_iter().flatten().copied()
    }

    /// About how many groups of items have a label: to choose the rarest.
    pub fn weight(&self, pair: Pair) -> usize {
        let own = self.owners.get(&pair).map_or(0, HashSet::len);
        let inherited = self.appliers.get(&pair).into_iter().flatten().map(|&p| self.heirs(p).count());
        own + inherited.sum::<usize>()
    }

    /// Adds the items that have a label, own or inherited. An item may come twice; one whose own label hides the
    /// inherited one comes too.
    pub fn items_with(&self, pair: Pair, out: &mut Vec<u32>) {
        for &set in self.owners.get(&pair).into_iter().flatten() {
            out.extend_from_slice(&self.set_items[set as usize]);
        }
        for &profile in self.appliers.get(&pair).into_iter().flatten() {
            out.extend(self.heirs(profile));
        }
    }

    /// How many items [`Self::items_with`] adds; not counted beyond `enough`.
    pub fn count_with(&self, pair: Pair, enough: usize) -> usize {
        let mut count = 0;
        for &set in self.owners.get(&pair).into_iter().flatten() {
            count += self.set_items[set as usize].len();
            if count >= enough {
                return count;
            }
        }
        for &profile in self.appliers.get(&pair).into_iter().flatten() {
            count += self.heirs(profile).take(enough - count).count();
            if count >= enough {
                return count;
            }
        }
        count
    }

    /// Adds every item.
    pub fn all_items(&self, out: &mut Vec<u32>) {
        for (id, _) in self.sets.iter() {
            out.extend_from_slice(&self.set_items[id as usize]);
        }
    }
}

fn leave(members: &mut Vec<u32>, place: u32) -> Option<u32> {
    members.swap_remove(place as usize);
    members.get(place as usize).copied()
}

fn remove_from(map: &mut HashMap<Pair, HashSet<u32>>, pair: Pair, id: u32) {
    if let Some(ids) = map.get_mut(&pair) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(&pair);
        }
    }
}

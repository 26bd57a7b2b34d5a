//! This host's endpoints, the policies and profiles that apply to them, and the messages that say so.
//!
//! In come the host's endpoints, changes of policies, tiers and profiles; out go, at a flush, active policies and
//! profiles with their rules rendered, and endpoints with their policies in order. A policy is active while a local
//! endpoint matches its selector; a profile while a local endpoint names it, whether the datastore has it or not: a
//! missing profile denies everything, whatever profiles come behind it.
//!
//! Always holds: the state after a flush depends on the current objects alone. Only what changed is calculated
//! again: a changed endpoint asks the index of selectors, a changed policy asks the local endpoints.
//!
//! Left out: who is in the address sets (`ip_sets`), the order of messages of other subjects (`graph`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use felix_message::{ActiveProfile, HostEndpoint, Message, WorkloadEndpoint};
use libcalico_model::backend;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};

use crate::ip_sets::IpSets;
use crate::items::{ItemId, Items};
use crate::policies::{Policies, Policy, PolicyId, ProfileRules};
use crate::render::{Renderer, host_message, policy_message, workload_message};
use crate::rules::ParsedRule;
use crate::selector_index::SelectorIndex;
use crate::tier_lists::MatchSets;

/// In place of a profile that is not there, or not valid.
fn missing_profile() -> Arc<ProfileRules> {
    let deny: Box<[ParsedRule]> = [ParsedRule::deny()].into();
    Arc::new(ProfileRules { inbound: deny.clone(), outbound: deny })
}

/// Name of a local endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalKey {
    Workload(WorkloadEndpointKey),
    Host(String),
}

/// What the datastore says of a local endpoint.
#[derive(Clone, Debug)]
pub enum LocalValue {
    Workload(Arc<backend::WorkloadEndpoint>),
    Host(Arc<backend::HostEndpoint>),
}

impl LocalValue {
    fn profiles(&self) -> &[String] {
        match self {
            Self::Workload(w) => &w.profile_ids,
            Self::Host(h) => &h.profile_ids,
        }
    }
}

#[derive(Clone)]
enum Sent {
    Workload(Arc<WorkloadEndpoint>),
    Host(Arc<HostEndpoint>),
}

impl Sent {
    /// True where both say the same. Equal lists are one list: that they differ is seen without reading them.
    fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Workload(a), Self::Workload(b)) => Arc::ptr_eq(&a.tiers, &b.tiers) && a == b,
            (Self::Host(a), Self::Host(b)) => {
                let lists = |h: &HostEndpoint| {
                    [&h.tiers, &h.untracked_tiers, &h.pre_dnat_tiers, &h.forward_tiers].map(Arc::clone)
                };
                lists(a).iter().zip(&lists(b)).all(|(a, b)| Arc::ptr_eq(a, b)) && a == b
            }
            _ => false,
        }
    }
}

struct Local {
    item: ItemId,
    value: LocalValue,
    /// The policies that match: a number among the sets of policies.
    matches: u32,
}

/// An endpoint, by number.
struct Slot {
    key: LocalKey,
    /// None: it went, and the dataplane is still to be told.
    local: Option<Local>,
    sent: Option<Sent>,
}

/// A policy or profile that the dataplane has, and handles of the sets that its rules refer to.
struct Active<T> {
    sent: Arc<T>,
    sets: Box<[u32]>,
}

/// What of a policy is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// Its rules alone: no endpoint's list changes.
    Rules,
    /// Its tier, order or flags.
    Place,
    /// Whom it applies to.
    Selector,
}

/// What the dataplane is to be told, in the order in which it must be told. Sets go before, and after, by the caller.
#[derive(Default)]
pub struct LocalMessages {
    pub updates: Vec<Message>,
    pub removals: Vec<Message>,
}

/// What a flush calculates with.
pub struct World<'a> {
    pub items: &'a mut Items,
    pub sets: &'a mut IpSets,
    pub policies: &'a mut Policies,
    pub profiles: &'a HashMap<String, Arc<ProfileRules>>,
}

/// See the module's text.
#[derive(Default)]
pub struct LocalEndpoints {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_key: HashMap<LocalKey, u32>,
    by_item: HashMap<ItemId, u32>,
    matches: MatchSets,
    index: SelectorIndex,
    /// By policy number.
    policy_state: Vec<Option<PolicyState>>,
    active_policies: BTreeMap<PolicyKey, Active<Policy>>,
    active_profiles: BTreeMap<String, Active<ProfileRules>>,
    profile_users: HashMap<String, u32>,
    /// Labels changed: match again.
    stale_labels: BTreeSet<u32>,
    /// Render again.
    stale_messages: BTreeSet<u32>,
    stale_selectors: BTreeSet<PolicyId>,
    /// Policies that the first endpoint began or the last one ceased to match.
    stale_counts: BTreeSet<PolicyId>,
    stale_policies: BTreeSet<PolicyKey>,
    stale_profiles: BTreeSet<String>,
}

/// A policy's number in the index, and how many endpoints match.
struct PolicyState {
    selector: u32,
    matches: u32,
}

impl LocalEndpoints {
    /// Sets a local endpoint. `item` is its number among the items.
    pub fn set(&mut self, key: LocalKey, item: ItemId, value: LocalValue) {
        for name in value.profiles() {
            *self.profile_users.entry(name.clone()).or_default() += 1;
            self.stale_profiles.insert(name.clone());
        }
        let at = self.slot_of(key);
        let old = self.slots[at as usize].as_mut().and_then(|s| s.local.take());
        let matches = match old {
            Some(old) => {
                self.release_profiles(&old.value);
                self.by_item.remove(&old.item);
                old.matches
            }
            None => self.matches.acquire(&[]),
        };
        if let Some(slot) = &mut self.slots[at as usize] {
            slot.local = Some(Local { item, value, matches });
        }
        self.by_item.insert(item, at);
        self.stale_messages.insert(at);
        self.stale_labels.insert(at);
    }

    fn slot_of(&mut self, key: LocalKey) -> u32 {
        if let Some(&at) = self.by_key.get(&key) {
            return at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[at as usize] = Some(Slot { key: key.clone(), local: None, sent: None });
        self.by_key.insert(key, at);
        at
    }

    /// Removes a local endpoint.
    pub fn remove(&mut self, key: &LocalKey) {
        let Some(&at) = self.by_key.get(key) else { return };
        let Some(local) = self.slots[at as usize].as_mut().and_then(|s| s.local.take()) else { return };
        self.release_profiles(&local.value);
        self.by_item.remove(&local.item);
        for policy in self.matches.get(local.matches).to_vec() {
            self.uncount(policy);
        }
        self.matches.release(local.matches);
        self.stale_labels.remove(&at);
        self.stale_messages.insert(at);
    }

    fn release_profiles(&mut self, value: &LocalValue) {
        for name in value.profiles() {
            if let Some(users) = self.profile_users.get_mut(name) {
                *users -= 1;
                if *users == 0 {
                    self.profile_users.remove(name);
                }
            }
            self.stale_profiles.insert(name.clone());
        }
    }

    fn state_mut(&mut self, id: PolicyId) -> Option<&mut PolicyState> {
        self.policy_state.get_mut(id as usize)?.as_mut()
    }

    fn uncount(&mut self, policy: PolicyId) {
        if let Some(state) = self.state_mut(policy) {
            state.matches -= 1;
            if state.matches == 0 {
                self.stale_counts.insert(policy);
            }
        }
    }

    /// The inherited labels of an item changed.
    pub fn labels_changed(&mut self, item: ItemId) {
        if let Some(at) = self.by_item.get(&item) {
            self.stale_labels.insert(*at);
        }
    }

    /// A policy came or changed.
    pub fn policy_changed(&mut self, id: PolicyId, policy: &Policy, change: PolicyChange, items: &mut Items) {
        self.stale_policies.insert((*policy.key).clone());
        if change == PolicyChange::Rules {
            return;
        }
        self.stale_selectors.insert(id);
        if change == PolicyChange::Selector {
            if self.policy_state.len() <= id as usize {
                self.policy_state.resize_with(id as usize + 1, || None);
            }
            let matches = match self.policy_state[id as usize].take() {
                Some(old) => {
                    self.index.remove(old.selector, id, &mut items.labels);
                    old.matches
                }
                None => 0,
            };
            let selector = self.index.add(&policy.selector, id, &mut items.labels);
            self.policy_state[id as usize] = Some(PolicyState { selector, matches });
        }
    }

    /// A policy went.
    pub fn policy_removed(&mut self, id: PolicyId, key: &PolicyKey, items: &mut Items) {
        self.stale_policies.insert(key.clone());
        self.stale_selectors.remove(&id);
        let Some(state) = self.policy_state.get_mut(id as usize).and_then(Option::take) else { return };
        self.index.remove(state.selector, id, &mut items.labels);
        if state.matches == 0 {
            return;
        }
        let all = 0..self.slots.len() as u32;
        let changed = rematch((&mut self.slots, all), &mut self.matches, id, |_, _| Some(false));
        self.stale_messages.extend(changed.touched);
    }

    /// A tier changed: every endpoint's order may.
    pub fn tiers_changed(&mut self) {
        self.stale_messages.extend(self.by_key.values());
    }

    /// A profile's rules changed.
    pub fn profile_changed(&mut self, name: &str) {
        if self.profile_users.contains_key(name) {
            self.stale_profiles.insert(name.to_owned());
        }
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.by_item.len()
    }

    /// Number of policies and profiles that are active.
    pub fn counts(&self) -> (usize, usize) {
        (self.active_policies.len(), self.active_profiles.len())
    }

    /// Calculates what changed.
    pub fn flush(&mut self, world: &mut World<'_>) -> LocalMessages {
        self.match_policies(world);
        self.match_endpoints(world);
        let mut messages = LocalMessages::default();
        let (mut policies_gone, mut profiles_gone) = (Vec::new(), Vec::new());
        self.flush_policies(world, &mut messages.updates, &mut policies_gone);
        self.flush_profiles(world, &mut messages.updates, &mut profiles_gone);
        for at in std::mem::take(&mut self.stale_messages) {
            self.flush_endpoint(at, world.policies, &mut messages);
        }
        messages.removals.append(&mut profiles_gone);
        messages.removals.append(&mut policies_gone);
        messages
    }

    /// Asks the index for each endpoint whose labels changed.
    fn match_endpoints(&mut self, world: &World<'_>) {
        for at in std::mem::take(&mut self.stale_labels) {
            let slot = self.slots.get_mut(at as usize).and_then(Option::as_mut);
            let Some(local) = slot.and_then(|s| s.local.as_mut()) else { continue };
            let now = self.index.matching(&world.items.view(local.item));
            self.stale_messages.insert(at);
            if now == self.matches.get(local.matches) {
                continue;
            }
            let before = self.matches.get(local.matches).to_vec();
            self.matches.release(local.matches);
            local.matches = self.matches.acquire(&now);
            for &id in now.iter().filter(|id| before.binary_search(id).is_err()) {
                if let Some(state) = self.policy_state.get_mut(id as usize).and_then(Option::as_mut) {
                    state.matches += 1;
                    if state.matches == 1 {
                        self.stale_counts.insert(id);
                    }
                }
            }
            for &id in before.iter().filter(|id| now.binary_search(id).is_err()) {
                self.uncount(id);
            }
        }
        let counts = std::mem::take(&mut self.stale_counts);
        let policies = counts.into_iter().filter_map(|id| world.policies.get(id));
        self.stale_policies.extend(policies.map(|p| (*p.key).clone()));
    }

    /// Asks the endpoints for each policy that changed. Those whose labels changed too are asked afterwards.
    fn match_policies(&mut self, world: &World<'_>) {
        for id in std::mem::take(&mut self.stale_selectors) {
            let state = self.policy_state.get_mut(id as usize).and_then(Option::as_mut);
            let Some(state) = state else { continue };
            if let Some(policy) = world.policies.get(id) {
                self.stale_policies.insert((*policy.key).clone());
            }
            let (index, stale) = (&self.index, &self.stale_labels);
            // Where it matched nobody before, those alone are asked that have a label which it demands.
            let (labels, fewer_than) = (&world.items.labels, self.by_item.len());
            let few =
                if state.matches == 0 { index.candidates(state.selector, labels, fewer_than) } else { None };
            let asked: Vec<u32> = match few {
                Some(items) => items.iter().filter_map(|i| self.by_item.get(i)).copied().collect(),
                None => (0..self.slots.len() as u32).collect(),
            };
            let changed = rematch((&mut self.slots, asked), &mut self.matches, id, |at, local| {
                let asked = !stale.contains(&at);
                asked.then(|| index.matches(state.selector, &world.items.view(local.item)))
            });
            state.matches = state.matches + changed.more - changed.fewer;
            // Also of those that matched before: its order or its flags may have changed.
            self.stale_messages.extend(changed.touched);
        }
    }

    fn flush_policies(&mut self, world: &mut World<'_>, updates: &mut Vec<Message>, gone: &mut Vec<Message>) {
        for key in std::mem::take(&mut self.stale_policies) {
            let id = world.policies.find(&key);
            let state = id.and_then(|id| self.policy_state.get(id as usize)?.as_ref());
            let used = state.is_some_and(|s| s.matches > 0);
            let new = id.and_then(|id| world.policies.get(id)).filter(|p| used || p.always).cloned();
            let old = self.active_policies.remove(&key);
            if let (Some(old), Some(new)) = (&old, &new)
                && old.sent.reads_the_same(new)
            {
                let sets = old.sets.clone();
                self.active_policies.insert(key, Active { sent: new.clone(), sets });
                continue;
            }
            if let Some(policy) = new {
                let scope = format!("{}/{}/{}", key.kind.name(), key.namespace, key.name);
                let mut renderer = Renderer::new(scope, world);
                let message = policy_message(&policy, &mut renderer);
                let sets = renderer.held.into();
                updates.push(Message::PolicyUpdate(key.clone(), Arc::new(message)));
                self.active_policies.insert(key, Active { sent: policy, sets });
            } else if old.is_some() {
                gone.push(Message::PolicyRemove(key));
            }
            release(old.as_ref(), world.sets);
        }
    }

    fn flush_profiles(&mut self, world: &mut World<'_>, updates: &mut Vec<Message>, gone: &mut Vec<Message>) {
        for name in std::mem::take(&mut self.stale_profiles) {
            let old = self.active_profiles.remove(&name);
            let used = self.profile_users.contains_key(&name);
            let new = used.then(|| world.profiles.get(&name).cloned().unwrap_or_else(missing_profile));
            if let (Some(old), Some(new)) = (&old, &new)
                && old.sent == *new
            {
                let sets = old.sets.clone();
                self.active_profiles.insert(name, Active { sent: new.clone(), sets });
                continue;
            }
            if let Some(rules) = new {
                let mut renderer = Renderer::new(format!("profile/{name}"), world);
                let message = ActiveProfile {
                    inbound: renderer.rules(&rules.inbound, "ingress"),
                    outbound: renderer.rules(&rules.outbound, "egress"),
                };
                let sets = renderer.held.into();
                updates.push(Message::ProfileUpdate(name.clone(), Arc::new(message)));
                self.active_profiles.insert(name, Active { sent: rules, sets });
            } else if old.is_some() {
                gone.push(Message::ProfileRemove(name));
            }
            release(old.as_ref(), world.sets);
        }
    }

    fn flush_endpoint(&mut self, at: u32, policies: &mut Policies, messages: &mut LocalMessages) {
        let Some(slot) = self.slots.get_mut(at as usize).and_then(Option::as_mut) else { return };
        let Some(local) = &slot.local else {
            if slot.sent.is_some() {
                messages.removals.push(match slot.key.clone() {
                    LocalKey::Workload(key) => Message::WorkloadEndpointRemove(key),
                    LocalKey::Host(name) => Message::HostEndpointRemove(name),
                });
            }
            self.by_key.remove(&slot.key);
            self.slots[at as usize] = None;
            self.free.push(at);
            return;
        };
        let lists = self.matches.lists(local.matches, policies);
        let now = match &local.value {
            LocalValue::Workload(w) => Sent::Workload(Arc::new(workload_message(w, lists.normal.clone()))),
            LocalValue::Host(h) => Sent::Host(Arc::new(host_message(h, lists))),
        };
        if slot.sent.as_ref().is_some_and(|s| s.says_the_same(&now)) {
            return;
        }
        messages.updates.push(match (&slot.key, &now) {
            (LocalKey::Host(name), Sent::Host(h)) => Message::HostEndpointUpdate(name.clone(), h.clone()),
            (LocalKey::Workload(k), Sent::Workload(w)) => {
                Message::WorkloadEndpointUpdate(k.clone(), w.clone())
            }
            _ => return,
        });
        slot.sent = Some(now);
    }
}

/// What came of asking endpoints about a policy.
#[derive(Default)]
struct Rematched {
    /// Endpoints that match it, or did.
    touched: Vec<u32>,
    /// Endpoints that began to match, and that ceased to.
    more: u32,
    fewer: u32,
}

/// Asks endpoints whether they match a policy. `ask` gives none for an endpoint that stays as it is.
fn rematch(
    (slots, asked): (&mut [Option<Slot>], impl IntoIterator<Item = u32>),
    sets: &mut MatchSets,
    policy: PolicyId,
    ask: impl Fn(u32, &Local) -> Option<bool>,
) -> Rematched {
    let mut out = Rematched::default();
    let mut step = sets.step(policy);
    for at in asked {
        let slot = slots.get_mut(at as usize).and_then(Option::as_mut);
        let Some(local) = slot.and_then(|s| s.local.as_mut()) else { continue };
        let Some(now) = ask(at, local) else { continue };
        match (step.has(local.matches), now) {
            (false, false) => continue,
            (true, true) => {}
            (before, _) => {
                local.matches = step.go(local.matches);
                if before {
                    out.fewer += 1;
                } else {
                    out.more += 1;
                }
            }
        }
        out.touched.push(at);
    }
    out
}

/// Gives the sets of something that was active back. What replaces it holds its own already.
fn release<T>(old: Option<&Active<T>>, sets: &mut IpSets) {
    for at in old.into_iter().flat_map(|o| &*o.sets) {
        sets.release(*at);
    }
}

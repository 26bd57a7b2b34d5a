//! This host's endpoints, the policies and profiles that apply to them, and the messages that say so.
//!
//! In come the host's endpoints, changes of policies, tiers and profiles; out go, at a flush, active policies and
//! profiles with their rules rendered, and endpoints with their policies in order. A policy is active while a local
//! endpoint matches its selector; a profile while a local endpoint names it, whether the datastore has it or not: a
//! missing profile has no rules, which denies.
//!
//! Always holds: the state after a flush depends on the current objects alone. Only what changed is calculated
//! again: a changed endpoint asks the index of selectors, a changed policy asks the local endpoints.
//!
//! Left out: who is in the address sets (`ip_sets`), the order of messages of other subjects (`graph`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use felix_message::{ActivePolicy, ActiveProfile, HostEndpoint, Message, Rule, TierInfo, WorkloadEndpoint};
use libcalico_model::backend;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use sha2::{Digest, Sha224};

use crate::ip_sets::IpSets;
use crate::items::{ItemId, Items};
use crate::policies::{Policies, Policy, PolicyId, ProfileRules};
use crate::rules::ParsedRule;
use crate::selector_index::SelectorIndex;
use crate::tier_lists::TierLists;

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

#[derive(Clone, PartialEq)]
enum Sent {
    Workload(Arc<WorkloadEndpoint>),
    Host(Arc<HostEndpoint>),
}

struct Local {
    item: ItemId,
    value: LocalValue,
    /// Policies that match, by number.
    matches: Vec<PolicyId>,
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
    endpoints: BTreeMap<LocalKey, Local>,
    by_item: HashMap<ItemId, LocalKey>,
    index: SelectorIndex,
    /// By policy number.
    policy_state: Vec<Option<PolicyState>>,
    lists: TierLists,
    active_policies: BTreeMap<PolicyKey, Active<Policy>>,
    active_profiles: BTreeMap<String, Active<ProfileRules>>,
    profile_users: HashMap<String, u32>,
    sent: BTreeMap<LocalKey, Sent>,
    /// Labels changed: match again.
    stale_labels: BTreeSet<LocalKey>,
    /// Render again.
    stale_messages: BTreeSet<LocalKey>,
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
        self.release_profiles(&key);
        for name in value.profiles() {
            *self.profile_users.entry(name.clone()).or_default() += 1;
            self.stale_profiles.insert(name.clone());
        }
        let matches = self.endpoints.get(&key).map(|l| l.matches.clone()).unwrap_or_default();
        if let Some(old) = self.endpoints.insert(key.clone(), Local { item, value, matches }) {
            self.by_item.remove(&old.item);
        }
        self.by_item.insert(item, key.clone());
        self.stale_messages.insert(key.clone());
        self.stale_labels.insert(key);
    }

    /// Removes a local endpoint.
    pub fn remove(&mut self, key: &LocalKey) {
        self.release_profiles(key);
        let Some(local) = self.endpoints.remove(key) else { return };
        self.by_item.remove(&local.item);
        for policy in local.matches {
            self.uncount(policy);
        }
        self.stale_labels.remove(key);
        self.stale_messages.insert(key.clone());
    }

    fn release_profiles(&mut self, key: &LocalKey) {
        let Some(local) = self.endpoints.get(key) else { return };
        for name in local.value.profiles() {
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
        if let Some(key) = self.by_item.get(&item) {
            self.stale_labels.insert(key.clone());
        }
    }

    /// A policy came or changed.
    pub fn policy_changed(&mut self, id: PolicyId, policy: &Policy, change: PolicyChange, items: &mut Items) {
        self.stale_policies.insert(policy.key.clone());
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
        for (key, local) in &mut self.endpoints {
            if let Ok(at) = local.matches.binary_search(&id) {
                local.matches.remove(at);
                self.stale_messages.insert(key.clone());
            }
        }
    }

    /// A tier changed: every endpoint's order may.
    pub fn tiers_changed(&mut self) {
        self.stale_messages.extend(self.endpoints.keys().cloned());
    }

    /// A profile's rules changed.
    pub fn profile_changed(&mut self, name: &str) {
        if self.profile_users.contains_key(name) {
            self.stale_profiles.insert(name.to_owned());
        }
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.endpoints.len()
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
        for key in std::mem::take(&mut self.stale_messages) {
            self.flush_endpoint(key, world.policies, &mut messages);
        }
        messages.removals.append(&mut profiles_gone);
        messages.removals.append(&mut policies_gone);
        messages
    }

    /// Asks the index for each endpoint whose labels changed.
    fn match_endpoints(&mut self, world: &World<'_>) {
        for key in std::mem::take(&mut self.stale_labels) {
            let Some(local) = self.endpoints.get_mut(&key) else { continue };
            let now = self.index.matching(&world.items.view(local.item));
            self.stale_messages.insert(key);
            if now == local.matches {
                continue;
            }
            let before = std::mem::replace(&mut local.matches, now);
            let now = local.matches.clone();
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
        self.stale_policies.extend(policies.map(|p| p.key.clone()));
    }

    /// Asks the endpoints for each policy that changed. Those whose labels changed too are asked afterwards.
    fn match_policies(&mut self, world: &World<'_>) {
        for id in std::mem::take(&mut self.stale_selectors) {
            let state = self.policy_state.get_mut(id as usize).and_then(Option::as_mut);
            let Some(state) = state else { continue };
            if let Some(policy) = world.policies.get(id) {
                self.stale_policies.insert(policy.key.clone());
            }
            for (key, local) in &mut self.endpoints {
                if self.stale_labels.contains(key) {
                    continue;
                }
                let matches = self.index.matches(state.selector, &world.items.view(local.item));
                match (local.matches.binary_search(&id), matches) {
                    (Ok(at), false) => {
                        local.matches.remove(at);
                        state.matches -= 1;
                    }
                    (Err(at), true) => {
                        local.matches.insert(at, id);
                        state.matches += 1;
                    }
                    // Its order or its flags may have changed.
                    (Ok(_), true) => {}
                    (Err(_), false) => continue,
                }
                self.stale_messages.insert(key.clone());
            }
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
            let new = used.then(|| world.profiles.get(&name).cloned().unwrap_or_default());
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

    fn flush_endpoint(&mut self, key: LocalKey, policies: &mut Policies, messages: &mut LocalMessages) {
        let Some(local) = self.endpoints.get(&key) else {
            if self.sent.remove(&key).is_some() {
                messages.removals.push(match key {
                    LocalKey::Workload(key) => Message::WorkloadEndpointRemove(key),
                    LocalKey::Host(name) => Message::HostEndpointRemove(name),
                });
            }
            return;
        };
        let now = match &local.value {
            LocalValue::Workload(w) => {
                let lists = self.lists.get(&local.matches, policies);
                Sent::Workload(Arc::new(workload_message(w, lists.normal.clone())))
            }
            LocalValue::Host(h) => {
                let lists = self.lists.get(&local.matches, policies);
                Sent::Host(Arc::new(HostEndpoint {
                    interface_name: h.name.clone(),
                    expected_addrs: expected_addrs(h),
                    profiles: h.profile_ids.clone(),
                    tiers: lists.normal.clone(),
                    untracked_tiers: lists.untracked.clone(),
                    pre_dnat_tiers: lists.pre_dnat.clone(),
                    forward_tiers: lists.forward.clone(),
                }))
            }
        };
        if self.sent.get(&key) == Some(&now) {
            return;
        }
        messages.updates.push(match (&key, &now) {
            (LocalKey::Host(name), Sent::Host(h)) => Message::HostEndpointUpdate(name.clone(), h.clone()),
            (LocalKey::Workload(k), Sent::Workload(w)) => {
                Message::WorkloadEndpointUpdate(k.clone(), w.clone())
            }
            _ => return,
        });
        self.sent.insert(key, now);
    }
}

/// Gives the sets of something that was active back. What replaces it holds its own already.
fn release<T>(old: Option<&Active<T>>, sets: &mut IpSets) {
    for at in old.into_iter().flat_map(|o| &*o.sets) {
        sets.release(*at);
    }
}

/// Renders rules and holds every set they refer to.
struct Renderer<'a> {
    scope: String,
    sets: &'a mut IpSets,
    items: &'a mut Items,
    held: Vec<u32>,
}

impl<'a> Renderer<'a> {
    fn new(scope: String, world: &'a mut World<'_>) -> Self {
        Self { scope, sets: world.sets, items: world.items, held: Vec::new() }
    }

    fn rules(&mut self, rules: &[ParsedRule], direction: &str) -> Vec<Rule> {
        let mut seen: HashMap<&ParsedRule, u32> = HashMap::new();
        let mut out = Vec::with_capacity(rules.len());
        for parsed in rules {
            let mut rule = parsed.render(&mut |spec| {
                let (id, handle) = self.sets.acquire(&spec, self.items);
                self.held.push(handle);
                id
            });
            // The same rule twice in one place: the first keeps its identifier when the second comes.
            let count = seen.entry(parsed).or_default();
            *count += 1;
            let text = format!("{}/{direction}/{count}/{parsed:?}", self.scope);
            let digest = Sha224::digest(text.as_bytes());
            for byte in digest.iter().take(8) {
                let _ = write!(rule.rule_id, "{byte:02x}");
            }
            out.push(rule);
        }
        out
    }
}

fn policy_message(policy: &Policy, renderer: &mut Renderer<'_>) -> ActivePolicy {
    ActivePolicy {
        tier: policy.tier.to_string(),
        namespace: policy.namespace.to_string(),
        inbound: renderer.rules(&policy.inbound, "ingress"),
        outbound: renderer.rules(&policy.outbound, "egress"),
        untracked: policy.untracked,
        pre_dnat: policy.pre_dnat,
        apply_on_forward: policy.apply_on_forward,
        staged: policy.key.kind.staged(),
        original_selector: policy.original_selector.to_string(),
    }
}

fn workload_message(w: &backend::WorkloadEndpoint, tiers: Arc<[TierInfo]>) -> WorkloadEndpoint {
    WorkloadEndpoint {
        active: w.state == "active",
        interface_name: w.name.clone(),
        mac: w.mac.clone(),
        profiles: w.profile_ids.clone(),
        ipv4_nets: w.ipv4_nets.clone(),
        ipv6_nets: w.ipv6_nets.clone(),
        tiers,
        nat: w.ipv4_nat.iter().chain(&w.ipv6_nat).map(|n| (n.int_ip, n.ext_ip)).collect(),
        allow_spoofed_source_prefixes: w.allow_spoofed_source_prefixes.clone(),
        annotations: w.annotations.clone(),
    }
}

fn expected_addrs(h: &backend::HostEndpoint) -> Vec<std::net::IpAddr> {
    let v4 = h.expected_ipv4_addrs.iter().map(|a| (*a).into());
    v4.chain(h.expected_ipv6_addrs.iter().map(|a| (*a).into())).collect()
}

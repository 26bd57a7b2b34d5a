//! Policies, tiers and profiles as they stand in the datastore, checked, and their order.
//!
//! In come policies, tiers and profile rules; out go policies by number, whose rules were checked and whose selector
//! was read, and their order: tiers by order and name, policies within a tier by order, name, namespace and kind.
//! What has no order comes last. A tier that the datastore does not have comes after all others and denies at its end,
//! so that a policy never opens anything because its tier is missing.
//!
//! Always holds: an object that is not valid is as good as absent (rule 2 of the architecture).

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use felix_message::TierDefaultAction;
use libcalico_model::backend;
use libcalico_model::key::PolicyKey;
use libcalico_selector::Selector;

use crate::rules::{ParsedRule, RuleError, SelectorCache, parse_rules};

/// Number of a policy.
pub type PolicyId = u32;

/// A policy that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Shared by all lists that have the policy.
    pub key: Arc<PolicyKey>,
    pub tier: Box<str>,
    pub namespace: Box<str>,
    pub selector: Arc<Selector>,
    pub original_selector: Box<str>,
    pub order: Order,
    pub inbound: Box<[ParsedRule]>,
    pub outbound: Box<[ParsedRule]>,
    pub ingress: bool,
    pub egress: bool,
    pub untracked: bool,
    pub pre_dnat: bool,
    pub apply_on_forward: bool,
    /// Calculated on every node, endpoint or not.
    pub always: bool,
}

/// An order: a number, or none, which is last.
#[derive(Clone, Copy, Debug)]
pub struct Order(f64);

impl Order {
    /// No order is infinite; so is one that is not a number.
    pub fn new(order: Option<f64>) -> Self {
        // Adding zero makes one of the two zeros.
        Self(order.filter(|o| !o.is_nan()).map_or(f64::INFINITY, |o| o + 0.0))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl Policy {
    /// True where both match the same endpoints and stand at the same place of their lists.
    pub fn is_listed_the_same(&self, other: &Self) -> bool {
        let flags = |p: &Self| (p.ingress, p.egress, p.untracked, p.pre_dnat, p.apply_on_forward, p.always);
        self.tier == other.tier
            && self.order == other.order
            && self.selector == other.selector
            && flags(self) == flags(other)
    }

    /// True where both give the same message.
    pub fn reads_the_same(&self, other: &Self) -> bool {
        let flags = |p: &Self| (p.untracked, p.pre_dnat, p.apply_on_forward);
        self.tier == other.tier
            && self.namespace == other.namespace
            && self.original_selector == other.original_selector
            && self.inbound == other.inbound
            && self.outbound == other.outbound
            && flags(self) == flags(other)
    }

    /// Checks a policy.
    pub fn parse(
        key: &PolicyKey,
        policy: &backend::Policy,
        cache: &mut SelectorCache,
    ) -> Result<Self, RuleError> {
        let (mut ingress, mut egress) = (policy.types.is_empty(), policy.types.is_empty());
        for t in &policy.types {
            match t.to_ascii_lowercase().as_str() {
                "ingress" => ingress = true,
                "egress" => egress = true,
                _ => return Err(RuleError::PolicyType(t.clone())),
            }
        }
        Ok(Self {
            key: Arc::new(key.clone()),
            tier: if policy.tier.is_empty() { "default".into() } else { policy.tier.as_str().into() },
            namespace: policy.namespace.as_str().into(),
            selector: cache.parse("selector", &policy.selector)?,
            original_selector: policy.selector.as_str().into(),
            order: Order::new(policy.order),
            inbound: parse_rules(&policy.inbound_rules, cache)?,
            outbound: parse_rules(&policy.outbound_rules, cache)?,
            ingress,
            egress,
            untracked: policy.untracked,
            pre_dnat: policy.pre_dnat,
            apply_on_forward: policy.apply_on_forward,
            always: policy.performance_hints.iter().any(|h| h == "AssumeNeededOnEveryNode"),
        })
    }

    fn sort_key(&self) -> SortKey {
        let tie = format!("{}/{}/{}", self.key.name, self.key.namespace, self.key.kind.name());
        SortKey { order: self.order, tie: tie.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    order: Order,
    tie: Box<str>,
}

#[derive(Clone, Debug, PartialEq)]
struct Tier {
    order: Order,
    default_action: TierDefaultAction,
}

/// See the module's text.
#[derive(Default)]
pub struct Policies {
    policies: Vec<Option<Arc<Policy>>>,
    free: Vec<PolicyId>,
    by_key: HashMap<PolicyKey, PolicyId>,
    tiers: HashMap<Box<str>, Tier>,
    /// By tier, in order.
    sorted: BTreeMap<Box<str>, BTreeMap<SortKey, PolicyId>>,
    ranks: Vec<u32>,
    ranks_stale: bool,
    /// Policies that are counted and never enforced.
    staged: usize,
    /// Grows with every change.
    version: u64,
}

impl Policies {
    /// The number of a policy.
    pub fn find(&self, key: &PolicyKey) -> Option<PolicyId> {
        self.by_key.get(key).copied()
    }

    /// The policy of a number.
    pub fn get(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.policies.get(id as usize)?.as_ref()
    }

    /// Puts a policy in, in place of one with the same key, whose number it takes.
    pub fn insert(&mut self, policy: Policy) -> PolicyId {
        let id = match self.find(&policy.key) {
            Some(id) => {
                if self.get(id).is_some_and(|old| old.is_listed_the_same(&policy)) {
                    self.policies[id as usize] = Some(Arc::new(policy));
                    return id;
                }
                self.unsort(id);
                id
            }
            None => {
                let id = self.free.pop().unwrap_or_else(|| {
                    self.policies.push(None);
                    self.policies.len() as PolicyId - 1
                });
                self.by_key.insert((*policy.key).clone(), id);
                self.staged += usize::from(policy.key.kind.staged());
                id
            }
        };
        self.sorted.entry(policy.tier.clone()).or_default().insert(policy.sort_key(), id);
        self.policies[id as usize] = Some(Arc::new(policy));
        self.changed();
        id
    }

    /// Takes a policy out.
    pub fn remove(&mut self, key: &PolicyKey) -> Option<PolicyId> {
        let id = self.by_key.remove(key)?;
        self.staged -= usize::from(key.kind.staged());
        self.unsort(id);
        self.policies[id as usize] = None;
        self.free.push(id);
        Some(id)
    }

    fn unsort(&mut self, id: PolicyId) {
        let Some(policy) = self.get(id) else { return };
        let (tier, key) = (policy.tier.clone(), policy.sort_key());
        if let Some(policies) = self.sorted.get_mut(&tier) {
            policies.remove(&key);
            if policies.is_empty() {
                self.sorted.remove(&tier);
            }
        }
        self.changed();
    }

    /// Sets or removes a tier. True where it changed.
    pub fn set_tier(&mut self, name: &str, tier: Option<&backend::Tier>) -> Result<bool, RuleError> {
        let new = match tier {
            None => None,
            Some(tier) => {
                let default_action = match tier.default_action.as_deref().map(str::to_ascii_lowercase) {
                    None => TierDefaultAction::Deny,
                    Some(a) if a == "deny" || a.is_empty() => TierDefaultAction::Deny,
                    Some(a) if a == "pass" => TierDefaultAction::Pass,
                    Some(action) => {
                        return Err(RuleError::DefaultAction { tier: name.to_owned(), action });
                    }
                };
                Some(Tier { order: Order::new(tier.order), default_action })
            }
        };
        if self.tiers.get(name) == new.as_ref() {
            return Ok(false);
        }
        self.changed();
        match new {
            Some(tier) => self.tiers.insert(name.into(), tier),
            None => self.tiers.remove(name),
        };
        Ok(true)
    }

    fn changed(&mut self) {
        self.ranks_stale = true;
        self.version += 1;
    }

    /// Another number after every change of a policy or a tier.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of policies and of tiers.
    pub fn counts(&self) -> (usize, usize) {
        (self.by_key.len(), self.tiers.len())
    }

    /// Number of policies that are staged.
    pub fn staged(&self) -> usize {
        self.staged
    }

    /// A tier's default action.
    pub fn default_action(&self, tier: &str) -> TierDefaultAction {
        self.tiers.get(tier).map_or(TierDefaultAction::Deny, |t| t.default_action)
    }

    /// Sorts policies as they apply. Every number must be one of a policy that is there.
    pub fn sort(&mut self, ids: &mut [PolicyId]) {
        if std::mem::take(&mut self.ranks_stale) {
            let mut tiers: Vec<_> = self
                .sorted
                .iter()
                .map(|(name, policies)| {
                    let tier = self.tiers.get(name);
                    let order = tier.map_or(Order::new(None), |t| t.order);
                    ((tier.is_none(), order, name), policies)
                })
                .collect();
            tiers.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            self.ranks.clear();
            self.ranks.resize(self.policies.len(), u32::MAX);
            let ids = tiers.iter().flat_map(|(_, policies)| policies.values());
            for (rank, &id) in ids.enumerate() {
                self.ranks[id as usize] = rank as u32;
            }
        }
        ids.sort_unstable_by_key(|&id| self.ranks.get(id as usize).copied());
    }
}

/// Rules of a profile, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileRules {
    pub inbound: Box<[ParsedRule]>,
    pub outbound: Box<[ParsedRule]>,
}

impl ProfileRules {
    /// Checks a profile's rules.
    pub fn parse(rules: &backend::ProfileRules, cache: &mut SelectorCache) -> Result<Self, RuleError> {
        Ok(Self {
            inbound: parse_rules(&rules.inbound_rules, cache)?,
            outbound: parse_rules(&rules.outbound_rules, cache)?,
        })
    }
}

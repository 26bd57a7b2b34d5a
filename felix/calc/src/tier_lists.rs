//! The policies of an endpoint as messages list them: by tier, in order, for each purpose.
//!
//! In come sets of policies, as endpoints match them; out go their lists. Endpoints that match the same policies share
//! one set and one list: a thousand endpoints under a thousand policies need it once. Always holds: a list is what the
//! current policies and tiers give; two equal lists that somebody has are one list.

use std::sync::Arc;

use felix_message::TierInfo;
use hashbrown::{HashMap, HashSet};

use crate::intern::Pool;
use crate::policies::{Policies, Policy, PolicyId};

/// Lists of one set of policies.
pub struct Lists {
    /// Neither untracked nor before translation.
    pub normal: Arc<[TierInfo]>,
    pub untracked: Arc<[TierInfo]>,
    /// Before translation: ingress alone.
    pub pre_dnat: Arc<[TierInfo]>,
    /// Of the normal ones, those that apply to forwarded traffic too.
    pub forward: Arc<[TierInfo]>,
}

/// See the module's text.
#[derive(Default)]
pub struct MatchSets {
    sets: Pool<Box<[PolicyId]>>,
    /// By number of a set.
    known: HashMap<u32, Lists>,
    /// Of the policies that `known` was made from.
    version: u64,
    /// Every list that somebody has: equal lists are one.
    lists: HashSet<Arc<[TierInfo]>>,
}

impl MatchSets {
    /// Takes a reference to the set of these policies, which are sorted by number.
    pub fn acquire(&mut self, ids: &[PolicyId]) -> u32 {
        self.sets.acquire(ids, || ids.into()).id
    }

    /// Gives a reference back.
    pub fn release(&mut self, set: u32) {
        if self.sets.release(set).is_some() {
            self.known.remove(&set);
        }
    }

    /// The policies of a set.
    pub fn get(&self, set: u32) -> &[PolicyId] {
        self.sets.get(set).map_or(&[], |s| s)
    }

    /// Begins to move endpoints from sets with a policy to those without, or the other way.
    pub fn step(&mut self, policy: PolicyId) -> Step<'_> {
        Step { sets: self, policy, ways: HashMap::new(), left: Vec::new() }
    }

    /// The lists of a set.
    pub fn lists(&mut self, set: u32, policies: &mut Policies) -> &Lists {
        if self.version != policies.version() {
            self.version = policies.version();
            self.known.clear();
            self.lists.retain(|l| Arc::strong_count(l) > 1);
        }
        let (sets, canonical) = (&self.sets, &mut self.lists);
        self.known.entry(set).or_insert_with(|| {
            let mut sorted = sets.get(set).map(|s| s.to_vec()).unwrap_or_default();
            policies.sort(&mut sorted);
            let applied: Vec<&Policy> =
                sorted.iter().filter_map(|&id| policies.get(id)).map(|p| &**p).collect();
            let normal = |p: &Policy| !p.untracked && !p.pre_dnat;
            let mut one = |list: Arc<[TierInfo]>| canonical.get_or_insert(list).clone();
            Lists {
                normal: one(list(&applied, policies, false, normal)),
                untracked: one(list(&applied, policies, false, |p| p.untracked)),
                pre_dnat: one(list(&applied, policies, true, |p| p.pre_dnat && !p.untracked)),
                forward: one(list(&applied, policies, false, |p| normal(p) && p.apply_on_forward)),
            }
        })
    }
}

/// Moves endpoints between the sets with a policy and those without: each way is found once, however many go it.
pub struct Step<'a> {
    sets: &'a mut MatchSets,
    policy: PolicyId,
    /// By set: whether it has the policy, and the set on the other side once somebody goes there.
    ways: HashMap<u32, (bool, Option<u32>)>,
    /// References to give back at the end: until then no number gets another meaning.
    left: Vec<u32>,
}

impl Step<'_> {
    /// True where the set has the policy.
    pub fn has(&mut self, set: u32) -> bool {
        let (sets, policy) = (&self.sets, self.policy);
        self.ways.entry(set).or_insert_with(|| (sets.get(set).binary_search(&policy).is_ok(), None)).0
    }

    /// Goes to the other side: gives the reference to the set back and takes one to that on the other side.
    pub fn go(&mut self, set: u32) -> u32 {
        self.left.push(set);
        if let Some((_, Some(to))) = self.ways.get(&set) {
            self.sets.sets.retain(*to);
            return *to;
        }
        let mut ids = self.sets.get(set).to_vec();
        let had = match ids.binary_search(&self.policy) {
            Ok(at) => {
                ids.remove(at);
                true
            }
            Err(at) => {
                ids.insert(at, self.policy);
                false
            }
        };
        let to = self.sets.acquire(&ids);
        self.ways.insert(set, (had, Some(to)));
        to
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        for set in std::mem::take(&mut self.left) {
            self.sets.release(set);
        }
    }
}

/// Tiers of the policies that `wanted` takes.
fn list(
    applied: &[&Policy],
    policies: &Policies,
    ingress_only: bool,
    wanted: impl Fn(&Policy) -> bool,
) -> Arc<[TierInfo]> {
    let mut out: Vec<TierInfo> = Vec::new();
    for policy in applied.iter().filter(|p| wanted(p)) {
        let egress = policy.egress && !ingress_only;
        if !policy.ingress && !egress {
            continue;
        }
        if out.last().is_none_or(|t| t.name != *policy.tier) {
            out.push(TierInfo {
                name: policy.tier.to_string(),
                default_action: policies.default_action(&policy.tier),
                ..TierInfo::default()
            });
        }
        if let Some(tier) = out.last_mut() {
            if policy.ingress {
                tier.ingress.push(policy.key.clone());
            }
            if egress {
                tier.egress.push(policy.key.clone());
            }
        }
    }
    out.into()
}

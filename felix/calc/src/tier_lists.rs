//! The policies of an endpoint as messages list them: by tier, in order, for each purpose.
//!
//! In comes what an endpoint matches, out go its lists. Endpoints that match the same policies share one list: a
//! thousand endpoints under a thousand policies need it once. Always holds: a list is what the current policies and
//! tiers give; every change of one empties what was remembered.

use std::sync::Arc;

use felix_message::TierInfo;
use hashbrown::HashMap;

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
pub struct TierLists {
    known: HashMap<Vec<PolicyId>, Lists>,
    /// Of the policies that `known` was made from.
    version: u64,
}

/// Remembered at most: endpoints come and go, and no list is asked for again for ever.
const MAX_KNOWN: usize = 4096;

impl TierLists {
    /// The lists of the policies with these numbers.
    pub fn get(&mut self, ids: &[PolicyId], policies: &mut Policies) -> &Lists {
        if self.version != policies.version() || self.known.len() >= MAX_KNOWN {
            self.version = policies.version();
            self.known.clear();
        }
        self.known.entry_ref(ids).or_insert_with(|| {
            let mut sorted = ids.to_vec();
            policies.sort(&mut sorted);
            let applied: Vec<&Policy> =
                sorted.iter().filter_map(|&id| policies.get(id)).map(|p| &**p).collect();
            let normal = |p: &Policy| !p.untracked && !p.pre_dnat;
            Lists {
                normal: list(&applied, policies, false, normal),
                untracked: list(&applied, policies, false, |p| p.untracked),
                pre_dnat: list(&applied, policies, true, |p| p.pre_dnat && !p.untracked),
                forward: list(&applied, policies, false, |p| normal(p) && p.apply_on_forward),
            }
        })
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

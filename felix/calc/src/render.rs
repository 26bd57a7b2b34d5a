//! From what was checked to messages: policies with their rules, endpoints with their lists.
//!
//! In come checked policies and stored endpoints, out go messages. Always holds: every set that a message refers to is
//! held by whoever asked for the message; the identifier of a rule depends on the rule and its place among equal ones
//! alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use felix_message::{ActivePolicy, HostEndpoint, Rule, TierInfo, WorkloadEndpoint};
use libcalico_model::backend;
use sha2::{Digest, Sha224};

use crate::ip_sets::IpSets;
use crate::items::Items;
use crate::local::World;
use crate::policies::Policy;
use crate::rules::ParsedRule;
use crate::tier_lists::Lists;

/// Renders rules and holds every set they refer to.
pub struct Renderer<'a> {
    scope: String,
    sets: &'a mut IpSets,
    items: &'a mut Items,
    /// Handles of the sets, a reference each.
    pub held: Vec<u32>,
}

impl<'a> Renderer<'a> {
    pub fn new(scope: String, world: &'a mut World<'_>) -> Self {
        Self { scope, sets: world.sets, items: world.items, held: Vec::new() }
    }

    pub fn rules(&mut self, rules: &[ParsedRule], direction: &str) -> Vec<Rule> {
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

/// The message of a policy.
pub fn policy_message(policy: &Policy, renderer: &mut Renderer<'_>) -> ActivePolicy {
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

/// The message of a workload's endpoint.
pub fn workload_message(w: &backend::WorkloadEndpoint, tiers: Arc<[TierInfo]>) -> WorkloadEndpoint {
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

/// The message of a host's endpoint.
pub fn host_message(h: &backend::HostEndpoint, lists: &Lists) -> HostEndpoint {
    let v4 = h.expected_ipv4_addrs.iter().map(|a| (*a).into());
    HostEndpoint {
        interface_name: h.name.clone(),
        expected_addrs: v4.chain(h.expected_ipv6_addrs.iter().map(|a| (*a).into())).collect(),
        profiles: h.profile_ids.clone(),
        tiers: lists.normal.clone(),
        untracked_tiers: lists.untracked.clone(),
        pre_dnat_tiers: lists.pre_dnat.clone(),
        forward_tiers: lists.forward.clone(),
    }
}

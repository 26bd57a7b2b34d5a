//! Chains of endpoints: what a workload's or a host interface's traffic passes.
//!
//! In: an endpoint with its tiers and profiles. Out: its chains. Always holds: a workload's chain ends in a denial;
//! staged policies have no part in it; established connections go on and invalid packets do not.

use std::sync::Arc;

use felix_message::{HostEndpoint, TierDefaultAction, TierInfo, WorkloadEndpoint};
use libcalico_model::key::PolicyKey;

use crate::config::{AllowAction, Config};
use crate::render::names::{self, Direction};
use crate::render::policy::deny;
use crate::rule::{Action, Chain, ChainId, End, Family, Match, Rule, Table, ct_state};

const UDP: u8 = 17;
const IPIP: u8 = 4;

/// True where a workload can have traffic of a family: it has an address of it, or none at all is known. In the other
/// family its interface is unknown and everything is dropped; nothing has to be programmed for it.
#[must_use]
pub fn uses(endpoint: &WorkloadEndpoint, family: Family) -> bool {
    let e = endpoint;
    let own = match family {
        Family::V4 => !e.ipv4_nets.is_empty(),
        Family::V6 => !e.ipv6_nets.is_empty(),
    };
    let any = e.ipv4_nets.is_empty() && e.ipv6_nets.is_empty();
    own || any || e.allow_spoofed_source_prefixes.iter().any(|n| Family::of_net(n) == family)
}

/// `cali-tw-…` and `cali-fw-…` of a workload: traffic to it, traffic from it. The same in both families. `groups`: the
/// chains with its policies ([`policies`]); without one they stand in its own.
#[must_use]
pub fn workload(
    endpoint: &WorkloadEndpoint,
    config: &Config,
    groups: [Option<Arc<str>>; 2],
) -> [(ChainId, Chain); 2] {
    let name = |prefix| ChainId::new(Table::Filter, names::endpoint_chain(prefix, &endpoint.interface_name));
    let chain = |direction, group| {
        if endpoint.active {
            workload_chain(endpoint, config, direction, group)
        } else {
            Chain::new(vec![Rule::always(deny(config))])
        }
    };
    let [to, from] = groups;
    [(name("cali-tw-"), chain(Direction::Ingress, to)), (name("cali-fw-"), chain(Direction::Egress, from))]
}

/// What policies of one direction do with a packet: the chain that workloads share. Nothing said: it returns unmarked.
#[must_use]
pub fn policies(list: &[TierInfo], direction: Direction, config: &Config) -> Chain {
    let mut out = Vec::new();
    tiers(list, direction, config, Purpose::Normal, &mut out);
    Chain::new(out)
}

/// A tier's policies of one direction that are enforced, in order.
pub fn enforced(tier: &TierInfo, direction: Direction) -> impl Iterator<Item = &PolicyKey> {
    let policies = match direction {
        Direction::Ingress => &tier.ingress,
        Direction::Egress => &tier.egress,
    };
    policies.iter().filter(|p| !p.kind.staged())
}

fn workload_chain(
    endpoint: &WorkloadEndpoint,
    config: &Config,
    direction: Direction,
    group: Option<Arc<str>>,
) -> Chain {
    let mut out = Vec::new();
    conntrack(config, Table::Filter, false, &mut out);
    out.push(clear_verdict(config));
    if direction == Direction::Egress {
        // Encapsulated packets would leave policy behind at the other end.
        if !config.allow_vxlan_from_workloads {
            let port = felix_message::PortRange { first: config.vxlan_port, last: config.vxlan_port };
            out.push(Rule::when(
                vec![
                    Match::Protocol { not: false, number: UDP },
                    Match::Ports { end: End::Dst, not: false, ranges: vec![port] },
                ],
                deny(config),
            ));
        }
        if !config.allow_ipip_from_workloads {
            out.push(Rule::when(vec![Match::Protocol { not: false, number: IPIP }], deny(config)));
        }
    }
    if let Some(group) = group {
        out.push(Rule::always(Action::Jump(group)));
        out.push(Rule::when(vec![Match::mark_set(config.marks.accept)], Action::Return));
    } else {
        tiers(&endpoint.tiers, direction, config, Purpose::Normal, &mut out);
    }
    profiles(&endpoint.profiles, direction, config, &mut out);
    out.push(Rule::always(deny(config)));
    Chain::new(out)
}

/// What a host endpoint's chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Normal,
    Forward,
    Untracked,
    PreDnat,
}

/// All chains of a host endpoint on an interface (or on all: [`names::ANY_INTERFACE`]).
#[must_use]
pub fn host(interface: &str, endpoint: &HostEndpoint, config: &Config) -> Vec<(ChainId, Chain)> {
    use Direction::{Egress, Ingress};
    let mut out = Vec::with_capacity(8);
    let mut add = |table, prefix, tiers: &[TierInfo], profiles: &[String], direction, purpose| {
        let id = ChainId::new(table, names::endpoint_chain(prefix, interface));
        out.push((id, host_chain(table, tiers, profiles, config, direction, purpose)));
    };
    let e = endpoint;
    add(Table::Filter, "cali-th-", &e.tiers, &e.profiles, Egress, Purpose::Normal);
    add(Table::Filter, "cali-fh-", &e.tiers, &e.profiles, Ingress, Purpose::Normal);
    add(Table::Filter, "cali-thfw-", &e.forward_tiers, &[], Egress, Purpose::Forward);
    add(Table::Filter, "cali-fhfw-", &e.forward_tiers, &[], Ingress, Purpose::Forward);
    // As upstream: untracked policy needs an interface that is known by its name.
    let untracked: &[TierInfo] = if interface == names::ANY_INTERFACE { &[] } else { &e.untracked_tiers };
    add(Table::Raw, "cali-th-", untracked, &[], Egress, Purpose::Untracked);
    add(Table::Raw, "cali-fh-", untracked, &[], Ingress, Purpose::Untracked);
    add(Table::Mangle, "cali-th-", &e.tiers, &e.profiles, Egress, Purpose::Normal);
    add(Table::Mangle, "cali-fh-", &e.pre_dnat_tiers, &[], Ingress, Purpose::PreDnat);
    out
}

fn host_chain(
    table: Table,
    policies: &[TierInfo],
    profile_names: &[String],
    config: &Config,
    direction: Direction,
    purpose: Purpose,
) -> Chain {
    let mut out = Vec::new();
    if purpose != Purpose::Untracked {
        // After translation the packet goes on through POSTROUTING: marked, not accepted at once.
        conntrack(config, table, table == Table::Mangle && direction == Direction::Egress, &mut out);
    }
    if purpose != Purpose::Forward {
        let failsafe = match direction {
            Direction::Ingress => "cali-failsafe-in",
            Direction::Egress => "cali-failsafe-out",
        };
        out.push(Rule::always(Action::Jump(failsafe.into())));
    }
    out.push(clear_verdict(config));
    let any = tiers(policies, direction, config, purpose, &mut out);
    match purpose {
        Purpose::Normal => {
            profiles(profile_names, direction, config, &mut out);
            out.push(Rule::always(deny(config)));
        }
        Purpose::Forward if !any => {
            // Forwarded traffic is filtered only by policy that asks for it.
            out.push(Rule::always(Action::Mark { clear: 0, set: config.marks.accept }));
        }
        Purpose::Forward | Purpose::Untracked | Purpose::PreDnat => {}
    }
    Chain::new(out)
}

fn conntrack(config: &Config, table: Table, mark_only: bool, out: &mut Vec<Rule>) {
    let action = if table == Table::Mangle { config.mangle_allow_action } else { config.filter_allow_action };
    let known = || vec![Match::CtState(ct_state::ESTABLISHED | ct_state::RELATED)];
    if mark_only || action == AllowAction::Return {
        out.push(Rule::when(known(), Action::Mark { clear: 0, set: config.marks.accept }));
        out.push(Rule::when(known(), Action::Return));
    } else {
        out.push(Rule::when(known(), Action::Accept));
    }
    if !config.disable_conntrack_invalid_check {
        out.push(Rule::when(vec![Match::CtState(ct_state::INVALID)], deny(config)));
    }
}

fn clear_verdict(config: &Config) -> Rule {
    Rule::always(Action::Mark { clear: config.marks.accept | config.marks.pass, set: 0 })
}

/// True where a policy that is enforced applies.
fn tiers(
    tiers: &[TierInfo],
    direction: Direction,
    config: &Config,
    purpose: Purpose,
    out: &mut Vec<Rule>,
) -> bool {
    let marks = &config.marks;
    let not_passed = || vec![Match::mark_clear(marks.pass)];
    let accepted = || vec![Match::mark_set(marks.accept)];
    let mut any = false;
    for tier in tiers {
        let staged_or_not = match direction {
            Direction::Ingress => &tier.ingress,
            Direction::Egress => &tier.egress,
        };
        if staged_or_not.is_empty() {
            continue;
        }
        out.push(Rule::always(Action::Mark { clear: marks.pass, set: 0 }));
        let mut some = false;
        for policy in enforced(tier, direction) {
            some = true;
            let chain: Arc<str> = names::policy_chain(direction, policy).into();
            out.push(Rule::when(not_passed(), Action::Jump(chain)));
            if purpose == Purpose::Untracked {
                out.push(Rule::when(accepted(), Action::NoTrack));
            }
            out.push(Rule::when(accepted(), Action::Return));
        }
        any |= some;
        let ends = matches!(purpose, Purpose::Normal | Purpose::Forward);
        if some && ends && tier.default_action == TierDefaultAction::Deny {
            out.push(Rule::when(not_passed(), deny(config)));
        }
    }
    any
}

fn profiles(profiles: &[String], direction: Direction, config: &Config, out: &mut Vec<Rule>) {
    for profile in profiles {
        let chain: Arc<str> = names::profile_chain(direction, profile).into();
        out.push(Rule::always(Action::Jump(chain)));
        out.push(Rule::when(vec![Match::mark_set(config.marks.accept)], Action::Return));
    }
}

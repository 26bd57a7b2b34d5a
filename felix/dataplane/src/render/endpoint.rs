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

/// What an endpoint's packets go through in a tier: chains of policies, or chains that several policies share, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierSteps {
    pub default_action: TierDefaultAction,
    /// One of its policies may pass a packet on.
    pub passes: bool,
    /// Empty where all policies of the tier are staged: it decides nothing.
    pub chains: Vec<Arc<str>>,
}

/// A workload's policies of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// In its own chain.
    Own(Arc<[TierSteps]>),
    /// In a chain that other workloads use too ([`policies`]).
    Shared { chain: Arc<str>, behind: Behind },
}

/// What comes through a workload's policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// All that there is: no policy decides anything.
    Everything,
    /// What they accepted, and what they leave to profiles: what was passed on or, where the last tier passes what its
    /// policies say nothing about, all the rest.
    Undecided(TierDefaultAction),
    /// What they accepted. The rest is denied.
    Accepted,
}

/// What comes through policies.
#[must_use]
pub fn behind(list: &[TierSteps]) -> Behind {
    match deciding(list).last() {
        None => Behind::Everything,
        Some(t) if t.default_action == TierDefaultAction::Deny && !t.passes => Behind::Accepted,
        Some(t) => Behind::Undecided(t.default_action),
    }
}

/// What is in a workload's own chains ([`names::workload_chain`]), the same in both families. `endings` are the chains of
/// its endings ([`Ending`]).
#[must_use]
pub fn workload(
    endpoint: &WorkloadEndpoint,
    config: &Config,
    steps: [Option<&Steps>; 2],
    endings: [Option<Arc<str>>; 2],
) -> [Chain; 2] {
    let chain = |direction, steps, ending| {
        if endpoint.active {
            workload_chain(config, direction, steps, ending)
        } else {
            Chain::new(vec![Rule::always(deny(config))])
        }
    };
    let ([to, from], [to_end, from_end]) = (steps, endings);
    [chain(Direction::Ingress, to, to_end), chain(Direction::Egress, from, from_end)]
}

/// What all workloads' chains of a direction begin with: `cali-to-wl-start`, `cali-from-wl-start`. What goes on behind it
/// is a new connection that is neither accepted nor passed, or has the accept bit where accepting is left to others.
#[must_use]
pub fn workload_start(direction: Direction, config: &Config) -> Vec<Rule> {
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
    out
}

/// How a workload's chain ends, behind the jump to its last policy, where more comes there than policies accepted: with
/// the profiles. Workloads with the same ones share it. What the kernel goes through when it checks a table, at each
/// change, is two or three rules of each workload's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ending {
    pub direction: Direction,
    /// What it does with a packet that policies said nothing about; `None`: there are no policies.
    pub policies: Option<TierDefaultAction>,
    pub profiles: Arc<[String]>,
}

impl Ending {
    /// That of a workload. `None`: who jumped to its chain denies what has not been accepted when it comes back.
    #[must_use]
    pub fn of(endpoint: &WorkloadEndpoint, direction: Direction, steps: Option<&Steps>) -> Option<Self> {
        let behind = match steps {
            // It denies by itself what no policy passed.
            Some(Steps::Shared { behind: Behind::Undecided(_), .. }) => {
                Behind::Undecided(TierDefaultAction::Pass)
            }
            Some(Steps::Shared { behind, .. }) => *behind,
            Some(Steps::Own(list)) => behind(list),
            None => Behind::Everything,
        };
        let policies = match behind {
            Behind::Accepted => return None,
            Behind::Undecided(action) => Some(action),
            Behind::Everything => None,
        };
        Some(Self { direction, policies, profiles: endpoint.profiles.as_slice().into() })
    }

    /// The chain's name.
    #[must_use]
    pub fn chain_name(&self) -> String {
        names::ending_chain(self.direction, self.policies, &self.profiles)
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self, config: &Config) -> Chain {
        let mut out = Vec::new();
        if self.policies.is_some() {
            out.push(Rule::when(vec![Match::mark_set(config.marks.accept)], Action::Return));
        }
        if self.policies == Some(TierDefaultAction::Deny) {
            out.push(Rule::when(vec![Match::mark_clear(config.marks.pass)], deny(config)));
        }
        profiles(&self.profiles, self.direction, config, &mut out);
        out.push(Rule::always(deny(config)));
        Chain::new(out)
    }
}

/// What policies of one direction do with a packet: the chain that workloads share. Nothing said: it returns unmarked.
#[must_use]
pub fn policies(list: &[TierSteps], config: &Config) -> Chain {
    let mut out = Vec::new();
    tiers(list, config, Purpose::Normal, &mut out);
    Chain::new(out)
}

/// Policies that follow each other in a tier: the chain that lists share. Nothing said: it returns unmarked.
#[must_use]
pub fn run(chains: &[Arc<str>], config: &Config) -> Chain {
    let mut out = Vec::with_capacity(chains.len() * 2);
    jumps(chains, config, Purpose::Normal, &mut out);
    Chain::new(out)
}

/// A tier's policies of one direction that are enforced, in order.
pub fn enforced(tier: &TierInfo, direction: Direction) -> impl Iterator<Item = &PolicyKey> {
    let policies = match direction {
        Direction::Ingress => &tier.ingress,
        Direction::Egress => &tier.egress,
    };
    policies.iter().map(|p| &**p).filter(|p| !p.kind.staged())
}

/// True where a tier has policies of a direction, staged or not.
pub fn applies(tier: &TierInfo, direction: Direction) -> bool {
    match direction {
        Direction::Ingress => !tier.ingress.is_empty(),
        Direction::Egress => !tier.egress.is_empty(),
    }
}

/// Each policy's own chain.
fn own_steps(tiers: &[TierInfo], direction: Direction) -> Vec<TierSteps> {
    let steps = |tier: &TierInfo| {
        let chains = enforced(tier, direction).map(|p| names::policy_chain(direction, p).into()).collect();
        TierSteps { default_action: tier.default_action, passes: true, chains }
    };
    tiers.iter().filter(|t| applies(t, direction)).map(steps).collect()
}

fn workload_chain(
    config: &Config,
    direction: Direction,
    steps: Option<&Steps>,
    ending: Option<Arc<str>>,
) -> Chain {
    let accepted = || Rule::when(vec![Match::mark_set(config.marks.accept)], Action::Return);
    let mut out = vec![Rule::always(Action::Jump(names::start_chain(direction).into()))];
    if config.filter_allow_action == AllowAction::Return {
        out.push(accepted());
    }
    match steps {
        Some(Steps::Shared { chain, .. }) => out.push(Rule::always(Action::Jump(chain.clone()))),
        Some(Steps::Own(list)) => {
            let list: Vec<&TierSteps> = deciding(list).collect();
            for (n, tier) in list.iter().enumerate() {
                let begin = out.len();
                jumps(&tier.chains, config, Purpose::Normal, &mut out);
                if n == 0 {
                    // Nothing has passed it yet.
                    out[begin].matches.clear();
                } else {
                    out.insert(begin, Rule::always(Action::Mark { clear: config.marks.pass, set: 0 }));
                }
                if n + 1 == list.len() {
                    // What comes behind asks first of all whether the last policy accepted.
                    out.pop();
                } else {
                    out.extend(unless_passed(tier, config));
                }
            }
        }
        None => {}
    }
    out.extend(ending.map(|chain| Rule::always(Action::Goto(chain))));
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
    tiers(&own_steps(policies, direction), config, purpose, &mut out);
    match purpose {
        Purpose::Normal => {
            profiles(profile_names, direction, config, &mut out);
            out.push(Rule::always(deny(config)));
        }
        Purpose::Forward if policies.is_empty() => {
            // Forwarded traffic is filtered only by policy that asks for it. Where some asks for the other direction, the
            // packet is left to the host's own rules in this one.
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

/// Tiers that decide something.
fn deciding(list: &[TierSteps]) -> impl Iterator<Item = &TierSteps> {
    list.iter().filter(|t| !t.chains.is_empty())
}

/// A tier that denies what its policies say nothing about.
fn unless_passed(tier: &TierSteps, config: &Config) -> Option<Rule> {
    (tier.default_action == TierDefaultAction::Deny)
        .then(|| Rule::when(vec![Match::mark_clear(config.marks.pass)], deny(config)))
}

/// What tiers do, in order.
fn tiers(tiers: &[TierSteps], config: &Config, purpose: Purpose, out: &mut Vec<Rule>) {
    let pass = config.marks.pass;
    for tier in tiers {
        out.push(Rule::always(Action::Mark { clear: pass, set: 0 }));
        jumps(&tier.chains, config, purpose, out);
        let ends = matches!(purpose, Purpose::Normal | Purpose::Forward);
        if ends && !tier.chains.is_empty() {
            out.extend(unless_passed(tier, config));
        }
    }
}

/// Chains that are gone through until one of them accepts or passes.
fn jumps(chains: &[Arc<str>], config: &Config, purpose: Purpose, out: &mut Vec<Rule>) {
    let marks = &config.marks;
    let accepted = || vec![Match::mark_set(marks.accept)];
    for chain in chains {
        out.push(Rule::when(vec![Match::mark_clear(marks.pass)], Action::Jump(chain.clone())));
        if purpose == Purpose::Untracked {
            out.push(Rule::when(accepted(), Action::NoTrack));
        }
        out.push(Rule::when(accepted(), Action::Return));
    }
}

fn profiles(profiles: &[String], direction: Direction, config: &Config, out: &mut Vec<Rule>) {
    for profile in profiles {
        let chain: Arc<str> = names::profile_chain(direction, profile).into();
        out.push(Rule::always(Action::Jump(chain)));
        out.push(Rule::when(vec![Match::mark_set(config.marks.accept)], Action::Return));
    }
}

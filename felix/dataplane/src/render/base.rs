//! The fixed chains: where the kernel enters, what every packet passes before and after policy.
//!
//! In: configuration, and whether IPIP and IPVS are in use. Out: chains that change with these alone. Always holds: a packet from
//! or to an interface with a workload's name ends in the dispatch chain's drop where no endpoint has that name.
//! Left out: per-endpoint and per-policy chains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{AllowAction, Config, EndpointToHostAction, ServiceLoopPrevention};
use crate::render::endpoint;
use crate::render::names::{self, Direction};
use crate::render::policy::deny;
use crate::rule::{
    Action, Chain, ChainId, End, Family, Hook, HookPoint, Match, Rule, SetName, Table, ct_state,
};

const IPIP: u8 = 4;
/// Multicast listener and neighbour discovery messages that a workload may always send to its host.
const ICMPV6_TO_HOST: [u8; 6] = [130, 131, 132, 133, 135, 136];

/// Pools whose members must not be masqueraded away from.
pub const ALL_POOLS: SetName = SetName::Own("network-ip-pools");
/// Pools with `natOutgoing`.
pub const MASQUERADE_POOLS: SetName = SetName::Own("masq-ipam-pools");
/// Addresses of all nodes.
pub const ALL_HOSTS: SetName = SetName::Own("all-hosts-net");
/// Addresses of this node's interfaces.
pub const THIS_HOST: SetName = SetName::Own("this-host");

fn jump(chain: &str) -> Action {
    Action::Jump(chain.into())
}

fn allow(action: AllowAction) -> Action {
    match action {
        AllowAction::Accept => Action::Accept,
        AllowAction::Return => Action::Return,
    }
}

/// The chains that the kernel enters, each with the jump into ours.
#[must_use]
pub fn base_chains(config: &Config) -> Vec<(ChainId, Chain)> {
    use HookPoint::{Forward, Input, Output, Postrouting, Prerouting};
    let accept = config.marks.accept;
    let chain = |table, name: &str, kind, point, priority, rules| {
        (ChainId::new(table, name), Chain { hook: Some(Hook { kind, point, priority }), rules })
    };
    let into = |name: &str| vec![Rule::always(jump(name))];
    vec![
        chain(Table::Raw, "PREROUTING", "filter", Prerouting, -300, into("cali-PREROUTING")),
        chain(Table::Raw, "OUTPUT", "filter", Output, -300, into("cali-OUTPUT")),
        chain(Table::Mangle, "PREROUTING", "filter", Prerouting, -150, into("cali-PREROUTING")),
        chain(Table::Mangle, "INPUT", "filter", Input, -150, vec![]),
        chain(Table::Mangle, "FORWARD", "filter", Forward, -150, vec![]),
        chain(Table::Mangle, "OUTPUT", "route", Output, -150, vec![]),
        chain(Table::Mangle, "POSTROUTING", "filter", Postrouting, -150, into("cali-POSTROUTING")),
        chain(Table::Nat, "PREROUTING", "nat", Prerouting, -100, into("cali-PREROUTING")),
        chain(Table::Nat, "INPUT", "nat", Input, -100, vec![]),
        chain(Table::Nat, "OUTPUT", "nat", Output, 110, into("cali-OUTPUT")),
        chain(Table::Nat, "POSTROUTING", "nat", Postrouting, 110, into("cali-POSTROUTING")),
        chain(Table::Filter, "INPUT", "filter", Input, 0, into("cali-INPUT")),
        chain(
            Table::Filter,
            "FORWARD",
            "filter",
            Forward,
            0,
            vec![
                Rule::always(jump("cali-FORWARD")),
                Rule::when(vec![Match::mark_set(accept)], allow(config.filter_allow_action)),
                Rule::always(Action::Mark { clear: 0, set: accept }),
            ],
        ),
        chain(Table::Filter, "OUTPUT", "filter", Output, 0, into("cali-OUTPUT")),
    ]
}

/// What the fixed chains depend on besides configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Tunnels of that kind.
    pub ipip: bool,
    /// kube-proxy's mode: what it sends to a Service's endpoint goes through INPUT and OUTPUT instead of FORWARD.
    pub ipvs: bool,
}

/// Our own fixed chains of one family.
#[must_use]
pub fn static_chains(family: Family, config: &Config, used: InUse) -> Vec<(ChainId, Chain)> {
    let mut out = vec![
        (Table::Filter, "cali-FORWARD", forward(config)),
        (Table::Filter, "cali-INPUT", input(family, config, used)),
        (Table::Filter, "cali-OUTPUT", output(family, config, used)),
        (Table::Filter, "cali-wl-to-host", workload_to_host(family, config, used.ipvs)),
        (Table::Filter, "cali-from-wl-dispatch", dispatch(config, true)),
        (Table::Filter, "cali-to-wl-dispatch", dispatch(config, false)),
        (Table::Raw, "cali-PREROUTING", raw_prerouting(config)),
        (Table::Raw, "cali-OUTPUT", raw_output(config, used.ipvs)),
        (Table::Mangle, "cali-PREROUTING", mangle_prerouting(config)),
        (Table::Mangle, "cali-POSTROUTING", mangle_postrouting(config)),
        (Table::Nat, "cali-PREROUTING", vec![Rule::always(jump("cali-fip-dnat"))]),
        (Table::Nat, "cali-OUTPUT", vec![Rule::always(jump("cali-fip-dnat"))]),
        (
            Table::Nat,
            "cali-POSTROUTING",
            vec![Rule::always(jump("cali-fip-snat")), Rule::always(jump("cali-nat-outgoing"))],
        ),
    ];
    for direction in Direction::BOTH {
        out.push((Table::Filter, names::start_chain(direction), endpoint::workload_start(direction, config)));
    }
    for table in [Table::Raw, Table::Mangle, Table::Filter] {
        out.push((table, "cali-failsafe-in", failsafe(table, family, config, true)));
        out.push((table, "cali-failsafe-out", failsafe(table, family, config, false)));
    }
    out.into_iter().map(|(table, name, rules)| (ChainId::new(table, name), Chain::new(rules))).collect()
}

fn forward(config: &Config) -> Vec<Rule> {
    let marks = &config.marks;
    let mut out = vec![
        Rule::always(Action::Mark { clear: marks.transient() & !marks.accept, set: 0 }),
        Rule::when(vec![Match::mark_clear(marks.accept)], jump("cali-from-hep-forward")),
    ];
    for p in &config.interface_prefixes {
        for (interface, dispatch) in
            [(Match::in_prefix(p), "cali-from-wl-dispatch"), (Match::out_prefix(p), "cali-to-wl-dispatch")]
        {
            out.push(Rule::when(vec![interface.clone()], jump(dispatch)));
            out.push(unless_accepted(vec![interface], config));
        }
    }
    out.push(Rule::always(jump("cali-to-hep-forward")));
    out.push(Rule::always(jump("cali-cidr-block")));
    out
}

/// What comes back from a workload's chains has been accepted, or nothing in them said so.
fn unless_accepted(mut matches: Vec<Match>, config: &Config) -> Rule {
    matches.push(Match::mark_clear(config.marks.accept));
    Rule::when(matches, deny(config))
}

fn input(family: Family, config: &Config, used: InUse) -> Vec<Rule> {
    let marks = &config.marks;
    let mut out = Vec::new();
    if used.ipip && family == Family::V4 {
        let tunnel = Match::Protocol { not: false, number: IPIP };
        out.push(Rule::when(
            vec![
                tunnel.clone(),
                Match::Set { end: End::Src, not: false, set: ALL_HOSTS },
                Match::Local { end: End::Dst, not: false },
            ],
            allow(config.filter_allow_action),
        ));
        out.push(Rule::when(vec![tunnel], deny(config)));
    }
    for p in &config.interface_prefixes {
        out.push(Rule::when(vec![Match::in_prefix(p)], Action::Goto("cali-wl-to-host".into())));
    }
    out.extend([
        Rule::when(vec![Match::mark_set(marks.accept)], allow(config.filter_allow_action)),
        Rule::always(Action::Mark { clear: marks.transient(), set: 0 }),
        Rule::always(jump("cali-from-host-endpoint")),
    ]);
    if used.ipvs {
        // Policies use the bit too; IPVS takes the packet with its mark to OUTPUT.
        out.push(Rule::always(Action::Mark { clear: marks.scratch0, set: 0 }));
    }
    out.push(Rule::when(vec![Match::mark_set(marks.accept)], allow(config.filter_allow_action)));
    out
}

/// True where the source is another machine's: no process here sends it.
fn from_elsewhere() -> Match {
    Match::Local { end: End::Src, not: true }
}

fn output(family: Family, config: &Config, used: InUse) -> Vec<Rule> {
    let marks = &config.marks;
    let mut out = vec![Rule::when(vec![Match::mark_set(marks.accept)], allow(config.filter_allow_action))];
    for p in &config.interface_prefixes {
        if used.ipvs {
            // IPVS sends it on, it has not been in FORWARD.
            out.push(Rule::when(vec![Match::out_prefix(p), from_elsewhere()], jump("cali-to-wl-dispatch")));
            out.push(unless_accepted(vec![Match::out_prefix(p), from_elsewhere()], config));
        }
        // The host may reach its own workloads.
        out.push(Rule::when(vec![Match::out_prefix(p)], Action::Return));
    }
    if used.ipip && family == Family::V4 {
        out.push(Rule::when(
            vec![
                Match::Protocol { not: false, number: IPIP },
                Match::Set { end: End::Dst, not: false, set: ALL_HOSTS },
                Match::Local { end: End::Src, not: false },
            ],
            allow(config.filter_allow_action),
        ));
    }
    out.extend([
        Rule::always(Action::Mark { clear: marks.transient(), set: 0 }),
        // A translated connection is judged after translation, in mangle's POSTROUTING.
        Rule::when(vec![Match::CtDnat { not: true }], jump("cali-to-host-endpoint")),
        Rule::when(vec![Match::mark_set(marks.accept)], allow(config.filter_allow_action)),
    ]);
    out
}

fn workload_to_host(family: Family, config: &Config, ipvs: bool) -> Vec<Rule> {
    let mut out = Vec::new();
    if family == Family::V6 {
        out.extend(ICMPV6_TO_HOST.map(|icmp_type| {
            Rule::when(
                vec![Match::Icmp { not: false, icmp_type, code: None }],
                allow(config.filter_allow_action),
            )
        }));
    }
    out.push(Rule::always(jump("cali-from-wl-dispatch")));
    out.push(unless_accepted(Vec::new(), config));
    if ipvs {
        // What raw's PREROUTING said of it; policies use the bit too.
        out.push(Rule::always(Action::Mark { clear: 0, set: config.marks.scratch0 }));
    }
    match config.endpoint_to_host_action {
        EndpointToHostAction::Accept => out.push(Rule::always(Action::Accept)),
        EndpointToHostAction::Drop => out.push(Rule::always(deny(config))),
        EndpointToHostAction::Return => {}
    }
    out
}

/// What leaves again for a network of services has met no service: it would come back from the router.
#[must_use]
pub fn service_loop_prevention(family: Family, config: &Config, cidrs: &BTreeSet<IpNet>) -> Chain {
    let action = match config.service_loop_prevention {
        ServiceLoopPrevention::Drop => Action::Drop,
        ServiceLoopPrevention::Reject => Action::Reject,
        ServiceLoopPrevention::Disabled => return Chain::default(),
    };
    let own = cidrs.iter().filter(|n| Family::of_net(n) == family);
    let rules = own.map(|n| {
        Rule::when(vec![Match::Net { end: End::Dst, not: false, nets: vec![n.trunc()] }], action.clone())
    });
    Chain::new(rules.collect())
}

fn host_net(addr: IpAddr, end: End) -> Match {
    Match::Net { end, not: false, nets: vec![addr.into()] }
}

/// Translation of floating addresses: `cali-fip-dnat` from external to internal, `cali-fip-snat` for a workload that
/// reaches itself by its external address.
#[must_use]
pub fn floating(dnat: &BTreeMap<IpAddr, IpAddr>, snat: &BTreeMap<IpAddr, IpAddr>) -> [Chain; 2] {
    let dnat = dnat
        .iter()
        .map(|(external, internal)| {
            Rule::when(vec![host_net(*external, End::Dst)], Action::Dnat { to: *internal })
        })
        .collect();
    let snat = snat
        .iter()
        .map(|(internal, external)| {
            let hairpin = vec![host_net(*internal, End::Src), host_net(*internal, End::Dst)];
            Rule::when(hairpin, Action::Snat { to: *external, ports: None })
        })
        .collect();
    [Chain::new(dnat), Chain::new(snat)]
}

fn dispatch(config: &Config, from: bool) -> Vec<Rule> {
    let action = if from {
        Action::DispatchIn("cali-from-wl-dispatch".into())
    } else {
        Action::DispatchOut("cali-to-wl-dispatch".into())
    };
    // What is not in the map is unknown: closed.
    vec![Rule::always(action), Rule::always(deny(config))]
}

fn raw_prerouting(config: &Config) -> Vec<Rule> {
    let marks = &config.marks;
    let from_workload = marks.scratch0;
    let mut out = vec![Rule::always(Action::Mark { clear: marks.transient(), set: 0 })];
    for p in &config.interface_prefixes {
        out.push(Rule::when(vec![Match::in_prefix(p)], Action::Mark { clear: 0, set: from_workload }));
    }
    out.extend([
        Rule::when(vec![Match::mark_set(from_workload)], jump("cali-rpf-skip")),
        // A workload sends from its own addresses alone.
        Rule::when(vec![Match::mark_set(from_workload), Match::ReversePathFails], Action::Drop),
        Rule::when(vec![Match::mark_clear(from_workload)], jump("cali-from-host-endpoint")),
        Rule::when(vec![Match::mark_set(marks.accept)], Action::Accept),
    ]);
    out
}

fn raw_output(config: &Config, ipvs: bool) -> Vec<Rule> {
    let marks = &config.marks;
    let mut out = Vec::new();
    if ipvs {
        // From a workload: its policy has seen the Service's address, not the one that this goes to.
        out.push(Rule::when(vec![Match::mark_set(marks.scratch0), from_elsewhere()], Action::Drop));
    }
    out.extend([
        Rule::always(Action::Mark { clear: marks.transient(), set: 0 }),
        Rule::always(jump("cali-to-host-endpoint")),
        Rule::when(vec![Match::mark_set(marks.accept)], Action::Accept),
    ]);
    out
}

fn mangle_prerouting(config: &Config) -> Vec<Rule> {
    let accept = allow(config.mangle_allow_action);
    let marked = || vec![Match::mark_set(config.marks.accept)];
    vec![
        Rule::when(vec![Match::CtState(ct_state::ESTABLISHED | ct_state::RELATED)], accept.clone()),
        Rule::when(marked(), accept.clone()),
        Rule::always(jump("cali-from-host-endpoint")),
        Rule::when(marked(), accept),
    ]
}

fn mangle_postrouting(config: &Config) -> Vec<Rule> {
    let marked = || vec![Match::mark_set(config.marks.accept)];
    vec![
        Rule::when(marked(), Action::Return),
        Rule::always(Action::Mark { clear: config.marks.transient(), set: 0 }),
        Rule::when(vec![Match::CtDnat { not: false }], jump("cali-to-host-endpoint")),
        Rule::when(marked(), Action::Return),
    ]
}

/// Ports that stay open. In raw nothing is tracked, so replies to the other direction's ports are let through too.
fn failsafe(table: Table, family: Family, config: &Config, inbound: bool) -> Vec<Rule> {
    let (own, other) = if inbound {
        (&config.failsafe_inbound, &config.failsafe_outbound)
    } else {
        (&config.failsafe_outbound, &config.failsafe_inbound)
    };
    let peer = if inbound { End::Src } else { End::Dst };
    let rule = |f: &crate::config::FailsafePort, end| {
        let mut matches = vec![Match::Protocol { not: false, number: f.protocol }];
        if let Some(net) = f.net {
            if Family::of_net(&net) != family {
                return None;
            }
            if net.prefix_len() > 0 {
                matches.push(Match::Net { end: peer, not: false, nets: vec![net.trunc()] });
            }
        }
        let ranges = vec![felix_message::PortRange { first: f.port, last: f.port }];
        matches.push(Match::Ports { end, not: false, ranges });
        Some(Rule::when(matches, Action::Accept))
    };
    let mut out: Vec<Rule> = own.iter().filter_map(|f| rule(f, End::Dst)).collect();
    if table == Table::Raw {
        out.extend(other.iter().filter_map(|f| rule(f, End::Src)));
    }
    out
}

/// The chain that masquerades traffic of pools with `natOutgoing` to destinations outside all pools.
#[must_use]
pub fn nat_outgoing(family: Family, config: &Config, any_pool: bool) -> Chain {
    if !any_pool {
        return Chain::default();
    }
    let mut matches = vec![
        Match::Set { end: End::Src, not: false, set: MASQUERADE_POOLS },
        Match::Set { end: End::Dst, not: true, set: ALL_POOLS },
    ];
    if config.nat_exclude_hosts {
        matches.push(Match::Set { end: End::Dst, not: true, set: ALL_HOSTS });
    }
    if let Some(interface) = &config.nat_outgoing_interface {
        matches.push(Match::OutInterface(interface.as_str().into()));
    }
    let to = config.nat_outgoing_address.filter(|_| family == Family::V4);
    let action = |ports| match to {
        Some(to) => Action::Snat { to: to.into(), ports },
        None => Action::Masquerade { ports },
    };
    let Some(ports) = config.nat_port_range else {
        return Chain::new(vec![Rule::when(matches, action(None))]);
    };
    // Only protocols with ports can be given one.
    let mut rules = Vec::new();
    for number in [6, 17] {
        let mut with = vec![Match::Protocol { not: false, number }];
        with.extend(matches.iter().cloned());
        rules.push(Rule::when(with, action(Some(ports))));
    }
    rules.push(Rule::when(matches, action(None)));
    Chain::new(rules)
}

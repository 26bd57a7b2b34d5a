//! A rule as `nft list` prints it (counters left out).
//!
//! The text is the rule's identity: its hash stands in the kernel beside the rule, and a restart compares hashes. It is
//! also what dumps show and what tests compare with upstream's listing. Always holds: two rules with one text in one
//! family do the same.

use std::fmt::Write as _;

use felix_message::PortRange;
use ipnet::IpNet;

use crate::config::Marks;
use crate::render::{lower, names};
use crate::rule::{Action, End, Family, Match, Rule, Table, ct_state};

/// Texts of rules, as nftables has them.
#[must_use]
pub fn rules(rules: &[Rule], table: Table, family: Family, marks: &Marks) -> Vec<String> {
    lower::lower(rules, marks).iter().map(|r| rule(r, table, family)).collect()
}

/// Text of one lowered rule.
#[must_use]
pub fn rule(rule: &Rule, table: Table, family: Family) -> String {
    let mut out = String::with_capacity(96);
    let mut protocol = None;
    // The listing shows a protocol only where no port says it.
    let implied = rule.matches.iter().any(|m| matches!(m, Match::Ports { .. } | Match::Icmp { .. }));
    for m in &rule.matches {
        if let Match::Protocol { not: false, number } = m {
            protocol = Some(*number);
            if implied {
                continue;
            }
        }
        condition(&mut out, m, family, protocol);
        out.push(' ');
    }
    action(&mut out, &rule.action, table, family);
    out
}

fn condition(out: &mut String, m: &Match, family: Family, protocol: Option<u8>) {
    let ip = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    // Writing into a String cannot fail.
    let _ = match m {
        Match::Mark { value, mask } => write!(out, "meta mark & {mask:#010x} == {value:#010x}"),
        Match::CtState(bits) => write!(out, "ct state {}", states(*bits)),
        Match::CtDnat { not } => write!(out, "ct status {}dnat", if *not { "! " } else { "" }),
        Match::InInterface(name) => write!(out, "iifname \"{}\"", name.replace('+', "*")),
        Match::OutInterface(name) => write!(out, "oifname \"{}\"", name.replace('+', "*")),
        Match::Protocol { not, number } => {
            write!(out, "meta l4proto {}{}", negation(*not), protocol_name(*number))
        }
        Match::Net { end, not, nets } => {
            write!(out, "{ip} {} {}{}", addr(*end), negation(*not), net_list(nets))
        }
        Match::Set { end, not, set } => {
            write!(out, "{ip} {} {}@{}", addr(*end), negation(*not), names::set(family, set))
        }
        Match::PortSet { end, not, set } => write!(
            out,
            "{ip} {} . meta l4proto . th {} {}@{}",
            addr(*end),
            port(*end),
            negation(*not),
            names::set(family, set)
        ),
        Match::Ports { end, not, ranges } => {
            let proto = protocol.map_or_else(|| "th".to_owned(), protocol_name);
            write!(out, "{proto} {} {}{}", port(*end), negation(*not), port_list(ranges))
        }
        Match::AnyPort { end, not, protocol, ranges, sets } => {
            let sets: Vec<String> = sets.iter().map(|s| names::set(family, s)).collect();
            let (proto, ports) = (protocol_name(*protocol), port_list(ranges));
            write!(out, "{proto} {} {}{ports} or @{}", port(*end), negation(*not), sets.join(" or @"))
        }
        Match::Icmp { not, icmp_type, code } => {
            let name = match family {
                Family::V4 => "icmp",
                Family::V6 => "icmpv6",
            };
            match code {
                None => write!(out, "{name} type {}{icmp_type}", negation(*not)),
                Some(c) if *not => write!(out, "@th,0,16 != {:#06x}", u16::from_be_bytes([*icmp_type, *c])),
                Some(c) => write!(out, "{name} type {icmp_type} {name} code {c}"),
            }
        }
        Match::Local { end, not } => write!(out, "fib {} type {}local", addr(*end), negation(*not)),
        Match::Limit(l) => {
            write!(out, "limit rate {}/{} burst {} packets", l.packets, l.unit.name(), l.burst)
        }
        Match::ReversePathFails => write!(out, "fib saddr . mark . iif oif 0"),
    };
}

fn action(out: &mut String, action: &Action, table: Table, family: Family) {
    let table = table.name();
    let _ = match action {
        Action::Accept => write!(out, "accept"),
        Action::Drop => write!(out, "drop"),
        Action::Reject => write!(out, "reject"),
        Action::Return => write!(out, "return"),
        Action::Jump(chain) => write!(out, "jump {table}-{chain}"),
        Action::Goto(chain) => write!(out, "goto {table}-{chain}"),
        Action::Mark { clear, set: 0 } => write!(out, "meta mark set meta mark & {:#010x}", !clear),
        Action::Mark { clear: 0, set } => write!(out, "meta mark set meta mark | {set:#010x}"),
        Action::Mark { clear, set } => {
            write!(out, "meta mark set meta mark & {:#010x} | {set:#010x}", !(clear & !set))
        }
        Action::Log { prefix } => write!(out, "log prefix \"{prefix}\" level info"),
        Action::NoTrack => write!(out, "notrack"),
        Action::Masquerade { ports } => {
            write!(
                out,
                "masquerade{} fully-random",
                ports.map_or_else(String::new, |p| format!(" to :{}", range(&p)))
            )
        }
        Action::Snat { to, ports } => {
            let ports = ports.map_or_else(String::new, |p| format!(":{}", range(&p)));
            match family {
                Family::V4 => write!(out, "snat to {to}{ports} fully-random"),
                Family::V6 => write!(out, "snat to [{to}]{ports} fully-random"),
            }
        }
        Action::Dnat { to } => write!(out, "dnat to {to}"),
        Action::DispatchIn(map) => write!(out, "iifname vmap @{table}-{map}"),
        Action::DispatchOut(map) => write!(out, "oifname vmap @{table}-{map}"),
    };
}

fn negation(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}

fn addr(end: End) -> &'static str {
    match end {
        End::Src => "saddr",
        End::Dst => "daddr",
    }
}

fn port(end: End) -> &'static str {
    match end {
        End::Src => "sport",
        End::Dst => "dport",
    }
}

fn states(bits: u32) -> String {
    let all = [
        (ct_state::INVALID, "invalid"),
        (ct_state::ESTABLISHED, "established"),
        (ct_state::RELATED, "related"),
        (ct_state::UNTRACKED, "untracked"),
    ];
    let words: Vec<&str> = all.iter().filter(|(b, _)| bits & b != 0).map(|(_, w)| *w).collect();
    words.join(",")
}

/// Names that the listing uses for protocols.
fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        4 => "ipencap".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        136 => "udplite".to_owned(),
        n => n.to_string(),
    }
}

fn range(r: &PortRange) -> String {
    if r.first == r.last { r.first.to_string() } else { format!("{}-{}", r.first, r.last) }
}

fn port_list(ranges: &[PortRange]) -> String {
    list(ranges.iter().map(range).collect())
}

fn net_list(nets: &[IpNet]) -> String {
    let one = |n: &IpNet| {
        if n.prefix_len() == n.max_prefix_len() { n.addr().to_string() } else { n.to_string() }
    };
    list(nets.iter().map(one).collect())
}

fn list(mut items: Vec<String>) -> String {
    match items.len() {
        1 => items.remove(0),
        _ => format!("{{ {} }}", items.join(", ")),
    }
}

//! What happens to a packet, and which rule decides: the meaning of the messages, without a kernel.
//!
//! In come a [`Mirror`] and a packet at one of this host's workload endpoints, out goes a verdict with the place that
//! decided it. It reads the messages as a dataplane has to: tiers in order, a tier without a policy for the direction
//! is skipped, the tier's default action at its end, then profiles, then denial. Staged policies decide nothing.
//!
//! Left out: connection tracking (the packet is a connection's first), host endpoints, natting.

use std::net::IpAddr;

use felix_message::{
    Action, Icmp, IpSetId, IpSetMember, PortRange, Rule, Side, TierDefaultAction, TierInfo, WorkloadEndpoint,
};
use ipnet::IpNet;
use libcalico_model::key::PolicyKey;

use crate::mirror::Mirror;

/// A connection's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// Zero where the protocol has none.
    pub src_port: u16,
    pub dst_port: u16,
    /// Type and code.
    pub icmp: Option<(u8, u8)>,
}

/// Direction, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The endpoint is not active: no traffic.
    Inactive,
    /// A rule, counted from 0.
    PolicyRule {
        policy: PolicyKey,
        rule: usize,
    },
    /// The end of a tier in which policies apply.
    TierDefault {
        tier: String,
    },
    ProfileRule {
        profile: String,
        rule: usize,
    },
    /// No profile allowed it.
    NoProfile,
}

/// Whether the packet passes, and what decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub decision: Decision,
}

impl Packet {
    fn source(&self) -> (IpAddr, u16) {
        (self.src, self.src_port)
    }

    fn destination(&self) -> (IpAddr, u16) {
        (self.dst, self.dst_port)
    }
}

/// Decides about a packet at a workload endpoint.
#[must_use]
pub fn workload(mirror: &Mirror, endpoint: &WorkloadEndpoint, dir: Direction, packet: &Packet) -> Verdict {
    let verdict = |allowed, decision| Verdict { allowed, decision };
    if !endpoint.active {
        return verdict(false, Decision::Inactive);
    }
    for tier in endpoint.tiers.iter() {
        match in_tier(mirror, tier, dir, packet) {
            TierResult::Next => {}
            TierResult::Decided(v) => return v,
        }
    }
    for name in &endpoint.profiles {
        let Some(profile) = mirror.profiles.get(name) else { continue };
        let rules = if dir == Direction::Ingress { &profile.inbound } else { &profile.outbound };
        for (i, rule) in rules.iter().enumerate().filter(|(_, r)| matches(mirror, r, packet)) {
            let decision = Decision::ProfileRule { profile: name.clone(), rule: i };
            match rule.action {
                Action::Allow => return verdict(true, decision),
                Action::Deny => return verdict(false, decision),
                Action::Pass => break,
                Action::Log => {}
            }
        }
    }
    verdict(false, Decision::NoProfile)
}

enum TierResult {
    Next,
    Decided(Verdict),
}

fn in_tier(mirror: &Mirror, tier: &TierInfo, dir: Direction, packet: &Packet) -> TierResult {
    let keys = if dir == Direction::Ingress { &tier.ingress } else { &tier.egress };
    let mut enforced = false;
    for key in keys.iter().filter(|k| !k.kind.staged()) {
        enforced = true;
        let Some(policy) = mirror.policies.get(key) else { continue };
        let rules = if dir == Direction::Ingress { &policy.inbound } else { &policy.outbound };
        for (i, rule) in rules.iter().enumerate().filter(|(_, r)| matches(mirror, r, packet)) {
            let decision = Decision::PolicyRule { policy: (**key).clone(), rule: i };
            match rule.action {
                Action::Allow => return TierResult::Decided(Verdict { allowed: true, decision }),
                Action::Deny => return TierResult::Decided(Verdict { allowed: false, decision }),
                Action::Pass => return TierResult::Next,
                Action::Log => {}
            }
        }
    }
    if !enforced || tier.default_action == TierDefaultAction::Pass {
        return TierResult::Next;
    }
    let decision = Decision::TierDefault { tier: tier.name.clone() };
    TierResult::Decided(Verdict { allowed: false, decision })
}

/// True where every match of the rule holds.
#[must_use]
pub fn matches(mirror: &Mirror, rule: &Rule, packet: &Packet) -> bool {
    let version = if packet.src.is_ipv4() { 4 } else { 6 };
    let number = |p: &libcalico_api::num_or_string::Protocol| p.number() == Some(packet.protocol);
    rule.ip_version.is_none_or(|v| v == version)
        && rule.protocol.as_ref().is_none_or(number)
        && !rule.not_protocol.as_ref().is_some_and(number)
        && rule.icmp.is_none_or(|i| icmp_matches(i, packet))
        && !rule.not_icmp.is_some_and(|i| icmp_matches(i, packet))
        && side_matches(mirror, &rule.src, packet.source(), packet.protocol)
        && side_matches(mirror, &rule.dst, packet.destination(), packet.protocol)
}

fn icmp_matches(icmp: Icmp, packet: &Packet) -> bool {
    packet.icmp.is_some_and(|(t, c)| t == icmp.icmp_type && icmp.code.is_none_or(|code| code == c))
}

fn side_matches(mirror: &Mirror, side: &Side, (addr, port): (IpAddr, u16), protocol: u8) -> bool {
    let within = |nets: &[IpNet]| nets.iter().any(|n| n.contains(&addr));
    // A rule with networks of the other family alone is a rule for that family, also where it excludes them.
    let of_family = |nets: &[IpNet]| nets.iter().any(|n| n.addr().is_ipv4() == addr.is_ipv4());
    let among = |ranges: &[PortRange]| ranges.iter().any(|r| r.first <= port && port <= r.last);
    let holds = |id: &IpSetId| contains(mirror, id, addr);
    let holds_port = |id: &IpSetId| {
        let set = mirror.ip_sets.get(id);
        set.is_some_and(|(_, members)| members.contains(&IpSetMember::IpPort(addr, protocol, port)))
    };
    (side.nets.is_empty() || within(&side.nets))
        && (side.not_nets.is_empty() || of_family(&side.not_nets) && !within(&side.not_nets))
        && side.ip_sets.iter().all(holds)
        && !side.not_ip_sets.iter().any(holds)
        && side.ip_port_sets.iter().all(holds_port)
        && (side.ports.is_empty() && side.named_port_sets.is_empty()
            || among(&side.ports)
            || side.named_port_sets.iter().any(holds_port))
        && !among(&side.not_ports)
        && !side.not_named_port_sets.iter().any(holds_port)
}

fn contains(mirror: &Mirror, id: &IpSetId, addr: IpAddr) -> bool {
    let Some((_, members)) = mirror.ip_sets.get(id) else { return false };
    members.iter().any(|m| matches!(m, IpSetMember::Net(n) if n.contains(&addr)))
}

//! Rules of policies and profiles.
//!
//! In: a rule whose selectors are resolved into sets. Out: rules that set the accept, pass or drop bit and act on it, and
//! which of them tells of which rule by its counter.
//! Always holds: a rule that can never match in a family is left out of that family's chain; a rule whose networks are
//! all of the other family is such a rule (also where the networks are negated: upstream's reading of a rule that names
//! addresses of one family). Left out: which endpoint uses the chain.

use felix_message::{Action as RuleAction, PortRange, Rule as PolicyRule, Side};
use ipnet::IpNet;

use crate::config::{Config, DenyAction};
use crate::render::identity::{self, Owner};
use crate::render::names::Direction;
use crate::rule::{Action, Chain, End, Family, Match, Rule, SetName};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols whose header starts with ports: asked in turn where a rule names ports but no protocol.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// The chain of one direction of a policy or profile.
#[must_use]
pub fn chain(
    rules: &[PolicyRule],
    family: Family,
    config: &Config,
    (owner, direction): (&Owner, Direction),
) -> Chain {
    let mut out = Vec::with_capacity(rules.len() * 2);
    for (index, rule) in rules.iter().enumerate() {
        let prefix = || format!("{}: ", identity::log_prefix(&config.log_prefix, owner, direction, index));
        let log_prefix = if rule.action == RuleAction::Log { prefix() } else { String::new() };
        for matches in conditions(rule, family) {
            append(rule.action, matches, config, &log_prefix, &mut out);
        }
    }
    // Whoever jumped here looks at the mark anyway.
    if out.last().is_some_and(|r| r.action == Action::Return) {
        out.pop();
    }
    Chain::new(out)
}

/// For every rule of the policy, by its place: where in [`chain`] the rules stand whose counters together tell how often
/// it matched.
#[must_use]
pub fn counted(rules: &[PolicyRule], family: Family) -> Vec<Vec<usize>> {
    let mut at = 0;
    let mut out = Vec::with_capacity(rules.len());
    for rule in rules {
        // A Log rule is one; others mark the packet, then act on the mark.
        let each = if rule.action == RuleAction::Log { 1 } else { 2 };
        let alternatives = conditions(rule, family).len();
        out.push((0..alternatives).map(|n| at + n * each).collect());
        at += alternatives * each;
    }
    out
}

fn append(action: RuleAction, matches: Vec<Match>, config: &Config, log_prefix: &str, out: &mut Vec<Rule>) {
    let marks = &config.marks;
    let mut set = |matches, bit, then| {
        out.push(Rule::when(matches, Action::Mark { clear: 0, set: bit }));
        out.push(Rule::when(vec![Match::mark_set(bit)], then));
    };
    match action {
        RuleAction::Allow => set(matches, marks.accept, Action::Return),
        RuleAction::Pass => set(matches, marks.pass, Action::Return),
        RuleAction::Deny => set(matches, marks.drop, deny(config)),
        RuleAction::Log => {
            let mut matches = matches;
            matches.extend(config.log_limit.map(Match::Limit));
            out.push(Rule::when(matches, Action::Log { prefix: log_prefix.to_owned() }));
        }
    }
}

/// The configured way to deny.
#[must_use]
pub fn deny(config: &Config) -> Action {
    match config.filter_deny_action {
        DenyAction::Drop => Action::Drop,
        DenyAction::Reject => Action::Reject,
    }
}

/// The rule's conditions in one family, once for each protocol it has to be asked for. Empty: it cannot match.
fn conditions(rule: &PolicyRule, family: Family) -> Vec<Vec<Match>> {
    if rule.ip_version.is_some_and(|v| v != family.version()) {
        return Vec::new();
    }
    let protocol = match &rule.protocol {
        None => None,
        Some(p) => match p.number() {
            Some(n) => Some(n),
            None => {
                tracing::warn!(protocol = %p, rule = %rule.rule_id, "rule with an unknown protocol is left out");
                return Vec::new();
            }
        },
    };
    let wants_ports = has_ports(&rule.src) || has_ports(&rule.dst);
    match protocol {
        Some(n) => one(rule, family, Some(n)).into_iter().collect(),
        None if wants_ports => WITH_PORTS.iter().filter_map(|n| one(rule, family, Some(*n))).collect(),
        None => one(rule, family, None).into_iter().collect(),
    }
}

fn has_ports(side: &Side) -> bool {
    !side.ports.is_empty() || !side.not_ports.is_empty()
}

fn one(rule: &PolicyRule, family: Family, protocol: Option<u8>) -> Option<Vec<Match>> {
    let mut out = Vec::new();
    if let Some(number) = protocol {
        out.push(Match::Protocol { not: false, number });
    }
    if let Some(not) = &rule.not_protocol {
        // An unknown name excludes nothing that exists.
        if let Some(number) = not.number() {
            out.push(Match::Protocol { not: true, number });
        }
    }
    side(&rule.src, End::Src, family, protocol, &mut out)?;
    side(&rule.dst, End::Dst, family, protocol, &mut out)?;
    let own_icmp = match family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    };
    for (icmp, not) in [(rule.icmp, false), (rule.not_icmp, true)] {
        if let Some(icmp) = icmp {
            if protocol.is_some_and(|p| p != own_icmp) {
                return None;
            }
            out.push(Match::Icmp { not, icmp_type: icmp.icmp_type, code: icmp.code });
        }
    }
    Some(out)
}

/// `None`: the rule cannot match in this family.
fn side(side: &Side, end: End, family: Family, protocol: Option<u8>, out: &mut Vec<Match>) -> Option<()> {
    for (nets, not) in [(&side.nets, false), (&side.not_nets, true)] {
        if nets.is_empty() {
            continue;
        }
        let own: Vec<IpNet> = nets.iter().filter(|n| Family::of_net(n) == family).map(IpNet::trunc).collect();
        if own.is_empty() {
            return None;
        }
        let everything = own.iter().any(|n| n.prefix_len() == 0);
        match (everything, not) {
            (true, true) => return None,
            (true, false) => {}
            (false, _) => out.push(Match::Net { end, not, nets: own }),
        }
    }
    let calculated = |id: &felix_message::IpSetId| SetName::Calculated(id.clone());
    for (ids, not) in [(&side.ip_sets, false), (&side.not_ip_sets, true)] {
        out.extend(ids.iter().map(|id| Match::Set { end, not, set: calculated(id) }));
    }
    out.extend(side.ip_port_sets.iter().map(|id| Match::PortSet { end, not: false, set: calculated(id) }));
    ports(&side.ports, &side.named_port_sets, end, false, protocol, out);
    ports(&side.not_ports, &side.not_named_port_sets, end, true, protocol, out);
    Some(())
}

fn ports(
    ranges: &[PortRange],
    sets: &[felix_message::IpSetId],
    end: End,
    not: bool,
    protocol: Option<u8>,
    out: &mut Vec<Match>,
) {
    let sets: Vec<SetName> = sets.iter().map(|id| SetName::Calculated(id.clone())).collect();
    let ranges = merged(ranges);
    match (ranges.is_empty(), sets.len(), protocol) {
        (true, 0, _) => {}
        (true, 1, _) => {
            out.extend(sets.into_iter().map(|set| Match::PortSet { end, not, set }));
        }
        (false, 0, _) => out.push(Match::Ports { end, not, ranges }),
        (_, _, protocol) => {
            out.push(Match::AnyPort { end, not, protocol: protocol.unwrap_or(WITH_PORTS[0]), ranges, sets });
        }
    }
}

/// Sorted, disjoint, not even touching: what an nftables set of intervals takes.
fn merged(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted: Vec<PortRange> = ranges.iter().filter(|r| r.first <= r.last).copied().collect();
    sorted.sort_unstable();
    let mut out: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for r in sorted {
        match out.last_mut() {
            Some(last) if u32::from(r.first) <= u32::from(last.last) + 1 => last.last = last.last.max(r.last),
            _ => out.push(r),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use libcalico_api::num_or_string::Protocol;

    use super::*;
    use crate::render::text;

    fn render(rule: PolicyRule, family: Family) -> Vec<String> {
        let config = Config::default();
        let chain = chain(&[rule], family, &config, (&Owner::Profile("p".into()), Direction::Ingress));
        text::rules(&chain.rules, crate::rule::Table::Filter, family, &config.marks)
    }

    fn tcp() -> PolicyRule {
        PolicyRule { protocol: Some(Protocol::Name("TCP".to_owned())), ..PolicyRule::default() }
    }

    #[test]
    fn a_rule_of_the_other_family_is_left_out() {
        let mut rule = tcp();
        rule.src.nets = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(render(rule.clone(), Family::V4).len(), 1);
        assert!(render(rule, Family::V6).is_empty());
    }

    #[test]
    fn networks_of_both_families_are_parted() {
        let mut rule = tcp();
        rule.src.nets = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        assert_eq!(
            render(rule.clone(), Family::V6),
            ["meta l4proto tcp ip6 saddr fd00::/8 meta mark set meta mark | 0x00010000"]
        );
    }

    #[test]
    fn not_everything_is_nothing() {
        let mut rule = tcp();
        rule.dst.not_nets = vec!["0.0.0.0/0".parse().unwrap()];
        assert!(render(rule, Family::V4).is_empty());
    }

    #[test]
    fn both_protocol_and_not_protocol_may_be_given() {
        let rule = PolicyRule { not_protocol: Some(Protocol::Number(17)), ..tcp() };
        assert_eq!(
            render(rule, Family::V4),
            ["meta l4proto tcp meta l4proto != udp meta mark set meta mark | 0x00010000"]
        );
    }

    #[test]
    fn ports_that_touch_are_one_range() {
        let r = |first, last| PortRange { first, last };
        assert_eq!(merged(&[r(8000, 8080), r(80, 80), r(81, 90), r(85, 86)]), [r(80, 90), r(8000, 8080)]);
        assert_eq!(merged(&[r(1, 65535), r(65535, 65535)]), [r(1, 65535)]);
    }

    #[test]
    fn icmp_of_the_other_family_is_left_out() {
        let mut rule =
            PolicyRule { protocol: Some(Protocol::Name("ICMPv6".to_owned())), ..PolicyRule::default() };
        rule.icmp = Some(felix_message::Icmp { icmp_type: 128, code: Some(0) });
        assert!(render(rule.clone(), Family::V4).is_empty());
        assert_eq!(
            render(rule, Family::V6),
            ["icmpv6 type 128 icmpv6 code 0 meta mark set meta mark | 0x00010000"]
        );
    }

    #[test]
    fn ports_without_a_protocol_are_asked_for_each_that_has_ports() {
        let mut rule = PolicyRule { action: RuleAction::Deny, ..PolicyRule::default() };
        rule.dst.ports = vec![PortRange { first: 53, last: 53 }];
        let text = render(rule, Family::V4).join("\n");
        for word in ["tcp dport 53", "udp dport 53", "sctp dport 53"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn every_rule_knows_where_its_counters_stand() {
        let mut ports = PolicyRule::default();
        ports.dst.ports = vec![PortRange { first: 53, last: 53 }];
        let log = PolicyRule { action: RuleAction::Log, ..PolicyRule::default() };
        let mut other = tcp();
        other.src.nets = vec!["fd00::/8".parse().unwrap()];
        let rules = [log, ports, other, tcp()];
        let config = Config::default();
        let chain = chain(&rules, Family::V4, &config, (&Owner::Profile("p".into()), Direction::Ingress));
        let counted = counted(&rules, Family::V4);
        assert_eq!(counted, [vec![0], vec![1, 3, 5], vec![], vec![7]]);
        for at in counted.into_iter().flatten() {
            let rule = &chain.rules[at];
            assert!(matches!(rule.action, Action::Log { .. } | Action::Mark { clear: 0, .. }), "{rule:?}");
        }
    }
}

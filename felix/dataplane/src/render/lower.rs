//! Takes rules apart that nftables cannot say in one.
//!
//! "Port in these ranges or in these sets" becomes a block of rules that collects its answer in a scratch bit of the
//! mark; the last rule asks for the bit. Upstream's rules have the same shape. "Destination is not translated" becomes
//! two rules, since the kernel's question about a connection holds for no packet that has none. A list of few networks or
//! ports becomes as many rules, of which at most one matches a packet. Always holds: other rules pass through untouched.

use std::borrow::Cow;
use std::ops::Range;

use ipnet::IpNet;

use crate::config::Marks;
use crate::rule::{Action, Match, Rule, Table, ct_state};

/// The rules as nftables takes them.
#[must_use]
pub fn lower<'a>(rules: &'a [Rule], marks: &Marks) -> Vec<Cow<'a, Rule>> {
    let mut out = Vec::with_capacity(rules.len());
    for rule in rules {
        if rule.matches.iter().any(|m| matches!(m, Match::AnyPort { .. })) {
            lower_blocks(rule, marks, &mut out);
        } else if rule.matches.iter().any(|m| matches!(m, Match::CtDnat { not: true })) {
            // A packet without a connection (invalid, untracked) has no translation either.
            let matches = rule.matches.iter().map(|m| match m {
                Match::CtDnat { not: true } => Match::CtState(ct_state::INVALID | ct_state::UNTRACKED),
                other => other.clone(),
            });
            out.push(Cow::Owned(Rule { matches: matches.collect(), action: rule.action.clone() }));
            out.push(Cow::Borrowed(rule));
        } else {
            out.push(Cow::Borrowed(rule));
        }
    }
    out
}

/// The rules as they stand in the kernel: a rejection in another table than filter only drops (there are hooks in which
/// the kernel takes none), and short lists of networks and ports are spread over several rules. The kernel
/// finds a set by looking through all sets of a table, so that ten thousand lists of two ports would take it a minute.
#[must_use]
pub fn programmed(rules: &[Rule], table: Table, marks: &Marks) -> Vec<Rule> {
    let mut out = Vec::with_capacity(rules.len());
    for rule in lower(rules, marks) {
        spread(&rule, &mut out);
    }
    if table != Table::Filter {
        for rule in out.iter_mut().filter(|r| r.action == Action::Reject) {
            rule.action = Action::Drop;
        }
    }
    out
}

/// For each rule: where among [`programmed`]'s those stand that act for it.
#[must_use]
pub fn ends(rules: &[Rule], marks: &Marks) -> Vec<Range<usize>> {
    let mut behind = 0;
    let each = rules.iter().map(|r| {
        let mut last = 0;
        for lowered in lower(std::slice::from_ref(r), marks) {
            let mut parts = Vec::new();
            spread(&lowered, &mut parts);
            last = parts.len();
            behind += last;
        }
        behind - last..behind
    });
    each.collect()
}

/// Most rules that one becomes by its short lists.
const MOST_PARTS: usize = 4;

/// A condition as several of which exactly one holds where it holds; negated, as several that all have to hold.
fn parts(m: &Match) -> Option<Vec<Match>> {
    match m {
        Match::Ports { end, not, ranges } if ranges.len() > 1 => {
            Some(ranges.iter().map(|r| Match::Ports { end: *end, not: *not, ranges: vec![*r] }).collect())
        }
        Match::Net { end, not, nets } if nets.len() > 1 => {
            // Without overlap: a packet is in one of them.
            let nets = IpNet::aggregate(nets);
            Some(nets.into_iter().map(|n| Match::Net { end: *end, not: *not, nets: vec![n] }).collect())
        }
        _ => None,
    }
}

fn is_negated(m: &Match) -> bool {
    matches!(m, Match::Ports { not: true, .. } | Match::Net { not: true, .. })
}

fn spread(rule: &Rule, out: &mut Vec<Rule>) {
    // Each of several would have the limit for itself.
    if rule.matches.iter().any(|m| matches!(m, Match::Limit(_))) {
        out.push(rule.clone());
        return;
    }
    let mut rules =
        vec![Rule { matches: Vec::with_capacity(rule.matches.len()), action: rule.action.clone() }];
    for m in &rule.matches {
        match parts(m) {
            Some(parts) if is_negated(m) && parts.len() <= MOST_PARTS => {
                rules.iter_mut().for_each(|r| r.matches.extend(parts.iter().cloned()));
            }
            Some(parts) if !is_negated(m) && rules.len() * parts.len() <= MOST_PARTS => {
                let with = |r: &Rule, part: &Match| {
                    let mut r = r.clone();
                    r.matches.push(part.clone());
                    r
                };
                rules =
                    rules.iter().flat_map(|r| parts.iter().map(|p| with(r, p)).collect::<Vec<_>>()).collect();
            }
            _ => rules.iter_mut().for_each(|r| r.matches.push(m.clone())),
        }
    }
    out.append(&mut rules);
}

fn lower_blocks<'a>(rule: &'a Rule, marks: &Marks, out: &mut Vec<Cow<'a, Rule>>) {
    let Marks { scratch0: all, scratch1: this, .. } = *marks;
    let mut push = |matches, action| out.push(Cow::Owned(Rule { matches, action }));
    push(Vec::new(), Action::Mark { clear: all | this, set: 0 });
    let mut rest = Vec::new();
    let mut first = true;
    for m in &rule.matches {
        match m {
            // Outside a union means outside each part: no block needed.
            Match::AnyPort { end, not: true, ranges, sets, .. } => {
                if !ranges.is_empty() {
                    rest.push(Match::Ports { end: *end, not: true, ranges: ranges.clone() });
                }
                rest.extend(sets.iter().map(|s| Match::PortSet { end: *end, not: true, set: s.clone() }));
            }
            Match::AnyPort { end, not: false, protocol, ranges, sets } => {
                let bit = if first { all } else { this };
                if !first {
                    push(Vec::new(), Action::Mark { clear: this, set: 0 });
                }
                if !ranges.is_empty() {
                    push(
                        vec![
                            Match::Protocol { not: false, number: *protocol },
                            Match::Ports { end: *end, not: false, ranges: ranges.clone() },
                        ],
                        Action::Mark { clear: 0, set: bit },
                    );
                }
                for set in sets {
                    push(
                        vec![Match::PortSet { end: *end, not: false, set: set.clone() }],
                        Action::Mark { clear: 0, set: bit },
                    );
                }
                if !first {
                    push(vec![Match::mark_clear(this)], Action::Mark { clear: all, set: 0 });
                }
                first = false;
            }
            other => rest.push(other.clone()),
        }
    }
    if !first {
        rest.push(Match::mark_set(all));
    }
    push(rest, rule.action.clone());
}

#[cfg(test)]
mod tests {
    use felix_message::PortRange;

    use super::*;
    use crate::rule::{End, SetName};

    fn any(end: End, not: bool) -> Match {
        let set = |n: &str| SetName::Calculated(n.into());
        let ranges = vec![PortRange { first: 80, last: 80 }];
        Match::AnyPort { end, not, protocol: 6, ranges, sets: vec![set("n:a")] }
    }

    #[test]
    fn the_second_union_clears_the_bit_when_no_alternative_holds() {
        let rule = Rule::when(vec![any(End::Src, false), any(End::Dst, false)], Action::Accept);
        let lowered = lower(std::slice::from_ref(&rule), &Marks::default());
        let actions: Vec<_> = lowered.iter().map(|r| r.action.clone()).collect();
        let mark = |clear, set| Action::Mark { clear, set };
        let (all, this) = (0x8_0000, 0x10_0000);
        assert_eq!(
            actions,
            [
                mark(all | this, 0),
                mark(0, all),
                mark(0, all),
                mark(this, 0),
                mark(0, this),
                mark(0, this),
                mark(all, 0),
                Action::Accept
            ]
        );
        assert_eq!(lowered[7].matches, [Match::mark_set(all)]);
    }

    fn lists(not: bool, ports: &[u16], nets: &[&str]) -> Rule {
        let ranges = ports.iter().map(|p| PortRange { first: *p, last: *p }).collect();
        let nets = nets.iter().map(|n| n.parse().unwrap()).collect();
        let matches =
            vec![Match::Net { end: End::Src, not, nets }, Match::Ports { end: End::Dst, not, ranges }];
        Rule::when(matches, Action::Accept)
    }

    #[test]
    fn a_short_list_is_several_rules_and_its_negation_several_conditions() {
        let marks = Marks::default();
        let both = [lists(false, &[80, 443], &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"])];
        let rules = programmed(&both, Table::Filter, &marks);
        assert_eq!(rules.len(), 4, "two networks remain of three, each with each port");
        assert!(rules.iter().all(|r| r.matches.len() == 2 && parts(&r.matches[0]).is_none()));
        assert_eq!(ends(&both, &marks).first(), Some(&(0..4)));
        let not =
            programmed(&[lists(true, &[80, 443], &["10.0.0.0/8", "192.0.2.0/24"])], Table::Filter, &marks);
        assert_eq!((not.len(), not[0].matches.len()), (1, 4));
        let long = [lists(false, &[1, 3, 5, 7, 9], &["10.0.0.0/8"]), lists(false, &[80], &["10.0.0.0/8"])];
        assert_eq!(programmed(&long, Table::Filter, &marks), long);
        assert_eq!(ends(&long, &marks), [0..1, 1..2]);
    }

    #[test]
    fn outside_a_union_is_outside_each_part() {
        let rule = Rule::when(vec![any(End::Dst, true)], Action::Drop);
        let lowered = lower(std::slice::from_ref(&rule), &Marks::default());
        assert_eq!(lowered.last().map(|r| r.matches.len()), Some(2));
    }
}

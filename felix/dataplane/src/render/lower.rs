//! Takes rules apart that nftables cannot say in one.
//!
//! "Port in these ranges or in these sets" becomes a block of rules that collects its answer in a scratch bit of the
//! mark; the last rule asks for the bit. Upstream's rules have the same shape. "Destination is not translated" becomes
//! two rules, since the kernel's question about a connection holds for no packet that has none. Always holds: other
//! rules pass through untouched.

use std::borrow::Cow;

use crate::config::Marks;
use crate::rule::{Action, Match, Rule, ct_state};

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

/// For each rule: where among [`lower`]'s the one stands that acts for it.
#[must_use]
pub fn ends(rules: &[Rule], marks: &Marks) -> Vec<usize> {
    let mut behind = 0;
    let each = rules.iter().map(|r| {
        behind += lower(std::slice::from_ref(r), marks).len();
        behind - 1
    });
    each.collect()
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

    #[test]
    fn outside_a_union_is_outside_each_part() {
        let rule = Rule::when(vec![any(End::Dst, true)], Action::Drop);
        let lowered = lower(std::slice::from_ref(&rule), &Marks::default());
        assert_eq!(lowered.last().map(|r| r.matches.len()), Some(2));
    }
}

//! Names that tell a policy, and a rule of it, apart in logs and counters.
//!
//! In: the policy's or profile's key, the rule's place and action. Out: the text of a Log rule's prefix, and the prefix
//! by which flow logs will know a verdict: `AOD|…` as upstream's, the same bytes. Always holds: two rules that stand at
//! one time have two prefixes.

use std::sync::Arc;

use libcalico_model::key::PolicyKey;

use super::names::{self, Direction};
use felix_message::Action;

/// Longest prefix that the kernel hands on whole, its closing zero not counted.
const MAX_PREFIX: usize = 63;
/// What stays of each end of a prefix that is too long.
const KEPT: usize = 10;

/// Whose rules they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Policy { key: PolicyKey, tier: Arc<str> },
    Profile(Arc<str>),
}

impl Owner {
    /// `gnp/name`, `np/namespace/name`; a profile by its name.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Policy { key, .. } => names::policy_id(key),
            Self::Profile(name) => name.to_string(),
        }
    }

    /// Namespace, empty where there is none, and name.
    #[must_use]
    pub fn namespace_and_name(&self) -> (&str, &str) {
        match self {
            Self::Policy { key, .. } => (&key.namespace, &key.name),
            Self::Profile(name) => ("", name),
        }
    }

    /// The tier; a profile stands behind all of them.
    #[must_use]
    pub fn tier(&self) -> &str {
        match self {
            Self::Policy { tier, .. } => tier,
            Self::Profile(_) => "",
        }
    }

    /// Short name of the kind: `gnp`, `np`, …, `pro` for profiles.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Policy { key, .. } => key.kind.short_name(),
            Self::Profile(_) => "pro",
        }
    }
}

/// The prefix of a Log rule: `%t` tier, `%k` kind, `%n` name, `%p` namespace and name, as upstream's; `%r` the rule, as
/// flow logs know it ([`rule_prefix`]); anything else as it is written.
#[must_use]
pub fn log_prefix(format: &str, owner: &Owner, direction: Direction, index: usize) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        let (namespace, name) = owner.namespace_and_name();
        match (c, rest.peek()) {
            ('%', Some('t')) => out.push_str(owner.tier()),
            ('%', Some('k')) => out.push_str(owner.kind()),
            ('%', Some('n')) => out.push_str(name),
            ('%', Some('r')) => out.push_str(&rule_prefix(Action::Log, owner, direction, index)),
            ('%', Some('p')) if namespace.is_empty() => out.push_str(name),
            ('%', Some('p')) => {
                out.push_str(namespace);
                out.push('/');
                out.push_str(name);
            }
            _ => {
                out.push(c);
                continue;
            }
        }
        rest.next();
    }
    out
}

fn action_letter(action: Action) -> char {
    match action {
        Action::Allow => 'A',
        Action::Deny => 'D',
        Action::Pass => 'P',
        Action::Log => 'L',
    }
}

fn direction_letter(direction: Direction) -> char {
    match direction {
        Direction::Ingress => 'I',
        Direction::Egress => 'E',
    }
}

/// The prefix of a rule's verdict: action, owner's kind, direction, place, `|`, identity.
#[must_use]
pub fn rule_prefix(action: Action, owner: &Owner, direction: Direction, index: usize) -> String {
    let kind = match owner {
        Owner::Policy { .. } => 'P',
        Owner::Profile(_) => 'R',
    };
    let (action, direction) = (action_letter(action), direction_letter(direction));
    limited(format!("{action}{kind}{direction}{index}|{}", owner.id()))
}

/// Where it is too long: the first ten bytes, a hash of all, `_`, the last ten.
fn limited(prefix: String) -> String {
    if prefix.len() < MAX_PREFIX {
        return prefix;
    }
    let head = prefix.char_indices().map(|(n, _)| n).take_while(|n| *n <= KEPT).last().unwrap_or(0);
    let tail = prefix.char_indices().map(|(n, _)| n).find(|n| *n >= prefix.len() - KEPT);
    let hash = names::limited("", &prefix, MAX_PREFIX - 2 * KEPT - 1);
    format!("{}{hash}_{}", &prefix[..head], &prefix[tail.unwrap_or(prefix.len())..])
}

#[cfg(test)]
mod tests {
    use libcalico_model::PolicyKind;

    use super::*;

    fn policy(namespace: &str, name: &str) -> Owner {
        let kind =
            if namespace.is_empty() { PolicyKind::GlobalNetworkPolicy } else { PolicyKind::NetworkPolicy };
        let key = PolicyKey { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        Owner::Policy { key, tier: "security".into() }
    }

    #[test]
    fn a_log_prefix_names_tier_kind_and_policy() {
        let format = "x %t %k %n %p 100% %z";
        let log_prefix = |format, owner: &Owner| log_prefix(format, owner, Direction::Egress, 2);
        assert_eq!(log_prefix(format, &policy("", "deny")), "x security gnp deny deny 100% %z");
        assert_eq!(log_prefix("%p", &policy("ns", "deny")), "ns/deny");
        assert_eq!(log_prefix("%k/%p%t", &Owner::Profile("kns.default".into())), "pro/kns.default");
        assert_eq!(log_prefix("%r", &policy("ns", "deny")), "LPE2|np/ns/deny");
        assert_eq!(log_prefix("%", &policy("", "p")), "%");
    }

    #[test]
    fn a_verdicts_prefix_says_action_owner_direction_and_place() {
        use Direction::{Egress, Ingress};
        assert_eq!(rule_prefix(Action::Deny, &policy("", "deny"), Ingress, 3), "DPI3|gnp/deny");
        assert_eq!(rule_prefix(Action::Allow, &policy("ns", "web"), Egress, 0), "APE0|np/ns/web");
        assert_eq!(rule_prefix(Action::Pass, &Owner::Profile("kns.x".into()), Ingress, 1), "PRI1|kns.x");
    }

    #[test]
    fn a_long_prefix_keeps_its_ends_and_fits() {
        for name in ["x".repeat(60), "ü".repeat(60)] {
            let prefix = rule_prefix(Action::Deny, &policy("", &name), Direction::Ingress, 12);
            assert!(prefix.len() <= MAX_PREFIX, "{prefix}");
            assert!(prefix.starts_with("DPI12|gnp"), "{prefix}");
        }
        let other = rule_prefix(Action::Deny, &policy("", &"x".repeat(61)), Direction::Ingress, 12);
        assert_ne!(other, rule_prefix(Action::Deny, &policy("", &"x".repeat(60)), Direction::Ingress, 12));
    }
}

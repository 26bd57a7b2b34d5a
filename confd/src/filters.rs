//! BGPFilter objects as functions of BIRD's filter language.
//!
//! In comes a filter's rules for one direction and family; out goes a [`FilterFunction`], one statement a rule. Rules
//! are tried in order; the first that matches accepts or rejects; a route that no rule matches goes on to what the
//! caller does by default. A rule that cannot be said in BIRD (a malformed prefix, an interface with a quote) is left
//! out with a warning.

use std::fmt::Write as _;

use libcalico_api::bgp_filter::{
    Action, BGPFilter, BGPFilterRule, MatchOperator, Operation, PeerType, PrefixLength, Source,
};
use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, parse_network};
use serde::Serialize;
use tracing::warn;

use crate::bird_text::{INT_MAX, community, filter_function, quoted};

/// What a filter is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Import,
    Export,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Export => "export",
        }
    }
}

/// A function of BIRD's language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterFunction {
    /// The quoted symbol.
    pub name: String,
    /// It takes `bool is_same_as`, true for internal peers.
    pub by_peer_type: bool,
    pub statements: Vec<String>,
}

/// The function of one filter, `None` where it has no rules for the direction and family.
#[must_use]
pub fn function(filter: &BGPFilter, direction: Direction, family: Family) -> Option<FilterFunction> {
    let rules = rules(filter, direction, family);
    if rules.is_empty() {
        return None;
    }
    let suffix = if family == Family::V4 { "V4" } else { "V6" };
    let Some(name) = filter_function(filter.name(), direction.word(), suffix) else {
        warn!(filter = filter.name(), "BGPFilter ignored: its name is no symbol of BIRD");
        return None;
    };
    let statements = rules
        .iter()
        .filter_map(|rule| {
            let text = statement(rule, family);
            if text.is_none() {
                warn!(filter = filter.name(), ?rule, "rule of BGPFilter left out: it cannot be said in BIRD");
            }
            text
        })
        .collect();
    Some(FilterFunction { name, by_peer_type: rules.iter().any(|r| r.peer_type.is_some()), statements })
}

fn rules(filter: &BGPFilter, direction: Direction, family: Family) -> &[BGPFilterRule] {
    match (direction, family) {
        (Direction::Import, Family::V4) => &filter.spec.import_v4,
        (Direction::Import, Family::V6) => &filter.spec.import_v6,
        (Direction::Export, Family::V4) => &filter.spec.export_v4,
        (Direction::Export, Family::V6) => &filter.spec.export_v6,
    }
}

/// `if (net ~ 10.0.0.0/8 && source = RTS_BGP) then { reject; }`
fn statement(rule: &BGPFilterRule, family: Family) -> Option<String> {
    let conditions = conditions(rule, family)?;
    let mut actions = String::new();
    for operation in &rule.operations {
        actions.push_str(&operation_text(operation)?);
    }
    actions.push_str(match rule.action? {
        Action::Accept => "accept;",
        Action::Reject => "reject;",
    });
    Some(if conditions.is_empty() {
        actions
    } else {
        format!("if ({}) then {{ {actions} }}", conditions.join(" && "))
    })
}

fn conditions(rule: &BGPFilterRule, family: Family) -> Option<Vec<String>> {
    let mut all = Vec::new();
    match rule.peer_type {
        Some(PeerType::IBGP) => all.push("is_same_as".to_owned()),
        Some(PeerType::EBGP) => all.push("!is_same_as".to_owned()),
        None => {}
    }
    if let Some(cidr) = rule.cidr.as_deref() {
        let net = parse_network(cidr).ok().filter(|n| Family::of_net(*n) == family)?;
        all.push(net_condition(net, rule.match_operator?, rule.prefix_length.as_ref())?);
    }
    if rule.source == Some(Source::RemotePeers) {
        all.push("source = RTS_BGP".to_owned());
    }
    if let Some(interface) = rule.interface.as_deref().filter(|i| !i.is_empty()) {
        all.push(format!("defined(ifname) && ifname ~ {}", quoted(interface)?));
    }
    if let Some(communities) = &rule.communities {
        for value in &communities.values {
            let (attribute, literal) = community(value)?;
            all.push(format!("{literal} ~ {attribute}"));
        }
    }
    if !rule.as_path_prefix.is_empty() {
        let mut path = String::new();
        for number in &rule.as_path_prefix {
            let _ = write!(path, "{number} ");
        }
        all.push(format!("bgp_path ~ [= {path}* =]"));
    }
    if let Some(priority) = rule.priority {
        all.push(format!("defined(bgp_local_pref) && bgp_local_pref = {}", local_pref(priority)?));
    }
    Some(all)
}

fn net_condition(net: IpNet, operator: MatchOperator, length: Option<&PrefixLength>) -> Option<String> {
    let range = match length {
        None => net.to_string(),
        Some(length) => {
            let bound = |n: Option<i32>, default: u8| match n {
                None => Some(default),
                Some(n) => u8::try_from(n).ok().filter(|n| *n <= net.max_prefix_len()),
            };
            let (min, max) = (bound(length.min, net.prefix_len())?, bound(length.max, net.max_prefix_len())?);
            if min > max {
                return None;
            }
            format!("[ {net}{{{min},{max}}} ]")
        }
    };
    Some(match operator {
        MatchOperator::Equal => format!("net = {net}"),
        MatchOperator::NotEqual => format!("net != {net}"),
        MatchOperator::In => format!("net ~ {range}"),
        MatchOperator::NotIn => format!("net !~ {range}"),
    })
}

fn operation_text(operation: &Operation) -> Option<String> {
    if let Some(add) = &operation.add_community {
        let (attribute, literal) = community(add.value.as_deref()?)?;
        return Some(format!("{attribute}.add({literal}); "));
    }
    if let Some(prepend) = &operation.prepend_as_path {
        // The path grows at its front: the last number goes first.
        return Some(prepend.prefix.iter().rev().fold(String::new(), |mut text, number| {
            let _ = write!(text, "bgp_path.prepend({number}); ");
            text
        }));
    }
    let priority = operation.set_priority.as_ref()?.value?;
    Some(format!("bgp_local_pref = {}; ", local_pref(priority)?))
}

/// LOCAL_PREF that carries a route priority: the better priority is the lower number, the better preference the higher.
fn local_pref(priority: i32) -> Option<i64> {
    (priority >= 0).then(|| INT_MAX - i64::from(priority))
}

#[cfg(test)]
mod tests {
    use libcalico_api::bgp_filter::BGPFilterSpec;
    use libcalico_api::{Kind, Resource};

    use super::*;

    fn import_v4(rules: &str) -> Vec<String> {
        let json = format!(r#"{{"metadata":{{"name":"f"}},"spec":{{"importV4":{rules}}}}}"#);
        let resource = Resource::from_json(Kind::BGPFilter, json.as_bytes()).unwrap();
        let filter: &BGPFilter = (&resource).try_into().unwrap();
        function(filter, Direction::Import, Family::V4).unwrap().statements
    }

    #[test]
    fn a_rule_without_match_is_its_action() {
        assert_eq!(import_v4(r#"[{"action":"Reject"}]"#), ["reject;"]);
    }

    #[test]
    fn prefix_lengths_bound_a_range() {
        assert_eq!(
            import_v4(
                r#"[{"cidr":"10.0.0.0/8","matchOperator":"NotIn","prefixLength":{"max":24},"action":"Reject"}]"#
            ),
            ["if (net !~ [ 10.0.0.0/8{8,24} ]) then { reject; }"]
        );
    }

    #[test]
    fn a_prefix_of_the_other_family_leaves_the_rule_out() {
        assert!(import_v4(r#"[{"cidr":"fd00::/8","matchOperator":"In","action":"Accept"}]"#).is_empty());
    }

    #[test]
    fn an_interface_with_a_quote_leaves_the_rule_out() {
        assert!(import_v4(r#"[{"interface":"a\") then accept; #","action":"Accept"}]"#).is_empty());
    }

    #[test]
    fn a_filter_without_rules_has_no_function() {
        let filter = BGPFilter { spec: BGPFilterSpec::default(), ..BGPFilter::default() };
        assert!(function(&filter, Direction::Export, Family::V6).is_none());
    }
}

//! Completes selectors with namespaces and service accounts: Felix knows labels of endpoints alone, so a namespace's
//! labels are matched as `pcns.…` and a service account's as `pcsa.…`, which endpoints inherit from their profiles.

use std::collections::BTreeMap;

use libcalico_api::rule::EntityRule;
pub use libcalico_api::workload_endpoint::{NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL};
use libcalico_selector::Selector;
use libcalico_selector::ast::Node;

/// Before labels that come from a namespace.
const NAMESPACE_PREFIX: &str = "pcns.";
/// Before labels that come from a service account.
const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// Labels that something in a namespace may have of its own: who labels a pod does not say by that in whose namespace it
/// is, nor whose account it has.
pub fn own_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pretends =
        |name: &str| name.starts_with(NAMESPACE_PREFIX) || name.starts_with(SERVICE_ACCOUNT_PREFIX);
    labels.iter().filter(|(name, _)| !pretends(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The endpoints a policy applies to: its selector, within its namespace where it has one.
pub fn subject(
    selector: &str,
    namespace: &str,
    namespace_selector: &str,
    service_account_selector: &str,
) -> Result<String, String> {
    check(selector)?;
    let mut out = selector.to_owned();
    if !namespace.is_empty() {
        let own = in_namespace(namespace);
        out = if out.is_empty() { own } else { format!("({out}) && {own}") };
    }
    for extra in [namespaces(namespace_selector)?, accounts(service_account_selector)?] {
        out = both(out, extra);
    }
    Ok(out)
}

/// The peers that one side of a rule matches. Empty: everything.
///
/// A rule of a namespaced policy means peers of that namespace unless it says otherwise; one that selects nobody
/// (networks alone, ports alone) is about any peer.
pub fn peers(side: &EntityRule, namespace: &str) -> Result<String, String> {
    check(&side.selector)?;
    let accounts = service_accounts(side)?;
    let selects = !side.selector.is_empty() || !side.not_selector.is_empty() || !accounts.is_empty();
    let within = if !side.namespace_selector.is_empty() {
        namespaces(&side.namespace_selector)?
    } else if !namespace.is_empty() && selects {
        in_namespace(namespace)
    } else {
        String::new()
    };
    Ok(both(both(within, side.selector.clone()), accounts))
}

/// Fails where the text is no selector.
pub fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    parse(text).map(|_| ())
}

fn parse(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|e| format!("selector {text:?}: {e}"))
}

fn in_namespace(namespace: &str) -> String {
    format!("{NAMESPACE_LABEL} == '{namespace}'")
}

/// A namespace selector over the labels of endpoints. `global()`: what has no namespace.
fn namespaces(text: &str) -> Result<String, String> {
    of_members(text, NAMESPACE_PREFIX, NAMESPACE_LABEL)
}

/// A selector of service accounts over the labels of endpoints.
fn accounts(text: &str) -> Result<String, String> {
    of_members(text, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNT_LABEL)
}

/// A selector of namespaces or accounts over the labels that endpoints inherit. `all()`, wherever it stands, means every
/// member: whatever has the label that each has.
fn of_members(text: &str, prefix: &str, member: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    Ok(rename(parse(text)?.node(), prefix, member).to_string())
}

fn service_accounts(side: &EntityRule) -> Result<String, String> {
    let Some(matched) = &side.service_accounts else { return Ok(String::new()) };
    let names = if matched.names.is_empty() {
        String::new()
    } else {
        Node::in_set(SERVICE_ACCOUNT_LABEL, matched.names.iter().map(String::as_str)).to_string()
    };
    Ok(both(accounts(&matched.selector)?, names))
}

/// Both must hold; an empty one holds always.
fn both(a: String, b: String) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b,
        (_, true) => a,
        _ => format!("({a}) && ({b})"),
    }
}

/// The same tree with every label's name prefixed.
fn rename(node: &Node, prefix: &str, member: &str) -> Node {
    let p = |label: &str| -> Box<str> { format!("{prefix}{label}").into() };
    match node {
        Node::All => Node::Has(member.into()),
        Node::Global => Node::Not(Box::new(Node::Has(NAMESPACE_LABEL.into()))),
        Node::Has(l) => Node::Has(p(l)),
        Node::Eq(l, v) => Node::Eq(p(l), v.clone()),
        Node::Ne(l, v) => Node::Ne(p(l), v.clone()),
        Node::In(l, v) => Node::In(p(l), v.clone()),
        Node::NotIn(l, v) => Node::NotIn(p(l), v.clone()),
        Node::Contains(l, v) => Node::Contains(p(l), v.clone()),
        Node::StartsWith(l, v) => Node::StartsWith(p(l), v.clone()),
        Node::EndsWith(l, v) => Node::EndsWith(p(l), v.clone()),
        Node::Not(n) => Node::Not(Box::new(rename(n, prefix, member))),
        Node::And(list) => Node::And(list.iter().map(|n| rename(n, prefix, member)).collect()),
        Node::Or(list) => Node::Or(list.iter().map(|n| rename(n, prefix, member)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use libcalico_api::rule::ServiceAccountMatch;

    use super::*;

    fn side(selector: &str, namespace_selector: &str) -> EntityRule {
        EntityRule {
            selector: selector.into(),
            namespace_selector: namespace_selector.into(),
            ..EntityRule::default()
        }
    }

    #[test]
    fn a_policy_applies_within_its_namespace() {
        let all = |s: &str| subject(s, "ns", "", "").unwrap();
        assert_eq!(all("role == 'db'"), "(role == 'db') && projectcalico.org/namespace == 'ns'");
        assert_eq!(all(""), "projectcalico.org/namespace == 'ns'");
        assert_eq!(subject("a == 'b'", "", "", "").unwrap(), "a == 'b'");
        assert_eq!(
            subject("all()", "", "env == 'x'", "role == 'y'").unwrap(),
            "((all()) && (pcns.env == \"x\")) && (pcsa.role == \"y\")"
        );
        assert!(subject("role ==", "ns", "", "").is_err());
    }

    #[test]
    fn peers_of_a_namespaced_rule_are_in_its_namespace_unless_it_says_otherwise() {
        let p = |s: &EntityRule, ns: &str| peers(s, ns).unwrap();
        assert_eq!(p(&side("", ""), "ns"), "");
        assert_eq!(p(&side("a == 'b'", ""), ""), "a == 'b'");
        assert_eq!(p(&side("a == 'b'", ""), "ns"), "(projectcalico.org/namespace == 'ns') && (a == 'b')");
        assert_eq!(p(&side("a == 'b'", "all()"), "ns"), "(has(projectcalico.org/namespace)) && (a == 'b')");
        assert_eq!(
            p(&side("a == 'b'", "global()"), "ns"),
            "(!has(projectcalico.org/namespace)) && (a == 'b')"
        );
        assert_eq!(p(&side("", "has(x) || y == 'z'"), "ns"), "(has(pcns.x) || pcns.y == \"z\")");
        let negated = EntityRule { not_selector: "a == 'b'".into(), ..EntityRule::default() };
        assert_eq!(p(&negated, "ns"), "projectcalico.org/namespace == 'ns'");
    }

    #[test]
    fn service_accounts_are_matched_by_name_and_by_label() {
        let mut s = side("", "");
        s.service_accounts =
            Some(ServiceAccountMatch { names: vec!["b".into(), "a".into()], selector: "team == 't'".into() });
        assert_eq!(
            peers(&s, "ns").unwrap(),
            "(projectcalico.org/namespace == 'ns') && ((pcsa.team == \"t\") && (projectcalico.org/serviceaccount in {\"a\", \"b\"}))"
        );
    }
}

//! A stored rule in one line, as an administrator would say it.

use felix_calc::explain::Direction;
use libcalico_api::rule::{EntityRule, Rule};
use libcalico_api::{Kind, Resource};
use libcalico_model::key::PolicyKey;

use crate::policy::world::World;

/// A rule of a stored policy; empty where the stored object has no such rule of Calico's form.
#[must_use]
pub fn of_policy(world: &World, key: &PolicyKey, dir: Direction, rule: usize) -> String {
    let (ingress, egress) = match world.policy(key) {
        Some(Resource::NetworkPolicy(p)) => (&p.spec.ingress, &p.spec.egress),
        Some(Resource::GlobalNetworkPolicy(p)) => (&p.spec.ingress, &p.spec.egress),
        Some(Resource::StagedNetworkPolicy(p)) => (&p.spec.ingress, &p.spec.egress),
        Some(Resource::StagedGlobalNetworkPolicy(p)) => (&p.spec.ingress, &p.spec.egress),
        _ => return String::new(),
    };
    pick(ingress, egress, dir, rule)
}

/// A rule of a stored profile.
#[must_use]
pub fn of_profile(world: &World, name: &str, dir: Direction, rule: usize) -> String {
    match world.resource(Kind::Profile, "", name) {
        Some(Resource::Profile(p)) => pick(&p.spec.ingress, &p.spec.egress, dir, rule),
        _ => String::new(),
    }
}

fn pick(ingress: &[Rule], egress: &[Rule], dir: Direction, rule: usize) -> String {
    let rules = if dir == Direction::Ingress { ingress } else { egress };
    rules.get(rule).map(line).unwrap_or_default()
}

/// `Allow TCP from app == 'web' to ports 80, 443`
#[must_use]
pub fn line(r: &Rule) -> String {
    let mut text = format!("{:?}", r.action);
    let mut add = |part: String| {
        text.push(' ');
        text.push_str(&part);
    };
    if let Some(v) = r.ip_version {
        add(format!("IPv{v}"));
    }
    if let Some(p) = &r.protocol {
        add(p.to_string());
    }
    if let Some(p) = &r.not_protocol {
        add(format!("not {p}"));
    }
    for (word, icmp) in [("", &r.icmp), ("not ", &r.not_icmp)] {
        if let Some(i) = icmp {
            let code = i.code.map(|c| format!(" code {c}")).unwrap_or_default();
            add(format!("{word}type {}{code}", i.icmp_type.unwrap_or_default()));
        }
    }
    for (word, side) in [("from", side(&r.source)), ("to", side(&r.destination))] {
        if !side.is_empty() {
            add(format!("{word} {side}"));
        }
    }
    text
}

fn side(e: &EntityRule) -> String {
    let list = |items: &[String]| items.join(", ");
    let ports = |p: &[libcalico_api::num_or_string::Port]| {
        p.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    let mut add = |word: &str, text: String| {
        if !text.is_empty() {
            parts.push(if word.is_empty() { text } else { format!("{word} {text}") });
        }
    };
    add("", e.selector.clone());
    add("in namespaces", e.namespace_selector.clone());
    add("not", e.not_selector.clone());
    if let Some(s) = &e.services {
        add("service", format!("{}/{}", s.namespace, s.name));
    }
    if let Some(a) = &e.service_accounts {
        add("service accounts", list(&a.names));
        add("service accounts with", a.selector.clone());
    }
    add("nets", list(&e.nets));
    add("not nets", list(&e.not_nets));
    add("ports", ports(&e.ports));
    add("not ports", ports(&e.not_ports));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_one_line() {
        let rule = |json: &str| line(&serde_json::from_str(json).unwrap());
        assert_eq!(
            rule(
                r#"{"action":"Allow","protocol":"TCP","source":{"selector":"app == 'web'"},"destination":{"ports":[80,"8000:8080"]}}"#
            ),
            "Allow TCP from app == 'web' to ports 80, 8000:8080"
        );
        assert_eq!(rule(r#"{"action":"Deny"}"#), "Deny");
        assert_eq!(
            rule(
                r#"{"action":"Deny","protocol":"ICMP","icmp":{"type":8},"source":{"notNets":["10.0.0.0/8"]}}"#
            ),
            "Deny ICMP type 8 from not nets 10.0.0.0/8"
        );
    }
}

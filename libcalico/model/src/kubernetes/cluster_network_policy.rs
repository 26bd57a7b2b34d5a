//! ClusterNetworkPolicy of the Network Policy API (`policy.networking.k8s.io/v1alpha2`) as Calico's global policy, as
//! upstream makes it of one: tier `Admin` becomes `kube-admin`, `Baseline` becomes `kube-baseline`, the priority the
//! order, Accept becomes Allow.
//!
//! Always holds: a rule that cannot be read opens nothing. In place of one that denies or passes stands a rule that
//! denies everything; one that accepts is left out; both are told of. A named port is that of TCP, UDP and SCTP, since
//! the protocol is the port's own. Left out: the tiers themselves, which are made when a cluster is set up, and that a
//! peer which names namespaces means pods alone (as upstream has it, network sets of these namespaces are meant too).

use libcalico_api::ObjectMeta;
use libcalico_api::cluster_network_policy::{
    CnpAction, CnpEgressPeer, CnpEgressRule, CnpIngressRule, CnpPorts, CnpProtocol, CnpSubject, CnpTier,
};
use libcalico_api::common::{LabelSelector, null_default};
use libcalico_api::global_network_policy::{GlobalNetworkPolicy, GlobalNetworkPolicySpec};
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::rule::{Action, EntityRule, PolicyType, Rule, RuleMetadata};
use libcalico_net::cidr::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::label_selector::{namespaces, pods};
use super::{identity, malformed, read};
use crate::ValueError;

/// Annotation of a rule that carries its name in the object.
const RULE_NAME: &str = "name";
/// Protocols whose ports have names.
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClusterPolicy {
    metadata: ObjectMeta,
    spec: Spec,
}

/// Rules are read one by one: one that is not understood must not take the others with it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    tier: Option<CnpTier>,
    priority: i32,
    subject: CnpSubject,
    #[serde(deserialize_with = "null_default")]
    ingress: Vec<Value>,
    #[serde(deserialize_with = "null_default")]
    egress: Vec<Value>,
}

/// A policy, and what of it could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    pub policy: GlobalNetworkPolicy,
    /// Rules that could not be read, each with its place, the reason and what stands in its place.
    pub replaced: Vec<String>,
}

/// A ClusterNetworkPolicy as Calico's.
pub fn convert(json: &[u8]) -> Result<Converted, ValueError> {
    let object: ClusterPolicy = read("ClusterNetworkPolicy", json)?;
    let meta = &object.metadata;
    let what = format!("ClusterNetworkPolicy {}", meta.name);
    if meta.name.is_empty() {
        return Err(malformed(what, "has no name"));
    }
    let spec = &object.spec;
    let tier = match spec.tier {
        Some(CnpTier::Admin) => "kube-admin",
        Some(CnpTier::Baseline) => "kube-baseline",
        None => return Err(malformed(what, "spec.tier is missing")),
    };
    let (selector, namespace_selector) =
        subject(&spec.subject).map_err(|e| malformed(what, format!("spec.subject: {e}")))?;
    let mut replaced = Vec::new();
    let ingress = convert_all(&spec.ingress, "ingress", ingress_rule, &mut replaced);
    let egress = convert_all(&spec.egress, "egress", egress_rule, &mut replaced);
    // The tiers pass what no rule matches: a direction without rules says nothing.
    let mut types = Vec::new();
    if !ingress.is_empty() {
        types.push(PolicyType::Ingress);
    }
    if !egress.is_empty() {
        types.push(PolicyType::Egress);
    }
    let spec = GlobalNetworkPolicySpec {
        tier: Some(tier.to_owned()),
        order: Some(f64::from(spec.priority)),
        selector: Some(selector),
        namespace_selector: Some(namespace_selector),
        types,
        ingress,
        egress,
        ..GlobalNetworkPolicySpec::default()
    };
    let policy = GlobalNetworkPolicy { metadata: identity(meta), spec, ..GlobalNetworkPolicy::default() };
    Ok(Converted { policy, replaced })
}

/// Rules of a direction. What is given to `one` is the rule as read.
fn convert_all<T: DeserializeOwned>(
    rules: &[Value],
    direction: &str,
    one: impl Fn(&T) -> Result<Vec<Rule>, String>,
    replaced: &mut Vec<String>,
) -> Vec<Rule> {
    let mut out = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        match T::deserialize(rule).map_err(|e| e.to_string()).and_then(|r| one(&r)) {
            Ok(mut made) => out.append(&mut made),
            Err(reason) => {
                let denies = matches!(rule.get("action").and_then(Value::as_str), Some("Deny" | "Pass"));
                let instead = if denies { "everything is denied instead" } else { "it is left out" };
                replaced.push(format!("spec.{direction}[{i}]: {reason}; {instead}"));
                if denies {
                    out.push(Rule { action: Action::Deny, ..Rule::default() });
                }
            }
        }
    }
    out
}

fn ingress_rule(rule: &CnpIngressRule) -> Result<Vec<Rule>, String> {
    let peers = rule.from.iter().map(ingress_peer).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for (protocol, ports) in by_protocol(&rule.protocols)? {
        for source in &peers {
            let mut made = new_rule(rule.action, &rule.name, protocol.as_ref())?;
            made.source = source.clone();
            made.destination.ports.clone_from(&ports);
            out.push(made);
        }
    }
    Ok(out)
}

fn egress_rule(rule: &CnpEgressRule) -> Result<Vec<Rule>, String> {
    let peers = rule.to.iter().map(egress_peer).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for (protocol, ports) in by_protocol(&rule.protocols)? {
        for destination in &peers {
            let mut made = new_rule(rule.action, &rule.name, protocol.as_ref())?;
            made.destination = EntityRule { ports: ports.clone(), ..destination.clone() };
            out.push(made);
        }
    }
    Ok(out)
}

fn new_rule(action: Option<CnpAction>, name: &str, protocol: Option<&Protocol>) -> Result<Rule, String> {
    let action = match action {
        Some(CnpAction::Accept) => Action::Allow,
        Some(CnpAction::Deny) => Action::Deny,
        Some(CnpAction::Pass) => Action::Pass,
        None => return Err("it has no action".to_owned()),
    };
    let metadata = (!name.is_empty())
        .then(|| RuleMetadata { annotations: [(RULE_NAME.to_owned(), name.to_owned())].into() });
    Ok(Rule { action, protocol: protocol.cloned(), metadata, ..Rule::default() })
}

/// Selector of the pods, and of their namespaces.
fn subject(subject: &CnpSubject) -> Result<(String, String), String> {
    match (&subject.namespaces, &subject.pods) {
        (Some(selector), _) => Ok((pods(&LabelSelector::default())?, namespaces(selector)?)),
        (None, Some(p)) => Ok((pods(&p.pod_selector)?, namespaces(&p.namespace_selector)?)),
        (None, None) => Err("neither namespaces nor pods".to_owned()),
    }
}

fn ingress_peer(peer: &CnpSubject) -> Result<EntityRule, String> {
    match (&peer.namespaces, &peer.pods) {
        (_, Some(p)) => Ok(EntityRule {
            selector: pods(&p.pod_selector)?,
            namespace_selector: namespaces(&p.namespace_selector)?,
            ..EntityRule::default()
        }),
        (Some(selector), None) => {
            Ok(EntityRule { namespace_selector: of_namespaces(selector)?, ..EntityRule::default() })
        }
        (None, None) => Err("a peer that is neither namespaces nor pods".to_owned()),
    }
}

/// What is in a namespace with such labels. A selector that names what labels must not be holds for what is in no
/// namespace as well, which is none of what these peers mean.
fn of_namespaces(selector: &LabelSelector) -> Result<String, String> {
    let text = namespaces(selector)?;
    let negates = |operator: &str| matches!(operator, "NotIn" | "DoesNotExist");
    let all_negate =
        selector.match_labels.is_empty() && selector.match_expressions.iter().all(|e| negates(&e.operator));
    Ok(if all_negate && text != "all()" { format!("all() && {text}") } else { text })
}

fn egress_peer(peer: &CnpEgressPeer) -> Result<EntityRule, String> {
    let CnpEgressPeer { namespaces, pods, networks } = peer.clone();
    if networks.is_empty() {
        return ingress_peer(&CnpSubject { namespaces, pods })
            .map_err(|e| if e.starts_with("a peer") { format!("{e} nor networks") } else { e });
    }
    let net = |text: &String| match text.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc().to_string()),
        Err(_) => Err(format!("{text:?} is not a network")),
    };
    Ok(EntityRule { nets: networks.iter().map(net).collect::<Result<_, _>>()?, ..EntityRule::default() })
}

/// A protocol, or any, and its ports, or all.
type ProtocolPorts = (Option<Protocol>, Vec<Port>);

/// The ports of each protocol, in order of their names. No ports where all of a protocol are meant.
fn by_protocol(protocols: &[CnpProtocol]) -> Result<Vec<ProtocolPorts>, String> {
    if protocols.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    // None: the protocol is not meant. Some of None: all of its ports.
    let mut meant: [Option<Option<Vec<Port>>>; 3] = [None, None, None];
    for p in protocols {
        let of_one = [&p.sctp, &p.tcp, &p.udp];
        let named = match &p.destination_named_port {
            Some(name) => Some(named_port(name)?),
            None if of_one.iter().all(|o| o.is_none()) => {
                return Err("a protocol that is neither tcp, udp, sctp nor destinationNamedPort".to_owned());
            }
            None => None,
        };
        for (ports, one) in meant.iter_mut().zip(of_one) {
            let port = match (one, &named) {
                (Some(one), _) => port(one)?,
                (None, Some(name)) => Some(name.clone()),
                (None, None) => continue,
            };
            match (ports.get_or_insert_with(|| Some(Vec::new())), port) {
                (Some(list), Some(port)) => list.push(port),
                // All of the protocol, whatever stands beside it.
                (all, _) => *all = None,
            }
        }
    }
    let named = PROTOCOLS.iter().zip(meant);
    Ok(named
        .filter_map(|(name, ports)| {
            Some((Some(Protocol::Name((*name).to_owned())), ports?.unwrap_or_default()))
        })
        .collect())
}

fn named_port(name: &str) -> Result<Port, String> {
    match name.parse::<Port>() {
        Ok(port @ Port::Named(_)) => Ok(port),
        _ => Err(format!("{name:?} is not the name of a port")),
    }
}

/// The port of a protocol; none for all.
fn port(ports: &CnpPorts) -> Result<Option<Port>, String> {
    let Some(port) = &ports.destination_port else { return Ok(None) };
    let number = |n: i32| u16::try_from(n).map_err(|_| format!("port {n} is not in 1..65535"));
    match (port.number, &port.range) {
        (Some(n), _) => Ok(Some(Port::Number(number(n)?))),
        (None, Some(r)) => match (number(r.start)?, number(r.end)?) {
            (start, end) if start < end => Ok(Some(Port::Range(start, end))),
            (start, end) if start == end => Ok(Some(Port::Number(start))),
            (start, end) => Err(format!("ports from {start} to {end}")),
        },
        // An empty port would be every port; whoever wrote it meant some.
        (None, None) => Err("a port that is neither a number nor a range".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = r#""subject":{"namespaces":{}}"#;

    fn policy(spec: &str) -> Converted {
        convert(format!(r#"{{"metadata":{{"name":"p","uid":"u"}},"spec":{{{spec}}}}}"#).as_bytes()).unwrap()
    }

    fn rules(direction: &str, rules: &str) -> (Vec<String>, Vec<String>) {
        let c = policy(&format!(r#""tier":"Admin","priority":1,{SUBJECT},"{direction}":{rules}"#));
        let made = if direction == "ingress" { &c.policy.spec.ingress } else { &c.policy.spec.egress };
        (made.iter().map(|r| serde_json::to_string(r).unwrap()).collect(), c.replaced)
    }

    #[test]
    fn tier_priority_and_subject_become_tier_order_and_selectors() {
        let p = policy(
            r#""tier":"Admin","priority":7,"subject":{"namespaces":{"matchLabels":{"a":"b"}}},"ingress":[{"action":"Deny","from":[{"namespaces":{}}]}]"#,
        );
        let p = p.policy;
        assert_eq!((p.metadata.name.as_str(), p.metadata.uid.as_str()), ("p", "u"));
        assert_eq!((p.spec.tier.as_deref(), p.spec.order), (Some("kube-admin"), Some(7.0)));
        assert_eq!(p.spec.selector.as_deref(), Some("projectcalico.org/orchestrator == 'k8s'"));
        assert_eq!(p.spec.namespace_selector.as_deref(), Some("a == 'b'"));
        assert_eq!(p.spec.types, [PolicyType::Ingress]);
        let p = policy(
            r#""tier":"Baseline","priority":0,"subject":{"pods":{"namespaceSelector":{},"podSelector":{"matchLabels":{"c":"d"}}}}"#,
        );
        let p = p.policy;
        assert_eq!((p.spec.tier.as_deref(), p.spec.order), (Some("kube-baseline"), Some(0.0)));
        let selector = p.spec.selector.as_deref();
        assert_eq!(selector, Some("projectcalico.org/orchestrator == 'k8s' && c == 'd'"));
        assert_eq!((p.spec.namespace_selector.as_deref(), p.spec.types.len()), (Some("all()"), 0));
    }

    #[test]
    fn a_policy_without_tier_or_subject_is_no_policy() {
        for spec in [
            r#""priority":1,"subject":{"namespaces":{}}"#,
            r#""tier":"Other","subject":{"namespaces":{}}"#,
            r#""tier":"Admin","subject":{}"#,
            r#""tier":"Admin","subject":{"nodes":{}}"#,
            r#""tier":"Admin","subject":{"namespaces":{"matchLabels":{"a b":"c"}}}"#,
        ] {
            let json = format!(r#"{{"metadata":{{"name":"p"}},"spec":{{{spec}}}}}"#);
            assert!(convert(json.as_bytes()).is_err(), "{spec}");
        }
        assert!(convert(br#"{"spec":{"tier":"Admin","subject":{"namespaces":{}}}}"#).is_err());
    }

    #[test]
    fn actions_peers_and_ports_become_rules() {
        let pods = r#"{"pods":{"namespaceSelector":{"matchLabels":{"n":"x"}},"podSelector":{}}}"#;
        let orchestrator = "projectcalico.org/orchestrator == 'k8s'";
        let cases: [(&str, &str, Vec<String>); 8] = [
            (
                "ingress",
                r#"[{"name":"first","action":"Accept","from":[{"namespaces":{"matchLabels":{"a":"b"}}}]}]"#,
                vec![
                    r#"{"action":"Allow","source":{"namespaceSelector":"a == 'b'"},"metadata":{"annotations":{"name":"first"}}}"#
                        .to_owned(),
                ],
            ),
            (
                "ingress",
                &format!(r#"[{{"action":"Pass","from":[{pods}],"protocols":[{{"tcp":{{}}}}]}}]"#),
                vec![format!(
                    r#"{{"action":"Pass","protocol":"TCP","source":{{"selector":"{orchestrator}","namespaceSelector":"n == 'x'"}}}}"#
                )],
            ),
            (
                "egress",
                r#"[{"action":"Deny","to":[{"networks":["10.1.2.3/8","fd00::/8"]},{"namespaces":{}}]}]"#,
                vec![
                    r#"{"action":"Deny","destination":{"nets":["10.0.0.0/8","fd00::/8"]}}"#.to_owned(),
                    r#"{"action":"Deny","destination":{"namespaceSelector":"all()"}}"#.to_owned(),
                ],
            ),
            (
                "egress",
                r#"[{"action":"Deny","to":[{"networks":["::/0"]}],"protocols":[{"udp":{"destinationPort":{"number":53}}},{"tcp":{"destinationPort":{"range":{"start":1,"end":9}}}},{"tcp":{"destinationPort":{"number":80}}}]}]"#,
                vec![
                    r#"{"action":"Deny","protocol":"TCP","destination":{"nets":["::/0"],"ports":["1:9",80]}}"#.to_owned(),
                    r#"{"action":"Deny","protocol":"UDP","destination":{"nets":["::/0"],"ports":[53]}}"#.to_owned(),
                ],
            ),
            (
                "ingress",
                r#"[{"action":"Accept","from":[{"namespaces":{}}],"protocols":[{"destinationNamedPort":"web"},{"tcp":{"destinationPort":{"number":80}}}]}]"#,
                ["SCTP", "TCP", "UDP"]
                    .map(|p| {
                        let ports = if p == "TCP" { r#"["web",80]"# } else { r#"["web"]"# };
                        format!(
                            r#"{{"action":"Allow","protocol":"{p}","source":{{"namespaceSelector":"all()"}},"destination":{{"ports":{ports}}}}}"#
                        )
                    })
                    .to_vec(),
            ),
            (
                "ingress",
                r#"[{"action":"Accept","from":[{"namespaces":{}}],"protocols":[{"tcp":{"destinationPort":{"number":80}}},{"tcp":{}}]}]"#,
                vec![r#"{"action":"Allow","protocol":"TCP","source":{"namespaceSelector":"all()"}}"#.to_owned()],
            ),
            (
                "ingress",
                r#"[{"action":"Accept","from":[{"namespaces":{"matchExpressions":[{"key":"a","operator":"NotIn","values":["b"]}]}}]}]"#,
                vec![r#"{"action":"Allow","source":{"namespaceSelector":"all() && a not in { 'b' }"}}"#.to_owned()],
            ),
            ("ingress", "null", vec![]),
        ];
        for (direction, given, expected) in cases {
            assert_eq!(rules(direction, given), (expected, Vec::new()), "{given}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_read_opens_nothing_and_is_told_of() {
        let broken = [
            ("egress", r#""to":[{"nodes":{"matchLabels":{"a":"b"}}}]"#, "networks"),
            ("egress", r#""to":[{"domainNames":["*.example.com"]}]"#, "networks"),
            ("egress", r#""to":[{"networks":["10.0.0.0"]},{"namespaces":{}}]"#, "10.0.0.0"),
            ("egress", r#""to":[{"namespaces":{}}],"protocols":[{"icmp":{}}]"#, "protocol"),
            ("ingress", r#""from":[{}]"#, "neither"),
            ("ingress", r#""from":5"#, "invalid type"),
            ("ingress", r#""from":[{"namespaces":{}}],"protocols":[{"tcp":{"destinationPort":{}}}]"#, "port"),
            ("ingress", r#""from":[{"namespaces":{}}],"protocols":[{"destinationNamedPort":"80"}]"#, "80"),
            (
                "ingress",
                r#""from":[{"namespaces":{}}],"protocols":[{"tcp":{"destinationPort":{"range":{"start":9,"end":1}}}}]"#,
                "from 9 to 1",
            ),
        ];
        for (direction, rule, why) in broken {
            for (action, instead) in [
                ("Deny", vec![r#"{"action":"Deny"}"#]),
                ("Pass", vec![r#"{"action":"Deny"}"#]),
                ("Accept", vec![]),
            ] {
                let given = format!(r#"[{{"action":"{action}",{rule}}}]"#);
                let (made, told) = rules(direction, &given);
                assert_eq!(made, instead, "{given}");
                assert!(told.len() == 1 && told[0].contains(why), "{given}: {told:?}");
            }
        }
        let (made, told) = rules("ingress", r#"[{"action":"Log","from":[{"namespaces":{}}]}]"#);
        assert!(made.is_empty() && told[0].contains("spec.ingress[0]"), "{told:?}");
    }
}

//! Kubernetes' NetworkPolicy as Calico's, as upstream makes it of one.
//!
//! Kubernetes' meaning is kept: an absent list of peers or ports matches all, an empty pod selector matches every pod of
//! the namespace, an empty namespace selector every namespace, a port without a protocol is TCP's. Always holds: a rule
//! that cannot be read is left out and told of, the policy stays: it then allows less, never more. Left out: what a
//! selector means within a namespace (the syncer's converter completes it).

use std::collections::BTreeMap;

use libcalico_api::ObjectMeta;
use libcalico_api::network_policy::{NetworkPolicy, NetworkPolicySpec};
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::rule::{Action, EntityRule, PolicyType, Rule};
use libcalico_api::staged_kubernetes_network_policy::{
    KubernetesPolicyPeer, KubernetesPolicyPort, StagedKubernetesNetworkPolicySpec,
};
use serde::Deserialize;

use super::label_selector::{namespaces, pods};
use super::{identity, malformed, read};
use crate::ValueError;

/// Before the name of a policy that came from Kubernetes.
pub const NAME_PREFIX: &str = "knp.default.";
/// Kubernetes' policies have no order of their own.
const ORDER: f64 = 1000.0;
/// The tier they are in.
const TIER: &str = "default";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubePolicy {
    metadata: ObjectMeta,
    /// A staged policy has the fields of Kubernetes'.
    spec: StagedKubernetesNetworkPolicySpec,
}

/// A policy, and what of it could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    pub policy: NetworkPolicy,
    /// Rules that were left out, each with its place and the reason.
    pub left_out: Vec<String>,
}

/// The Kubernetes policy that a policy of this name stands for.
#[must_use]
pub fn source(name: &str) -> Option<&str> {
    name.strip_prefix(NAME_PREFIX).filter(|n| !n.is_empty())
}

/// A Kubernetes NetworkPolicy as Calico's.
pub fn convert(json: &[u8]) -> Result<Converted, ValueError> {
    let KubePolicy { metadata, spec } = read("NetworkPolicy", json)?;
    let mut converted = of_spec("NetworkPolicy", &metadata, &spec)?;
    converted.policy.metadata =
        ObjectMeta { name: format!("{NAME_PREFIX}{}", metadata.name), ..identity(&metadata) };
    Ok(converted)
}

/// What the spec of a Kubernetes policy says, in Calico's words. The metadata is taken as it is; `kind` is for errors.
pub fn of_spec(
    kind: &str,
    meta: &ObjectMeta,
    spec: &StagedKubernetesNetworkPolicySpec,
) -> Result<Converted, ValueError> {
    let what = format!("{kind} {}/{}", meta.namespace, meta.name);
    if meta.name.is_empty() || meta.namespace.is_empty() {
        return Err(malformed(what, "has no name or no namespace"));
    }
    let mut left_out = Vec::new();
    let mut collect = |direction: PolicyType, index: usize, made: Result<Vec<Rule>, String>| {
        made.unwrap_or_else(|e| {
            left_out.push(format!("spec.{}[{index}]: {e}", format!("{direction:?}").to_lowercase()));
            Vec::new()
        })
    };
    let mut ingress = Vec::new();
    for (i, r) in spec.ingress.iter().enumerate() {
        ingress.extend(collect(PolicyType::Ingress, i, rules(&r.from, &r.ports, PolicyType::Ingress)));
    }
    let mut egress = Vec::new();
    for (i, r) in spec.egress.iter().enumerate() {
        egress.extend(collect(PolicyType::Egress, i, rules(&r.to, &r.ports, PolicyType::Egress)));
    }
    let mut types = spec.policy_types.clone();
    if types.is_empty() {
        types.push(PolicyType::Ingress);
        if !spec.egress.is_empty() {
            types.push(PolicyType::Egress);
        }
    }
    let selector = pods(&spec.pod_selector.clone().unwrap_or_default()).map_err(|e| malformed(what, e))?;
    let policy = NetworkPolicy {
        metadata: meta.clone(),
        spec: NetworkPolicySpec {
            tier: Some(TIER.to_owned()),
            order: Some(ORDER),
            selector: Some(selector),
            types,
            ingress,
            egress,
            ..NetworkPolicySpec::default()
        },
        ..NetworkPolicy::default()
    };
    Ok(Converted { policy, left_out })
}

/// One rule for each pair of protocol and peer: the ports of a protocol share a rule.
fn rules(
    peers: &[KubernetesPolicyPeer],
    ports: &[KubernetesPolicyPort],
    direction: PolicyType,
) -> Result<Vec<Rule>, String> {
    let peers = match peers {
        [] => vec![EntityRule::default()],
        some => some.iter().map(peer).collect::<Result<_, _>>()?,
    };
    let mut out = Vec::new();
    for (protocol, ports) in by_protocol(ports)? {
        for peer in &peers {
            let mut rule = Rule { action: Action::Allow, protocol: protocol.clone(), ..Rule::default() };
            match direction {
                PolicyType::Ingress => {
                    rule.source = peer.clone();
                    rule.destination.ports.clone_from(&ports);
                }
                PolicyType::Egress => {
                    rule.destination = EntityRule { ports: ports.clone(), ..peer.clone() };
                }
            }
            out.push(rule);
        }
    }
    Ok(out)
}

/// A protocol, or any, and its ports, or all.
type ProtocolPorts = (Option<Protocol>, Vec<Port>);

/// The ports of each protocol. No ports where all of a protocol are meant, no protocol where all traffic is.
fn by_protocol(ports: &[KubernetesPolicyPort]) -> Result<Vec<ProtocolPorts>, String> {
    if ports.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    let mut grouped: BTreeMap<String, Vec<Option<Port>>> = BTreeMap::new();
    for p in ports {
        let protocol = p.protocol.clone().filter(|t| !t.is_empty()).unwrap_or_else(|| "TCP".to_owned());
        if !matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP") {
            return Err(format!("protocol {protocol:?} is not TCP, UDP or SCTP"));
        }
        grouped.entry(protocol).or_default().push(port(p)?);
    }
    let group = |(protocol, ports): (String, Vec<Option<Port>>)| {
        // One entry without a port means all of the protocol, whatever stands beside it.
        let all: Option<Vec<Port>> = ports.into_iter().collect();
        (Some(Protocol::Name(protocol)), all.unwrap_or_default())
    };
    Ok(grouped.into_iter().map(group).collect())
}

fn port(p: &KubernetesPolicyPort) -> Result<Option<Port>, String> {
    Ok(match (&p.port, p.end_port) {
        (None, None) => None,
        (None, Some(_)) => return Err("endPort without a port".to_owned()),
        (Some(Port::Number(first)), Some(last)) => match u16::try_from(last) {
            Ok(last) if last > *first => Some(Port::Range(*first, last)),
            Ok(last) if last == *first => Some(Port::Number(last)),
            _ => return Err(format!("endPort {last} is not in {first}..65535")),
        },
        (Some(other), Some(_)) => return Err(format!("endPort beside the port {other}, which is no number")),
        (Some(p), None) => Some(p.clone()),
    })
}

fn peer(peer: &KubernetesPolicyPeer) -> Result<EntityRule, String> {
    if let Some(block) = &peer.ip_block {
        // Without a network a rule would match everything.
        let cidr = block.cidr.clone().filter(|c| !c.is_empty()).ok_or("ipBlock without a cidr")?;
        return Ok(EntityRule { nets: vec![cidr], not_nets: block.except.clone(), ..EntityRule::default() });
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return Err("a peer without podSelector, namespaceSelector or ipBlock".to_owned());
    }
    let namespace_selector =
        peer.namespace_selector.as_ref().map(namespaces).transpose()?.unwrap_or_default();
    let selector = pods(&peer.pod_selector.clone().unwrap_or_default())?;
    Ok(EntityRule { selector, namespace_selector, ..EntityRule::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> Converted {
        convert(
            format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#).as_bytes(),
        )
        .unwrap()
    }

    fn ingress(spec: &str) -> Vec<String> {
        let c = policy(spec);
        c.policy.spec.ingress.iter().map(|r| serde_json::to_string(r).unwrap()).collect()
    }

    #[test]
    fn name_order_and_tier_are_those_upstream_gives() {
        let p = policy(r#"{"podSelector":{}}"#).policy;
        assert_eq!(p.metadata.name, "knp.default.p");
        assert_eq!((p.spec.order, p.spec.tier.as_deref()), (Some(1000.0), Some("default")));
        assert_eq!(p.spec.selector.as_deref(), Some("projectcalico.org/orchestrator == 'k8s'"));
        assert_eq!(p.spec.types, [PolicyType::Ingress]);
        assert_eq!((p.spec.ingress.len(), p.spec.egress.len()), (0, 0));
        assert_eq!(source("knp.default.p"), Some("p"));
        assert_eq!((source("knp.default."), source("p")), (None, None));
    }

    #[test]
    fn types_follow_the_rules_where_they_are_not_given() {
        assert_eq!(policy(r#"{"egress":[{}]}"#).policy.spec.types, [PolicyType::Ingress, PolicyType::Egress]);
        let only = policy(r#"{"policyTypes":["Egress"]}"#).policy.spec;
        assert_eq!(only.types, [PolicyType::Egress]);
    }

    #[test]
    fn selectors_are_written_as_upstream_writes_them() {
        let p = policy(
            r#"{"podSelector":{"matchLabels":{"b":"2","a":"1"},"matchExpressions":[
                {"key":"c","operator":"In","values":["x","y"]},{"key":"d","operator":"NotIn","values":["z"]},
                {"key":"e","operator":"Exists"},{"key":"f","operator":"DoesNotExist"}]}}"#,
        );
        assert_eq!(
            p.policy.spec.selector.unwrap(),
            "projectcalico.org/orchestrator == 'k8s' && a == '1' && b == '2' && c in { 'x', 'y' } && d not in { 'z' } && has(e) && ! has(f)"
        );
    }

    #[test]
    fn peers_and_ports_become_rules() {
        let cases: [(&str, &[&str]); 9] = [
            (r"[{}]", &[r#"{"action":"Allow"}"#]),
            (
                r#"[{"from":[{"namespaceSelector":{}}]}]"#,
                &[
                    r#"{"action":"Allow","source":{"selector":"projectcalico.org/orchestrator == 'k8s'","namespaceSelector":"all()"}}"#,
                ],
            ),
            (
                r#"[{"from":[{"namespaceSelector":{"matchLabels":{"env":"x"}},"podSelector":{"matchLabels":{"a":"b"}}}]}]"#,
                &[
                    r#"{"action":"Allow","source":{"selector":"projectcalico.org/orchestrator == 'k8s' && a == 'b'","namespaceSelector":"env == 'x'"}}"#,
                ],
            ),
            (
                r#"[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]"#,
                &[r#"{"action":"Allow","source":{"nets":["10.0.0.0/8"],"notNets":["10.1.0.0/16"]}}"#],
            ),
            (
                r#"[{"ports":[{"port":80},{"port":"web"},{"protocol":"UDP","port":53},{"port":100,"endPort":200}]}]"#,
                &[
                    r#"{"action":"Allow","protocol":"TCP","destination":{"ports":[80,"web","100:200"]}}"#,
                    r#"{"action":"Allow","protocol":"UDP","destination":{"ports":[53]}}"#,
                ],
            ),
            (r#"[{"ports":[{"protocol":"TCP"},{"port":80}]}]"#, &[r#"{"action":"Allow","protocol":"TCP"}"#]),
            (
                r#"[{"ports":[{"port":80,"endPort":80}]}]"#,
                &[r#"{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}}"#],
            ),
            (r#"[{"ports":[{"port":80,"endPort":79}]}]"#, &[]),
            (r#"[{"from":[{}]}]"#, &[]),
        ];
        for (rules, expected) in cases {
            assert_eq!(ingress(&format!(r#"{{"ingress":{rules}}}"#)), expected, "{rules}");
        }
    }

    #[test]
    fn a_bad_rule_is_left_out_and_told_of() {
        let c =
            policy(r#"{"egress":[{"to":[{"ipBlock":{}}]},{"ports":[{"port":1}]}],"policyTypes":["Egress"]}"#);
        assert_eq!(c.policy.spec.egress.len(), 1);
        assert!(c.left_out[0].contains("spec.egress[0]: ipBlock without a cidr"), "{:?}", c.left_out);
        let injected = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"podSelector":{"matchLabels":{"a":"' || all() || x == '"}}}}"#;
        assert!(convert(injected.as_bytes()).is_err());
    }
}

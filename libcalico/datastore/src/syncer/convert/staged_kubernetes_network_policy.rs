//! `StagedKubernetesNetworkPolicy` → a staged policy: Kubernetes' words first become Calico's rules, then go the way of
//! every rule.
//!
//! Kubernetes' meaning is kept: an absent list of peers or ports matches all, an empty pod selector matches every pod of
//! the namespace, an empty namespace selector every namespace, a port without a protocol is TCP's.

use libcalico_api::common::LabelSelector;
use libcalico_api::num_or_string::{Port, Protocol};
use libcalico_api::rule::{Action, EntityRule, PolicyType, Rule};
use libcalico_api::staged_kubernetes_network_policy::{
    KubernetesPolicyPeer, KubernetesPolicyPort, StagedKubernetesNetworkPolicy,
};
use libcalico_api::staged_network_policy::{StagedNetworkPolicy, StagedNetworkPolicySpec};
use libcalico_api::workload_endpoint::ORCHESTRATOR_LABEL;
use libcalico_selector::ast::Node;

use super::{Outputs, policy};

/// Kubernetes policies have no order of their own; upstream gives them this one.
const ORDER: f64 = 1000.0;

pub fn convert(object: &StagedKubernetesNetworkPolicy) -> Result<Outputs, String> {
    let spec = &object.spec;
    let mut types = spec.policy_types.clone();
    if types.is_empty() {
        types.push(PolicyType::Ingress);
        if !spec.egress.is_empty() {
            types.push(PolicyType::Egress);
        }
    }
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let at = |e| format!("spec.ingress[{i}]: {e}");
        ingress.extend(rules(&rule.from, &rule.ports, PolicyType::Ingress).map_err(at)?);
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let at = |e| format!("spec.egress[{i}]: {e}");
        egress.extend(rules(&rule.to, &rule.ports, PolicyType::Egress).map_err(at)?);
    }
    let calico = StagedNetworkPolicy {
        metadata: object.metadata.clone(),
        spec: StagedNetworkPolicySpec {
            order: Some(ORDER),
            selector: Some(pods(&spec.pod_selector.clone().unwrap_or_default())?),
            types,
            ingress,
            egress,
            staged_action: spec.staged_action,
            ..StagedNetworkPolicySpec::default()
        },
        ..StagedNetworkPolicy::default()
    };
    policy::staged_kubernetes_network_policy(&calico)
}

/// One rule for each pair of peer and port.
fn rules(
    peers: &[KubernetesPolicyPeer],
    ports: &[KubernetesPolicyPort],
    direction: PolicyType,
) -> Result<Vec<Rule>, String> {
    let peers = if peers.is_empty() {
        vec![EntityRule::default()]
    } else {
        peers.iter().map(peer).collect::<Result<Vec<_>, _>>()?
    };
    let ports = if ports.is_empty() {
        vec![(None, Vec::new())]
    } else {
        ports.iter().map(port).collect::<Result<Vec<_>, _>>()?
    };
    let mut out = Vec::with_capacity(peers.len() * ports.len());
    for peer in &peers {
        for (protocol, ports) in &ports {
            let mut rule = Rule { action: Action::Allow, protocol: protocol.clone(), ..Rule::default() };
            match direction {
                PolicyType::Ingress => {
                    rule.source = peer.clone();
                    rule.destination.ports.clone_from(ports);
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

fn peer(peer: &KubernetesPolicyPeer) -> Result<EntityRule, String> {
    if let Some(block) = &peer.ip_block {
        return Ok(EntityRule {
            nets: block.cidr.iter().cloned().collect(),
            not_nets: block.except.clone(),
            ..EntityRule::default()
        });
    }
    let namespace_selector = match &peer.namespace_selector {
        None => String::new(),
        Some(s) => conjunction(terms(s)?).to_string(),
    };
    Ok(EntityRule {
        selector: pods(&peer.pod_selector.clone().unwrap_or_default())?,
        namespace_selector,
        ..EntityRule::default()
    })
}

fn port(port: &KubernetesPolicyPort) -> Result<(Option<Protocol>, Vec<Port>), String> {
    let protocol = Protocol::Name(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()));
    let ports = match (&port.port, port.end_port) {
        (None, _) => Vec::new(),
        (Some(Port::Number(first)), Some(last)) => {
            let last = u16::try_from(last).map_err(|_| format!("endPort {last} is not in 0..65535"))?;
            if last < *first {
                return Err(format!("endPort {last} is below port {first}"));
            }
            vec![Port::Range(*first, last)]
        }
        (Some(p), _) => vec![p.clone()],
    };
    Ok((Some(protocol), ports))
}

/// Pods with these labels, and nothing but pods.
fn pods(selector: &LabelSelector) -> Result<String, String> {
    let mut all = vec![Node::Eq(ORCHESTRATOR_LABEL.into(), "k8s".into())];
    all.extend(terms(selector)?);
    Ok(conjunction(all).to_string())
}

fn conjunction(mut terms: Vec<Node>) -> Node {
    match terms.len() {
        0 => Node::All,
        1 => terms.remove(0),
        _ => Node::And(terms),
    }
}

fn terms(selector: &LabelSelector) -> Result<Vec<Node>, String> {
    let mut out: Vec<Node> =
        selector.match_labels.iter().map(|(k, v)| Node::Eq(k.as_str().into(), v.as_str().into())).collect();
    for e in &selector.match_expressions {
        let values = || e.values.iter().map(String::as_str);
        let has = Node::Has(e.key.as_str().into());
        out.push(match e.operator.as_str() {
            "In" => Node::in_set(&e.key, values()),
            "NotIn" => Node::not_in_set(&e.key, values()),
            "Exists" => has,
            "DoesNotExist" => Node::Not(Box::new(has)),
            other => return Err(format!("operator {other:?} is not In, NotIn, Exists or DoesNotExist")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_words_become_calicos() {
        let json = r#"{"metadata":{"name":"sknp","namespace":"ns"},"spec":{"stagedAction":"Set",
            "podSelector":{"matchLabels":{"role":"db"}},
            "ingress":[{"from":[{"namespaceSelector":{}},{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["y","x"]}]}},
                                {"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],
                        "ports":[{"port":80,"endPort":90}]}],
            "egress":[{}]}}"#;
        let out = convert(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(out[0].0.path(), "/calico/v1/policy/StagedKubernetesNetworkPolicy/ns/sknp");
        let v: serde_json::Value = serde_json::from_slice(&out[0].1.to_bytes()).unwrap();
        assert_eq!(v["types"], serde_json::json!(["ingress", "egress"]));
        assert_eq!(
            v["selector"],
            "((projectcalico.org/orchestrator == \"k8s\" && role == \"db\")) && projectcalico.org/namespace == 'ns'"
        );
        let rules = v["inbound_rules"].as_array().unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[0]["src_selector"],
            "(has(projectcalico.org/namespace)) && (projectcalico.org/orchestrator == \"k8s\")"
        );
        assert!(rules[1]["src_selector"].as_str().unwrap().contains("a in {\"x\", \"y\"}"));
        assert_eq!(rules[2]["!src_nets"], serde_json::json!(["10.1.0.0/16"]));
        assert_eq!(rules[2]["dst_ports"], serde_json::json!(["80:90"]));
        assert_eq!(v["outbound_rules"], serde_json::json!([{"action": "allow"}]));
    }
}

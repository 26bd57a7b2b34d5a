//! `StagedKubernetesNetworkPolicy` → a staged policy: Kubernetes' words become Calico's as those of an enforced policy do,
//! then go the way of every rule.

use libcalico_api::staged_kubernetes_network_policy::StagedKubernetesNetworkPolicy;
use libcalico_api::staged_network_policy::{StagedNetworkPolicy, StagedNetworkPolicySpec};
use libcalico_model::kubernetes::network_policy;

use super::{Outputs, policy};

pub fn convert(object: &StagedKubernetesNetworkPolicy) -> Result<Outputs, String> {
    let meta = &object.metadata;
    let made = network_policy::of_spec("StagedKubernetesNetworkPolicy", meta, &object.spec)
        .map_err(|e| e.to_string())?;
    for reason in made.left_out {
        let policy = format!("{}/{}", meta.namespace, meta.name);
        tracing::warn!(policy, reason, "rule of a StagedKubernetesNetworkPolicy is left out");
    }
    let spec = made.policy.spec;
    let calico = StagedNetworkPolicy {
        metadata: made.policy.metadata,
        spec: StagedNetworkPolicySpec {
            tier: spec.tier,
            order: spec.order,
            selector: spec.selector,
            types: spec.types,
            ingress: spec.ingress,
            egress: spec.egress,
            staged_action: object.spec.staged_action,
            ..StagedNetworkPolicySpec::default()
        },
        ..StagedNetworkPolicy::default()
    };
    policy::staged_kubernetes_network_policy(&calico)
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
            "(projectcalico.org/orchestrator == 'k8s' && role == 'db') && projectcalico.org/namespace == 'ns'"
        );
        let rules = v["inbound_rules"].as_array().unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[0]["src_selector"],
            "(has(projectcalico.org/namespace)) && (projectcalico.org/orchestrator == 'k8s')"
        );
        assert!(rules[1]["src_selector"].as_str().unwrap().contains("a in { 'y', 'x' }"));
        assert_eq!(rules[2]["!src_nets"], serde_json::json!(["10.1.0.0/16"]));
        assert_eq!(rules[2]["dst_ports"], serde_json::json!(["80:90"]));
        assert_eq!(v["outbound_rules"], serde_json::json!([{"action": "allow"}]));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_left_out_as_of_an_enforced_policy() {
        let json = r#"{"metadata":{"name":"sknp","namespace":"ns"},"spec":{"ingress":[{"from":[{"ipBlock":{}}]},{"ports":[{"port":1}]}]}}"#;
        let out = convert(&serde_json::from_str(json).unwrap()).unwrap();
        let v: serde_json::Value = serde_json::from_slice(&out[0].1.to_bytes()).unwrap();
        assert_eq!(v["inbound_rules"].as_array().map(Vec::len), Some(1), "{v}");
    }
}

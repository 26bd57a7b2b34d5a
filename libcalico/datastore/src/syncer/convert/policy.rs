//! The kinds of Calico policy → policies that Felix calculates with. Staged ones keep their own kind of key.

use std::sync::Arc;

use libcalico_api::global_network_policy::GlobalNetworkPolicy;
use libcalico_api::meta::ObjectMeta;
use libcalico_api::network_policy::NetworkPolicy;
use libcalico_api::rule::{PolicyType, Rule};
use libcalico_api::staged_global_network_policy::StagedGlobalNetworkPolicy;
use libcalico_api::staged_network_policy::StagedNetworkPolicy;
use libcalico_model::key::PolicyKey;
use libcalico_model::{Key, PolicyKind, Value, backend};
use serde::Serialize;

use super::{Outputs, rule, selector};

/// What the kinds have in common, and where they differ.
struct Parts<'a> {
    kind: PolicyKind,
    meta: &'a ObjectMeta,
    ingress: &'a [Rule],
    egress: &'a [Rule],
    order: Option<f64>,
    tier: Option<&'a str>,
    selector: Option<&'a str>,
    namespace_selector: Option<&'a str>,
    service_account_selector: Option<&'a str>,
    types: &'a [PolicyType],
    performance_hints: Vec<String>,
    untracked: bool,
    pre_dnat: bool,
    apply_on_forward: bool,
    staged_action: Option<String>,
}

/// The fields that the specs of all these kinds have, under the same names.
macro_rules! parts {
    ($kind:expr, $policy:expr) => {{
        let s = &$policy.spec;
        Parts {
            kind: $kind,
            meta: &$policy.metadata,
            ingress: &s.ingress,
            egress: &s.egress,
            order: s.order,
            tier: s.tier.as_deref(),
            selector: s.selector.as_deref(),
            namespace_selector: None,
            service_account_selector: s.service_account_selector.as_deref(),
            types: &s.types,
            performance_hints: words(&s.performance_hints),
            untracked: false,
            pre_dnat: false,
            apply_on_forward: false,
            staged_action: None,
        }
    }};
}

/// And those that the kinds for the whole cluster have too.
macro_rules! global_parts {
    ($kind:expr, $policy:expr) => {{
        let s = &$policy.spec;
        Parts {
            namespace_selector: s.namespace_selector.as_deref(),
            untracked: s.do_not_track.unwrap_or_default(),
            pre_dnat: s.pre_dnat.unwrap_or_default(),
            apply_on_forward: s.apply_on_forward.unwrap_or_default(),
            ..parts!($kind, $policy)
        }
    }};
}

pub fn network_policy(p: &NetworkPolicy) -> Result<Outputs, String> {
    convert(&parts!(PolicyKind::NetworkPolicy, p))
}

pub fn staged_network_policy(p: &StagedNetworkPolicy) -> Result<Outputs, String> {
    let kind = PolicyKind::StagedNetworkPolicy;
    convert(&Parts { staged_action: word(&p.spec.staged_action), ..parts!(kind, p) })
}

/// A staged Kubernetes policy in Calico's words. It keeps its own kind of key.
pub fn staged_kubernetes_network_policy(p: &StagedNetworkPolicy) -> Result<Outputs, String> {
    let kind = PolicyKind::StagedKubernetesNetworkPolicy;
    convert(&Parts { staged_action: word(&p.spec.staged_action), ..parts!(kind, p) })
}

pub fn global_network_policy(p: &GlobalNetworkPolicy) -> Result<Outputs, String> {
    convert(&global_parts!(PolicyKind::GlobalNetworkPolicy, p))
}

/// A ClusterNetworkPolicy in Calico's words. It keeps its own kind of key.
pub fn cluster_network_policy(p: &GlobalNetworkPolicy) -> Result<Outputs, String> {
    convert(&global_parts!(PolicyKind::KubernetesClusterNetworkPolicy, p))
}

pub fn staged_global_network_policy(p: &StagedGlobalNetworkPolicy) -> Result<Outputs, String> {
    let kind = PolicyKind::StagedGlobalNetworkPolicy;
    convert(&Parts { staged_action: word(&p.spec.staged_action), ..global_parts!(kind, p) })
}

fn convert(p: &Parts<'_>) -> Result<Outputs, String> {
    let namespace = &p.meta.namespace;
    let text = |t: Option<&str>| t.unwrap_or_default().to_owned();
    let selector = selector::subject(
        &text(p.selector),
        namespace,
        &text(p.namespace_selector),
        &text(p.service_account_selector),
    )
    .map_err(|e| format!("spec: {e}"))?;
    let value = backend::Policy {
        namespace: namespace.clone(),
        tier: p.tier.filter(|t| !t.is_empty()).unwrap_or("default").to_owned(),
        order: p.order,
        inbound_rules: rule::convert_all(p.ingress, namespace, "ingress")?,
        outbound_rules: rule::convert_all(p.egress, namespace, "egress")?,
        selector,
        untracked: p.untracked,
        pre_dnat: p.pre_dnat,
        apply_on_forward: p.apply_on_forward,
        types: p
            .types
            .iter()
            .map(|t| match t {
                PolicyType::Ingress => "ingress".to_owned(),
                PolicyType::Egress => "egress".to_owned(),
            })
            .collect(),
        performance_hints: p.performance_hints.clone(),
        staged_action: p.staged_action.clone(),
    };
    let key = PolicyKey { kind: p.kind, namespace: namespace.clone(), name: p.meta.name.clone() };
    Ok(vec![(Key::Policy(key), Value::Policy(Arc::new(value)))])
}

/// The API's word for a value of one of its enumerations.
fn word<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned))
}

fn words<T: Serialize>(values: &[T]) -> Vec<String> {
    values.iter().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespaced_policy_becomes_what_upstream_makes_of_it() {
        let json = r#"{"metadata":{"name":"np-db","namespace":"default"},"spec":{"tier":"default","order":600,
            "ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"role == 'web'"},
                        "destination":{"ports":[5432,"8000:8080","http"]}},
                       {"action":"Pass","source":{"nets":["10.0.0.7"]}}],
            "selector":"role == 'db'","types":["Ingress"]}}"#;
        let policy: NetworkPolicy = serde_json::from_str(json).unwrap();
        let out = network_policy(&policy).unwrap();
        assert_eq!(out[0].0.path(), "/calico/v1/policy/NetworkPolicy/default/np-db");
        let value: serde_json::Value = serde_json::from_slice(&out[0].1.to_bytes()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(
            r#"{"namespace":"default","tier":"default","order":600.0,
                "selector":"(role == 'db') && projectcalico.org/namespace == 'default'","types":["ingress"],
                "inbound_rules":[
                  {"action":"allow","protocol":"tcp","dst_ports":[5432,"8000:8080","http"],
                   "src_selector":"(projectcalico.org/namespace == 'default') && (role == 'web')",
                   "original_src_selector":"role == 'web'"},
                  {"action":"pass","src_nets":["10.0.0.7/32"]}]}"#,
        )
        .unwrap();
        assert_eq!(value, expected);
    }

    #[test]
    fn a_policy_with_a_broken_rule_is_refused_by_place() {
        let json = r#"{"metadata":{"name":"p"},"spec":{"egress":[{"action":"Allow"},{"action":"Deny","destination":{"nets":["10.0.0.0/33"]}}]}}"#;
        let policy: GlobalNetworkPolicy = serde_json::from_str(json).unwrap();
        let error = global_network_policy(&policy).unwrap_err();
        assert!(error.contains("spec.egress[1]") && error.contains("10.0.0.0/33"), "{error}");
    }
}

//! `StagedKubernetesNetworkPolicy` of `projectcalico.org/v3`: a Kubernetes NetworkPolicy that is counted and reported, not
//! enforced.

use serde::{Deserialize, Serialize};

use crate::common::{LabelSelector, null_default};
use crate::meta::{NoStatus, Object};
use crate::num_or_string::Port;
use crate::policy::MAX_RULES;
use crate::rule::{PolicyType, StagedAction};
use crate::validation::{Checked, Findings, Path};

/// Most peers, or ports, of one rule.
pub const MAX_MATCHES: usize = 512;

/// The whole object.
pub type StagedKubernetesNetworkPolicy = Object<StagedKubernetesNetworkPolicySpec, NoStatus>;

/// As of Kubernetes' NetworkPolicy, and what staging it is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    /// Connections that the pods may open.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<KubernetesEgressRule>,
    /// Connections that the pods may receive.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<KubernetesIngressRule>,
    /// Pods of the namespace that the policy applies to; empty is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Directions the policy applies to.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<PolicyType>,
    /// What the policy would do to the enforced one of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
}

/// One rule for incoming packets; absent parts match everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesIngressRule {
    /// Where a connection comes from, any of these; empty is anywhere.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<KubernetesPolicyPeer>,
    /// Ports of the pods, any of these; empty is all.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubernetesPolicyPort>,
}

/// One rule for outgoing packets; absent parts match everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesEgressRule {
    /// Ports of the far side, any of these; empty is all.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubernetesPolicyPort>,
    /// Where a connection goes, any of these; empty is anywhere.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<KubernetesPolicyPeer>,
}

/// Pods, namespaces, or a range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPolicyPeer {
    /// A range of addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<KubernetesIpBlock>,
    /// Namespaces of the pods; absent is the policy's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The pods; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// A range less some others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesIpBlock {
    /// The range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Ranges within it that are left out.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// A port, a range of ports, or a protocol's all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPolicyPort {
    /// Last port of a range that `port` begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
    /// A port's number or name; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// TCP, UDP or SCTP; TCP unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

impl Checked for StagedKubernetesNetworkPolicy {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        if let Some(s) = &self.spec.pod_selector {
            s.check(&spec.field("podSelector"), e);
        }
        let at = spec.field("ingress");
        e.max_items(&at, &self.spec.ingress, MAX_RULES);
        for (i, rule) in self.spec.ingress.iter().enumerate() {
            check_rule(&at.index(i), "from", &rule.from, &rule.ports, e);
        }
        let at = spec.field("egress");
        e.max_items(&at, &self.spec.egress, MAX_RULES);
        for (i, rule) in self.spec.egress.iter().enumerate() {
            check_rule(&at.index(i), "to", &rule.to, &rule.ports, e);
        }
    }

    /// Kubernetes' defaults: ingress always, egress where it has rules.
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        if *spec.staged_action.get_or_insert(StagedAction::Set) != StagedAction::Delete
            && spec.policy_types.is_empty()
        {
            spec.policy_types.push(PolicyType::Ingress);
            if !spec.egress.is_empty() {
                spec.policy_types.push(PolicyType::Egress);
            }
        }
    }
}

fn check_rule(
    path: &Path<'_>,
    side: &str,
    peers: &[KubernetesPolicyPeer],
    ports: &[KubernetesPolicyPort],
    e: &mut Findings,
) {
    let list = path.field(side);
    e.max_items(&list, peers, MAX_MATCHES);
    for (i, peer) in peers.iter().enumerate() {
        let at = list.index(i);
        if let Some(block) = &peer.ip_block {
            e.require(
                peer.pod_selector.is_none() && peer.namespace_selector.is_none(),
                &at.field("ipBlock"),
                "",
                "cannot stand beside podSelector or namespaceSelector",
            );
            let at = at.field("ipBlock");
            let net = e.network(&at.field("cidr"), block.cidr.as_deref().unwrap_or_default());
            for (i, text) in block.except.iter().enumerate() {
                let at = at.field("except");
                let at = at.index(i);
                if let (Some(outer), Some(inner)) = (net, e.network(&at, text)) {
                    e.require(outer.contains(&inner) && outer != inner, &at, text, "must lie within cidr");
                }
            }
        }
        for (name, selector) in
            [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)]
        {
            if let Some(s) = selector {
                s.check(&at.field(name), e);
            }
        }
    }
    let list = path.field("ports");
    e.max_items(&list, ports, MAX_MATCHES);
    for (i, port) in ports.iter().enumerate() {
        let at = list.index(i);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let known = matches!(protocol, "TCP" | "UDP" | "SCTP");
        e.require(known, &at.field("protocol"), protocol, "must be TCP, UDP or SCTP");
        if let Some(end) = port.end_port {
            let first = match port.port {
                Some(Port::Number(n)) => Some(i64::from(n)),
                _ => None,
            };
            let end_at = at.field("endPort");
            match first {
                Some(first) => e.range(&end_at, end, first, 65535),
                None => e.add(&end_at, end, "needs a numeric port beside it"),
            }
        }
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Format, Max, MaxItems, Min, Pattern, Required, Rule};
    crate::crd::Table {
        columns: &[],
        status: false,
        limits: &[&[
            ("spec.stagedAction", &[crate::crd::Set::Default("\"Set\"")]),
            ("spec.{ingress,egress}", &[MaxItems(MAX_RULES as u64)]),
            (
                "spec.{ingress[].from,egress[].to}[]",
                &[Rule(
                    "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
                    "ipBlock cannot stand beside podSelector or namespaceSelector",
                )],
            ),
            ("spec.{ingress[].from,egress[].to}", &[MaxItems(MAX_MATCHES as u64)]),
            ("spec.{ingress[].from,egress[].to}[].ipBlock", &[Required(&["cidr"])]),
            ("spec.{ingress[].from,egress[].to}[].ipBlock.cidr", &[Format("cidr")]),
            ("spec.{ingress[].from,egress[].to}[].ipBlock.except[]", &[Format("cidr")]),
            ("spec.{ingress,egress}[].ports", &[MaxItems(MAX_MATCHES as u64)]),
            (
                "spec.{ingress,egress}[].ports[]",
                &[Rule(
                    "!has(self.endPort) || (has(self.port) && type(self.port) == int && self.port <= self.endPort)",
                    "endPort needs a numeric port beside it that is not above it",
                )],
            ),
            ("spec.{ingress,egress}[].ports[].endPort", &[Min(1), Max(65535)]),
            ("spec.{ingress,egress}[].ports[].protocol", &[Pattern("^(TCP|UDP|SCTP)$")]),
            (
                "spec.{podSelector,ingress[].from[].podSelector,ingress[].from[].namespaceSelector,egress[].to[].podSelector,egress[].to[].namespaceSelector}.matchExpressions[]",
                &[Required(&["key", "operator"])],
            ),
            (
                "spec.{podSelector,ingress[].from[].podSelector,ingress[].from[].namespaceSelector,egress[].to[].podSelector,egress[].to[].namespaceSelector}.matchExpressions[].operator",
                &[Pattern("^(In|NotIn|Exists|DoesNotExist)$")],
            ),
        ]],
    }
};

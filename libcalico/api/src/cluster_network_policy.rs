//! `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`: policy of the cluster's administrator, before
//! (tier `Admin`) or after (tier `Baseline`) the NetworkPolicies of namespaces.
//!
//! A kind of the Network Policy API, which Calico reads and does not own: the type stands here so that its definition
//! is installed with ours. What is left out: conversion to Calico's policy (`libcalico-model`).

use serde::{Deserialize, Serialize};

use crate::common::{Condition, LabelSelector, null_default};
use crate::meta::Object;

/// API version of the kind; not Calico's own.
pub const API_VERSION: &str = "policy.networking.k8s.io/v1alpha2";
/// Most rules in one direction.
pub const MAX_RULES: u64 = 25;
/// Most peers, protocols or networks in one rule.
pub const MAX_MATCHES: u64 = 25;

/// The whole object.
pub type ClusterNetworkPolicy = Object<ClusterNetworkPolicySpec, ClusterNetworkPolicyStatus>;

/// What controllers report of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyStatus {
    /// Whether the policy is in force, and what hinders it.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
}

/// Whom the policy applies to and what it says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` goes before NetworkPolicies, `Baseline` after them.
    pub tier: Option<CnpTier>,
    /// Place within the tier, lowest first.
    pub priority: i32,
    /// Pods the policy applies to.
    pub subject: CnpSubject,
    /// Rules for connections to the subject, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<CnpIngressRule>,
    /// Rules for connections from the subject, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<CnpEgressRule>,
}

/// Where a policy stands beside NetworkPolicies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CnpTier {
    Admin,
    Baseline,
}

/// Pods by their namespace, or by namespace and labels: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpSubject {
    /// All pods of the namespaces whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods whose labels match in namespaces whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Pods by labels of their namespace and their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// The namespaces; empty is all.
    pub namespace_selector: LabelSelector,
    /// The pods within them; empty is all.
    pub pod_selector: LabelSelector,
}

/// One rule for connections to the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpIngressRule {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What happens to a connection that matches.
    pub action: Option<CnpAction>,
    /// Where it comes from: any of these.
    #[serde(deserialize_with = "null_default")]
    pub from: Vec<CnpSubject>,
    /// Protocols and ports, any of these; absent is all.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<CnpProtocol>,
}

/// One rule for connections from the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpEgressRule {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What happens to a connection that matches.
    pub action: Option<CnpAction>,
    /// Where it goes: any of these.
    #[serde(deserialize_with = "null_default")]
    pub to: Vec<CnpEgressPeer>,
    /// Protocols and ports, any of these; absent is all.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<CnpProtocol>,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CnpAction {
    Accept,
    Deny,
    /// The next tier decides.
    Pass,
}

/// Pods or networks: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpEgressPeer {
    /// All pods of the namespaces whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods whose labels match in namespaces whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// Addresses within one of these networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// A protocol with or without a port: one of the four.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpProtocol {
    /// TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<CnpPorts>,
    /// UDP packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<CnpPorts>,
    /// SCTP associations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<CnpPorts>,
    /// A port of the destination pod, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpPorts {
    /// Port of the destination; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<CnpPort>,
}

/// A port or a range of ports: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpPort {
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// Ports from the first to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<CnpPortRange>,
}

/// Ports between two, both included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CnpPortRange {
    /// First port.
    pub start: i32,
    /// Last port.
    pub end: i32,
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{
        Max, MaxItems, MaxLength, MaxProperties, Min, MinItems, MinProperties, Required, Rule,
    };
    crate::crd::Table {
        columns: &[
            ("Tier", "string", ".spec.tier"),
            ("Priority", "string", ".spec.priority"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        status: true,
        limits: &[
            crate::crd::CONDITIONS,
            &[
                ("spec", &[Required(&["priority", "subject", "tier"])]),
                ("spec.priority", &[Min(0), Max(1000)]),
                ("spec.{ingress,egress}", &[MaxItems(MAX_RULES)]),
                ("spec.{ingress,egress}[].name", &[MaxLength(100)]),
                ("spec.{ingress,egress}[].protocols", &[MinItems(1), MaxItems(MAX_MATCHES)]),
                ("spec.ingress[]", &[Required(&["action", "from"])]),
                ("spec.ingress[].from", &[MinItems(1), MaxItems(MAX_MATCHES)]),
                ("spec.egress[]", &[Required(&["action", "to"])]),
                ("spec.egress[].to", &[MinItems(1), MaxItems(MAX_MATCHES)]),
                ("spec.egress[].to[].networks", &[MinItems(1), MaxItems(MAX_MATCHES)]),
                (
                    "spec.egress[].to[].networks[]",
                    &[
                        MaxLength(43),
                        Rule("isCIDR(self)", "must be a network such as 10.0.0.0/8 or fd00::/8"),
                    ],
                ),
                ("spec.{subject,ingress[].from[],egress[].to[]}", &[MinProperties(1), MaxProperties(1)]),
                (
                    "spec.{subject,ingress[].from[],egress[].to[]}.pods",
                    &[Required(&["namespaceSelector", "podSelector"])],
                ),
                ("spec.{ingress,egress}[].protocols[]", &[MinProperties(1), MaxProperties(1)]),
                ("spec.{ingress,egress}[].protocols[].{tcp,udp,sctp}", &[MinProperties(1)]),
                (
                    "spec.{subject,ingress[].from[],egress[].to[]}.{namespaces,pods.podSelector,pods.namespaceSelector}.matchExpressions[]",
                    &[Required(&["key", "operator"])],
                ),
                (
                    "spec.{ingress,egress}[].protocols[].{tcp,udp,sctp}.destinationPort",
                    &[MinProperties(1), MaxProperties(1)],
                ),
                (
                    "spec.{ingress,egress}[].protocols[].{tcp,udp,sctp}.destinationPort.number",
                    &[Min(1), Max(65535)],
                ),
                (
                    "spec.{ingress,egress}[].protocols[].{tcp,udp,sctp}.destinationPort.range",
                    &[Required(&["end", "start"]), Rule("self.start < self.end", "start must be below end")],
                ),
                (
                    "spec.{ingress,egress}[].protocols[].{tcp,udp,sctp}.destinationPort.range.{start,end}",
                    &[Min(1), Max(65535)],
                ),
            ],
        ],
    }
};

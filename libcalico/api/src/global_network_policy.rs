//! `GlobalNetworkPolicy` of `projectcalico.org/v3`: policy for endpoints of any namespace, and for hosts.

use serde::{Deserialize, Serialize};

use crate::common::{go_float, null_default};
use crate::meta::{NoStatus, Object};
use crate::policy::{PolicyFields, default_tier, default_types, drop_empty, drop_false};
use crate::rule::{PerformanceHint, PolicyType, Rule};
use crate::validation::{Checked, Findings};

/// The whole object.
pub type GlobalNetworkPolicy = Object<GlobalNetworkPolicySpec, NoStatus>;

/// Which endpoints, which traffic, in which tier and order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicySpec {
    /// On host endpoints: also for forwarded traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_on_forward: Option<bool>,
    /// On host endpoints: before connection tracking, stateless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_not_track: Option<bool>,
    /// Rules for packets that leave the endpoint, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Rules for packets that reach the endpoint, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Narrows the selector to endpoints in namespaces whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// Place within the tier, lowest first; absent is last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go_float")]
    pub order: Option<f64>,
    /// What Felix may assume to be quicker.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<PerformanceHint>,
    /// On host endpoints: before destination NAT.
    #[serde(rename = "preDNAT", skip_serializing_if = "Option::is_none")]
    pub pre_dnat: Option<bool>,
    /// Endpoints the policy applies to; empty is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Narrows the selector to pods that run as a service account whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<String>,
    /// The tier the policy is in; `default` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Directions the policy applies to. A direction that is listed and has no matching rule ends in the tier's default action.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
}

impl GlobalNetworkPolicySpec {
    fn fields(&self) -> PolicyFields<'_> {
        PolicyFields {
            tier: self.tier.as_deref(),
            selector: self.selector.as_deref(),
            namespace_selector: self.namespace_selector.as_deref(),
            service_account_selector: self.service_account_selector.as_deref(),
            ingress: &self.ingress,
            egress: &self.egress,
            types: &self.types,
            order: self.order,
            do_not_track: self.do_not_track.unwrap_or_default(),
            pre_dnat: self.pre_dnat.unwrap_or_default(),
            apply_on_forward: self.apply_on_forward.unwrap_or_default(),
        }
    }
}

impl Checked for GlobalNetworkPolicy {
    fn check(&self, e: &mut Findings) {
        self.spec.fields().check(e);
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        default_tier(&mut self.metadata, &mut spec.tier);
        default_types(&mut spec.types, &spec.ingress, &spec.egress);
        for flag in [&mut spec.do_not_track, &mut spec.pre_dnat, &mut spec.apply_on_forward] {
            drop_false(flag);
        }
        for text in [&mut spec.selector, &mut spec.namespace_selector, &mut spec.service_account_selector] {
            drop_empty(text);
        }
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    crate::crd::Table {
        columns: &[
            ("Tier", "string", ".spec.tier"),
            ("Order", "number", ".spec.order"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        status: false,
        limits: &[crate::policy::RULE_LIMITS, crate::policy::LIMITS, crate::policy::GLOBAL_LIMITS],
    }
};

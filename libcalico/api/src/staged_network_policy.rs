//! `StagedNetworkPolicy` of `projectcalico.org/v3`: a NetworkPolicy that is counted and reported, not enforced.

use serde::{Deserialize, Serialize};

use crate::common::{go_float, null_default};
use crate::meta::{NoStatus, Object};
use crate::policy::{PolicyFields, default_tier, default_types, drop_empty};
use crate::rule::{PerformanceHint, PolicyType, Rule, StagedAction};
use crate::validation::{Checked, Findings};

/// The whole object.
pub type StagedNetworkPolicy = Object<StagedNetworkPolicySpec, NoStatus>;

/// As of NetworkPolicy, and what staging it is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StagedNetworkPolicySpec {
    /// Rules for packets that leave the endpoint, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Rules for packets that reach the endpoint, first match wins.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Place within the tier, lowest first; absent is last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go_float")]
    pub order: Option<f64>,
    /// What Felix may assume to be quicker.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<PerformanceHint>,
    /// Endpoints the policy applies to; empty is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Narrows the selector to pods that run as a service account whose labels match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<String>,
    /// What the policy would do to the enforced one of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
    /// The tier the policy is in; `default` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Directions the policy applies to. A direction that is listed and has no matching rule ends in the tier's default action.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
}

impl StagedNetworkPolicySpec {
    fn fields(&self) -> PolicyFields<'_> {
        PolicyFields {
            tier: self.tier.as_deref(),
            selector: self.selector.as_deref(),
            namespace_selector: None,
            service_account_selector: self.service_account_selector.as_deref(),
            ingress: &self.ingress,
            egress: &self.egress,
            types: &self.types,
            order: self.order,
            do_not_track: false,
            pre_dnat: false,
            apply_on_forward: false,
        }
    }
}

impl Checked for StagedNetworkPolicy {
    fn check(&self, e: &mut Findings) {
        self.spec.fields().check(e);
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        default_tier(&mut self.metadata, &mut spec.tier);
        let action = *spec.staged_action.get_or_insert(StagedAction::Set);
        if action != StagedAction::Delete {
            default_types(&mut spec.types, &spec.ingress, &spec.egress);
        }
        drop_empty(&mut spec.selector);
        drop_empty(&mut spec.service_account_selector);
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    crate::crd::Table {
        columns: &[("Tier", "string", ".spec.tier"), ("Order", "number", ".spec.order")],
        status: false,
        limits: &[
            crate::policy::RULE_LIMITS,
            crate::policy::LIMITS,
            &[("spec.stagedAction", &[crate::crd::Set::Default("\"Set\"")])],
        ],
    }
};

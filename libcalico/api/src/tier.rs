//! `Tier` of `projectcalico.org/v3`: a group of policies that is walked through before the next one.

use serde::{Deserialize, Serialize};

use crate::common::{Condition, go_float, null_default};
use crate::meta::Object;
use crate::policy::check_order;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type Tier = Object<TierSpec, TierStatus>;

/// What controllers report of a tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TierStatus {
    /// `Ready` and what hinders it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a tier stands and what ends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Place among the tiers, lowest first; absent is last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go_float")]
    pub order: Option<f64>,
    /// `Deny` or `Pass`: what happens to packets that a policy of the tier applies to and no rule decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
}

/// Tiers that always exist, with their fixed order and default action.
pub const BUILT_IN: [(&str, f64, &str); 3] = [
    ("default", 1_000_000.0, "Deny"),
    ("kube-admin", 1_000.0, "Pass"),
    ("kube-baseline", 10_000_000.0, "Pass"),
];

impl Checked for Tier {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let (order_at, action_at) = (spec.field("order"), spec.field("defaultAction"));
        check_order(self.spec.order, e);
        let action = self.spec.default_action.as_deref().unwrap_or("Deny");
        e.require(matches!(action, "Deny" | "Pass"), &action_at, action, "must be Deny or Pass");
        if let Some((name, order, fixed)) = BUILT_IN.iter().find(|(n, ..)| *n == self.metadata.name) {
            if self.spec.order != Some(*order) {
                let found = self.spec.order.map_or_else(String::new, |n| n.to_string());
                e.add(&order_at, found, format!("the tier {name} has the fixed order {order}"));
            }
            if action != *fixed {
                e.add(&action_at, action, format!("the tier {name} has the fixed default action {fixed}"));
            }
        }
    }

    fn set_defaults(&mut self) {
        let built_in = BUILT_IN.iter().find(|(n, ..)| *n == self.metadata.name);
        let fallback = built_in.map_or("Deny", |(_, _, action)| action);
        self.spec.default_action.get_or_insert_with(|| fallback.to_owned());
        if let Some((_, order, _)) = built_in {
            self.spec.order.get_or_insert(*order);
        }
        self.status.get_or_insert_default();
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, MaxLength, Pattern, Rule};
    crate::crd::Table {
        columns: &[
            ("Order", "number", ".spec.order"),
            ("DefaultAction", "string", ".spec.defaultAction"),
            ("Status", "string", ".status.conditions[?(@.type=='Ready')].reason"),
        ],
        status: true,
        limits: &[
            crate::crd::CONDITIONS,
            &[
                (
                    "",
                    &[
                        Rule(
                            "self.metadata.name != 'default' || (has(self.spec.order) && self.spec.order == 1000000.0 && self.spec.defaultAction == 'Deny')",
                            "the tier default has the fixed order 1000000 and default action Deny",
                        ),
                        Rule(
                            "self.metadata.name != 'kube-admin' || (has(self.spec.order) && self.spec.order == 1000.0 && self.spec.defaultAction == 'Pass')",
                            "the tier kube-admin has the fixed order 1000 and default action Pass",
                        ),
                        Rule(
                            "self.metadata.name != 'kube-baseline' || (has(self.spec.order) && self.spec.order == 10000000.0 && self.spec.defaultAction == 'Pass')",
                            "the tier kube-baseline has the fixed order 10000000 and default action Pass",
                        ),
                    ],
                ),
                ("spec.defaultAction", &[Default("\"Deny\""), Pattern("^(Deny|Pass)$"), MaxLength(16)]),
            ],
        ],
    }
};

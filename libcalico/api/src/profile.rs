//! `Profile` of `projectcalico.org/v3`: rules and labels that endpoints inherit. Not a CRD: Kubernetes' namespaces
//! and service accounts become profiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::policy::MAX_RULES;
use crate::rule::{Direction, Rule};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type Profile = Object<ProfileSpec, NoStatus>;

/// Rules apply where no policy of any tier decides; labels are added to the endpoint's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
}

/// The profile that exists without being stored: allows everything.
pub const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

impl Checked for Profile {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        e.require(
            self.metadata.name != DEFAULT_ALLOW,
            &Path::root("metadata").field("name"),
            &self.metadata.name,
            "is built in and cannot be written",
        );
        for (name, direction, rules) in [
            ("ingress", Direction::Ingress, &self.spec.ingress),
            ("egress", Direction::Egress, &self.spec.egress),
        ] {
            let at = spec.field(name);
            e.max_items(&at, rules, MAX_RULES);
            for (i, rule) in rules.iter().enumerate() {
                rule.check(direction, &at.index(i), e);
            }
        }
    }
}

/// The built-in profile as lists show it.
#[must_use]
pub fn default_allow() -> Profile {
    let allow = || vec![Rule::default()];
    let mut profile = Profile {
        spec: ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() },
        ..Profile::default()
    };
    DEFAULT_ALLOW.clone_into(&mut profile.metadata.name);
    profile
}

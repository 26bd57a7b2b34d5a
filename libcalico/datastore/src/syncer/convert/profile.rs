//! `Profile` → its rules. Its labels are read from the profile itself. And the profile that is always there:
//! `projectcalico-default-allow`, which host endpoints made by the system use.

use std::collections::BTreeMap;
use std::sync::Arc;

use libcalico_api::meta::ObjectMeta;
use libcalico_api::profile::{Profile, ProfileSpec};
use libcalico_api::rule::{Action, Rule};
use libcalico_api::{Kind, Resource};
use libcalico_model::{Key, Value, backend};

use super::Outputs;
use super::rule;

/// Name of the profile that allows everything.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

pub fn convert(profile: &Profile) -> Result<Outputs, String> {
    let value = backend::ProfileRules {
        inbound_rules: rule::convert_all(&profile.spec.ingress, "", "ingress")?,
        outbound_rules: rule::convert_all(&profile.spec.egress, "", "egress")?,
    };
    Ok(vec![(Key::ProfileRules(profile.metadata.name.clone()), Value::ProfileRules(Arc::new(value)))])
}

pub fn builtin() -> Outputs {
    let allow = || vec![Rule { action: Action::Allow, ..Rule::default() }];
    let profile = Profile {
        metadata: ObjectMeta { name: DEFAULT_ALLOW.to_owned(), ..ObjectMeta::default() },
        spec: ProfileSpec { ingress: allow(), egress: allow(), labels_to_apply: BTreeMap::new() },
        ..Profile::default()
    };
    // Two rules without a match convert whatever the namespace.
    let rules = convert(&profile).unwrap_or_default();
    let key = Key::resource(Kind::Profile, "", DEFAULT_ALLOW);
    let mut out = vec![(key, Value::from(Resource::from(profile)))];
    out.extend(rules);
    out
}

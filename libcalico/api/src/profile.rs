//! `Profile` of `projectcalico.org/v3`: rules and labels that endpoints inherit. Not a CRD: Kubernetes' namespaces
//! and service accounts become profiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::rule::Rule;

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

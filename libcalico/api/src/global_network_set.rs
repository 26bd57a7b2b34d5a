//! `GlobalNetworkSet` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};

/// The whole object.
pub type GlobalNetworkSet = Object<GlobalNetworkSetSpec, NoStatus>;

/// `GlobalNetworkSetSpec` of GlobalNetworkSet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkSetSpec {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}

//! `GlobalNetworkSet` of `projectcalico.org/v3`: addresses with labels, for policy of any namespace.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type GlobalNetworkSet = Object<GlobalNetworkSetSpec, NoStatus>;

/// The addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkSetSpec {
    /// Networks and addresses; selectors match the set by the labels of its metadata.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}

impl Checked for GlobalNetworkSet {
    fn check(&self, e: &mut Findings) {
        e.nets(&Path::root("spec").field("nets"), &self.spec.nets);
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = crate::crd::Table {
    columns: &[("Age", "date", ".metadata.creationTimestamp")],
    status: false,
    limits: &[&[("spec.nets[]", crate::crd::NET)]],
};

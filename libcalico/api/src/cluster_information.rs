//! `ClusterInformation` of `projectcalico.org/v3`: what the cluster is. One object, `default`.

use serde::{Deserialize, Serialize};

use crate::meta::{NoStatus, Object};
use crate::policy::drop_empty;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type ClusterInformation = Object<ClusterInformationSpec, NoStatus>;

/// Version, identity and readiness of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// Version that last wrote the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,
    /// Random name of the cluster.
    #[serde(rename = "clusterGUID", skip_serializing_if = "Option::is_none")]
    pub cluster_guid: Option<String>,
    /// What runs in the cluster, joined by commas: `k8s,bgp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,
    /// False while the datastore is locked for a migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// Which Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Checked for ClusterInformation {
    fn check(&self, e: &mut Findings) {
        let name = &self.metadata.name;
        e.require(name == "default", &Path::root("metadata").field("name"), name, "the only name is default");
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        for text in
            [&mut spec.calico_version, &mut spec.cluster_guid, &mut spec.cluster_type, &mut spec.variant]
        {
            drop_empty(text);
        }
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::Rule;
    crate::crd::Table {
        columns: &[
            ("Version", "string", ".spec.calicoVersion"),
            ("Ready", "boolean", ".spec.datastoreReady"),
            ("Types", "string", ".spec.clusterType"),
        ],
        status: false,
        limits: &[&[(
            "",
            &[Rule("self.metadata.name == 'default'", "metadata.name: the only name is default")],
        )]],
    }
};

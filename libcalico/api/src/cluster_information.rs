//! `ClusterInformation` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::meta::{NoStatus, Object};

/// The whole object.
pub type ClusterInformation = Object<ClusterInformationSpec, NoStatus>;

/// `ClusterInformationSpec` of ClusterInformation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,
    #[serde(rename = "clusterGUID", skip_serializing_if = "Option::is_none")]
    pub cluster_guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

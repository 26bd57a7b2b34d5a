//! `HostEndpoint` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::common::{EndpointPort, null_default};
use crate::meta::{NoStatus, Object};

/// The whole object.
pub type HostEndpoint = Object<HostEndpointSpec, NoStatus>;

/// `HostEndpointSpec` of HostEndpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    #[serde(
        rename = "expectedIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub expected_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

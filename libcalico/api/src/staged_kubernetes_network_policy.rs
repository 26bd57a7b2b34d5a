//! `StagedKubernetesNetworkPolicy` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::common::{LabelSelector, null_default};
use crate::meta::{NoStatus, Object};
use crate::num_or_string::Port;
use crate::rule::{PolicyType, StagedAction};

/// The whole object.
pub type StagedKubernetesNetworkPolicy = Object<StagedKubernetesNetworkPolicySpec, NoStatus>;

/// `StagedKubernetesNetworkPolicySpec` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<StagedKubernetesNetworkPolicyEgress>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<StagedKubernetesNetworkPolicyIngress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<PolicyType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
}

/// `StagedKubernetesNetworkPolicyIngress` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicyIngress {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<StagedKubernetesNetworkPolicyEgressTo>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<StagedKubernetesNetworkPolicyEgressPorts>,
}

/// `StagedKubernetesNetworkPolicyEgress` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicyEgress {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<StagedKubernetesNetworkPolicyEgressPorts>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<StagedKubernetesNetworkPolicyEgressTo>,
}

/// `StagedKubernetesNetworkPolicyEgressTo` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicyEgressTo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<StagedKubernetesNetworkPolicyEgressToIpBlock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// `StagedKubernetesNetworkPolicyEgressToIpBlock` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicyEgressToIpBlock {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// `StagedKubernetesNetworkPolicyEgressPorts` of StagedKubernetesNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicyEgressPorts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

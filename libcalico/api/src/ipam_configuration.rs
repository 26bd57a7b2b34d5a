//! `IPAMConfiguration` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::common::EnabledDisabled;
use crate::meta::{NoStatus, Object};

/// The whole object.
pub type IPAMConfiguration = Object<IPAMConfigurationSpec, NoStatus>;

/// `IPAMConfigurationSpec` of IPAMConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IPAMConfigurationSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_allocate_blocks: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<i32>,
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<EnabledDisabled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_affinity: Option<bool>,
}

//! `KubeControllersConfiguration` of `projectcalico.org/v3`: type, defaults and validation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::{EnabledDisabled, null_default};
use crate::meta::Object;

/// The whole object.
pub type KubeControllersConfiguration =
    Object<KubeControllersConfigurationSpec, KubeControllersConfigurationStatus>;

/// `KubeControllersConfigurationStatus` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_vars: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_config: Option<KubeControllersConfigurationStatusRunningConfig>,
}

/// `KubeControllersConfigurationStatusRunningConfig` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatusRunningConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controllers: Option<KubeControllersConfigurationStatusRunningConfigControllers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
}

/// `KubeControllersConfigurationStatusRunningConfigControllers` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatusRunningConfigControllers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<KubeControllersConfigurationControllersLoadBalancer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<KubeControllersConfigurationControllersMigration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<KubeControllersConfigurationStatusRunningConfigControllersNode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<KubeControllersConfigurationControllersNamespace>,
}

/// `KubeControllersConfigurationStatusRunningConfigControllersNode` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatusRunningConfigControllersNode {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<KubeControllersConfigurationStatusRunningConfigControllersNodeHostEndpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_labels: Option<EnabledDisabled>,
}

/// `KubeControllersConfigurationStatusRunningConfigControllersNodeHostEndpoint` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatusRunningConfigControllersNodeHostEndpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<EnabledDisabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_default_host_endpoint: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<serde_json::Value>,
}

/// `KubeControllersConfigurationSpec` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controllers: Option<KubeControllersConfigurationControllers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
}

/// Values of `LogSeverityScreen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogSeverityScreen {
    None,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
    Panic,
}

/// `KubeControllersConfigurationControllers` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<KubeControllersConfigurationControllersLoadBalancer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<KubeControllersConfigurationControllersMigration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<KubeControllersConfigurationControllersNode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<KubeControllersConfigurationControllersNamespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<KubeControllersConfigurationControllersNamespace>,
}

/// `KubeControllersConfigurationControllersNode` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersNode {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<KubeControllersConfigurationControllersNodeHostEndpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_labels: Option<EnabledDisabled>,
}

/// `KubeControllersConfigurationControllersNodeHostEndpoint` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersNodeHostEndpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<EnabledDisabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_default_host_endpoint: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<KubeControllersConfigurationControllersNodeHostEndpointTemplates>,
}

/// `KubeControllersConfigurationControllersNodeHostEndpointTemplates` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersNodeHostEndpointTemplates {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    #[serde(
        rename = "interfaceCIDRs",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interface_cid_rs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_pattern: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
}

/// `KubeControllersConfigurationControllersNamespace` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersNamespace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// `KubeControllersConfigurationControllersMigration` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersMigration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<EnabledDisabled>,
}

/// `KubeControllersConfigurationControllersLoadBalancer` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationControllersLoadBalancer {
    #[serde(rename = "assignIPs", default, skip_serializing_if = "Option::is_none")]
    pub assign_ips: Option<AssignIPs>,
}

/// Values of `AssignIPs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AssignIPs {
    AllServices,
    RequestedServicesOnly,
}

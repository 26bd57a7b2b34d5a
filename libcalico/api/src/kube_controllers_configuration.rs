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
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_vars: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<RunningConfig>,
}

/// `RunningConfig` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunningConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<Controllers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
}

/// `KubeControllersConfigurationSpec` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<Controllers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// `Controllers` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Controllers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ReconcilingController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ReconcilingController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ReconcilingController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<ReconcilingController>,
}

/// `NodeController` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<HostEndpointController>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_labels: Option<EnabledDisabled>,
}

/// `HostEndpointController` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<EnabledDisabled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_default_host_endpoint: Option<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<HostEndpointTemplate>,
}

/// `HostEndpointTemplate` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointTemplate {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    #[serde(
        rename = "interfaceCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interface_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_pattern: Option<String>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
}

/// `ReconcilingController` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcilingController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// `MigrationController` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<EnabledDisabled>,
}

/// `LoadBalancerController` of KubeControllersConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerController {
    #[serde(rename = "assignIPs", skip_serializing_if = "Option::is_none")]
    pub assign_ips: Option<AssignIPs>,
}

/// Values of `AssignIPs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AssignIPs {
    AllServices,
    RequestedServicesOnly,
}

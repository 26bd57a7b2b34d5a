//! `KubeControllersConfiguration` of `projectcalico.org/v3`: what the controllers do. One object, `default`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::{EnabledDisabled, null_default};
use crate::duration::normalise;
use crate::meta::Object;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type KubeControllersConfiguration =
    Object<KubeControllersConfigurationSpec, KubeControllersConfigurationStatus>;

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_vars: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<RunningConfig>,
}

/// Configuration in force.
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

/// Which controllers run, and how.
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

/// Lowest severity that is logged.
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

/// Controllers that run; absent is off.
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

/// Keeps Nodes, host endpoints and IPAM in step with the cluster's nodes.
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

/// Host endpoints that are made by themselves.
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

/// A host endpoint to make on matching nodes.
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

/// A controller with nothing to set but how often it compares everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcilingController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// Moves old policy names to new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationController {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<EnabledDisabled>,
}

/// Gives addresses to services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerController {
    #[serde(rename = "assignIPs", skip_serializing_if = "Option::is_none")]
    pub assign_ips: Option<AssignIPs>,
}

/// Services that get an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AssignIPs {
    AllServices,
    RequestedServicesOnly,
}

impl Checked for KubeControllersConfiguration {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let name = &self.metadata.name;
        e.require(name == "default", &Path::root("metadata").field("name"), name, "the only name is default");
        let s = &self.spec;
        e.range_opt(&spec.field("prometheusMetricsPort"), s.prometheus_metrics_port, 0, 65535);
        e.range_opt(&spec.field("debugProfilePort"), s.debug_profile_port, 0, 65535);
        let period = spec.field("etcdV3CompactionPeriod");
        e.duration_opt(&period, s.etcd_v3_compaction_period.as_deref());
        let Some(c) = &s.controllers else { return };
        let at = spec.field("controllers");
        for (name, controller) in [
            ("namespace", &c.namespace),
            ("policy", &c.policy),
            ("serviceAccount", &c.service_account),
            ("workloadEndpoint", &c.workload_endpoint),
        ] {
            if let Some(controller) = controller {
                let period = controller.reconciler_period.as_deref();
                e.duration_opt(&at.field(name).field("reconcilerPeriod"), period);
            }
        }
        if let Some(node) = &c.node {
            node.check(&at.field("node"), e);
        }
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.health_checks.get_or_insert(EnabledDisabled::Enabled);
        normalise(&mut spec.etcd_v3_compaction_period);
        if let Some(c) = &mut spec.controllers {
            for controller in
                [&mut c.namespace, &mut c.policy, &mut c.service_account, &mut c.workload_endpoint]
                    .into_iter()
                    .flatten()
            {
                normalise(&mut controller.reconciler_period);
            }
            if let Some(node) = &mut c.node {
                normalise(&mut node.reconciler_period);
                normalise(&mut node.leak_grace_period);
            }
            if let Some(m) = &mut c.migration {
                m.policy_name_migrator.get_or_insert(EnabledDisabled::Enabled);
            }
            if let Some(lb) = &mut c.load_balancer {
                lb.assign_ips.get_or_insert(AssignIPs::AllServices);
            }
        }
        self.status.get_or_insert_default();
    }
}

impl NodeController {
    fn check(&self, path: &Path<'_>, e: &mut Findings) {
        e.duration_opt(&path.field("reconcilerPeriod"), self.reconciler_period.as_deref());
        e.duration_opt(&path.field("leakGracePeriod"), self.leak_grace_period.as_deref());
        let Some(host_endpoint) = &self.host_endpoint else { return };
        let at = path.field("hostEndpoint");
        e.word_opt(
            &at.field("createDefaultHostEndpoint"),
            host_endpoint.create_default_host_endpoint.as_deref(),
            &["Enabled", "Disabled"],
        );
        let list = at.field("templates");
        for (i, template) in host_endpoint.templates.iter().enumerate() {
            let at = list.index(i);
            let name = template.generate_name.as_deref().unwrap_or_default();
            e.object_name(&at.field("generateName"), name);
            e.selector_opt(&at.field("nodeSelector"), template.node_selector.as_deref());
            for (j, text) in template.interface_cidrs.iter().enumerate() {
                e.network(&at.field("interfaceCIDRs").index(j), text);
            }
        }
    }
}

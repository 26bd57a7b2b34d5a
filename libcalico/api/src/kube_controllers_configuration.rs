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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    /// Settings from the environment, which go before the spec.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_vars: BTreeMap<String, String>,
    /// What the controllers run with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<RunningConfig>,
}

/// Configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RunningConfig {
    /// Controllers that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<Controllers>,
    /// Port for profiles, on the loopback address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    /// Time between two compactions of etcd; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    /// Whether health is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    /// Lowest severity that is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    /// Port of the metrics; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
}

/// Which controllers run, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    /// Controllers to run; those left out do not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controllers: Option<Controllers>,
    /// Port for profiles, on the loopback address; absent is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i32>,
    /// Time between two compactions of etcd, 10 minutes unless given; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    /// Whether health is reported; `Enabled` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<EnabledDisabled>,
    /// Lowest severity that is logged; Info unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverityScreen>,
    /// Port of the metrics, 9094 unless given; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i32>,
}

/// Lowest severity that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Controllers {
    /// Gives addresses to Services of type LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerController>,
    /// Moves stored objects to newer forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationController>,
    /// Makes a profile of each Namespace, where the datastore is etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ReconcilingController>,
    /// Removes what deleted nodes leave behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeController>,
    /// Copies Kubernetes NetworkPolicies, where the datastore is etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ReconcilingController>,
    /// Makes a profile of each ServiceAccount, where the datastore is etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ReconcilingController>,
    /// Keeps endpoints' labels in step with their pods, where the datastore is etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<ReconcilingController>,
}

/// Keeps Nodes, host endpoints and IPAM in step with the cluster's nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeController {
    /// Host endpoints for the cluster's nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<HostEndpointController>,
    /// Age after which an address that nobody uses is given back; 15 minutes unless given, 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
    /// Time between two comparisons of everything; 5 minutes unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    /// Copies the labels of Kubernetes' nodes to Calico's, where the datastore is etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_labels: Option<EnabledDisabled>,
}

/// Host endpoints that are made by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointController {
    /// Makes a host endpoint for every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<EnabledDisabled>,
    /// Makes the one for all interfaces beside those of the templates; `Enabled` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_default_host_endpoint: Option<String>,
    /// Further host endpoints to make.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<HostEndpointTemplate>,
}

/// A host endpoint to make on matching nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointTemplate {
    /// Annotations of the host endpoints.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Last part of the host endpoints' names, after the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// Networks that the interfaces' addresses are in.
    #[serde(
        rename = "interfaceCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interface_cidrs: Vec<String>,
    /// Interfaces, a regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_pattern: Option<String>,
    /// Labels of the host endpoints.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Nodes that get one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
}

/// A controller with nothing to set but how often it compares everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcilingController {
    /// Time between two comparisons of everything; 5 minutes unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// Moves old policy names to new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationController {
    /// Whether old names of policies are changed to new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<EnabledDisabled>,
}

/// Gives addresses to services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerController {
    /// Services that get an address; `AllServices` unless given.
    #[serde(rename = "assignIPs", skip_serializing_if = "Option::is_none")]
    pub assign_ips: Option<AssignIPs>,
}

/// Services that get an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Format, Max, Min, Pattern, Required, Rule};
    use crate::crd::{DURATION, OBJECT_NAME, SELECTOR};
    crate::crd::Table {
        columns: &[],
        status: true,
        limits: &[&[
            ("", &[Rule("self.metadata.name == 'default'", "metadata.name: the only name is default")]),
            ("spec.controllers.node.hostEndpoint.templates[]", &[Required(&["generateName"])]),
            ("spec.controllers.node.hostEndpoint.templates[].interfaceCIDRs[]", &[Format("cidr")]),
            ("spec.controllers.node.hostEndpoint.templates[].nodeSelector", SELECTOR),
            ("{spec,status.runningConfig}.controllers.loadBalancer.assignIPs", &[Default("\"AllServices\"")]),
            (
                "{spec,status.runningConfig}.controllers.migration.policyNameMigrator",
                &[Default("\"Enabled\"")],
            ),
            (
                "{spec,status.runningConfig}.controllers.{namespace,node,policy,serviceAccount,workloadEndpoint}.reconcilerPeriod",
                &[DURATION],
            ),
            ("{spec,status.runningConfig}.controllers.node.leakGracePeriod", &[DURATION]),
            (
                "{spec,status.runningConfig}.controllers.node.hostEndpoint.createDefaultHostEndpoint",
                &[Pattern("^(?i)(Enabled|Disabled)?$")],
            ),
            (
                "{spec,status.runningConfig}.controllers.node.hostEndpoint.templates[].generateName",
                OBJECT_NAME,
            ),
            ("{spec,status.runningConfig}.debugProfilePort", &[Min(0), Max(65535)]),
            ("{spec,status.runningConfig}.prometheusMetricsPort", &[Min(0), Max(65535)]),
            ("{spec,status.runningConfig}.etcdV3CompactionPeriod", &[DURATION]),
            ("{spec,status.runningConfig}.healthChecks", &[Default("\"Enabled\"")]),
        ]],
    }
};

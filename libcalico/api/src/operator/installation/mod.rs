//! `Installation` of `operator.tigera.io/v1`: which parts of Calico run and with which network.
//!
//! Every field of upstream's is known, so that a manifest written for it is taken as it is. Fields that describe
//! Kubernetes' own objects (pods, deployments) are kept and not looked into. What is left out: acting on it.

#[cfg(feature = "schema")]
mod crd;
mod network;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "schema")]
pub(crate) use self::crd::CRD;
pub use self::network::{Autodetection, CalicoNetwork, MAX_POOLS, Pool, Sysctl};
use self::words::{
    INSTALL_MODES, IPAM_PLUGINS, PLUGINS, POLICY_MODES, PROVIDERS, PULL_POLICIES, SPEC_VERSIONS, SWITCH,
    VARIANTS, word,
};

use crate::common::{Condition, null_default};
use crate::meta::Object;
use crate::validation::{Checked, Findings, Invalid, Path, check_metadata};

/// The whole object.
pub type Installation = Object<InstallationSpec, InstallationStatus>;

/// An object of Kubernetes', kept as it is.
pub type Open = BTreeMap<String, Value>;

/// The one that the operator reads.
pub const NAME: &str = "default";

/// What the operator reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct InstallationStatus {
    /// MTU of pods, where it was found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The set of images that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_set: Option<String>,
    /// Version that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,
    /// The spec with every default filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<Open>,
    /// `Ready`, `Degraded`, `Progressing`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct InstallationSpec {
    /// Which product; `Calico` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Where images come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Path of images within the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_path: Option<String>,
    /// What stands before the names of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_prefix: Option<String>,
    /// When images are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Secrets for the registry.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<SecretName>,
    /// Whose Kubernetes it is; found out unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_provider: Option<String>,
    /// Settings for Azure's Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// The CNI plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<Cni>,
    /// The network of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_network: Option<CalicoNetwork>,
    /// Policies for Calico's own pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<OwnPolicies>,
    /// Where Typha runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typha_affinity: Option<Open>,
    /// Labels of nodes that run the control plane's pods.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub control_plane_node_selector: BTreeMap<String, String>,
    /// Taints that the control plane's pods bear.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub control_plane_tolerations: Vec<Open>,
    /// How many of each of the control plane's pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_replicas: Option<i32>,
    /// Port of felix's metrics; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_metrics_port: Option<i32>,
    /// Port of Typha's metrics; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typha_metrics_port: Option<i32>,
    /// Directory of FlexVolume drivers; `None` leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flex_volume_path: Option<String>,
    /// Directory of kubelet's volumes; `None` leaves the CSI driver out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet_volume_plugin_path: Option<String>,
    /// How calico-node's pods are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_update_strategy: Option<Open>,
    /// What each component may use.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub component_resources: Vec<Open>,
    /// Who signs certificates, where it is not the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_management: Option<Open>,
    /// Cipher suites that servers offer.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub tls_cipher_suites: Vec<CipherSuite>,
    /// `Enabled`: calico-node runs without root where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_privileged: Option<String>,
    /// Changes to the DaemonSet of calico-node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_node_daemon_set: Option<Open>,
    /// Changes to the DaemonSet of the CSI driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi_node_driver_daemon_set: Option<Open>,
    /// Changes to the Deployment of kube-controllers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_kube_controllers_deployment: Option<Open>,
    /// Changes to the Deployment of Typha.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typha_deployment: Option<Open>,
    /// Changes to Typha's PodDisruptionBudget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typha_pod_disruption_budget: Option<Open>,
    /// Changes to the DaemonSet that upgrades Windows nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_windows_upgrade_daemon_set: Option<Open>,
    /// Changes to the DaemonSet of calico-node on Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_node_windows_daemon_set: Option<Open>,
    /// `Enabled`: only algorithms of FIPS 140.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fips_mode: Option<String>,
    /// What is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Open>,
    /// Settings of Windows nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_nodes: Option<Open>,
    /// The cluster's Service networks.
    #[serde(
        rename = "serviceCIDRs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_cidrs: Vec<String>,
    /// Proxies for connections out of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Open>,
    /// Directory on nodes for what Calico keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_lib_host_path: Option<String>,
    /// Directory on nodes for sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_run_host_path: Option<String>,
}

/// A secret by its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SecretName {
    /// Its name.
    pub name: String,
}

/// A cipher suite by its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CipherSuite {
    /// Its name, as IANA lists it.
    pub name: String,
}

/// Settings for Azure's Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Azure {
    /// `Default`: namespaces of Azure's own are left alone. `Manual`: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_mode: Option<String>,
}

/// The CNI plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Cni {
    /// Whose plugin.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Who gives addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam: Option<CniIpam>,
    /// Directory on nodes for the plugin's programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<String>,
    /// Directory on nodes for its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf_dir: Option<String>,
    /// Whether plugins of others are installed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_mode: Option<String>,
    /// Version of the specification in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_version: Option<String>,
}

/// Who gives addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CniIpam {
    /// Whose plugin.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// Policies for Calico's own pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct OwnPolicies {
    /// `Disabled`: the operator writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage_policies: Option<String>,
}
/// Lists what is wrong with an object: its metadata, ranges, and rules between its fields.
pub fn validate(installation: &Installation) -> Result<(), Vec<Invalid>> {
    let mut e = Findings::default();
    check_metadata(&installation.metadata, false, &mut e);
    installation.check(&mut e);
    let found = e.into_vec();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

impl Checked for Installation {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let s = &self.spec;
        for (field, value, words) in [
            ("variant", &s.variant, VARIANTS),
            ("imagePullPolicy", &s.image_pull_policy, PULL_POLICIES),
            ("kubernetesProvider", &s.kubernetes_provider, PROVIDERS),
            ("fipsMode", &s.fips_mode, SWITCH),
        ] {
            word(e, &spec.field(field), value.as_deref(), words);
        }
        if let Some(azure) = &s.azure {
            word(e, &spec.field("azure").field("policyMode"), azure.policy_mode.as_deref(), POLICY_MODES);
        }
        if let Some(own) = &s.network_policy {
            let at = spec.field("networkPolicy");
            word(e, &at.field("managePolicies"), own.manage_policies.as_deref(), SWITCH);
        }
        if let Some(cni) = &s.cni {
            check_cni(cni, &spec.field("cni"), e);
        }
        if let Some(network) = &s.calico_network {
            network::check_network(network, &spec.field("calicoNetwork"), e);
        }
        for (field, port) in
            [("nodeMetricsPort", s.node_metrics_port), ("typhaMetricsPort", s.typha_metrics_port)]
        {
            e.range_opt(&spec.field(field), port, 0, 65_535);
        }
        let services = spec.field("serviceCIDRs");
        for (i, cidr) in s.service_cidrs.iter().enumerate() {
            e.network(&services.index(i), cidr);
        }
    }
}

fn check_cni(cni: &Cni, at: &Path<'_>, e: &mut Findings) {
    let kind = at.field("type");
    e.require(cni.plugin.is_some(), &kind, "", "is needed");
    word(e, &kind, cni.plugin.as_deref(), PLUGINS);
    if let Some(ipam) = &cni.ipam {
        let at = at.field("ipam");
        let kind = at.field("type");
        e.require(ipam.plugin.is_some(), &kind, "", "is needed");
        word(e, &kind, ipam.plugin.as_deref(), IPAM_PLUGINS);
    }
    word(e, &at.field("installMode"), cni.install_mode.as_deref(), INSTALL_MODES);
    word(e, &at.field("specVersion"), cni.spec_version.as_deref(), SPEC_VERSIONS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(spec: &str) -> Vec<String> {
        let installation: Installation =
            serde_json::from_str(&format!(r#"{{"metadata":{{"name":"default"}},"spec":{spec}}}"#)).unwrap();
        let mut e = Findings::default();
        installation.check(&mut e);
        e.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_installation_has_no_finding() {
        let spec = r#"{"calicoNetwork":{"mtu":1440,"ipPools":[{"blockSize":26,"cidr":"192.168.0.0/16",
            "encapsulation":"VXLANCrossSubnet","natOutgoing":"Enabled","nodeSelector":"all()"}]},
            "calicoNodeDaemonSet":{"spec":{"template":{"spec":{"containers":[{"name":"x"}]}}}}}"#;
        assert_eq!(findings(spec), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_told_by_field_with_what_is_allowed() {
        for (spec, told) in [
            (r#"{"variant":"Cilium"}"#, "spec.variant: \"Cilium\": must be one of Calico, "),
            (r#"{"cni":{}}"#, "spec.cni.type: is needed"),
            (r#"{"calicoNetwork":{"ipPools":[{}]}}"#, "spec.calicoNetwork.ipPools[0].cidr: is needed"),
            (
                r#"{"calicoNetwork":{"ipPools":[{"cidr":"fd00::/48","encapsulation":"IPIP"}]}}"#,
                "ipPools[0].encapsulation: \"IPIP\": IPIP carries IPv4 alone",
            ),
            (
                r#"{"calicoNetwork":{"ipPools":[{"cidr":"10.0.0.0/28","blockSize":26}]}}"#,
                "ipPools[0].blockSize: \"26\": a block cannot be larger than its pool",
            ),
            (
                r#"{"calicoNetwork":{"nodeAddressAutodetectionV4":{"firstFound":true,"canReach":"10.0.0.1"}}}"#,
                "nodeAddressAutodetectionV4: give one method, not several",
            ),
            (
                r#"{"calicoNetwork":{"mtu":12}}"#,
                "spec.calicoNetwork.mtu: \"12\": must be between 68 and 65535",
            ),
        ] {
            let found = findings(spec);
            assert!(found.iter().any(|f| f.contains(told)), "{spec}: {found:?}");
        }
    }
}

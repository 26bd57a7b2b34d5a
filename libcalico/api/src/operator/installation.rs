//! `Installation` of `operator.tigera.io/v1`: which parts of Calico run and with which network.
//!
//! Every field of upstream's is known, so that a manifest written for it is taken as it is. Fields that describe
//! Kubernetes' own objects (pods, deployments) are kept and not looked into. What is left out: acting on it.

use std::collections::BTreeMap;

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{Condition, null_default};
use crate::ip_pool::block_size_bounds;
use crate::meta::Object;
use crate::validation::{Checked, Findings, Invalid, Path, check_metadata};

/// The whole object.
pub type Installation = Object<InstallationSpec, InstallationStatus>;

/// An object of Kubernetes', kept as it is.
pub type Open = BTreeMap<String, Value>;

/// The one that the operator reads.
pub const NAME: &str = "default";
/// Most pools of an installation.
pub const MAX_POOLS: usize = 25;

const SWITCH: &[&str] = &["Enabled", "Disabled"];
const VARIANTS: &[&str] = &["Calico", "CalicoEnterprise", "TigeraSecureEnterprise"];
const PROVIDERS: &[&str] = &["", "EKS", "GKE", "AKS", "OpenShift", "DockerEnterprise", "RKE2", "TKG", "Kind"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PLUGINS: &[&str] = &["Calico", "GKE", "AmazonVPC", "AzureVNET"];
const IPAM_PLUGINS: &[&str] = &["Calico", "HostLocal", "AmazonVPC", "AzureVNET"];
const INSTALL_MODES: &[&str] = &["All", "CalicoOnly"];
const SPEC_VERSIONS: &[&str] = &["Auto", "0.3.1", "0.4.0", "1.0.0"];
const ENCAPSULATIONS: &[&str] = &["IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None"];
const DATAPLANES: &[&str] = &["Iptables", "BPF", "VPP", "Nftables"];
const WINDOWS_DATAPLANES: &[&str] = &["HNS", "Disabled"];
const ROUTING_MODES: &[&str] = &["BIRD", "Felix", "FelixIPIPOnly"];
const INTERFACE_TYPES: &[&str] = &["Veth", "Netkit"];
const MULTI_INTERFACE: &[&str] = &["None", "Multus"];
const NODE_ADDRESSES: &[&str] = &["NodeInternalIP"];
const SYSCTLS: &[&str] =
    &["net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"];
const POLICY_MODES: &[&str] = &["Default", "Manual"];

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

/// The network of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNetwork {
    /// What enforces policy on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_dataplane: Option<String>,
    /// What enforces policy on Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_dataplane: Option<String>,
    /// Whether nodes speak BGP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<String>,
    /// Who programs routes to other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_routing_mode: Option<String>,
    /// Ranges of addresses.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_pools: Vec<Pool>,
    /// MTU of pods, bytes; found out unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// How a node's IPv4 address is found.
    #[serde(rename = "nodeAddressAutodetectionV4", skip_serializing_if = "Option::is_none")]
    pub node_address_autodetection_v4: Option<Autodetection>,
    /// How a node's IPv6 address is found.
    #[serde(rename = "nodeAddressAutodetectionV6", skip_serializing_if = "Option::is_none")]
    pub node_address_autodetection_v6: Option<Autodetection>,
    /// Whether hostPort of pods works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ports: Option<String>,
    /// Whether pods may have several interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_interface_mode: Option<String>,
    /// Whether pods may forward packets.
    #[serde(rename = "containerIPForwarding", skip_serializing_if = "Option::is_none")]
    pub container_ip_forwarding: Option<String>,
    /// Kernel settings within pods.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub sysctl: Vec<Sysctl>,
    /// Longest time for which a pod's start waits for its policy, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_policy_setup_timeout_seconds: Option<i32>,
    /// Interfaces of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_pod_interface_type: Option<String>,
    /// Whether the API server's address is found out for the eBPF dataplane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_network_bootstrap: Option<String>,
    /// Whether the operator ends kube-proxy for the eBPF dataplane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_proxy_management: Option<String>,
}

/// A range of addresses, in the operator's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// Name of the IPPool; made from the range unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// How packets travel between nodes; `IPIP` for IPv4 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
    /// `Enabled` unless given: packets that leave all pools take the node's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<String>,
    /// Nodes that take addresses from the pool; `all()` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Prefix length of blocks; 26 for IPv4, 122 for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<i32>,
    /// True: the pool's routes are not exported by BGP.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "Option::is_none")]
    pub disable_bgp_export: Option<bool>,
    /// True: no new addresses come from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_new_allocations: Option<bool>,
    /// What addresses are given to.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<String>,
    /// `Automatic`, or `Manual`: only pods that name the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
}

impl Pool {
    /// The range's family, where the range can be read.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let text = self.cidr.as_deref()?;
        libcalico_net::cidr::parse_network(text).ok().map(Family::of_net)
    }
}

/// How a node's address is found: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Autodetection {
    /// The first that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_found: Option<bool>,
    /// `NodeInternalIP`: the address that Kubernetes knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Of interfaces that match this expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Of interfaces that do not match this expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_interface: Option<String>,
    /// From which this address or name is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_reach: Option<String>,
    /// Within one of these networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

impl Autodetection {
    fn methods(&self) -> usize {
        let some = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        [
            self.first_found == Some(true),
            self.kubernetes.is_some(),
            some(&self.interface),
            some(&self.skip_interface),
            some(&self.can_reach),
            !self.cidrs.is_empty(),
        ]
        .iter()
        .filter(|set| **set)
        .count()
    }
}

/// A kernel setting within pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Sysctl {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
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
            check_network(network, &spec.field("calicoNetwork"), e);
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

/// One of a few words, letter by letter as the API server compares them.
fn word(e: &mut Findings, path: &Path<'_>, text: Option<&str>, words: &[&str]) {
    let Some(text) = text else { return };
    let allowed: Vec<&str> = words.iter().copied().filter(|w| !w.is_empty()).collect();
    e.require(words.contains(&text), path, text, &format!("must be one of {}", allowed.join(", ")));
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

fn check_network(n: &CalicoNetwork, at: &Path<'_>, e: &mut Findings) {
    for (field, value, words) in [
        ("linuxDataplane", &n.linux_dataplane, DATAPLANES),
        ("windowsDataplane", &n.windows_dataplane, WINDOWS_DATAPLANES),
        ("bgp", &n.bgp, SWITCH),
        ("clusterRoutingMode", &n.cluster_routing_mode, ROUTING_MODES),
        ("hostPorts", &n.host_ports, SWITCH),
        ("multiInterfaceMode", &n.multi_interface_mode, MULTI_INTERFACE),
        ("containerIPForwarding", &n.container_ip_forwarding, SWITCH),
        ("linuxPodInterfaceType", &n.linux_pod_interface_type, INTERFACE_TYPES),
        ("bpfNetworkBootstrap", &n.bpf_network_bootstrap, SWITCH),
        ("kubeProxyManagement", &n.kube_proxy_management, SWITCH),
    ] {
        word(e, &at.field(field), value.as_deref(), words);
    }
    // 68 is the least that IPv4 knows (RFC 791).
    e.range_opt(&at.field("mtu"), n.mtu.filter(|m| *m != 0), 68, 65_535);
    let timeout = at.field("linuxPolicySetupTimeoutSeconds");
    e.range_opt(&timeout, n.linux_policy_setup_timeout_seconds, 0, i64::from(i32::MAX));
    let pools = at.field("ipPools");
    e.max_items(&pools, &n.ip_pools, MAX_POOLS);
    for (i, pool) in n.ip_pools.iter().enumerate() {
        check_pool(pool, &pools.index(i), e);
    }
    for (field, found) in [
        ("nodeAddressAutodetectionV4", &n.node_address_autodetection_v4),
        ("nodeAddressAutodetectionV6", &n.node_address_autodetection_v6),
    ] {
        let Some(found) = found else { continue };
        let at = at.field(field);
        e.require(found.methods() <= 1, &at, "", "give one method, not several");
        word(e, &at.field("kubernetes"), found.kubernetes.as_deref(), NODE_ADDRESSES);
        let cidrs = at.field("cidrs");
        for (i, cidr) in found.cidrs.iter().enumerate() {
            e.network(&cidrs.index(i), cidr);
        }
    }
    let sysctl = at.field("sysctl");
    for (i, s) in n.sysctl.iter().enumerate() {
        word(e, &sysctl.index(i).field("key"), Some(&s.key), SYSCTLS);
    }
}

fn check_pool(pool: &Pool, at: &Path<'_>, e: &mut Findings) {
    if let Some(name) = &pool.name {
        e.object_name(&at.field("name"), name);
    }
    let cidr = at.field("cidr");
    let net = match &pool.cidr {
        Some(text) => e.network(&cidr, text),
        None => {
            e.add(&cidr, "", "is needed");
            None
        }
    };
    word(e, &at.field("encapsulation"), pool.encapsulation.as_deref(), ENCAPSULATIONS);
    word(e, &at.field("natOutgoing"), pool.nat_outgoing.as_deref(), SWITCH);
    e.selector_opt(&at.field("nodeSelector"), pool.node_selector.as_deref());
    word(e, &at.field("assignmentMode"), pool.assignment_mode.as_deref(), &["Automatic", "Manual"]);
    let uses = at.field("allowedUses");
    for (i, u) in pool.allowed_uses.iter().enumerate() {
        word(e, &uses.index(i), Some(u), &["Workload", "Tunnel", "LoadBalancer"]);
    }
    let Some(net) = net else { return };
    let family = Family::of_net(net);
    let (min, max) = block_size_bounds(family);
    e.range_opt(&at.field("blockSize"), pool.block_size, i64::from(min), i64::from(max));
    if let Some(size) = pool.block_size {
        let longer = size >= i32::from(net.prefix_len());
        e.require(longer, &at.field("blockSize"), size, "a block cannot be larger than its pool");
    }
    let ipip = pool.encapsulation.as_deref().is_some_and(|t| t.starts_with("IPIP"));
    e.require(
        !(ipip && family == Family::V6),
        &at.field("encapsulation"),
        pool.encapsulation.as_deref().unwrap_or_default(),
        "IPIP carries IPv4 alone; use VXLAN or None",
    );
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Max, MaxItems, Min, Open, Required, Rule, Words};
    const ONE_METHOD: crate::crd::Set = Rule(
        "[has(self.firstFound) && self.firstFound, has(self.kubernetes), has(self.interface) && self.interface != '', has(self.skipInterface) && self.skipInterface != '', has(self.canReach) && self.canReach != '', has(self.cidrs) && size(self.cidrs) > 0].filter(set, set).size() <= 1",
        "give one method, not several",
    );
    crate::crd::Table {
        columns: &[
            ("Version", "string", ".status.calicoVersion"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        status: true,
        limits: &[
            crate::crd::CONDITIONS,
            &[
                ("status.computed", &[Open]),
                ("spec.variant", &[Words(VARIANTS)]),
                ("spec.imagePullPolicy", &[Words(PULL_POLICIES)]),
                ("spec.kubernetesProvider", &[Words(PROVIDERS)]),
                ("spec.fipsMode", &[Words(SWITCH)]),
                ("spec.azure.policyMode", &[Words(POLICY_MODES)]),
                ("spec.networkPolicy.managePolicies", &[Words(SWITCH)]),
                ("spec.cni", &[Required(&["type"])]),
                ("spec.cni.type", &[Words(PLUGINS)]),
                ("spec.cni.ipam", &[Required(&["type"])]),
                ("spec.cni.ipam.type", &[Words(IPAM_PLUGINS)]),
                ("spec.cni.installMode", &[Words(INSTALL_MODES)]),
                ("spec.cni.specVersion", &[Words(SPEC_VERSIONS)]),
                ("spec.{nodeMetricsPort,typhaMetricsPort}", &[Min(0), Max(65_535)]),
                (
                    "spec.{typhaAffinity,nodeUpdateStrategy,certificateManagement,calicoNodeDaemonSet,csiNodeDriverDaemonSet,calicoKubeControllersDeployment,typhaDeployment,typhaPodDisruptionBudget,calicoWindowsUpgradeDaemonSet,calicoNodeWindowsDaemonSet,logging,windowsNodes,proxy}",
                    &[Open],
                ),
                ("spec.controlPlaneTolerations[]", &[Open]),
                ("spec.componentResources[]", &[Open]),
            ],
            &[
                ("spec.calicoNetwork.linuxDataplane", &[Words(DATAPLANES)]),
                ("spec.calicoNetwork.windowsDataplane", &[Words(WINDOWS_DATAPLANES)]),
                ("spec.calicoNetwork.{bgp,hostPorts,containerIPForwarding}", &[Words(SWITCH)]),
                ("spec.calicoNetwork.{bpfNetworkBootstrap,kubeProxyManagement}", &[Words(SWITCH)]),
                ("spec.calicoNetwork.clusterRoutingMode", &[Words(ROUTING_MODES)]),
                ("spec.calicoNetwork.linuxPodInterfaceType", &[Words(INTERFACE_TYPES)]),
                ("spec.calicoNetwork.multiInterfaceMode", &[Words(MULTI_INTERFACE)]),
                ("spec.calicoNetwork.mtu", &[Min(0), Max(65_535)]),
                ("spec.calicoNetwork.linuxPolicySetupTimeoutSeconds", &[Min(0)]),
                ("spec.calicoNetwork.ipPools", &[MaxItems(MAX_POOLS as u64)]),
                ("spec.calicoNetwork.ipPools[]", &[Required(&["cidr"])]),
                ("spec.calicoNetwork.ipPools[].cidr", crate::crd::NET),
                ("spec.calicoNetwork.ipPools[].encapsulation", &[Words(ENCAPSULATIONS)]),
                ("spec.calicoNetwork.ipPools[].natOutgoing", &[Words(SWITCH)]),
                ("spec.calicoNetwork.ipPools[].nodeSelector", crate::crd::SELECTOR),
                ("spec.calicoNetwork.ipPools[].blockSize", &[Min(20), Max(128)]),
                ("spec.calicoNetwork.ipPools[].allowedUses", &[MaxItems(10)]),
                (
                    "spec.calicoNetwork.ipPools[].allowedUses[]",
                    &[Words(&["Workload", "Tunnel", "LoadBalancer"])],
                ),
                ("spec.calicoNetwork.ipPools[].assignmentMode", &[Words(&["Automatic", "Manual"])]),
                ("spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}", &[ONE_METHOD]),
                (
                    "spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}.kubernetes",
                    &[Words(NODE_ADDRESSES)],
                ),
                (
                    "spec.calicoNetwork.{nodeAddressAutodetectionV4,nodeAddressAutodetectionV6}.cidrs",
                    &[MaxItems(64)],
                ),
                ("spec.calicoNetwork.sysctl", &[MaxItems(16)]),
                ("spec.calicoNetwork.sysctl[]", &[Required(&["key", "value"])]),
                ("spec.calicoNetwork.sysctl[].key", &[Words(SYSCTLS)]),
            ],
        ],
    }
};

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

//! The words that fields of an Installation take. In: a field's text; out: a finding where it is none of its words.
//! Always holds: what is checked here is what the API's schema lists. What is left out: every other check.

use crate::validation::{Findings, Path};

pub(super) const SWITCH: &[&str] = &["Enabled", "Disabled"];
pub(super) const VARIANTS: &[&str] = &["Calico", "CalicoEnterprise", "TigeraSecureEnterprise"];
pub(super) const PROVIDERS: &[&str] =
    &["", "EKS", "GKE", "AKS", "OpenShift", "DockerEnterprise", "RKE2", "TKG", "Kind"];
pub(super) const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
pub(super) const PLUGINS: &[&str] = &["Calico", "GKE", "AmazonVPC", "AzureVNET"];
pub(super) const IPAM_PLUGINS: &[&str] = &["Calico", "HostLocal", "AmazonVPC", "AzureVNET"];
pub(super) const INSTALL_MODES: &[&str] = &["All", "CalicoOnly"];
pub(super) const SPEC_VERSIONS: &[&str] = &["Auto", "0.3.1", "0.4.0", "1.0.0"];
pub(super) const ENCAPSULATIONS: &[&str] = &["IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None"];
pub(super) const DATAPLANES: &[&str] = &["Iptables", "BPF", "VPP", "Nftables"];
pub(super) const WINDOWS_DATAPLANES: &[&str] = &["HNS", "Disabled"];
pub(super) const ROUTING_MODES: &[&str] = &["BIRD", "Felix", "FelixIPIPOnly"];
pub(super) const INTERFACE_TYPES: &[&str] = &["Veth", "Netkit"];
pub(super) const MULTI_INTERFACE: &[&str] = &["None", "Multus"];
pub(super) const NODE_ADDRESSES: &[&str] = &["NodeInternalIP"];
pub(super) const SYSCTLS: &[&str] =
    &["net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"];
pub(super) const POLICY_MODES: &[&str] = &["Default", "Manual"];

/// One of a few words, letter by letter as the API server compares them.
pub(super) fn word(e: &mut Findings, path: &Path<'_>, text: Option<&str>, words: &[&str]) {
    let Some(text) = text else { return };
    let allowed: Vec<&str> = words.iter().copied().filter(|w| !w.is_empty()).collect();
    e.require(words.contains(&text), path, text, &format!("must be one of {}", allowed.join(", ")));
}

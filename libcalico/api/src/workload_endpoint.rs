//! `WorkloadEndpoint` of `projectcalico.org/v3`: one interface of a pod, container or virtual machine.

use libcalico_net::cidr::{Family, is_host_net};
use serde::{Deserialize, Serialize};

use crate::common::check_endpoint_port;
use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::names::{is_interface_name, is_mac};
use crate::num_or_string::Protocol;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type WorkloadEndpoint = Object<WorkloadEndpointSpec, NoStatus>;

/// Where the endpoint is, what addresses it has, which profiles it inherits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `openstack` or another system that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// The workload, for orchestrators without pods and containers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The node it is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The container or pod sandbox.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The pod, for `k8s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The interface within the workload: `eth0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The service account that the pod runs as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// `/32` and `/128` networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<String>,
    /// Floating addresses.
    #[serde(rename = "ipNATs", deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// Gateway inside the workload, IPv4.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv4_gateway: String,
    /// Gateway inside the workload, IPv6.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv6_gateway: String,
    /// Profiles that apply after policy.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The interface on the host: `cali…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// MAC address inside the workload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Ports that policy may call by name.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Source addresses besides its own that it may send from.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Bandwidth, packet rate and connection limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<serde_json::Value>,
}

/// A floating address: `externalIP` is translated to `internalIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpNat {
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A named port of the workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointPort {
    #[serde(default)]
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    #[serde(default)]
    pub host_port: u16,
    #[serde(rename = "hostIP", default)]
    pub host_ip: String,
}

/// Label that repeats an endpoint's namespace.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// Label that repeats the orchestrator an endpoint belongs to.
pub const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
/// Label that repeats the service account a pod runs as.
pub const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";

/// A part of an endpoint's name: parts are joined by single dashes, so their own are doubled.
fn escape(part: &str) -> String {
    part.replace('-', "--")
}

impl WorkloadEndpointSpec {
    /// The name that follows from node, orchestrator, workload and interface:
    /// `NODE-k8s-POD-ENDPOINT`, `NODE-cni-CONTAINER-ENDPOINT`, `NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT`.
    ///
    /// The error names the field that is missing.
    pub fn object_name(&self) -> Result<String, &'static str> {
        let workload = match self.orchestrator.as_str() {
            "k8s" => (self.pod.as_str(), "pod"),
            "cni" => (self.container_id.as_str(), "containerID"),
            "libnetwork" => ("libnetwork", "workload"),
            _ => (self.workload.as_str(), "workload"),
        };
        let parts = [
            (self.node.as_str(), "node"),
            (self.orchestrator.as_str(), "orchestrator"),
            workload,
            (self.endpoint.as_str(), "endpoint"),
        ];
        let mut name = String::new();
        for (part, field) in parts {
            if part.is_empty() {
                return Err(field);
            }
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(&escape(part));
        }
        Ok(name)
    }
}

impl Checked for WorkloadEndpoint {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let s = &self.spec;
        match s.object_name() {
            Ok(expected) => {
                let name = &self.metadata.name;
                let at = Path::root("metadata");
                e.require(
                    *name == expected,
                    &at.field("name"),
                    name,
                    &format!("the spec asks for the name {expected}"),
                );
            }
            Err(field) => e.add(&spec.field(field), "", "is needed: the object's name is made of it"),
        }
        e.require(
            s.container_id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
            &spec.field("containerID"),
            &s.container_id,
            "must be letters, digits, '_' and '-'",
        );
        e.require(
            is_interface_name(&s.interface_name),
            &spec.field("interfaceName"),
            &s.interface_name,
            "must be 1 to 15 letters, digits, '-', '_' and '.'",
        );
        e.require(s.mac.is_empty() || is_mac(&s.mac), &spec.field("mac"), &s.mac, "is not a MAC address");
        self.check_addresses(&spec, e);
        for (i, profile) in s.profiles.iter().enumerate() {
            e.object_name(&spec.field("profiles").index(i), profile);
        }
        for (i, port) in s.ports.iter().enumerate() {
            let list = spec.field("ports");
            let at = list.index(i);
            if !port.name.is_empty() || port.host_port == 0 {
                check_endpoint_port(&at, &port.name, &port.protocol, port.port, e);
            }
            if !port.host_ip.is_empty() {
                e.address(&at.field("hostIP"), &port.host_ip, None);
            }
        }
    }

    /// The name, and the labels that selectors use.
    fn set_defaults(&mut self) {
        if self.metadata.name.is_empty()
            && let Ok(name) = self.spec.object_name()
        {
            self.metadata.name = name;
        }
        let labels = &mut self.metadata.labels;
        labels.insert(NAMESPACE_LABEL.to_owned(), self.metadata.namespace.clone());
        labels.insert(ORCHESTRATOR_LABEL.to_owned(), self.spec.orchestrator.clone());
        // A name that no label can hold has none.
        if !(1..=63).contains(&self.spec.service_account_name.len()) {
            labels.remove(SERVICE_ACCOUNT_LABEL);
        } else {
            labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), self.spec.service_account_name.clone());
        }
    }
}

impl WorkloadEndpoint {
    fn check_addresses(&self, spec: &Path<'_>, e: &mut Findings) {
        let s = &self.spec;
        let mut own = Vec::new();
        let list = spec.field("ipNetworks");
        for (i, text) in s.ip_networks.iter().enumerate() {
            let at = list.index(i);
            if let Some(net) = e.network_or_address(&at, text) {
                e.require(is_host_net(net), &at, text, "must be a single address (/32 or /128)");
                own.push(net.addr());
            }
        }
        let list = spec.field("ipNATs");
        for (i, nat) in s.ip_nats.iter().enumerate() {
            let at = list.index(i);
            let internal = e.address(&at.field("internalIP"), &nat.internal_ip, None);
            let external = e.address(&at.field("externalIP"), &nat.external_ip, None);
            if let (Some(internal), Some(external)) = (internal, external) {
                let same = internal.is_ipv4() == external.is_ipv4();
                e.require(same, &at, &nat.external_ip, "both addresses must be of one family");
                let is_own = own.contains(&internal);
                e.require(is_own, &at.field("internalIP"), internal, "must be one of ipNetworks");
            }
        }
        for (name, text, family) in
            [("ipv4Gateway", &s.ipv4_gateway, Family::V4), ("ipv6Gateway", &s.ipv6_gateway, Family::V6)]
        {
            if !text.is_empty() {
                e.address(&spec.field(name), text, Some(family));
            }
        }
        let list = spec.field("allowSpoofedSourcePrefixes");
        for (i, text) in s.allow_spoofed_source_prefixes.iter().enumerate() {
            e.network(&list.index(i), text);
        }
    }
}

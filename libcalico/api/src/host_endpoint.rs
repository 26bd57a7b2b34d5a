//! `HostEndpoint` of `projectcalico.org/v3`: an interface of a node, or all of them, under policy.

use serde::{Deserialize, Serialize};

use crate::common::check_endpoint_port;
use crate::common::{EndpointPort, null_default};
use crate::meta::{NoStatus, Object};
use crate::names::is_interface_name;
use crate::policy::drop_empty;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type HostEndpoint = Object<HostEndpointSpec, NoStatus>;

/// Which interface of which node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    #[serde(
        rename = "expectedIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub expected_ips: Vec<String>,
    /// The interface, or `*` for all of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// The node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Ports that policy may call by name.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Profiles that apply after policy.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

impl Checked for HostEndpoint {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let node = self.spec.node.as_deref().unwrap_or_default();
        e.object_name(&spec.field("node"), node);
        let interface = self.spec.interface_name.as_deref().unwrap_or_default();
        e.require(
            matches!(interface, "" | "*") || is_interface_name(interface),
            &spec.field("interfaceName"),
            interface,
            "must be * or a name of at most 15 letters, digits, '-', '_' and '.'",
        );
        e.require(
            !interface.is_empty() || !self.spec.expected_ips.is_empty(),
            &spec.field("interfaceName"),
            "",
            "either interfaceName or expectedIPs is needed",
        );
        for (i, ip) in self.spec.expected_ips.iter().enumerate() {
            e.address(&spec.field("expectedIPs").index(i), ip, None);
        }
        for (i, profile) in self.spec.profiles.iter().enumerate() {
            e.object_name(&spec.field("profiles").index(i), profile);
        }
        for (i, port) in self.spec.ports.iter().enumerate() {
            check_endpoint_port(&spec.field("ports").index(i), &port.name, &port.protocol, port.port, e);
        }
    }

    fn set_defaults(&mut self) {
        drop_empty(&mut self.spec.interface_name);
        drop_empty(&mut self.spec.node);
    }
}

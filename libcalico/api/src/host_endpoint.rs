//! `HostEndpoint` of `projectcalico.org/v3`: an interface of a node, or all of them, under policy.

use serde::{Deserialize, Serialize};

use crate::common::check_endpoint_port;
use crate::common::{EndpointPort, null_default};
use crate::meta::{NoStatus, Object};
use crate::names::is_interface_name;
use crate::policy::drop_empty;
use crate::validation::{Checked, Findings, Path};

/// Most named ports of one host endpoint.
pub const MAX_PORTS: usize = 1024;

/// The whole object.
pub type HostEndpoint = Object<HostEndpointSpec, NoStatus>;

/// Which interface of which node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// Addresses of the interface; without `interfaceName` they also find it.
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
        e.max_items(&spec.field("ports"), &self.spec.ports, MAX_PORTS);
        for (i, port) in self.spec.ports.iter().enumerate() {
            check_endpoint_port(&spec.field("ports").index(i), &port.name, &port.protocol, port.port, e);
        }
    }

    fn set_defaults(&mut self) {
        drop_empty(&mut self.spec.interface_name);
        drop_empty(&mut self.spec.node);
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::OBJECT_NAME;
    use crate::crd::Set::{Max, MaxItems, MaxLength, Min, Pattern, Required, Rule};
    crate::crd::Table {
        columns: &[("Node", "string", ".spec.node"), ("Interface", "string", ".spec.interfaceName")],
        status: false,
        limits: &[&[
            (
                "spec",
                &[
                    Required(&["node"]),
                    Rule(
                        "(has(self.interfaceName) && self.interfaceName != '') || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
                        "either interfaceName or expectedIPs is needed",
                    ),
                ],
            ),
            ("spec.node", OBJECT_NAME),
            ("spec.interfaceName", &[MaxLength(15), Pattern("^(\\*|[A-Za-z0-9_.-]*)$")]),
            ("spec.expectedIPs[]", &[Pattern("^[0-9A-Fa-f:.]+$"), MaxLength(45)]),
            ("spec.profiles[]", OBJECT_NAME),
            ("spec.ports", &[MaxItems(MAX_PORTS as u64)]),
            ("spec.ports[].name", &[Pattern("^[A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*$"), MaxLength(128)]),
            ("spec.ports[].port", &[Min(1), Max(65535)]),
            (
                "spec.ports[].protocol",
                &[Rule(
                    "string(self).lowerAscii() in ['tcp', 'udp', 'sctp', '6', '17', '132']",
                    "must be TCP, UDP or SCTP",
                )],
            ),
        ]],
    }
};

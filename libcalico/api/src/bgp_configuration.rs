//! `BGPConfiguration` of `projectcalico.org/v3`: how every node speaks BGP, or (`node.NAME`) one node.

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use crate::common::{BgpPassword, EnabledDisabled, ProgramClusterRoutes, null_default};
use crate::duration::normalise;
use crate::meta::{NoStatus, Object};
use crate::names::is_bgp_community;
use crate::num_or_string::AsNumber;
use crate::policy::drop_empty;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type BGPConfiguration = Object<BGPConfigurationSpec, NoStatus>;

/// What the daemons of the cluster or of one node do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BGPConfigurationSpec {
    /// AS number of nodes that have none of their own; 64512 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// `NodeIP`: the daemon listens on the node's BGP address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Names for communities, used by `prefixAdvertisements`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Interfaces whose networks are not announced.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// Kernel metric of IPv4 routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<i32>,
    /// Kernel metric of IPv6 routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<i32>,
    /// TCP port of the daemon; 179 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<i32>,
    /// Address that workloads peer with, IPv4.
    #[serde(rename = "localWorkloadPeeringIPV4", skip_serializing_if = "Option::is_none")]
    pub local_workload_peering_ipv4: Option<String>,
    /// Address that workloads peer with, IPv6.
    #[serde(rename = "localWorkloadPeeringIPV6", skip_serializing_if = "Option::is_none")]
    pub local_workload_peering_ipv6: Option<String>,
    /// What the daemon logs: Trace, Debug, Info, Warning, Error or Fatal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Graceful restart time of mesh sessions (RFC 4724).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<String>,
    /// Password of mesh sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// True unless given: every node peers with every other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// Prefixes that are announced with communities.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// Whether the BGP daemon or Felix programs routes to other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Service ranges that are announced.
    #[serde(
        rename = "serviceClusterIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_cluster_ips: Vec<ServiceCidr>,
    /// External ranges of services that are announced.
    #[serde(
        rename = "serviceExternalIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_external_ips: Vec<ServiceCidr>,
    /// Whether load balancer ranges are announced whole or address by address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<EnabledDisabled>,
    /// Load balancer ranges that are announced.
    #[serde(
        rename = "serviceLoadBalancerIPs",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_load_balancer_ips: Vec<ServiceCidr>,
}

/// One announced range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceCidr {
    /// The range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
}

/// A prefix and the communities it is announced with, by value or by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrefixAdvertisement {
    /// The prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Communities it is announced with: values, or names from `communities`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
}

/// A name for a community.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Community {
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `A:B` or `A:B:C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Addresses that the daemon listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BindMode {
    None,
    NodeIP,
}

impl Checked for BGPConfiguration {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let s = &self.spec;
        e.word_opt(
            &spec.field("logSeverityScreen"),
            s.log_severity_screen.as_deref(),
            &["Trace", "Debug", "Info", "Warning", "Error", "Fatal"],
        );
        e.range_opt(&spec.field("listenPort"), s.listen_port, 1, 65535);
        for (name, n) in [
            ("ipv4NormalRoutePriority", s.ipv4_normal_route_priority),
            ("ipv6NormalRoutePriority", s.ipv6_normal_route_priority),
        ] {
            e.range_opt(&spec.field(name), n, 1, 2_147_483_646);
        }
        e.duration_opt(&spec.field("nodeMeshMaxRestartTime"), s.node_mesh_max_restart_time.as_deref());
        for (name, text, family) in [
            ("localWorkloadPeeringIPV4", &s.local_workload_peering_ipv4, Family::V4),
            ("localWorkloadPeeringIPV6", &s.local_workload_peering_ipv6, Family::V6),
        ] {
            if let Some(text) = text.as_deref().filter(|t| !t.is_empty()) {
                e.address(&spec.field(name), text, Some(family));
            }
        }
        self.check_mesh(&spec, e);
        self.check_communities(&spec, e);
        for (name, list) in [
            ("serviceClusterIPs", &s.service_cluster_ips),
            ("serviceExternalIPs", &s.service_external_ips),
            ("serviceLoadBalancerIPs", &s.service_load_balancer_ips),
        ] {
            let at = spec.field(name);
            for (i, item) in list.iter().enumerate() {
                e.network_or_address(&at.index(i).field("cidr"), item.cidr.as_deref().unwrap_or_default());
            }
        }
        for (i, name) in s.ignored_interfaces.iter().enumerate() {
            let ok = !name.is_empty() && name.len() <= 15 && !name.contains(char::is_whitespace);
            let at = spec.field("ignoredInterfaces");
            e.require(
                ok && name != "*",
                &at.index(i),
                name,
                "must be the name of an interface, with * for a part",
            );
        }
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.log_severity_screen.get_or_insert_with(|| "Info".to_owned());
        spec.service_load_balancer_aggregation.get_or_insert(EnabledDisabled::Enabled);
        normalise(&mut spec.node_mesh_max_restart_time);
        drop_empty(&mut spec.local_workload_peering_ipv4);
        drop_empty(&mut spec.local_workload_peering_ipv6);
    }
}

impl BGPConfiguration {
    /// The mesh is one thing for the whole cluster: only the object `default` may speak of it.
    fn check_mesh(&self, spec: &Path<'_>, e: &mut Findings) {
        let s = &self.spec;
        let only_default = "is allowed in the BGPConfiguration named default only";
        if self.metadata.name != "default" {
            let (mesh, number) = (s.node_to_node_mesh_enabled.is_none(), s.as_number.is_none());
            e.require(mesh, &spec.field("nodeToNodeMeshEnabled"), "", only_default);
            e.require(number, &spec.field("asNumber"), "", only_default);
        }
        if s.node_to_node_mesh_enabled == Some(false) {
            let no_mesh = "says something of the mesh, which nodeToNodeMeshEnabled: false turns off";
            e.require(s.node_mesh_password.is_none(), &spec.field("nodeMeshPassword"), "", no_mesh);
            let restart = s.node_mesh_max_restart_time.is_none();
            e.require(restart, &spec.field("nodeMeshMaxRestartTime"), "", no_mesh);
        }
        if let Some(key) = s.node_mesh_password.as_ref().and_then(|p| p.secret_key_ref.as_ref()) {
            let at = spec.field("nodeMeshPassword");
            let at = at.field("secretKeyRef");
            e.object_name(&at.field("name"), key.name.as_deref().unwrap_or_default());
            let name = key.key.as_deref().unwrap_or_default();
            e.require(!name.is_empty(), &at.field("key"), "", "is missing");
        }
    }

    /// A prefix is tagged with communities by value, or by a name given in the same object.
    fn check_communities(&self, spec: &Path<'_>, e: &mut Findings) {
        let value_rule = "must be A:B of 16 bits each or A:B:C of 32 bits each";
        let list = spec.field("communities");
        e.require(
            self.spec.communities.is_empty() || !self.spec.prefix_advertisements.is_empty(),
            &list,
            "",
            "communities are for prefixAdvertisements, and there are none",
        );
        for (i, c) in self.spec.communities.iter().enumerate() {
            let at = list.index(i);
            let (name, value) =
                (c.name.as_deref().unwrap_or_default(), c.value.as_deref().unwrap_or_default());
            let named = !name.is_empty() && name.len() <= 253 && !name.contains(':');
            e.require(named, &at.field("name"), name, "must be a name without ':' of at most 253 characters");
            e.require(is_bgp_community(value), &at.field("value"), value, value_rule);
        }
        let known = |text: &str| self.spec.communities.iter().any(|c| c.name.as_deref() == Some(text));
        let list = spec.field("prefixAdvertisements");
        for (i, p) in self.spec.prefix_advertisements.iter().enumerate() {
            let at = list.index(i);
            e.network(&at.field("cidr"), p.cidr.as_deref().unwrap_or_default());
            for (j, text) in p.communities.iter().enumerate() {
                e.require(
                    known(text) || is_bgp_community(text),
                    &at.field("communities").index(j),
                    text,
                    "must be a value (A:B, A:B:C) or the name of an entry of spec.communities",
                );
            }
        }
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Format, Max, MaxLength, Min, MinLength, Pattern, Required, Rule};
    use crate::crd::{COMMUNITY, DURATION};
    crate::crd::Table {
        columns: &[],
        status: false,
        limits: &[&[
            (
                "",
                &[
                    Rule(
                        "self.metadata.name == 'default' || !has(self.spec.nodeToNodeMeshEnabled)",
                        "nodeToNodeMeshEnabled is allowed in the BGPConfiguration named default only",
                    ),
                    Rule(
                        "self.metadata.name == 'default' || !has(self.spec.asNumber)",
                        "asNumber is allowed in the BGPConfiguration named default only",
                    ),
                ],
            ),
            (
                "spec",
                &[
                    Rule(
                        "!has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled || !(has(self.nodeMeshPassword) || has(self.nodeMeshMaxRestartTime))",
                        "nodeMeshPassword and nodeMeshMaxRestartTime are of the mesh, which nodeToNodeMeshEnabled: false turns off",
                    ),
                    Rule(
                        "!has(self.communities) || size(self.communities) == 0 || (has(self.prefixAdvertisements) && size(self.prefixAdvertisements) > 0)",
                        "communities are for prefixAdvertisements, and there are none",
                    ),
                ],
            ),
            ("spec.communities[].name", &[MaxLength(253)]),
            ("spec.communities[].value", COMMUNITY),
            ("spec.communities[].value", &[MaxLength(40)]),
            ("spec.ignoredInterfaces[]", &[MinLength(1), MaxLength(15)]),
            ("spec.{ipv4,ipv6}NormalRoutePriority", &[Min(1), Max(2_147_483_646)]),
            ("spec.listenPort", &[Min(1), Max(65535)]),
            (
                "spec.logSeverityScreen",
                &[Default("\"Info\""), Pattern("^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$")],
            ),
            ("spec.nodeMeshMaxRestartTime", &[DURATION]),
            ("spec.nodeMeshPassword.secretKeyRef", &[Required(&["key"])]),
            ("spec.nodeMeshPassword.secretKeyRef.name", &[Default("\"\"")]),
            (
                "spec.{prefixAdvertisements,serviceClusterIPs,serviceExternalIPs,serviceLoadBalancerIPs}[].cidr",
                &[Format("cidr")],
            ),
            ("spec.serviceLoadBalancerAggregation", &[Default("\"Enabled\"")]),
        ]],
    }
};

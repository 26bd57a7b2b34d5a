//! `CalicoNodeStatus` of `projectcalico.org/v3`: a request for a node's BGP state, and the answer.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::Object;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec, CalicoNodeStatusStatus>;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    /// The BGP daemons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The BGP sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpStatus>,
    /// When the node last wrote the answer; old means that it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// The routes that the BGP daemons know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<RoutesStatus>,
}

/// The BGP daemon's routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RoutesStatus {
    /// IPv4 routes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<RouteStatus>,
    /// IPv6 routes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<RouteStatus>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStatus {
    /// Prefix of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The interface it goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Who told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_from: Option<LearnedFrom>,
    /// Whether the kernel has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<RouteType>,
}

/// Whether the kernel has the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RouteType {
    FIB,
    RIB,
}

/// Where a route came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LearnedFrom {
    /// The peer's address, where a peer told.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    /// Kind of source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<SourceType>,
}

/// Kind of source of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SourceType {
    Kernel,
    Static,
    Direct,
    NodeMesh,
    BGPPeer,
}

/// Sessions and their counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpStatus {
    /// IPv4 sessions that are up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_established_v4: Option<i32>,
    /// IPv6 sessions that are up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_established_v6: Option<i32>,
    /// IPv4 sessions that are not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_not_established_v4: Option<i32>,
    /// IPv6 sessions that are not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_not_established_v6: Option<i32>,
    /// IPv4 sessions.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<PeerStatus>,
    /// IPv6 sessions.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<PeerStatus>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    /// The peer's address.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    /// When the session came into its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// State of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    /// How the session was configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<PeerType>,
}

/// How a session was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PeerType {
    NodeMesh,
    NodePeer,
    GlobalPeer,
}

/// State of RFC 4271, or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SessionState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
    Close,
}

/// The daemons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AgentStatus {
    /// The daemon for IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bird_v4: Option<BgpDaemonStatus>,
    /// The daemon for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bird_v6: Option<BgpDaemonStatus>,
}

/// One daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BgpDaemonStatus {
    /// When the daemon started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_boot_time: Option<String>,
    /// When it last read its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reconfiguration_time: Option<String>,
    /// Its BGP identifier.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Whether it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DaemonState>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether a daemon is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DaemonState {
    Ready,
    NotReady,
}

/// What is asked of which node, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// Parts of the answer that are wanted.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<StatusClass>,
    /// The node that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Seconds between two answers; 0 stops them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<i32>,
}

/// Parts of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StatusClass {
    Agent,
    BGP,
    Routes,
}

impl Checked for CalicoNodeStatus {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        e.object_name(&spec.field("node"), self.spec.node.as_deref().unwrap_or_default());
        let classes = spec.field("classes");
        for (i, class) in self.spec.classes.iter().enumerate() {
            let before = self.spec.classes.get(..i).unwrap_or_default();
            e.require(!before.contains(class), &classes.index(i), format!("{class:?}"), "is listed twice");
        }
        let at = spec.field("updatePeriodSeconds");
        e.range_opt(&at, self.spec.update_period_seconds, 0, i64::from(i32::MAX));
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::OBJECT_NAME;
    use crate::crd::Set::{Format, MaxItems, Min, Required, Rule};
    crate::crd::Table {
        columns: &[("Node", "string", ".spec.node"), ("Classes", "string", ".spec.classes")],
        status: true,
        limits: &[&[
            ("spec", &[Required(&["node"])]),
            ("spec.node", OBJECT_NAME),
            (
                "spec.classes",
                &[MaxItems(3), Rule("self.all(c, self.exists_one(d, d == c))", "a class is listed twice")],
            ),
            ("spec.updatePeriodSeconds", &[Min(0)]),
            ("status.lastUpdated", &[Format("date-time")]),
        ]],
    }
};

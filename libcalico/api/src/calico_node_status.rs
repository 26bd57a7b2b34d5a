//! `CalicoNodeStatus` of `projectcalico.org/v3`: a request for a node's BGP state, and the answer.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::Object;
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec, CalicoNodeStatusStatus>;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<RoutesStatus>,
}

/// The BGP daemon's routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoutesStatus {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<RouteStatus>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<RouteStatus>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_from: Option<LearnedFrom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<RouteType>,
}

/// Whether the kernel has the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteType {
    FIB,
    RIB,
}

/// Where a route came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LearnedFrom {
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<SourceType>,
}

/// Kind of source of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SourceType {
    Kernel,
    Static,
    Direct,
    NodeMesh,
    BGPPeer,
}

/// Sessions and their counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_established_v4: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_established_v6: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_not_established_v4: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_not_established_v6: Option<i32>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<PeerStatus>,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<PeerStatus>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<PeerType>,
}

/// How a session was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PeerType {
    NodeMesh,
    NodePeer,
    GlobalPeer,
}

/// State of RFC 4271, or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[serde(rename_all = "camelCase", default)]
pub struct AgentStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bird_v4: Option<BgpDaemonStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bird_v6: Option<BgpDaemonStatus>,
}

/// One daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpDaemonStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_boot_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reconfiguration_time: Option<String>,
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DaemonState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether a daemon is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DaemonState {
    Ready,
    NotReady,
}

/// What is asked of which node, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<StatusClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<i32>,
}

/// Parts of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

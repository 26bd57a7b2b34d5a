//! `CalicoNodeStatus` of `projectcalico.org/v3`: type, defaults and validation.

use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::Object;

/// The whole object.
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec, CalicoNodeStatusStatus>;

/// `CalicoNodeStatusStatus` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<CalicoNodeStatusStatusAgent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<CalicoNodeStatusStatusBgp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<CalicoNodeStatusStatusRoutes>,
}

/// `CalicoNodeStatusStatusRoutes` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusRoutes {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<CalicoNodeStatusStatusRoutesRoutesV4>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<CalicoNodeStatusStatusRoutesRoutesV4>,
}

/// `CalicoNodeStatusStatusRoutesRoutesV4` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusRoutesRoutesV4 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_from: Option<CalicoNodeStatusStatusRoutesRoutesV4LearnedFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<CalicoNodeStatusType>,
}

/// Values of `CalicoNodeStatusType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CalicoNodeStatusType {
    FIB,
    RIB,
}

/// `CalicoNodeStatusStatusRoutesRoutesV4LearnedFrom` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusRoutesRoutesV4LearnedFrom {
    #[serde(rename = "peerIP", default, skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_type: Option<SourceType>,
}

/// Values of `SourceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SourceType {
    Kernel,
    Static,
    Direct,
    NodeMesh,
    BGPPeer,
}

/// `CalicoNodeStatusStatusBgp` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusBgp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_established_v4: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_established_v6: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_not_established_v4: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_not_established_v6: Option<i32>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<CalicoNodeStatusStatusBgpPeersV4>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<CalicoNodeStatusStatusBgpPeersV4>,
}

/// `CalicoNodeStatusStatusBgpPeersV4` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusBgpPeersV4 {
    #[serde(rename = "peerIP", default, skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CalicoNodeStatusState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<Type>,
}

/// Values of `Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Type {
    NodeMesh,
    NodePeer,
    GlobalPeer,
}

/// Values of `CalicoNodeStatusState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CalicoNodeStatusState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
    Close,
}

/// `CalicoNodeStatusStatusAgent` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusAgent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bird_v4: Option<CalicoNodeStatusStatusAgentBirdV4>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bird_v6: Option<CalicoNodeStatusStatusAgentBirdV4>,
}

/// `CalicoNodeStatusStatusAgentBirdV4` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatusAgentBirdV4 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_boot_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reconfiguration_time: Option<String>,
    #[serde(rename = "routerID", default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Values of `State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    Ready,
    NotReady,
}

/// `CalicoNodeStatusSpec` of CalicoNodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Classes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<i32>,
}

/// Values of `Classes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Classes {
    Agent,
    BGP,
    Routes,
}

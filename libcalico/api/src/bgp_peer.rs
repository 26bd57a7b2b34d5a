//! `BGPPeer` of `projectcalico.org/v3`: a BGP session beside the node-to-node mesh.

use std::net::{IpAddr, SocketAddr};

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use crate::common::{BgpPassword, null_default};
use crate::duration::normalise;
use crate::meta::{NoStatus, Object};
use crate::num_or_string::AsNumber;
use crate::policy::{drop_empty, drop_false};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type BGPPeer = Object<BGPPeerSpec, NoStatus>;

/// Who peers with whom, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BGPPeerSpec {
    /// AS number of the far side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// BGPFilters for routes from and to this peer, in order.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Leave the next hop of routes as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_original_next_hop: Option<bool>,
    /// Time between KEEPALIVE messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// AS number this node uses towards the peer instead of its own.
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<AsNumber>,
    /// Peers are workloads of the node, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_workload_selector: Option<String>,
    /// Graceful restart time (RFC 4724).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<String>,
    /// What next hop is announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// The node that peers; absent with `nodeSelector` absent means every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Nodes that peer, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// How often the own AS number may stand in a received path.
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "Option::is_none")]
    pub num_allowed_local_as_numbers: Option<i32>,
    /// Password of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// `ADDRESS` or `ADDRESS:PORT` of the far side.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    /// Peers are nodes, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<String>,
    /// Gateway towards a peer that is not on a connected network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_by: Option<String>,
    /// `Auto`: nodes chosen as peers also peer back; `Manual`: they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<String>,
    /// Whether the session starts from the node's BGP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// Hops to the peer at most, 0 is off (RFC 5082).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<i32>,
}

/// Address that a session starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SourceAddress {
    UseNodeIP,
    None,
}

/// Next hop of announced routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NextHopMode {
    Auto,
    #[serde(rename = "Self")]
    SelfNextHop,
    Keep,
}

impl Checked for BGPPeer {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let s = &self.spec;
        let given = |t: &Option<String>| t.as_deref().is_some_and(|t| !t.is_empty());
        for (name, selector) in [
            ("nodeSelector", &s.node_selector),
            ("peerSelector", &s.peer_selector),
            ("localWorkloadSelector", &s.local_workload_selector),
        ] {
            e.selector_opt(&spec.field(name), selector.as_deref());
        }
        if given(&s.node) {
            e.object_name(&spec.field("node"), s.node.as_deref().unwrap_or_default());
        }
        let at = spec.field("node");
        let both = given(&s.node) && given(&s.node_selector);
        e.require(!both, &at, s.node.as_deref().unwrap_or_default(), "cannot stand beside nodeSelector");
        self.check_far_side(&spec, e);
        for (name, text) in [("keepaliveTime", &s.keepalive_time), ("maxRestartTime", &s.max_restart_time)] {
            e.duration_opt(&spec.field(name), text.as_deref());
        }
        e.range_opt(&spec.field("ttlSecurity"), s.ttl_security, 0, 255);
        let at = spec.field("numAllowedLocalASNumbers");
        e.range_opt(&at, s.num_allowed_local_as_numbers, 0, i64::from(i32::MAX));
        e.word_opt(&spec.field("reversePeering"), s.reverse_peering.as_deref(), &["Auto", "Manual"]);
        e.require(
            s.next_hop_mode.is_none() || s.keep_original_next_hop != Some(true),
            &spec.field("nextHopMode"),
            "",
            "cannot stand beside keepOriginalNextHop: true",
        );
        for (i, name) in s.filters.iter().enumerate() {
            e.object_name(&spec.field("filters").index(i), name);
        }
        if let Some(key) = s.password.as_ref().and_then(|p| p.secret_key_ref.as_ref()) {
            let at = spec.field("password");
            let at = at.field("secretKeyRef");
            e.object_name(&at.field("name"), key.name.as_deref().unwrap_or_default());
            let name = key.key.as_deref().unwrap_or_default();
            e.require(!name.is_empty(), &at.field("key"), "", "is missing");
        }
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        normalise(&mut spec.keepalive_time);
        normalise(&mut spec.max_restart_time);
        drop_false(&mut spec.keep_original_next_hop);
        // Go leaves the number out where it is 0.
        spec.as_number = spec.as_number.filter(|n| n.0 != 0);
        for text in [
            &mut spec.node,
            &mut spec.node_selector,
            &mut spec.peer_ip,
            &mut spec.peer_selector,
            &mut spec.local_workload_selector,
            &mut spec.reachable_by,
            &mut spec.reverse_peering,
        ] {
            drop_empty(text);
        }
    }
}

impl BGPPeer {
    /// The far side is an address, nodes by their labels, or local workloads by theirs: one of the three.
    fn check_far_side(&self, spec: &Path<'_>, e: &mut Findings) {
        let s = &self.spec;
        let (ip, peers, workloads) = (
            s.peer_ip.as_deref().unwrap_or_default(),
            s.peer_selector.as_deref().unwrap_or_default(),
            s.local_workload_selector.as_deref().unwrap_or_default(),
        );
        let number = s.as_number.map_or(0, |n| n.0);
        let ip_at = spec.field("peerIP");
        let given = [ip, peers, workloads].iter().filter(|t| !t.is_empty()).count();
        e.require(
            given == 1,
            &ip_at,
            ip,
            "give exactly one of peerIP, peerSelector and localWorkloadSelector",
        );
        e.require(
            peers.is_empty() || number == 0,
            &spec.field("asNumber"),
            number,
            "cannot stand beside peerSelector: the number is the peer node's own",
        );
        e.require(
            (ip.is_empty() && workloads.is_empty()) || number > 0,
            &spec.field("asNumber"),
            "",
            "is needed beside peerIP and localWorkloadSelector",
        );
        let peer = split_address_and_port(ip);
        e.require(
            ip.is_empty() || peer.is_some(),
            &ip_at,
            ip,
            "must be ADDRESS or ADDRESS:PORT, an IPv6 address with a port between brackets",
        );
        let reachable = s.reachable_by.as_deref().unwrap_or_default();
        if !reachable.is_empty() {
            let at = spec.field("reachableBy");
            e.address(&at, reachable, peer.map(|(addr, _)| Family::of(addr)));
            e.require(!ip.is_empty(), &at, reachable, "needs peerIP");
        }
    }
}

/// Reads `peerIP`: an address, with a port where one is given. IPv6 with a port is written `[fd00::1]:1790`.
#[must_use]
pub fn split_address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some((addr, None));
    }
    let whole: SocketAddr = text.parse().ok()?;
    (whole.port() > 0).then(|| (whole.ip(), Some(whole.port())))
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Max, MaxLength, Min, Pattern, Required, Rule};
    use crate::crd::{DURATION, OBJECT_NAME, OBJECT_NAME_OR_EMPTY, SELECTOR};
    crate::crd::Table {
        columns: &[
            ("Node Selector", "string", ".spec.nodeSelector"),
            ("Node", "string", ".spec.node"),
            ("Local ASN", "integer", ".spec.localASNumber"),
            ("Peer Selector", "string", ".spec.peerSelector"),
            ("Peer IP", "string", ".spec.peerIP"),
            ("Peer ASN", "integer", ".spec.asNumber"),
        ],
        status: false,
        limits: &[&[
            ("", &[Required(&["spec"])]),
            (
                "spec",
                &[
                    Rule(
                        "!(has(self.node) && self.node != '') || !(has(self.nodeSelector) && self.nodeSelector != '')",
                        "node cannot stand beside nodeSelector",
                    ),
                    Rule(
                        "[(has(self.peerIP) && self.peerIP != ''), (has(self.peerSelector) && self.peerSelector != ''), (has(self.localWorkloadSelector) && self.localWorkloadSelector != '')].filter(given, given).size() == 1",
                        "give exactly one of peerIP, peerSelector and localWorkloadSelector",
                    ),
                    Rule(
                        "!(has(self.peerSelector) && self.peerSelector != '') || !has(self.asNumber) || self.asNumber == 0",
                        "asNumber cannot stand beside peerSelector: the number is the peer node's own",
                    ),
                    Rule(
                        "(has(self.peerSelector) && self.peerSelector != '') || (has(self.asNumber) && self.asNumber > 0)",
                        "asNumber is needed beside peerIP and localWorkloadSelector",
                    ),
                    Rule(
                        "!(has(self.reachableBy) && self.reachableBy != '') || (has(self.peerIP) && self.peerIP != '')",
                        "reachableBy needs peerIP",
                    ),
                    Rule(
                        "!has(self.nextHopMode) || !has(self.keepOriginalNextHop) || !self.keepOriginalNextHop",
                        "nextHopMode cannot stand beside keepOriginalNextHop: true",
                    ),
                ],
            ),
            ("spec.{nodeSelector,peerSelector,localWorkloadSelector}", SELECTOR),
            ("spec.node", OBJECT_NAME_OR_EMPTY),
            ("spec.filters[]", OBJECT_NAME),
            (
                "spec.peerIP",
                &[
                    MaxLength(64),
                    Pattern("^([0-9.]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\\[[0-9A-Fa-f:.]+\\]:[0-9]{1,5})?$"),
                ],
            ),
            ("spec.reachableBy", &[MaxLength(64), Pattern("^[0-9A-Fa-f:.]*$")]),
            ("spec.{keepaliveTime,maxRestartTime}", &[DURATION]),
            ("spec.numAllowedLocalASNumbers", &[Min(0)]),
            ("spec.ttlSecurity", &[Min(0), Max(255)]),
            ("spec.reversePeering", &[Pattern("^(?i)(Auto|Manual)?$")]),
            ("spec.password.secretKeyRef", &[Required(&["key"])]),
            ("spec.password.secretKeyRef.name", &[Default("\"\"")]),
        ]],
    }
};

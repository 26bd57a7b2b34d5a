//! State of a BGP protocol around its session: connections, what was sent, what is to be sent.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;

use crate::config::{ProtocolConfig, ProtocolKind};
use crate::event::ConnId;
use crate::rib::{Attrs, ProtoId, RouteOrigin, RouteSource};
use crate::session::{Session, SessionConfig, Side};
use crate::time::Time;

/// A BGP protocol.
pub(crate) struct Bgp {
    pub session: Session,
    pub outgoing: Option<ConnId>,
    pub incoming: Option<ConnId>,
    /// An incoming connection that a newer one takes the place of.
    pub replaced: Option<ConnId>,
    /// When the session came up last.
    pub since: Time,
    /// Written data has not left yet: no further updates.
    pub blocked: bool,
    /// Shared by all routes of the session.
    pub origin: Arc<RouteOrigin>,
    pub channels: Vec<BgpChannel>,
}

/// A family of an established session.
#[derive(Default)]
pub(crate) struct BgpChannel {
    pub family: Option<Family>,
    /// Prefixes to look at before sending; bounded by the size of the table.
    pub pending: BTreeSet<IpNet>,
    /// What the neighbour has from us.
    pub sent: HashMap<(IpNet, u32), Arc<Attrs>>,
    /// All of the table has been looked at once and the End-of-RIB marker is out.
    pub eor_sent: bool,
    pub eor_received: bool,
    /// A refresh from the neighbour is under way.
    pub refreshing: bool,
    /// We owe the neighbour an end-of-refresh marker.
    pub refresh_owed: bool,
}

impl Bgp {
    pub fn new(id: ProtoId, name: &Arc<str>, session: Session) -> Self {
        let from = Some(session.config().bgp.neighbor);
        let origin = RouteOrigin { proto: id, name: name.clone(), source: RouteSource::Bgp, from, bgp: None };
        Self {
            session,
            outgoing: None,
            incoming: None,
            replaced: None,
            since: Time::default(),
            blocked: false,
            origin: Arc::new(origin),
            channels: Vec::new(),
        }
    }

    pub fn conn(&self, side: Side) -> Option<ConnId> {
        match side {
            Side::Outgoing => self.outgoing,
            Side::Incoming => self.incoming,
        }
    }

    pub fn channel(&self, family: Family) -> Option<&BgpChannel> {
        self.channels.iter().find(|c| c.family == Some(family))
    }

    pub fn channel_mut(&mut self, family: Family) -> Option<&mut BgpChannel> {
        self.channels.iter_mut().find(|c| c.family == Some(family))
    }

    /// Cluster id of a route reflector (RFC 4456).
    pub fn cluster_id(&self) -> u32 {
        let config = self.session.config();
        u32::from(config.bgp.rr_cluster_id.unwrap_or(config.router_id))
    }
}

/// What a session needs of a protocol's configuration.
pub(crate) fn session_config(config: &ProtocolConfig, router_id: Ipv4Addr) -> SessionConfig {
    let ProtocolKind::Bgp(bgp) = &config.kind else {
        // Only called for BGP protocols; an empty session never starts.
        return SessionConfig {
            bgp: crate::config::BgpConfig::default(),
            router_id,
            families: Vec::new(),
            graceful: Vec::new(),
        };
    };
    SessionConfig {
        bgp: (**bgp).clone(),
        router_id,
        families: config.channels.iter().map(|c| (c.family, c.add_paths)).collect(),
        graceful: config
            .channels
            .iter()
            .filter(|c| c.graceful_restart.unwrap_or(true))
            .map(|c| c.family)
            .collect(),
    }
}

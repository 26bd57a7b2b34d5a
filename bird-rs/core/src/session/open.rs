//! OPEN: what we offer, what we accept, and what both together mean.

use std::net::IpAddr;

use bird_wire::{Capability, Context, Family, GracefulRestart, Notification, Open, open_error};

use super::state::Session;
use super::types::{ConnState, Side};
use crate::config::{GracefulMode, PeerAs};
use crate::time::Time;

/// An established session's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Negotiated {
    /// The connection that won.
    pub side: Side,
    /// How messages are encoded.
    pub ctx: Context,
    /// Our OPEN.
    pub local_open: Open,
    /// The neighbour's OPEN.
    pub peer_open: Open,
    /// Families both announced and we have channels for.
    pub families: Vec<Family>,
    /// Families whose routes are kept when the neighbour restarts.
    pub graceful: Vec<Family>,
    /// Both can refresh routes.
    pub route_refresh: bool,
    /// Both mark the beginning and end of a refresh.
    pub enhanced_refresh: bool,
    /// Hold time, in seconds; 0 is off.
    pub hold_secs: u16,
    /// Keepalive interval, in seconds; 0 is off.
    pub keepalive_secs: u16,
    /// Our address on the connection.
    pub local_address: Option<IpAddr>,
}

impl Session {
    /// The OPEN we send now.
    pub(super) fn local_open(&self) -> Open {
        let config = &self.config;
        let bgp = &config.bgp;
        let mut capabilities = Vec::new();
        if bgp.capabilities {
            capabilities.extend(config.families.iter().map(|(family, _)| Capability::Multiprotocol(*family)));
            if bgp.route_refresh {
                capabilities.push(Capability::RouteRefresh);
            }
            if bgp.extended_messages {
                capabilities.push(Capability::ExtendedMessage);
            }
            if bgp.graceful_restart != GracefulMode::Off {
                let on = bgp.graceful_restart == GracefulMode::On;
                let families = if on { config.graceful.clone() } else { Vec::new() };
                capabilities.push(Capability::GracefulRestart(GracefulRestart {
                    restarting: self.restarting && on,
                    restart_time_secs: if on { bgp.graceful_restart_time_secs } else { 0 },
                    families: families.into_iter().map(|f| (f, self.restarting)).collect(),
                }));
            }
            if bgp.as4 {
                capabilities.push(Capability::As4(bgp.local_as));
            }
            let add_path: Vec<_> = config
                .families
                .iter()
                .filter(|(_, (rx, tx))| *rx || *tx)
                .map(|&(family, (rx, tx))| (family, rx, tx))
                .collect();
            if !add_path.is_empty() {
                capabilities.push(Capability::AddPath(add_path));
            }
            if bgp.route_refresh {
                capabilities.push(Capability::EnhancedRefresh);
            }
        }
        Open::new(bgp.local_as, bgp.hold_time_secs, config.router_id, capabilities)
    }

    /// Checks the neighbour's OPEN (RFC 4271 section 6.2), settles a collision, and confirms.
    pub(super) fn open_received(&mut self, now: Time, side: Side, open: Open) {
        if let Err(notification) = self.check_open(&open) {
            self.fail(now, side, &notification);
            return;
        }
        if !self.wins_collision(side, &open) {
            return;
        }
        let Some(ctx) = self
            .conn(side)
            .and_then(|c| c.local_open.as_ref())
            .map(|local| context(local, &open, self.config.bgp.is_internal_with(open.real_asn())))
        else {
            return;
        };
        let hold_secs = match (self.config.bgp.hold_time_secs, open.hold_time_secs) {
            (0, _) | (_, 0) => 0,
            (a, b) => a.min(b),
        };
        let keepalive_secs = match (hold_secs, self.config.bgp.keepalive_secs) {
            (0, _) => 0,
            (hold, Some(wanted)) => wanted.min(hold / 3).max(1),
            (hold, None) => (hold / 3).max(1),
        };
        if let Some(conn) = self.conn_mut(side) {
            conn.ctx = ctx;
            conn.hold_secs = hold_secs;
            conn.keepalive_secs = keepalive_secs;
            conn.peer_open = Some(open);
            conn.state = ConnState::OpenConfirm;
        }
        self.restart_hold(now, side);
        self.send_keepalive(now, side);
    }

    fn check_open(&self, open: &Open) -> Result<(), Notification> {
        let bgp = &self.config.bgp;
        let asn = open.real_asn();
        let expected = match bgp.neighbor_as {
            PeerAs::Number(wanted) => asn == wanted,
            PeerAs::Internal => asn == bgp.local_as,
            PeerAs::External => asn != bgp.local_as && asn != 0,
        };
        if !expected {
            let data = asn.to_be_bytes().to_vec();
            return Err(Notification { code: 2, subcode: open_error::BAD_PEER_AS, data });
        }
        let internal = asn == bgp.local_as;
        if open.id.is_unspecified() || (internal && open.id == self.config.router_id) {
            let data = open.id.octets().to_vec();
            return Err(Notification { code: 2, subcode: open_error::BAD_IDENTIFIER, data });
        }
        if open.hold_time_secs == 1 || open.hold_time_secs == 2 {
            return Err(Notification::new(2, open_error::HOLD_TIME));
        }
        let ours = |family: &Family| self.config.families.iter().any(|(f, _)| f == family);
        if !open.families().iter().any(ours) {
            return Err(Notification::new(2, open_error::CAPABILITY));
        }
        Ok(())
    }

    pub(super) fn negotiate(&self, side: Side) -> Option<Negotiated> {
        let conn = self.conn(side)?;
        let (local, peer) = (conn.local_open.clone()?, conn.peer_open.clone()?);
        let theirs = peer.families();
        let ours = local.families();
        let families: Vec<Family> = ours.into_iter().filter(|f| theirs.contains(f)).collect();
        let aware = self.config.bgp.graceful_restart != GracefulMode::Off;
        let graceful = match peer.graceful_restart() {
            Some(gr) if aware => {
                families.iter().copied().filter(|f| gr.families.iter().any(|(g, _)| g == f)).collect()
            }
            _ => Vec::new(),
        };
        let both = |c: &Capability| local.has(c) && peer.has(c);
        Some(Negotiated {
            side,
            ctx: conn.ctx,
            families,
            graceful,
            route_refresh: both(&Capability::RouteRefresh),
            enhanced_refresh: both(&Capability::EnhancedRefresh) && both(&Capability::RouteRefresh),
            hold_secs: conn.hold_secs,
            keepalive_secs: conn.keepalive_secs,
            local_address: conn.local_address,
            local_open: local,
            peer_open: peer,
        })
    }
}

/// What both OPENs mean for the encoding.
fn context(local: &Open, peer: &Open, internal: bool) -> Context {
    let mut ctx = Context {
        as4: local.as4().is_some() && peer.as4().is_some(),
        extended: local.has(&Capability::ExtendedMessage) && peer.has(&Capability::ExtendedMessage),
        external: !internal,
        ..Context::default()
    };
    for family in Family::ALL {
        let (our_rx, our_tx) = local.add_path(family);
        let (their_rx, their_tx) = peer.add_path(family);
        if let Some(rx) = ctx.add_path_rx.get_mut(family.index()) {
            *rx = our_rx && their_tx;
        }
        if let Some(tx) = ctx.add_path_tx.get_mut(family.index()) {
            *tx = our_tx && their_rx;
        }
    }
    ctx
}

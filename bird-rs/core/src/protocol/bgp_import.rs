//! What comes from a BGP neighbour: session up and down, updates, refreshes, and routes of a restarting neighbour.

use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::{Family, Message, NextHop, Nlri, PathAttributes, RefreshKind, Update};

use super::bgp::BgpChannel;
use crate::config::Gateway;
use crate::engine::{Engine, State};
use crate::event::Action;
use crate::rib::{Attrs, BgpOrigin, Dest, Hop, ProtoId, Resolved, Route, RouteOrigin, RouteSource};
use crate::session::{Down, Negotiated};

impl Engine {
    pub(crate) fn session_up(&mut self, id: ProtoId, negotiated: &Negotiated) {
        let now = self.now;
        let name = self.name(id);
        tracing::info!(protocol = %name, families = ?negotiated.families, "BGP session established");
        let Some(bgp) = self.bgp_mut(id) else { return };
        let config = &bgp.session.config().bgp;
        bgp.origin = Arc::new(RouteOrigin {
            proto: id,
            name,
            source: RouteSource::Bgp,
            from: Some(config.neighbor),
            bgp: Some(BgpOrigin {
                router_id: negotiated.peer_open.id,
                internal: !negotiated.ctx.external,
                rr_client: config.rr_client,
                default_local_pref: config.default_local_pref,
                default_med: config.default_med,
                path_metric: config.path_metric,
                med_metric: config.med_metric,
            }),
        });
        bgp.blocked = false;
        bgp.since = now;
        bgp.channels = negotiated
            .families
            .iter()
            .map(|family| BgpChannel { family: Some(*family), ..BgpChannel::default() })
            .collect();
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.set_state(State::Up, now);
        for channel in &mut instance.channels {
            channel.up = negotiated.families.contains(&channel.config.family);
            channel.exported = 0;
        }
        // Routes kept from before the neighbour's restart go at once when it did not keep forwarding.
        for family in Family::ALL {
            let preserved = negotiated
                .peer_open
                .graceful_restart()
                .is_some_and(|gr| gr.families.iter().any(|&(f, preserved)| f == family && preserved));
            if !preserved || !negotiated.families.contains(&family) {
                self.drop_stale(id, Some(family));
            }
        }
        for family in &negotiated.families {
            self.refeed(id, Some(*family));
        }
        self.settle_later();
    }

    pub(crate) fn session_down(&mut self, id: ProtoId, down: Down) {
        let now = self.now;
        let Some(bgp) = self.bgp_mut(id) else { return };
        // The terms of the session are gone; what it may keep was decided there.
        bgp.channels.clear();
        bgp.blocked = false;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let was_up = instance.state == State::Up;
        if was_up {
            instance.set_state(State::Start, now);
        }
        let mut families = Vec::new();
        for (i, channel) in instance.channels.iter_mut().enumerate() {
            channel.up = false;
            channel.exported = 0;
            families.push((i, channel.config.family));
        }
        if was_up {
            tracing::info!(protocol = %instance.config.name, graceful = down == Down::Graceful, "BGP session down");
        }
        let keep = down == Down::Graceful;
        for (channel, _) in families {
            self.purge(id, channel, |_, route| {
                // A route that was stale already has waited one restart; it does not get another.
                let stays = keep && !route.stale;
                route.stale = true;
                stays
            });
        }
    }

    /// Drops routes still waiting for the neighbour's word, of one family or of all.
    pub(crate) fn drop_stale(&mut self, id: ProtoId, family: Option<Family>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let meant = |f: Family| family.is_none_or(|wanted| wanted == f);
        let channels: Vec<usize> = (0..instance.channels.len())
            .filter(|&i| instance.channels.get(i).is_some_and(|c| c.imported > 0 && meant(c.config.family)))
            .collect();
        for channel in channels {
            self.purge(id, channel, |_, route| !route.stale);
        }
    }

    pub(crate) fn update_received(&mut self, id: ProtoId, update: Update) {
        let Some(bgp) = self.bgp(id) else { return };
        let origin = bgp.origin.clone();
        if let Some(malformed) = &update.malformed {
            tracing::warn!(protocol = %origin.name, "malformed update: {malformed}");
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(id, family);
            return;
        }
        for nlri in update.withdrawn {
            self.withdraw(id, nlri);
        }
        if !update.announced.is_empty() {
            self.announce(id, &origin, update.attrs.clone(), update.attrs.next_hop, update.announced);
        }
        if let Some((next_hop, routes)) = update.mp_announced {
            self.announce(id, &origin, update.attrs, Some(next_hop), routes);
        }
    }

    fn end_of_rib(&mut self, id: ProtoId, family: Family) {
        tracing::debug!(protocol = %self.name(id), %family, "End-of-RIB");
        if let Some(channel) = self.bgp_mut(id).and_then(|b| b.channel_mut(family)) {
            channel.eor_received = true;
        }
        self.drop_stale(id, Some(family));
    }

    fn withdraw(&mut self, id: ProtoId, nlri: Nlri) {
        let channel = self.instances.get(&id).and_then(|i| i.channel_of(Family::of(&nlri.prefix)));
        if let Some(channel) = channel {
            self.import(id, channel, nlri.prefix, nlri.path_id, None);
        }
    }

    fn announce(
        &mut self,
        id: ProtoId,
        origin: &Arc<RouteOrigin>,
        mut attrs: PathAttributes,
        next_hop: Option<NextHop>,
        routes: Vec<Nlri>,
    ) {
        let Some(first) = routes.first() else { return };
        let family = Family::of(&first.prefix);
        attrs.next_hop = next_hop;
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(channel) = instance.channel_of(family) else { return };
        let Some(channel_state) = instance.channels.get(channel).filter(|c| c.up) else { return };
        let table = channel_state.table;
        let gateway = channel_state.config.gateway;
        let preference = instance.preference(channel);
        let usable = self.bgp(id).is_some_and(|bgp| !loops(bgp, &attrs));
        let template =
            if usable { next_hop.and_then(|nh| self.resolve(id, table, gateway, nh)) } else { None };
        let Some((dest, via, igp_metric)) = template else {
            // Looped or without a usable next hop: the neighbour's earlier route is gone all the same.
            for nlri in routes {
                self.import(id, channel, nlri.prefix, nlri.path_id, None);
            }
            return;
        };
        if attrs.local_pref.is_none() {
            attrs.local_pref = origin.bgp.as_ref().map(|b| b.default_local_pref);
        }
        let attrs = self.intern(Attrs { bgp: attrs, ..Attrs::default() });
        for nlri in routes {
            let route = Route {
                origin: origin.clone(),
                path_id: nlri.path_id,
                attrs: attrs.clone(),
                dest: dest.clone(),
                via,
                igp_metric,
                preference,
                stale: false,
                since: self.now,
            };
            self.import(id, channel, nlri.prefix, nlri.path_id, Some(route));
        }
    }

    /// Where a next hop leads: now, by which address when it is to be looked up again, at what cost.
    fn resolve(
        &mut self,
        id: ProtoId,
        table: usize,
        gateway: Option<Gateway>,
        next_hop: NextHop,
    ) -> Option<(Dest, Option<IpAddr>, u32)> {
        let config = &self.bgp(id)?.session.config().bgp;
        let direct = match gateway {
            Some(mode) => mode == Gateway::Direct,
            None => config.hops().is_none(),
        };
        // The neighbour's own link-local address needs no lookup: it is on the session's link.
        if let (true, Some(name)) = (direct, config.interface.as_deref()) {
            let iface = self.interfaces.by_name(name)?.handle();
            let gateway = next_hop.link_local.map_or(next_hop.global, IpAddr::V6);
            let hop = Hop { gateway: Some(gateway), iface, onlink: false, weight: 1 };
            return Some((Dest::Unicast(Arc::from([hop])), None, 0));
        }
        if self.interfaces.is_local(next_hop.global) {
            tracing::debug!(next_hop = %next_hop.global, "next hop is our own address");
            return None;
        }
        if direct {
            let interface = self.interfaces.neighbor(next_hop.global)?;
            let hop =
                Hop { gateway: Some(next_hop.global), iface: interface.handle(), onlink: false, weight: 1 };
            return Some((Dest::Unicast(Arc::from([hop])), None, 0));
        }
        let Resolved { dest, igp_metric } = self.tables.get_mut(table)?.watch(next_hop.global);
        Some((dest, Some(next_hop.global), igp_metric))
    }

    // --- refresh ---

    pub(crate) fn refresh_received(&mut self, id: ProtoId, family: Family, kind: RefreshKind) {
        match kind {
            RefreshKind::Request => {
                let enhanced =
                    self.bgp(id).and_then(|b| b.session.negotiated.as_ref()).map(|n| n.enhanced_refresh);
                self.resend(id, family, enhanced == Some(true));
            }
            RefreshKind::Begin => {
                let channel = self.instances.get(&id).and_then(|i| i.channel_of(family));
                if let Some(state) = self.bgp_mut(id).and_then(|b| b.channel_mut(family)) {
                    state.refreshing = true;
                }
                if let Some(channel) = channel {
                    self.purge(id, channel, |_, route| {
                        route.stale = true;
                        true
                    });
                }
            }
            RefreshKind::End => {
                let state = self.bgp_mut(id).and_then(|b| b.channel_mut(family));
                if state.is_some_and(|s| std::mem::take(&mut s.refreshing)) {
                    self.drop_stale(id, Some(family));
                }
            }
        }
    }

    /// Asks the neighbour for all its routes again; without route refresh the session has to restart.
    pub(crate) fn request_refresh(&mut self, id: ProtoId) {
        let Some(bgp) = self.bgp(id) else { return };
        let Some(negotiated) = bgp.session.negotiated.clone() else { return };
        if !negotiated.route_refresh {
            self.restart_instance(id, bird_wire::cease::CONFIG_CHANGE);
            return;
        }
        let Some(conn) = bgp.conn(negotiated.side) else { return };
        for family in &negotiated.families {
            let message = Message::RouteRefresh(Some(*family), RefreshKind::Request).encode(&negotiated.ctx);
            self.actions.push(Action::Send(conn, message));
        }
    }
}

/// Whether a route has been here before (RFC 4271 section 9.1.2, RFC 4456 section 8).
fn loops(bgp: &super::Bgp, attrs: &PathAttributes) -> bool {
    let config = bgp.session.config();
    let count = attrs.as_path.as_ref().map_or(0, |p| p.count(config.bgp.local_as));
    if count > usize::from(config.bgp.allow_local_as) {
        return true;
    }
    attrs.originator_id == Some(config.router_id)
        || (config.bgp.rr_client || bgp.origin.bgp.as_ref().is_some_and(|b| b.internal))
            && attrs.cluster_list.contains(&bgp.cluster_id())
}

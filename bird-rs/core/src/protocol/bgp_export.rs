//! What goes to a BGP neighbour: which routes, with which attributes, packed into messages.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::{
    AsPath, Family, Message, NextHop, Nlri, Origin, RefreshKind, encode_announcements, encode_end_of_rib,
    encode_withdrawals,
};
use bytes::Bytes;
use ipnet::IpNet;

use super::Bgp;
use crate::config::{ChannelConfig, NextHopScope};
use crate::engine::{Channel, Engine, Instance, Kind};
use crate::event::Action;
use crate::interface::Interfaces;
use crate::rib::{Attrs, Interner, ProtoId, Route, Table};
use crate::session::Negotiated;

/// Prefixes looked at before the connection must have drained: bounds what waits in memory for a slow neighbour.
const BATCH: usize = 4096;

/// Well-known communities (RFC 1997).
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

impl Engine {
    /// Looks at the whole table again for a family, or for all.
    pub(crate) fn refeed(&mut self, id: ProtoId, family: Option<Family>) {
        let Self { instances, tables, .. } = self;
        let Some(Instance { channels, kind: Kind::Bgp(bgp), .. }) = instances.get_mut(&id) else { return };
        for channel in channels.iter().filter(|c| c.up && family.is_none_or(|f| f == c.config.family)) {
            let (Some(table), Some(state)) =
                (tables.get(channel.table), bgp.channel_mut(channel.config.family))
            else {
                continue;
            };
            state.pending.extend(table.iter().map(|(prefix, _)| prefix));
            // What was sent may be gone from the table.
            state.pending.extend(state.sent.keys().map(|(prefix, _)| *prefix));
        }
    }

    /// Sends everything of a family again, since the neighbour asked.
    pub(crate) fn resend(&mut self, id: ProtoId, family: Family, enhanced: bool) {
        let Some(bgp) = self.bgp_mut(id) else { return };
        let Some(negotiated) = bgp.session.negotiated.clone() else { return };
        let Some(conn) = bgp.conn(negotiated.side) else { return };
        if let Some(state) = bgp.channel_mut(family) {
            // Forgetting what was sent makes it be sent again; withdrawals in the meantime are sent as such.
            let known: Vec<IpNet> = state.sent.keys().map(|(prefix, _)| *prefix).collect();
            for attrs in state.sent.values_mut() {
                *attrs = Arc::new(Attrs::default());
            }
            state.pending.extend(known);
            state.refresh_owed = enhanced;
        }
        if enhanced {
            let message = Message::RouteRefresh(Some(family), RefreshKind::Begin).encode(&negotiated.ctx);
            self.actions.push(Action::Send(conn, message));
        }
    }

    /// Sends what is pending, as far as the connection takes it.
    pub(crate) fn flush_bgp(&mut self, id: ProtoId) {
        let recovering = self.recovery.is_active();
        let Self { instances, tables, interner, interfaces, actions, path_ids, .. } = self;
        let Some(Instance { channels, kind: Kind::Bgp(bgp), .. }) = instances.get_mut(&id) else { return };
        let Some(negotiated) = bgp.session.negotiated.clone() else { return };
        let Some(conn) = bgp.conn(negotiated.side) else { return };
        for channel in channels.iter_mut().filter(|c| c.up) {
            if bgp.blocked {
                return;
            }
            let family = channel.config.family;
            let Some(table) = tables.get(channel.table) else { continue };
            let Some(state) = bgp.channel_mut(family) else { continue };
            let batch = take_batch(&mut state.pending);
            let mut messages = Vec::new();
            if !batch.is_empty() {
                let exporter = Exporter { id, bgp, negotiated: &negotiated, interfaces };
                let changes = exporter.changes(&batch, channel, table, interner, path_ids);
                let Some(state) = bgp.channel_mut(family) else { continue };
                messages = changes.apply(family, channel, state, &negotiated);
            }
            let Some(state) = bgp.channel_mut(family) else { continue };
            if state.pending.is_empty() {
                if !state.eor_sent && !recovering {
                    state.eor_sent = true;
                    messages.push(encode_end_of_rib(family));
                }
                if std::mem::take(&mut state.refresh_owed) {
                    messages
                        .push(Message::RouteRefresh(Some(family), RefreshKind::End).encode(&negotiated.ctx));
                }
            }
            if messages.is_empty() {
                continue;
            }
            actions.extend(messages.into_iter().map(|m| Action::Send(conn, m)));
            if !state.pending.is_empty() {
                bgp.blocked = true;
                actions.push(Action::NotifyWritable(conn));
            }
        }
        // A batch that changed nothing leaves the connection idle; nobody would say that it is writable.
        let left = bgp.channels.iter().any(|c| !c.pending.is_empty());
        if left && !bgp.blocked {
            bgp.blocked = true;
            actions.push(Action::NotifyWritable(conn));
        }
    }
}

fn take_batch(pending: &mut BTreeSet<IpNet>) -> Vec<IpNet> {
    if pending.len() <= BATCH {
        return std::mem::take(pending).into_iter().collect();
    }
    (0..BATCH).filter_map(|_| pending.pop_first()).collect()
}

/// What is to be announced and withdrawn.
#[derive(Default)]
struct Changes {
    /// By attributes; the pointer stands for them, since they are interned.
    announce: HashMap<*const Attrs, (Arc<Attrs>, Vec<Nlri>)>,
    withdraw: Vec<Nlri>,
}

impl Changes {
    /// Notes in the state what the neighbour will have, and makes the messages.
    fn apply(
        self,
        family: Family,
        channel: &mut Channel,
        state: &mut super::bgp::BgpChannel,
        negotiated: &Negotiated,
    ) -> Vec<Bytes> {
        let mut withdraw = self.withdraw;
        let mut messages = Vec::new();
        let mut groups: Vec<_> = self.announce.into_values().collect();
        // Order by content, so that the same change makes the same messages.
        groups.sort_by(|a, b| a.1.first().cmp(&b.1.first()));
        for (attrs, routes) in groups {
            let Some(next_hop) = attrs.bgp.next_hop else { continue };
            let ctx = &negotiated.ctx;
            match encode_announcements(&attrs.bgp, &next_hop, family, &routes, ctx) {
                Some(encoded) => {
                    messages.extend(encoded);
                    for route in &routes {
                        state.sent.insert((route.prefix, route.path_id), attrs.clone());
                    }
                    channel.stats.export_updates.accepted += routes.len() as u64;
                }
                None => {
                    tracing::warn!(
                        "attributes of {} routes fill a whole message; not announced",
                        routes.len()
                    );
                    withdraw.extend(routes);
                }
            }
        }
        withdraw.retain(|r| state.sent.remove(&(r.prefix, r.path_id)).is_some());
        channel.stats.export_withdraws.accepted += withdraw.len() as u64;
        channel.exported = state.sent.len();
        // Withdrawals first: they make room, and no prefix stands in both.
        let mut out = encode_withdrawals(family, &withdraw, &negotiated.ctx);
        out.extend(messages);
        out
    }
}

struct Exporter<'a> {
    id: ProtoId,
    bgp: &'a Bgp,
    negotiated: &'a Negotiated,
    interfaces: &'a Interfaces,
}

impl Exporter<'_> {
    /// Compares what the neighbour should have with what it has.
    fn changes(
        &self,
        prefixes: &[IpNet],
        channel: &mut Channel,
        table: &Table,
        interner: &mut Interner,
        path_ids: &mut HashMap<(ProtoId, u32), u32>,
    ) -> Changes {
        let mut out = Changes::default();
        let Some(state) = self.bgp.channel(channel.config.family) else { return out };
        let several = self.negotiated.ctx.add_path_tx.get(channel.config.family.index()) == Some(&true);
        for prefix in prefixes {
            let routes = table.get(prefix);
            let count = if several { routes.len() } else { routes.len().min(1) };
            let mut wanted: Vec<u32> = Vec::with_capacity(count);
            for route in routes.iter().take(count) {
                let path_id = if several { path_id(path_ids, route) } else { 0 };
                channel.stats.export_updates.received += 1;
                let Some(attrs) = self.attributes(*prefix, route, channel, interner) else { continue };
                wanted.push(path_id);
                if state.sent.get(&(*prefix, path_id)).is_some_and(|sent| Arc::ptr_eq(sent, &attrs)) {
                    continue;
                }
                let group = out.announce.entry(Arc::as_ptr(&attrs)).or_insert_with(|| (attrs, Vec::new()));
                group.1.push(Nlri { prefix: *prefix, path_id });
            }
            if several {
                let mut gone: Vec<u32> = state
                    .sent
                    .keys()
                    .filter(|(p, id)| p == prefix && !wanted.contains(id))
                    .map(|(_, id)| *id)
                    .collect();
                gone.sort_unstable();
                out.withdraw.extend(gone.into_iter().map(|path_id| Nlri { prefix: *prefix, path_id }));
            } else if wanted.is_empty() {
                out.withdraw.push(Nlri { prefix: *prefix, path_id: 0 });
            }
        }
        out
    }

    /// The attributes a route leaves with; `None` when it does not leave.
    fn attributes(
        &self,
        prefix: IpNet,
        route: &Route,
        channel: &mut Channel,
        interner: &mut Interner,
    ) -> Option<Arc<Attrs>> {
        let internal = !self.negotiated.ctx.external;
        if route.origin.proto == self.id || !self.may_pass(route, internal) {
            channel.stats.export_updates.rejected += 1;
            return None;
        }
        let (before, med_before) = (route.attrs.bgp.next_hop, route.attrs.bgp.med);
        let filtered = crate::engine::apply_policy(
            &channel.config.export,
            prefix,
            route.clone(),
            interner,
            &self.bgp.origin.name,
        );
        let Some(route) = filtered else {
            channel.stats.export_updates.filtered += 1;
            return None;
        };
        let mut bgp = route.attrs.bgp.clone();
        let next_hop = self.next_hop(&route, before, channel.config.family, &channel.config)?;
        bgp.next_hop = Some(next_hop);
        bgp.origin.get_or_insert(Origin::Igp);
        let path = bgp.as_path.take().unwrap_or_default();
        if internal {
            bgp.as_path = Some(path);
            bgp.local_pref.get_or_insert(self.bgp.session.config().bgp.default_local_pref);
            if let Some(source) = route.origin.bgp.as_ref().filter(|b| b.internal) {
                // Reflected (RFC 4456 section 8).
                bgp.originator_id.get_or_insert(source.router_id);
                bgp.cluster_list.insert(0, self.bgp.cluster_id());
            }
        } else {
            self.external(&mut bgp, &path);
            // MED is for the neighbouring AS alone: one that came from another AS does not go on.
            if route.origin.bgp.is_some() && bgp.med == med_before {
                bgp.med = None;
            }
        }
        Some(interner.intern(Attrs { bgp, ..Attrs::default() }))
    }

    /// What changes when a route leaves the AS (RFC 4271 section 5.1).
    fn external(&self, bgp: &mut bird_wire::PathAttributes, path: &AsPath) {
        bgp.as_path = Some(path.without_confederation().prepended(self.bgp.session.config().bgp.local_as));
        bgp.local_pref = None;
        bgp.originator_id = None;
        bgp.cluster_list.clear();
    }

    /// Split horizon of internal sessions, and well-known communities.
    fn may_pass(&self, route: &Route, internal: bool) -> bool {
        let config = &self.bgp.session.config().bgp;
        if let Some(source) = &route.origin.bgp {
            if internal && source.internal && !config.rr_client && !source.rr_client {
                return false;
            }
            // A client does not get back what it sent itself.
            if internal && route.attrs.bgp.originator_id == Some(self.negotiated.peer_open.id) {
                return false;
            }
        }
        if config.interpret_communities {
            let has = |c: u32| route.attrs.bgp.communities.contains(&c);
            if has(NO_ADVERTISE) || (!internal && (has(NO_EXPORT) || has(NO_EXPORT_SUBCONFED))) {
                return false;
            }
        }
        true
    }

    /// The next hop to announce (RFC 4271 section 5.1.3); the options of the channel first.
    fn next_hop(
        &self,
        route: &Route,
        before: Option<NextHop>,
        family: Family,
        config: &ChannelConfig,
    ) -> Option<NextHop> {
        let ipv6 = family == Family::Ipv6;
        let fits = |nh: &NextHop| nh.global.is_ipv6() == ipv6;
        if let Some(address) = config.next_hop_address {
            return Some(NextHop::from(address));
        }
        let from_internal = route.origin.bgp.as_ref().map(|b| b.internal);
        let in_scope = |scope: NextHopScope| match scope {
            NextHopScope::Never => false,
            NextHopScope::Always => true,
            NextHopScope::Ibgp => from_internal == Some(true),
            NextHopScope::Ebgp => from_internal == Some(false),
        };
        if in_scope(config.next_hop_self) {
            return self.own_address(ipv6);
        }
        let current = route.attrs.bgp.next_hop.filter(fits);
        if let Some(next_hop) = current {
            let set_by_filter = route.attrs.bgp.next_hop != before;
            let internal = !self.negotiated.ctx.external;
            if set_by_filter || in_scope(config.next_hop_keep) || internal || self.same_link(route) {
                return Some(next_hop);
            }
        } else if let [hop] = route.dest.hops() {
            // A gateway that the neighbour can use itself saves a detour through us.
            let gateway = hop.gateway.filter(|g| g.is_ipv6() == ipv6 && !is_link_local(*g));
            let shared = !self.negotiated.ctx.external || self.same_link(route);
            if let Some(gateway) = gateway.filter(|_| shared) {
                return Some(NextHop::from(gateway));
            }
        }
        self.own_address(ipv6)
    }

    /// Whether a route's next hop is on the link of a directly connected neighbour.
    fn same_link(&self, route: &Route) -> bool {
        let config = &self.bgp.session.config().bgp;
        if config.hops().is_some() {
            return false;
        }
        let link = self.interfaces.neighbor(config.neighbor).map(|i| i.index);
        let [hop] = route.dest.hops() else { return false };
        link == Some(hop.iface.index)
    }

    fn own_address(&self, ipv6: bool) -> Option<NextHop> {
        let local = self.negotiated.local_address?;
        if local.is_ipv6() == ipv6 && !is_link_local(local) {
            return Some(NextHop::from(local));
        }
        let found = self.interfaces.sibling(local, ipv6);
        if found.is_none() && local.is_ipv6() == ipv6 {
            return Some(NextHop::from(local));
        }
        if found.is_none() {
            tracing::warn!(protocol = %self.bgp.origin.name, "no address of the family to announce as next hop");
        }
        found.map(NextHop::from)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn path_id(ids: &mut HashMap<(ProtoId, u32), u32>, route: &Route) -> u32 {
    let next = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    *ids.entry((route.origin.proto, route.path_id)).or_insert(next)
}

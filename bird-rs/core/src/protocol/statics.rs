//! `protocol static`: configured routes, as far as their next hops can be reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{StaticNextHop, StaticRoute, StaticTarget};
use crate::engine::{Engine, Kind, State};
use crate::filter::{Draft, apply_statements};
use crate::rib::{Dest, Hop, ProtoId, Route, RouteOrigin, RouteSource};

impl Engine {
    /// Brings the routes of a static protocol in line with its configuration and the interfaces.
    pub(crate) fn refresh_static(&mut self, id: ProtoId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Kind::Static(config) = &instance.kind else { return };
        if instance.state != State::Up {
            return;
        }
        let name = instance.config.name.clone();
        let table = instance.channels.first().map(|c| c.table);
        let preference = instance.preference(0);
        // A prefix configured twice: the last line counts, as the latest word on it.
        let configured: BTreeMap<IpNet, StaticRoute> =
            config.routes.iter().map(|r| (r.prefix, r.clone())).collect();
        let attrs = self.plain_attrs();
        let mut present = BTreeMap::new();
        for (prefix, route) in &configured {
            let Some((dest, via, igp_metric)) = self.static_dest(&route.target, table) else { continue };
            let device = dest.first_hop().is_some_and(|h| h.gateway.is_none());
            let source = if device { RouteSource::StaticDevice } else { RouteSource::Static };
            let origin = RouteOrigin { proto: id, name: name.clone(), source, from: None, bgp: None };
            let mut made = Route {
                origin: Arc::new(origin),
                path_id: 0,
                attrs: attrs.clone(),
                dest,
                via,
                igp_metric,
                preference,
                stale: false,
                since: self.now,
            };
            if !route.attributes.is_empty() {
                let mut draft = Draft::new(*prefix, made);
                if let Err(message) = apply_statements(&route.attributes, &mut draft) {
                    tracing::warn!(protocol = %name, %prefix, "attributes of route: {message}");
                }
                if let Some(changed) = draft.take_changed() {
                    draft.route.attrs = self.intern(changed);
                }
                made = draft.route;
            }
            present.insert(*prefix, ());
            self.import(id, 0, *prefix, 0, Some(made));
        }
        self.purge(id, 0, |prefix, _| present.contains_key(prefix));
    }

    fn static_dest(
        &mut self,
        target: &StaticTarget,
        table: Option<usize>,
    ) -> Option<(Dest, Option<IpAddr>, u32)> {
        Some(match target {
            StaticTarget::Blackhole => (Dest::Blackhole, None, 0),
            StaticTarget::Unreachable => (Dest::Unreachable, None, 0),
            StaticTarget::Prohibit => (Dest::Prohibit, None, 0),
            StaticTarget::Recursive(next_hop) => {
                let resolved = self.tables.get_mut(table?)?.watch(*next_hop);
                (resolved.dest, Some(*next_hop), resolved.igp_metric)
            }
            StaticTarget::Via(hops) => {
                let hops: Vec<Hop> = hops.iter().filter_map(|h| self.static_hop(h)).collect();
                if hops.is_empty() {
                    return None;
                }
                (Dest::Unicast(Arc::from(hops)), None, 0)
            }
        })
    }

    /// A configured next hop, when its interface is up and its gateway on the link.
    fn static_hop(&self, hop: &StaticNextHop) -> Option<Hop> {
        let interface = match (&hop.interface, hop.gateway) {
            (Some(name), gateway) => {
                let interface = self.interfaces.by_name(name).filter(|i| i.is_up())?;
                let near = gateway.is_none_or(|g| {
                    hop.onlink
                        || is_link_local(g)
                        || self.interfaces.neighbor(g).is_some_and(|i| i.index == interface.index)
                });
                near.then_some(interface)?
            }
            (None, Some(gateway)) => self.interfaces.neighbor(gateway)?,
            (None, None) => return None,
        };
        Some(Hop { gateway: hop.gateway, iface: interface.handle(), onlink: hop.onlink, weight: hop.weight })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

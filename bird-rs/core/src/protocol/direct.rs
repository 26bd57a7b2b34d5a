//! `protocol direct`: a route for the subnet of every address.

use std::collections::BTreeSet;
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;

use crate::engine::{Engine, Kind, State};
use crate::interface::chosen;
use crate::rib::{Dest, Hop, ProtoId, Route, RouteOrigin, RouteSource};

impl Engine {
    /// Brings the routes of a direct protocol in line with the interfaces.
    pub(crate) fn refresh_direct(&mut self, id: ProtoId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Kind::Direct(config) = &instance.kind else { return };
        if instance.state != State::Up {
            return;
        }
        let origin = Arc::new(RouteOrigin {
            proto: id,
            name: instance.config.name.clone(),
            source: RouteSource::Device,
            from: None,
            bgp: None,
        });
        let channels: Vec<(usize, Family, u32)> = instance
            .channels
            .iter()
            .enumerate()
            .map(|(i, c)| (i, c.config.family, instance.preference(i)))
            .collect();
        let mut routes: Vec<(IpNet, Dest)> = Vec::new();
        for interface in self.interfaces.all().iter().filter(|i| i.is_up() && !i.loopback) {
            let handle = interface.handle();
            for address in &interface.addresses {
                if !chosen(&config.interfaces, interface, address.net) || is_link_local(address.net) {
                    continue;
                }
                let prefix = address.peer.map_or(address.net.trunc(), IpNet::from);
                let hop = Hop { gateway: None, iface: handle.clone(), onlink: false, weight: 1 };
                routes.push((prefix, Dest::Unicast(Arc::from([hop]))));
            }
        }
        let attrs = self.plain_attrs();
        for (channel, family, preference) in channels {
            let mut seen = BTreeSet::new();
            for (prefix, dest) in routes.iter().filter(|(p, _)| Family::of(p) == family) {
                // Two interfaces on one subnet: the first by index is the one.
                if !seen.insert(*prefix) {
                    continue;
                }
                let route = Route {
                    origin: origin.clone(),
                    path_id: 0,
                    attrs: attrs.clone(),
                    dest: dest.clone(),
                    via: None,
                    igp_metric: 0,
                    preference,
                    stale: false,
                    since: self.now,
                };
                self.import(id, channel, *prefix, 0, Some(route));
            }
            self.purge(id, channel, |prefix, _| seen.contains(prefix));
        }
    }
}

fn is_link_local(net: IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

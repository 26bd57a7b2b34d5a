//! A routing table: for each prefix its routes, the best first.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::best;
use super::route::{Dest, Hop, ProtoId, Route, RouteSource};
use crate::time::Time;

/// What a next hop leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where packets go.
    pub dest: Dest,
    /// Interior cost.
    pub igp_metric: u32,
}

/// A routing table. Prefixes whose routes changed are remembered until [`Table::take_dirty`].
pub struct Table {
    /// Name.
    pub name: Arc<str>,
    /// Family of all its prefixes.
    pub family: Family,
    nets: JointPrefixMap<IpNet, Vec<Route>>,
    dirty: HashSet<IpNet>,
    routes: usize,
    /// Next hops that recursive routes use, with what they lead to now.
    next_hops: BTreeMap<IpAddr, Resolved>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(name: Arc<str>, family: Family) -> Self {
        let nets = JointPrefixMap::new();
        Self { name, family, nets, dirty: HashSet::new(), routes: 0, next_hops: BTreeMap::new() }
    }

    /// Routes of a prefix, the best first.
    #[must_use]
    pub fn get(&self, prefix: &IpNet) -> &[Route] {
        self.nets.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// The longest prefix that holds an address, with its routes.
    #[must_use]
    pub fn lookup(&self, prefix: &IpNet) -> Option<(IpNet, &[Route])> {
        self.nets.get_lpm(prefix).map(|(net, routes)| (net, routes.as_slice()))
    }

    /// All prefixes in order, with their routes.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &[Route])> + '_ {
        self.nets.iter().map(|(net, routes)| (net, routes.as_slice()))
    }

    /// Number of prefixes.
    #[must_use]
    pub fn prefixes(&self) -> usize {
        self.nets.len()
    }

    /// Number of routes.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.routes
    }

    /// Puts in a protocol's route to a prefix, or removes it. Returns (there was one, it changed something).
    pub fn update(
        &mut self,
        prefix: IpNet,
        proto: ProtoId,
        path_id: u32,
        new: Option<Route>,
    ) -> (bool, bool) {
        let is_it = |r: &Route| r.origin.proto == proto && r.path_id == path_id;
        let Some(routes) = self.nets.get_mut(&prefix) else {
            let Some(new) = new else { return (false, false) };
            self.nets.insert(prefix, vec![new]);
            self.routes += 1;
            self.dirty.insert(prefix);
            return (false, true);
        };
        let old = routes.iter().position(is_it);
        match (old.and_then(|i| routes.get_mut(i)), new) {
            (None, None) => return (false, false),
            (Some(old), Some(new)) if old.same_as(&new) => {
                old.stale = new.stale;
                return (true, false);
            }
            (Some(old), Some(new)) => *old = new,
            (None, Some(new)) => {
                routes.push(new);
                self.routes += 1;
            }
            (Some(_), None) => {
                if let Some(i) = old {
                    routes.swap_remove(i);
                }
                self.routes -= 1;
            }
        }
        if routes.is_empty() {
            self.nets.remove(&prefix);
        } else {
            best::order(routes);
        }
        self.dirty.insert(prefix);
        (old.is_some(), true)
    }

    /// Applies a change to all routes of a protocol: `None` from `change` removes a route. Returns how many went.
    pub fn retain(&mut self, proto: ProtoId, mut keep: impl FnMut(&IpNet, &mut Route) -> bool) -> usize {
        let mut emptied = Vec::new();
        let mut removed = 0;
        for (prefix, routes) in self.nets.iter_mut() {
            let before = routes.len();
            if !routes.iter().any(|r| r.origin.proto == proto) {
                continue;
            }
            routes.retain_mut(|r| r.origin.proto != proto || keep(&prefix, r));
            if routes.len() != before {
                removed += before - routes.len();
                best::order(routes);
                self.dirty.insert(prefix);
                if routes.is_empty() {
                    emptied.push(prefix);
                }
            }
        }
        for prefix in emptied {
            self.nets.remove(&prefix);
        }
        self.routes -= removed;
        removed
    }

    /// The prefixes whose routes changed since the last call.
    pub fn take_dirty(&mut self) -> Vec<IpNet> {
        let mut out: Vec<IpNet> = self.dirty.drain().collect();
        out.sort_unstable();
        out
    }

    /// Whether some prefix changed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    // --- next hops ---

    /// What a next hop leads to; from now on it is watched.
    pub fn watch(&mut self, next_hop: IpAddr) -> Resolved {
        if let Some(resolved) = self.next_hops.get(&next_hop) {
            return resolved.clone();
        }
        let resolved = self.resolve(next_hop);
        self.next_hops.insert(next_hop, resolved.clone());
        resolved
    }

    /// Looks all watched next hops within changed prefixes up again. Returns those that lead elsewhere now.
    pub fn refresh(&mut self, changed: &[IpNet]) -> Vec<(IpAddr, Resolved)> {
        let mut stale: Vec<IpAddr> = Vec::new();
        for net in changed {
            stale.extend(self.next_hops.range(net.network()..=net.broadcast()).map(|(a, _)| *a));
        }
        stale.sort_unstable();
        stale.dedup();
        let mut out = Vec::new();
        for address in stale {
            let now = self.resolve(address);
            if self.next_hops.get(&address).is_some_and(|before| *before != now) {
                self.next_hops.insert(address, now.clone());
                out.push((address, now));
            }
        }
        out
    }

    /// Puts new destinations into the recursive routes of these next hops.
    pub fn redirect(&mut self, moved: &[(IpAddr, Resolved)], now: Time) {
        for (prefix, routes) in self.nets.iter_mut() {
            let mut any = false;
            for route in routes.iter_mut() {
                let Some(via) = route.via else { continue };
                if let Some((_, resolved)) = moved.iter().find(|(address, _)| *address == via) {
                    route.dest = resolved.dest.clone();
                    route.igp_metric = resolved.igp_metric;
                    route.since = now;
                    any = true;
                }
            }
            if any {
                best::order(routes);
                self.dirty.insert(prefix);
            }
        }
    }

    fn resolve(&self, next_hop: IpAddr) -> Resolved {
        let unreachable = Resolved { dest: Dest::Unreachable, igp_metric: super::IGP_METRIC_UNKNOWN };
        let Some(route) = self.lookup(&IpNet::from(next_hop)).and_then(|(_, routes)| routes.first()) else {
            return unreachable;
        };
        // As in BIRD, a next hop behind another recursive route does not count: it could lead in a circle.
        if route.via.is_some() {
            return unreachable;
        }
        let igp_metric =
            if route.origin.source == RouteSource::Device { 0 } else { super::IGP_METRIC_UNKNOWN };
        let dest = match &route.dest {
            Dest::Unicast(hops) => Dest::Unicast(
                hops.iter().map(|h| Hop { gateway: h.gateway.or(Some(next_hop)), ..h.clone() }).collect(),
            ),
            other => other.clone(),
        };
        Resolved { dest, igp_metric }
    }
}

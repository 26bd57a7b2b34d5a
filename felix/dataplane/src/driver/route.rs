//! Routes to workloads: on workload interfaces, in table `main`.
//!
//! In: destination → interface, and which interfaces are up. Out: route changes. Always holds: a route of ours is one on
//! a workload interface, by the interface's name; others' interfaces are never touched; a route that a person or the CNI
//! plugin put on an interface stays for a grace period, until the endpoint is known; one route that is refused stops no
//! other; an address that moves to another workload leads to nobody until the connections of the one before are cut (or
//! [`HOLD`] is over). Left out: routes to other nodes, cutting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::config::Config;
use crate::interfaces::Interfaces;
use crate::kernel::netlink::Netlink;
use crate::kernel::route::{self, DeviceRoute, NETLINK_ROUTE, PROTOCOL_KERNEL};
use crate::rule::Family;
use crate::tally::TALLY;

/// How long a route that nobody asked for may stay on an interface that has just come up.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long a route to an address's new workload waits at most for the old one's connections to be cut: without a route
/// nothing passes, and connection tracking that cannot be cleaned must not keep a workload down for good.
pub const HOLD: Duration = Duration::from_secs(5);

/// What is to stand.
#[derive(Debug, Default)]
pub struct DesiredRoutes {
    /// Destination → interface.
    routes: BTreeMap<IpNet, Arc<str>>,
    /// Destinations that changed, or could not be brought about.
    dirty: BTreeMap<IpNet, Change>,
}

/// What happened to a destination since its route was written.
#[derive(Debug, Default)]
struct Change {
    /// The interface that the kernel's route leads over.
    leaves: Option<Arc<str>>,
    /// It was sent to where it now leads: not only touched.
    sent: bool,
    /// That its address is gone from where it led was told.
    told: bool,
    /// Since when the new route waits for connections to be cut.
    since: Option<Instant>,
}

impl DesiredRoutes {
    /// Sends a destination to an interface, or (`None`) nowhere.
    pub fn set(&mut self, dst: IpNet, interface: Option<&Arc<str>>) {
        let old = match interface {
            Some(i) if self.routes.get(&dst) == Some(i) => return,
            Some(i) => self.routes.insert(dst, i.clone()),
            None => self.routes.remove(&dst),
        };
        if interface.is_some() || old.is_some() {
            let change = self.dirty.entry(dst).or_default();
            change.sent = true;
            if let Some(old) = old {
                (change.told, change.since) = (false, None);
                change.leaves.get_or_insert(old);
            }
        }
    }

    /// What is to stand: destination and interface.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &str)> {
        self.routes.iter().map(|(dst, i)| (*dst, &**i))
    }

    /// How many are to stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True where none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The interface came up or changed: its routes are written again.
    pub fn touch(&mut self, interface: &str) {
        for (dst, _) in self.routes.iter().filter(|(_, i)| ***i == *interface) {
            self.dirty.entry(*dst).or_default();
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct RouteDriver {
    socket: Netlink,
    config: Arc<Config>,
    /// First sight of each interface's index.
    seen: HashMap<u32, Instant>,
    /// Of the interfaces that were looked at.
    seen_version: u64,
    resync: bool,
}

/// What was done, and what is left to do.
#[derive(Debug, Default)]
pub struct RouteOutcome {
    pub written: usize,
    /// Addresses that no longer lead to the workload that they led to.
    pub gone: Vec<IpAddr>,
    /// Routes that wait for their grace to end.
    pub recheck: Option<Duration>,
    /// Destinations whose routes wait until the connections of their addresses are cut.
    pub held: BTreeSet<IpNet>,
    /// Interfaces over which a desired route does not stand yet.
    pub missing: BTreeSet<Arc<str>>,
    /// The first route that was refused.
    pub refused: Option<io::Error>,
    /// The kernel's routes could not be read.
    pub unread: Option<io::Error>,
    /// Destinations to look at again, though the desire stays the same.
    left: BTreeSet<IpNet>,
}

impl RouteDriver {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn new(config: Arc<Config>) -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_ROUTE)?.with_timeout(config.netlink_timeout)?;
        Ok(Self { socket, config, seen: HashMap::new(), seen_version: 0, resync: true })
    }

    /// Address of the socket that writes.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The next [`Self::apply`] compares all routes.
    pub fn resync(&mut self) {
        self.resync = true;
    }

    fn route(&self, dst: IpNet, index: u32) -> DeviceRoute {
        let family = Family::of_net(&dst);
        DeviceRoute {
            dst,
            index,
            protocol: self.config.device_route_protocol,
            priority: match family {
                Family::V4 => self.config.ipv4_route_priority,
                Family::V6 => self.config.ipv6_route_priority,
            },
            source: self.config.route_source(family),
        }
    }

    /// Makes the kernel hold the desired routes over interfaces that are up. What fails is in the outcome; it is tried
    /// again by the next call. `uncut`: whether connections of an address are still to be cut.
    pub fn apply(
        &mut self,
        desired: &mut DesiredRoutes,
        interfaces: &Interfaces,
        now: Instant,
        uncut: &dyn Fn(&IpAddr) -> bool,
    ) -> RouteOutcome {
        let mut out = RouteOutcome::default();
        if self.config.route_sync_disabled {
            desired.dirty.clear();
            return out;
        }
        let new = self.see(interfaces, now);
        let (all, begin) = (self.resync, Instant::now());
        self.leave(desired, interfaces, &mut out);
        hold(desired, now, uncut, &mut out);
        if all {
            self.full(desired, interfaces, now, &mut out);
            TALLY.route_resyncs.observe(begin.elapsed().as_secs_f64());
        } else {
            self.changed(desired, interfaces, &mut out);
            if !desired.dirty.is_empty() {
                TALLY.route_changes.observe(begin.elapsed().as_secs_f64());
            }
        }
        if new {
            // What stands on a new interface and has no endpoint by then, goes.
            out.recheck = Some(out.recheck.unwrap_or(GRACE));
        }
        // A failure is tried again with everything read back.
        self.resync = out.refused.is_some() || out.unread.is_some();
        let unread = out.unread.is_some();
        desired.dirty.retain(|dst, _| unread || out.left.contains(dst) || out.held.contains(dst));
        let waiting = out.left.iter().chain(&out.held).filter_map(|dst| desired.routes.get(dst));
        out.missing.extend(waiting.cloned());
        out
    }

    /// Tells of addresses that leave their workload. The route of one that moves to another goes first of all: until the
    /// old one's connections are cut, nothing leads to the new one.
    fn leave(&mut self, desired: &mut DesiredRoutes, interfaces: &Interfaces, out: &mut RouteOutcome) {
        for (dst, change) in desired.dirty.iter_mut().filter(|(_, c)| !c.told) {
            change.told = true;
            let new = desired.routes.get(dst);
            let (Some(addr), Some(old)) = (host(dst), change.leaves.as_ref().filter(|o| Some(*o) != new))
            else {
                continue;
            };
            out.gone.push(addr);
            if new.is_none() {
                continue;
            }
            out.held.insert(*dst);
            if let Some(i) = interfaces.by_name(old) {
                let unwanted = self.route(*dst, i.index);
                let result = route::delete_route(&mut self.socket, &unwanted);
                out.done(result, *dst);
            }
        }
    }

    /// Notes when interfaces were first there. True where one is new.
    fn see(&mut self, interfaces: &Interfaces, now: Instant) -> bool {
        if !self.resync && self.seen_version == interfaces.version() {
            return false;
        }
        self.seen_version = interfaces.version();
        self.seen.retain(|index, _| interfaces.by_index(*index).is_some());
        let before = self.seen.len();
        for i in interfaces.all().filter(|i| self.config.is_workload_interface(&i.name)) {
            self.seen.entry(i.index).or_insert(now);
        }
        self.seen.len() > before
    }

    /// Routes that are desired and do not stand in the kernel, or stand there and are not desired. Changes nothing.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn differences(
        &mut self,
        desired: &DesiredRoutes,
        interfaces: &Interfaces,
    ) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            let ours = |r: &DeviceRoute| {
                let name = interfaces.by_index(r.index).map(|i| &i.name);
                r.protocol != PROTOCOL_KERNEL && name.is_some_and(|n| self.config.is_workload_interface(n))
            };
            let desired: Vec<DeviceRoute> = desired
                .routes
                .iter()
                .filter(|(dst, _)| Family::of_net(dst) == family)
                .filter_map(|(dst, i)| Some(self.route(*dst, interfaces.up(i)?.index)))
                .collect();
            let have: Vec<DeviceRoute> =
                route::device_routes(&mut self.socket, family)?.into_iter().filter(ours).collect();
            let name = |r: &DeviceRoute| interfaces.by_index(r.index).map_or("?", |i| &*i.name);
            let missing = desired.iter().filter(|r| !have.contains(r));
            out.extend(missing.map(|r| format!("route {} over {} is missing", r.dst, name(r))));
            let more = have.iter().filter(|r| !desired.contains(r));
            out.extend(more.map(|r| format!("route {} over {} is not desired", r.dst, name(r))));
        }
        Ok(out)
    }

    fn changed(&mut self, desired: &DesiredRoutes, interfaces: &Interfaces, out: &mut RouteOutcome) {
        for (dst, change) in &desired.dirty {
            if out.held.contains(dst) {
                continue;
            }
            let wanted = desired.routes.get(dst).and_then(|i| interfaces.up(i));
            let old = change.leaves.as_ref().and_then(|o| interfaces.by_name(o));
            let result = match (wanted, old) {
                (Some(i), _) => {
                    let wanted = self.route(*dst, i.index);
                    self.replace(&wanted, interfaces)
                }
                (None, Some(i)) => {
                    let unwanted = self.route(*dst, i.index);
                    route::delete_route(&mut self.socket, &unwanted)
                }
                (None, None) => continue,
            };
            out.done(result, *dst);
        }
    }

    /// Writes a route, then takes away one with a better metric that would hide it: the CNI plugin's own. BGP tells the
    /// two apart by the metric: only the plain block leaves the node.
    fn replace(&mut self, wanted: &DeviceRoute, interfaces: &Interfaces) -> io::Result<()> {
        route::replace_route(&mut self.socket, wanted)?;
        if let Some(best) = route::best_route(&mut self.socket, wanted.dst.addr())?
            && best.dst == wanted.dst
            && best.priority < wanted.priority
            && best.protocol != PROTOCOL_KERNEL
            && interfaces.by_index(best.index).is_some_and(|i| self.config.is_workload_interface(&i.name))
        {
            route::delete_route(&mut self.socket, &best)?;
        }
        Ok(())
    }

    fn full(
        &mut self,
        desired: &mut DesiredRoutes,
        interfaces: &Interfaces,
        now: Instant,
        out: &mut RouteOutcome,
    ) {
        for family in Family::BOTH {
            let have = match route::device_routes(&mut self.socket, family) {
                Ok(have) => have,
                Err(e) => {
                    out.unread.get_or_insert(e);
                    continue;
                }
            };
            let mut missing: BTreeMap<IpNet, DeviceRoute> = desired
                .routes
                .iter()
                .filter(|(dst, _)| Family::of_net(dst) == family)
                .filter_map(|(dst, i)| interfaces.up(i).map(|i| (*dst, self.route(*dst, i.index))))
                .collect();
            let mut extra = Vec::new();
            for r in have {
                let ours =
                    interfaces.by_index(r.index).is_some_and(|i| self.config.is_workload_interface(&i.name));
                if !ours || r.protocol == PROTOCOL_KERNEL {
                    continue;
                }
                if missing.get(&r.dst) == Some(&r) {
                    missing.remove(&r.dst);
                    out.held.remove(&r.dst);
                } else {
                    extra.push(r);
                }
            }
            extra.retain(|r| !self.moved_unseen(r, &missing, desired, now, out));
            missing.retain(|dst, _| !out.held.contains(dst));
            for (dst, r) in &missing {
                let result = route::replace_route(&mut self.socket, r);
                out.done(result, *dst);
            }
            for r in extra {
                self.extra(&r, desired, &missing, now, out);
            }
        }
    }

    /// A route of ours over one interface whose address is another one's by now, which nobody told: Felix was not there.
    /// It goes, as if it had been told. True where it was one.
    fn moved_unseen(
        &mut self,
        r: &DeviceRoute,
        missing: &BTreeMap<IpNet, DeviceRoute>,
        desired: &mut DesiredRoutes,
        now: Instant,
        out: &mut RouteOutcome,
    ) -> bool {
        let new = missing.get(&r.dst).filter(|n| n.index != r.index && n.priority == r.priority);
        let (Some(_), Some(addr)) = (new, host(&r.dst)) else { return false };
        let change = desired.dirty.entry(r.dst).or_default();
        if change.since.is_some_and(|since| now.saturating_duration_since(since) >= HOLD) {
            // It could not be removed for so long: the new one takes its place.
            return false;
        }
        (change.sent, change.told) = (true, true);
        change.since.get_or_insert(now);
        if out.held.insert(r.dst) {
            out.gone.push(addr);
        }
        let result = route::delete_route(&mut self.socket, r);
        out.done(result, r.dst);
        true
    }

    fn extra(
        &mut self,
        r: &DeviceRoute,
        desired: &DesiredRoutes,
        replaced: &BTreeMap<IpNet, DeviceRoute>,
        now: Instant,
        out: &mut RouteOutcome,
    ) {
        // Replaced in place just now.
        if replaced.get(&r.dst).is_some_and(|n| n.priority == r.priority) {
            return;
        }
        // It hides the route that stands beside it by now.
        let hides = desired.routes.contains_key(&r.dst) && r.priority < self.route(r.dst, r.index).priority;
        let ours = r.protocol == self.config.device_route_protocol;
        if !ours && !self.config.remove_external_routes {
            return;
        }
        let age = self.seen.get(&r.index).map_or(Duration::ZERO, |s| now.saturating_duration_since(*s));
        let left_behind = desired.dirty.get(&r.dst).is_some_and(|c| c.leaves.is_some());
        if age < GRACE && !left_behind && !hides {
            let wait = GRACE - age;
            out.recheck = Some(out.recheck.map_or(wait, |w| w.min(wait)));
            return;
        }
        if !desired.routes.contains_key(&r.dst) {
            out.gone.extend(host(&r.dst));
        }
        let result = route::delete_route(&mut self.socket, r);
        out.done(result, r.dst);
    }
}

/// Which routes wait, because the connections of their addresses' last workload are not cut yet.
fn hold(desired: &mut DesiredRoutes, now: Instant, uncut: &dyn Fn(&IpAddr) -> bool, out: &mut RouteOutcome) {
    // A route that is only written once more stands already, or its interface was not there.
    for (dst, change) in desired.dirty.iter_mut().filter(|(_, c)| c.sent) {
        let Some(addr) = host(dst).filter(|_| desired.routes.contains_key(dst)) else { continue };
        if !out.held.contains(dst) && !uncut(&addr) {
            continue;
        }
        if now.saturating_duration_since(*change.since.get_or_insert(now)) < HOLD {
            out.held.insert(*dst);
        } else {
            tracing::warn!(%addr, "its route is written, though connections of its last workload are not cut yet");
            out.held.remove(dst);
        }
    }
}

impl RouteOutcome {
    /// Counts a write, and keeps the first that was refused.
    fn done(&mut self, result: io::Result<()>, dst: IpNet) {
        self.written += 1;
        let Err(e) = result else { return };
        // The interface went down or away in between: its notification is on its way.
        if matches!(e.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV)) {
            return;
        }
        self.left.insert(dst);
        self.refused.get_or_insert_with(|| io::Error::new(e.kind(), format!("route {dst}: {e}")));
    }
}

/// The address of a route to a single one.
fn host(dst: &IpNet) -> Option<IpAddr> {
    (dst.prefix_len() == dst.max_prefix_len()).then(|| dst.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_remembers_the_interface_that_the_kernel_has() {
        let (a, b): (Arc<str>, Arc<str>) = ("calia".into(), "calib".into());
        let dst: IpNet = "10.0.0.1/32".parse().unwrap();
        let mut d = DesiredRoutes::default();
        d.set(dst, Some(&a));
        d.dirty.clear();
        // Touched first, then moved twice, then gone: what stands in the kernel is still the first.
        d.touch("calia");
        d.set(dst, Some(&b));
        d.set(dst, None);
        assert_eq!(d.dirty.get(&dst).and_then(|c| c.leaves.clone()), Some(a));
        assert_eq!(d.iter().count(), 0);
    }
}

//! `protocol kernel`: the best routes into a kernel table, and routes of others out of it.
//!
//! Always holds: only routes with our protocol number are changed or removed. What the kernel has is read back in
//! every scan, and only the difference to what it should have is written. Routes of `protocol direct` are never
//! written: the kernel has its own for every connected subnet (BIRD would add a second one).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;

use crate::KERNEL_PROTOCOL;
use crate::config::{ChannelConfig, KernelConfig};
use crate::engine::{Engine, Instance, Kind, State, apply_policy};
use crate::event::{Action, KernelChange, KernelDest, KernelHop, KernelRoute, Timer};
use crate::interface::Interfaces;
use crate::rib::{
    Attrs, Dest, Hop, IGP_METRIC_UNKNOWN, Interner, ProtoId, Route, RouteOrigin, RouteSource, Table,
    mergeable,
};

/// Protocol number of routes the kernel makes itself.
const RTPROT_KERNEL: u8 = 2;
/// Protocol number of ICMP redirects.
const RTPROT_REDIRECT: u8 = 1;

/// A kernel protocol.
pub(crate) struct Kernel {
    pub config: KernelConfig,
    pub ipv6: bool,
    /// The table was read at least once: before, nothing is written.
    pub scanned: bool,
    /// Our routes in the kernel, as read or written last.
    have: BTreeMap<IpNet, KernelRoute>,
    /// Routes of ours that should not be there beside those of `have`: other metrics.
    extra: Vec<KernelRoute>,
    /// Routes of others, as last read.
    alien: Vec<KernelRoute>,
    pending: BTreeSet<IpNet>,
    pub failures: u64,
}

impl Kernel {
    pub fn new(config: KernelConfig, ipv6: bool) -> Self {
        Self {
            config,
            ipv6,
            scanned: false,
            have: BTreeMap::new(),
            extra: Vec::new(),
            alien: Vec::new(),
            pending: BTreeSet::new(),
            failures: 0,
        }
    }

    pub fn mark(&mut self, prefixes: &[IpNet]) {
        self.pending.extend(prefixes.iter().copied());
    }

    /// Looks at all of our routes again.
    pub fn mark_all(&mut self) {
        self.pending.extend(self.have.keys().copied());
    }
}

impl Engine {
    pub(crate) fn scan_kernel(&mut self, id: ProtoId) {
        let Some(Instance { kind: Kind::Kernel(kernel), state: State::Up, .. }) = self.instances.get(&id)
        else {
            return;
        };
        let secs = u64::from(kernel.config.scan_secs);
        self.actions.push(Action::ScanKernel { table: kernel.config.table, ipv6: kernel.ipv6 });
        self.actions.push(Action::SetTimer(Timer::KernelScan(id), self.now.plus_secs(secs)));
    }

    pub(crate) fn mark_whole_table(&mut self, id: ProtoId) {
        let Self { instances, tables, .. } = self;
        let Some(Instance { channels, kind: Kind::Kernel(kernel), .. }) = instances.get_mut(&id) else {
            return;
        };
        if let Some(table) = channels.first().and_then(|c| tables.get(c.table)) {
            kernel.pending.extend(table.iter().map(|(prefix, _)| prefix));
        }
        kernel.mark_all();
    }

    fn kernel_protocols(&self, table: u32, ipv6: bool) -> Vec<ProtoId> {
        let is_it = |i: &&Instance| {
            matches!(&i.kind, Kind::Kernel(k) if k.config.table == table && k.ipv6 == ipv6)
                && i.state == State::Up
        };
        self.instances.values().filter(is_it).map(|i| i.id).collect()
    }

    /// A scan came back: what is there now.
    pub(crate) fn kernel_seen(&mut self, table: u32, ipv6: bool, routes: &[KernelRoute]) {
        for id in self.kernel_protocols(table, ipv6) {
            let mut alien = Vec::new();
            let mut have: BTreeMap<IpNet, KernelRoute> = BTreeMap::new();
            let mut extra = Vec::new();
            let Some(Instance { kind: Kind::Kernel(kernel), .. }) = self.instances.get_mut(&id) else {
                continue;
            };
            for route in routes {
                if route.protocol != KERNEL_PROTOCOL {
                    alien.push(route.clone());
                    continue;
                }
                // Of several with one prefix, the one we know of is the one; the others are remains.
                let known = kernel.have.get(&route.prefix).is_some_and(|h| h.metric == route.metric);
                match have.get(&route.prefix) {
                    Some(_) if !known => extra.push(route.clone()),
                    _ => extra.extend(have.insert(route.prefix, route.clone())),
                }
            }
            let first = !std::mem::replace(&mut kernel.scanned, true);
            let discovered = first && !have.is_empty();
            for (prefix, route) in &have {
                if kernel.have.get(prefix) != Some(route) {
                    kernel.pending.insert(*prefix);
                }
            }
            let lost = kernel.have.keys().filter(|p| !have.contains_key(p)).copied();
            kernel.pending.extend(lost.collect::<Vec<_>>());
            kernel.pending.extend(extra.iter().map(|r| r.prefix));
            kernel.have = have;
            kernel.extra = extra;
            let keep = kernel.config.persist || kernel.config.graceful_restart;
            if discovered && keep && self.now.since(self.started) < 5_000_000 {
                self.discover_restart();
            }
            self.learn(id, &alien, false);
        }
    }

    pub(crate) fn relearn_kernel(&mut self, id: ProtoId) {
        let Some(Instance { kind: Kind::Kernel(kernel), .. }) = self.instances.get_mut(&id) else { return };
        let alien = std::mem::take(&mut kernel.alien);
        self.learn(id, &alien, true);
    }

    /// Routes of others into our table: the one with the lowest metric for each prefix.
    fn learn(&mut self, id: ProtoId, alien: &[KernelRoute], again: bool) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let preference = instance.preference(0);
        let name = instance.config.name.clone();
        let Kind::Kernel(kernel) = &mut instance.kind else { return };
        if kernel.alien == alien && !again {
            return;
        }
        alien.clone_into(&mut kernel.alien);
        let wanted = kernel.config.learn;
        let origin =
            Arc::new(RouteOrigin { proto: id, name, source: RouteSource::Inherit, from: None, bgp: None });
        let mut best: BTreeMap<IpNet, &KernelRoute> = BTreeMap::new();
        for route in alien.iter().filter(|r| wanted && learnable(r)) {
            let entry = best.entry(route.prefix).or_insert(route);
            if route.metric < entry.metric {
                *entry = route;
            }
        }
        let mut seen = BTreeSet::new();
        for (prefix, route) in best {
            let Some(dest) = import_dest(&route.dest, &self.interfaces) else { continue };
            let attrs = Attrs {
                krt_metric: Some(route.metric),
                krt_source: Some(u32::from(route.protocol)),
                ..Attrs::default()
            };
            let made = Route {
                origin: origin.clone(),
                path_id: 0,
                attrs: self.intern(attrs),
                dest,
                via: None,
                igp_metric: IGP_METRIC_UNKNOWN,
                preference,
                stale: false,
                since: self.now,
            };
            seen.insert(prefix);
            self.import(id, 0, prefix, 0, Some(made));
        }
        self.purge(id, 0, |prefix, _| seen.contains(prefix));
    }

    pub(crate) fn kernel_failed(&mut self, table: u32, failures: &[(IpNet, String)]) {
        for (prefix, reason) in failures {
            let ipv6 = Family::of(prefix) == Family::Ipv6;
            for id in self.kernel_protocols(table, ipv6) {
                let Some(Instance { kind: Kind::Kernel(kernel), .. }) = self.instances.get_mut(&id) else {
                    continue;
                };
                kernel.failures += 1;
                // What stands there is not known now; the next scan tells and tries again.
                if kernel.have.remove(prefix).is_some() {
                    tracing::warn!(%prefix, "kernel refused the route: {reason}");
                }
                kernel.scanned = true;
            }
        }
    }

    /// Writes the difference for pending prefixes.
    pub(crate) fn flush_kernel(&mut self, id: ProtoId) {
        let recovering = self.recovery.is_active();
        let Self { instances, tables, interner, .. } = self;
        let Some(Instance { channels, kind: Kind::Kernel(kernel), state: State::Up, .. }) =
            instances.get_mut(&id)
        else {
            return;
        };
        if !kernel.scanned || kernel.pending.is_empty() {
            return;
        }
        let Some(channel) = channels.first_mut() else { return };
        let Some(table) = tables.get(channel.table) else { return };
        let mut changes = Vec::new();
        for prefix in std::mem::take(&mut kernel.pending) {
            let want = wanted(id, prefix, table, &channel.config, &kernel.config, interner);
            let have = kernel.have.get(&prefix);
            if recovering && have.is_some() {
                // Who lost track looks again when the recovery ends.
                continue;
            }
            match (have, want) {
                (None, None) => {}
                (Some(have), Some(want)) if *have == want => {}
                (Some(have), Some(want)) if have.metric == want.metric => {
                    changes.push(KernelChange::Replace(want.clone()));
                    kernel.have.insert(prefix, want);
                }
                (have, want) => {
                    // Add before delete: with another metric both can stand for a moment, and nothing is lost.
                    let old = have.cloned();
                    if let Some(want) = want {
                        changes.push(KernelChange::Add(want.clone()));
                        kernel.have.insert(prefix, want);
                        channel.stats.export_updates.accepted += 1;
                    } else {
                        kernel.have.remove(&prefix);
                        channel.stats.export_withdraws.accepted += 1;
                    }
                    changes.extend(old.map(KernelChange::Delete));
                }
            }
            let remains = |r: &KernelRoute| r.prefix == prefix;
            for extra in kernel.extra.iter().filter(|r| remains(r)) {
                if kernel.have.get(&prefix).is_none_or(|h| h.metric != extra.metric) {
                    changes.push(KernelChange::Delete(extra.clone()));
                }
            }
            kernel.extra.retain(|r| !remains(r));
        }
        channel.exported = kernel.have.len();
        let number = kernel.config.table;
        self.kernel_changes(number, changes);
    }

    /// Stops a kernel protocol; its routes leave the kernel unless they are to persist.
    pub(crate) fn stop_kernel(&mut self, id: ProtoId) {
        let persist = matches!(
            self.instances.get(&id),
            Some(Instance { kind: Kind::Kernel(k), .. }) if k.config.persist
        );
        if !persist {
            self.withdraw_kernel(id);
        }
        let Some(Instance { kind: Kind::Kernel(kernel), .. }) = self.instances.get_mut(&id) else { return };
        kernel.scanned = false;
        kernel.have.clear();
        kernel.alien.clear();
        self.actions.push(Action::ClearTimer(Timer::KernelScan(id)));
    }

    pub(crate) fn withdraw_kernel(&mut self, id: ProtoId) {
        let Some(Instance { kind: Kind::Kernel(kernel), .. }) = self.instances.get_mut(&id) else { return };
        let changes = std::mem::take(&mut kernel.have).into_values().map(KernelChange::Delete).collect();
        let table = kernel.config.table;
        self.kernel_changes(table, changes);
    }
}

fn learnable(route: &KernelRoute) -> bool {
    !matches!(route.protocol, 0 | RTPROT_KERNEL | RTPROT_REDIRECT)
}

/// What the kernel should have for a prefix.
fn wanted(
    id: ProtoId,
    prefix: IpNet,
    table: &Table,
    channel: &ChannelConfig,
    config: &KernelConfig,
    interner: &mut Interner,
) -> Option<KernelRoute> {
    let routes = table.get(&prefix);
    let best = routes.first()?;
    let exportable = |r: &Route| r.origin.proto != id && r.origin.source != RouteSource::Device;
    if !exportable(best) {
        return None;
    }
    let mut pass = |r: &Route| apply_policy(&channel.export, prefix, r.clone(), interner, "kernel");
    let chosen = pass(best)?;
    let mut hops: Vec<Hop> = chosen.dest.hops().to_vec();
    if let (Some(limit), Dest::Unicast(_)) = (config.merge_paths, &chosen.dest) {
        for other in routes.iter().skip(1).filter(|r| mergeable(best, r) && exportable(r)) {
            if hops.len() >= limit {
                break;
            }
            let Some(other) = pass(other) else { continue };
            for hop in other.dest.hops() {
                if !hops.contains(hop) && hops.len() < limit {
                    hops.push(hop.clone());
                }
            }
        }
    }
    let metric = if config.metric != 0 { config.metric } else { chosen.attrs.krt_metric.unwrap_or(0) };
    let dest = match chosen.dest {
        Dest::Unicast(_) => KernelDest::Unicast(kernel_hops(&hops)),
        Dest::Blackhole => KernelDest::Blackhole,
        Dest::Unreachable => KernelDest::Unreachable,
        Dest::Prohibit => KernelDest::Prohibit,
    };
    Some(KernelRoute { prefix, metric: kernel_metric(metric, &prefix), protocol: KERNEL_PROTOCOL, dest })
}

/// The kernel turns metric 0 of an IPv6 route into 1024.
fn kernel_metric(metric: u32, prefix: &IpNet) -> u32 {
    if metric == 0 && Family::of(prefix) == Family::Ipv6 { 1024 } else { metric }
}

/// Sorted, so that the same hops make the same route.
fn kernel_hops(hops: &[Hop]) -> Vec<KernelHop> {
    let mut out: Vec<KernelHop> = hops
        .iter()
        .map(|h| KernelHop {
            gateway: h.gateway,
            ifindex: h.iface.index,
            onlink: h.onlink,
            weight: h.weight.max(1),
        })
        .collect();
    out.sort();
    out
}

fn import_dest(dest: &KernelDest, interfaces: &Interfaces) -> Option<Dest> {
    Some(match dest {
        KernelDest::Blackhole => Dest::Blackhole,
        KernelDest::Unreachable => Dest::Unreachable,
        KernelDest::Prohibit => Dest::Prohibit,
        KernelDest::Unicast(hops) => {
            let hops: Option<Vec<Hop>> = hops
                .iter()
                .map(|h| {
                    let iface = interfaces.by_index(h.ifindex)?.handle();
                    Some(Hop { gateway: h.gateway, iface, onlink: h.onlink, weight: h.weight })
                })
                .collect();
            Dest::Unicast(Arc::from(hops?))
        }
    })
}

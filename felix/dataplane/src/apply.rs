//! The one ordered cycle: messages and kernel events in, kernel state out.
//!
//! ```text
//!  messages ──▶ managers ──▶ Outputs ─┬─▶ 1. tables (sets, chains, dispatch: one transaction)
//!  rtnetlink ─▶ interfaces ──────┘    ├─▶ 2. interface settings
//!  nf_tables notifications ─▶ resync  └─▶ 3. routes, neighbours ─▶ status of endpoints
//!                                            └─▶ connections of addresses that left
//! ```
//!
//! Always holds: nothing is written before [`Message::InSync`]; policy is there before a route leads to a workload and
//! is gone (closed) before its route is; where tables cannot be programmed nothing after them is touched, and the reason
//! is kept until it works; behind the tables one failure stops nothing else: an interface that lacks a setting or a route
//! makes its own endpoint be down, and is tried again. Left out: waiting for input ([`crate::worker`]).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_message::Message;
use libcalico_model::key::WorkloadEndpointKey;

use crate::config::{Backend, Config};
use crate::conntrack::{Busy, Cleaner};
use crate::counters::Counted;
use crate::driver::interface::InterfaceDriver;
use crate::driver::route::RouteDriver;
use crate::driver::{Counts, TableDriver, TableError, Written, backend, neighbour};
use crate::interfaces::Interfaces;
use crate::kernel::netlink::Netlink;
use crate::kernel::route::{self, Event, NETLINK_ROUTE};
use crate::managers::{Managers, Outputs};
use crate::status::{self, StatusTracker};
use crate::tally::TALLY;

/// Shortest time between two read-backs that others' changes call for.
const DRIFT_PAUSE: Duration = Duration::from_secs(1);

/// How soon what another backend left is looked for again, where it was still in use.
const OTHERS_PAUSE: Duration = Duration::from_millis(100);

/// How soon it is looked again whether connections are cut for which a route waits.
const CUT_PAUSE: Duration = Duration::from_millis(10);

/// How soon the host's settings are tried again, where they were refused and are not compared earlier.
const HOST_PAUSE: Duration = Duration::from_secs(60);

/// Why the dataplane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Tables(#[from] TableError),
    #[error("cannot watch {what}: {source}; is CAP_NET_ADMIN there?")]
    Watch { what: &'static str, source: io::Error },
    #[error("cannot start the thread that removes connections: {0}")]
    Connections(io::Error),
}

/// Why nothing behind the tables was touched. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("policy cannot be programmed, the old rules stand: {0}")]
    Tables(#[from] TableError),
    #[error("cannot read interfaces: {0}")]
    Read(io::Error),
}

/// What is missing though policy is programmed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("routes cannot be read: {0}")]
    Routes(io::Error),
    #[error("policy is programmed, but another backend's rules cannot be removed: {0}")]
    Others(TableError),
    #[error("an endpoint is down, its route cannot be written: {0}")]
    Route(io::Error),
    #[error("an endpoint is down, its interface cannot be set up: {0}")]
    Interface(io::Error),
    #[error("neighbours: {0}")]
    Neighbours(io::Error),
}

impl Trouble {
    /// True where it is single endpoints' trouble: all others are as they should be.
    #[must_use]
    pub fn confined(&self) -> bool {
        matches!(self, Self::Route(_) | Self::Interface(_) | Self::Neighbours(_))
    }
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tables: Written,
    pub routes: usize,
    pub neighbours: usize,
    pub settings: usize,
    /// Routes that wait until connections of their addresses' last workloads are cut.
    pub held: usize,
    /// When to look again, though nothing comes in.
    pub again: Option<Duration>,
    /// The first of what is missing; one of the whole node before one of an endpoint.
    pub trouble: Option<Trouble>,
}

impl Outcome {
    fn missing(&mut self, trouble: Trouble) {
        if self.trouble.as_ref().is_none_or(|t| t.confined() && !trouble.confined()) {
            self.trouble = Some(trouble);
        }
    }
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub tables: [Counts; 2],
    pub interfaces: usize,
    pub routes: usize,
}

/// The dataplane of one network namespace. Not bound to a runtime; all calls block shortly.
pub struct Dataplane {
    config: Arc<Config>,
    managers: Managers,
    outputs: Outputs,
    tables: Box<dyn TableDriver + Send>,
    /// What other backends left was looked for.
    others_removed: bool,
    routes: RouteDriver,
    settings: InterfaceDriver,
    connections: Cleaner,
    statuses: StatusTracker,
    interfaces: Interfaces,
    /// How many of them are workloads'.
    workload_interfaces: usize,
    /// Workload interfaces whose settings are to be looked at.
    dirty_interfaces: BTreeSet<Arc<str>>,
    /// Those that lack a setting or a route: nothing on them is up.
    broken: BTreeSet<Arc<str>>,
    route_monitor: Netlink,
    requests: Netlink,
    in_sync: bool,
    host_settings: bool,
    read_interfaces: bool,
    /// All neighbours are compared in the next apply.
    read_neighbours: bool,
    last_drift: Option<Instant>,
    next_tables_refresh: Option<Instant>,
    next_sets_refresh: Option<Instant>,
    next_routes_refresh: Option<Instant>,
    next_interface_refresh: Option<Instant>,
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane").field("in_sync", &self.in_sync).finish_non_exhaustive()
    }
}

impl Dataplane {
    /// Opens everything in the calling thread's network namespace. Writes nothing.
    ///
    /// # Errors
    /// The kernel refuses netlink.
    pub fn new(config: Arc<Config>) -> Result<Self, StartError> {
        let watch = |what| move |source| StartError::Watch { what, source };
        Ok(Self {
            managers: Managers::new(&config),
            outputs: Outputs::default(),
            tables: backend::open(&config)?,
            others_removed: false,
            routes: RouteDriver::new(config.clone()).map_err(watch("routes"))?,
            settings: InterfaceDriver::default(),
            connections: Cleaner::start().map_err(StartError::Connections)?,
            statuses: StatusTracker::default(),
            interfaces: Interfaces::default(),
            workload_interfaces: 0,
            dirty_interfaces: BTreeSet::new(),
            broken: BTreeSet::new(),
            route_monitor: Netlink::open_monitor(NETLINK_ROUTE, &route::GROUPS)
                .map_err(watch("interfaces"))?,
            requests: Netlink::open(NETLINK_ROUTE)
                .and_then(|s| s.with_timeout(config.netlink_timeout))
                .map_err(watch("interfaces"))?,
            in_sync: false,
            host_settings: false,
            read_interfaces: true,
            read_neighbours: true,
            last_drift: None,
            next_tables_refresh: None,
            next_sets_refresh: None,
            next_routes_refresh: None,
            next_interface_refresh: None,
            config,
        })
    }

    /// Takes a message. No I/O.
    pub fn on_message(&mut self, message: &Message) {
        match message {
            Message::InSync => self.in_sync = true,
            Message::WorkloadEndpointUpdate(key, e) => {
                if !self.managers.tells_of_policies_alone(key, e) {
                    self.leaves_interface(key);
                    self.dirty_interfaces.insert(e.interface_name.as_str().into());
                    self.statuses.on_message(message);
                }
            }
            Message::WorkloadEndpointRemove(key) => {
                self.leaves_interface(key);
                self.statuses.on_message(message);
            }
            other => self.statuses.on_message(other),
        }
        self.managers.on_message(message, &mut self.outputs);
    }

    /// Whoever has the workload's interface next may call for other settings.
    fn leaves_interface(&mut self, key: &WorkloadEndpointKey) {
        self.dirty_interfaces.extend(self.managers.interface_of(key).map(Arc::from));
    }

    /// True once the calculation has sent everything that stood in the datastore.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Sockets to poll: when one is readable, call [`Self::on_kernel_events`].
    pub fn monitors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tables.monitor().into_iter().chain([self.route_monitor.as_fd()])
    }

    /// Takes pending notifications. Returns how long an apply that they call for may wait.
    pub fn on_kernel_events(&mut self, now: Instant) -> Option<Duration> {
        let mut due = None;
        if self.tables.drifted() {
            // Someone who writes without end must not keep us busy without end.
            let wait = self
                .last_drift
                .map_or(Duration::ZERO, |at| (at + DRIFT_PAUSE).saturating_duration_since(now));
            tracing::info!(?wait, "tables were changed by someone else; they are read back");
            self.tables.resync();
            self.last_drift = Some(now + wait);
            due = Some(wait);
        }
        if self.on_route_events() { Some(Duration::ZERO) } else { due }
    }

    fn on_route_events(&mut self) -> bool {
        let (mut changed, mut drift) = (Vec::new(), false);
        let own = self.routes.port();
        let (interfaces, config) = (&mut self.interfaces, &self.config);
        let (mut links, mut addresses) = (0_u32, 0_u32);
        let lost = self.route_monitor.drain(|m| match route::event(&m) {
            Some(Event::Route(r, _)) if m.port != own => {
                drift |= interfaces.by_index(r.index).is_some_and(|i| config.is_workload_interface(&i.name));
            }
            Some(Event::Route(..)) | None => {}
            Some(event) => {
                *(if matches!(event, Event::Link(..) | Event::LinkGone(..)) {
                    &mut links
                } else {
                    &mut addresses
                }) += 1;
                changed.extend(interfaces.on_event(&event));
            }
        });
        for (events, sum) in [(links, &TALLY.interface_events), (addresses, &TALLY.address_events)] {
            if events > 0 {
                sum.observe(f64::from(events));
            }
        }
        if lost.is_err() {
            self.read_interfaces = true;
            drift = true;
        }
        if drift {
            self.routes.resync();
        }
        for name in &changed {
            self.statuses.on_interface(name);
            if self.config.is_workload_interface(name) {
                self.dirty_interfaces.insert(name.clone());
                self.outputs.routes.touch(name);
                self.outputs.neighbours.touch(name);
            }
        }
        if !changed.is_empty() {
            self.managers.on_interfaces(&self.interfaces);
            self.count_interfaces();
        }
        drift || !changed.is_empty() || lost.is_err()
    }

    fn read_interfaces(&mut self) -> io::Result<()> {
        let links = route::links(&mut self.requests)?;
        let addresses = route::addresses(&mut self.requests)?;
        self.interfaces = Interfaces::new(links, addresses);
        self.read_interfaces = false;
        self.read_neighbours = true;
        self.statuses.on_all_interfaces();
        self.managers.on_interfaces(&self.interfaces);
        self.routes.resync();
        let workloads = self.interfaces.all().filter(|i| self.config.is_workload_interface(&i.name));
        self.dirty_interfaces.extend(workloads.map(|i| i.name.clone()));
        self.count_interfaces();
        Ok(())
    }

    fn count_interfaces(&mut self) {
        let workloads = self.interfaces.all().filter(|i| self.config.is_workload_interface(&i.name));
        self.workload_interfaces = workloads.count();
    }

    /// Brings the kernel to the desired state. Before the datastore is in sync it does nothing.
    ///
    /// What is missing in the end, with policy in place, is told in the outcome; the next call tries it again.
    ///
    /// # Errors
    /// Policy could not be programmed, nothing behind it was touched; the next call tries again, with everything read
    /// back.
    pub fn apply(&mut self, now: Instant) -> Result<Outcome, ApplyError> {
        if !self.in_sync {
            return Ok(Outcome::default());
        }
        self.refresh(now);
        if self.read_interfaces {
            self.read_interfaces().map_err(ApplyError::Read)?;
        }
        self.managers.resolve(&mut self.outputs);
        // Before rules for it go.
        let open = self.end_ipv6();
        let mut out = Outcome { tables: self.tables.apply(&mut self.outputs.tables)?, ..Outcome::default() };
        self.check_after_write(&out.tables, now);
        let mut broken = self.apply_settings(now, &mut out);
        for (name, error) in open {
            tracing::error!(interface = &*name, %error, "workloads' interface has IPv6, and there are no rules for it");
            out.missing(Trouble::Interface(error));
            self.dirty_interfaces.insert(name.clone());
            broken.insert(name);
        }
        let connections = &self.connections;
        let uncut = |addr: &IpAddr| connections.pending(addr);
        let routes = self.routes.apply(&mut self.outputs.routes, &self.interfaces, now, &uncut);
        (out.routes, out.held) = (routes.written, routes.held.len());
        self.connections.forget(routes.gone);
        broken.extend(routes.missing);
        self.set_broken(broken);
        routes.unread.into_iter().for_each(|e| out.missing(Trouble::Routes(e)));
        routes.refused.into_iter().for_each(|e| out.missing(Trouble::Route(e)));
        match self.apply_neighbours() {
            Ok(written) => out.neighbours = written,
            Err(e) => out.missing(Trouble::Neighbours(e)),
        }
        if let Some(wait) = routes.recheck {
            let at = now + wait;
            self.next_routes_refresh = Some(self.next_routes_refresh.map_or(at, |n| n.min(at)));
        }
        let others = self.remove_others().unwrap_or_else(|e| {
            out.missing(Trouble::Others(e));
            None
        });
        let refresh = self.next_refresh().map(|at| at.saturating_duration_since(now));
        let cut = (out.held > 0).then_some(CUT_PAUSE);
        out.again = [refresh, out.tables.again, others, cut].into_iter().flatten().min();
        Ok(out)
    }

    /// These interfaces lack something now. Their endpoints are looked at again, and those of others that did so far.
    fn set_broken(&mut self, broken: BTreeSet<Arc<str>>) {
        for name in self.broken.symmetric_difference(&broken) {
            self.statuses.on_interface(name);
        }
        self.broken = broken;
    }

    /// xtables tells nobody of changes: after a write the tables are looked at again soon.
    fn check_after_write(&mut self, written: &Written, now: Instant) {
        let pause = self.config.post_write_check;
        if self.config.backend != Backend::IptablesLegacy || written.operations == 0 || pause.is_zero() {
            return;
        }
        let at = now + pause;
        self.next_tables_refresh = Some(self.next_tables_refresh.map_or(at, |n| n.min(at)));
    }

    /// Once the configured backend has everything, what another one has goes. Returns when to look again.
    fn remove_others(&mut self) -> Result<Option<Duration>, TableError> {
        if !self.others_removed {
            self.others_removed = backend::remove_others(&self.config)?;
        }
        Ok((!self.others_removed).then_some(OTHERS_PAUSE))
    }

    fn apply_neighbours(&mut self) -> io::Result<usize> {
        let (all, wanted) = (self.read_neighbours, &mut self.outputs.neighbours);
        if self.config.route_sync_disabled {
            return Ok(0);
        }
        let result = neighbour::apply(&mut self.requests, wanted, &self.interfaces, all);
        // A failure is tried again with everything read back.
        self.read_neighbours = result.is_err();
        result
    }

    /// Endpoints whose status changed. To be asked after an apply that left policy in place.
    pub fn take_statuses(&mut self) -> Vec<status::Change> {
        self.statuses.changes(&self.managers, &self.interfaces, &self.broken)
    }

    /// Chains whose counters tell of rules.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.outputs.counted.clone()
    }

    /// Whether the thread that removes connections hangs.
    #[must_use]
    pub fn connections_busy(&self) -> Busy {
        self.connections.busy()
    }

    /// Where there are no rules for IPv6, workloads' interfaces have none of it. Returns those that go on having it.
    fn end_ipv6(&self) -> Vec<(Arc<str>, io::Error)> {
        if self.config.ipv6 {
            return Vec::new();
        }
        let there = self.dirty_interfaces.iter().filter(|name| self.interfaces.by_name(name).is_some());
        there.filter_map(|name| Some((name.clone(), self.settings.without_ipv6(name).err()?))).collect()
    }

    /// Returns interfaces that lack a setting.
    fn apply_settings(&mut self, now: Instant, out: &mut Outcome) -> BTreeSet<Arc<str>> {
        if !self.host_settings {
            self.host_settings = true;
            match self.settings.host(&self.config) {
                Ok(written) => out.settings += written,
                // Someone else may have seen to it, as where all of it is read-only to us.
                Err(e) => {
                    tracing::error!(error = %e, "the host cannot be told to forward packets");
                    let at = now + HOST_PAUSE;
                    self.next_interface_refresh = Some(self.next_interface_refresh.map_or(at, |n| n.min(at)));
                }
            }
        }
        let mut broken = BTreeSet::new();
        for name in std::mem::take(&mut self.dirty_interfaces) {
            if self.interfaces.up(&name).is_none() || !self.managers.has_workload(&name) {
                continue;
            }
            match self.settings.workload(&name, self.managers.may_spoof(&name), &self.config) {
                Ok(n) => out.settings += n,
                Err(e) => {
                    if !self.broken.contains(&name) {
                        tracing::warn!(interface = &*name, error = %e, "interface cannot be set up yet");
                    }
                    out.missing(Trouble::Interface(e));
                    self.dirty_interfaces.insert(name.clone());
                    broken.insert(name);
                }
            }
        }
        broken
    }

    /// Read-backs whose time has come.
    fn refresh(&mut self, now: Instant) {
        let due = |next: &mut Option<Instant>, every: Duration| {
            let is_due = next.is_some_and(|at| at <= now);
            if (is_due || next.is_none()) && !every.is_zero() {
                *next = Some(now + every);
            } else if is_due {
                *next = None;
            }
            is_due
        };
        if due(&mut self.next_tables_refresh, self.config.tables_refresh) {
            self.tables.resync();
        }
        if self.config.backend != Backend::Nftables
            && due(&mut self.next_sets_refresh, self.config.ip_sets_refresh)
        {
            self.tables.resync_sets();
        }
        if due(&mut self.next_routes_refresh, self.config.routes_refresh) {
            self.routes.resync();
            self.read_neighbours = true;
        }
        if due(&mut self.next_interface_refresh, self.config.interface_refresh) {
            self.read_interfaces = true;
            self.host_settings = false;
        }
    }

    fn next_refresh(&self) -> Option<Instant> {
        let tables = [self.next_tables_refresh, self.next_sets_refresh];
        let others = [self.next_routes_refresh, self.next_interface_refresh];
        tables.into_iter().chain(others).flatten().min()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            tables: self.tables.counts(),
            interfaces: self.workload_interfaces,
            routes: self.outputs.routes.len(),
        }
    }

    /// What is believed to stand in the kernel, and where the kernel has something else.
    #[must_use]
    pub fn dump(&mut self) -> String {
        use std::fmt::Write as _;
        let mut out = self.tables.dump(&self.outputs.tables);
        for (dst, interface) in self.outputs.routes.iter() {
            let up = if self.interfaces.up(interface).is_some() { "" } else { " (interface is not up)" };
            let _ = writeln!(out, "route {dst} over {interface}{up}");
        }
        match self.routes.differences(&self.outputs.routes, &self.interfaces) {
            Ok(lines) => lines.iter().for_each(|l| {
                let _ = writeln!(out, "differs: {l}");
            }),
            Err(e) => {
                let _ = writeln!(out, "routes cannot be read: {e}");
            }
        }
        out
    }
}

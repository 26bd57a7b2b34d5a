//! The engine: every protocol instance, every table, and the one function that everything goes through.
//!
//! `step` feeds an event to the protocol it concerns, then carries changed prefixes from the tables to all other
//! protocols, then lets BGP sessions and the kernel write. Diagram in the crate's header.

mod instance;
mod lifecycle;
mod propagate;
mod reconfigure;
mod recovery;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bird_wire::Message;

pub(crate) use instance::{Channel, Instance, Kind, State};
pub(crate) use propagate::apply_policy;
pub(crate) use recovery::Recovery;

use crate::config::{Config, TimeFormats};
use crate::event::{Action, ConnId, Event, Timer};
use crate::interface::Interfaces;
use crate::rib::{Interner, ProtoId, Table};
use crate::session::{Input, Side};
use crate::time::Time;

/// What the daemon was started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `-R`: neighbours and the kernel may still have our routes.
    pub recover: bool,
    /// Seconds that local time is ahead of UTC, for displayed times.
    pub utc_offset_secs: i32,
    /// Name of the machine.
    pub hostname: String,
}

/// The engine.
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) now: Time,
    pub(crate) started: Time,
    pub(crate) configured: Time,
    pub(crate) config: Config,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) interfaces: Interfaces,
    pub(crate) tables: Vec<Table>,
    pub(crate) instances: BTreeMap<ProtoId, Instance>,
    /// Instances in the order of the configuration.
    pub(crate) order: Vec<ProtoId>,
    pub(crate) interner: Interner,
    pub(crate) conns: HashMap<ConnId, (ProtoId, Side)>,
    pub(crate) recovery: Recovery,
    pub(crate) actions: Vec<Action>,
    /// Path identifiers given to routes on sessions that send several paths.
    pub(crate) path_ids: HashMap<(ProtoId, u32), u32>,
    next_proto: u32,
    next_conn: u64,
    running: bool,
    stopping: bool,
}

impl Engine {
    /// An engine for a configuration; nothing happens before [`Event::Start`].
    #[must_use]
    pub fn new(config: Config, options: Options, now: Time) -> Self {
        let mut engine = Self {
            recovery: Recovery::new(options.recover),
            options,
            now,
            started: now,
            configured: now,
            router_id: config.router_id.unwrap_or(Ipv4Addr::UNSPECIFIED),
            config: Config::default(),
            interfaces: Interfaces::default(),
            tables: Vec::new(),
            instances: BTreeMap::new(),
            order: Vec::new(),
            interner: Interner::default(),
            conns: HashMap::new(),
            actions: Vec::new(),
            path_ids: HashMap::new(),
            next_proto: 1,
            next_conn: 1,
            running: false,
            stopping: false,
        };
        engine.adopt(config);
        engine
    }

    /// Feeds one event; returns what to do, in order.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Start => self.start(),
            Event::Timer(timer) => self.timer(timer),
            Event::Interfaces(all) => self.interfaces_seen(all),
            Event::KernelRoutes { table, ipv6, routes } => self.kernel_seen(table, ipv6, &routes),
            Event::KernelFailed { table, failures } => self.kernel_failed(table, &failures),
            Event::Incoming { conn, local, port, remote } => self.incoming(conn, local, port, remote),
            Event::Connected { conn, local } => {
                if let Some(&(id, side)) = self.conns.get(&conn) {
                    self.session_input(id, Input::Connected(side, local));
                }
            }
            Event::Closed { conn, reason } => {
                if let Some((id, side)) = self.conns.remove(&conn) {
                    self.forget_conn(id, side, conn);
                    self.session_input(id, Input::Closed(side, reason));
                }
            }
            Event::Received { conn, message } => {
                if let Some(&(id, side)) = self.conns.get(&conn) {
                    let ctx = self.bgp(id).map(|b| b.session.context(side)).unwrap_or_default();
                    self.session_input(id, Input::Message(side, Message::decode(&message, &ctx)));
                }
            }
            Event::Writable { conn } => {
                if let Some(&(id, _)) = self.conns.get(&conn)
                    && let Some(bgp) = self.bgp_mut(id)
                {
                    bgp.blocked = false;
                }
            }
            Event::Configure { source, soft } => {
                // The daemon has parsed it before; a broken text in a replayed file changes nothing.
                match crate::config::parse(&source) {
                    Ok(config) => self.reconfigure(config, soft),
                    Err(error) => tracing::error!(%error, "configuration is not valid, the old one stays"),
                }
            }
            Event::Command(command) => self.command(&command),
            Event::Shutdown { graceful } => self.shutdown(graceful),
        }
        self.propagate();
        self.check_recovery();
        self.flush();
        std::mem::take(&mut self.actions)
    }

    /// Formats of times in replies.
    #[must_use]
    pub fn time_formats(&self) -> &TimeFormats {
        &self.config.time
    }

    fn start(&mut self) {
        self.running = true;
        self.started = self.now;
        self.configured = self.now;
        self.actions.push(Action::ScanInterfaces);
        let order = self.order.clone();
        for id in order {
            self.start_instance(id);
        }
        self.update_listeners();
        if self.recovery.is_active() {
            self.begin_recovery();
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Session(id, kind) => self.session_input(id, Input::Timer(kind)),
            Timer::InterfaceScan => {
                self.actions.push(Action::ScanInterfaces);
                self.arm_interface_scan();
            }
            Timer::KernelScan(id) => self.scan_kernel(id),
            // Every step looks whether the recovery is over.
            Timer::RecoverySettle => {}
            Timer::Recovery => self.end_recovery("the wait is over"),
        }
    }

    fn interfaces_seen(&mut self, all: Vec<crate::interface::Interface>) {
        if !self.interfaces.replace(all) {
            return;
        }
        if self.router_id.is_unspecified()
            && let Some(id) = self.interfaces.router_id()
        {
            tracing::info!(router_id = %id, "no router id is configured, the lowest address is used");
            self.router_id = id;
            self.restart_sessions_without_id();
        }
        let order = self.order.clone();
        for id in order {
            self.refresh_direct(id);
            self.refresh_static(id);
            self.check_link(id);
        }
    }

    pub(crate) fn new_conn(&mut self) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        id
    }

    pub(crate) fn new_proto(&mut self) -> ProtoId {
        let id = ProtoId(self.next_proto);
        self.next_proto += 1;
        id
    }

    pub(crate) fn table_index(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| *t.name == *name)
    }

    /// Whether the daemon is on its way out.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn arm_interface_scan(&mut self) {
        let scan = self.instances.values().find_map(|i| match &i.kind {
            Kind::Device(config) if i.state == State::Up => Some(config.scan_secs),
            _ => None,
        });
        // Changes are announced by the kernel; the scan is for those that were lost. Without a device protocol
        // interfaces are still needed to know who is near.
        let secs = u64::from(scan.unwrap_or(60));
        self.actions.push(Action::SetTimer(Timer::InterfaceScan, self.now.plus_secs(secs)));
    }

    /// Shares one copy of attributes.
    pub(crate) fn intern(&mut self, attrs: crate::rib::Attrs) -> Arc<crate::rib::Attrs> {
        self.interner.intern(attrs)
    }
}

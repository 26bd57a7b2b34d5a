//! Starting and stopping protocols, and what sessions want done.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bird_wire::cease;

use super::{Engine, Instance, Kind, State};
use crate::config::GracefulMode;
use crate::event::{Action, Command, ConnId, Connect, Listen, ProtoAction, Timer};
use crate::filter::glob_matches;
use crate::protocol::Bgp;
use crate::rib::ProtoId;
use crate::session::{Input, Output, SessionConfig, Side};

impl Engine {
    pub(crate) fn bgp(&self, id: ProtoId) -> Option<&Bgp> {
        match &self.instances.get(&id)?.kind {
            Kind::Bgp(bgp) => Some(bgp),
            _ => None,
        }
    }

    pub(crate) fn bgp_mut(&mut self, id: ProtoId) -> Option<&mut Bgp> {
        match &mut self.instances.get_mut(&id)?.kind {
            Kind::Bgp(bgp) => Some(bgp),
            _ => None,
        }
    }

    // --- start and stop ---

    pub(crate) fn start_instance(&mut self, id: ProtoId) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.disabled || instance.state != State::Down || !self.running {
            return;
        }
        instance.message.clear();
        if let Kind::Bgp(_) = instance.kind {
            if self.router_id.is_unspecified() && instance.config.router_id.is_none() {
                tracing::warn!(protocol = %instance.config.name, "waits for a router id");
                return;
            }
            instance.set_state(State::Start, now);
            let restarting = self.recovery.is_active();
            if let Some(bgp) = self.bgp_mut(id) {
                bgp.session.restarting = restarting;
            }
            self.session_input(id, Input::Start);
            return;
        }
        instance.set_state(State::Up, now);
        for channel in &mut instance.channels {
            channel.up = true;
        }
        match &instance.kind {
            Kind::Device(_) => self.arm_interface_scan(),
            Kind::Direct(_) => self.refresh_direct(id),
            Kind::Static(_) => self.refresh_static(id),
            Kind::Kernel(_) => {
                self.mark_whole_table(id);
                self.scan_kernel(id);
            }
            Kind::Bgp(_) => {}
        }
    }

    /// Stops a protocol and removes its routes. `subcode` is the Cease to send; `None` for a graceful restart.
    pub(crate) fn stop_instance(&mut self, id: ProtoId, subcode: Option<u8>) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.state == State::Down {
            return;
        }
        match &instance.kind {
            Kind::Bgp(_) => self.session_input(id, Input::Stop(subcode)),
            Kind::Kernel(_) => self.stop_kernel(id),
            _ => {}
        }
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.set_state(State::Down, now);
        let channels = instance.channels.len();
        for channel in &mut instance.channels {
            channel.up = false;
        }
        for channel in 0..channels {
            self.purge(id, channel, |_, _| false);
        }
    }

    pub(crate) fn restart_instance(&mut self, id: ProtoId, subcode: u8) {
        self.stop_instance(id, Some(subcode));
        self.start_instance(id);
    }

    pub(crate) fn restart_sessions_without_id(&mut self) {
        let waiting: Vec<ProtoId> = self.order.clone();
        for id in waiting {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let router_id = instance.config.router_id.unwrap_or(self.router_id);
            let config = instance.config.clone();
            if let Kind::Bgp(bgp) = &mut instance.kind
                && bgp.session.config().router_id != router_id
            {
                let config = crate::protocol::session_config(&config, router_id);
                bgp.session.reconfigure(Arc::new(config));
                self.start_instance(id);
            }
        }
    }

    pub(crate) fn shutdown(&mut self, graceful: bool) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        tracing::info!(graceful, "shutting down");
        let order = self.order.clone();
        for id in order {
            let on =
                self.bgp(id).is_some_and(|b| b.session.config().bgp.graceful_restart == GracefulMode::On);
            let subcode = if graceful && on { None } else { Some(cease::SHUTDOWN) };
            match self.instances.get(&id).map(|i| &i.kind) {
                Some(Kind::Bgp(_)) => self.session_input(id, Input::Stop(subcode)),
                Some(Kind::Kernel(kernel)) if !graceful && !kernel.config.persist => {
                    self.withdraw_kernel(id);
                }
                _ => {}
            }
        }
        // Tables are left as they are: withdrawing routes now would take them from the kernel.
        for table in &mut self.tables {
            let _ = table.take_dirty();
        }
        self.actions.push(Action::Exit);
    }

    // --- commands ---

    /// Protocols that a command means, in order.
    pub(crate) fn targets(&self, target: &str) -> Vec<ProtoId> {
        let target = target.trim_matches(|c| c == '"' || c == '\'');
        let meant = |id: &&ProtoId| {
            self.instances.get(id).is_some_and(|i| target == "all" || glob_matches(target, &i.config.name))
        };
        self.order.iter().filter(meant).copied().collect()
    }

    pub(crate) fn command(&mut self, command: &Command) {
        for id in self.targets(&command.target) {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            tracing::info!(protocol = %instance.config.name, action = ?command.action, "command");
            match command.action {
                ProtoAction::Enable => {
                    instance.disabled = false;
                    self.start_instance(id);
                }
                ProtoAction::Disable => {
                    instance.disabled = true;
                    self.stop_instance(id, Some(cease::SHUTDOWN));
                }
                ProtoAction::Restart if !instance.disabled => self.restart_instance(id, cease::RESET),
                ProtoAction::Restart => {}
                ProtoAction::Reload => {
                    self.reload_in(id);
                    self.reload_out(id);
                }
                ProtoAction::ReloadIn => self.reload_in(id),
                ProtoAction::ReloadOut => self.reload_out(id),
            }
        }
        self.update_listeners();
    }

    /// Takes all routes of a protocol in again.
    pub(crate) fn reload_in(&mut self, id: ProtoId) {
        match self.instances.get(&id).map(|i| &i.kind) {
            Some(Kind::Bgp(_)) => self.request_refresh(id),
            Some(Kind::Direct(_)) => self.refresh_direct(id),
            Some(Kind::Static(_)) => self.refresh_static(id),
            Some(Kind::Kernel(_)) => self.relearn_kernel(id),
            _ => {}
        }
    }

    /// Sends all routes to a protocol again, as far as they differ.
    pub(crate) fn reload_out(&mut self, id: ProtoId) {
        match self.instances.get(&id).map(|i| &i.kind) {
            Some(Kind::Bgp(_)) => self.refeed(id, None),
            Some(Kind::Kernel(_)) => self.mark_whole_table(id),
            _ => {}
        }
    }

    // --- connections ---

    /// Ends the session with a directly connected neighbour whose link is gone: waiting for the hold timer would
    /// send packets nowhere.
    pub(crate) fn check_link(&mut self, id: ProtoId) {
        let Some(bgp) = self.bgp(id) else { return };
        let config = &bgp.session.config().bgp;
        if config.hops().is_some() || bgp.session.negotiated.is_none() {
            return;
        }
        let up = match &config.interface {
            Some(name) => self.interfaces.by_name(name).is_some_and(crate::interface::Interface::is_up),
            None => self.interfaces.neighbor(config.neighbor).is_some(),
        };
        if !up {
            tracing::info!(protocol = %self.name(id), "the link to the neighbor is gone");
            self.restart_instance(id, cease::RESET);
        }
    }

    pub(crate) fn incoming(&mut self, conn: ConnId, local: IpAddr, port: u16, remote: IpAddr) {
        let found = self.order.iter().copied().find(|id| {
            self.bgp(*id).is_some_and(|bgp| {
                let config = &bgp.session.config().bgp;
                config.neighbor == remote
                    && config.local_port == port
                    && config.local_address.is_none_or(|a| a == local)
                    && self.instances.get(id).is_some_and(|i| i.state != State::Down)
            })
        });
        let Some(id) = found.filter(|id| self.bgp(*id).is_some_and(|b| b.session.accepts_incoming())) else {
            tracing::debug!(%remote, known = found.is_some(), "connection refused");
            self.actions.push(Action::Close(conn));
            return;
        };
        let (ttl, min_ttl) = self.bgp(id).map_or((64, None), |b| ttl(b.session.config()));
        self.actions.push(Action::Tune(conn, ttl, min_ttl));
        if let Some(bgp) = self.bgp_mut(id) {
            bgp.replaced = bgp.incoming.replace(conn);
        }
        self.conns.insert(conn, (id, Side::Incoming));
        self.session_input(id, Input::Connected(Side::Incoming, local));
    }

    pub(crate) fn forget_conn(&mut self, id: ProtoId, side: Side, conn: ConnId) {
        if let Some(bgp) = self.bgp_mut(id) {
            let slot = match side {
                Side::Outgoing => &mut bgp.outgoing,
                Side::Incoming => &mut bgp.incoming,
            };
            if *slot == Some(conn) {
                *slot = None;
            }
        }
    }

    /// Feeds a session and carries out what it wants.
    pub(crate) fn session_input(&mut self, id: ProtoId, input: Input) {
        let now = self.now;
        let Some(bgp) = self.bgp_mut(id) else { return };
        let outputs = bgp.session.step(now, input);
        for output in outputs {
            self.session_output(id, output);
        }
    }

    fn session_output(&mut self, id: ProtoId, output: Output) {
        match output {
            Output::Connect => self.connect(id),
            Output::Send(side, data) => {
                if let Some(conn) = self.bgp(id).and_then(|b| b.conn(side)) {
                    self.actions.push(Action::Send(conn, data));
                }
            }
            Output::Close(side) => {
                let Some(bgp) = self.bgp_mut(id) else { return };
                let conn = match side {
                    Side::Outgoing => bgp.outgoing.take(),
                    Side::Incoming => bgp.replaced.take().or_else(|| bgp.incoming.take()),
                };
                if let Some(conn) = conn {
                    self.conns.remove(&conn);
                    self.actions.push(Action::Close(conn));
                }
            }
            Output::SetTimer(kind, at) => self.actions.push(Action::SetTimer(Timer::Session(id, kind), at)),
            Output::ClearTimer(kind) => self.actions.push(Action::ClearTimer(Timer::Session(id, kind))),
            Output::Established(negotiated) => self.session_up(id, &negotiated),
            Output::Down(down) => self.session_down(id, down),
            Output::Update(update) => self.update_received(id, *update),
            Output::Refresh(family, kind) => self.refresh_received(id, family, kind),
            Output::StaleExpired => {
                tracing::info!(protocol = %self.name(id), "neighbor did not return in time, its routes are dropped");
                self.drop_stale(id, None);
            }
            Output::Log(message) => tracing::info!(protocol = %self.name(id), "{message}"),
            Output::Disable => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.disabled = true;
                }
                self.stop_instance(id, Some(cease::SHUTDOWN));
            }
        }
    }

    pub(crate) fn name(&self, id: ProtoId) -> Arc<str> {
        self.instances.get(&id).map_or_else(|| Arc::from(""), |i| i.config.name.clone())
    }

    fn connect(&mut self, id: ProtoId) {
        let conn = self.new_conn();
        let Some(bgp) = self.bgp_mut(id) else { return };
        bgp.outgoing = Some(conn);
        let (ttl, min_ttl) = ttl(bgp.session.config());
        let config = &bgp.session.config().bgp;
        let connect = Connect {
            remote: config.neighbor,
            port: config.neighbor_port,
            local: config.local_address,
            interface: config.interface.clone(),
            ttl,
            min_ttl,
            password: config.password.clone(),
        };
        self.conns.insert(conn, (id, Side::Outgoing));
        self.actions.push(Action::Connect(conn, Box::new(connect)));
    }

    /// Listens where the sessions of the configuration need it: one socket for each address and port.
    pub(crate) fn update_listeners(&mut self) {
        let mut wanted: BTreeMap<(IpAddr, u16), Vec<(IpAddr, String)>> = BTreeMap::new();
        for instance in self.instances.values().filter(|i| !i.disabled) {
            let Kind::Bgp(bgp) = &instance.kind else { continue };
            let config = &bgp.session.config().bgp;
            let any = match config.neighbor {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let address = config.local_address.filter(|_| config.strict_bind).unwrap_or(any);
            let passwords = wanted.entry((address, config.local_port)).or_default();
            if let Some(password) = &config.password {
                passwords.push((config.neighbor, password.clone()));
            }
        }
        let listen = wanted.into_iter().map(|((address, port), mut passwords)| {
            passwords.sort();
            passwords.dedup();
            Listen { address, port, passwords }
        });
        self.actions.push(Action::Listen(listen.collect()));
    }

    /// Makes an instance without starting it.
    pub(crate) fn make_instance(&mut self, config: &Arc<crate::config::ProtocolConfig>) -> ProtoId {
        let id = self.new_proto();
        let kind = self.make_kind(id, config);
        let channels = config
            .channels
            .iter()
            .filter_map(|c| Some(super::Channel::new(c.clone(), self.table_index(&c.table)?)));
        let instance = Instance {
            id,
            config: config.clone(),
            state: State::Down,
            since: self.now,
            disabled: config.disabled,
            message: String::new(),
            channels: channels.collect(),
            kind,
        };
        self.instances.insert(id, instance);
        id
    }
}

/// TTL of packets to the neighbour, and the least TTL taken from it (RFC 5082).
fn ttl(config: &SessionConfig) -> (u8, Option<u8>) {
    let hops = config.bgp.hops();
    if config.bgp.ttl_security {
        return (255, Some(255 - hops.unwrap_or(1) + 1));
    }
    (hops.unwrap_or(1), None)
}

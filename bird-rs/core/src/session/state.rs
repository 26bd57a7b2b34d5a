//! The states of a session and the transitions between them.

use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::{Context, Message, Notification, Open, cease};

use super::open::Negotiated;
use super::types::{ConnState, Down, Input, LastError, Output, SessionConfig, Side, TimerKind};
use crate::time::Time;

pub(super) struct Conn {
    pub state: ConnState,
    pub local_address: Option<IpAddr>,
    pub local_open: Option<Open>,
    pub peer_open: Option<Open>,
    pub ctx: Context,
    pub hold_secs: u16,
    pub keepalive_secs: u16,
}

impl Conn {
    fn new(state: ConnState) -> Self {
        Self {
            state,
            local_address: None,
            local_open: None,
            peer_open: None,
            ctx: Context::default(),
            hold_secs: 0,
            keepalive_secs: 0,
        }
    }
}

/// A session.
pub struct Session {
    pub(super) config: Arc<SessionConfig>,
    pub(super) outgoing: Option<Conn>,
    pub(super) incoming: Option<Conn>,
    pub(super) out: Vec<Output>,
    running: bool,
    /// The wait after an error runs: no connections.
    waiting: bool,
    error_wait_secs: u32,
    last_error_at: Option<Time>,
    /// What to show.
    pub last_error: Option<LastError>,
    /// We have restarted and say so in OPEN.
    pub restarting: bool,
    /// The established session.
    pub negotiated: Option<Arc<Negotiated>>,
    /// Deadlines of hold and keepalive timers, for display.
    pub hold_deadline: Option<Time>,
    /// See `hold_deadline`.
    pub keepalive_deadline: Option<Time>,
    /// Routes of the neighbour are kept for its return.
    pub neighbor_restarting: bool,
}

impl Session {
    /// A session that has not begun.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>) -> Self {
        Self {
            config,
            outgoing: None,
            incoming: None,
            out: Vec::new(),
            running: false,
            waiting: false,
            error_wait_secs: 0,
            last_error_at: None,
            last_error: None,
            restarting: false,
            negotiated: None,
            hold_deadline: None,
            keepalive_deadline: None,
            neighbor_restarting: false,
        }
    }

    /// Takes over options that do not need a new session.
    pub fn reconfigure(&mut self, config: Arc<SessionConfig>) {
        self.config = config;
    }

    /// Configuration.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// How to read messages of a connection.
    #[must_use]
    pub fn context(&self, side: Side) -> Context {
        self.conn(side).map_or_else(Context::default, |c| c.ctx)
    }

    /// The state's name as `show protocols` prints it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        let best = [&self.outgoing, &self.incoming].into_iter().flatten().max_by_key(|c| c.state as u8);
        match best.map(|c| c.state) {
            Some(ConnState::Established) => "Established",
            Some(ConnState::OpenConfirm) => "OpenConfirm",
            Some(ConnState::OpenSent) => "OpenSent",
            Some(ConnState::Connect) => "Connect",
            None if !self.running => "Down",
            None if self.waiting => "Idle",
            None if self.config.bgp.passive => "Passive",
            None => "Active",
        }
    }

    /// Whether a new incoming connection may be taken now.
    #[must_use]
    pub fn accepts_incoming(&self) -> bool {
        if !self.running || self.waiting {
            return false;
        }
        match &self.incoming {
            None => true,
            // RFC 4724 section 4.2: a neighbour with graceful restart that connects again has restarted, though
            // the end of its old connection was never seen.
            Some(conn) => conn.state == ConnState::Established && self.neighbor_is_graceful(),
        }
    }

    pub(super) fn conn(&self, side: Side) -> Option<&Conn> {
        match side {
            Side::Outgoing => self.outgoing.as_ref(),
            Side::Incoming => self.incoming.as_ref(),
        }
    }

    pub(super) fn conn_mut(&mut self, side: Side) -> Option<&mut Conn> {
        match side {
            Side::Outgoing => self.outgoing.as_mut(),
            Side::Incoming => self.incoming.as_mut(),
        }
    }

    /// Feeds one input; returns what to do, in order.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Output> {
        match input {
            Input::Start => self.start(now),
            Input::Stop(subcode) => self.stop(subcode),
            Input::Timer(kind) => self.timer(now, kind),
            Input::Connected(side, local) => self.connected(now, side, local),
            Input::Closed(side, reason) => self.closed(now, side, reason),
            Input::Message(side, Ok(message)) => self.message(now, side, message),
            Input::Message(side, Err(error)) => {
                if self.conn(side).is_some() {
                    self.out.push(Output::Log(error.what.to_owned()));
                    self.fail(now, side, &error.notification);
                }
            }
        }
        std::mem::take(&mut self.out)
    }

    // --- life ---

    fn start(&mut self, now: Time) {
        if self.running {
            return;
        }
        self.running = true;
        self.waiting = false;
        self.await_connection(now, u64::from(self.config.bgp.connect_delay_secs));
    }

    /// Active: the next attempt comes after a delay; a passive session only listens.
    fn await_connection(&mut self, now: Time, delay_secs: u64) {
        self.waiting = false;
        if !self.config.bgp.passive && self.outgoing.is_none() {
            self.set_timer(TimerKind::Connect, now.plus_secs(delay_secs));
        }
    }

    fn stop(&mut self, subcode: Option<u8>) {
        let was_up = self.negotiated.is_some();
        for side in [Side::Outgoing, Side::Incoming] {
            if self.conn(side).is_some() {
                if let Some(subcode) = subcode {
                    self.notify(side, &Notification::cease(subcode));
                }
                self.close(side);
            }
        }
        for kind in [TimerKind::Connect, TimerKind::Retry, TimerKind::Stale] {
            self.out.push(Output::ClearTimer(kind));
        }
        self.running = false;
        self.waiting = false;
        self.neighbor_restarting = false;
        if was_up {
            self.negotiated = None;
        }
        self.out.push(Output::Down(Down::Hard));
    }

    fn timer(&mut self, now: Time, kind: TimerKind) {
        if !self.running {
            return;
        }
        match kind {
            TimerKind::Connect if self.waiting => {
                self.await_connection(now, u64::from(self.config.bgp.connect_delay_secs));
            }
            TimerKind::Connect => {
                if self.outgoing.is_none() && self.negotiated.is_none() {
                    self.outgoing = Some(Conn::new(ConnState::Connect));
                    self.out.push(Output::Connect);
                    self.set_timer(
                        TimerKind::Retry,
                        now.plus_secs(u64::from(self.config.bgp.connect_retry_secs.max(1))),
                    );
                }
            }
            TimerKind::Retry => {
                if self.outgoing.as_ref().is_some_and(|c| c.state == ConnState::Connect) {
                    self.close(Side::Outgoing);
                    self.await_connection(now, 0);
                }
            }
            TimerKind::Hold(side) => {
                if self.conn(side).is_some() {
                    self.fail(now, side, &Notification::hold_timer_expired());
                }
            }
            TimerKind::Keepalive(side) => {
                if self.conn(side).is_some_and(|c| c.keepalive_secs > 0) {
                    self.send_keepalive(now, side);
                }
            }
            TimerKind::Stale => {
                self.neighbor_restarting = false;
                self.out.push(Output::StaleExpired);
            }
        }
    }

    // --- connections ---

    fn connected(&mut self, now: Time, side: Side, local: IpAddr) {
        if side == Side::Incoming {
            if !self.accepts_incoming() {
                self.out.push(Output::Close(side));
                return;
            }
            if self.incoming.is_some() || (self.negotiated.is_some() && self.neighbor_is_graceful()) {
                let old = if self.incoming.is_some() { Side::Incoming } else { Side::Outgoing };
                self.out.push(Output::Log("neighbor restarted: it opened a new connection".into()));
                self.drop_conn(old);
                self.session_lost(now, Down::Graceful);
            }
            self.incoming = Some(Conn::new(ConnState::Connect));
        } else {
            self.out.push(Output::ClearTimer(TimerKind::Retry));
        }
        let open = self.local_open();
        let message = Message::Open(open.clone()).encode(&Context::default());
        let startup = self.config.bgp.startup_hold_time_secs;
        let Some(conn) = self.conn_mut(side) else { return };
        conn.state = ConnState::OpenSent;
        conn.local_address = Some(local);
        conn.local_open = Some(open);
        self.out.push(Output::Send(side, message));
        if startup > 0 {
            self.set_timer(TimerKind::Hold(side), now.plus_secs(u64::from(startup)));
        }
    }

    /// The neighbour closed the connection, or it broke.
    fn closed(&mut self, now: Time, side: Side, reason: String) {
        let Some(state) = self.conn(side).map(|c| c.state) else { return };
        self.forget(side);
        self.note_error("Socket", reason);
        match state {
            ConnState::Established if self.neighbor_is_graceful() => {
                self.session_lost(now, Down::Graceful);
                self.await_connection(now, u64::from(self.config.bgp.connect_delay_secs));
            }
            ConnState::Established => {
                self.session_lost(now, Down::Hard);
                self.wait_after_error(now);
            }
            // Losing one connection does not matter while the other lives.
            _ if self.conn(side.other()).is_some() => {}
            _ => {
                let delay = self.config.bgp.connect_delay_secs.max(1);
                self.await_connection(now, u64::from(delay));
            }
        }
    }

    // --- messages ---

    fn message(&mut self, now: Time, side: Side, message: Message) {
        let Some(state) = self.conn(side).map(|c| c.state) else { return };
        match (state, message) {
            (ConnState::OpenSent, Message::Open(open)) => self.open_received(now, side, open),
            (_, Message::Notification(notification)) => self.notified(now, side, &notification),
            (ConnState::OpenConfirm, Message::Keepalive) => self.establish(now, side),
            (ConnState::Established, Message::Keepalive) => self.restart_hold(now, side),
            (ConnState::Established, Message::Update(update)) => {
                self.restart_hold(now, side);
                self.out.push(Output::Update(update));
            }
            (ConnState::Established, Message::RouteRefresh(family, kind)) => {
                self.restart_hold(now, side);
                if let Some(family) = family {
                    self.out.push(Output::Refresh(family, kind));
                }
            }
            (state, _) => {
                // RFC 6608: the subcode says in which state the message was not expected.
                let subcode = match state {
                    ConnState::Connect => 0,
                    ConnState::OpenSent => 1,
                    ConnState::OpenConfirm => 2,
                    ConnState::Established => 3,
                };
                self.fail(now, side, &Notification::new(5, subcode));
            }
        }
    }

    fn establish(&mut self, now: Time, side: Side) {
        if self.conn(side.other()).is_some() {
            self.notify(side.other(), &Notification::cease(cease::COLLISION));
            self.close(side.other());
        }
        let Some(negotiated) = self.negotiate(side).map(Arc::new) else { return };
        if let Some(conn) = self.conn_mut(side) {
            conn.state = ConnState::Established;
        }
        self.restart_hold(now, side);
        self.last_error = None;
        if std::mem::take(&mut self.neighbor_restarting) {
            // The neighbour is back; what it does not announce again in as long as it may be away goes.
            let secs = negotiated.peer_open.graceful_restart().map_or(0, |gr| gr.restart_time_secs);
            self.set_timer(TimerKind::Stale, now.plus_secs(u64::from(secs)));
        }
        self.out.push(Output::ClearTimer(TimerKind::Connect));
        self.out.push(Output::ClearTimer(TimerKind::Retry));
        self.negotiated = Some(negotiated.clone());
        self.out.push(Output::Established(Box::new((*negotiated).clone())));
    }

    fn notified(&mut self, now: Time, side: Side, notification: &Notification) {
        let state = self.conn(side).map(|c| c.state);
        self.drop_conn(side);
        // Losing a collision is no error (RFC 4271 section 6.8).
        let collision = notification.code == 6 && notification.subcode == cease::COLLISION;
        if collision && self.conn(side.other()).is_some() {
            return;
        }
        self.note_error("Received", notification.name().to_owned());
        self.out.push(Output::Log(format!("Received: {}", notification.name())));
        if state == Some(ConnState::Established) {
            self.session_lost(now, Down::Hard);
        }
        self.wait_after_error(now);
    }

    /// Sends a NOTIFICATION, closes the connection, and waits before the next attempt.
    pub(super) fn fail(&mut self, now: Time, side: Side, notification: &Notification) {
        let established = self.conn(side).is_some_and(|c| c.state == ConnState::Established);
        self.note_error("BGP Error", notification.name().to_owned());
        self.out.push(Output::Log(format!("Error: {}", notification.name())));
        self.notify(side, notification);
        self.close(side);
        if established {
            self.session_lost(now, Down::Hard);
        }
        self.wait_after_error(now);
    }

    fn session_lost(&mut self, now: Time, mut down: Down) {
        let restart_secs = self
            .negotiated
            .as_ref()
            .and_then(|n| n.peer_open.graceful_restart().map(|g| g.restart_time_secs));
        if self.negotiated.take().is_none() {
            return;
        }
        self.hold_deadline = None;
        self.keepalive_deadline = None;
        match (down, restart_secs) {
            (Down::Graceful, Some(secs)) if secs > 0 => {
                self.neighbor_restarting = true;
                self.set_timer(TimerKind::Stale, now.plus_secs(u64::from(secs)));
            }
            _ => down = Down::Hard,
        }
        self.out.push(Output::Down(down));
    }

    fn wait_after_error(&mut self, now: Time) {
        if self.config.bgp.disable_after_error {
            self.out.push(Output::Disable);
            return;
        }
        let (low, high) = self.config.bgp.error_wait_secs;
        let forget = u64::from(self.config.bgp.error_forget_secs) * 1_000_000;
        let recent = self.last_error_at.is_some_and(|at| now.since(at) < forget);
        self.error_wait_secs =
            if recent { self.error_wait_secs.saturating_mul(2).clamp(low, high) } else { low };
        self.last_error_at = Some(now);
        for side in [Side::Outgoing, Side::Incoming] {
            if self.conn(side).is_some() {
                self.notify(side, &Notification::cease(cease::REJECTED));
                self.close(side);
            }
        }
        self.waiting = true;
        self.set_timer(TimerKind::Connect, now.plus_secs(u64::from(self.error_wait_secs)));
    }

    // --- tools ---

    fn neighbor_is_graceful(&self) -> bool {
        self.negotiated.as_ref().is_some_and(|n| !n.graceful.is_empty())
    }

    pub(super) fn note_error(&mut self, class: &'static str, text: String) {
        self.last_error = Some(LastError { class, text });
    }

    fn set_timer(&mut self, kind: TimerKind, at: Time) {
        match kind {
            TimerKind::Hold(_) => self.hold_deadline = Some(at),
            TimerKind::Keepalive(_) => self.keepalive_deadline = Some(at),
            _ => {}
        }
        self.out.push(Output::SetTimer(kind, at));
    }

    pub(super) fn restart_hold(&mut self, now: Time, side: Side) {
        match self.conn(side).map_or(0, |c| c.hold_secs) {
            0 => self.out.push(Output::ClearTimer(TimerKind::Hold(side))),
            secs => self.set_timer(TimerKind::Hold(side), now.plus_secs(u64::from(secs))),
        }
    }

    pub(super) fn send_keepalive(&mut self, now: Time, side: Side) {
        self.out.push(Output::Send(side, bird_wire::keepalive()));
        let secs = self.conn(side).map_or(0, |c| c.keepalive_secs);
        if secs > 0 {
            self.set_timer(TimerKind::Keepalive(side), now.plus_secs(u64::from(secs)));
        }
    }

    pub(super) fn notify(&mut self, side: Side, notification: &Notification) {
        // Before TCP stands there is nobody to tell.
        if self.conn(side).is_some_and(|c| c.state != ConnState::Connect) {
            let message = Message::Notification(notification.clone()).encode(&Context::default());
            self.out.push(Output::Send(side, message));
        }
    }

    pub(super) fn close(&mut self, side: Side) {
        self.drop_conn(side);
    }

    fn drop_conn(&mut self, side: Side) {
        if self.conn(side).is_some() {
            self.out.push(Output::Close(side));
        }
        self.forget(side);
    }

    fn forget(&mut self, side: Side) {
        self.out.push(Output::ClearTimer(TimerKind::Hold(side)));
        self.out.push(Output::ClearTimer(TimerKind::Keepalive(side)));
        match side {
            Side::Outgoing => {
                self.out.push(Output::ClearTimer(TimerKind::Retry));
                self.outgoing = None;
            }
            Side::Incoming => self.incoming = None,
        }
    }
}

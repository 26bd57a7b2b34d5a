//! What goes into a session, what comes out, and the names of its parts.

use std::net::{IpAddr, Ipv4Addr};

use bird_wire::{DecodeError, Family, Message, RefreshKind, Update};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::open::Negotiated;
use crate::config::BgpConfig;
use crate::time::Time;

/// Which of the two possible connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The one we opened.
    Outgoing,
    /// The one the neighbour opened.
    Incoming,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// Timers of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TimerKind {
    /// Until the next connection attempt, or the end of the wait after an error.
    Connect,
    /// Until a connection attempt is given up.
    Retry,
    /// Until the neighbour counts as dead.
    Hold(Side),
    /// Until the next KEEPALIVE.
    Keepalive(Side),
    /// Until routes kept for a restarting neighbour are dropped.
    Stale,
}

/// States of one connection, by their names in RFC 4271.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnState {
    /// The TCP connection is being made.
    Connect,
    /// Our OPEN is sent.
    OpenSent,
    /// Both OPENs are exchanged.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// What a session is told.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// End, with the Cease subcode to send; `None` closes without a NOTIFICATION, so that a neighbour that
    /// supports graceful restart keeps our routes.
    Stop(Option<u8>),
    /// A timer ran out.
    Timer(TimerKind),
    /// A connection stands; with our address on it.
    Connected(Side, IpAddr),
    /// The connection failed or was closed; with the reason as the system names it.
    Closed(Side, String),
    /// A message, or what is wrong with it.
    Message(Side, Result<Message, DecodeError>),
}

/// Why a session went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// The neighbour is expected back: keep its routes (RFC 4724 section 4.2).
    Graceful,
    /// Drop its routes.
    Hard,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Open the outgoing connection.
    Connect,
    /// Write to a connection.
    Send(Side, Bytes),
    /// Close a connection once everything written is out.
    Close(Side),
    /// Start a timer, replacing it when it runs.
    SetTimer(TimerKind, Time),
    /// Stop a timer.
    ClearTimer(TimerKind),
    /// The session is up.
    Established(Box<Negotiated>),
    /// The session is down.
    Down(Down),
    /// Routes from the neighbour.
    Update(Box<Update>),
    /// The neighbour wants, begins or ends a refresh of a family.
    Refresh(Family, RefreshKind),
    /// Stale routes have waited long enough.
    StaleExpired,
    /// A message for the log.
    Log(String),
    /// The configuration wants the protocol disabled after an error.
    Disable,
}

/// What a session needs to know besides its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Its configuration.
    pub bgp: BgpConfig,
    /// Our identifier.
    pub router_id: Ipv4Addr,
    /// Families of its channels, with whether several paths are received and sent.
    pub families: Vec<(Family, (bool, bool))>,
    /// Families whose channel takes part in graceful restart.
    pub graceful: Vec<Family>,
}

/// The last error, as `show protocols` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// "Received", "BGP Error", "Socket", …
    pub class: &'static str,
    /// The message.
    pub text: String,
}

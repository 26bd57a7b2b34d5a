//! NOTIFICATION: error codes of RFC 4271 section 4.5 and RFC 4486, with the names an operator knows them by.

use std::fmt;

/// One NOTIFICATION message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code (1 header, 2 OPEN, 3 UPDATE, 4 hold timer, 5 state machine, 6 Cease, 7 ROUTE-REFRESH).
    pub code: u8,
    /// Subcode; its meaning depends on the code.
    pub subcode: u8,
    /// Diagnostic bytes.
    pub data: Vec<u8>,
}

/// Subcodes of Cease (RFC 4486).
pub mod cease {
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// The peer is no longer configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// The connection was refused.
    pub const REJECTED: u8 = 5;
    /// Configuration changed in a way that needs a new session.
    pub const CONFIG_CHANGE: u8 = 6;
    /// Lost the connection collision (RFC 4271 section 6.8).
    pub const COLLISION: u8 = 7;
    /// The prefix limit was reached.
    pub const PREFIX_LIMIT: u8 = 1;
}

/// Subcodes of an OPEN error (RFC 4271 section 6.2).
pub mod open_error {
    /// The peer's AS is not the configured one.
    pub const BAD_PEER_AS: u8 = 2;
    /// The identifier is zero or, on an internal session, our own.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// Hold time of one or two seconds.
    pub const HOLD_TIME: u8 = 6;
    /// A capability the configuration demands is missing (RFC 5492).
    pub const CAPABILITY: u8 = 7;
}

impl Notification {
    /// A NOTIFICATION without data.
    #[must_use]
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// The hold timer ran out.
    #[must_use]
    pub fn hold_timer_expired() -> Self {
        Self::new(4, 0)
    }

    /// Cease with a subcode of [`cease`].
    #[must_use]
    pub fn cease(subcode: u8) -> Self {
        Self::new(6, subcode)
    }

    /// The name of the error as BIRD prints it in `show protocols`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "Connection not synchronized",
            (1, 2) => "Bad message length",
            (1, 3) => "Bad message type",
            (1, _) => "Invalid message header",
            (2, 1) => "Unsupported version number",
            (2, 2) => "Bad peer AS",
            (2, 3) => "Bad BGP identifier",
            (2, 4) => "Unsupported optional parameter",
            (2, 5) => "Authentication failure",
            (2, 6) => "Unacceptable hold time",
            (2, 7) => "Required capability missing",
            (2, 8) => "No supported AFI/SAFI",
            (2, _) => "Invalid OPEN message",
            (3, 1) => "Malformed attribute list",
            (3, 2) => "Unrecognized well-known attribute",
            (3, 3) => "Missing mandatory attribute",
            (3, 4) => "Invalid attribute flags",
            (3, 5) => "Invalid attribute length",
            (3, 6) => "Invalid ORIGIN attribute",
            (3, 7) => "AS routing loop",
            (3, 8) => "Invalid NEXT_HOP attribute",
            (3, 9) => "Optional attribute error",
            (3, 10) => "Invalid network field",
            (3, 11) => "Malformed AS_PATH",
            (3, _) => "Invalid UPDATE message",
            (4, _) => "Hold timer expired",
            (5, 1) => "Unexpected message in OpenSent state",
            (5, 2) => "Unexpected message in OpenConfirm state",
            (5, 3) => "Unexpected message in Established state",
            (5, _) => "Finite state machine error",
            (6, 1) => "Maximum number of prefixes reached",
            (6, 2) => "Administrative shutdown",
            (6, 3) => "Peer de-configured",
            (6, 4) => "Administrative reset",
            (6, 5) => "Connection rejected",
            (6, 6) => "Other configuration change",
            (6, 7) => "Connection collision resolution",
            (6, 8) => "Out of Resources",
            (6, 9) => "Hard reset",
            (6, 10) => "BFD session down",
            (6, _) => "Cease",
            (7, _) => "Invalid ROUTE-REFRESH message",
            _ => "Unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

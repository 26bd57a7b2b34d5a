//! One BGP session: the state machine of RFC 4271 section 8 with both of its possible connections.
//!
//! In: [`Input`]s (timers, connections, messages) with the time. Out: [`Output`]s in order. Always holds: at most
//! one connection is Established; each connection closed after an OPEN was exchanged got a NOTIFICATION unless the
//! close is part of a graceful restart; a closed connection is never written to again.
//! Left out: routes. Updates pass through; which routes to send is for the protocol.

mod collision;
mod open;
mod state;
mod types;

pub use open::Negotiated;
pub use state::Session;
pub use types::{ConnState, Down, Input, LastError, Output, SessionConfig, Side, TimerKind};

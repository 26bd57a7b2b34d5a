//! The BGP daemon's decisions, without its sockets: configuration, filters, sessions, routing tables, protocols.
//!
//! In: [`Event`]s with the time. Out: [`Action`]s. [`Engine::step`] is the one entry. Always holds: no clock, no
//! runtime and no I/O in here, so the same events give the same actions, live, in a test, or replayed from a file.
//!
//! ```text
//!  bird.cfg ─▶ config ─▶ engine ─▶ protocol::{static, direct, kernel, bgp}
//!                           │             │ import filter           ▲ export filter
//!   events ─▶ session ──────┘             ▼                         │
//!                                      rib: table ─▶ best path ─▶ propagate ─▶ actions
//! ```

pub mod cli;
pub mod config;
mod engine;
mod event;
pub mod filter;
mod interface;
mod protocol;
pub mod rib;
pub mod session;
mod time;

pub use engine::{Engine, Options};
pub use event::{
    Action, Command, ConnId, Connect, Event, KernelChange, KernelDest, KernelHop, KernelRoute, Listen,
    ProtoAction, Timer,
};
pub use interface::{Interface, InterfaceAddress, Interfaces};
pub use time::Time;

/// Protocol number of our routes in the kernel (`bird` in iproute2's rt_protos).
pub const KERNEL_PROTOCOL: u8 = 12;

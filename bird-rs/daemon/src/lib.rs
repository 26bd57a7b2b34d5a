//! The shell around `bird-core`: sockets, timers, kernel routes, control socket, files.
//!
//! ```text
//!  sockets ──▶ connection tasks ──┐                       ┌──▶ connection tasks ──▶ sockets
//!  kernel  ──▶ monitor ───────────┤   bounded             ├──▶ netlink ──▶ kernel
//!  clients ──▶ control tasks ─────┼──▶ queue ──▶ Daemon ──┼──▶ replies ──▶ clients
//!  signals, timers ───────────────┘             (engine)  └──▶ timers
//! ```
//!
//! Always holds: one thread, one owner of the engine; everything that happens reaches it through one bounded queue
//! (senders wait when it is full), and it writes to a neighbour only as fast as the neighbour reads.

pub mod cli;
mod connection;
mod control;
mod daemon;
mod listener;
mod logging;
mod monitor;
mod netlink;
mod record;
mod socket;
mod source;
mod timers;

pub use control::greeting;
pub use daemon::run;
pub use record::replay;
pub use source::{check, load};

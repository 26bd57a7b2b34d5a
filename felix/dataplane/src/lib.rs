//! Felix's dataplane: makes the kernel do what the calculation says.
//!
//! In: ordered messages ([`felix_message`]) and the kernel's own notifications. Out: nf_tables, routes, interface
//! settings. Always holds: see [`apply`], the one cycle. No runtime, no datastore, no configuration files.
//!
//! - [`config`]: what it is configured with.
//! - [`rule`], [`render`]: chains and rules, purely.
//! - [`managers`]: messages to desired state.
//! - [`driver`]: desired state to kernel changes.
//! - [`kernel`]: the only syscalls.
//! - [`conntrack`]: removes connections that must not go on; [`counters`]: how often rules matched.
//! - [`status`]: which endpoints are up; [`tally`]: how often the kernel was asked.
//! - [`apply`]: the cycle; [`worker`]: the thread that runs it.

pub mod apply;
pub mod config;
pub mod conntrack;
pub mod counters;
pub mod driver;
pub mod interfaces;
pub mod kernel;
pub mod managers;
pub mod render;
pub mod rule;
pub mod status;
pub mod tally;
pub mod worker;

pub use apply::Dataplane;
pub use config::Config;

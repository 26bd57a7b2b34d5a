//! The protocols: where routes come from and where they go.
//!
//! Each file adds to the engine what one protocol does when its input changes. Always holds: a protocol only ever
//! touches routes it brought itself, and what it brings is a function of its configuration and its input now.

mod bgp;
mod bgp_export;
mod bgp_import;
mod direct;
mod kernel;
mod statics;

pub(crate) use bgp::{Bgp, session_config};
pub(crate) use kernel::Kernel;

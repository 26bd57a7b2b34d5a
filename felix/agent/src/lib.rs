//! Felix's agent: configuration and life cycle around the calculation and the dataplane.
//!
//! - [`config`]: parameters from file, environment and datastore.
//! - [`pipeline`]: the wiring, with its picture.
//! - [`dataplane`]: the dataplane's thread and what goes along with it.
//! - [`status`]: what others are told of endpoints; [`flows`]: cuts flows that policy denies by now.
//! - [`source`]: where updates come from: Typha or the datastore.
//! - [`recorder`]: writes the input down.
//! - [`control`]: the socket that `dump` asks.
//! - [`metrics`], [`rule_counters`], [`tallies`], [`health`]: what is told about all of it.

pub mod config;
pub mod control;
pub mod dataplane;
pub mod flows;
pub mod health;
pub mod metrics;
pub mod pipeline;
pub mod recorder;
pub mod rule_counters;
pub mod source;
pub mod status;
pub mod tallies;

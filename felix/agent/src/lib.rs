//! Felix's agent: configuration and life cycle around the calculation and the dataplane.
//!
//! - [`config`]: parameters from file, environment and datastore.
//! - [`pipeline`]: the wiring, with its picture.
//! - [`source`]: where updates come from: Typha or the datastore.
//! - [`recorder`]: writes the input down.
//! - [`control`]: the socket that `dump` asks.
//! - [`metrics`], [`health`]: what is told about all of it.

pub mod config;
pub mod control;
pub mod health;
pub mod metrics;
pub mod pipeline;
pub mod recorder;
pub mod source;

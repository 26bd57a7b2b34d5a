//! Felix's agent: configuration and life cycle around the calculation and the dataplane.

pub mod config;

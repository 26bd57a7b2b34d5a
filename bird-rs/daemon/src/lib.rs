//! bird-rs

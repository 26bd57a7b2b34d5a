//! bird-wire

//! bird-core

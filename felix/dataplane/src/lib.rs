//! felix-dataplane

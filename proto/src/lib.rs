//! calico-proto

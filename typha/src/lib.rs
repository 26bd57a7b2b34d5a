//! calico-typha

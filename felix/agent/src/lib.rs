//! calico-felix

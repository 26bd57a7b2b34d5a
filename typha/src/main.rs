//! calico-typha

fn main() {}

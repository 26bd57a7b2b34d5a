//! calico-node

fn main() {}

//! calico-felix

fn main() {}

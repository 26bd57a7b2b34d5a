//! calicoctl

fn main() {}

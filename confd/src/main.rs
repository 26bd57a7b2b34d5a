//! confd

fn main() {}

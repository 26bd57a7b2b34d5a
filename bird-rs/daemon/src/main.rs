//! bird-rs

fn main() {}

//! virtctl

fn main() {}

//! container-disk

fn main() {}

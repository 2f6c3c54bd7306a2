//! edgevirt-bin

fn main() {}

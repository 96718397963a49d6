//! The `alch` binary.
fn main() {}

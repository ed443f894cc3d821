//! authspike.
fn main() {}

//! Secretaria.
fn main() {}

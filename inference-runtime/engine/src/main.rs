//! `afterglow-engine`: the doorway.
fn main() {}

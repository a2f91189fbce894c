//! Flags, then `app::run`.

fn main() {}

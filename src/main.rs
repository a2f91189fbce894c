//! Flags, then `app::run`.

use std::process::ExitCode;

/// Gives memory back after a dear query or a flush, where glibc's keeps it:
/// docs/adr/0011-the-hot-path-of-remote-write.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trilith::app::main(std::env::args_os())
}

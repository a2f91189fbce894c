//! Flags, then `app::run`.

use std::process::ExitCode;

/// Gives memory back soon after a dear query or a flush: docs/adr/0021-jemalloc.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    trilith::app::main(std::env::args_os())
}

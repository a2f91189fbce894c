//! Flags, then `app::run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trilith::app::main(std::env::args_os())
}

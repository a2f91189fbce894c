//! Wiring: configuration, listeners, router, background tasks, shutdown.
//! Flow: `run` takes the data directory, binds every listener, answers health checks at once, opens
//! the store behind them and lets requests through when its replay is done.
//! Locks: none of its own; `Readiness` is atomics and once-cells.

mod admin;
mod answers;
mod astray;
mod body;
mod check_config;
mod command;
pub mod config;
mod connections;
mod data_dir;
mod greeting;
mod host;
mod listen;
mod listener;
mod memory;
mod metrics;
mod opening;
mod rates;
mod readiness;
mod reply;
mod router;
mod server;
mod services;
mod stall;
mod state;
mod status;
mod telemetry;
pub mod transfer;
mod user;

pub use command::main;
pub use listener::Addresses;
pub use server::{RunError, Server, run, run_on};
pub use telemetry::Telemetry;
pub use user::RunAs;

//! `trilith import` and `trilith export`: data from files to a running server and back, over HTTP.
//! The server stays the only one who writes its data directory, so nothing has to be stopped, and a
//! server far away will do. What was sent before is kept once: to begin again after an interruption,
//! run the same command again.

mod blocks;
mod commands;
mod http;
mod order;

pub use self::commands::{export, import};
pub use self::order::{Kind, Transfer, TransferError};

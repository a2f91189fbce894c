//! What clients see: one folder per dialect, each with its table of endpoints. Paths in a table
//! are relative to the dialect's base; `app::router` decides where bases lie.

// In order: a file imports only from files above it. `traces` is what Tempo's and Jaeger's dialects share.
pub mod server_info;

mod flows;
mod places;

mod context;
mod endpoint;
mod error;
mod form;
mod json;
mod stream;
mod traces;

pub mod jaeger;
pub mod loki;
pub mod prometheus;
pub mod tempo;

pub use context::{Context, on_behalf_of};
pub use endpoint::{Endpoint, routes};
pub use flows::Flows;
pub use places::{Asker, Places};

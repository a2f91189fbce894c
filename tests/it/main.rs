//! The one integration-test binary; a module per subject.
#![expect(clippy::unwrap_used, reason = "a test that fails to unwrap has failed")]

mod agents;
mod architecture;
mod bodies;
mod crash;
mod docker_files;
mod docs;
mod doors;
mod endpoints;
mod fixtures;
mod hostile;
mod logql_store;
mod metrics_store;
mod nothing;
mod power;
mod program;
mod receive;
mod smoke;
mod trace_api;
mod traceql;
mod vec_traces;

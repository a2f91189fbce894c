//! The one integration-test binary; a module per subject.
#![expect(clippy::unwrap_used, reason = "a test that fails to unwrap has failed")]

#[path = "../support/mod.rs"]
mod support;

mod admin_api;
mod agents;
mod architecture;
mod astray;
mod attacks;
mod began;
mod blocks;
mod bodies;
mod budget;
mod circles;
mod compose;
mod crash;
mod docker_files;
mod docs;
mod doors;
mod endpoints;
mod explorer;
mod faults;
mod fixtures;
mod full_disk;
mod grafana;
mod hostile;
mod jaeger_api;
mod logql_store;
mod memory;
mod metrics_damage;
mod metrics_model;
mod metrics_store;
mod midway;
mod opening;
mod order;
mod passing;
mod plugins;
mod power;
mod power_merge;
mod program;
mod raw_write;
mod receive;
mod remote_read;
mod shapes;
mod shop;
mod slow_bodies;
mod slow_query;
mod smoke;
mod smoke_bases;
mod smoke_streams;
mod smoke_traces;
mod stalled;
mod text;
mod trace_api;
mod traceql;
mod vec_traces;

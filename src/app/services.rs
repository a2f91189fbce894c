//! What answers requests once the store is open: the way in, the engine of queries, and the tables
//! of `receive` and `api` over them.

use std::sync::Arc;

use crate::api;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::memory::MemoryBudget;
use crate::ingest::{self, Ingestor};
use crate::query::{self, Engine};
use crate::receive;
use crate::store::metrics::keep::Rule;
use crate::store::stores::{Retention, Store};

/// Everything between the listeners and the store; cheap to clone.
#[derive(Clone)]
pub(super) struct Services {
    /// The store.
    pub(super) store: Arc<Store>,
    /// The one way in.
    pub(super) ingestor: Arc<Ingestor>,
    /// What receivers need.
    pub(super) receive: receive::State,
    /// What query endpoints need.
    pub(super) api: api::Context,
    /// Memory of answers that wait for their clients.
    pub(super) answers: Arc<MemoryBudget>,
}

/// Share of the account of memory that all running queries have together.
const QUERIES_SHARE: u64 = 3;
/// The share of answers that wait for their clients.
const ANSWERS_SHARE: u64 = 4;

/// Answers that clients may be reading at the same time, for each query that may run.
const FLOWS_PER_QUERY: usize = 4;

/// Bytes that all running queries may have together.
pub(super) fn queries_bytes_max(memory: &MemoryBudget) -> u64 {
    memory.limit() / QUERIES_SHARE
}

impl Services {
    /// Puts the parts together over an open store. `memory` is the account of the whole process.
    pub(super) fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        counters: &Counters,
        retention: Retention,
        memory: &Arc<MemoryBudget>,
        limits: query::Options,
        server_info: api::server_info::ServerInfo,
    ) -> Self {
        let options = ingest::Options {
            retention_metrics: Arc::new(store.retention_metrics()),
            retention_logs: retention.logs,
            retention_traces: retention.traces,
            ..ingest::Options::default()
        };
        let (metrics, logs, traces) = (store.metrics.clone(), store.logs.clone(), store.traces.clone());
        let ingestor =
            Arc::new(Ingestor::new(options, metrics.clone(), logs.clone(), traces.clone(), clock.clone(), counters));
        ingestor.keep_by(store.clock());
        let api = api::Context {
            metrics,
            logs,
            traces,
            places: api::Places::new(limits.concurrency),
            flows: api::Flows::new(FLOWS_PER_QUERY * limits.concurrency),
            engine: Engine::new(limits, Some(memory.share("queries", queries_bytes_max(memory)))),
            clock,
            counters: counters.clone(),
            server_info,
            retention_logs: retention.logs,
        };
        let receive = receive::State::new(receive::Options::default(), ingestor.clone(), counters, memory);
        let answers = memory.share("answers", memory.limit() / ANSWERS_SHARE);
        Self { store, ingestor, receive, api, answers }
    }

    /// Changes how long data is kept, and how old it may be when it comes. The hint that Loki's label
    /// endpoints give to Grafana stays until a restart.
    pub(super) fn set_retention(&self, retention: Retention, rules: Vec<Rule>) {
        self.store.set_retention(retention);
        self.store.set_rules(rules);
        self.ingestor.set_retention(self.store.retention_metrics(), retention.logs, retention.traces);
    }
}

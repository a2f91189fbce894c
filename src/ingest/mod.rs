//! The one door in: every sample, line and span passes [`Ingestor`] on its way to the store.
//! Flow: gate → admit by time and size → enrich (logs) → accumulate deltas (metrics) → append → count.
//! Invariants: one bad item never makes good ones fail; on an error nothing is counted as taken, and
//! sending the same again is harmless.
//! Locks: the delta accumulator's, held over the append of a batch that has deltas.

mod admit;
mod delta;
mod in_text;
mod level;
mod options;
mod service;
mod type_unit;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::admit::Window;
use self::delta::Accumulator;
pub use self::options::Options;
use crate::base::clock::Clock;
use crate::base::counters::{Cell, Counters};
use crate::base::error::{Classify, ErrorClass};
use crate::model::batch::{Appended, LogsBatch, MetricsBatch, Rejections, Signal, TracesBatch};
use crate::model::raw::{ParseLabels, RawMetrics};
use crate::store::metrics::keep::Retention;
use crate::store::{AppendLogs, AppendMetrics, AppendTraces, StoreError};

/// Why a whole batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The server is starting or stopping.
    #[error("the server is {0}; retry")]
    Closed(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for IngestError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Closed(_) => ErrorClass::Unavailable,
            Self::Store(error) => error.class(),
        }
    }
}

/// Where batches go. Synchronous: from async code call it on a blocking thread.
pub struct Ingestor {
    options: RwLock<Options>,
    metrics: Arc<dyn AppendMetrics>,
    logs: Arc<dyn AppendLogs>,
    traces: Arc<dyn AppendTraces>,
    clock: Arc<dyn Clock>,
    /// The clock that stored data is kept by, where it is another.
    kept_by: OnceLock<Arc<dyn Clock>>,
    counters: Counters,
    taken: [Cell; 3],
    exemplars: Cell,
    closed: Mutex<Option<&'static str>>,
    deltas: Mutex<Accumulator>,
}

impl Ingestor {
    /// An open door to the three stores.
    pub fn new(
        options: Options,
        metrics: Arc<dyn AppendMetrics>,
        logs: Arc<dyn AppendLogs>,
        traces: Arc<dyn AppendTraces>,
        clock: Arc<dyn Clock>,
        counters: &Counters,
    ) -> Self {
        let taken = [
            counters.counter("trilith_ingested_samples_total", "Samples stored, histograms included.", &[]),
            counters.counter("trilith_ingested_lines_total", "Log lines stored.", &[]),
            counters.counter("trilith_ingested_spans_total", "Spans stored.", &[]),
        ];
        let exemplars = counters.counter("trilith_ingested_exemplars_total", "Exemplars stored.", &[]);
        let deltas = Mutex::new(Accumulator::new(options.delta_series_max, options.delta_idle));
        let (counters, closed) = (counters.clone(), Mutex::new(None));
        let options = RwLock::new(options);
        let kept_by = OnceLock::new();
        Self { options, metrics, logs, traces, clock, kept_by, counters, taken, exemplars, closed, deltas }
    }

    /// Has the age of items go by the clock that stored data is kept by, when that is behind: what the
    /// store would keep is not refused for a clock that has jumped ahead. The first call counts.
    pub fn keep_by(&self, clock: Arc<dyn Clock>) {
        let _ = self.kept_by.set(clock);
    }

    fn window(&self, signal: Signal) -> Window {
        let now = self.clock.now_ns();
        let kept_now = self.kept_by.get().map_or(now, |clock| clock.now_ns().min(now));
        Window::new(&self.options.read(), signal, now, kept_now)
    }

    /// Refuses everything from now on as unavailable; `why` completes "the server is ...".
    pub fn close(&self, why: &'static str) {
        *self.closed.lock() = Some(why);
    }

    /// Changes how old an item may be, from the next batch on; `None` is any age.
    pub fn set_retention(&self, metrics: Retention, logs: Option<Duration>, traces: Option<Duration>) {
        let mut options = self.options.write();
        options.retention_metrics = Arc::new(metrics);
        options.retention_logs = logs;
        options.retention_traces = traces;
    }

    /// Whether series get `__type__` and `__unit__` from metadata that comes with them, from the next
    /// batch on.
    pub fn set_type_and_unit_labels(&self, on: bool) {
        self.options.write().type_and_unit_labels = on;
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Takes data again.
    pub fn open(&self) {
        *self.closed.lock() = None;
    }

    /// Stores samples.
    ///
    /// # Errors
    /// [`IngestError`] of class `Unavailable`: the sender should retry.
    pub fn push_metrics(&self, batch: MetricsBatch) -> Result<Appended, IngestError> {
        self.push_metrics_with_deltas(batch, &[])
    }

    /// Stores samples; those of the series at the positions `deltas` (ascending) are differences to
    /// the sample before, as OTLP's delta temporality has it, and are summed up first.
    ///
    /// # Errors
    /// [`IngestError`] of class `Unavailable`: the sender should retry.
    pub fn push_metrics_with_deltas(&self, mut batch: MetricsBatch, deltas: &[usize]) -> Result<Appended, IngestError> {
        self.check_gate()?;
        if self.options.read().type_and_unit_labels {
            type_unit::mark(&mut batch);
        }
        let mut rejected = Rejections::default();
        let window = self.window(Signal::Metrics);
        admit::metrics(&mut batch, &window, &mut rejected);
        let appended = if deltas.is_empty() {
            batch.series.retain(admit::holds_something);
            self.append_metrics(&batch)?
        } else {
            let mut accumulator = self.deltas.lock();
            let staged = accumulator.apply(&mut batch, deltas, self.clock.now_ms(), &mut rejected);
            batch.series.retain(admit::holds_something);
            let appended = self.append_metrics(&batch)?;
            accumulator.commit(staged);
            appended
        };
        self.exemplars.add(appended.exemplars);
        Ok(self.finish(Signal::Metrics, appended, rejected))
    }

    /// Stores samples whose labels have not been read; `parse` reads those that have to be.
    ///
    /// # Errors
    /// [`IngestError`] of class `Unavailable`: the sender should retry.
    pub fn push_raw(&self, mut raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Result<Appended, IngestError> {
        if self.options.read().type_and_unit_labels && !raw.rest.metadata.is_empty() {
            return self.push_read(raw, parse);
        }
        self.check_gate()?;
        let mut rejected = Rejections::default();
        let window = self.window(Signal::Metrics);
        admit::raw(&mut raw, parse, &window, &mut rejected);
        let rest = &mut raw.rest;
        admit::metrics(rest, &window, &mut rejected);
        rest.series.retain(admit::holds_something);
        let nothing = raw.times.is_empty() && rest.series.is_empty() && rest.metadata.is_empty();
        let appended = if nothing { Appended::default() } else { self.metrics.append_raw(raw, parse)? };
        self.exemplars.add(appended.exemplars);
        Ok(self.finish(Signal::Metrics, appended, rejected))
    }

    /// Stores samples after all labels have been read.
    fn push_read(&self, raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Result<Appended, IngestError> {
        let (batch, refused) = raw.read(parse);
        let mut appended = self.push_metrics(batch)?;
        let mut rejected = Rejections::default();
        for ((reason, text), samples) in refused {
            rejected.add(reason, samples.max(1) as u64, || text);
        }
        self.count_rejected(Signal::Metrics, &rejected);
        appended.rejected.merge(rejected);
        Ok(appended)
    }

    fn append_metrics(&self, batch: &MetricsBatch) -> Result<Appended, StoreError> {
        if batch.series.is_empty() && batch.metadata.is_empty() {
            return Ok(Appended::default());
        }
        self.metrics.append(batch)
    }

    /// Stores lines.
    ///
    /// # Errors
    /// [`IngestError`] of class `Unavailable`: the sender should retry.
    pub fn push_logs(&self, mut batch: LogsBatch) -> Result<Appended, IngestError> {
        self.check_gate()?;
        let mut rejected = Rejections::default();
        let window = self.window(Signal::Logs);
        admit::logs(&mut batch, &window, &mut rejected);
        let detect_level = self.options.read().detect_level;
        for stream in &mut batch.streams {
            service::name_stream(stream);
            if detect_level {
                level::mark_lines(stream);
            }
        }
        let appended = if batch.streams.is_empty() { Appended::default() } else { self.logs.append(&batch)? };
        Ok(self.finish(Signal::Logs, appended, rejected))
    }

    /// Stores spans.
    ///
    /// # Errors
    /// [`IngestError`] of class `Unavailable`: the sender should retry.
    pub fn push_traces(&self, mut batch: TracesBatch) -> Result<Appended, IngestError> {
        self.check_gate()?;
        let mut rejected = Rejections::default();
        let window = self.window(Signal::Traces);
        admit::traces(&mut batch, &window, &mut rejected);
        let appended = if batch.spans.is_empty() { Appended::default() } else { self.traces.append(&batch)? };
        Ok(self.finish(Signal::Traces, appended, rejected))
    }

    /// Counts what a receiver refused before it came here.
    pub fn count_rejected(&self, signal: Signal, rejected: &Rejections) {
        for (reason, refused) in rejected.iter() {
            let labels = [("signal", signal.name()), ("reason", reason)];
            let help = "Samples, lines and spans refused.";
            self.counters.counter("trilith_rejected_total", help, &labels).add(refused.count);
        }
    }

    fn check_gate(&self) -> Result<(), IngestError> {
        match *self.closed.lock() {
            Some(why) => Err(IngestError::Closed(why)),
            None => Ok(()),
        }
    }

    fn finish(&self, signal: Signal, mut appended: Appended, rejected: Rejections) -> Appended {
        let [samples, lines, spans] = &self.taken;
        let taken = match signal {
            Signal::Metrics => samples,
            Signal::Logs => lines,
            Signal::Traces => spans,
        };
        taken.add(appended.accepted);
        appended.rejected.merge(rejected);
        self.count_rejected(signal, &appended.rejected);
        appended
    }
}

#[cfg(test)]
mod tests;

//! What a receiver hands to `ingest`: the decoded content of one request.

use std::collections::BTreeMap;

use super::exemplar::Exemplar;
use super::labels::Labels;
use super::log::LogEntry;
use super::sample::{HistogramSample, Sample};
use super::span::Span;

/// One of the three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Samples of series.
    Metrics,
    /// Lines of streams.
    Logs,
    /// Spans of traces.
    Traces,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// Lower-case name, as in flags, folders and counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

/// Samples of one series.
#[derive(Clone, Debug, Default)]
pub struct SeriesBatch {
    /// Who the series is, `__name__` included.
    pub labels: Labels,
    /// Float samples, in the order sent.
    pub samples: Vec<Sample>,
    /// When counting began, for each float sample, milliseconds since the Unix epoch, 0 where not
    /// known; empty when known of none.
    pub starts: Vec<i64>,
    /// Native histogram samples, in the order sent.
    pub histograms: Vec<HistogramSample>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// What a metric is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricMetadata {
    /// Name of the metric family.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or `unknown`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Its unit; may be empty.
    pub unit: String,
}

/// Metrics of one request.
#[derive(Clone, Debug, Default)]
pub struct MetricsBatch {
    /// Series and their samples; a series may come more than once.
    pub series: Vec<SeriesBatch>,
    /// Metadata of metric families.
    pub metadata: Vec<MetricMetadata>,
}

impl MetricsBatch {
    /// Float and histogram samples in all.
    pub fn samples(&self) -> usize {
        self.series.iter().map(|series| series.samples.len() + series.histograms.len()).sum()
    }
}

/// Lines of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamBatch {
    /// Who the stream is.
    pub labels: Labels,
    /// Its lines, in the order sent.
    pub entries: Vec<LogEntry>,
}

/// Logs of one request.
#[derive(Clone, Debug, Default)]
pub struct LogsBatch {
    /// Streams and their lines; a stream may come more than once.
    pub streams: Vec<StreamBatch>,
}

/// Spans of one request.
#[derive(Clone, Debug, Default)]
pub struct TracesBatch {
    /// The spans.
    pub spans: Vec<Span>,
}

/// What was not taken of a request whose rest was, and why.
#[derive(Clone, Debug, Default)]
pub struct Rejections {
    reasons: BTreeMap<&'static str, Rejected>,
}

/// What was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Samples, lines or spans.
    pub count: u64,
    /// The first of them, for the sender.
    pub example: String,
    /// The metric or stream that it is of; empty where that is not known.
    pub name: String,
}

/// Characters of the name of what was refused that are kept.
const NAME_CHARS_MAX: usize = 200;

/// The first of what is refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    text: String,
    name: String,
}

impl Example {
    /// Of the metric or stream `name`, which is cut where it is very long.
    pub fn of(name: &str, text: String) -> Self {
        Self { text, name: name.chars().take(NAME_CHARS_MAX).collect() }
    }
}

impl From<String> for Example {
    /// Of nothing that has a name.
    fn from(text: String) -> Self {
        Self { text, name: String::new() }
    }
}

impl Rejections {
    /// Counts `count` refused items. `reason` is a fixed word such as `too_far_in_future`, also a
    /// label of `/metrics`; `example` is made only for the first of its reason.
    pub fn add<E: Into<Example>>(&mut self, reason: &'static str, count: u64, example: impl FnOnce() -> E) {
        if count == 0 {
            return;
        }
        self.reasons.entry(reason).and_modify(|rejected| rejected.count += count).or_insert_with(|| {
            let Example { text, name } = example().into();
            Rejected { count, example: text, name }
        });
    }

    /// Takes over what `other` counted.
    pub fn merge(&mut self, other: Self) {
        for (reason, rejected) in other.reasons {
            self.add(reason, rejected.count, || Example { text: rejected.example, name: rejected.name });
        }
    }

    /// All reasons with what was refused for them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Rejected)> {
        self.reasons.iter().map(|(reason, rejected)| (*reason, rejected))
    }

    /// Items refused in all.
    pub fn count(&self) -> u64 {
        self.reasons.values().map(|rejected| rejected.count).sum()
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// One line for the sender: `3 too_old: sample of {..} at ..; 1 ...`. Empty when nothing was refused.
    pub fn summary(&self) -> String {
        let texts = self.iter().map(|(reason, rejected)| format!("{} {reason}: {}", rejected.count, rejected.example));
        texts.collect::<Vec<_>>().join("; ")
    }
}

/// What became of an append: how much is stored (and in the write-ahead log) and what was refused.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// Samples, lines or spans now stored.
    pub accepted: u64,
    /// Of them, histogram samples (metrics only).
    pub histograms: u64,
    /// Exemplars now stored (metrics only).
    pub exemplars: u64,
    /// What was refused.
    pub rejected: Rejections,
}

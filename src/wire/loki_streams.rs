//! The streams of a Loki push while they are decoded, whatever they are written in; OTLP logs use it too.
//! Bad streams and lines are refused and counted, the others are taken.

use std::borrow::Cow;

use super::Decoded;
use super::error::WireError;
use super::label_check::{Refusal, labels};
use super::limits::{Meter, Options};
use super::loki_labels;
use crate::model::batch::{LogsBatch, StreamBatch};
use crate::model::labels::Labels;
use crate::model::log::LogEntry;

/// A pair of structured metadata.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The streams of one push while they are decoded.
pub(super) struct Building<'a> {
    options: &'a Options,
    /// Whether a stream without any label is refused.
    needs_labels: bool,
    pub(super) meter: Meter,
    streams: usize,
    decoded: Decoded<LogsBatch>,
}

/// The batch is empty, which Loki answers with 422.
const NO_STREAMS: WireError = WireError::Empty("error at least one valid stream is required for ingestion");

impl<'a> Building<'a> {
    pub(super) fn new(options: &'a Options, body_bytes: usize) -> Self {
        Self { needs_labels: true, ..Self::with_meter(options, Meter::new(options, body_bytes)) }
    }

    /// For streams that need no label.
    pub(super) fn with_meter(options: &'a Options, meter: Meter) -> Self {
        Self { options, needs_labels: false, meter, streams: 0, decoded: Decoded::default() }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, count: u64) {
        refusal.count(&mut self.decoded.rejected, count);
    }

    /// Counts a line as refused when it has too many pairs of metadata.
    pub(super) fn refuses_pairs(&mut self, pairs: usize) -> bool {
        let limit = self.options.attributes_max;
        if pairs > limit {
            let text = format!("{pairs} pairs of structured metadata, over the limit of {limit}");
            self.refuse(Refusal::new("too_many_attributes", text), 1);
        }
        pairs > limit
    }

    /// Adds a line to `entries`, or counts it as refused.
    pub(super) fn entry(
        &mut self,
        t: i64,
        line: String,
        metadata: &[Pair<'_>],
        entries: &mut Vec<LogEntry>,
    ) -> Result<(), WireError> {
        // A level is added to each line later: room for it is counted here.
        self.meter.take(size_of::<LogEntry>() + 64)?;
        let options = Options { labels_max: self.options.attributes_max, ..*self.options };
        let metadata = match clean_metadata(metadata) {
            Ok(pairs) => {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
                labels(&pairs, &options, &mut self.meter)?
            }
            Err(refusal) => Err(refusal),
        };
        match metadata {
            Ok(metadata) => entries.push(LogEntry { t, line, metadata }),
            Err(refusal) => self.refuse(Refusal::new("invalid_metadata", refusal.text), 1),
        }
        Ok(())
    }

    /// Adds a stream with its lines, or counts them as refused. A stream without lines is fine.
    pub(super) fn stream(
        &mut self,
        pairs: Result<Vec<(&str, Cow<'_, str>)>, Refusal>,
        mut entries: Vec<LogEntry>,
    ) -> Result<(), WireError> {
        self.streams += 1;
        let labels = match pairs {
            Ok(pairs) => {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_ref())).collect();
                labels(&pairs, self.options, &mut self.meter)?
            }
            Err(refusal) => Err(refusal),
        };
        match labels {
            Err(refusal) => self.refuse(refusal, entries.len().max(1) as u64),
            Ok(_) if entries.is_empty() => {}
            Ok(labels) if labels.is_empty() && self.needs_labels => {
                let refusal = Refusal::new("missing_labels", "error at least one label pair is required per stream");
                self.refuse(refusal, entries.len() as u64);
            }
            Ok(labels) => {
                self.meter.take(size_of::<StreamBatch>())?;
                entries.iter_mut().for_each(|entry| rename_collisions(&labels, entry));
                self.decoded.batch.streams.push(StreamBatch { labels, entries });
            }
        }
        Ok(())
    }

    /// The batch, which may be empty.
    pub(super) fn into_decoded(self) -> Decoded<LogsBatch> {
        self.decoded
    }

    /// The batch; without any stream it is an error.
    pub(super) fn finish(self) -> Result<Decoded<LogsBatch>, WireError> {
        if self.streams == 0 { Err(NO_STREAMS) } else { Ok(self.decoded) }
    }
}

/// Gives metadata legal names; of equal ones the first stays.
fn clean_metadata<'a>(metadata: &'a [Pair<'a>]) -> Result<Vec<(Cow<'a, str>, &'a str)>, Refusal> {
    let mut pairs: Vec<(Cow<'a, str>, &'a str)> = Vec::with_capacity(metadata.len());
    for (name, value) in metadata {
        if name.is_empty() {
            return Err(Refusal::new("invalid_metadata", "structured metadata has an empty name"));
        }
        pairs.push((loki_labels::clean_name(name), value.as_ref()));
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|next, kept| next.0 == kept.0);
    Ok(pairs)
}

/// Metadata named like a label of the stream gets the suffix `_extracted`.
fn rename_collisions(labels: &Labels, entry: &mut LogEntry) {
    if entry.metadata.is_empty() || !entry.metadata.iter().any(|(name, _)| labels.get(name).is_some()) {
        return;
    }
    let mut pairs: Vec<(Cow<'_, str>, &str)> = entry
        .metadata
        .iter()
        .map(|(name, value)| match labels.get(name) {
            Some(_) => (Cow::Owned(format!("{name}_extracted")), value),
            None => (Cow::Borrowed(name), value),
        })
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|next, kept| next.0 == kept.0);
    let renamed = Labels::from_sorted(pairs.iter().map(|(name, value)| (name.as_ref(), *value)));
    entry.metadata = renamed;
}

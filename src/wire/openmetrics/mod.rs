//! OpenMetrics 1.0 and the Prometheus text format 0.0.4, read line by line, and OpenMetrics written.
//! Flow: [`Parser::feed`] takes pieces cut anywhere, [`Parser::take`] gives the batch so far, so that
//! a body of any length needs the memory of one batch. A line that is wrong is refused and counted,
//! the others are taken.
//! Spec: <https://prometheus.io/docs/specs/om/open_metrics_spec/>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names in quotes, as Prometheus 3
//! writes them, are taken too.

mod line;
pub mod write;

use self::line::{Exemplar as RawExemplar, Line, SampleLine};
use super::Decoded;
use super::error::{WireError, cut};
use super::label_check::{Refusal, labels, named};
use super::limits::{Meter, Options};
use crate::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::Sample;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// A batch of this many samples is full.
const BATCH_SAMPLES: usize = 20_000;
/// A batch of this many bytes of memory, about, is full.
const BATCH_BYTES: usize = 4 << 20;
/// Most labels' bytes of one line in memory.
const LINE_MEMORY_MAX: usize = 4 << 20;

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics: seconds, and `# EOF` at the end.
    OpenMetrics,
    /// The Prometheus text format: whole milliseconds.
    Prometheus,
    /// Not said: a time with a fraction, or less than 2^31, is seconds, another milliseconds.
    Unknown,
}

/// What `# HELP`, `# TYPE` and `# UNIT` have said of a family.
#[derive(Debug, Default)]
struct Family {
    metadata: MetricMetadata,
    said: bool,
}

/// Reads the text piece by piece.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    options: Options,
    /// The time of samples that have none.
    now_ms: i64,
    number: u64,
    /// The beginning of a line whose end has not come.
    pending: Vec<u8>,
    /// Name and labels of the line before, as written.
    series_text: String,
    family: Family,
    ended: bool,
    decoded: Decoded<MetricsBatch>,
    samples: usize,
    bytes: usize,
}

impl Parser {
    /// A parser; samples without a time get `now_ms`.
    pub fn new(format: Format, now_ms: i64, options: &Options) -> Self {
        Self {
            format,
            options: *options,
            now_ms,
            number: 0,
            pending: Vec::new(),
            series_text: String::new(),
            family: Family::default(),
            ended: false,
            decoded: Decoded::default(),
            samples: 0,
            bytes: 0,
        }
    }

    /// Lines read so far.
    pub fn lines(&self) -> u64 {
        self.number
    }

    /// Whether it is time to [`take`](Self::take).
    pub fn is_full(&self) -> bool {
        self.samples >= BATCH_SAMPLES || self.bytes >= BATCH_BYTES
    }

    /// Reads a piece of the text, cut anywhere; best of 64 KiB or so.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when a line does not end.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), WireError> {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.pending.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.line(&whole);
                whole.clear();
                self.pending = whole;
            }
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > LINE_BYTES_MAX {
            return Err(WireError::TooLarge { what: "bytes of a line", limit: LINE_BYTES_MAX as u64 });
        }
        Ok(())
    }

    /// What has been read since the last call.
    pub fn take(&mut self) -> Decoded<MetricsBatch> {
        self.series_text.clear();
        (self.samples, self.bytes) = (0, 0);
        std::mem::take(&mut self.decoded)
    }

    /// Reads what is left and gives it.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when OpenMetrics has no `# EOF`: it may have been cut short. What was
    /// read is in the first of the two all the same.
    pub fn finish(&mut self) -> (Decoded<MetricsBatch>, Result<(), WireError>) {
        if !self.pending.is_empty() {
            let line = std::mem::take(&mut self.pending);
            self.line(&line);
        }
        self.close_family();
        let whole = if self.format == Format::OpenMetrics && !self.ended {
            let what = format!("there is no `# EOF` after line {}; it may have been cut short", self.number);
            Err(WireError::malformed("OpenMetrics", what))
        } else {
            Ok(())
        };
        (self.take(), whole)
    }

    fn line(&mut self, bytes: &[u8]) {
        self.number += 1;
        let number = self.number;
        let refuse = |refusal: Refusal| Refusal { text: format!("line {number}: {}", refusal.text), ..refusal };
        let Ok(text) = std::str::from_utf8(bytes) else {
            let shown = cut(&bytes.escape_ascii().to_string());
            return refuse(Refusal::new("invalid_utf8", format!("{shown} is not UTF-8")))
                .count(&mut self.decoded.rejected, 1);
        };
        let text = text.strip_suffix('\r').unwrap_or(text);
        if let Err(refusal) = self.read(text) {
            refuse(refusal).count(&mut self.decoded.rejected, 1);
        }
    }

    fn read(&mut self, text: &str) -> Result<(), Refusal> {
        let line = line::parse(text, self.options.labels_max)?;
        if self.ended && self.format == Format::OpenMetrics && !matches!(line, Line::Nothing) {
            return Err(Refusal::new("invalid_line", "there is text after `# EOF`"));
        }
        match line {
            Line::Nothing => {}
            Line::End => self.ended = true,
            Line::Kind(name, kind) => self.family(name)?.kind = kind.to_owned(),
            Line::Help(name, help) => self.family(name)?.help = help,
            Line::Unit(name, unit) => self.family(name)?.unit = unit.to_owned(),
            Line::Sample(sample) => self.sample(text, sample)?,
        }
        Ok(())
    }

    /// The family that the metadata lines now speak of.
    fn family(&mut self, name: String) -> Result<&mut MetricMetadata, Refusal> {
        if name.len() > self.options.label_value_bytes_max {
            return Err(Refusal::new("invalid_metadata", "the name of the family is too long"));
        }
        if self.family.metadata.name != name {
            self.close_family();
            self.family.metadata = MetricMetadata { name, kind: "unknown".to_owned(), ..MetricMetadata::default() };
        }
        self.family.said = true;
        Ok(&mut self.family.metadata)
    }

    /// Hands over the metadata of a family. Families of counters are named without the suffix of
    /// their samples; metadata is kept by the name that the samples have.
    fn close_family(&mut self) {
        let family = std::mem::take(&mut self.family);
        if !family.said {
            return;
        }
        let mut metadata = family.metadata;
        let suffix = match metadata.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        if self.format != Format::Prometheus && !metadata.name.ends_with(suffix) {
            metadata.name.push_str(suffix);
        }
        self.bytes += size_of::<MetricMetadata>() + metadata.name.len() + metadata.help.len() + metadata.unit.len();
        self.decoded.batch.metadata.push(metadata);
    }

    fn sample(&mut self, text: &str, line: SampleLine<'_>) -> Result<(), Refusal> {
        let t = match line.time {
            None => self.now_ms,
            Some(time) => self.time(time)?,
        };
        let sample = Sample { t, value: line::number(line.value)? };
        let exemplar = line.exemplar.as_ref().map(|raw| self.exemplar(raw, t)).transpose()?;
        let series_text = text.get(..line.series_bytes).unwrap_or_default();
        if self.series_text != series_text || self.decoded.batch.series.is_empty() {
            let labels = self.labels(&line.pairs)?;
            self.bytes += size_of::<SeriesBatch>() + labels.bytes() + 32;
            self.decoded.batch.series.push(SeriesBatch { labels, ..SeriesBatch::default() });
            self.series_text.clear();
            self.series_text.push_str(series_text);
        }
        let Some(series) = self.decoded.batch.series.last_mut() else { return Ok(()) };
        series.samples.push(sample);
        self.samples += 1;
        self.bytes += size_of::<Sample>();
        if let Some(exemplar) = exemplar {
            self.bytes += size_of::<Exemplar>() + exemplar.labels.bytes();
            series.exemplars.push(exemplar);
        }
        Ok(())
    }

    fn labels(&self, pairs: &[(String, String)]) -> Result<Labels, Refusal> {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut meter = Meter::new(&self.options, LINE_MEMORY_MAX);
        match labels(&pairs, &self.options, &mut meter) {
            Ok(labels) => labels,
            Err(error) => Err(Refusal::new("invalid_labels", error.to_string())),
        }
        .and_then(|labels| if pairs.iter().any(|(name, _)| *name == METRIC_NAME) { named(labels) } else { Ok(labels) })
    }

    fn exemplar(&self, raw: &RawExemplar<'_>, t: i64) -> Result<Exemplar, Refusal> {
        let t = raw.time.map_or(Ok(t), |time| self.time(time))?;
        Ok(Exemplar { labels: self.labels(&raw.pairs)?, value: line::number(raw.value)?, t })
    }

    /// A time in milliseconds.
    fn time(&self, text: &str) -> Result<i64, Refusal> {
        let wrong = || Refusal::new("invalid_timestamp", format!("{:?} is no time", cut(text)));
        let seconds = || {
            let seconds: f64 = text.parse().map_err(|_| wrong())?;
            let ms = (seconds * 1000.0).round();
            if ms.is_finite() && ms.abs() < 9e18 { Ok(ms as i64) } else { Err(wrong()) }
        };
        match (self.format, text.parse::<i64>()) {
            (Format::OpenMetrics, _) | (Format::Unknown, Err(_)) => seconds(),
            (Format::Unknown, Ok(whole)) if whole.unsigned_abs() < 1 << 31 => seconds(),
            (Format::Unknown | Format::Prometheus, Ok(ms)) => Ok(ms),
            (Format::Prometheus, Err(_)) => Err(wrong()),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

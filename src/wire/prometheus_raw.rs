//! Remote write without reading labels: the store knows most series by the bytes that a sender
//! repeats, so what is decoded here is where labels lie and the samples, into flat columns.
//! A series with more than labels and samples takes the general way, but for its floats; a request
//! with a series in which labels do not come first takes it as a whole.

use std::borrow::Cow;

use super::Decoded;
use super::error::WireError;
use super::label_check::{RawPair, named, raw_labels};
use super::limits::{Meter, Options};
use super::prometheus_series::{label, metadata, sample, series};
use super::prometheus_v1::decode_v1;
use super::protobuf::Reader;
use crate::model::batch::MetricsBatch;
use crate::model::labels::Labels;
use crate::model::raw::{self, BadLabels, RawMetrics, RawSeries};

/// What a series costs until it is stored, in bytes: its place, and what the store notes of it.
const SERIES_BYTES: usize = 64;
/// What a sample costs until it is stored: time, value, start, series.
const ROW_BYTES: usize = 28;

/// Decodes an uncompressed `prometheus.WriteRequest`, labels unread.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_v1_raw<'a>(body: &'a [u8], options: &Options) -> Result<Decoded<RawMetrics<'a>>, WireError> {
    let mut request = Request {
        options,
        meter: Meter::new(options, body.len()),
        pairs: Vec::new(),
        raw: RawMetrics { bytes: Cow::Borrowed(body), ..RawMetrics::default() },
        rest: Decoded::default(),
    };
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => {
                let message = value.bytes()?;
                let start = body.len() - reader.rest().len() - message.len();
                if !request.series(message, start)? {
                    let Decoded { batch, rejected } = decode_v1(body, options)?;
                    return Ok(Decoded { batch: RawMetrics { rest: batch, ..RawMetrics::default() }, rejected });
                }
            }
            3 => match metadata(value.bytes()?, &mut request.meter)? {
                Ok(metadata) => request.rest.batch.metadata.push(metadata),
                Err(refusal) => refusal.count(&mut request.rest.rejected, 1),
            },
            _ => {}
        }
    }
    let Request { mut raw, rest, .. } = request;
    raw.rest = rest.batch;
    Ok(Decoded { batch: raw, rejected: rest.rejected })
}

/// Reads labels as they lie in a request.
///
/// # Errors
/// [`BadLabels`] when they are none, or over the limits.
pub fn parse_labels(bytes: &[u8], options: &Options) -> Result<Labels, BadLabels> {
    let bad = |error: WireError| ("invalid_labels", error.to_string());
    let mut pairs: Vec<RawPair<'_>> = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((_, value)) = reader.field().map_err(bad)? {
        if pairs.len() <= options.labels_max {
            pairs.push(value.bytes().and_then(label).map_err(bad)?);
        }
    }
    let labels = raw_labels(&pairs, options, &mut Meter::new(options, bytes.len())).map_err(bad)?;
    labels.and_then(named).map_err(|refusal| (refusal.reason, refusal.text))
}

struct Request<'a, 'o> {
    options: &'o Options,
    meter: Meter,
    pairs: Vec<RawPair<'a>>,
    raw: RawMetrics<'a>,
    rest: Decoded<MetricsBatch>,
}

impl<'a> Request<'a, '_> {
    /// Takes a series, whose message begins at `start` of the body; says no where its labels do not
    /// come first.
    fn series(&mut self, message: &'a [u8], start: usize) -> Result<bool, WireError> {
        let mut rest = message;
        while let Some((_, after)) = raw::take_pair(rest) {
            rest = after;
        }
        let labels = start..start + message.len() - rest.len();
        let before = self.raw.times.len();
        while let [0x12, length @ 0..0x80, tail @ ..] = rest {
            let Some((own, after)) = tail.split_at_checked(usize::from(*length)) else { break };
            let (t, value) = match plain_sample(own) {
                Some(sample) => sample,
                None => sample(own).map(|sample| (sample.t, sample.value))?,
            };
            self.raw.times.push(t);
            self.raw.values.push(value);
            rest = after;
        }
        let count = self.raw.times.len() - before;
        if rest.is_empty() && count > 0 {
            self.meter.take(SERIES_BYTES + ROW_BYTES * count)?;
            return Ok(self.place(labels));
        }
        self.raw.times.truncate(before);
        self.raw.values.truncate(before);
        self.general(message, rest, labels)
    }

    /// Notes a series whose samples are in the columns.
    fn place(&mut self, labels: std::ops::Range<usize>) -> bool {
        let place = |at: usize| u32::try_from(at).ok();
        let own = place(labels.start).zip(place(labels.end)).zip(place(self.raw.times.len()));
        let Some(((labels_start, labels_end), rows_end)) = own else { return false };
        self.raw.series.push(RawSeries { labels_start, labels_end, rows_end });
        true
    }

    fn general(&mut self, message: &'a [u8], behind: &[u8], labels: std::ops::Range<usize>) -> Result<bool, WireError> {
        let mut reader = Reader::new(behind);
        while let Some((number, _)) = reader.field()? {
            if number == 1 {
                return Ok(false);
            }
        }
        let series_before = self.rest.batch.series.len();
        series(message, self.options, &mut self.meter, &mut self.pairs, &mut self.rest)?;
        if self.rest.batch.series.len() == series_before {
            return Ok(true);
        }
        let Some(own) = self.rest.batch.series.last_mut() else { return Ok(true) };
        let samples = std::mem::take(&mut own.samples);
        if own.histograms.is_empty() && own.exemplars.is_empty() {
            self.rest.batch.series.pop();
        }
        if samples.is_empty() {
            return Ok(true);
        }
        self.meter.take(SERIES_BYTES + ROW_BYTES * samples.len())?;
        self.raw.times.extend(samples.iter().map(|sample| sample.t));
        self.raw.values.extend(samples.iter().map(|sample| sample.value));
        Ok(self.place(labels))
    }
}

/// Time and value of a sample as encoders write it: value, then time.
#[inline]
fn plain_sample(message: &[u8]) -> Option<(i64, f64)> {
    let [0x09, rest @ ..] = message else { return None };
    let (value, rest) = rest.split_first_chunk()?;
    let [0x10, rest @ ..] = rest else { return None };
    let mut t = 0u64;
    for (at, byte) in rest.iter().enumerate() {
        t |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return (at + 1 == rest.len() && at < 9).then(|| (t.cast_signed(), f64::from_le_bytes(*value)));
        }
    }
    None
}

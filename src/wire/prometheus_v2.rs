//! Prometheus remote write 2.0 (`io.prometheus.write.v2.Request`): strings are numbers into a table
//! of symbols, metadata comes with each series. A symbol can be named any number of times, so what
//! is built from it is metered each time.
//! Spec: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

use std::borrow::Cow;
use std::collections::HashSet;
use std::str;

use super::Decoded;
use super::error::WireError;
use super::label_check::{RawPair, Refusal, named, raw_labels};
use super::limits::{Meter, Options};
use super::prometheus_series::{Building, kind};
use super::protobuf::{Reader, Value};
use crate::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::raw::{self, RawMetrics, RawSeries};
use crate::model::sample::Sample;

/// What a series costs until it is stored, in bytes, beside its labels.
const RAW_SERIES_BYTES: usize = 64;
const FORMAT: &str = "remote write 2.0 request";

/// Decodes an uncompressed `io.prometheus.write.v2.Request`.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_v2(body: &[u8], options: &Options) -> Result<Decoded<MetricsBatch>, WireError> {
    decode(body, options, None).map(|(_, decoded)| decoded)
}

/// Decodes an uncompressed `io.prometheus.write.v2.Request`; labels are put in the form by which the
/// store knows series, and not read otherwise.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_v2_raw(body: &[u8], options: &Options) -> Result<Decoded<RawMetrics<'static>>, WireError> {
    let (raw, Decoded { batch, rejected }) = decode(body, options, Some(Raw::default()))?;
    let Raw { bytes, series, times, values, starts } = raw.unwrap_or_default();
    let batch = RawMetrics { bytes: Cow::Owned(bytes), series, times, values, starts, rest: batch };
    Ok(Decoded { batch, rejected })
}

/// Series with float samples alone.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    series: Vec<RawSeries>,
    times: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
}

fn decode(body: &[u8], options: &Options, raw: Option<Raw>) -> Result<(Option<Raw>, Decoded<MetricsBatch>), WireError> {
    let mut request = Request {
        options,
        meter: Meter::new(options, body.len()),
        symbols: Vec::new(),
        seen: HashSet::new(),
        raw,
        decoded: Decoded::default(),
    };
    request.read_symbols(body)?;
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        if number == 5 {
            request.series(value.bytes()?)?;
        }
    }
    Ok((request.raw, request.decoded))
}

struct Request<'a> {
    options: &'a Options,
    meter: Meter,
    symbols: Vec<&'a [u8]>,
    /// Metric families whose metadata is in the batch.
    seen: HashSet<String>,
    raw: Option<Raw>,
    decoded: Decoded<MetricsBatch>,
}

#[derive(Default)]
struct Metadata {
    kind: u64,
    help: u32,
    unit: u32,
}

impl<'a> Request<'a> {
    /// Symbols may come after the series that name them, so they are read first.
    fn read_symbols(&mut self, body: &'a [u8]) -> Result<(), WireError> {
        let mut reader = Reader::new(body);
        while let Some((number, value)) = reader.field()? {
            if number == 4 {
                self.meter.take(size_of::<&[u8]>())?;
                self.symbols.push(value.bytes()?);
            }
        }
        match self.symbols.first() {
            Some([_, ..]) => Err(WireError::malformed(FORMAT, "the first symbol must be the empty string")),
            Some([]) | None => Ok(()),
        }
    }

    fn series(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let mut building = Building::default();
        let mut refs = Vec::new();
        let mut metadata = Metadata::default();
        let mut created = 0;
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field()? {
            match number {
                1 => self.references(value, &mut refs)?,
                2 => building.started(sample(value.bytes()?)?, &mut self.meter)?,
                3 => {
                    building.histogram(value.bytes()?, self.options, &mut self.meter, &mut self.decoded.rejected)?;
                }
                4 => match self.exemplar(value.bytes()?)? {
                    Ok(exemplar) => building.exemplar(exemplar, &mut self.meter)?,
                    Err(refusal) => {
                        let refusal = Refusal::new("invalid_exemplar", refusal.text);
                        refusal.count(&mut self.decoded.rejected, 1);
                    }
                },
                5 => metadata = read_metadata(value.bytes()?)?,
                6 => created = value.int()?,
                _ => {}
            }
        }
        building.created(created, &mut self.meter)?;
        if let Some(floats) = building.only_floats()
            && self.take_raw(floats, &refs, &metadata)?
        {
            return Ok(());
        }
        let labels = self.labels(&refs)?.and_then(named);
        if let Ok(labels) = &labels {
            self.metadata(&metadata, labels.metric_name())?;
        }
        building.finish(labels, &mut self.meter, &mut self.decoded)
    }

    /// Takes a series of floats without reading its labels; says no where those must be read.
    fn take_raw(&mut self, floats: &SeriesBatch, refs: &[u64], metadata: &Metadata) -> Result<bool, WireError> {
        let Some(raw) = &self.raw else { return Ok(false) };
        let before = raw.bytes.len();
        let mut name = None;
        let mut bytes = 0;
        for pair in refs.chunks(2) {
            let &[of_name, of_value] = pair else { return Ok(false) };
            let (Ok(own), Ok(value)) = (self.symbol(of_name), self.symbol(of_value)) else { return Ok(false) };
            if own == METRIC_NAME.as_bytes() {
                name = str::from_utf8(value).ok();
            }
            bytes += own.len() + value.len() + 16;
        }
        let Some(name) = name else { return Ok(false) };
        let rows = floats.samples.len();
        self.meter.take(bytes + RAW_SERIES_BYTES + 8 * rows)?;
        self.metadata(metadata, name)?;
        let symbols = &self.symbols;
        let symbol = |at: u64| usize::try_from(at).ok().and_then(|at| symbols.get(at)).copied().unwrap_or_default();
        let Some(raw) = &mut self.raw else { return Ok(false) };
        for pair in refs.chunks(2) {
            if let &[of_name, of_value] = pair {
                raw::put_pair(&mut raw.bytes, symbol(of_name), symbol(of_value));
            }
        }
        if !floats.starts.is_empty() || !raw.starts.is_empty() {
            raw.starts.resize(raw.times.len(), 0);
            raw.starts.extend((0..rows).map(|at| floats.starts.get(at).copied().unwrap_or_default()));
        }
        raw.times.extend(floats.samples.iter().map(|sample| sample.t));
        raw.values.extend(floats.samples.iter().map(|sample| sample.value));
        let place = |at: usize| u32::try_from(at).map_err(|_| WireError::malformed(FORMAT, "too many labels"));
        raw.series.push(RawSeries {
            labels_start: place(before)?,
            labels_end: place(raw.bytes.len())?,
            rows_end: place(raw.times.len())?,
        });
        Ok(true)
    }

    /// Adds packed or single references, at most a pair over the limit of labels.
    fn references(&self, value: Value<'_>, out: &mut Vec<u64>) -> Result<(), WireError> {
        let max = 2 * self.options.labels_max + 2;
        let Value::Bytes(packed) = value else {
            if out.len() < max {
                out.push(value.varint()?);
            }
            return Ok(());
        };
        let mut reader = Reader::new(packed);
        while !reader.is_empty() && out.len() < max {
            out.push(reader.varint()?);
        }
        Ok(())
    }

    fn symbol(&self, reference: u64) -> Result<&'a [u8], Refusal> {
        let symbol = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at));
        symbol.copied().ok_or_else(|| {
            let text = format!("symbol {reference} is named, there are {}", self.symbols.len());
            Refusal::new("invalid_labels", text)
        })
    }

    fn labels(&mut self, refs: &[u64]) -> Result<Result<Labels, Refusal>, WireError> {
        let mut raw: Vec<RawPair<'a>> = Vec::with_capacity(refs.len() / 2);
        for pair in refs.chunks(2) {
            let &[name, value] = pair else {
                return Ok(Err(Refusal::new("invalid_labels", "an odd number of label references")));
            };
            match self.symbol(name).and_then(|name| Ok((name, self.symbol(value)?))) {
                Ok(pair) => raw.push(pair),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        raw_labels(&raw, self.options, &mut self.meter)
    }

    fn exemplar(&mut self, message: &'a [u8]) -> Result<Result<Exemplar, Refusal>, WireError> {
        let mut refs = Vec::new();
        let (mut observed, mut t) = (0.0, 0);
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field()? {
            match number {
                1 => self.references(value, &mut refs)?,
                2 => observed = value.double()?,
                3 => t = value.int()?,
                _ => {}
            }
        }
        Ok(self.labels(&refs)?.map(|labels| Exemplar { labels, value: observed, t }))
    }

    /// Adds the metadata of a series' family, once a request.
    fn metadata(&mut self, metadata: &Metadata, metric: &str) -> Result<(), WireError> {
        if metadata.kind == 0 && metadata.help == 0 && metadata.unit == 0 {
            return Ok(());
        }
        let kind = kind(metadata.kind);
        let name = family(metric, kind);
        if self.seen.contains(name) {
            return Ok(());
        }
        let text = |reference: u32| self.symbol(u64::from(reference)).ok().and_then(|text| str::from_utf8(text).ok());
        let (help, unit) = (text(metadata.help).unwrap_or_default(), text(metadata.unit).unwrap_or_default());
        self.meter.take(size_of::<MetricMetadata>() + 2 * name.len() + help.len() + unit.len() + 64)?;
        self.seen.insert(name.to_owned());
        let (name, kind, help, unit) = (name.to_owned(), kind.to_owned(), help.to_owned(), unit.to_owned());
        self.decoded.batch.metadata.push(MetricMetadata { name, kind, help, unit });
        Ok(())
    }
}

/// A sample and when its counting began, 0 when that is not known.
fn sample(message: &[u8]) -> Result<(Sample, i64), WireError> {
    let (mut sample, mut start) = (Sample { t: 0, value: 0.0 }, 0);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => sample.value = value.double()?,
            2 => sample.t = value.int()?,
            3 => start = value.int()?,
            _ => {}
        }
    }
    Ok((sample, start))
}

/// The family that a series' metadata describes: a classic histogram's series have suffixes.
fn family<'a>(name: &'a str, kind: &str) -> &'a str {
    let suffixes: &[&str] = match kind {
        "histogram" | "gaugehistogram" => &["_bucket", "_count", "_sum"],
        "summary" => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn read_metadata(message: &[u8]) -> Result<Metadata, WireError> {
    let mut metadata = Metadata::default();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => metadata.kind = value.varint()?,
            3 => metadata.help = value.uint32()?,
            4 => metadata.unit = value.uint32()?,
            _ => {}
        }
    }
    Ok(metadata)
}

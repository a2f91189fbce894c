//! Prometheus remote write 2.0 (`io.prometheus.write.v2.Request`): strings are numbers into a table
//! of symbols, metadata comes with each series. A symbol can be named any number of times, so what
//! is built from it is metered each time.
//! Spec: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

use std::collections::HashSet;
use std::str;

use super::Decoded;
use super::error::WireError;
use super::label_check::{RawPair, Refusal, named, raw_labels};
use super::limits::{Meter, Options};
use super::prometheus::{Building, kind};
use super::protobuf::{Reader, Value};
use crate::model::batch::{MetricMetadata, MetricsBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::Sample;

const FORMAT: &str = "remote write 2.0 request";

/// Decodes an uncompressed `io.prometheus.write.v2.Request`.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_v2(body: &[u8], options: &Options) -> Result<Decoded<MetricsBatch>, WireError> {
    let mut request = Request {
        options,
        meter: Meter::new(options, body.len()),
        symbols: Vec::new(),
        seen: HashSet::new(),
        decoded: Decoded::default(),
    };
    request.read_symbols(body)?;
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        if number == 5 {
            request.series(value.bytes()?)?;
        }
    }
    Ok(request.decoded)
}

struct Request<'a> {
    options: &'a Options,
    meter: Meter,
    symbols: Vec<&'a [u8]>,
    /// Metric families whose metadata is in the batch.
    seen: HashSet<String>,
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
        let labels = self.labels(&refs)?.and_then(named);
        if let Ok(labels) = &labels {
            self.metadata(&metadata, labels)?;
        }
        building.finish(labels, &mut self.meter, &mut self.decoded)
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
    fn metadata(&mut self, metadata: &Metadata, labels: &Labels) -> Result<(), WireError> {
        if metadata.kind == 0 && metadata.help == 0 && metadata.unit == 0 {
            return Ok(());
        }
        let kind = kind(metadata.kind);
        let name = family(labels.metric_name(), kind);
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

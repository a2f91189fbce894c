//! The messages inside a remote write request, decoded in one pass without prost: labels, samples,
//! exemplars, histograms, metadata. A bad series is refused and counted, the others are taken.

use std::str;

use super::Decoded;
use super::error::WireError;
use super::label_check::{RawPair, Refusal, named, raw_labels};
use super::limits::{Meter, Options};
use super::prometheus_histogram;
use super::protobuf::Reader;
use crate::model::batch::{MetricMetadata, MetricsBatch, Rejections, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::{HistogramSample, Sample};

pub(super) fn series<'a>(
    message: &'a [u8],
    options: &Options,
    meter: &mut Meter,
    raw: &mut Vec<RawPair<'a>>,
    decoded: &mut Decoded<MetricsBatch>,
) -> Result<(), WireError> {
    raw.clear();
    let mut bad = None;
    let mut building = Building::default();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 if raw.len() > options.labels_max => {}
            1 => match label(value.bytes()?) {
                Ok(pair) => raw.push(pair),
                Err(error) => bad = Some(Refusal::new("invalid_labels", error.to_string())),
            },
            2 => building.sample(sample(value.bytes()?)?, meter)?,
            3 => match exemplar(value.bytes()?, options, meter)? {
                Ok(exemplar) => building.exemplar(exemplar, meter)?,
                Err(refusal) => refusal.count(&mut decoded.rejected, 1),
            },
            4 => building.histogram(value.bytes()?, options, meter, &mut decoded.rejected)?,
            _ => {}
        }
    }
    let labels = match bad {
        Some(refusal) => Err(refusal),
        None => raw_labels(raw, options, meter)?.and_then(named),
    };
    building.finish(labels, meter, decoded)
}

/// Samples of one series while they are decoded.
#[derive(Default)]
pub(super) struct Building {
    series: SeriesBatch,
}

impl Building {
    pub(super) fn sample(&mut self, sample: Sample, meter: &mut Meter) -> Result<(), WireError> {
        meter.take(size_of::<Sample>())?;
        // A scrape sends one sample a series: room for exactly that one, not for four.
        if self.series.samples.is_empty() {
            self.series.samples.reserve_exact(1);
        }
        self.series.samples.push(sample);
        Ok(())
    }

    /// Takes a sample and when its counting began; 0 when that is not known.
    pub(super) fn started(&mut self, (sample, start): (Sample, i64), meter: &mut Meter) -> Result<(), WireError> {
        if start != 0 || !self.series.starts.is_empty() {
            let series = &mut self.series;
            meter.take(size_of::<i64>() * (series.samples.len() + 1 - series.starts.len()))?;
            series.starts.resize(series.samples.len(), 0);
            series.starts.push(start);
        }
        self.sample(sample, meter)
    }

    /// Takes when counting began for all samples that do not say so themselves, as senders of the
    /// specification's third draft tell it; 0 when that is not known.
    pub(super) fn created(&mut self, start: i64, meter: &mut Meter) -> Result<(), WireError> {
        if start == 0 {
            return Ok(());
        }
        let series = &mut self.series;
        meter.take(size_of::<i64>() * (series.samples.len() - series.starts.len()))?;
        series.starts.resize(series.samples.len(), 0);
        let starts = series.histograms.iter_mut().map(|sample| &mut sample.start).chain(&mut series.starts);
        starts.filter(|own| **own == 0).for_each(|own| *own = start);
        Ok(())
    }

    pub(super) fn exemplar(&mut self, exemplar: Exemplar, meter: &mut Meter) -> Result<(), WireError> {
        meter.take(2 * size_of::<Exemplar>())?;
        self.series.exemplars.push(exemplar);
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        message: &[u8],
        options: &Options,
        meter: &mut Meter,
        rejected: &mut Rejections,
    ) -> Result<(), WireError> {
        meter.take(2 * size_of::<HistogramSample>())?;
        match prometheus_histogram::decode(message, options, meter)? {
            Ok(sample) => self.series.histograms.push(sample),
            Err(refusal) => refusal.count(rejected, 1),
        }
        Ok(())
    }

    /// The samples, when they are floats and there is nothing else.
    pub(super) fn only_floats(&self) -> Option<&SeriesBatch> {
        let series = &self.series;
        let others = series.histograms.is_empty() && series.exemplars.is_empty();
        (others && !series.samples.is_empty()).then_some(series)
    }

    /// Adds the series to the batch, or counts its samples as refused.
    pub(super) fn finish(
        mut self,
        labels: Result<Labels, Refusal>,
        meter: &mut Meter,
        decoded: &mut Decoded<MetricsBatch>,
    ) -> Result<(), WireError> {
        let series = &self.series;
        let items = series.samples.len() + series.histograms.len();
        match labels {
            Err(refusal) => refusal.count(&mut decoded.rejected, items.max(1) as u64),
            Ok(_) if items == 0 && series.exemplars.is_empty() => {}
            Ok(labels) => {
                meter.take(size_of::<SeriesBatch>())?;
                self.series.labels = labels;
                decoded.batch.series.push(self.series);
            }
        }
        Ok(())
    }
}

pub(super) fn label(message: &[u8]) -> Result<RawPair<'_>, WireError> {
    let mut pair: RawPair<'_> = (&[], &[]);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => pair.0 = value.bytes()?,
            2 => pair.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(pair)
}

pub(super) fn sample(message: &[u8]) -> Result<Sample, WireError> {
    let mut sample = Sample { t: 0, value: 0.0 };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => sample.value = value.double()?,
            2 => sample.t = value.int()?,
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar(message: &[u8], options: &Options, meter: &mut Meter) -> Result<Result<Exemplar, Refusal>, WireError> {
    let mut raw = Vec::new();
    let (mut observed, mut t) = (0.0, 0);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 if raw.len() > options.labels_max => {}
            1 => raw.push(label(value.bytes()?)?),
            2 => observed = value.double()?,
            3 => t = value.int()?,
            _ => {}
        }
    }
    let labels = raw_labels(&raw, options, meter)?;
    Ok(labels.map_err(|refusal| Refusal::new("invalid_exemplar", refusal.text)).map(|labels| Exemplar {
        labels,
        value: observed,
        t,
    }))
}

/// The name of a metric type's number, the same in 1.0 and 2.0.
pub(super) fn kind(number: u64) -> &'static str {
    match number {
        1 => "counter",
        2 => "gauge",
        3 => "histogram",
        4 => "gaugehistogram",
        5 => "summary",
        6 => "info",
        7 => "stateset",
        _ => "unknown",
    }
}

pub(super) fn metadata(message: &[u8], meter: &mut Meter) -> Result<Result<MetricMetadata, Refusal>, WireError> {
    let (mut number_of_kind, mut name, mut help, mut unit): (u64, &[u8], &[u8], &[u8]) = (0, &[], &[], &[]);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => number_of_kind = value.varint()?,
            2 => name = value.bytes()?,
            4 => help = value.bytes()?,
            5 => unit = value.bytes()?,
            _ => {}
        }
    }
    meter.take(size_of::<MetricMetadata>() + name.len() + help.len() + unit.len() + 16)?;
    let (Ok(name), Ok(help), Ok(unit)) = (str::from_utf8(name), str::from_utf8(help), str::from_utf8(unit)) else {
        return Ok(Err(Refusal::new("invalid_metadata", "metadata is not UTF-8")));
    };
    if name.is_empty() {
        return Ok(Err(Refusal::new("invalid_metadata", "metadata has no metric name")));
    }
    Ok(Ok(MetricMetadata {
        name: name.to_owned(),
        kind: kind(number_of_kind).to_owned(),
        help: help.to_owned(),
        unit: unit.to_owned(),
    }))
}

//! Records of the metrics log: one for each batch, with what was accepted of it. A series has its
//! labels in the first record of a segment that names it and is called by its number after that.
//! Bytes: docs/format/wal.md.

use std::sync::atomic::Ordering;

use super::chunk::histogram;
use super::head::Resolved;
use super::series::fits;
use crate::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::store::codec::{Malformed, Reader, put_bytes, put_f64, put_signed, put_str, put_varint};

const VERSION: u8 = 1;
const HAS_LABELS: u64 = 1;
const HAS_HISTOGRAMS: u64 = 2;
const HAS_EXEMPLARS: u64 = 4;
/// Most bytes of an exemplar's labels; larger ones are left out.
const EXEMPLAR_LABELS_BYTES_MAX: usize = 4 << 10;

/// Whether an exemplar is kept.
pub fn exemplar_fits(exemplar: &Exemplar) -> bool {
    exemplar.labels.bytes() <= EXEMPLAR_LABELS_BYTES_MAX
}

/// Appends pairs in order, with their number before them.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

/// Reads what [`put_labels`] wrote.
///
/// # Errors
/// [`Malformed`].
pub fn take_labels(reader: &mut Reader<'_>) -> Result<Labels, Malformed> {
    let count = reader.count(reader.rest().len() / 2)?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((reader.str()?, reader.str()?));
    }
    Labels::from_pairs(pairs).map_err(|_| Malformed("not a label set"))
}

/// Appends an exemplar.
pub fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    put_signed(out, exemplar.t);
    put_f64(out, exemplar.value);
    put_labels(out, &exemplar.labels);
}

/// Reads an exemplar.
///
/// # Errors
/// [`Malformed`].
pub fn take_exemplar(reader: &mut Reader<'_>) -> Result<Exemplar, Malformed> {
    Ok(Exemplar { t: reader.signed()?, value: reader.f64()?, labels: take_labels(reader)? })
}

/// Appends metadata of one family.
pub fn put_metadata(out: &mut Vec<u8>, metadata: &MetricMetadata) {
    for text in [&metadata.name, &metadata.kind, &metadata.help, &metadata.unit] {
        put_str(out, text);
    }
}

/// Reads metadata of one family.
///
/// # Errors
/// [`Malformed`].
pub fn take_metadata(reader: &mut Reader<'_>) -> Result<MetricMetadata, Malformed> {
    let mut text = || reader.str().map(str::to_owned);
    Ok(MetricMetadata { name: text()?, kind: text()?, help: text()?, unit: text()? })
}

/// Appends the record of what was accepted of `batch`; nothing when that is nothing. Runs under the
/// log's lock, so that labels come before the first number in the segment.
pub fn encode(batch: &MetricsBatch, resolved: &Resolved, segment: u64, out: &mut Vec<u8>) {
    let accepted = batch.series.iter().zip(&resolved.series).filter_map(|(own, series)| Some((own, series.as_ref()?)));
    let count = accepted.clone().count();
    if count == 0 && resolved.metadata.is_empty() {
        return;
    }
    out.push(VERSION);
    put_varint(out, count as u64);
    for (own, series) in accepted {
        let labels = (series.defined.swap(segment, Ordering::Relaxed) != segment).then_some(&series.labels);
        put_series(out, u64::from(series.id), labels, own);
    }
    put_varint(out, resolved.metadata.len() as u64);
    resolved.metadata.iter().for_each(|metadata| put_metadata(out, metadata));
}

fn put_series(out: &mut Vec<u8>, id: u64, labels: Option<&Labels>, batch: &SeriesBatch) {
    let histograms: Vec<_> = batch.histograms.iter().filter(|sample| fits(sample)).cloned().collect();
    let flags = if labels.is_some() { HAS_LABELS } else { 0 }
        | if histograms.is_empty() { 0 } else { HAS_HISTOGRAMS }
        | if batch.exemplars.is_empty() { 0 } else { HAS_EXEMPLARS };
    put_varint(out, id << 3 | flags);
    if let Some(labels) = labels {
        put_labels(out, labels);
    }
    put_varint(out, batch.samples.len() as u64);
    let mut last = 0i64;
    for sample in &batch.samples {
        put_signed(out, sample.t.wrapping_sub(last));
        put_f64(out, sample.value);
        last = sample.t;
    }
    if !histograms.is_empty() {
        put_varint(out, histograms.len() as u64);
        let mut bytes = Vec::new();
        histogram::encode(&mut bytes, &histograms);
        put_bytes(out, &bytes);
    }
    if !batch.exemplars.is_empty() {
        put_varint(out, batch.exemplars.len() as u64);
        batch.exemplars.iter().for_each(|exemplar| put_exemplar(out, exemplar));
    }
}

/// A series of a record.
pub struct Entry {
    /// Its number in the segment.
    pub id: u64,
    /// Whether its labels are in `batch`.
    pub has_labels: bool,
    /// What came; labels are empty when they are not in the record.
    pub batch: SeriesBatch,
}

/// Reads a record: hands each series to `visit`, returns the metadata.
///
/// # Errors
/// [`Malformed`]; what came before has been handed out.
pub fn decode(record: &[u8], mut visit: impl FnMut(&Entry)) -> Result<Vec<MetricMetadata>, Malformed> {
    let mut reader = Reader::new(record);
    if reader.byte()? != VERSION {
        return Err(Malformed("a record of another version"));
    }
    for _ in 0..reader.count(record.len())? {
        visit(&take_series(&mut reader)?);
    }
    let mut metadata = Vec::new();
    for _ in 0..reader.count(record.len())? {
        metadata.push(take_metadata(&mut reader)?);
    }
    if reader.is_empty() { Ok(metadata) } else { Err(Malformed("bytes behind a record")) }
}

fn take_series(reader: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let head = reader.varint()?;
    let mut batch = SeriesBatch::default();
    if head & HAS_LABELS != 0 {
        batch.labels = take_labels(reader)?;
    }
    let count = reader.count(reader.rest().len() / 9)?;
    batch.samples.reserve_exact(count);
    let mut t = 0i64;
    for _ in 0..count {
        t = t.wrapping_add(reader.signed()?);
        batch.samples.push(Sample { t, value: reader.f64()? });
    }
    if head & HAS_HISTOGRAMS != 0 {
        let count = reader.count(reader.rest().len())?;
        batch.histograms = histogram::decode(reader.bytes()?, count)?;
    }
    if head & HAS_EXEMPLARS != 0 {
        for _ in 0..reader.count(reader.rest().len())? {
            batch.exemplars.push(take_exemplar(reader)?);
        }
    }
    Ok(Entry { id: head >> 3, has_labels: head & HAS_LABELS != 0, batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_series_comes_back_as_it_was() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
        let exemplar = Exemplar { labels: labels.clone(), value: 0.5, t: -7 };
        let samples = vec![Sample { t: i64::MIN, value: -0.0 }, Sample { t: i64::MAX, value: 1.0 }];
        let batch = SeriesBatch { labels, samples, starts: vec![], histograms: vec![], exemplars: vec![exemplar] };
        let mut out = Vec::new();
        put_series(&mut out, 77, Some(&batch.labels), &batch);
        let entry = take_series(&mut Reader::new(&out)).unwrap();
        assert_eq!((entry.id, entry.has_labels), (77, true));
        assert_eq!(format!("{:?}", entry.batch), format!("{batch:?}"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>) {
            let _ = decode(&bytes, |_| {});
            let _ = decode(&[&[VERSION][..], &bytes].concat(), |_| {});
        }
    }
}

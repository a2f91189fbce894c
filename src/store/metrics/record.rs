//! What the parts of the metrics log's records have in common, and records of version 1, which are
//! read but not written any more. Version 2: [`record_v2`](super::record_v2).
//! Bytes: docs/format/wal.md.

use super::chunk::histogram;
use crate::model::batch::{MetricMetadata, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::store::codec::{Malformed, Reader, put_f64, put_signed, put_str, put_varint};

/// The first byte of the records read here.
pub const VERSION: u8 = 1;
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
pub fn decode(record: &[u8], mut visit: impl FnMut(Entry)) -> Result<Vec<MetricMetadata>, Malformed> {
    let mut reader = Reader::new(record);
    if reader.byte()? != VERSION {
        return Err(Malformed("a record of another version"));
    }
    for _ in 0..reader.count(record.len())? {
        visit(take_series(&mut reader)?);
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
    use crate::store::codec::put_bytes;
    use proptest::prelude::*;

    fn put_series(out: &mut Vec<u8>, id: u64, batch: &SeriesBatch) {
        put_varint(out, id << 3 | HAS_LABELS | HAS_HISTOGRAMS | HAS_EXEMPLARS);
        put_labels(out, &batch.labels);
        put_varint(out, batch.samples.len() as u64);
        let mut last = 0i64;
        for sample in &batch.samples {
            put_signed(out, sample.t.wrapping_sub(last));
            put_f64(out, sample.value);
            last = sample.t;
        }
        put_varint(out, batch.histograms.len() as u64);
        let mut bytes = Vec::new();
        histogram::encode(&mut bytes, &batch.histograms);
        put_bytes(out, &bytes);
        put_varint(out, batch.exemplars.len() as u64);
        batch.exemplars.iter().for_each(|exemplar| put_exemplar(out, exemplar));
    }

    #[test]
    fn a_series_comes_back_as_it_was() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
        let exemplar = Exemplar { labels: labels.clone(), value: 0.5, t: -7 };
        let samples = vec![Sample { t: i64::MIN, value: -0.0 }, Sample { t: i64::MAX, value: 1.0 }];
        let batch = SeriesBatch { labels, samples, starts: vec![], histograms: vec![], exemplars: vec![exemplar] };
        let mut out = Vec::new();
        put_series(&mut out, 77, &batch);
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

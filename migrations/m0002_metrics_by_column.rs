//! Step 2: parts of metrics hold label sets, times and values apart (docs/format/metrics.md), where
//! step 1 wrote entries of labels and samples. Each part of step 1 is read entry by entry and written
//! anew; the old file is there until the new one is complete and takes its name.

use std::path::Path;
use std::sync::Arc;

use super::{MigrateError, Migration};
use crate::base::disk::Disk;
use crate::model::labels::Labels;
use crate::model::sample::Columns;
use crate::store::StoreError;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::io_error;
use crate::store::metrics::build::PartBuilder;
use crate::store::metrics::chunk::histogram;
use crate::store::metrics::record::take_labels;
use crate::store::part::{self, PartInfo, PartReader, PartWriter};
use crate::store::patience::patiently;

/// Parts of metrics of format 2.
pub(super) const STEP: Migration =
    Migration { to: 2, name: "metrics_by_column", summary: "rewrites parts of metrics as columns", run };

const FRAME_DATA: u8 = 1;
const FRAME_DIRECTORY: u8 = 3;
const FRAME_EXEMPLARS: u8 = 4;
const FRAME_METADATA: u8 = 5;
const SAMPLES_MAX: usize = 1 << 16;
const EXPONENT_MAX: u8 = 9;

fn run(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), MigrateError> {
    let dir = dir.join("metrics");
    let entries = patiently(|| disk.list(&dir).map_err(io_error("list", &dir)))?;
    for entry in entries.iter().filter(|entry| PartInfo::parse_file_name(&entry.name).is_some()) {
        let path = dir.join(&entry.name);
        let old = match patiently(|| PartReader::open(disk, &path)) {
            Ok(old) => old,
            // It is left to the store, which moves it aside.
            Err(error) if error.is_damage() => continue,
            Err(source) => return Err(MigrateError::Part { path, source }),
        };
        if old.frames().iter().any(|frame| matches!(frame.kind, FRAME_DATA | FRAME_DIRECTORY)) {
            rewrite(disk, &dir, &old).map_err(|source| MigrateError::Part { path, source })?;
        }
    }
    Ok(())
}

fn rewrite(disk: &Arc<dyn Disk>, dir: &Path, old: &PartReader) -> Result<(), StoreError> {
    let mut writer = PartWriter::create(disk, dir, old.info().clone())?;
    let mut part = PartBuilder::new(&mut writer);
    let mut series = (Labels::default(), Columns::default());
    for frame in old.frames().iter().filter(|frame| frame.kind == FRAME_DATA) {
        let payload = match old.read(*frame) {
            Ok(payload) => payload,
            Err(error) if error.is_damage() => {
                tracing::error!(%error, path = ?old.path(), "a damaged frame of a part is left out");
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut reader = Reader::new(&payload);
        let read = entries(&mut reader, &mut series, &mut part);
        if let Err(Malformed(what)) = read? {
            tracing::error!(what, path = ?old.path(), offset = frame.offset, "a damaged frame of a part is left out");
        }
    }
    part.series(&series.0, (&series.1).into())?;
    part.finish()?;
    for frame in old.frames().iter().filter(|frame| matches!(frame.kind, FRAME_EXEMPLARS | FRAME_METADATA)) {
        match old.read(*frame) {
            Ok(payload) => writer.frame(frame.kind, &payload)?,
            Err(error) if error.is_damage() => {
                tracing::error!(%error, path = ?old.path(), "a damaged frame of a part is left out");
                continue;
            }
            Err(error) => return Err(error),
        };
    }
    let pending = writer.finish()?;
    part::commit(&**disk, dir, &[pending])?;
    Ok(())
}

/// Gathers entries of one series after the other, and writes each series when the next one begins.
fn entries(
    reader: &mut Reader<'_>,
    series: &mut (Labels, Columns),
    part: &mut PartBuilder<'_>,
) -> Result<Result<(), Malformed>, StoreError> {
    if let Err(malformed) = reader.varint() {
        return Ok(Err(malformed));
    }
    while !reader.is_empty() {
        let (labels, columns) = match take_entry(reader) {
            Ok(entry) => entry,
            Err(malformed) => return Ok(Err(malformed)),
        };
        if labels != series.0 {
            part.series(&series.0, (&series.1).into())?;
            *series = (labels, Columns::default());
        }
        let own = &mut series.1;
        own.times = own.times.iter().chain(columns.times.iter()).copied().collect();
        own.values.extend(columns.values);
        own.histograms.extend(columns.histograms);
    }
    Ok(Ok(()))
}

fn take_entry(reader: &mut Reader<'_>) -> Result<(Labels, Columns), Malformed> {
    let labels = take_labels(&mut Reader::new(reader.bytes()?))?;
    let histograms = reader.byte()? == 1;
    // First time and span are in the samples, too.
    reader.signed()?;
    reader.varint()?;
    let count = reader.count(SAMPLES_MAX)?;
    let data = reader.bytes()?;
    let mut columns = Columns::default();
    if histograms {
        columns.histograms = histogram::decode(data, count)?;
    } else {
        let mut reader = Reader::new(data);
        columns.times = take_times(&mut reader, count)?.into();
        columns.values = take_values(&mut reader, count)?;
    }
    Ok((labels, columns))
}

fn take_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    let mut times = Vec::with_capacity(count);
    let (mut last, mut delta) = (0i64, 0i64);
    while times.len() < count {
        let change = reader.signed()?;
        let repeat = if change == 0 { reader.count(count - times.len() - 1)? + 1 } else { 1 };
        for _ in 0..repeat {
            let step = delta.wrapping_add(change);
            last = last.wrapping_add(step);
            delta = if times.is_empty() { 0 } else { step };
            times.push(last);
        }
    }
    Ok(times)
}

fn take_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    match reader.byte()? {
        0 => Ok(vec![reader.f64()?; count]),
        1 => take_decimals(reader, count),
        2 => take_xors(reader, count),
        _ => Err(Malformed("unknown coding of values")),
    }
}

fn take_decimals(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    let exponent = reader.byte()?;
    if exponent > EXPONENT_MAX {
        return Err(Malformed("power of ten too large"));
    }
    let mut exceptions = Vec::new();
    for _ in 0..reader.count(count)? {
        exceptions.push((reader.count(count)?, reader.f64()?));
    }
    let power = 10f64.powi(i32::from(exponent));
    let (mut whole, mut values) = (0i64, Vec::with_capacity(count));
    for _ in 0..count {
        whole = whole.wrapping_add(reader.signed()?);
        values.push(whole as f64 / power);
    }
    let mut next = 0usize;
    for (gap, value) in exceptions {
        let at = next + gap;
        *values.get_mut(at).ok_or(Malformed("an exception lies outside its column"))? = value;
        next = at + 1;
    }
    Ok(values)
}

fn take_xors(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    let (mut last, mut values) = (0u64, Vec::with_capacity(count));
    for _ in 0..count {
        let shape = usize::from(reader.byte()?);
        let (lead, trail) = (shape >> 4, shape & 15);
        let len = 8usize.checked_sub(lead + trail).ok_or(Malformed("a value of more than eight bytes"))?;
        let xor = reader.take(len)?.iter().fold(0u64, |xor, byte| xor << 8 | u64::from(*byte));
        last ^= xor.checked_shl(8 * trail as u32).unwrap_or_default();
        values.push(f64::from_bits(last));
    }
    Ok(values)
}

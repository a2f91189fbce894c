//! Records of the write-ahead log of logs. Each stands alone: it names its streams in full, so a
//! damaged record costs its own lines only.
//! Bytes: docs/format/logs.md.

use super::rows::{Rows, put_labels, put_metadata, put_times, read_labels, read_metadata, read_times};
use crate::model::labels::Labels;
use crate::store::codec::{Malformed, Reader, put_varint};

/// Shorter records are not compressed.
const PACKED_FROM_BYTES: usize = 1 << 10;
/// Largest record before compression, in bytes.
const RAW_BYTES_MAX: usize = 128 << 20;
/// zstd's level; a negative one: a third of the CPU of level 1.
const LEVEL: i32 = -3;

/// Lines of one stream.
pub(super) type Item = (Labels, Rows);

/// The record of `items`.
pub(super) fn encode(items: &[Item]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(items.iter().map(|(_, rows)| rows.bytes() + 64).sum());
    put_varint(&mut raw, items.len() as u64);
    for (labels, rows) in items {
        put_labels(&mut raw, labels);
        put_times(&mut raw, &rows.times, &rows.line_bytes);
        put_metadata(&mut raw, &rows.metadata);
        raw.extend_from_slice(rows.text.as_bytes());
    }
    let mut out = Vec::new();
    if raw.len() >= PACKED_FROM_BYTES
        && let Ok(packed) = zstd::bulk::compress(&raw, LEVEL)
        && packed.len() < raw.len()
    {
        out.push(1);
        put_varint(&mut out, raw.len() as u64);
        out.extend_from_slice(&packed);
    } else {
        out.push(0);
        out.extend_from_slice(&raw);
    }
    out
}

/// Reads a record.
///
/// # Errors
/// [`Malformed`].
pub(super) fn decode(record: &[u8]) -> Result<Vec<Item>, Malformed> {
    let mut reader = Reader::new(record);
    let unpacked;
    match reader.byte()? {
        0 => {}
        1 => {
            let raw = reader.count(RAW_BYTES_MAX)?;
            unpacked = zstd::bulk::decompress(reader.rest(), raw).map_err(|_| Malformed("does not decompress"))?;
            reader = Reader::new(&unpacked);
        }
        _ => return Err(Malformed("unknown compression")),
    }
    let mut items = Vec::new();
    for _ in 0..reader.count(reader.rest().len())? {
        let labels = read_labels(&mut reader)?;
        let (times, line_bytes) = read_times(&mut reader)?;
        let metadata = read_metadata(&mut reader, times.len())?;
        let bytes = line_bytes.iter().map(|bytes| *bytes as usize).sum();
        let text = std::str::from_utf8(reader.take(bytes)?).map_err(|_| Malformed("text is not UTF-8"))?;
        let rows = Rows { times, line_bytes, text: text.to_owned(), metadata };
        if !rows.cuts_no_character() {
            return Err(Malformed("a line ends inside a character"));
        }
        items.push((labels, rows));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let mut rows = Rows::default();
        rows.push(5, "öne", &Labels::default().with("trace_id", "1"));
        rows.push(-5, "", &Labels::default());
        let mut long = Rows::default();
        (0..100).for_each(|n| long.push(n, "a line that repeats", &Labels::default()));
        vec![(Labels::default().with("app", "a"), rows), (Labels::default(), long)]
    }

    #[test]
    fn records_come_back() {
        assert_eq!(decode(&encode(&items())), Ok(items()));
        assert_eq!(decode(&encode(&items()[..1])), Ok(items()[..1].to_vec()));
        assert!(encode(&items()).len() < 1000, "a long record is compressed");
    }

    #[test]
    fn any_bytes_decode_or_fail_without_panic() {
        for good in [encode(&items()), encode(&items()[..1])] {
            for at in 0..good.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let _ = decode(&bad);
                }
                let _ = decode(&good[..at]);
            }
        }
    }
}

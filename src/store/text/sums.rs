//! The file that vouches for an index: blocks of its segments, sizes and checksums of its files.

use std::io;
use std::path::Path;

use super::folder::{TextError, failed, segment_dir};
use crate::base::disk::Disk;
use crate::store::codec::{Malformed, Reader, put_bytes, put_str, put_varint};

/// The file's name.
pub(super) const SUMS: &str = "sums";
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
const MAGIC: [u8; 8] = *b"TRILTXT\x01";

/// Its bytes for the index that lies in `dir`: blocks of each segment, then name, size and checksum of
/// each file, and a checksum over that.
pub(super) fn list(disk: &dyn Disk, dir: &Path, finished: &[Vec<u32>]) -> io::Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    put_varint(&mut out, finished.len() as u64);
    for (number, blocks) in finished.iter().enumerate() {
        put_varint(&mut out, blocks.len() as u64);
        blocks.iter().for_each(|block| put_varint(&mut out, u64::from(*block)));
        let path = segment_dir(dir, number);
        let mut files = disk.list(&path)?;
        files.retain(|file| !file.name.ends_with(".lock"));
        put_varint(&mut out, files.len() as u64);
        for file in files {
            let (bytes, crc) = checksum(disk, &path.join(&file.name))?;
            put_str(&mut out, &file.name);
            put_varint(&mut out, bytes);
            put_bytes(&mut out, &crc.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

fn checksum(disk: &dyn Disk, path: &Path) -> io::Result<(u64, u32)> {
    let file = disk.open(path)?;
    let bytes = file.bytes()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut at, mut crc) = (0, 0);
    while at < bytes {
        let size = usize::try_from(bytes - at).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let piece = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        crc = crc32c::crc32c_append(crc, piece);
        at += size as u64;
    }
    Ok((bytes, crc))
}

/// Checks the files of an index; gives the blocks of each segment.
///
/// # Errors
/// [`TextError`]: they are not what was written, or could not be read.
pub(super) fn check(disk: &dyn Disk, dir: &Path, sums: &[u8]) -> Result<Vec<Vec<u32>>, TextError> {
    let wrong = |what: &str| TextError::new(dir, what);
    let (body, crc) = sums.split_last_chunk::<4>().ok_or_else(|| wrong("its checksums are cut short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(wrong("the checksum of its checksums does not hold"));
    }
    let body = body.strip_prefix(&MAGIC).ok_or_else(|| wrong("it is of another version"))?;
    let (listed, files) = decode_sums(body).map_err(|Malformed(what)| wrong(what))?;
    for (number, name, bytes, crc) in files {
        let path = segment_dir(dir, number).join(&name);
        let found = checksum(disk, &path).map_err(failed(&path))?;
        // A fuzzer wants to see what lies behind the checksums.
        if found != (bytes, crc) && cfg!(not(fuzzing)) {
            return Err(wrong(&format!("the checksum of {name} does not hold")));
        }
    }
    Ok(listed)
}

type ListedFile = (usize, String, u64, u32);

fn decode_sums(body: &[u8]) -> Result<(Vec<Vec<u32>>, Vec<ListedFile>), Malformed> {
    let mut reader = Reader::new(body);
    let (mut listed, mut files) = (Vec::new(), Vec::new());
    for number in 0..reader.count(body.len())? {
        let count = reader.count(body.len())?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            blocks.push(u32::try_from(reader.varint()?).map_err(|_| Malformed("number too large"))?);
        }
        listed.push(blocks);
        for _ in 0..reader.count(body.len())? {
            let (name, bytes) = (reader.str()?.to_owned(), reader.varint()?);
            let crc = reader.bytes()?.try_into().map_err(|_| Malformed("a checksum has another length"))?;
            files.push((number, name, bytes, u32::from_le_bytes(crc)));
        }
    }
    Ok((listed, files))
}

//! The file that vouches for an index: blocks of its segments, sizes and checksums of its files.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::folder::segment_dir;
use crate::store::codec::{Malformed, Reader, put_bytes, put_str, put_varint};

/// The file's name.
pub(super) const SUMS: &str = "sums";
const MAGIC: [u8; 8] = *b"TRILTXT\x01";

/// Its bytes for the index that lies in `dir`: blocks of each segment, then name, size and checksum of
/// each file, and a checksum over that.
pub(super) fn list(dir: &Path, finished: &[Vec<u32>]) -> io::Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    put_varint(&mut out, finished.len() as u64);
    for (number, blocks) in finished.iter().enumerate() {
        put_varint(&mut out, blocks.len() as u64);
        blocks.iter().for_each(|block| put_varint(&mut out, u64::from(*block)));
        let path = segment_dir(dir, number);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path)? {
            names.push(entry?.file_name());
        }
        names.retain(|name| name.to_str().is_some_and(|name| !name.ends_with(".lock")));
        names.sort();
        put_varint(&mut out, names.len() as u64);
        for name in names {
            let (bytes, crc) = checksum(&path.join(&name))?;
            put_str(&mut out, &name.to_string_lossy());
            put_varint(&mut out, bytes);
            put_bytes(&mut out, &crc.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, crc));
        }
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
    }
}

/// Checks the files of an index; gives the blocks of each segment.
pub(super) fn check(dir: &Path, sums: &[u8]) -> Result<Vec<Vec<u32>>, String> {
    let (body, crc) = sums.split_last_chunk::<4>().ok_or("its checksums are cut short")?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err("the checksum of its checksums does not hold".into());
    }
    let body = body.strip_prefix(&MAGIC).ok_or("it is of another version")?;
    let (listed, files) = decode_sums(body).map_err(|Malformed(what)| what.to_owned())?;
    for (number, name, bytes, crc) in files {
        let found = checksum(&segment_dir(dir, number).join(&name)).map_err(|error| format!("{name}: {error}"))?;
        // A fuzzer wants to see what lies behind the checksums.
        if found != (bytes, crc) && cfg!(not(fuzzing)) {
            return Err(format!("the checksum of {name} does not hold"));
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

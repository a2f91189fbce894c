//! Parts: immutable files of frames. A part is written under a temporary name, synced, renamed.
//! Flow: header frame (what the part is), data and index frames, footer frame (the same again and a
//! directory of the frames), trailer (where the footer is).
//! Invariants: each frame carries its kind, lengths and a crc32c over all of them, so a flipped byte
//! costs one frame, and a damaged footer is rebuilt by reading the frames from the front. The parts
//! of one flush form a group; a group counts only when all of it is there or its log is gone. A part
//! that was merged from others names them in its first frame, and counts instead of them.
//! Bytes: docs/format/part.md.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::catalog::PartId;
use super::codec::{Malformed, Reader, put_signed, put_varint};
use crate::base::disk::{AppendFile, Disk, ReadFile};
use crate::model::batch::Signal;

/// Version of everything in this file's format.
pub const PART_VERSION: u8 = 1;
/// Largest frame before compression, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

const MARKER: [u8; 4] = *b"\xF7TLF";
const MAGIC: [u8; 8] = *b"TRILPART";
const HEAD_BYTES: usize = 20;
const TRAILER_BYTES: usize = 24;
/// Frame of a merged part: which parts it counts for.
const KIND_MERGED: u8 = 0xEF;
const KIND_HEADER: u8 = 0xF0;
const KIND_FOOTER: u8 = 0xF1;

/// What a part is and spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Whose data it holds.
    pub signal: Signal,
    /// The newest write-ahead log segment whose records it holds; with `index` its name.
    pub seq: u64,
    /// Its place in its group.
    pub index: u32,
    /// How many parts its flush made; 0 when it is merged from other parts.
    pub group: u32,
    /// Earliest time in it, inclusive, in the signal's unit.
    pub min_t: i64,
    /// Latest time in it, inclusive, in the signal's unit.
    pub max_t: i64,
    /// Samples, lines or spans.
    pub rows: u64,
    /// When it was written, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl PartInfo {
    /// Seq and index, which name it.
    pub fn id(&self) -> PartId {
        (self.seq, self.index)
    }

    /// The part's file name.
    pub fn file_name(&self) -> String {
        format!("{:016x}-{:04x}.part", self.seq, self.index)
    }

    /// Seq and index of a part's file name.
    pub fn parse_file_name(name: &str) -> Option<(u64, u32)> {
        let (seq, index) = name.strip_suffix(".part")?.split_once('-')?;
        Some((u64::from_str_radix(seq, 16).ok()?, u32::from_str_radix(index, 16).ok()?))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(PART_VERSION);
        out.push(self.signal as u8);
        put_varint(out, self.seq);
        put_varint(out, u64::from(self.index));
        put_varint(out, u64::from(self.group));
        put_signed(out, self.min_t);
        put_signed(out, self.max_t);
        put_varint(out, self.rows);
        put_signed(out, self.created_ms);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.byte()? != PART_VERSION {
            return Err(Malformed("written by another version; run the version that wrote it or migrate"));
        }
        let signal = reader.byte()?;
        Ok(Self {
            signal: Signal::ALL.into_iter().find(|own| *own as u8 == signal).ok_or(Malformed("unknown signal"))?,
            seq: reader.varint()?,
            index: small(reader.varint()?)?,
            group: small(reader.varint()?)?,
            min_t: reader.signed()?,
            max_t: reader.signed()?,
            rows: reader.varint()?,
            created_ms: reader.signed()?,
        })
    }
}

fn small(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("number too large"))
}

/// What a merged part counts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The parts whose rows it holds; they may still be there after a crash.
    pub replaces: Vec<PartId>,
    /// What the signal noted when the merge began.
    pub mark: u64,
}

impl Merged {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.mark);
        put_varint(out, self.replaces.len() as u64);
        for (seq, index) in &self.replaces {
            put_varint(out, *seq);
            put_varint(out, u64::from(*index));
        }
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let mut merged = Self { mark: reader.varint()?, replaces: Vec::new() };
        for _ in 0..reader.count(payload.len())? {
            merged.replaces.push((reader.varint()?, small(reader.varint()?)?));
        }
        Ok(merged)
    }
}

/// Where a frame lies in its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    /// What is in it; each signal gives its own meanings below 0xF0.
    pub kind: u8,
    /// Offset of the frame's head.
    pub offset: u64,
    /// Bytes of the payload as stored.
    pub stored: u32,
    /// Bytes of the payload before compression.
    pub raw: u32,
}

/// Writes one part.
pub struct PartWriter {
    dir: PathBuf,
    info: PartInfo,
    file: Arc<dyn AppendFile>,
    offset: u64,
    frames: Vec<FrameRef>,
}

/// A part that is written and synced but not yet named.
pub struct PendingPart {
    tmp: PathBuf,
    path: PathBuf,
}

impl PendingPart {
    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

impl PartWriter {
    /// Starts a part in `dir` under a temporary name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, info: PartInfo) -> Result<Self, StoreError> {
        let tmp = dir.join(format!("{}.tmp", info.file_name()));
        let file = disk.append(&tmp).map_err(io_error("create", &tmp))?;
        file.truncate(0).map_err(io_error("truncate", &tmp))?;
        let mut writer = Self { dir: dir.to_owned(), info, file, offset: 0, frames: Vec::new() };
        let mut payload = Vec::new();
        writer.info.encode(&mut payload);
        writer.write(KIND_HEADER, &payload, 1)?;
        Ok(writer)
    }

    /// Says what a merged part counts for; the first frame of it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn merged(&mut self, merged: &Merged) -> Result<(), StoreError> {
        let mut payload = Vec::new();
        merged.encode(&mut payload);
        let frame = self.write(KIND_MERGED, &payload, 1)?;
        self.frames.push(frame);
        Ok(())
    }

    /// Where it is written until it has its name.
    pub fn unfinished(&self) -> PathBuf {
        self.tmp()
    }

    /// Writes a frame, compressed where that makes it smaller. `kind` is below 0xF0 and `payload`
    /// at most [`FRAME_BYTES_MAX`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<FrameRef, StoreError> {
        self.frame_at_level(kind, payload, 1)
    }

    /// [`frame`](Self::frame) at another zstd level than 1.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn frame_at_level(&mut self, kind: u8, payload: &[u8], level: i32) -> Result<FrameRef, StoreError> {
        debug_assert!(kind < KIND_HEADER, "kinds from 0xF0 on are the container's");
        let frame = self.write(kind, payload, level)?;
        self.frames.push(frame);
        Ok(frame)
    }

    /// [`frame`](Self::frame), compressed only where that saves an eighth: for payloads that are
    /// dense already and read often.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn frame_if_smaller(&mut self, kind: u8, payload: &[u8]) -> Result<FrameRef, StoreError> {
        debug_assert!(kind < KIND_HEADER, "kinds from 0xF0 on are the container's");
        let frame = self.write_within(kind, payload, 1, payload.len() - payload.len() / 8)?;
        self.frames.push(frame);
        Ok(frame)
    }

    /// Sets how many samples, lines or spans there are, for the footer: a writer may know only at
    /// the end.
    pub fn set_rows(&mut self, rows: u64) {
        self.info.rows = rows;
    }

    fn write(&mut self, kind: u8, payload: &[u8], level: i32) -> Result<FrameRef, StoreError> {
        self.write_within(kind, payload, level, payload.len())
    }

    /// Compresses a payload when it comes out smaller than `bytes_max`.
    fn write_within(&mut self, kind: u8, payload: &[u8], level: i32, bytes_max: usize) -> Result<FrameRef, StoreError> {
        let path = self.tmp();
        if payload.len() > FRAME_BYTES_MAX {
            let what = format!("a frame of {} bytes is over the limit of {FRAME_BYTES_MAX}", payload.len());
            return Err(StoreError::Damaged { path, what });
        }
        let packed = zstd::bulk::compress(payload, level).ok().filter(|packed| packed.len() < bytes_max);
        let (codec, stored) = packed.as_deref().map_or((0, payload), |packed| (1, packed));
        let frame = FrameRef { kind, offset: self.offset, stored: stored.len() as u32, raw: payload.len() as u32 };
        let mut bytes = Vec::with_capacity(HEAD_BYTES + stored.len());
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&[kind, codec, 0, 0]);
        bytes.extend_from_slice(&frame.stored.to_le_bytes());
        bytes.extend_from_slice(&frame.raw.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(bytes.get(4..).unwrap_or_default()), stored);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(stored);
        self.file.write_all(&bytes).map_err(io_error("write", &path))?;
        self.offset += bytes.len() as u64;
        Ok(frame)
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join(format!("{}.tmp", self.info.file_name()))
    }

    /// Writes footer and trailer and syncs. The part has no name yet: see [`commit`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self) -> Result<PendingPart, StoreError> {
        let mut payload = Vec::new();
        self.info.encode(&mut payload);
        put_varint(&mut payload, self.frames.len() as u64);
        for frame in &self.frames {
            payload.push(frame.kind);
            put_varint(&mut payload, frame.offset);
            put_varint(&mut payload, u64::from(frame.stored));
            put_varint(&mut payload, u64::from(frame.raw));
        }
        let footer = self.write(KIND_FOOTER, &payload, 1)?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&footer.offset.to_le_bytes());
        trailer.extend_from_slice(&footer.stored.to_le_bytes());
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        trailer.extend_from_slice(&MAGIC);
        let tmp = self.tmp();
        self.file.write_all(&trailer).map_err(io_error("write", &tmp))?;
        self.file.sync().map_err(io_error("sync", &tmp))?;
        Ok(PendingPart { path: self.dir.join(self.info.file_name()), tmp })
    }
}

/// Gives all parts of a flush their names and waits until the names are on the medium. After a
/// crash between two renames the group is incomplete, and its log, which is still there, counts.
///
/// # Errors
/// [`StoreError::Io`].
pub fn commit(disk: &dyn Disk, dir: &Path, parts: &[PendingPart]) -> Result<Vec<PathBuf>, StoreError> {
    for part in parts {
        disk.rename(&part.tmp, &part.path).map_err(io_error("rename", &part.tmp))?;
    }
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    Ok(parts.iter().map(|part| part.path.clone()).collect())
}

/// An open part.
pub struct PartReader {
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    bytes: u64,
    info: PartInfo,
    frames: Vec<FrameRef>,
    salvaged: Option<String>,
    merged: Option<Merged>,
}

impl PartReader {
    /// Opens a part by its footer or, where that is damaged, by reading its frames from the front;
    /// [`salvaged`](Self::salvaged) then says what was wrong.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] when not even the header can be read.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path).map_err(io_error("open", path))?;
        let bytes = file.bytes().map_err(io_error("read", path))?;
        let mut reader = Self {
            path: path.to_owned(),
            file,
            bytes,
            info: PartInfo {
                signal: Signal::Metrics,
                seq: 0,
                index: 0,
                group: 0,
                min_t: 0,
                max_t: 0,
                rows: 0,
                created_ms: 0,
            },
            frames: Vec::new(),
            salvaged: None,
            merged: None,
        };
        if let Err(what) = reader.read_footer() {
            reader.salvage()?;
            reader.salvaged = Some(format!("its footer was unreadable ({what}) and has been rebuilt from its frames"));
        }
        let merged = reader.frames.iter().find(|frame| frame.kind == KIND_MERGED).copied();
        if let Some(frame) = merged {
            let read = reader
                .read(frame)
                .and_then(|payload| Merged::decode(&payload).map_err(|Malformed(what)| reader.damaged(what)));
            // Without it the parts it was merged from count too, should they still be there.
            if let Err(error) = &read {
                reader.salvaged = Some(format!("it does not say which parts it counts for ({error})"));
            }
            reader.merged = Some(read.unwrap_or_default());
        }
        Ok(reader)
    }

    /// What the part is.
    pub fn info(&self) -> &PartInfo {
        &self.info
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it counts for, when it was merged from other parts.
    pub fn merged(&self) -> Option<&Merged> {
        self.merged.as_ref()
    }

    /// Its frames, in file order.
    pub fn frames(&self) -> &[FrameRef] {
        &self.frames
    }

    /// What was wrong with it when it was opened, if anything.
    pub fn salvaged(&self) -> Option<&str> {
        self.salvaged.as_deref()
    }

    /// An error about this part.
    pub fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.into() }
    }

    /// The payload of a frame, checked and decompressed.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] when the checksum does not hold.
    pub fn read(&self, frame: FrameRef) -> Result<Vec<u8>, StoreError> {
        let end = frame.offset.saturating_add(HEAD_BYTES as u64 + u64::from(frame.stored));
        if end > self.bytes || frame.raw as usize > FRAME_BYTES_MAX {
            return Err(self.damaged(format!("frame at {} lies outside the file", frame.offset)));
        }
        let mut bytes = vec![0; HEAD_BYTES + frame.stored as usize];
        self.file.read_exact_at(&mut bytes, frame.offset).map_err(io_error("read", &self.path))?;
        let (found, payload) =
            open_frame(&bytes).map_err(|Malformed(what)| self.damaged(format!("frame at {}: {what}", frame.offset)))?;
        if (found.kind, found.raw) != (frame.kind, frame.raw) {
            return Err(self.damaged(format!("frame at {} is not the one expected", frame.offset)));
        }
        Ok(payload)
    }

    fn read_footer(&mut self) -> Result<(), String> {
        let start = self.bytes.checked_sub(TRAILER_BYTES as u64).ok_or("the file is too short")?;
        let mut trailer = [0; TRAILER_BYTES];
        self.file.read_exact_at(&mut trailer, start).map_err(|error| error.to_string())?;
        let mut reader = Reader::new(&trailer);
        let crc = crc32c::crc32c(trailer.get(..12).unwrap_or_default());
        let text = |Malformed(what): Malformed| what.to_owned();
        let (offset, stored) = (reader.u64().map_err(text)?, reader.u32().map_err(text)?);
        if reader.u32().map_err(text)? != crc || reader.rest() != MAGIC {
            return Err("the trailer's checksum does not hold".into());
        }
        if offset.saturating_add(HEAD_BYTES as u64 + u64::from(stored)) > start {
            return Err("the trailer points outside the file".into());
        }
        let mut bytes = vec![0; HEAD_BYTES + stored as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
        let (frame, payload) = open_frame(&bytes).map_err(text)?;
        if frame.kind != KIND_FOOTER {
            return Err("the trailer does not point to the footer".into());
        }
        let mut reader = Reader::new(&payload);
        self.info = PartInfo::decode(&mut reader).map_err(text)?;
        self.frames = decode_directory(&mut reader).map_err(text)?;
        Ok(())
    }

    /// Reads frames from the front; skips to the next marker where one is damaged.
    fn salvage(&mut self) -> Result<(), StoreError> {
        let mut header = None;
        let mut offset = 0;
        self.frames.clear();
        while offset + HEAD_BYTES as u64 <= self.bytes {
            let Some((frame, payload)) = self.frame_at(offset) else {
                offset = self.next_marker(offset + 1)?;
                continue;
            };
            match frame.kind {
                KIND_HEADER => header = PartInfo::decode(&mut Reader::new(&payload)).ok().or(header),
                KIND_FOOTER => header = header.or_else(|| PartInfo::decode(&mut Reader::new(&payload)).ok()),
                _ => self.frames.push(frame),
            }
            offset += HEAD_BYTES as u64 + u64::from(frame.stored);
        }
        self.info = header.ok_or_else(|| self.damaged("neither its header nor its footer can be read"))?;
        Ok(())
    }

    fn frame_at(&self, offset: u64) -> Option<(FrameRef, Vec<u8>)> {
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, offset).ok()?;
        let mut reader = Reader::new(head.get(8..)?);
        let stored = reader.u32().ok()?;
        if !head.starts_with(&MARKER) || offset + HEAD_BYTES as u64 + u64::from(stored) > self.bytes {
            return None;
        }
        let mut bytes = vec![0; HEAD_BYTES + stored as usize];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        let (frame, payload) = open_frame(&bytes).ok()?;
        Some((FrameRef { offset, ..frame }, payload))
    }

    fn next_marker(&self, mut offset: u64) -> Result<u64, StoreError> {
        let mut window = vec![0; 64 << 10];
        while offset < self.bytes {
            let len = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX).min(window.len());
            let slice = window.get_mut(..len).unwrap_or_default();
            self.file.read_exact_at(slice, offset).map_err(io_error("read", &self.path))?;
            if let Some(at) = memchr::memmem::find(slice, &MARKER) {
                return Ok(offset + at as u64);
            }
            offset += (len.saturating_sub(MARKER.len() - 1)).max(1) as u64;
        }
        Ok(self.bytes)
    }
}

fn decode_directory(reader: &mut Reader<'_>) -> Result<Vec<FrameRef>, Malformed> {
    let count = reader.count(reader.rest().len())?;
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = reader.byte()?;
        let offset = reader.varint()?;
        frames.push(FrameRef { kind, offset, stored: small(reader.varint()?)?, raw: small(reader.varint()?)? });
    }
    Ok(frames)
}

/// Checks a whole frame and decompresses it; its offset is left 0.
fn open_frame(bytes: &[u8]) -> Result<(FrameRef, Vec<u8>), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.take(4)? != MARKER {
        return Err(Malformed("no frame begins here"));
    }
    let (kind, codec) = (reader.byte()?, reader.byte()?);
    reader.take(2)?;
    let (stored, raw) = (reader.u32()?, reader.u32()?);
    let crc = reader.u32()?;
    let payload = reader.take(stored as usize)?;
    let found = crc32c::crc32c_append(crc32c::crc32c(bytes.get(4..16).unwrap_or_default()), payload);
    if found != crc {
        return Err(Malformed("the checksum does not hold"));
    }
    if raw as usize > FRAME_BYTES_MAX {
        return Err(Malformed("the frame is too large"));
    }
    let payload = match codec {
        0 => payload.to_vec(),
        1 => zstd::bulk::decompress(payload, raw as usize).map_err(|_| Malformed("the frame does not decompress"))?,
        _ => return Err(Malformed("unknown compression")),
    };
    if payload.len() != raw as usize {
        return Err(Malformed("the frame has another length than it says"));
    }
    Ok((FrameRef { kind, offset: 0, stored, raw }, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::RealDisk;

    fn info() -> PartInfo {
        PartInfo { signal: Signal::Logs, seq: 7, index: 1, group: 2, min_t: -5, max_t: 9, rows: 3, created_ms: 1 }
    }

    fn write(dir: &Path) -> PathBuf {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut writer = PartWriter::create(&disk, dir, info()).unwrap();
        writer.frame(1, b"first").unwrap();
        writer.frame(2, &[42; 10_000]).unwrap();
        let pending = writer.finish().unwrap();
        commit(&*disk, dir, &[pending]).unwrap().remove(0)
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartReader::open(&RealDisk, &write(dir.path())).unwrap();
        assert_eq!(part.info(), &info());
        assert_eq!(part.salvaged(), None);
        assert_eq!(part.read(part.frames()[0]).unwrap(), b"first");
        assert_eq!(part.read(part.frames()[1]).unwrap(), [42; 10_000]);
        assert_eq!(PartInfo::parse_file_name(&info().file_name()), Some((7, 1)));
    }

    #[test]
    fn any_flipped_byte_costs_at_most_one_frame_and_gives_no_false_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path());
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            std::fs::write(&path, &bad).unwrap();
            let part = PartReader::open(&RealDisk, &path).unwrap();
            assert_eq!(part.info(), &info(), "byte {at}");
            let read: Vec<_> = part.frames().iter().filter_map(|frame| part.read(*frame).ok()).collect();
            assert!(!read.is_empty(), "byte {at}");
            assert!(read.iter().all(|data| data == b"first" || data == &[42; 10_000]), "byte {at}");
        }
    }

    #[test]
    fn a_cut_part_keeps_the_frames_before_the_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path());
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..good.len() - 40]).unwrap();
        let part = PartReader::open(&RealDisk, &path).unwrap();
        assert!(part.salvaged().is_some());
        assert_eq!(part.read(part.frames()[0]).unwrap(), b"first");
        std::fs::write(&path, &good[..10]).unwrap();
        assert!(PartReader::open(&RealDisk, &path).is_err());
    }
}

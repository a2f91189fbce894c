//! Reading a part: by its footer, or frame by frame from the front where that is damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::PartFile;
use super::format::{
    FRAME_BYTES_MAX, FrameRef, HEAD_BYTES, KIND_FOOTER, KIND_HEADER, KIND_MERGED, MAGIC, MARKER, Merged, PartInfo,
    TRAILER_BYTES, small,
};
use crate::base::disk::Disk;
use crate::model::batch::Signal;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::{StoreError, io_error};

/// An open part.
pub struct PartReader {
    path: PathBuf,
    file: PartFile,
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
    /// [`StoreError::Io`], which says nothing about the part: it may open later;
    /// [`StoreError::Damaged`] when not even the header can be read.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let file = PartFile::new(disk, path);
        let bytes = file.get().map_err(io_error("open", path))?.bytes().map_err(io_error("read", path))?;
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
        match reader.read_footer() {
            Err(StoreError::Damaged { what, .. }) => {
                reader.salvage()?;
                let salvaged = format!("its footer was unreadable ({what}) and has been rebuilt from its frames");
                reader.salvaged = Some(salvaged);
            }
            read => read?,
        }
        let merged = reader.frames.iter().find(|frame| frame.kind == KIND_MERGED).copied();
        if let Some(frame) = merged {
            let read = reader
                .read(frame)
                .and_then(|payload| Merged::decode(&payload).map_err(|Malformed(what)| reader.damaged(what)));
            reader.merged = Some(match read {
                // Without it the parts it was merged from count too, should they still be there.
                Err(error) if error.is_damage() => {
                    reader.salvaged = Some(format!("it does not say which parts it counts for ({error})"));
                    Merged::default()
                }
                read => read?,
            });
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

    /// Memory that it takes while it is open, in bytes, more or less.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.path.as_os_str().len() + self.frames.capacity() * size_of::<FrameRef>()
    }

    /// To be called before its file is removed: whoever still has the part reads on.
    pub fn pin(&self) {
        self.file.pin();
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
        self.fill(&mut bytes, frame.offset)?;
        let (found, payload) =
            open_frame(&bytes).map_err(|Malformed(what)| self.damaged(format!("frame at {}: {what}", frame.offset)))?;
        if (found.kind, found.raw) != (frame.kind, frame.raw) {
            return Err(self.damaged(format!("frame at {} is not the one expected", frame.offset)));
        }
        Ok(payload)
    }

    /// Fills a buffer from the file. A file that has become shorter is damaged; any other failure is the
    /// system's, and says nothing about what is in the file.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
        let file = self.file.get().map_err(io_error("open", &self.path))?;
        file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file is shorter than it was"),
            _ => io_error("read", &self.path)(error),
        })
    }

    fn read_footer(&mut self) -> Result<(), StoreError> {
        let start = self.bytes.checked_sub(TRAILER_BYTES as u64);
        let start = start.ok_or_else(|| self.damaged("the file is too short"))?;
        let mut trailer = [0; TRAILER_BYTES];
        self.fill(&mut trailer, start)?;
        let (offset, stored) = decode_trailer(&trailer).map_err(|Malformed(what)| self.damaged(what))?;
        if offset.saturating_add(HEAD_BYTES as u64 + u64::from(stored)) > start {
            return Err(self.damaged("the trailer points outside the file"));
        }
        let mut bytes = vec![0; HEAD_BYTES + stored as usize];
        self.fill(&mut bytes, offset)?;
        let decoded = decode_footer(&bytes).map_err(|Malformed(what)| self.damaged(what))?;
        (self.info, self.frames) = decoded;
        Ok(())
    }

    /// Reads frames from the front; skips to the next marker where one is damaged.
    fn salvage(&mut self) -> Result<(), StoreError> {
        let mut header = None;
        let mut offset = 0;
        self.frames.clear();
        while offset + HEAD_BYTES as u64 <= self.bytes {
            let Some((frame, payload)) = self.frame_at(offset)? else {
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

    /// The frame that begins at `offset`, if a whole one does.
    fn frame_at(&self, offset: u64) -> Result<Option<(FrameRef, Vec<u8>)>, StoreError> {
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head, offset)?;
        let Ok(stored) = Reader::new(head.get(8..).unwrap_or_default()).u32() else { return Ok(None) };
        if !head.starts_with(&MARKER) || offset + HEAD_BYTES as u64 + u64::from(stored) > self.bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; HEAD_BYTES + stored as usize];
        self.fill(&mut bytes, offset)?;
        Ok(open_frame(&bytes).ok().map(|(frame, payload)| (FrameRef { offset, ..frame }, payload)))
    }

    fn next_marker(&self, mut offset: u64) -> Result<u64, StoreError> {
        let mut window = vec![0; 64 << 10];
        while offset < self.bytes {
            let len = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX).min(window.len());
            let slice = window.get_mut(..len).unwrap_or_default();
            self.fill(slice, offset)?;
            if let Some(at) = memchr::memmem::find(slice, &MARKER) {
                return Ok(offset + at as u64);
            }
            offset += (len.saturating_sub(MARKER.len() - 1)).max(1) as u64;
        }
        Ok(self.bytes)
    }
}

/// Where the footer begins, and its stored bytes.
fn decode_trailer(trailer: &[u8; TRAILER_BYTES]) -> Result<(u64, u32), Malformed> {
    let mut reader = Reader::new(trailer);
    let crc = crc32c::crc32c(trailer.get(..12).unwrap_or_default());
    let found = (reader.u64()?, reader.u32()?);
    if reader.u32()? != crc || reader.rest() != MAGIC {
        return Err(Malformed("the trailer's checksum does not hold"));
    }
    Ok(found)
}

fn decode_footer(bytes: &[u8]) -> Result<(PartInfo, Vec<FrameRef>), Malformed> {
    let (frame, payload) = open_frame(bytes)?;
    if frame.kind != KIND_FOOTER {
        return Err(Malformed("the trailer does not point to the footer"));
    }
    let mut reader = Reader::new(&payload);
    Ok((PartInfo::decode(&mut reader)?, decode_directory(&mut reader)?))
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
    #[cfg(fuzzing)]
    let payload = super::fuzzed::change(payload);
    Ok((FrameRef { kind, offset: 0, stored, raw }, payload))
}

//! Reading a part: by its footer, or frame by frame from the front where that is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    FRAME_BYTES_MAX, FrameRef, HEAD_BYTES, KIND_FOOTER, KIND_HEADER, KIND_MERGED, MAGIC, MARKER, Merged, PartInfo,
    TRAILER_BYTES, small,
};
use crate::base::disk::{Disk, ReadFile};
use crate::model::batch::Signal;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::{StoreError, io_error};

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

//! Writing a part: frame after frame, then footer and trailer, then its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    FRAME_BYTES_MAX, FrameRef, HEAD_BYTES, KIND_FOOTER, KIND_HEADER, KIND_MERGED, MAGIC, MARKER, Merged, PartInfo,
    TRAILER_BYTES,
};
use crate::base::disk::{AppendFile, Disk};
use crate::store::codec::put_varint;
use crate::store::error::{StoreError, io_error};

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

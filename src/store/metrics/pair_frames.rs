//! The frames of a part that say which series have a label pair: written from pairs in their order, in the memory
//! of one frame. Bytes: docs/format/metrics.md.

use super::layout::{FRAME_BYTES, FRAME_POSTINGS, LEVEL, PostingsRef, key};
use super::postings::RunsBuilder;
use crate::store::codec::{put_bytes, put_str, put_varint};
use crate::store::error::StoreError;
use crate::store::part::PartWriter;

/// Writes label pairs that come in the order of names and, of one name, of values.
pub struct PostingsFrames<'a> {
    out: &'a mut PartWriter,
    payload: Vec<u8>,
    name: String,
    /// Pairs of `name` that are not in `payload` yet.
    group: Vec<u8>,
    count: u64,
    refs: Vec<PostingsRef>,
}

impl<'a> PostingsFrames<'a> {
    pub(super) fn new(out: &'a mut PartWriter) -> Self {
        Self { out, payload: Vec::new(), name: String::new(), group: Vec::new(), count: 0, refs: Vec::new() }
    }

    /// Adds a pair and the series that have it; one without series is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn pair(&mut self, name: &str, value: &str, series: &mut RunsBuilder) -> Result<(), StoreError> {
        if series.is_empty() {
            return Ok(());
        }
        if self.name != name {
            self.end_group();
            self.name.clear();
            self.name.push_str(name);
        }
        if self.payload.is_empty() && self.count == 0 {
            self.refs.push(PostingsRef { offset: 0, name: name.to_owned(), value: key(value).to_vec() });
        }
        put_str(&mut self.group, value);
        put_bytes(&mut self.group, series.finish());
        self.count += 1;
        if self.payload.len() + self.group.len() >= FRAME_BYTES {
            self.end_group();
            self.close()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<PostingsRef>, StoreError> {
        self.end_group();
        self.close()?;
        Ok(self.refs)
    }

    fn end_group(&mut self) {
        if self.count > 0 {
            put_str(&mut self.payload, &self.name);
            put_varint(&mut self.payload, self.count);
            self.payload.append(&mut self.group);
            self.count = 0;
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if !self.payload.is_empty() {
            let frame = self.out.frame_at_level(FRAME_POSTINGS, &self.payload, LEVEL)?;
            self.payload.clear();
            if let Some(last) = self.refs.last_mut() {
                last.offset = frame.offset;
            }
        }
        Ok(())
    }
}

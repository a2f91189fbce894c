//! A part of spans: blocks, a directory of traces, names and values, and the index of all these.
//! Flow: `flush` writes it through [`PartBuilder`]; [`TracesPart::open`] reads the index, and a query
//! then reads single blocks or pages of the directory.
//! Invariants: every frame stands alone, so damage to a block costs that block; index, directory and
//! facets are made anew from the blocks when they cannot be read; the index only narrows.
//! Bytes: docs/format/traces.md.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::facets::Facets;
use super::index::{
    BlockMeta, Directory, ENTRY_BYTES, Index, IndexBuilder, KIND_BLOCK, KIND_FACETS, KIND_INDEX, KIND_PAGE,
    PAGE_ENTRIES, Page, trace_key,
};
use super::spanset::{self, SpanSet};
use crate::base::counters::Cell;
use crate::model::span::{Span, TraceId};
use crate::model::time::RangeNs;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;
use crate::store::part::{FRAME_BYTES_MAX, PartReader, PartWriter};
use crate::store::text::narrow::PartText;

/// Writes the frames of one part.
pub(super) struct PartBuilder<'w> {
    out: &'w mut PartWriter,
    index: IndexBuilder,
}

impl<'w> PartBuilder<'w> {
    /// Begins.
    pub(super) fn new(out: &'w mut PartWriter) -> Self {
        Self { out, index: IndexBuilder::default() }
    }

    /// Writes a block, or several when one would be too large for a frame; spans of one trace follow
    /// each other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn block(&mut self, spans: &[&Span]) -> Result<(), StoreError> {
        let raw = spanset::encode(spans);
        if raw.len() > FRAME_BYTES_MAX && spans.len() > 1 {
            let (first, rest) = spans.split_at(spans.len() / 2);
            self.block(first)?;
            return self.block(rest);
        }
        let frame = self.out.frame(KIND_BLOCK, &raw)?;
        let added = SpanSet::parse(&raw).and_then(|set| self.index.add(frame, &set));
        debug_assert!(added.is_ok(), "what was encoded decodes");
        Ok(())
    }

    /// Writes what finds the blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.index.sort();
        let mut pages = Vec::new();
        for entries in self.index.directory.chunks(PAGE_ENTRIES) {
            let mut page = Vec::with_capacity(entries.len() * ENTRY_BYTES);
            for (key, block) in entries {
                page.extend_from_slice(&key.to_be_bytes());
                page.extend_from_slice(&block.to_be_bytes());
            }
            let first = entries.first().map_or(0, |(key, _)| *key);
            pages.push(Page { frame: self.out.frame(KIND_PAGE, &page)?, first });
        }
        let facets = self.out.frame(KIND_FACETS, &self.index.facets.encode())?;
        let index = Index {
            blocks: self.index.blocks,
            services: self.index.services,
            names: self.index.names,
            directory: Directory::Pages(pages),
            facets: Some(facets),
        };
        self.out.frame(KIND_INDEX, &index.encode())?;
        Ok(())
    }
}

/// An open part.
pub struct TracesPart {
    reader: PartReader,
    index: Index,
    rebuilt_facets: OnceLock<Facets>,
    damaged: Cell,
    /// The text index, when there is one.
    pub(super) text: PartText,
}

impl TracesPart {
    /// Reads the index, or makes it anew from the blocks. `damaged` counts what cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn open(reader: PartReader, damaged: Cell) -> Result<Self, StoreError> {
        let frame = reader.frames().iter().rev().find(|frame| frame.kind == KIND_INDEX).copied();
        let read = || -> Result<Index, StoreError> {
            let frame = frame.ok_or_else(|| reader.damaged("the index is missing"))?;
            let bytes = reader.read(frame)?;
            Index::decode(&bytes).map_err(|Malformed(what)| reader.damaged(what))
        };
        let mut rebuilt_facets = OnceLock::new();
        let index = match read() {
            Ok(index) => index,
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                damaged.inc();
                tracing::error!(%error, "the index of a part is made anew from its blocks");
                let mut built = rebuild(&reader, &damaged)?;
                built.sort();
                rebuilt_facets = OnceLock::from(built.facets);
                Index {
                    blocks: built.blocks,
                    services: built.services,
                    names: built.names,
                    directory: Directory::Memory(built.directory),
                    facets: None,
                }
            }
        };
        Ok(Self { reader, index, rebuilt_facets, damaged, text: PartText::default() })
    }

    /// The container.
    pub(super) fn reader(&self) -> &PartReader {
        &self.reader
    }

    /// Memory that it takes while it is open, in bytes, beside its container.
    pub(super) fn memory(&self) -> usize {
        let lists = self.index.blocks.iter().map(|block| 2 * (block.services.capacity() + block.names.capacity()));
        self.index.blocks.capacity() * size_of::<BlockMeta>() + lists.sum::<usize>()
    }

    /// What the index says of each block.
    pub(super) fn blocks(&self) -> &[BlockMeta] {
        &self.index.blocks
    }

    /// Whether a span may overlap `range`.
    pub(super) fn overlaps(&self, range: RangeNs) -> bool {
        self.index.blocks.iter().any(|block| range.overlaps(block.min_start, block.max_end))
    }

    /// Whether the index leaves it open that `block` has a span of this service.
    pub(super) fn may_have_service(&self, block: &BlockMeta, service: &str) -> bool {
        self.index.services.may_have(&block.services, service)
    }

    /// Whether the index leaves it open that `block` has a span of this name.
    pub(super) fn may_have_name(&self, block: &BlockMeta, name: &str) -> bool {
        self.index.names.may_have(&block.names, name)
    }

    /// The span set of a block; `None` when the block is damaged, which is logged and counted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn block(&self, number: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(block) = self.index.blocks.get(number) else { return Ok(None) };
        match self.reader.read(block.frame) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ StoreError::Damaged { .. }) => {
                self.note(&error, "a block of spans is damaged and left out");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Logs and counts an error that costs spans.
    pub(super) fn note(&self, error: &(dyn std::error::Error + 'static), what: &str) {
        self.damaged.inc();
        tracing::error!(error, path = ?self.reader.path(), "{what}");
    }

    /// Numbers of the blocks that may have spans of a trace.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn lookup(&self, id: TraceId) -> Result<Vec<u32>, StoreError> {
        let key = trace_key(id);
        match &self.index.directory {
            Directory::Memory(entries) => Ok(of_key(entries, key)),
            Directory::Pages(pages) => {
                let from = pages.partition_point(|page| page.first < key).saturating_sub(1);
                let mut found = Vec::new();
                for page in pages.iter().skip(from).take_while(|page| page.first <= key) {
                    let Some(entries) = self.page(page)? else { return Ok(self.all_blocks()) };
                    found.extend(of_key(&entries, key));
                }
                Ok(found)
            }
        }
    }

    fn all_blocks(&self) -> Vec<u32> {
        (0..self.index.blocks.len() as u32).collect()
    }

    /// Entries of a page; `None` when it is damaged, and then every block has to be read.
    fn page(&self, page: &Page) -> Result<Option<Vec<(u64, u32)>>, StoreError> {
        match self.reader.read(page.frame) {
            Ok(bytes) => Ok(Some(read_page(&bytes))),
            Err(error @ StoreError::Damaged { .. }) => {
                self.damaged.inc();
                tracing::error!(%error, "a page of the directory of traces is damaged; all blocks are read instead");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// All of the directory, sorted by key; `None` when some of it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn directory(&self) -> Result<Option<Vec<(u64, u32)>>, StoreError> {
        match &self.index.directory {
            Directory::Memory(entries) => Ok(Some(entries.clone())),
            Directory::Pages(pages) => {
                let mut all = Vec::new();
                for page in pages {
                    let Some(entries) = self.page(page)? else { return Ok(None) };
                    all.extend(entries);
                }
                Ok(Some(all))
            }
        }
    }

    /// Names and values.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn facets(&self) -> Result<Facets, StoreError> {
        if let Some(facets) = self.rebuilt_facets.get() {
            return Ok(facets.clone());
        }
        let read = self.index.facets.map(|frame| self.reader.read(frame));
        match read {
            Some(Ok(bytes)) => {
                if let Ok(facets) = Facets::decode(&bytes) {
                    return Ok(facets);
                }
            }
            Some(Err(error)) if !error.is_damage() => return Err(error),
            Some(Err(_)) | None => {}
        }
        self.damaged.inc();
        tracing::error!(path = ?self.reader.path(), "names and values of a part are made anew from its blocks");
        let rebuilt = rebuild(&self.reader, &self.damaged)?.facets;
        Ok(self.rebuilt_facets.get_or_init(|| rebuilt).clone())
    }
}

/// An open part as the lane holds it; the thread of text indexes shares it.
pub struct OpenPart(pub(super) Arc<TracesPart>);

impl Deref for OpenPart {
    type Target = TracesPart;

    fn deref(&self) -> &TracesPart {
        &self.0
    }
}

/// The key that a trace has in [`TracesPart::directory`].
pub(super) fn directory_key(id: TraceId) -> u64 {
    trace_key(id)
}

/// Blocks of the entries with a key, of sorted entries.
pub(super) fn of_key(entries: &[(u64, u32)], key: u64) -> Vec<u32> {
    let from = entries.partition_point(|(own, _)| *own < key);
    entries.iter().skip(from).take_while(|(own, _)| *own == key).map(|(_, block)| *block).collect()
}

fn read_page(bytes: &[u8]) -> Vec<(u64, u32)> {
    let entry = |entry: &[u8]| {
        let mut reader = Reader::new(entry);
        Some((u64::from_be_bytes(reader.array().ok()?), u32::from_be_bytes(reader.array().ok()?)))
    };
    bytes.chunks_exact(ENTRY_BYTES).filter_map(entry).collect()
}

/// Reads every block that is whole.
fn rebuild(reader: &PartReader, damaged: &Cell) -> Result<IndexBuilder, StoreError> {
    let mut built = IndexBuilder::default();
    for frame in reader.frames().iter().filter(|frame| frame.kind == KIND_BLOCK) {
        let added = reader.read(*frame).and_then(|bytes| {
            let added = SpanSet::parse(&bytes).and_then(|set| built.add(*frame, &set));
            added.map_err(|Malformed(what)| reader.damaged(what))
        });
        match added {
            Err(error) if error.is_damage() => {
                damaged.inc();
                tracing::error!(%error, "a block of spans is damaged and left out");
            }
            added => added?,
        }
    }
    Ok(built)
}

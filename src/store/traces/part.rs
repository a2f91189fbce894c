//! A part of spans: blocks, a directory of traces, names and values, and the index of all these.
//! Flow: `flush` writes it through [`PartBuilder`]; [`TracesPart::open`] reads the index, and a query
//! then reads single blocks or pages of the directory.
//! Invariants: every frame stands alone, so damage to a block costs that block; index, directory and
//! facets are made anew from the blocks when they cannot be read; the index only narrows.
//! Bytes: docs/format/traces.md.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::facets::Facets;
use super::spanset::{self, SpanSet};
use crate::base::counters::Cell;
use crate::model::span::{Span, TraceId};
use crate::model::time::RangeNs;
use crate::store::StoreError;
use crate::store::codec::{Malformed, Reader, put_signed, put_str, put_varint};
use crate::store::part::{FRAME_BYTES_MAX, FrameRef, PartReader, PartWriter};
use crate::store::text::narrow::PartText;

/// Frames of span sets.
const KIND_BLOCK: u8 = 1;
/// Pages of the directory of traces.
const KIND_PAGE: u8 = 2;
/// Names and values.
const KIND_FACETS: u8 = 3;
/// Where everything else is.
const KIND_INDEX: u8 = 4;

/// Entries of one page of the directory.
const PAGE_ENTRIES: usize = 4096;
const ENTRY_BYTES: usize = 12;
/// Services, or names of spans, that are listed by block; with more of them, or longer ones, a block
/// may have any.
const LISTED_MAX: usize = 4096;
const LISTED_BYTES_MAX: usize = 256;

/// What the index says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockMeta {
    frame: FrameRef,
    /// How many spans.
    pub(super) spans: u64,
    /// Earliest start.
    pub(super) min_start: i64,
    /// Latest end, or start of a span that ends before it starts.
    pub(super) max_end: i64,
    services: Vec<u16>,
    names: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    frame: FrameRef,
    first: u64,
}

/// Strings that blocks list by number.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    numbers: BTreeMap<String, u16>,
    overflow: bool,
}

impl Listed {
    fn add<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> Vec<u16> {
        let mut found = Vec::new();
        for text in texts {
            if let Some(number) = self.numbers.get(text) {
                found.push(*number);
            } else if self.numbers.len() < LISTED_MAX && text.len() <= LISTED_BYTES_MAX {
                let number = self.numbers.len() as u16;
                self.numbers.insert(text.to_owned(), number);
                found.push(number);
            } else {
                self.overflow = true;
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether a block that lists `numbers` may have `text`.
    fn may_have(&self, numbers: &[u16], text: &str) -> bool {
        self.overflow || self.numbers.get(text).is_some_and(|number| numbers.binary_search(number).is_ok())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.overflow));
        let mut texts: Vec<_> = self.numbers.iter().collect();
        texts.sort_unstable_by_key(|(_, number)| **number);
        put_varint(out, texts.len() as u64);
        texts.iter().for_each(|(text, _)| put_str(out, text));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let overflow = reader.byte()? != 0;
        let mut numbers = BTreeMap::new();
        for number in 0..reader.count(LISTED_MAX)? {
            numbers.insert(reader.str()?.to_owned(), number as u16);
        }
        Ok(Self { numbers, overflow })
    }
}

/// Where a trace is looked up.
enum Directory {
    /// In pages of the file.
    Pages(Vec<Page>),
    /// In memory, because the file's index could not be read.
    Memory(Vec<(u64, u32)>),
}

/// What a trace is looked up by; others may have the same.
fn trace_key(id: TraceId) -> u64 {
    let number = u128::from_be_bytes(id.0);
    (number as u64) ^ ((number >> 64) as u64).rotate_left(1)
}

/// Collects what is said about blocks.
#[derive(Default)]
struct IndexBuilder {
    blocks: Vec<BlockMeta>,
    services: Listed,
    names: Listed,
    directory: Vec<(u64, u32)>,
    facets: Facets,
}

impl IndexBuilder {
    fn add(&mut self, frame: FrameRef, set: &SpanSet<'_>) -> Result<(), Malformed> {
        let number = self.blocks.len() as u32;
        let (mut min_start, mut max_end) = (i64::MAX, i64::MIN);
        set.rows(|row| {
            min_start = min_start.min(row.start);
            max_end = max_end.max(row.end).max(row.start);
        })?;
        self.blocks.push(BlockMeta {
            frame,
            spans: set.len() as u64,
            min_start,
            max_end,
            services: self.services.add(set.resources().iter().map(|resource| resource.service_name())),
            names: self.names.add(set.names().iter().copied()),
        });
        self.directory.extend(set.groups().iter().map(|(id, _)| (trace_key(*id), number)));
        self.facets.add(set)
    }

    fn sort(&mut self) {
        self.directory.sort_unstable();
        self.directory.dedup();
    }
}

fn put_frame(out: &mut Vec<u8>, frame: FrameRef) {
    put_varint(out, frame.offset);
    put_varint(out, u64::from(frame.stored));
    put_varint(out, u64::from(frame.raw));
}

fn read_frame(reader: &mut Reader<'_>, kind: u8) -> Result<FrameRef, Malformed> {
    let offset = reader.varint()?;
    let (stored, raw) = (reader.count(FRAME_BYTES_MAX)? as u32, reader.count(FRAME_BYTES_MAX)? as u32);
    Ok(FrameRef { kind, offset, stored, raw })
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u16]) {
    put_varint(out, numbers.len() as u64);
    let mut last = 0;
    for number in numbers {
        put_varint(out, u64::from(number - last));
        last = *number;
    }
}

fn read_numbers(reader: &mut Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let mut numbers = Vec::new();
    let mut last = 0u16;
    for _ in 0..reader.count(LISTED_MAX)? {
        let step = reader.count(LISTED_MAX)? as u16;
        last = last.checked_add(step).ok_or(Malformed("number too large"))?;
        numbers.push(last);
    }
    Ok(numbers)
}

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

    /// Writes a block; spans of one trace follow each other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn block(&mut self, spans: &[&Span]) -> Result<(), StoreError> {
        let raw = spanset::encode(spans);
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

struct Index {
    blocks: Vec<BlockMeta>,
    services: Listed,
    names: Listed,
    directory: Directory,
    facets: Option<FrameRef>,
}

impl Index {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.services.encode(&mut out);
        self.names.encode(&mut out);
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_frame(&mut out, block.frame);
            put_varint(&mut out, block.spans);
            put_signed(&mut out, block.min_start);
            put_signed(&mut out, block.max_end);
            put_numbers(&mut out, &block.services);
            put_numbers(&mut out, &block.names);
        }
        if let Directory::Pages(pages) = &self.directory {
            put_varint(&mut out, pages.len() as u64);
            for page in pages {
                put_frame(&mut out, page.frame);
                out.extend_from_slice(&page.first.to_be_bytes());
            }
        }
        if let Some(facets) = self.facets {
            put_frame(&mut out, facets);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (services, names) = (Listed::decode(&mut reader)?, Listed::decode(&mut reader)?);
        let mut blocks = Vec::new();
        for _ in 0..reader.count(bytes.len())? {
            blocks.push(BlockMeta {
                frame: read_frame(&mut reader, KIND_BLOCK)?,
                spans: reader.varint()?,
                min_start: reader.signed()?,
                max_end: reader.signed()?,
                services: read_numbers(&mut reader)?,
                names: read_numbers(&mut reader)?,
            });
        }
        let mut pages = Vec::new();
        for _ in 0..reader.count(bytes.len())? {
            let frame = read_frame(&mut reader, KIND_PAGE)?;
            pages.push(Page { frame, first: u64::from_be_bytes(reader.array()?) });
        }
        let facets = Some(read_frame(&mut reader, KIND_FACETS)?);
        if !reader.is_empty() {
            return Err(Malformed("more than an index"));
        }
        Ok(Self { blocks, services, names, directory: Directory::Pages(pages), facets })
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
            Err(error @ (StoreError::Io { .. } | StoreError::DiskFull { .. })) => return Err(error),
            Err(error) => {
                damaged.inc();
                tracing::error!(%error, "the index of a part is made anew from its blocks");
                let mut built = rebuild(&reader, &damaged);
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
            Some(Err(error @ StoreError::Io { .. })) => return Err(error),
            Some(Err(_)) | None => {}
        }
        self.damaged.inc();
        tracing::error!(path = ?self.reader.path(), "names and values of a part are made anew from its blocks");
        Ok(self.rebuilt_facets.get_or_init(|| rebuild(&self.reader, &self.damaged).facets).clone())
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

/// Reads every block that can be read.
fn rebuild(reader: &PartReader, damaged: &Cell) -> IndexBuilder {
    let mut built = IndexBuilder::default();
    for frame in reader.frames().iter().filter(|frame| frame.kind == KIND_BLOCK) {
        let added = reader.read(*frame).and_then(|bytes| {
            let added = SpanSet::parse(&bytes).and_then(|set| built.add(*frame, &set));
            added.map_err(|Malformed(what)| reader.damaged(what))
        });
        if let Err(error) = added {
            damaged.inc();
            tracing::error!(%error, "a block of spans is damaged and left out");
        }
    }
    built
}

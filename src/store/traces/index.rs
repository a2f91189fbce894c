//! What a part of traces says of its blocks: their times, the services and names in them, and in
//! which of them a trace lies.

use std::collections::BTreeMap;

use super::facets::Facets;
use super::spanset::SpanSet;
use crate::model::span::TraceId;
use crate::store::codec::{Malformed, Reader, put_signed, put_str, put_varint};
use crate::store::part::{FRAME_BYTES_MAX, FrameRef};

/// Frames of span sets.
pub(super) const KIND_BLOCK: u8 = 1;
/// Pages of the directory of traces.
pub(super) const KIND_PAGE: u8 = 2;
/// Names and values.
pub(super) const KIND_FACETS: u8 = 3;
/// Where everything else is.
pub(super) const KIND_INDEX: u8 = 4;

/// Entries of one page of the directory.
pub(super) const PAGE_ENTRIES: usize = 4096;
pub(super) const ENTRY_BYTES: usize = 12;
/// Services, or names of spans, that are listed by block; with more of them, or longer ones, a block
/// may have any.
const LISTED_MAX: usize = 4096;
const LISTED_BYTES_MAX: usize = 256;

/// What the index says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockMeta {
    pub(super) frame: FrameRef,
    /// How many spans.
    pub(super) spans: u64,
    /// Earliest start.
    pub(super) min_start: i64,
    /// Latest end, or start of a span that ends before it starts.
    pub(super) max_end: i64,
    pub(super) services: Vec<u16>,
    pub(super) names: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) frame: FrameRef,
    pub(super) first: u64,
}

/// Strings that blocks list by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
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
    pub(super) fn may_have(&self, numbers: &[u16], text: &str) -> bool {
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
pub(super) enum Directory {
    /// In pages of the file.
    Pages(Vec<Page>),
    /// In memory, because the file's index could not be read.
    Memory(Vec<(u64, u32)>),
}

/// What a trace is looked up by; others may have the same.
pub(super) fn trace_key(id: TraceId) -> u64 {
    let number = u128::from_be_bytes(id.0);
    (number as u64) ^ ((number >> 64) as u64).rotate_left(1)
}

/// Collects what is said about blocks.
#[derive(Default)]
pub(super) struct IndexBuilder {
    pub(super) blocks: Vec<BlockMeta>,
    pub(super) services: Listed,
    pub(super) names: Listed,
    pub(super) directory: Vec<(u64, u32)>,
    pub(super) facets: Facets,
}

impl IndexBuilder {
    pub(super) fn add(&mut self, frame: FrameRef, set: &SpanSet<'_>) -> Result<(), Malformed> {
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

    pub(super) fn sort(&mut self) {
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

pub(super) struct Index {
    pub(super) blocks: Vec<BlockMeta>,
    pub(super) services: Listed,
    pub(super) names: Listed,
    pub(super) directory: Directory,
    pub(super) facets: Option<FrameRef>,
}

impl Index {
    pub(super) fn encode(&self) -> Vec<u8> {
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

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
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

//! Asking an index: blocks with a term, or with the words of a literal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::termdict::TermStreamer;
use tantivy::{DocSet, Index, TERMINATED};
use tantivy_fst::Automaton;

use super::folder::{FIELD, TERM_BYTES_MAX, TextError, failed, guarded, segment_dir};
use super::inside::Inside;
use super::sums::{SUMS, check};
use super::tokens::{LONG, RUN, Token, bin, bin_key, run_key, term_key, tokens};
use crate::base::disk::Disk;

/// A part of a run that occurs in more runs than this narrows nothing worth the reading.
const SCAN_TERMS_MAX: usize = 20_000;

struct Segment {
    reader: Arc<InvertedIndexReader>,
    blocks: Vec<u32>,
}

/// An open index.
pub struct TextIndex {
    dir: PathBuf,
    segments: Vec<Segment>,
    all: RoaringBitmap,
}

impl TextIndex {
    /// Opens the index in `dir` and checks every byte of it.
    ///
    /// # Errors
    /// [`TextError`] when it is missing or damaged: build it anew.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, TextError> {
        let sums = disk.read(&dir.join(SUMS)).map_err(failed(dir))?;
        let listed = check(disk, dir, &sums)?;
        let mut segments = Vec::new();
        let mut all = RoaringBitmap::new();
        for (number, blocks) in listed.into_iter().enumerate() {
            let path = segment_dir(dir, number);
            let reader = guarded(dir, || open_segment(&path, blocks.len()))?;
            all.extend(blocks.iter().copied());
            segments.push(Segment { reader, blocks });
        }
        Ok(Self { dir: dir.to_owned(), segments, all })
    }

    /// All blocks that were added.
    pub fn blocks(&self) -> &RoaringBitmap {
        &self.all
    }

    /// Blocks that were added with exactly `term`.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn blocks_with_term(&self, term: &str) -> Result<RoaringBitmap, TextError> {
        self.exact(&term_key(term))
    }

    fn exact(&self, key: &[u8]) -> Result<RoaringBitmap, TextError> {
        guarded(&self.dir, || {
            let mut found = RoaringBitmap::new();
            for segment in &self.segments {
                if let Some(info) = segment.reader.terms().get(key)? {
                    segment.collect(&info, &mut found)?;
                }
            }
            Ok(found)
        })
    }

    /// Blocks with a text that may hold `literal`: its words must be words of the block, and the
    /// runs of letters at its edges, which may be cut off there, part of a run.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn blocks_with_substring_words(&self, literal: &str) -> Result<RoaringBitmap, TextError> {
        let mut keys = Vec::new();
        let mut edges = Vec::new();
        tokens(literal, |token| match token {
            Token::Run(run) => match Edge::of(literal, run) {
                Edge::Whole if run.len() > TERM_BYTES_MAX => keys.push(bin_key(bin(run)).to_vec()),
                Edge::Whole => keys.push(run_key(run)),
                edge => edges.push((edge, run)),
            },
            Token::Digits(word) if Edge::of(literal, word) == Edge::Whole => keys.push(bin_key(bin(word)).to_vec()),
            Token::Digits(_) => {}
        });
        let mut found = self.all.clone();
        for key in keys {
            if !found.is_empty() {
                found &= self.exact(&key)?;
            }
        }
        edges.sort_by_key(|(edge, run)| (*edge != Edge::Start, std::cmp::Reverse(run.len())));
        for (edge, run) in edges {
            if !found.is_empty() {
                self.narrow(edge, run, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Leaves in `found` the blocks with a run that `part` is the given edge of.
    fn narrow(&self, edge: Edge, part: &str, found: &mut RoaringBitmap) -> Result<(), TextError> {
        let mut hits = self.exact(LONG)?;
        if part.len() <= TERM_BYTES_MAX {
            let complete = guarded(&self.dir, || {
                for segment in &self.segments {
                    if !segment.scan(edge, part.as_bytes(), found, &mut hits)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
            if !complete {
                return Ok(());
            }
        }
        *found &= hits;
        Ok(())
    }
}

/// Which sides of a token are known: the text's token may go on where the literal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Whole,
    Start,
    End,
    Inside,
}

impl Edge {
    /// `token` is a slice of `literal`.
    fn of(literal: &str, token: &str) -> Self {
        let start = token.as_ptr() as usize - literal.as_ptr() as usize;
        match (start == 0, start + token.len() == literal.len()) {
            (false, false) => Self::Whole,
            (false, true) => Self::Start,
            (true, false) => Self::End,
            (true, true) => Self::Inside,
        }
    }
}

impl Segment {
    fn collect(&self, info: &TermInfo, found: &mut RoaringBitmap) -> io::Result<()> {
        let mut postings = self.reader.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        let mut doc = postings.doc();
        while doc != TERMINATED {
            found.extend(self.blocks.get(doc as usize));
            doc = postings.advance();
        }
        Ok(())
    }

    /// Adds blocks with matching runs to `hits`; `false` when there are too many runs, or all
    /// of `wanted` is hit already.
    fn scan(&self, edge: Edge, part: &[u8], wanted: &RoaringBitmap, hits: &mut RoaringBitmap) -> tantivy::Result<bool> {
        let terms = self.reader.terms();
        if edge == Edge::Start {
            let (start, end) = ([&[RUN], part].concat(), [&[RUN], part, &[0xFF]].concat());
            return self.collect_all(terms.range().ge(start).lt(end).into_stream()?, wanted, hits);
        }
        let automaton = Inside::new(part, edge == Edge::End);
        self.collect_all(terms.search(automaton).ge([RUN]).lt([RUN + 1]).into_stream()?, wanted, hits)
    }

    fn collect_all<A: Automaton>(
        &self,
        mut terms: TermStreamer<'_, A>,
        wanted: &RoaringBitmap,
        hits: &mut RoaringBitmap,
    ) -> tantivy::Result<bool> {
        let mut met = 0;
        while terms.advance() {
            self.collect(terms.value(), hits)?;
            met += 1;
            if met > SCAN_TERMS_MAX || (met % 64 == 0 && wanted.is_subset(hits)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn open_segment(path: &Path, documents: usize) -> tantivy::Result<Arc<InvertedIndexReader>> {
    let index = Index::open_in_dir(path)?;
    let field = index.schema().get_field(FIELD)?;
    let searcher = index.reader_builder().reload_policy(tantivy::ReloadPolicy::Manual).try_into()?.searcher();
    match searcher.segment_readers() {
        [segment] if segment.max_doc() as usize == documents => segment.inverted_index(field),
        _ => Err(tantivy::TantivyError::InvalidArgument("it has another number of documents than it says".into())),
    }
}

//! Frozen full-text indexes: which blocks of a part hold which terms and which words. The only file
//! that names tantivy.
//! Of a text two things are indexed: its runs of letters, each as a term, and its words with digits
//! (numbers, ids, hashes), each by a hash of 18 bits. Runs make a dictionary that stays small, so
//! that a search for a part of a word can walk all of it; ids are nearly all different, and as terms
//! they would take most of the index (34 MiB instead of 6 for a million lines).
//! Flow: a [`TextBuilder`] is fed block by block by one thread and writes a folder under a temporary
//! name that gets its final name when everything in it is on the medium; [`TextIndex::open`] checks
//! all of it by checksum; a search asks for blocks with a term or with the words of a literal.
//! Invariants: an index is written once and never changed or merged; a search may name blocks
//! without a hit, never leave out one with a hit; what fails or panics inside tantivy is an error
//! here, and the caller then reads every block. Memory of a build stays within an arena: when it is
//! full, the next segment, an index of its own in the same folder, is begun.
//! Bytes: docs/format/text.md.

use std::fs;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashSet;
use roaring::RoaringBitmap;
use tantivy::directory::MmapDirectory;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::TermInfo;
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, Schema};
use tantivy::store::Compressor;
use tantivy::termdict::TermStreamer;
use tantivy::{DocSet, Index, IndexSettings, SingleSegmentIndexWriter, TERMINATED, TantivyDocument};
use tantivy_fst::Automaton;

use super::codec::{Malformed, Reader, put_bytes, put_str, put_varint};

/// Memory of the postings while a segment is built, in bytes.
const ARENA_BYTES: usize = 48 << 20;
/// Longer runs are kept by their hash, and their blocks answer every search for a part of a run.
const TERM_BYTES_MAX: usize = 256;
/// A part of a run that occurs in more runs than this narrows nothing worth the reading.
const SCAN_TERMS_MAX: usize = 20_000;
/// Words with digits fall into this many bins.
const BINS: usize = 1 << 18;
/// First byte of a key: a term given as one, ...
const TERM: u8 = 0x00;
/// ... a run of letters, ...
const RUN: u8 = 0x01;
/// ... a bin of words with digits and of long runs, ...
const BIN: u8 = 0xFC;
/// ... the hash of a long term, ...
const HASHED: u8 = 0xFD;
/// ... and the key of blocks with a run longer than [`TERM_BYTES_MAX`].
const LONG: &[u8] = &[0xFE];
const FIELD: &str = "w";
const SUMS: &str = "sums";
const MAGIC: [u8; 8] = *b"TRILTXT\x01";

/// The index cannot be used; read every block, and build the index anew.
#[derive(Clone, Debug, thiserror::Error)]
#[error("text index {path:?}: {what}")]
pub struct TextError {
    path: PathBuf,
    what: String,
}

/// Runs what may fail or panic inside tantivy.
fn guarded<T>(path: &Path, work: impl FnOnce() -> tantivy::Result<T>) -> Result<T, TextError> {
    let what = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "tantivy panicked".into(),
    };
    Err(TextError { path: path.to_owned(), what })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> TextError {
    move |error| TextError { path: path.to_owned(), what: error.to_string() }
}

/// What the index sees in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A run of ASCII letters, `_` and characters beyond ASCII.
    Run(&'a str),
    /// A run of those and digits, with a digit in it.
    Digits(&'a str),
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Hands the tokens of a text to `visit`; the runs in a word with digits come before the word.
fn tokens<'a>(text: &'a str, mut visit: impl FnMut(Token<'a>)) {
    let (mut word, mut run, mut digits) = (0, 0, false);
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        if is_letter(byte) {
            continue;
        }
        if run < at {
            visit(Token::Run(text.get(run..at).unwrap_or_default()));
        }
        run = at + 1;
        if byte.is_ascii_digit() {
            digits = true;
            continue;
        }
        if digits {
            visit(Token::Digits(text.get(word..at).unwrap_or_default()));
        }
        (word, digits) = (at + 1, false);
    }
}

/// FNV-1a: the format needs a hash that no crate's next version changes.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn bin(text: &str) -> usize {
    let hash = hash(text);
    (hash ^ (hash >> 32)) as usize % BINS
}

fn bin_key(bin: usize) -> [u8; 4] {
    let [a, b, c, _] = (bin as u32).to_le_bytes();
    [BIN, c, b, a]
}

fn run_key(run: &str) -> Vec<u8> {
    [&[RUN], run.as_bytes()].concat()
}

fn term_key(term: &str) -> Vec<u8> {
    if term.len() > TERM_BYTES_MAX {
        [&[HASHED][..], &hash(term).to_le_bytes()].concat()
    } else {
        [&[TERM], term.as_bytes()].concat()
    }
}

/// Builds one index.
pub struct TextBuilder {
    dir: PathBuf,
    tmp: PathBuf,
    field: Field,
    segment: Option<(SingleSegmentIndexWriter, Vec<u32>)>,
    /// Bins of the block that is being added.
    bins: Vec<bool>,
    /// Blocks of the documents of each finished segment, in order.
    finished: Vec<Vec<u32>>,
}

fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let field = schema.add_bytes_field(FIELD, BytesOptions::default().set_indexed());
    (schema.build(), field)
}

fn segment_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:04}"))
}

impl TextBuilder {
    /// Begins an index that will lie in `dir`; what is left of an earlier try is removed.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn create(dir: &Path) -> Result<Self, TextError> {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let tmp = dir.with_file_name(name);
        remove(&tmp)?;
        fs::create_dir_all(&tmp).map_err(failed(&tmp))?;
        Ok(Self {
            dir: dir.to_owned(),
            tmp,
            field: schema().1,
            segment: None,
            bins: vec![false; BINS],
            finished: Vec::new(),
        })
    }

    /// Says that `block` holds all of `terms`. A block may be added more than once.
    ///
    /// # Errors
    /// [`TextError`]: the build has to be given up.
    pub fn add<'a>(&mut self, block: u32, terms: impl IntoIterator<Item = &'a str>) -> Result<(), TextError> {
        let terms: AHashSet<&str> = terms.into_iter().collect();
        let mut document = TantivyDocument::new();
        terms.into_iter().for_each(|term| document.add_bytes(self.field, &term_key(term)));
        self.add_document(block, document)
    }

    /// Says that `block` holds all of `texts`. A block may be added more than once.
    ///
    /// # Errors
    /// [`TextError`]: the build has to be given up.
    pub fn add_texts<'a>(&mut self, block: u32, texts: impl IntoIterator<Item = &'a str>) -> Result<(), TextError> {
        let mut runs = AHashSet::new();
        let (bins, field) = (&mut self.bins, self.field);
        let mut document = TantivyDocument::new();
        let mut put_bin = |text: &str, document: &mut TantivyDocument| {
            let bin = bin(text);
            let known = bins.get_mut(bin).is_none_or(|known| std::mem::replace(known, true));
            if !known {
                document.add_bytes(field, &bin_key(bin));
            }
        };
        for text in texts {
            tokens(text, |token| match token {
                Token::Digits(word) => put_bin(word, &mut document),
                Token::Run(run) => {
                    if runs.insert(run) && run.len() <= TERM_BYTES_MAX {
                        document.add_bytes(field, &run_key(run));
                    }
                }
            });
        }
        let long = runs.iter().filter(|run| run.len() > TERM_BYTES_MAX);
        if long.map(|run| put_bin(run, &mut document)).count() > 0 {
            document.add_bytes(field, LONG);
        }
        self.bins.fill(false);
        self.add_document(block, document)
    }

    fn add_document(&mut self, block: u32, document: TantivyDocument) -> Result<(), TextError> {
        let path = self.tmp.clone();
        let (writer, blocks) = self.segment()?;
        blocks.push(block);
        let full = guarded(&path, || {
            writer.add_document(document)?;
            Ok(writer.mem_usage() > ARENA_BYTES)
        })?;
        if full { self.finish_segment() } else { Ok(()) }
    }

    fn segment(&mut self) -> Result<&mut (SingleSegmentIndexWriter, Vec<u32>), TextError> {
        let current = match self.segment.take() {
            Some(current) => current,
            None => {
                let path = segment_dir(&self.tmp, self.finished.len());
                fs::create_dir_all(&path).map_err(failed(&path))?;
                let writer = guarded(&path, || {
                    let settings = IndexSettings {
                        docstore_compression: Compressor::None,
                        docstore_compress_dedicated_thread: false,
                        ..IndexSettings::default()
                    };
                    let builder = Index::builder().schema(schema().0).settings(settings);
                    builder.single_segment_index_writer(MmapDirectory::open(&path)?, ARENA_BYTES)
                })?;
                (writer, Vec::new())
            }
        };
        Ok(self.segment.insert(current))
    }

    fn finish_segment(&mut self) -> Result<(), TextError> {
        if let Some((writer, blocks)) = self.segment.take() {
            guarded(&self.tmp, || writer.finalize())?;
            self.finished.push(blocks);
        }
        Ok(())
    }

    /// Writes everything and gives the folder its name; an index that lay there is replaced.
    ///
    /// # Errors
    /// [`TextError`]: there is no index then.
    pub fn finish(mut self) -> Result<(), TextError> {
        self.finish_segment()?;
        let sums = self.sums().map_err(failed(&self.tmp))?;
        write_synced(&self.tmp.join(SUMS), &sums).map_err(failed(&self.tmp))?;
        sync_dir(&self.tmp).map_err(failed(&self.tmp))?;
        remove(&self.dir)?;
        fs::rename(&self.tmp, &self.dir).map_err(failed(&self.tmp))?;
        self.dir.parent().map_or(Ok(()), sync_dir).map_err(failed(&self.dir))
    }

    /// What vouches for the whole folder: blocks of each segment, then name, size and checksum of
    /// each file, and a checksum over that.
    fn sums(&self) -> io::Result<Vec<u8>> {
        let mut out = MAGIC.to_vec();
        put_varint(&mut out, self.finished.len() as u64);
        for (number, blocks) in self.finished.iter().enumerate() {
            put_varint(&mut out, blocks.len() as u64);
            blocks.iter().for_each(|block| put_varint(&mut out, u64::from(*block)));
            let path = segment_dir(&self.tmp, number);
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
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
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

/// Removes an index, if there is one.
///
/// # Errors
/// [`TextError`].
pub fn remove(dir: &Path) -> Result<(), TextError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir)(error)),
        _ => Ok(()),
    }
}

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
    pub fn open(dir: &Path) -> Result<Self, TextError> {
        let sums = fs::read(dir.join(SUMS)).map_err(failed(dir))?;
        let listed = check(dir, &sums).map_err(|what| TextError { path: dir.to_owned(), what })?;
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

/// Accepts keys that hold a needle, or end with it (Knuth, Morris, Pratt).
struct Inside {
    needle: Vec<u8>,
    fallback: Vec<usize>,
    at_end: bool,
}

impl Inside {
    fn new(needle: &[u8], at_end: bool) -> Self {
        let mut automaton = Self { needle: needle.to_vec(), fallback: vec![0; needle.len() + 1], at_end };
        let mut state = 0;
        for (at, byte) in needle.iter().enumerate().skip(1) {
            state = automaton.step(state, *byte);
            if let Some(slot) = automaton.fallback.get_mut(at + 1) {
                *slot = state;
            }
        }
        automaton
    }

    fn step(&self, mut state: usize, byte: u8) -> usize {
        loop {
            if self.needle.get(state) == Some(&byte) {
                return state + 1;
            }
            if state == 0 {
                return 0;
            }
            state = self.fallback.get(state).copied().unwrap_or(0);
        }
    }
}

impl Automaton for Inside {
    type State = usize;

    fn start(&self) -> usize {
        0
    }

    fn is_match(&self, state: &usize) -> bool {
        *state == self.needle.len()
    }

    fn will_always_match(&self, state: &usize) -> bool {
        !self.at_end && self.is_match(state)
    }

    fn accept(&self, state: &usize, byte: u8) -> usize {
        if self.will_always_match(state) { *state } else { self.step(*state, byte) }
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

/// Checks the files of an index; gives the blocks of each segment.
fn check(dir: &Path, sums: &[u8]) -> Result<Vec<Vec<u32>>, String> {
    let (body, crc) = sums.split_last_chunk::<4>().ok_or("its checksums are cut short")?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err("the checksum of its checksums does not hold".into());
    }
    let body = body.strip_prefix(&MAGIC).ok_or("it is of another version")?;
    let (listed, files) = decode_sums(body).map_err(|Malformed(what)| what.to_owned())?;
    for (number, name, bytes, crc) in files {
        let found = checksum(&segment_dir(dir, number).join(&name)).map_err(|error| format!("{name}: {error}"))?;
        if found != (bytes, crc) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn index(dir: &Path, texts: &[&str]) -> TextIndex {
        let path = dir.join("index");
        let mut builder = TextBuilder::create(&path).unwrap();
        for (block, text) in texts.iter().enumerate() {
            builder.add_texts(block as u32, [*text]).unwrap();
        }
        builder.finish().unwrap();
        TextIndex::open(&path).unwrap()
    }

    fn blocks(index: &TextIndex, literal: &str) -> Vec<u32> {
        index.blocks_with_substring_words(literal).unwrap().iter().collect()
    }

    #[test]
    fn words_at_the_edges_of_a_literal_may_be_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path(), &["user=alice paid", "malice foretold", "Alice", "", "grüße an alle"]);
        assert_eq!(blocks(&index, "alice"), [0, 1]);
        assert_eq!(blocks(&index, "=alice"), [0]);
        assert_eq!(blocks(&index, "lice p"), [0]);
        assert_eq!(blocks(&index, " alice "), [0]);
        assert_eq!(blocks(&index, "ice fore"), [1]);
        assert_eq!(blocks(&index, "üße"), [4]);
        assert_eq!(blocks(&index, "absent"), [] as [u32; 0]);
        assert_eq!(blocks(&index, " - "), [0, 1, 2, 3, 4]);
        assert!(index.blocks_with_term("alice").unwrap().is_empty(), "words of texts are no terms");
    }

    #[test]
    fn ids_are_found_whole_and_by_the_letters_at_their_edges() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path(), &["id=7f3a9c user1234", "id=12345678 x", "trace=abcdef0123", "v=1"]);
        assert_eq!(blocks(&index, "id=7f3a9c "), [0]);
        assert_eq!(blocks(&index, "=12345678 "), [1]);
        assert_eq!(blocks(&index, "=99999999 "), [] as [u32; 0]);
        assert_eq!(blocks(&index, "cdef01"), [2]);
        assert_eq!(blocks(&index, "ser12"), [0]);
        assert_eq!(blocks(&index, "3a9c u"), [0]);
        assert_eq!(blocks(&index, "345"), [0, 1, 2, 3]);
    }

    #[test]
    fn long_words_are_found_whole_and_never_hide_a_hit() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(70_000) + "needle";
        let index = index(dir.path(), &["short", &format!("id={long} end"), "a needle"]);
        assert_eq!(blocks(&index, "needle"), [1, 2]);
        assert_eq!(blocks(&index, &format!("={long} ")), [1]);
        assert_eq!(blocks(&index, &long), [1]);
        assert_eq!(blocks(&index, &format!("={long}y ")), [] as [u32; 0]);
        assert_eq!(blocks(&index, &long[..300]), [1]);
    }

    #[test]
    fn an_overlapping_needle_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path(), &["aabaaabaaac", "aabaaab", "caab"]);
        assert_eq!(blocks(&index, "aabaaac"), [0]);
        assert_eq!(blocks(&index, "aab."), [1, 2]);
        assert_eq!(blocks(&index, ".aab"), [0, 1]);
    }

    #[test]
    fn any_literal_cut_from_a_text_names_its_block() {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["level=info msg=\"a b\" id=12", "α_β: γδ=7 ", "{\"k\":\"v-w\"}", "  ", "7a7b x9é8 h8fc47b"];
        let index = index(dir.path(), &texts);
        for (block, text) in texts.iter().enumerate() {
            let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            for start in &cuts {
                for end in cuts.iter().filter(|end| *end >= start) {
                    assert!(blocks(&index, &text[*start..*end]).contains(&(block as u32)), "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn any_damage_is_an_error_at_open_and_a_build_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        drop(index(dir.path(), &["one two", "three"]));
        let path = dir.path().join("index");
        let files: Vec<PathBuf> = fs::read_dir(path.join("0000"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
            .chain([path.join(SUMS)])
            .collect();
        assert!(files.len() > 3);
        for file in files {
            let good = fs::read(&file).unwrap();
            for at in [0, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                fs::write(&file, &bad).unwrap();
                assert!(TextIndex::open(&path).is_err(), "{file:?} byte {at}");
            }
            fs::remove_file(&file).unwrap();
            assert!(TextIndex::open(&path).is_err(), "{file:?} removed");
            fs::write(&file, &good).unwrap();
        }
        fs::write(path.join(SUMS), b"").unwrap();
        assert_eq!(blocks(&index(dir.path(), &["four"]), "four"), [0]);
    }

    #[test]
    fn a_build_over_its_arena_goes_on_in_another_segment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut builder = TextBuilder::create(&path).unwrap();
        builder.add(5, ["early"]).unwrap();
        builder.finish_segment().unwrap();
        builder.add(9, ["late", "a b", &"z".repeat(1000)]).unwrap();
        builder.add_texts(9, ["ugly"]).unwrap();
        builder.finish().unwrap();
        let index = TextIndex::open(&path).unwrap();
        assert_eq!(index.blocks().iter().collect::<Vec<_>>(), [5, 9]);
        assert_eq!(index.blocks_with_term("a b").unwrap().iter().collect::<Vec<_>>(), [9]);
        assert_eq!(index.blocks_with_term(&"z".repeat(1000)).unwrap().iter().collect::<Vec<_>>(), [9]);
        assert!(index.blocks_with_term(&"z".repeat(999)).unwrap().is_empty());
        assert_eq!(blocks(&index, "ly"), [9]);
        assert_eq!(blocks(&index, "late"), [] as [u32; 0]);
    }
}

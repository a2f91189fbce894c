//! Building an index: blocks go to segments, a segment is finished when its arena is full, and the
//! folder gets its name when everything in it is on the medium.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashSet;
use tantivy::directory::MmapDirectory;
use tantivy::schema::Field;
use tantivy::store::Compressor;
use tantivy::{Index, IndexSettings, SingleSegmentIndexWriter, TantivyDocument};

use super::folder::{TERM_BYTES_MAX, TextError, failed, guarded, remove, schema, segment_dir};
use super::sums::{self, SUMS};
use super::tokens::{BINS, LONG, Token, bin, bin_key, run_key, term_key, tokens};
use crate::base::disk::Disk;

/// Builds one index.
pub struct TextBuilder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    tmp: PathBuf,
    field: Field,
    /// Memory of the postings while a segment is built, in bytes.
    arena_bytes: usize,
    segment: Option<(SingleSegmentIndexWriter, Vec<u32>)>,
    /// Bins of the block that is being added.
    bins: Vec<bool>,
    /// Blocks of the documents of each finished segment, in order.
    finished: Vec<Vec<u32>>,
}

impl TextBuilder {
    /// Begins an index that will lie in `dir`; what is left of an earlier try is removed. A segment is
    /// finished when its postings take `arena_bytes`; finishing it takes as much again.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, arena_bytes: usize) -> Result<Self, TextError> {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let tmp = dir.with_file_name(name);
        remove(&**disk, &tmp)?;
        disk.create_dir_all(&tmp).map_err(failed(&tmp))?;
        Ok(Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            tmp,
            field: schema().1,
            arena_bytes,
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
        let arena_bytes = self.arena_bytes;
        let (writer, blocks) = self.segment()?;
        blocks.push(block);
        let full = guarded(&path, || {
            writer.add_document(document)?;
            Ok(writer.mem_usage() > arena_bytes)
        })?;
        if full { self.finish_segment() } else { Ok(()) }
    }

    fn segment(&mut self) -> Result<&mut (SingleSegmentIndexWriter, Vec<u32>), TextError> {
        let current = match self.segment.take() {
            Some(current) => current,
            None => {
                let path = segment_dir(&self.tmp, self.finished.len());
                self.disk.create_dir_all(&path).map_err(failed(&path))?;
                let writer = guarded(&path, || {
                    let settings = IndexSettings {
                        docstore_compression: Compressor::None,
                        docstore_compress_dedicated_thread: false,
                        ..IndexSettings::default()
                    };
                    let builder = Index::builder().schema(schema().0).settings(settings);
                    builder.single_segment_index_writer(MmapDirectory::open(&path)?, self.arena_bytes)
                })?;
                (writer, Vec::new())
            }
        };
        Ok(self.segment.insert(current))
    }

    /// Gives the build up, and removes what it has written.
    pub fn abandon(mut self) {
        self.segment = None;
        if let Err(error) = remove(&*self.disk, &self.tmp) {
            tracing::warn!(%error, "what a text index was being built of cannot be removed; the next start does it");
        }
    }

    pub(super) fn finish_segment(&mut self) -> Result<(), TextError> {
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
        let finished = self.name_folder();
        if finished.is_err() {
            self.abandon();
        }
        finished
    }

    fn name_folder(&mut self) -> Result<(), TextError> {
        self.finish_segment()?;
        let disk = &*self.disk;
        let sums = sums::list(disk, &self.tmp, &self.finished).map_err(failed(&self.tmp))?;
        write_synced(disk, &self.tmp.join(SUMS), &sums).map_err(failed(&self.tmp))?;
        disk.sync_dir(&self.tmp).map_err(failed(&self.tmp))?;
        remove(disk, &self.dir)?;
        disk.rename(&self.tmp, &self.dir).map_err(failed(&self.tmp))?;
        self.dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent)).map_err(failed(&self.dir))
    }
}

fn write_synced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.append(path)?;
    file.truncate(0)?;
    file.write_all(bytes)?;
    file.sync()
}

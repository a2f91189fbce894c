//! Log lines, and the columns in which they come out of the store.

use super::labels::Labels;

/// The time of an entry that its sender gave none: that of its arrival, which `ingest` knows.
pub const ARRIVAL: i64 = i64::MIN;

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Nanoseconds since the Unix epoch, or [`ARRIVAL`].
    pub t: i64,
    /// The text, without a trailing line feed of its own accord: bytes are kept as sent.
    pub line: String,
    /// Structured metadata; names are legal label names.
    pub metadata: Labels,
}

/// Many strings in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextColumn {
    text: String,
    ends: Vec<u32>,
}

impl TextColumn {
    /// Room for `rows` strings of `bytes` in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(rows) }
    }

    /// Builds a column from its text and the end of each string in it; `None` when ends are not
    /// ascending character boundaries that finish at the text's end.
    pub fn from_parts(text: String, ends: Vec<u32>) -> Option<Self> {
        let mut last = 0;
        for end in &ends {
            if *end < last || !text.is_char_boundary(*end as usize) {
                return None;
            }
            last = *end;
        }
        (last as usize == text.len()).then_some(Self { text, ends })
    }

    /// Adds one string; the column holds at most 4 GiB of text, and cuts nothing below that.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// String number `row`; empty when there is none.
    pub fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends.get(row - 1).copied().unwrap_or(u32::MAX) };
        let end = self.ends.get(row).copied().unwrap_or(0);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All strings as one text, for searches over the whole block.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where each string ends in [`text`](Self::text).
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// Rows of one stream in time order. All columns that were asked for have as many rows as `times`;
/// the others are empty.
#[derive(Clone, Debug, Default)]
pub struct LogRows {
    /// Nanoseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// The lines, when asked for.
    pub lines: TextColumn,
    /// Bytes of each line, always.
    pub line_bytes: Vec<u32>,
    /// Structured metadata of each line, when asked for.
    pub metadata: Vec<Labels>,
}

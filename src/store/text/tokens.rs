//! What the index sees in a text, and the keys that it makes of it.

use super::folder::TERM_BYTES_MAX;

/// Words with digits fall into this many bins.
pub(super) const BINS: usize = 1 << 18;
/// First byte of a key: a term given as one, ...
const TERM: u8 = 0x00;
/// ... a run of letters, ...
pub(super) const RUN: u8 = 0x01;
/// ... a bin of words with digits and of long runs, ...
const BIN: u8 = 0xFC;
/// ... the hash of a long term, ...
const HASHED: u8 = 0xFD;
/// ... and the key of blocks with a run longer than [`TERM_BYTES_MAX`].
pub(super) const LONG: &[u8] = &[0xFE];

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A run of ASCII letters, `_` and characters beyond ASCII.
    Run(&'a str),
    /// A run of those and digits, with a digit in it.
    Digits(&'a str),
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Hands the tokens of a text to `visit`; the runs in a word with digits come before the word.
pub(super) fn tokens<'a>(text: &'a str, mut visit: impl FnMut(Token<'a>)) {
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

pub(super) fn bin(text: &str) -> usize {
    let hash = hash(text);
    (hash ^ (hash >> 32)) as usize % BINS
}

pub(super) fn bin_key(bin: usize) -> [u8; 4] {
    let [a, b, c, _] = (bin as u32).to_le_bytes();
    [BIN, c, b, a]
}

pub(super) fn run_key(run: &str) -> Vec<u8> {
    [&[RUN], run.as_bytes()].concat()
}

pub(super) fn term_key(term: &str) -> Vec<u8> {
    if term.len() > TERM_BYTES_MAX {
        [&[HASHED][..], &hash(term).to_le_bytes()].concat()
    } else {
        [&[TERM], term.as_bytes()].concat()
    }
}

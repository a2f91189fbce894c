//! Text to tree, and how large the tree and the program made of it may become: told before either is built,
//! because ten characters such as `\w{1000}` make megabytes.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use regex_syntax::utf8::Utf8Sequences;

/// Memory that a program may take per step of a match: its state, its arrows, forwards and backwards.
const STEP_BYTES: usize = 96;
/// Memory that parsing takes per byte of text, more or less.
const TEXT_BYTES: usize = 256;

/// What a language means by a regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// A label matcher: the whole value, `.` matches a line feed.
    Matcher,
    /// `label_replace` of PromQL: the same with groups.
    Replace,
    /// An attribute in TraceQL: the whole value, `.` matches no line feed.
    Attribute,
    /// `label_replace` of LogQL: the same with groups.
    ReplaceInLine,
    /// A line filter: anywhere, `.` matches no line feed.
    Line,
    /// A stage or function that takes lines apart: the same with groups.
    Groups,
}

impl Dialect {
    fn is_anchored(self) -> bool {
        matches!(self, Self::Matcher | Self::Replace | Self::Attribute | Self::ReplaceInLine)
    }

    fn dot_matches_new_line(self) -> bool {
        matches!(self, Self::Matcher | Self::Replace)
    }

    /// Whether what groups match is asked for.
    pub(super) fn has_groups(self) -> bool {
        matches!(self, Self::Replace | Self::ReplaceInLine | Self::Groups)
    }

    /// Whether long texts are searched, by several threads.
    pub(super) fn is_for_lines(self) -> bool {
        matches!(self, Self::Line | Self::Groups | Self::Attribute)
    }
}

/// A regular expression that is parsed and not yet compiled.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) text: String,
    pub(super) dialect: Dialect,
    pub(super) hir: Hir,
}

impl Pattern {
    /// The tree of `text`, or why it has none.
    pub(super) fn read(text: &str, dialect: Dialect) -> Result<Self, String> {
        let mut parser = ParserBuilder::new().dot_matches_new_line(dialect.dot_matches_new_line()).build();
        let hir = parser.parse(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), dialect, hir })
    }

    /// The tree with the anchors of its dialect.
    pub(super) fn anchored(&self) -> Hir {
        if self.dialect.is_anchored() {
            Hir::concat(vec![Hir::look(Look::Start), self.hir.clone(), Hir::look(Look::End)])
        } else {
            self.hir.clone()
        }
    }

    /// About the memory that the compiled program takes, in bytes, but no more than a little over `limit`.
    pub(super) fn program_bytes(&self, limit: usize) -> usize {
        let steps = steps(&self.hir, limit / STEP_BYTES);
        steps.saturating_mul(STEP_BYTES).saturating_add(4_096)
    }
}

/// Memory that parsing `text` may take, in bytes: the trees are as long as the text, but for the named
/// classes, each of which stands for hundreds of ranges.
pub(super) fn parse_bytes(text: &str) -> usize {
    let mut bytes = text.len().saturating_mul(TEXT_BYTES);
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        if letter == b'\\' {
            bytes += match letters.next() {
                Some(b'w' | b'W' | b'p' | b'P') => 16 << 10,
                Some(b'd' | b'D' | b's' | b'S') => 2 << 10,
                _ => 0,
            };
        }
    }
    bytes
}

/// Steps of the program of a tree: repetitions multiply. It stops counting above `limit`, for a tree may be wide;
/// its depth is bounded by the parser.
fn steps(hir: &Hir, limit: usize) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(class) => of_class(class, limit),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            steps(&repetition.sub, limit).saturating_add(2).saturating_mul(times)
        }
        HirKind::Capture(capture) => steps(&capture.sub, limit).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            let mut sum = parts.len();
            for part in parts {
                sum = sum.saturating_add(steps(part, limit));
                if sum > limit {
                    break;
                }
            }
            sum
        }
    }
}

fn of_class(class: &Class, limit: usize) -> usize {
    match class {
        Class::Bytes(bytes) => 1 + bytes.ranges().len() / 4,
        Class::Unicode(ranges) => {
            let mut sum: usize = 1;
            for range in ranges.ranges() {
                // Four arrows take about as much as one state.
                sum +=
                    Utf8Sequences::new(range.start(), range.end()).map(|bytes| bytes.len()).sum::<usize>().div_ceil(2);
                if sum > limit {
                    break;
                }
            }
            sum
        }
    }
}

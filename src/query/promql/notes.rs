//! Warnings and infos that a query collects, each with its place, each once. They are few and short, whatever
//! labels they name: nobody charges them.

use std::collections::BTreeSet;

use super::ast::Pos;
use super::lex;
use crate::base::error::brief;

/// What is said of a series that has both kinds of samples.
pub(super) const MIXED: &str = "encountered a mix of histograms and floats for metric name";
/// What is said of one with both kinds of histograms.
pub(super) const MIXED_SCHEMAS: &str =
    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
/// What is said of one whose histograms do not count.
pub(super) const IGNORED: &str = "ignored histograms in a range containing both floats and histograms for metric name";

/// Most warnings, and most infos, that one answer carries.
const SHOWN_MAX: usize = 10;
/// Most that are kept at all.
const KEPT_MAX: usize = 1_000;

/// What a query has to say besides its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    warnings: BTreeSet<(Pos, String)>,
    infos: BTreeSet<(Pos, String)>,
}

impl Notes {
    /// Something is probably wrong with the answer.
    pub(super) fn warn(&mut self, pos: Pos, text: impl Into<String>) {
        keep(&mut self.warnings, (pos, brief(text.into())));
    }

    /// Something is worth knowing.
    pub(super) fn info(&mut self, pos: Pos, text: impl Into<String>) {
        keep(&mut self.infos, (pos, brief(text.into())));
    }

    /// Takes over what another thread noted.
    pub(super) fn absorb(&mut self, other: Self) {
        other.warnings.into_iter().for_each(|note| keep(&mut self.warnings, note));
        other.infos.into_iter().for_each(|note| keep(&mut self.infos, note));
    }

    /// The warnings, as clients read them.
    pub(super) fn warnings(&self, query: &str) -> Vec<String> {
        shown(&self.warnings, "warning", query)
    }

    /// The infos, as clients read them.
    pub(super) fn infos(&self, query: &str) -> Vec<String> {
        shown(&self.infos, "info", query)
    }
}

/// Keeps the first ones, whatever the order in which they come: threads note at the same time.
fn keep(notes: &mut BTreeSet<(Pos, String)>, note: (Pos, String)) {
    notes.insert(note);
    if notes.len() > KEPT_MAX {
        notes.pop_last();
    }
}

fn shown(notes: &BTreeSet<(Pos, String)>, kind: &str, query: &str) -> Vec<String> {
    let text = |(pos, text): &(Pos, String)| {
        let (line, column) = lex::line_and_column(query, *pos);
        format!("PromQL {kind}: {text} ({line}:{column})")
    };
    let mut texts: Vec<String> = notes.iter().take(SHOWN_MAX).map(text).collect();
    if let Some(more @ 1..) = notes.len().checked_sub(SHOWN_MAX) {
        texts.push(format!("{more} more {kind} annotations omitted"));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_few_and_short_whatever_they_name() {
        let mut notes = Notes::default();
        for at in 0..2 * KEPT_MAX {
            notes.warn(Pos(0), format!("{at:06} {}", "x".repeat(64 << 10)));
        }
        let bytes: usize = notes.warnings.iter().map(|(_, text)| text.len()).sum();
        assert!(notes.warnings.len() == KEPT_MAX && bytes < 8 << 20, "{bytes}");
        let shown = notes.warnings("a");
        assert!(
            shown[0].starts_with("PromQL warning: 000000 xxx") && shown[SHOWN_MAX].contains("990 more"),
            "{}",
            shown[SHOWN_MAX]
        );
    }
}

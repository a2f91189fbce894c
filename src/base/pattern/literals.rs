//! What can be told of a pattern without running it: all that it matches, what every match begins with or holds.

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind};

use super::parse::Pattern;

/// Deepest level of a tree that is searched for literals.
const DEPTH_MAX: usize = 100;

/// A pattern that matches `text` and nothing else.
pub fn escape(text: &str) -> String {
    regex_syntax::escape(text)
}

/// The alternatives of a pattern that is nothing but texts with `|` between them, read without a parser: lists
/// of thousands of values are common, and are no work.
pub fn plain_alternatives(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut own = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '|' => all.push(std::mem::take(&mut own)),
            '\\' => own.push(letters.next().filter(|next| regex_syntax::is_meta_character(*next))?),
            letter if is_special(letter) => return None,
            letter => own.push(letter),
        }
    }
    all.push(own);
    Some(all)
}

fn is_special(letter: char) -> bool {
    matches!(letter, '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$')
}

impl Pattern {
    /// All that the pattern matches, when that can be listed.
    pub fn listed(&self) -> Option<Vec<String>> {
        if !self.hir.properties().look_set().is_empty() {
            return None;
        }
        let found = Extractor::new().extract(&self.hir);
        let literals = found.literals().filter(|_| found.is_exact())?;
        literals.iter().map(|own| std::str::from_utf8(own.as_bytes()).ok().map(str::to_owned)).collect()
    }

    /// What everything that the pattern matches begins with.
    pub fn prefix(&self) -> String {
        if !self.hir.properties().look_set().is_empty() {
            return String::new();
        }
        let found = Extractor::new().extract(&self.hir);
        let prefix = found.longest_common_prefix().unwrap_or_default();
        prefix.utf8_chunks().next().map_or("", |chunk| chunk.valid()).to_owned()
    }

    /// Texts that everything that matches holds.
    pub fn required(&self) -> Vec<String> {
        let mut texts = Vec::new();
        collect_required(&self.hir, &mut String::new(), &mut texts, 0);
        texts.retain(|text| !text.is_empty());
        texts
    }
}

/// Adds to `found` the literals that every match of `hir` contains. `run` grows over neighbours.
fn collect_required(hir: &Hir, run: &mut String, found: &mut Vec<String>, depth: usize) {
    let end_run = |run: &mut String, found: &mut Vec<String>| {
        if !run.is_empty() {
            found.push(std::mem::take(run));
        }
    };
    match hir.kind() {
        _ if depth > DEPTH_MAX => end_run(run, found),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => run.push_str(text),
            Err(_) => end_run(run, found),
        },
        HirKind::Concat(parts) => {
            for part in parts {
                collect_required(part, run, found, depth + 1);
            }
            if depth == 0 {
                end_run(run, found);
            }
        }
        HirKind::Capture(capture) => collect_required(&capture.sub, run, found, depth + 1),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            end_run(run, found);
            collect_required(&repetition.sub, run, found, depth + 1);
            end_run(run, found);
        }
        HirKind::Look(_) | HirKind::Empty => {}
        HirKind::Class(_) | HirKind::Alternation(_) | HirKind::Repetition(_) => end_run(run, found),
    }
    if depth == 0 {
        end_run(run, found);
    }
}

//! A compiled regular expression, and what it takes while it runs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::captures;
use regex_automata::util::primitives::PatternID;

use super::parse::Pattern;

/// Largest program of one pattern, in bytes.
pub(super) const PROGRAM_BYTES_MAX: usize = 4 << 20;
/// Largest table that is built for patterns with groups, in bytes.
const ONEPASS_BYTES_MAX: usize = 256 << 10;
/// Memory in which an automaton is built while it runs, in bytes: for label values, which are short and few.
const CACHE_BYTES_OF_VALUES: usize = 128 << 10;
/// The same for lines and attributes.
const CACHE_BYTES_OF_LINES: usize = 512 << 10;
/// The same at most: large programs need more, or they run state by state.
const CACHE_BYTES_MAX: usize = 1 << 20;
/// Most threads that run one pattern at a time, each with a cache of its own.
const THREADS_MAX: usize = 8;

/// A compiled regular expression; cheap to clone.
#[derive(Clone)]
pub struct Regex(Arc<Inner>);

struct Inner {
    regex: meta::Regex,
    text: String,
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.0.text).finish()
    }
}

/// Memory for one of the two automata (forwards, backwards) that each thread builds of a program, in bytes.
fn cache_bytes(pattern: &Pattern, program: usize) -> usize {
    let least = if pattern.dialect.is_for_lines() { CACHE_BYTES_OF_LINES } else { CACHE_BYTES_OF_VALUES };
    program.clamp(least, CACHE_BYTES_MAX)
}

fn threads(pattern: &Pattern) -> usize {
    match pattern.dialect.is_for_lines() {
        true => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
        false => 1,
    }
}

/// What a pattern takes whose program has so many bytes, with what it builds while it runs.
pub(super) fn bytes_of(pattern: &Pattern, program: usize) -> usize {
    program.saturating_add(threads(pattern) * 2 * cache_bytes(pattern, program))
}

/// Compiles a pattern whose program was estimated at `program` bytes; gives what it takes, in bytes.
pub(super) fn build(pattern: &Pattern, program: usize) -> Result<(Regex, usize), String> {
    let groups = pattern.dialect.has_groups();
    let config = meta::Config::new()
        .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
        .hybrid_cache_capacity(cache_bytes(pattern, program))
        .onepass(groups)
        .onepass_size_limit(Some(ONEPASS_BYTES_MAX))
        .which_captures(if groups { WhichCaptures::All } else { WhichCaptures::Implicit });
    let regex =
        meta::Builder::new().configure(config).build_from_hir(&pattern.anchored()).map_err(|error| {
            match error.size_limit() {
                Some(limit) => {
                    format!("it compiles to more than {limit} bytes; make its repetitions and classes smaller")
                }
                None => error.to_string(),
            }
        })?;
    let cache = regex.create_cache().memory_usage() + 2 * cache_bytes(pattern, program);
    let bytes = regex.memory_usage() + threads(pattern) * cache;
    Ok((Regex(Arc::new(Inner { regex, text: pattern.text.clone() })), bytes))
}

impl Regex {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Memory of the program, in bytes.
    #[cfg(test)]
    pub(super) fn program_bytes(&self) -> usize {
        self.0.regex.memory_usage()
    }

    /// Whether `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.regex.is_match(text)
    }

    /// How many matches of `text` follow each other.
    pub fn count(&self, text: &str) -> usize {
        self.0.regex.find_iter(text).count()
    }

    /// The first match with its groups.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let mut found = self.0.regex.create_captures();
        self.0.regex.captures(text, &mut found);
        found.is_match().then_some(Captures { found, text })
    }

    /// All matches with their groups, one after the other.
    pub fn captures_iter<'s>(&'s self, text: &'s str) -> impl Iterator<Item = Captures<'s>> {
        self.0.regex.captures_iter(text).map(move |found| Captures { found, text })
    }

    /// The names of its groups, the whole match first, which has none.
    pub fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.regex.group_info().pattern_names(PatternID::ZERO)
    }
}

/// A match with its groups.
#[derive(Debug)]
pub struct Captures<'t> {
    found: captures::Captures,
    text: &'t str,
}

impl<'t> Captures<'t> {
    /// Where a group matched, in bytes; 0 is the whole.
    pub fn range(&self, group: usize) -> Option<Range<usize>> {
        self.found.get_group(group).map(|span| span.range())
    }

    /// What a group matched; 0 is the whole.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.text.get(self.range(group)?)
    }

    /// `template` with `$1`, `$name` and `${name}` replaced by groups; none when that is more than `max` bytes.
    pub fn expanded(&self, template: &str, max: usize) -> Option<String> {
        let (mut out, mut rest) = (String::new(), template);
        while !rest.is_empty() {
            // Up to the next reference and with it, so that one after the other may be too much.
            let begins = rest.bytes().take_while(|byte| *byte != b'$').count();
            let ends = rest.as_bytes().get(begins + 2..).unwrap_or_default().iter().position(|byte| *byte == b'$');
            let reference = rest.get(begins..).unwrap_or_default();
            let cut = match (reference.strip_prefix("${").and_then(|name| name.find('}')), ends) {
                // Two dollars are one that is no reference.
                _ if reference.starts_with("$$") => begins + 2,
                (Some(name), _) => begins + 3 + name,
                (None, ends) => ends.map_or(rest.len(), |ends| begins + 2 + ends),
            };
            let (part, more) = rest.split_at_checked(cut)?;
            self.expand(part, &mut out);
            if out.len() > max {
                return None;
            }
            rest = more;
        }
        Some(out)
    }

    /// Adds `template` to `out`, with `$1`, `$name` and `${name}` replaced by groups.
    pub fn expand(&self, template: &str, out: &mut String) {
        self.found.interpolate_string_into(self.text, template, out);
    }
}

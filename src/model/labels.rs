//! A label set: sorted, without duplicates or empty values, in one allocation that clones for free.
//! Layout: for each pair, name length, name, value length, value; a length is one `char`, so that
//! the whole is a `str` and equality and hash are those of its bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The name that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Longest name or value, in bytes, that a label set can hold. Receivers set lower limits.
pub const LABEL_BYTES_MAX: usize = 1 << 20;

/// A sorted set of label pairs. Two sets are equal when their pairs are; order is by pairs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// Why pairs do not make a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The same name twice.
    #[error("duplicate label name {0:?}")]
    Duplicate(String),
    /// A pair without a name.
    #[error("empty label name")]
    EmptyName,
    /// A name or value over [`LABEL_BYTES_MAX`].
    #[error("label {name:?} has {bytes} bytes, over the limit of {LABEL_BYTES_MAX}")]
    TooLong {
        /// The name, cut to 64 characters.
        name: String,
        /// The length found.
        bytes: usize,
    },
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Labels {
    /// Sorts `pairs` by name and drops pairs with an empty value, which mean "no such label".
    ///
    /// # Errors
    /// [`LabelsError`] when names are empty or repeat, or a part is too long.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        for two in pairs.windows(2) {
            if let [(a, _), (b, _)] = two
                && a.as_ref() == b.as_ref()
            {
                return Err(LabelsError::Duplicate(a.as_ref().chars().take(64).collect()));
            }
        }
        let bytes = pairs.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len() + 4).sum();
        let mut text = String::with_capacity(bytes);
        for (name, value) in &pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            let bytes = name.len().max(value.len());
            if bytes > LABEL_BYTES_MAX {
                return Err(LabelsError::TooLong { name: name.chars().take(64).collect(), bytes });
            }
            if !value.is_empty() {
                push(&mut text, name);
                push(&mut text, value);
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// The set of pairs that are sorted by name already, without equal names, empty parts or
    /// parts that are too long.
    pub fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        debug_assert!(pairs.clone().is_sorted_by(|a, b| a.0 < b.0), "pairs are not sorted by name");
        let bytes = pairs.clone().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut text = String::with_capacity(bytes);
        for (name, value) in pairs {
            push(&mut text, name);
            push(&mut text, value);
        }
        Self(Arc::from(text))
    }

    /// The pairs in order of their names.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// The value of `name`, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The value of `name`, or the empty string, as matchers see it.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The metric's name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of memory that the pairs take.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The set as one string; equal sets have equal keys. Not for people.
    pub fn key(&self) -> &str {
        &self.0
    }

    /// The set that has this [`key`](Self::key); none when it is no key.
    pub fn from_key(key: &str) -> Option<Self> {
        let (mut pairs, mut last) = (Iter(key), "");
        while !pairs.0.is_empty() {
            let (name, value) = pairs.next()?;
            if name <= last || value.is_empty() {
                return None;
            }
            last = name;
        }
        Some(Self(Arc::from(key)))
    }

    /// The set of the pairs that `keep` says yes to.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str, &str) -> bool) -> Self {
        let mut text = String::with_capacity(self.0.len());
        for (name, value) in self.iter() {
            if keep(name, value) {
                push(&mut text, name);
                push(&mut text, value);
            }
        }
        Self(Arc::from(text))
    }

    /// Appends the [`key`](Self::key) of what [`filter`](Self::filter) would give.
    pub fn filter_key(&self, text: &mut String, mut keep: impl FnMut(&str, &str) -> bool) {
        for (name, value) in self.iter() {
            if keep(name, value) {
                push(text, name);
                push(text, value);
            }
        }
    }

    /// Appends the [`key`](Self::key) of the set of the pairs with these names, which are sorted.
    pub fn only_key(&self, names: &[&str], text: &mut String) {
        let mut names = names.iter().copied();
        let Some(mut wanted) = names.next() else { return };
        for (name, value) in self.iter() {
            while wanted < name {
                match names.next() {
                    Some(next) => wanted = next,
                    None => return,
                }
            }
            if wanted == name {
                push(text, name);
                push(text, value);
            }
        }
    }

    /// The set without `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() { self.clone() } else { self.filter(|own, _| own != name) }
    }

    /// The set with `name` set to `value`; an empty `value` removes it, and so does one longer
    /// than [`LABEL_BYTES_MAX`].
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let others = self.iter().filter(|(own, _)| *own != name);
        Self::from_pairs(others.chain([(name, value)])).unwrap_or_else(|_| self.without(name))
    }
}

/// As its [`key`](Labels::key).
impl Borrow<str> for Labels {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The order of the sets that have these keys.
pub fn compare_keys(a: &str, b: &str) -> Ordering {
    if a == b { Ordering::Equal } else { Iter(a).cmp(Iter(b)) }
}

fn push(text: &mut String, part: &str) {
    text.push(length_char(part.len()));
    text.push_str(part);
}

/// Lengths skip the surrogates, which are no `char`s. At most [`LABEL_BYTES_MAX`] is ever asked.
fn length_char(len: usize) -> char {
    let code = if len < 0xD800 { len } else { len + 0x800 };
    u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\0')
}

fn char_length(c: char) -> usize {
    let code = c as usize;
    if code < 0xD800 { code } else { code - 0x800 }
}

/// The pairs of a [`Labels`], in order.
#[derive(Clone)]
pub struct Iter<'a>(&'a str);

impl<'a> Iter<'a> {
    #[inline]
    fn part(&mut self) -> Option<&'a str> {
        // Nearly all lengths are one byte.
        if let Some(short) = self.0.as_bytes().first().filter(|first| first.is_ascii()) {
            let (_, rest) = self.0.split_at_checked(1)?;
            let (part, rest) = rest.split_at_checked(usize::from(*short))?;
            self.0 = rest;
            return Some(part);
        }
        let length = self.0.chars().next()?;
        let (_, rest) = self.0.split_at_checked(length.len_utf8())?;
        let (part, rest) = rest.split_at_checked(char_length(length))?;
        self.0 = rest;
        Some(part)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.part()?, self.part()?))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_keys(&self.0, &other.0)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `{a="b", c="d"}`, with Go-like quoting, as selectors are written.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted_whatever_their_length() {
        let long = "x".repeat(0xD7FF);
        let longer = "ü".repeat(0xD800);
        let pairs = [("b", long.as_str()), ("a", longer.as_str()), ("", "")];
        assert_eq!(Labels::from_pairs(pairs), Err(LabelsError::EmptyName));
        let labels = Labels::from_pairs(pairs[..2].iter().copied()).unwrap();
        assert_eq!(labels.get("a"), Some(longer.as_str()));
        assert_eq!(labels.get("b"), Some(long.as_str()));
        assert_eq!(labels.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_empty_value_is_no_label() {
        let labels = Labels::from_pairs([("a", ""), ("b", "1")]).unwrap();
        assert_eq!(labels, Labels::default().with("b", "1"));
        assert!(labels.with("b", "").is_empty());
    }

    #[test]
    fn a_name_twice_is_refused() {
        let error = Labels::from_pairs([("a", "1"), ("a", "2")]).unwrap_err();
        assert_eq!(error, LabelsError::Duplicate("a".into()));
    }

    #[test]
    fn keys_of_a_part_are_those_of_the_part_as_a_set() {
        let labels = Labels::from_pairs([("b", "2"), ("d", "4"), ("f", "6")]).unwrap();
        for names in [vec![], vec!["a"], vec!["b"], vec!["a", "d", "e"], vec!["b", "c", "f"], vec!["d", "g"]] {
            let part = labels.filter(|name, _| names.contains(&name));
            let (mut only, mut filtered) = (String::new(), String::new());
            labels.only_key(&names, &mut only);
            labels.filter_key(&mut filtered, |name, _| names.contains(&name));
            assert_eq!([only.as_str(), filtered.as_str()], [part.key(); 2]);
        }
    }

    #[test]
    fn a_key_gives_its_set_and_nothing_else_does() {
        for labels in [Labels::default(), Labels::default().with("a", "1").with("b", "ü")] {
            assert_eq!(Labels::from_key(labels.key()), Some(labels));
        }
        let push = |parts: &[&str]| {
            let mut text = String::new();
            parts.iter().for_each(|part| super::push(&mut text, part));
            text
        };
        for bad in
            [push(&["a"]), push(&["a", ""]), push(&["", "a"]), push(&["b", "1", "a", "1"]), push(&["a", "1", "a", "1"])]
        {
            assert_eq!(Labels::from_key(&bad), None, "{bad:?}");
        }
        assert_eq!(Labels::from_key("\u{5}a"), None);
    }

    #[test]
    fn order_is_by_pairs_not_by_bytes() {
        let short = Labels::from_pairs([("a", "zz")]).unwrap();
        let long = Labels::from_pairs([("a", "aaaa")]).unwrap();
        assert!(long < short);
    }
}

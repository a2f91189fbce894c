//! Who the series in memory are: label pairs with numbers, series as lists of pairs, and the index
//! from pairs to series. Heads that follow one another share a registry, so a flush makes no series
//! anew; one in which too many have gone quiet is left behind ([`Registry::is_worth_keeping`]).
//! Flow: [`Known::find`] knows a series by the canonical bytes of its labels ([`raw`]), without
//! reading them: first by the guess that it follows the series before, else by a keyed hash that
//! does not depend on the order of labels; either way each pair's bytes are compared.
//! Invariants: nothing is ever removed; a series' pairs are sorted by name.
//! Memory: four bytes a label and series, the index (two or three more), and each text once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::{AHashMap, RandomState};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use roaring::RoaringBitmap;

use super::postings::{Held, Postings, Visit, damaged};
use super::table::Table;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::raw;
use crate::store::error::StoreError;

/// Most series, pairs or bytes of text; more than memory has room for.
const NUMBERS_MAX: usize = u32::MAX as usize - 1;
/// Labels of a series that is known by them in any order.
const UNORDERED_MAX: usize = 128;
/// Estimated bytes of the index for each label of a series.
const POSTING_BYTES: usize = 3;

/// Series by labels and by number.
pub struct Registry(RwLock<Known>);

/// What a registry knows.
pub struct Known {
    hasher: RandomState,
    names: Vec<Name>,
    name_numbers: AHashMap<Arc<str>, u32>,
    /// The canonical bytes of all pairs.
    texts: Vec<u8>,
    pairs: Vec<Pair>,
    pair_numbers: Table,
    /// Where each series' pairs begin in `members`.
    starts: Vec<u32>,
    members: Vec<u32>,
    /// By series: the segment of the log that says what its number stands for.
    defined: Vec<AtomicU32>,
    series_numbers: Table,
    bytes: usize,
    scratch: Vec<u8>,
}

struct Name {
    text: Arc<str>,
    pairs: Vec<u32>,
}

struct Pair {
    start: u32,
    len: u32,
    name: u32,
    series: Held,
}

impl Registry {
    /// A registry of no series.
    pub fn new() -> Arc<Self> {
        let known = Known {
            hasher: RandomState::new(),
            names: Vec::new(),
            name_numbers: AHashMap::new(),
            texts: Vec::new(),
            pairs: Vec::new(),
            pair_numbers: Table::default(),
            starts: Vec::new(),
            members: Vec::new(),
            defined: Vec::new(),
            series_numbers: Table::default(),
            bytes: 0,
            scratch: Vec::new(),
        };
        Arc::new(Self(RwLock::new(known)))
    }

    /// For looking up.
    pub fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read()
    }

    /// For making series.
    pub fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write()
    }

    /// The labels of a series.
    pub fn labels(&self, id: u32) -> Labels {
        self.read().labels(id)
    }

    /// Whether the next head should go on with it: most of its series were `active` in the last
    /// one, and it takes less than `bytes_max`.
    pub fn is_worth_keeping(&self, active: usize, bytes_max: usize) -> bool {
        let known = self.read();
        4 * known.len().saturating_sub(active) <= known.len() && known.bytes() <= bytes_max
    }
}

impl Known {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Memory taken, in bytes, by estimate.
    pub fn bytes(&self) -> usize {
        self.bytes + self.series_numbers.bytes() + self.pair_numbers.bytes()
    }

    /// The numbers of a series' pairs, in the order of their names.
    #[inline]
    pub fn members(&self, id: u32) -> &[u32] {
        let at = id as usize;
        let Some(start) = self.starts.get(at) else { return &[] };
        let end = self.starts.get(at + 1).map_or(self.members.len(), |end| *end as usize);
        self.members.get(*start as usize..end).unwrap_or_default()
    }

    #[inline]
    fn text(&self, pair: u32) -> &[u8] {
        let Some(pair) = self.pairs.get(pair as usize) else { return &[] };
        let start = pair.start as usize;
        self.texts.get(start..start + pair.len as usize).unwrap_or_default()
    }

    /// Name and value of a pair.
    pub fn pair(&self, pair: u32) -> (&str, &str) {
        raw::split_pair(self.text(pair)).unwrap_or_default()
    }

    /// The labels of a series.
    pub fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted(self.members(id).iter().map(|pair| self.pair(*pair)))
    }

    fn hash_text(&self, text: &[u8]) -> u64 {
        self.hasher.hash_one(text)
    }

    /// The same for any order of the same labels; none for what is no row of pairs.
    fn hash(&self, mut labels: &[u8]) -> Option<u64> {
        let mut sum = 0u64;
        while !labels.is_empty() {
            let (pair, rest) = raw::take_pair(labels)?;
            sum = sum.wrapping_add(self.hash_text(pair));
            labels = rest;
        }
        Some(sum)
    }

    /// The series with these labels, in any order. `guess` may be it.
    #[inline]
    pub fn find(&self, labels: &[u8], guess: u32) -> Option<u32> {
        if (guess as usize) < self.starts.len() && self.has(guess, labels) {
            return Some(guess);
        }
        let hash = self.hash(labels)?;
        self.series_numbers.find(hash, |id| self.has(id, labels) || self.has_unordered(id, labels))
    }

    #[inline]
    fn has(&self, id: u32, mut labels: &[u8]) -> bool {
        for pair in self.members(id) {
            match labels.strip_prefix(self.text(*pair)) {
                Some(rest) => labels = rest,
                None => return false,
            }
        }
        labels.is_empty()
    }

    fn has_unordered(&self, id: u32, mut labels: &[u8]) -> bool {
        let members = self.members(id);
        let (mut seen, mut count) = (0u128, 0);
        while let Some((pair, rest)) = raw::take_pair(labels) {
            let at = members.iter().take(UNORDERED_MAX).position(|member| self.text(*member) == pair);
            match at {
                Some(at) if seen >> at & 1 == 0 => seen |= 1 << at,
                _ => return false,
            }
            (labels, count) = (rest, count + 1);
        }
        labels.is_empty() && count == members.len()
    }

    /// The numbers of the pairs of a series that is not known, where all are known, sorted by name
    /// and one of them is a metric's name, so that its labels need not be read.
    pub fn known_pairs(&self, mut labels: &[u8]) -> Option<Vec<u32>> {
        let mut pairs = Vec::with_capacity(8);
        let (mut last, mut named) = ("", false);
        while !labels.is_empty() {
            let (text, rest) = raw::take_pair(labels)?;
            let number = self.pair_numbers.find(self.hash_text(text), |pair| self.text(pair) == text)?;
            let name = self.names.get(self.pairs.get(number as usize)?.name as usize)?;
            if *name.text <= *last {
                return None;
            }
            last = &name.text;
            named |= last == METRIC_NAME;
            pairs.push(number);
            labels = rest;
        }
        named.then_some(pairs)
    }

    /// The series with these labels that has been made before.
    pub fn find_labels(&mut self, labels: &Labels) -> Option<u32> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        raw::put_labels(&mut bytes, labels);
        let found = self.find(&bytes, u32::MAX);
        self.scratch = bytes;
        found
    }

    /// The numbers of the pairs of a label set, made where they are new; none when there is no room.
    pub fn intern(&mut self, labels: &Labels) -> Option<Vec<u32>> {
        labels.iter().map(|(name, value)| self.intern_pair(name, value)).collect()
    }

    /// The number of a pair, made where it is new; none when there is no room.
    pub fn intern_pair(&mut self, name: &str, value: &str) -> Option<u32> {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        raw::put_pair(&mut text, name.as_bytes(), value.as_bytes());
        let hash = self.hash_text(&text);
        let known = self.pair_numbers.find(hash, |pair| self.text(pair) == text);
        let number = known.or_else(|| self.make_pair(name, &text, hash));
        self.scratch = text;
        number
    }

    fn make_pair(&mut self, name: &str, text: &[u8], hash: u64) -> Option<u32> {
        if self.texts.len() + text.len() > NUMBERS_MAX || self.pairs.len() >= NUMBERS_MAX {
            return None;
        }
        let own = match self.name_numbers.get(name) {
            Some(own) => *own,
            None => {
                let own = self.names.len() as u32;
                let text: Arc<str> = name.into();
                self.names.push(Name { text: text.clone(), pairs: Vec::new() });
                self.name_numbers.insert(text, own);
                self.bytes += name.len() + 100;
                own
            }
        };
        let number = self.pairs.len() as u32;
        let (start, len) = (self.texts.len() as u32, text.len() as u32);
        self.texts.extend_from_slice(text);
        self.pairs.push(Pair { start, len, name: own, series: Held::None });
        self.names.get_mut(own as usize)?.pairs.push(number);
        self.pair_numbers.insert(hash, number);
        self.bytes += text.len() + size_of::<Pair>() + 6;
        Some(number)
    }

    /// The number of a pair that has been made before.
    pub fn find_pair(&self, name: &str, value: &str) -> Option<u32> {
        let mut text = Vec::with_capacity(name.len() + value.len() + 16);
        raw::put_pair(&mut text, name.as_bytes(), value.as_bytes());
        self.pair_numbers.find(self.hash_text(&text), |pair| self.text(pair) == text)
    }

    /// Whether pairs are sorted by name, without equal names.
    pub fn are_sorted(&self, pairs: &[u32]) -> bool {
        pairs.is_sorted_by(|a, b| self.pair(*a).0 < self.pair(*b).0)
    }

    /// Series that have a pair.
    pub fn series_with(&self, pair: u32) -> usize {
        self.pairs.get(pair as usize).map_or(0, |pair| pair.series.total())
    }

    /// The pair with the metric's name among `pairs`.
    pub fn name_pair(&self, pairs: &[u32]) -> Option<u32> {
        let name = *self.name_numbers.get(METRIC_NAME)?;
        pairs.iter().copied().find(|pair| self.pairs.get(*pair as usize).is_some_and(|pair| pair.name == name))
    }

    /// The series of these pairs, sorted by name, made where it is new; none when there is no room.
    /// Says whether it is new.
    pub fn series_of(&mut self, pairs: &[u32]) -> Option<(u32, bool)> {
        let hash = pairs.iter().fold(0u64, |sum, pair| sum.wrapping_add(self.hash_text(self.text(*pair))));
        if let Some(id) = self.series_numbers.find(hash, |id| self.members(id) == pairs) {
            return Some((id, false));
        }
        if self.len() >= NUMBERS_MAX || self.members.len() + pairs.len() > NUMBERS_MAX {
            return None;
        }
        let id = self.len() as u32;
        self.starts.push(self.members.len() as u32);
        self.members.extend_from_slice(pairs);
        self.defined.push(AtomicU32::new(0));
        self.series_numbers.insert(hash, id);
        for pair in pairs {
            if let Some(pair) = self.pairs.get_mut(*pair as usize) {
                pair.series.push(id);
            }
        }
        self.bytes += 8 + (4 + POSTING_BYTES) * pairs.len();
        Some((id, true))
    }

    /// Notes that `segment` of the log is about to say what these numbers stand for; returns those
    /// of which it does not yet. Call it under the log's lock.
    pub fn define(&self, ids: impl Iterator<Item = u32>, segment: u32) -> Vec<u32> {
        let is_new = |id: &u32| {
            self.defined.get(*id as usize).is_some_and(|defined| {
                defined.load(Ordering::Relaxed) != segment && defined.swap(segment, Ordering::Relaxed) != segment
            })
        };
        ids.filter(is_new).collect()
    }

    /// Puts series in the order of their labels.
    pub fn sort(&self, ids: &mut [u32]) {
        let mut order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.pair(*a).cmp(&self.pair(*b)));
        let mut rank = vec![0u32; order.len()];
        for (at, pair) in order.into_iter().enumerate() {
            if let Some(own) = rank.get_mut(pair as usize) {
                *own = at as u32;
            }
        }
        let rank = |pair: &u32| rank.get(*pair as usize).copied().unwrap_or_default();
        // Mostly the first two pairs decide: they lie beside the number.
        let key = |id: &u32| match self.members(*id) {
            [] => 0,
            [one] => u64::from(rank(one)) << 32,
            [one, two, ..] => u64::from(rank(one)) << 32 | u64::from(rank(two)),
        };
        let mut keyed: Vec<(u64, u32)> = ids.iter().map(|id| (key(id), *id)).collect();
        keyed.sort_unstable_by(|a, b| {
            let ranks = |id: u32| self.members(id).iter().map(rank);
            a.0.cmp(&b.0).then_with(|| ranks(a.1).cmp(ranks(b.1)))
        });
        ids.iter_mut().zip(keyed).for_each(|(own, (_, id))| *own = id);
    }

    /// How many pairs there are.
    pub fn pair_count(&self) -> u32 {
        self.pairs.len() as u32
    }

    /// How many of the series `among` have a pair.
    pub fn series_among(&self, pair: u32, among: &RoaringBitmap) -> u64 {
        self.pairs.get(pair as usize).map_or(0, |pair| pair.series.count(among))
    }
}

impl Postings for Known {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.len() as u32);
        all
    }

    fn add(&self, name: &str, value: &str, set: &mut RoaringBitmap) -> Result<(), StoreError> {
        let found = self.find_pair(name, value);
        if let Some(pair) = found.and_then(|pair| self.pairs.get(pair as usize)) {
            pair.series.ids().add_to(set).map_err(damaged)?;
        }
        Ok(())
    }

    fn visit(&self, name: Option<&str>, prefix: &str, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let one = name.map(|name| self.name_numbers.get(name).and_then(|name| self.names.get(*name as usize)));
        let names = match one {
            Some(one) => one.map(std::slice::from_ref).unwrap_or_default(),
            None => &self.names,
        };
        for name in names {
            for number in &name.pairs {
                let Some(pair) = self.pairs.get(*number as usize) else { continue };
                let value = self.pair(*number).1;
                if value.starts_with(prefix) {
                    visit(&name.text, value, pair.series.ids())?;
                }
            }
        }
        Ok(())
    }
}

//! The store of spans against a plain list of spans.

mod damage;
mod find;
mod measure;
mod model;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::counters::Counters;
use crate::base::disk::RealDisk;
use crate::base::limits::QueryBudget;
use crate::base::support::ManualClock;
use crate::model::span::{
    AttrValue, Attrs, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId,
};
use crate::model::time::RangeNs;
use crate::store::lane::expect_replay;
use crate::store::waist::SpanHint;
use crate::store::waist::{SelectTraces, WantedAttrs};

/// A time in the middle of a day.
pub(super) const NOW: i64 = 20_000 * DAY_NS + DAY_NS / 2;

/// Numbers that look random and are the same in every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

fn value(dice: &mut Dice, depth: usize) -> AttrValue {
    match dice.below(if depth > 3 { 6 } else { 8 }) {
        0 => AttrValue::Empty,
        1 => AttrValue::Str(format!("text{}", dice.below(50))),
        2 => AttrValue::Int(dice.next() as i64),
        3 => AttrValue::Double(f64::from_bits(dice.next())),
        4 => AttrValue::Bool(dice.one_in(2)),
        5 => AttrValue::Bytes(dice.next().to_le_bytes()[..dice.below(9) as usize].to_vec()),
        6 => AttrValue::Array((0..dice.below(4)).map(|_| value(dice, depth + 1)).collect()),
        _ => AttrValue::Map(attrs(dice, depth + 1)),
    }
}

fn attrs(dice: &mut Dice, depth: usize) -> Attrs {
    (0..dice.below(5)).map(|_| (format!("key{}", dice.below(12)), value(dice, depth))).collect()
}

fn resource(dice: &mut Dice) -> Resource {
    let mut resource =
        Resource { attrs: attrs(dice, 0), dropped_attrs: dice.below(2) as u32, schema_url: String::new() };
    if !dice.one_in(5) {
        let name = format!("service{}", dice.below(6));
        resource.attrs.push(("service.name".into(), AttrValue::Str(name)));
    }
    resource
}

fn small_id(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(super) fn trace_id(number: u64) -> TraceId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x1234_5678_9abc_def1).to_be_bytes());
    id[8..].copy_from_slice(&(number + 1).to_be_bytes());
    TraceId(id)
}

fn start(dice: &mut Dice) -> i64 {
    match dice.below(12) {
        0 => NOW - DAY_NS * dice.below(3) as i64,
        1 => dice.next() as i64,
        _ => NOW - dice.below(3_600_000_000_000) as i64,
    }
}

/// A span with anything in any field; few traces, so that they come in pieces.
pub(super) fn span(dice: &mut Dice) -> Span {
    let start = start(dice);
    Span {
        trace_id: trace_id(dice.below(40)),
        span_id: SpanId(small_id(dice.below(400) + 1)),
        parent_id: SpanId(small_id(dice.below(400))),
        trace_state: if dice.one_in(9) { "vendor=1".into() } else { String::new() },
        flags: if dice.one_in(3) { dice.next() as u32 } else { 0 },
        name: format!("name{}", dice.below(20)),
        kind: SpanKind::from_number(dice.below(6) as i64),
        start,
        end: if dice.one_in(20) { dice.next() as i64 } else { start.saturating_add(dice.below(5_000_000_000) as i64) },
        status: StatusCode::from_number(dice.below(3) as i64),
        status_message: if dice.one_in(9) { "failed".into() } else { String::new() },
        attrs: attrs(dice, 0),
        dropped_attrs: dice.below(20).saturating_sub(17) as u32,
        events: (0..dice.below(6).saturating_sub(3)).map(|_| event(dice, start)).collect(),
        dropped_events: dice.below(20).saturating_sub(18) as u32,
        links: (0..dice.below(6).saturating_sub(4)).map(|_| link(dice)).collect(),
        dropped_links: u32::MAX * u32::from(dice.one_in(30)),
        resource: Arc::new(resource(dice)),
        scope: Arc::new(Scope {
            name: format!("scope{}", dice.below(2)),
            version: "1".into(),
            attrs: attrs(dice, 3),
            dropped_attrs: 0,
            schema_url: "https://example.org".into(),
        }),
    }
}

fn event(dice: &mut Dice, start: i64) -> SpanEvent {
    let name = format!("event{}", dice.below(3));
    SpanEvent { t: start.wrapping_add(dice.below(1000) as i64), name, attrs: attrs(dice, 1), dropped_attrs: 1 }
}

fn link(dice: &mut Dice) -> SpanLink {
    SpanLink {
        trace_id: trace_id(dice.below(40)),
        span_id: SpanId(small_id(dice.below(9))),
        trace_state: "a=b".into(),
        attrs: attrs(dice, 1),
        dropped_attrs: 3,
        flags: 1,
    }
}

/// Spans as text, sorted: doubles by their bits, so that equal text is equal content.
pub(super) fn texts<'s>(spans: impl IntoIterator<Item = &'s Span>) -> Vec<String> {
    let mut texts: Vec<_> = spans
        .into_iter()
        .map(|span| {
            let mut copy = span.clone();
            for attrs in std::iter::once(&mut copy.attrs)
                .chain([&mut Arc::make_mut(&mut copy.resource).attrs, &mut Arc::make_mut(&mut copy.scope).attrs])
                .chain(copy.events.iter_mut().map(|event| &mut event.attrs))
                .chain(copy.links.iter_mut().map(|link| &mut link.attrs))
            {
                attrs.iter_mut().for_each(|(_, value)| bits(value));
            }
            format!("{copy:?}")
        })
        .collect();
    texts.sort();
    texts
}

fn bits(value: &mut AttrValue) {
    match value {
        AttrValue::Double(double) => *value = AttrValue::Str(format!("bits {:x}", double.to_bits())),
        AttrValue::Array(values) => values.iter_mut().for_each(bits),
        AttrValue::Map(attrs) => attrs.iter_mut().for_each(|(_, value)| bits(value)),
        _ => {}
    }
}

pub(super) fn open(dir: &Path) -> TracesStore {
    open_with(dir, Options::default())
}

pub(super) fn open_with(dir: &Path, options: Options) -> TracesStore {
    TracesStore::open(&env(dir), options).unwrap()
}

pub(super) fn env(dir: &Path) -> Env {
    Env::open(dir, Arc::new(RealDisk), Arc::new(ManualClock::at_ns(NOW)), Counters::default(), Arc::default())
}

pub(super) fn append(store: &TracesStore, spans: &[Span]) -> Appended {
    store.append(&TracesBatch { spans: spans.to_vec() }).unwrap()
}

pub(super) fn read_all(store: &TracesStore, range: RangeNs, hints: &[SpanHint]) -> Vec<Span> {
    let budget = QueryBudget::unlimited();
    let blocks = store.blocks(range, hints, &budget).unwrap();
    blocks.iter().flat_map(|block| block.read(&WantedAttrs::All, &budget).unwrap()).collect()
}

pub(super) fn all(store: &TracesStore) -> Vec<Span> {
    read_all(store, RangeNs::ALL, &[])
}

#[test]
fn progress_counts_the_logs_of_all_signals_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut dice = Dice::new(8);
    append(&store, &(0..20).map(|_| span(&mut dice)).collect::<Vec<_>>());
    drop(store);
    let log = |signal: &str| dir.path().join("wal").join(signal);
    std::fs::create_dir_all(log("logs")).unwrap();
    let file = std::fs::read_dir(log("traces")).unwrap().next().unwrap().unwrap();
    std::fs::copy(file.path(), log("logs").join(file.file_name())).unwrap();
    let env = env(dir.path());
    expect_replay(&env).unwrap();
    assert_eq!(env.progress.percent(), 0);
    TracesStore::open(&env, Options::default()).unwrap();
    assert_eq!(env.progress.percent(), 50, "the log of lines is still to come");
}

#[test]
fn large_spans_of_many_batches_that_begin_together_lie_in_blocks_that_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for batch in 0..6 {
        // By the mean of its batch the large one is small.
        let large = Span {
            trace_id: trace_id(batch),
            span_id: SpanId(small_id(1)),
            attrs: vec![("body".into(), AttrValue::Str("a".repeat(15 << 20)))],
            start: NOW,
            end: NOW,
            ..Span::default()
        };
        let small = |number: u64| Span {
            trace_id: trace_id(1000 + batch),
            span_id: SpanId(small_id(number + 1)),
            start: NOW + 1,
            end: NOW + 1,
            ..Span::default()
        };
        let spans: Vec<Span> = std::iter::once(large).chain((0..2000).map(small)).collect();
        assert!(append(&store, &spans).rejected.is_empty());
    }
    store.lane().flush().unwrap();
    let view = store.lane.view();
    let frames = view.parts.iter().flat_map(|part| part.reader().frames());
    let largest = frames.map(|frame| frame.raw).max().unwrap();
    assert!(largest < 40 << 20, "a block of {largest} bytes");
    assert_eq!(store.trace(trace_id(3), &QueryBudget::unlimited()).unwrap().len(), 1);
}

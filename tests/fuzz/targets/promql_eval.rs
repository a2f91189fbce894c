//! A query over a few series of every kind, within a budget: it ends with an answer or an error.
//! The first byte says over which times.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use trilith::base::limits::QueryBudget;
use trilith::model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use trilith::model::labels::Labels;
use trilith::model::sample::{Columns, HistogramSample, STALE_NAN_BITS};
use trilith::query::promql::{self, Params};
use trilith::store::memory::Memory;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("labels")
}

fn histogram(at: i64, custom: bool) -> HistogramSample {
    let counts = vec![1.0 + (at % 7) as f64, 2.0, at as f64];
    let spans = vec![BucketSpan { offset: if custom { 0 } else { -2 }, length: 3 }];
    let histogram = Histogram {
        schema: if custom { CUSTOM_BUCKETS_SCHEMA } else { (at % 3) as i32 },
        count: counts.iter().sum(),
        sum: at as f64,
        reset_hint: if at % 11 == 0 { ResetHint::Gauge } else { ResetHint::Unknown },
        positive_spans: spans,
        positive: counts,
        custom_bounds: if custom { vec![1.0, 2.0] } else { Vec::new() },
        ..Histogram::default()
    };
    HistogramSample {
        t: at * 15_000,
        start: if at % 5 == 0 { at * 15_000 - 1 } else { 0 },
        histogram: Arc::new(histogram),
    }
}

fn store() -> &'static Memory {
    static STORE: OnceLock<Memory> = OnceLock::new();
    STORE.get_or_init(|| {
        let mut all = Memory::default();
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, 1e-310, f64::from_bits(STALE_NAN_BITS)];
        for (number, job) in ["a", "b", "c"].iter().enumerate() {
            for name in ["a", "b_total", "c_bucket"] {
                let times: Vec<i64> = (0..240).map(|at| at * 15_000 + number as i64).collect();
                let values =
                    (0..240).map(|at| if at % 20 == 19 { odd[at / 20 % 7] } else { (at % 50 * number) as f64 });
                let starts = times.iter().map(|t| t / 600_000 * 600_000).collect();
                let values = values.collect();
                let own = labels(&[
                    ("__name__", name),
                    ("job", job),
                    ("instance", "x"),
                    ("le", ["0.5", "1", "+Inf"][number]),
                ]);
                all.insert(own, Columns { times: times.into(), values, starts, histograms: Vec::new() });
            }
            let histograms = (0..240).map(|at| histogram(at, number == 2)).collect();
            let own = labels(&[("__name__", "h"), ("job", job), ("instance", "x")]);
            all.insert(own, Columns { histograms, ..Columns::default() });
        }
        let mixed = Columns {
            times: vec![0, 60_000, 90_000].into(),
            values: vec![1.0, 2.0, 3.0],
            starts: Vec::new(),
            histograms: (10..20).map(|at| histogram(at, false)).collect(),
        };
        all.insert(labels(&[("__name__", "m"), ("job", "a")]), mixed);
        let info = Columns { times: vec![0, 3_000_000].into(), values: vec![1.0, 1.0], ..Columns::default() };
        all.insert(labels(&[("__name__", "target_info"), ("job", "a"), ("instance", "x"), ("data", "d")]), info);
        all
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((way, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let budget = QueryBudget::new(Duration::from_secs(1), 64 << 20, 1_000_000);
    let times = match way % 4 {
        0 => (1_800_000, 1_800_000, 0),
        1 => (0, 3_600_000, 60_000),
        2 => (-600_000, 600_000, 7_000),
        _ => (i64::MAX - 1_000_000, i64::MAX, 100_000),
    };
    let answer = match times {
        (time, _, 0) => promql::instant(store(), text, time, Params::default(), &budget),
        times => promql::range(store(), text, times, Params::default(), &budget),
    };
    if let Err(error) = answer {
        let _ = error.to_string();
    }
});

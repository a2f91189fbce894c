//! A TraceQL query over a few traces, within a budget: it ends with an answer or an error. The first
//! byte says over which times.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use trilith::base::limits::QueryBudget;
use trilith::model::time::RangeNs;
use trilith::query::traceql::metric::{Grid, metric};
use trilith::query::traceql::search::{SearchRequest, search};
use trilith::query::traceql::{self, QueryError, tags};
use trilith::wire::limits::DEFAULT;
use trilith::wire::otlp::{Format, decode_traces};

#[path = "../../it/vec_traces.rs"]
mod vec_traces;

use vec_traces::VecTraces;

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[
{"traceId":"0000000000000000000000000000000a","spanId":"0000000000000001","name":"GET /","kind":2,"startTimeUnixNano":"1000000000","endTimeUnixNano":"3000000000","status":{"code":2,"message":"boom"},
 "attributes":[{"key":"http.status_code","value":{"intValue":"500"}},{"key":"ratio","value":{"doubleValue":0.5}},{"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}}],
 "events":[{"timeUnixNano":"1500000000","name":"exception","attributes":[{"key":"exception.message","value":{"stringValue":"no"}}]}]},
{"traceId":"0000000000000000000000000000000a","spanId":"0000000000000002","parentSpanId":"0000000000000001","name":"pay","kind":3,"startTimeUnixNano":"1100000000","endTimeUnixNano":"1200000000",
 "attributes":[{"key":"flag","value":{"boolValue":true}}],"links":[{"traceId":"0000000000000000000000000000000b","spanId":"0000000000000009"}]},
{"traceId":"0000000000000000000000000000000a","spanId":"0000000000000003","parentSpanId":"0000000000000002","name":"db","kind":1,"startTimeUnixNano":"1110000000","endTimeUnixNano":"1190000000"},
{"traceId":"0000000000000000000000000000000b","spanId":"0000000000000009","name":"job","kind":5,"startTimeUnixNano":"2000000000","endTimeUnixNano":"2000000000"}]}]}]}"#;

fn store() -> &'static VecTraces {
    static STORE: OnceLock<VecTraces> = OnceLock::new();
    STORE.get_or_init(|| {
        let decoded = decode_traces(TRACES.as_bytes(), Format::Json, &DEFAULT).expect("traces");
        assert_eq!(decoded.batch.spans.len(), 4);
        VecTraces(decoded.batch.spans.chunks(2).map(<[_]>::to_vec).collect())
    })
}

/// What an editor asks for while the query is typed.
fn complete(text: &str, budget: &QueryBudget) -> Result<(), QueryError> {
    let Some(filter) = tags::filter_of(text, budget) else { return Ok(()) };
    let range = RangeNs { start: 0, end: 4_000_000_000 };
    tags::names(store(), range, Some(filter.clone()), budget)?;
    tags::values(store(), &tags::tag_field(text), range, Some(filter), 10, budget).map(drop)
}

fn answer(way: u8, text: &str, budget: &QueryBudget) -> Result<(), QueryError> {
    let query = traceql::parse_within(text, budget)?;
    if query.metric.is_some() {
        let grid = match way % 3 {
            0 => Grid::instant(0, 4_000_000_000),
            1 => Grid::range(0, 4_000_000_000, 500_000_000),
            _ => Grid::range(i64::MAX - 4_000_000_000, i64::MAX - 1, 1_000_000_000),
        };
        return metric(store(), &query, grid?, 2, budget).map(drop);
    }
    let range = (way % 2 == 0).then_some((0, 4_000_000_000));
    let request = SearchRequest { query, range, duration: (None, None), limit: 20, spans_per_set: 3 };
    search(store(), &request, budget).map(drop)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((way, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let budget = || QueryBudget::new(Duration::from_secs(2), 64 << 20, 1_000_000);
    for answered in [complete(text, &budget()), answer(*way, text, &budget())] {
        if let Err(error) = answered {
            assert!(!error.to_string().is_empty());
        }
    }
});

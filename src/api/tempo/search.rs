//! Search: by TraceQL, or by tags and durations as it was before.

use axum::extract::{Request, State};

use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::Written;
use crate::api::traces::params::Params;
use crate::api::traces::run::run_asked;
use crate::base::limits::QueryBudget;
use crate::query::traceql::QueryError;
use crate::query::traceql::legacy::query_of_tags;
use crate::query::traceql::parse_within;
use crate::query::traceql::search::{FoundSet, FoundTrace, SearchRequest, SearchResult, search as find};
use crate::wire::tempo::{
    FoundSpan, SearchMetrics, SearchResponse, ServiceStats, SpanSet, TraceSearchMetadata, key_values,
};

/// Traces in an answer when none are asked for.
pub(super) const LIMIT: u64 = 20;
/// Most traces in an answer, whatever is asked for.
const LIMIT_MAX: u64 = 10_000;
/// Most traces that can be asked for: Tempo's bound.
const ASKED_MAX: usize = 256 << 10;
/// Spans of a span set when none are asked for.
pub(super) const SPANS_PER_SET: u64 = 3;
/// Most spans of a span set in an answer.
const SPANS_PER_SET_MAX: u64 = 100;
/// Service of a trace whose root did not come, in Tempo's words.
const NO_ROOT: &str = "<root span not yet received>";

/// `GET, POST /api/search`
pub(super) async fn search(State(context): State<Context>, request: Request) -> Result<Written, TraceError> {
    let params = Params::read(request).await?;
    answer(&context, move |budget| request_of(&params, budget), |answer, budget| Written::of(&answer, budget)).await
}

/// Runs a search that `asked` reads within the budget of the query. Its answer is written where the query runs: it
/// may be large.
pub(super) async fn answer<T, A, F>(context: &Context, asked: A, write: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    A: FnOnce(&QueryBudget) -> Result<SearchRequest, TraceError> + Send + 'static,
    F: FnOnce(SearchResponse, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    run_asked(context, move |context, budget| {
        let request = asked(budget)?;
        let result = find(&*context.traces, &request, budget)?;
        // What was found and its answer stand side by side.
        budget.charge(result.bytes.saturating_mul(2)).map_err(QueryError::from)?;
        Ok(write(response(&result), budget)?)
    })
    .await
}

fn request_of(params: &Params, budget: &QueryBudget) -> Result<SearchRequest, TraceError> {
    let query = match (params.get("q"), params.get("tags")) {
        (Some(_), Some(_)) => return Err(TraceError::Bad("q and tags exclude each other".to_owned())),
        (None, Some(tags)) => query_of_tags(&logfmt(tags)?)?,
        (query, None) => parse_within(query.unwrap_or_default(), budget)?,
    };
    let duration = (params.duration_ns("minDuration")?, params.duration_ns("maxDuration")?);
    checked(SearchRequest {
        query,
        range: params.range()?,
        duration,
        limit: size(params.number("limit")?.unwrap_or(LIMIT)),
        spans_per_set: size(params.number("spss")?.unwrap_or(SPANS_PER_SET)),
    })
}

/// A request within its limits.
pub(super) fn checked(mut request: SearchRequest) -> Result<SearchRequest, TraceError> {
    if let (Some(least), Some(most)) = request.duration
        && least > most
    {
        return Err(TraceError::Bad("minDuration is over maxDuration".to_owned()));
    }
    if request.limit == 0 {
        return Err(TraceError::Bad("invalid limit: must be above 0".to_owned()));
    }
    if !(1..=size(SPANS_PER_SET_MAX)).contains(&request.spans_per_set) {
        return Err(TraceError::Bad(format!("invalid spss: must be between 1 and {SPANS_PER_SET_MAX}")));
    }
    if request.limit > ASKED_MAX {
        return Err(TraceError::Bad(format!(
            "limit {} exceeds max limit {ASKED_MAX}: ask for fewer traces",
            request.limit
        )));
    }
    request.limit = request.limit.min(size(LIMIT_MAX));
    Ok(request)
}

pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `a=b c="d e"`: pairs in logfmt.
fn logfmt(text: &str) -> Result<Vec<(String, String)>, TraceError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, tail)) = rest.split_once('=') else { return Err(broken_tags()) };
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or_else(broken_tags)?,
            None => {
                let (value, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
                (value.to_owned(), tail)
            }
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(broken_tags());
        }
        pairs.push((name.to_owned(), value));
        rest = tail.trim_start();
    }
    if pairs.len() > 100 {
        return Err(TraceError::Bad("invalid tags: more than 100".to_owned()));
    }
    Ok(pairs)
}

fn broken_tags() -> TraceError {
    TraceError::Bad("invalid tags: expected logfmt, as in service.name=shop http.status_code=500".to_owned())
}

/// The text up to the closing quote, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

fn response(result: &SearchResult) -> SearchResponse {
    SearchResponse {
        traces: result.traces.iter().map(trace).collect(),
        metrics: Some(SearchMetrics {
            inspected_traces: u32::try_from(result.inspected_traces).unwrap_or(u32::MAX),
            total_blocks: u32::try_from(result.blocks).unwrap_or(u32::MAX),
            completed_jobs: 1,
            total_jobs: 1,
            inspected_spans: result.inspected_spans,
        }),
    }
}

fn trace(found: &FoundTrace) -> TraceSearchMetadata {
    let (service, name) = found.root.clone().unwrap_or_else(|| (NO_ROOT.to_owned(), String::new()));
    let span_sets: Vec<_> = found.sets.iter().map(span_set).collect();
    let stats = |(spans, errors): &(u32, u32)| ServiceStats { span_count: *spans, error_count: *errors };
    TraceSearchMetadata {
        trace_id: found.id.to_string(),
        root_service_name: service,
        root_trace_name: name,
        start_time_unix_nano: found.start.cast_unsigned(),
        duration_ms: u32::try_from(found.duration_ns / 1_000_000).unwrap_or(u32::MAX),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: found.services.iter().map(|(service, counts)| (service.clone(), stats(counts))).collect(),
    }
}

fn span_set(set: &FoundSet) -> SpanSet {
    let spans = set.spans.iter().map(|span| FoundSpan {
        span_id: span.id.to_string(),
        name: span.name.clone(),
        start_time_unix_nano: span.start.cast_unsigned(),
        duration_nanos: span.duration_ns.cast_unsigned(),
        attributes: key_values(&span.attributes),
    });
    SpanSet {
        spans: spans.collect(),
        matched: u32::try_from(set.matched).unwrap_or(u32::MAX),
        attributes: key_values(&set.attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_logfmt() {
        let pairs = logfmt(r#"service.name=shop name="GET \"/\"" x=1"#).unwrap();
        let texts: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(texts, ["service.name:shop", "name:GET \"/\"", "x:1"]);
        assert!(logfmt("a").is_err());
        assert!(logfmt("a=\"b").is_err());
        assert!(logfmt("=b").is_err());
    }
}

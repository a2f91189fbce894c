//! Services, their operations, and who calls whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::json;

use super::error::{Failure, envelope};
use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::params::Params;
use crate::api::traces::run::run;
use crate::base::limits::QueryBudget;
use crate::model::span::{SpanId, SpanKind, TraceId};
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::query::traceql::QueryError;
use crate::store::{ServiceOperations, WantedAttrs};

/// Memory that a remembered span takes, in bytes.
const SPAN_BYTES: usize = 128;

/// Services and operations from the index.
pub(super) async fn index(context: &Context) -> Result<Vec<ServiceOperations>, TraceError> {
    run(context, |context, budget| Ok(context.traces.services(budget)?)).await
}

/// `GET /api/services`: Grafana asks at every opening of Explore, so it reads the index alone.
pub(super) async fn list(State(context): State<Context>) -> Result<Response, Failure> {
    let names: Vec<_> = index(&context).await?.into_iter().map(|(name, _)| name).collect();
    let total = names.len();
    Ok(envelope(names, total))
}

/// `GET /api/services/{service}/operations`: a service may hold slashes, escaped or not.
pub(super) async fn operation_names(
    State(context): State<Context>,
    Path(path): Path<String>,
) -> Result<Response, Failure> {
    let Some(service) = path.strip_suffix("/operations") else {
        return Err(TraceError::NotFound("page not found".to_owned()).into());
    };
    let mut names: Vec<_> = of_service(&context, service).await?.into_iter().map(|(name, _)| name).collect();
    names.dedup();
    let total = names.len();
    Ok(envelope(names, total))
}

/// `GET /api/operations?service=&spanKind=`
pub(super) async fn operations(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let params = Params::read(request).await?;
    let Some(service) = params.get("service") else {
        return Err(TraceError::Bad("parameter 'service' is required".to_owned()).into());
    };
    let kind = params.get("spanKind");
    let mut operations = of_service(&context, service).await?;
    operations.retain(|(_, own)| kind.is_none_or(|kind| own.name() == kind));
    let data: Vec<_> =
        operations.iter().map(|(name, kind)| json!({ "name": name, "spanKind": shown_kind(*kind) })).collect();
    let total = data.len();
    Ok(envelope(data, total))
}

/// A kind as Jaeger names it: none is empty.
pub(super) fn shown_kind(kind: SpanKind) -> &'static str {
    if kind == SpanKind::Unspecified { "" } else { kind.name() }
}

/// Operations of one service by name.
pub(super) async fn of_service(context: &Context, service: &str) -> Result<Vec<(String, SpanKind)>, TraceError> {
    let services = index(context).await?;
    let found = services.into_iter().find(|(name, _)| name == service);
    let mut operations = found.map(|(_, operations)| operations).unwrap_or_default();
    operations.sort_by(|a, b| (&a.0, a.1.number()).cmp(&(&b.0, b.1.number())));
    Ok(operations)
}

/// `GET /api/dependencies?endTs=&lookback=`, both in milliseconds.
pub(super) async fn dependencies(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let params = Params::read(request).await?;
    let Some(end) = params.number("endTs")?.and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1_000_000)) else {
        return Err(TraceError::Bad("unable to parse param 'endTs': expected milliseconds".to_owned()).into());
    };
    let day_ms = 86_400_000;
    let lookback = params.number("lookback")?.unwrap_or(day_ms);
    let lookback = i64::try_from(lookback).ok().and_then(|ms| ms.checked_mul(1_000_000)).unwrap_or(i64::MAX);
    let range = RangeNs { start: end.saturating_sub(lookback), end: end.saturating_add(1) };
    let calls = run(&context, move |context, budget| calls(context, range, budget)).await?;
    let data: Vec<_> = calls
        .into_iter()
        .map(|((parent, child), count)| json!({ "parent": parent, "child": child, "callCount": count }))
        .collect();
    let total = data.len();
    Ok(envelope(data, total))
}

type Calls = BTreeMap<(String, String), u64>;

/// Spans whose parent belongs to another service, by both services.
fn calls(context: &Context, range: RangeNs, budget: &QueryBudget) -> Result<Calls, QueryError> {
    let mut names: Vec<String> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut services: HashMap<(TraceId, SpanId), usize> = HashMap::new();
    let mut children: Vec<(TraceId, SpanId, usize)> = Vec::new();
    let pace = Pace::new(budget);
    for block in context.traces.blocks(range, &[], budget)? {
        let spans = block.read(&WantedAttrs::Named(BTreeSet::new()), budget)?;
        budget.touch(spans.len())?;
        budget.charge(spans.len().saturating_mul(SPAN_BYTES))?;
        for span in &spans {
            pace.go(64)?;
            let service = span.resource.service_name();
            let number = match numbers.get(service) {
                Some(number) => *number,
                None => {
                    budget.charge(2 * service.len() + SPAN_BYTES)?;
                    names.push(service.to_owned());
                    numbers.insert(service.to_owned(), names.len() - 1);
                    names.len() - 1
                }
            };
            services.insert((span.trace_id, span.span_id), number);
            if !span.parent_id.is_none() && range.contains(span.start) {
                children.push((span.trace_id, span.parent_id, number));
            }
        }
    }
    let mut calls = Calls::new();
    for (trace, parent, child) in children {
        pace.go(128)?;
        if let Some(parent) = services.get(&(trace, parent)).filter(|parent| **parent != child)
            && let (Some(parent), Some(child)) = (names.get(*parent), names.get(child))
        {
            *calls.entry((parent.clone(), child.clone())).or_default() += 1;
        }
    }
    Ok(calls)
}

//! Names and values of tags, for the query editor. A `q` that is broken or more than a filter is
//! what an editor sends while somebody types: it filters nothing, and is never an error.

use axum::extract::{Path, Request, State};

use super::search::size;
use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::Json;
use crate::api::traces::params::Params;
use crate::api::traces::run::run;
use crate::base::limits::LimitError;
use crate::model::span::AttrValue;
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::query::traceql::ast::{Field, Intrinsic};
use crate::query::traceql::tags::{self, SCOPES, filter_of, scope_of, tag_field};
use crate::wire::tempo::{
    MetadataMetrics, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsResponse, SearchTagsV2Response,
    SearchTagsV2Scope, TagValue,
};

/// Most names or values in an answer.
const LIMIT_MAX: u64 = 20_000;

/// Memory of a name or a value in an answer beside its text, in bytes.
const NAME_BYTES: usize = 64;

/// Intrinsics that an editor offers.
const INTRINSICS: &[&str] = &[
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "nestedSetLeft",
    "nestedSetParent",
    "nestedSetRight",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// What is asked of the tags.
#[derive(Default)]
pub(super) struct Asked {
    /// Only this scope; empty and `none` are all.
    pub(super) scope: String,
    /// TraceQL that spans satisfy; may be broken.
    pub(super) query: String,
    /// Times in nanoseconds.
    pub(super) range: Option<(i64, i64)>,
    /// Most names or values; 0 is no limit.
    pub(super) limit: u64,
}

impl Asked {
    fn of(params: &Params) -> Result<Self, TraceError> {
        Ok(Self {
            scope: params.get("scope").unwrap_or_default().to_owned(),
            query: params.get("q").unwrap_or_default().to_owned(),
            range: params.range()?,
            limit: params.number("limit")?.unwrap_or_default(),
        })
    }

    fn range_ns(&self) -> RangeNs {
        self.range.map_or(RangeNs::ALL, |(start, end)| RangeNs { start, end: end.saturating_add(1) })
    }

    fn limit(&self) -> usize {
        size(if self.limit == 0 { LIMIT_MAX } else { self.limit.min(LIMIT_MAX) })
    }
}

/// `GET /api/search/tags`
pub(super) async fn names_v1(
    State(context): State<Context>,
    request: Request,
) -> Result<Json<SearchTagsResponse>, TraceError> {
    let asked = Asked::of(&Params::read(request).await?)?;
    Ok(Json(names_v1_answer(&context, asked).await?))
}

/// `GET /api/v2/search/tags`
pub(super) async fn names_v2(
    State(context): State<Context>,
    request: Request,
) -> Result<Json<SearchTagsV2Response>, TraceError> {
    let asked = Asked::of(&Params::read(request).await?)?;
    Ok(Json(names_v2_answer(&context, asked).await?))
}

/// `GET /api/search/tag/{tag}/values`
pub(super) async fn values_v1(
    State(context): State<Context>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Json<SearchTagValuesResponse>, TraceError> {
    let asked = Asked::of(&Params::read(request).await?)?;
    Ok(Json(values_v1_answer(&context, tag_of(&path)?, asked).await?))
}

/// `GET /api/v2/search/tag/{tag}/values`
pub(super) async fn values_v2(
    State(context): State<Context>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Json<SearchTagValuesV2Response>, TraceError> {
    let asked = Asked::of(&Params::read(request).await?)?;
    Ok(Json(values_v2_answer(&context, tag_of(&path)?, asked).await?))
}

/// The tag in a path that ends in `/values`; a tag may hold slashes itself.
fn tag_of(path: &str) -> Result<&str, TraceError> {
    match path.strip_suffix("/values") {
        Some(tag) if !tag.is_empty() => Ok(tag),
        _ => Err(TraceError::NotFound("page not found".to_owned())),
    }
}

/// Names of tags without scopes. Intrinsics come only when asked for.
pub(super) async fn names_v1_answer(context: &Context, asked: Asked) -> Result<SearchTagsResponse, TraceError> {
    let intrinsic = asked.scope == "intrinsic";
    let limit = asked.limit();
    let scopes = scopes(context, asked).await?;
    let wanted = scopes.into_iter().filter(|scope| intrinsic || scope.name != "intrinsic");
    let mut tag_names: Vec<_> = wanted.flat_map(|scope| scope.tags).collect();
    tag_names.sort();
    tag_names.dedup();
    tag_names.truncate(limit);
    Ok(SearchTagsResponse { tag_names, metrics: Some(MetadataMetrics {}) })
}

/// Names of tags by scope. A limit is shared evenly, so that no scope vanishes.
pub(super) async fn names_v2_answer(context: &Context, asked: Asked) -> Result<SearchTagsV2Response, TraceError> {
    let limit = asked.limit();
    let mut scopes = scopes(context, asked).await?;
    let sizes: Vec<_> = scopes.iter().map(|scope| scope.tags.len()).collect();
    for (scope, share) in scopes.iter_mut().zip(shares(&sizes, limit)) {
        scope.tags.truncate(share);
    }
    scopes.retain(|scope| !scope.tags.is_empty());
    Ok(SearchTagsV2Response { scopes, metrics: Some(MetadataMetrics {}) })
}

/// How much of each list is shown so that all together are at most `limit`.
fn shares(sizes: &[usize], limit: usize) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    let mut left = limit;
    loop {
        let before = left;
        for (share, size) in shares.iter_mut().zip(sizes) {
            if left > 0 && *share < *size {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            return shares;
        }
    }
}

async fn scopes(context: &Context, asked: Asked) -> Result<Vec<SearchTagsV2Scope>, TraceError> {
    let scope = match asked.scope.as_str() {
        "" | "none" => None,
        "intrinsic" => return Ok(vec![intrinsics()]),
        name => match scope_of(name) {
            Some(scope) => Some(scope),
            None => {
                return Err(TraceError::Bad(format!("invalid scope: {}", name.chars().take(100).collect::<String>())));
            }
        },
    };
    // The answer is made where the query runs: there may be any number of names.
    let mut scopes = run(context, move |context, budget| {
        let found = tags::names(&*context.traces, asked.range_ns(), filter_of(&asked.query, budget), budget)?;
        budget.charge(found.iter().map(|(_, tag)| tag.len() + NAME_BYTES).sum())?;
        let mut scopes = Vec::new();
        for (name, own) in SCOPES {
            budget.check()?;
            if scope.is_none_or(|scope| scope == *own) {
                let tags = found.iter().filter(|(scope, _)| scope == own).map(|(_, tag)| tag.clone()).collect();
                scopes.push(SearchTagsV2Scope { name: (*name).to_owned(), tags });
            }
        }
        Ok(scopes)
    })
    .await?;
    if scope.is_none() {
        scopes.push(intrinsics());
    }
    Ok(scopes)
}

fn intrinsics() -> SearchTagsV2Scope {
    let tags = INTRINSICS.iter().map(|name| (*name).to_owned()).collect();
    SearchTagsV2Scope { name: "intrinsic".to_owned(), tags }
}

/// Values of a tag as text.
pub(super) async fn values_v1_answer(
    context: &Context,
    tag: &str,
    asked: Asked,
) -> Result<SearchTagValuesResponse, TraceError> {
    let typed = values_v2_answer(context, tag, asked).await?;
    let tag_values = typed.tag_values.into_iter().map(|value| value.value).collect();
    Ok(SearchTagValuesResponse { tag_values, metrics: Some(MetadataMetrics {}) })
}

/// Values of a tag with their types.
pub(super) async fn values_v2_answer(
    context: &Context,
    tag: &str,
    asked: Asked,
) -> Result<SearchTagValuesV2Response, TraceError> {
    let field = tag_field(tag);
    let keyword = is_keyword(&field);
    let tag_values = run(context, move |context, budget| {
        let (filter, limit) = (filter_of(&asked.query, budget), asked.limit());
        let found = tags::values(&*context.traces, &field, asked.range_ns(), filter, limit, budget)?;
        Ok(typed_values(&found, keyword, limit, &Pace::new(budget))?)
    })
    .await?;
    Ok(SearchTagValuesV2Response { tag_values, metrics: Some(MetadataMetrics {}) })
}

/// Values as the editor quotes them, sorted, at most `limit`. A value that is a list may hold any number.
fn typed_values(
    found: &[AttrValue],
    keyword: bool,
    limit: usize,
    pace: &Pace<'_>,
) -> Result<Vec<TagValue>, LimitError> {
    let mut values: Vec<TagValue> = Vec::new();
    let mut distinct = 0;
    for value in found {
        pace.go(64 + value.bytes())?;
        pace.budget().charge(value.bytes() + NAME_BYTES)?;
        typed(value, keyword, &mut values);
        if values.len() > 2 * (distinct + limit) {
            in_order(&mut values);
            distinct = values.len();
        }
        if distinct >= limit {
            break;
        }
    }
    in_order(&mut values);
    values.truncate(limit);
    Ok(values)
}

fn in_order(values: &mut Vec<TagValue>) {
    values.sort_by(|a, b| (&a.r#type, &a.value).cmp(&(&b.r#type, &b.value)));
    values.dedup();
}

fn is_keyword(field: &Field) -> bool {
    matches!(field.intrinsic(), Some(Intrinsic::Status | Intrinsic::Kind))
}

/// A value as the editor quotes it; of a list its elements.
fn typed(value: &AttrValue, keyword: bool, out: &mut Vec<TagValue>) {
    let (r#type, value) = match value {
        AttrValue::Str(text) if keyword => ("keyword", text.clone()),
        AttrValue::Str(text) => ("string", text.clone()),
        AttrValue::Int(int) => ("int", int.to_string()),
        // With a fraction, for `7` would be an integer.
        AttrValue::Double(float) => ("float", format!("{float:?}")),
        AttrValue::Bool(bool) => ("bool", bool.to_string()),
        AttrValue::Array(list) => return list.iter().for_each(|value| typed(value, keyword, out)),
        AttrValue::Empty | AttrValue::Bytes(_) | AttrValue::Map(_) => return,
    };
    out.push(TagValue { r#type: r#type.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;

    #[test]
    fn a_limit_is_shared_so_that_no_scope_vanishes() {
        assert_eq!(shares(&[100, 2, 0, 5], 10), [4, 2, 0, 4]);
        assert_eq!(shares(&[1, 2], 10), [1, 2]);
    }

    #[test]
    fn lists_of_any_length_give_no_more_values_than_asked_for() {
        let budget = QueryBudget::unlimited();
        let pace = Pace::new(&budget);
        let list = |from: i64| AttrValue::Array((from..from + 1_000).map(AttrValue::Int).collect());
        let found: Vec<AttrValue> = (0..100).map(|at| list(at * 10)).collect();
        assert_eq!(typed_values(&found, false, 50, &pace).unwrap().len(), 50);
        assert_eq!(typed_values(&found, false, 20_000, &pace).unwrap().len(), 1_990);
        budget.cancel();
        assert!(typed_values(&found, false, 20_000, &pace).is_err());
    }

    #[test]
    fn a_tag_may_hold_slashes() {
        assert_eq!(tag_of("span.a/b/values").unwrap(), "span.a/b");
        assert!(tag_of("span.a").is_err());
        assert!(tag_of("/values").is_err());
    }
}

//! `detected_labels`, `detected_fields` and values of a field, as Logs Drilldown asks for them.

use axum::extract::{Path, State};
use axum::response::Response;

use super::answer::answer;
use super::error::ApiError;
use super::json;
use super::params::{LINES_MAX, Params};
use crate::api::context::Context;
use crate::base::limits::QueryBudget;
use crate::query::logql::detect::{detected_field_values, detected_fields, detected_labels};
use crate::query::logql::{Direction, Expr, LogExpr, LogQuery, parse_selector, parse_within};

/// Lines looked at when nothing else is asked.
const LINES_DEFAULT: usize = 1_000;
/// Fields or values in an answer when nothing else is asked.
const FIELDS_DEFAULT: usize = 1_000;

/// Labels and how many values they have; `query` may be empty.
pub(super) async fn labels(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let matchers = parse_selector(params.query(), budget)?;
        let labels = detected_labels(context.logs.as_ref(), &matchers, range, budget)?;
        let mut body = String::from("{\"detectedLabels\":[");
        for (at, label) in labels.iter().enumerate() {
            body.push_str(if at > 0 { ",{\"label\":" } else { "{\"label\":" });
            json::string(&mut body, &label.label);
            body.push_str(&format!(",\"cardinality\":{}}}", label.cardinality));
        }
        body.push_str("]}");
        Ok(body)
    })
    .await
}

fn sample(context: &Context, params: &Params, budget: &QueryBudget) -> Result<(LogExpr, LogQuery), ApiError> {
    let now_ns = context.clock.now_ns();
    let Expr::Log(expr) = parse_within(params.query(), budget)? else {
        return Err(ApiError::bad_data("only log selector is supported"));
    };
    let limit = params.count("line_limit", LINES_DEFAULT, LINES_MAX);
    let query = LogQuery { range: params.range(now_ns)?, limit, direction: Direction::Backward, now_ns };
    Ok((expr, query))
}

/// Fields of a sample of lines.
pub(super) async fn fields(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let (expr, query) = sample(context, &params, budget)?;
        let limit = params.count("limit", FIELDS_DEFAULT, LINES_MAX);
        let mut fields = detected_fields(context.logs.as_ref(), &expr, query, budget)?;
        fields.truncate(limit);
        let mut body = String::from("{\"fields\":[");
        for (at, field) in fields.iter().enumerate() {
            body.push_str(if at > 0 { ",{\"label\":" } else { "{\"label\":" });
            json::string(&mut body, &field.label);
            body.push_str(&format!(",\"type\":\"{}\",\"cardinality\":{}", field.kind.name(), field.cardinality));
            body.push_str(",\"parsers\":");
            if field.parsers.is_empty() {
                body.push_str("null");
            } else {
                json::strings(&mut body, &field.parsers);
            }
            if !field.json_path.is_empty() {
                body.push_str(",\"jsonPath\":");
                json::strings(&mut body, &field.json_path);
            }
            body.push('}');
        }
        body.push_str(&format!("],\"limit\":{limit}}}"));
        Ok(body)
    })
    .await
}

/// Values of one field in a sample of lines.
pub(super) async fn values(State(context): State<Context>, Path(name): Path<String>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let (expr, query) = sample(context, &params, budget)?;
        let limit = params.count("limit", FIELDS_DEFAULT, LINES_MAX);
        let mut values = detected_field_values(context.logs.as_ref(), &name, &expr, query, budget)?;
        values.truncate(limit);
        let mut body = String::from("{\"values\":");
        json::strings(&mut body, &values);
        body.push_str(&format!(",\"limit\":{limit}}}"));
        Ok(body)
    })
    .await
}

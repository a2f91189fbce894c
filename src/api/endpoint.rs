//! A row of a dialect's table of endpoints, and the router of such a table.

use axum::Router;
use axum::routing::MethodRouter;

use super::context::Context;

/// One row of a dialect's table of endpoints.
pub struct Endpoint {
    /// Methods it answers, for the documentation: `GET`, `GET, POST`.
    pub methods: &'static str,
    /// Path below the dialect's base, in axum's syntax.
    pub path: &'static str,
    /// What it answers, in one line.
    pub summary: &'static str,
    /// Its handlers.
    pub route: fn() -> MethodRouter<Context>,
}

impl Endpoint {
    /// A row in one line.
    pub(super) const fn new(
        methods: &'static str,
        path: &'static str,
        summary: &'static str,
        route: fn() -> MethodRouter<Context>,
    ) -> Self {
        Self { methods, path, summary, route }
    }
}

/// A router of a table's endpoints, with paths below `base` (empty, or `/tempo` and the like).
pub fn routes(base: &str, endpoints: &[Endpoint]) -> Router<Context> {
    endpoints
        .iter()
        .fold(Router::new(), |router, endpoint| router.route(&format!("{base}{}", endpoint.path), (endpoint.route)()))
}
